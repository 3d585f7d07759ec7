"""The ONNX file: operator sets, substitutions, canonical form, weights beyond 2 GB."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import helper
from scipy import special

import export
import keras_gan
import serving
from export import convert, substitutions, to_onnx
from export.canonical import canonicalize, restore_ranks
from export.network import open_network
from export.to_onnx import open_session
from export.verify import check_files, compare_onnx
from keras_gan import UsageError
from serving.manifest import digest

L = keras.layers
ROOT = pathlib.Path(__file__).parents[1]
LATENTS = 6
FLOAT = onnx.TensorProto.FLOAT


def dcgan():
    spec = keras_gan.Spec("image", (8, 8, 1), (-1.0, 1.0))
    build = keras_gan.architectures.build_network
    return build("generator", "dcgan", spec, latent_dim=LATENTS, widths=[4, 4, 4])


def small():
    """Without batch statistics, which an export would write twice."""
    layers = [L.Dense(64), L.Reshape((4, 4, 4)), L.Conv2DTranspose(3, 4, 2, "same"), L.ReLU()]
    layers += [L.Conv2D(1, 3, padding="same", activation="tanh")]
    return keras.Sequential([keras.Input((LATENTS,)), *layers], name="small")


def points():
    return keras.Sequential([keras.Input((LATENTS,)), L.Dense(50), L.Dense(2)], name="points")


def in_pictures(*layers):
    start = [keras.Input((LATENTS,)), L.Dense(64), L.Reshape((4, 4, 4))]
    return keras.Sequential([*start, *layers, L.Conv2D(1, 3, padding="same")])


# ------------------------------------------------------------------------------ operator sets


def test_every_operator_set_loads_and_agrees():
    network = open_network(dcgan())
    latents = np.random.default_rng(0).normal(size=(5, LATENTS)).astype("float32")
    expected = network(latents).numpy()
    for opset in convert.OPSETS:
        model = to_onnx.to_onnx(network, opset)
        assert [(x.domain, x.version) for x in model.opset_import] == [("", opset)]
        assert model.ir_version == 8
        (samples,) = open_session(model.SerializeToString()).run(None, {"latents": latents})
        np.testing.assert_allclose(samples, expected, atol=2e-6)
    assert list(convert.OPSETS) == [13, 14, 15, 16, 17, 18]


# ------------------------------------------------------------------------------ substitutions


class Nodes(list):
    """Nodes of a graph, see `export.substitutions.Writer`."""

    def __init__(self):
        super().__init__()
        self.constants = []

    def __call__(self, op_type, *operands, **attributes):
        inputs = [x if isinstance(x, str) else self.constant(x) for x in operands]
        self.append(helper.make_node(op_type, inputs, [f"v{len(self)}"], **attributes))
        return self[-1].output[0]

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return name


def run_nodes(substitute, x, out_type, *arguments):
    """Runs a substitution in onnxruntime."""
    nodes = Nodes()
    result = substitute(nodes, "x", *arguments)
    given = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        nodes,
        "nodes",
        [helper.make_tensor_value_info("x", given, [None] * x.ndim)],
        [helper.make_tensor_value_info(result, out_type, None)],
        nodes.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return open_session(model.SerializeToString()).run(None, {"x": x})[0]


def test_erfc_as_one_minus_erf():
    x = np.linspace(-6, 6, 241).astype("float32")
    got = run_nodes(substitutions.erfc, x, FLOAT, FLOAT)
    np.testing.assert_allclose(got, special.erfc(x.astype("float64")), atol=3e-7)
    gelu = x / 2 * run_nodes(substitutions.erfc, -x / np.float32(np.sqrt(2)), FLOAT, FLOAT)
    exact = x.astype("float64") * special.ndtr(x.astype("float64"))
    np.testing.assert_allclose(gelu, exact, atol=1e-6)


def test_the_sign_bit_without_bits():
    x = np.array([-np.inf, -3, -1e-30, -0.0, 0.0, 1e-30, 0.5, 7, np.inf], "float32")
    got = run_nodes(substitutions.sign_bit, x, onnx.TensorProto.INT32)
    np.testing.assert_array_equal(got, x.view("int32") & substitutions.SIGN)


def test_output_padding_instead_of_negative_pads():
    """Pads of -1 in sum add one row of zeros at the end; sums from 0 up stay as they are."""
    node = helper.make_node(
        "ConvTranspose", ["x", "w"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, -1, 0]
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("y", FLOAT, [1, 1, 6, 4])],
        [onnx.numpy_helper.from_array(np.arange(9, dtype="float32").reshape(1, 1, 3, 3), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    substitutions.output_padding(model)
    attributes = {a.name: list(a.ints) for a in model.graph.node[0].attribute}
    assert attributes["pads"] == [0, 1, 0, 0]
    assert attributes["output_padding"] == [1, 0]
    x = np.array([[1, 0], [0, 0]], "float32").reshape(1, 1, 2, 2)
    (y,) = open_session(model.SerializeToString()).run(None, {"x": x})
    expected = np.zeros((6, 4))
    expected[:3, :2] = [[1, 2], [4, 5], [7, 8]]  # the kernel without the cropped column
    np.testing.assert_array_equal(y[0, 0], expected)


# --------------------------------------------------------------------------- what is refused


class Fourier(L.Layer):
    def call(self, x):
        return tf.math.real(tf.signal.fft2d(tf.cast(x, tf.complex64)))


class Bits(L.Layer):
    def call(self, x):
        return tf.bitcast(tf.bitcast(x, tf.int32) + 1, tf.float32)


class Bfloat16(L.Layer):
    def call(self, x):
        return tf.cast(tf.cast(x, tf.bfloat16), tf.float32)


class Noise(L.Layer):
    def call(self, x):
        return x + keras.random.normal(tf.shape(x), seed=3)


@pytest.mark.parametrize(
    ("layer", "op", "instead"),
    [
        (Fourier, "FFT2D", "write that layer with other operations of keras.ops"),
        (Bits, "Bitcast", "write that layer with other operations of keras.ops"),
        (Bfloat16, "Cast", "cast to the layer's compute_dtype"),
        (Noise, "Stateless", "take the noise as an input of the model"),
    ],
)
def test_an_op_that_onnx_lacks_is_named_by_its_path(layer, op, instead):
    block = keras.Sequential([L.Conv2D(4, 1, name="first"), layer(name="culprit")], name="block")
    network = open_network(in_pictures(block, L.Conv2D(4, 1, name="culprit_2")))
    with pytest.raises(UsageError) as caught:
        to_onnx.to_onnx(network)
    assert f"in layer 'block/culprit' ({layer.__name__})" in str(caught.value)
    assert op in str(caught.value)
    assert instead in str(caught.value)
    assert "\n" not in str(caught.value)


# -------------------------------------------------------------------------- canonical form


def recurrent():
    """A loop with a body, which tf2onnx names and orders arbitrarily."""
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((LATENTS,)),
        L.Dense(32),
        L.Reshape((8, 4)),
        L.GRU(5, return_sequences=True),
        L.Dense(2, activation="gelu"),
    ]
    return keras.Sequential(layers)


def digests():
    keras.utils.set_random_seed(1)
    models = [to_onnx.to_onnx(open_network(build())) for build in (recurrent, small)]
    return [hashlib.sha256(model.SerializeToString()).hexdigest() for model in models]


def test_the_same_generator_yields_the_same_bytes_in_two_processes():
    points()  # advances counters that the other process does not have
    to_onnx.to_onnx(open_network(points()))
    program = "import tests.test_export_onnx as here, json; print(json.dumps(here.digests()))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "99"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == digests()


def test_an_output_that_lost_its_squeeze_gets_it_back():
    """As tf2onnx writes the last transpose of a translator of one channel now and then."""
    nodes = [
        helper.make_node("Tanh", ["x"], ["y"]),
        helper.make_node("Reshape", ["y", "sizes"], ["samples"]),
    ]
    ports = [
        helper.make_tensor_value_info(name, FLOAT, shape)
        for name, shape in (("x", ["n", 1, "h", "w"]), ("samples", ["n", "h", "w", 1]))
    ]
    sizes = onnx.numpy_helper.from_array(np.array([1, -1, 0, 0, 1]), "sizes")
    graph = helper.make_graph(nodes, "graph", ports[:1], ports[1:], [sizes])
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    restore_ranks(model, {"samples": 4})
    restore_ranks(model, {"samples": 4})  # changes nothing more
    assert [node.op_type for node in model.graph.node] == ["Tanh", "Reshape", "Squeeze"]
    onnx.checker.check_model(model, full_check=True)
    x = np.random.default_rng(0).normal(size=(3, 1, 4, 5)).astype("float32")
    (found,) = open_session(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(found, np.tanh(x).transpose(0, 2, 3, 1), atol=1e-6)


def test_the_canonical_form_of_a_graph():
    """Shuffled, renamed, with leftovers: the same bytes."""

    def build(names, order, spare):
        a, b, c, w = names
        nodes = [
            helper.make_node("MatMul", ["latents", w], [a], name=f"n_{a}"),
            helper.make_node("Neg", [a], [b], doc_string=a),
            helper.make_node("Abs", [a], [c]),
            helper.make_node("Add", [b, c], ["samples"]),
        ]
        constants = [onnx.numpy_helper.from_array(np.eye(2, dtype="float32"), w)]
        if spare:
            nodes.insert(1, helper.make_node("Exp", [a], ["unused"]))
            constants.insert(0, onnx.numpy_helper.from_array(np.ones(3), "unused_constant"))
        nodes = nodes if spare else [nodes[i] for i in order]
        graph = helper.make_graph(
            nodes,
            a,
            [helper.make_tensor_value_info("latents", FLOAT, ["batch", 2])],
            [helper.make_tensor_value_info("samples", FLOAT, ["batch", 2])],
            constants,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
        model = helper.make_model(graph, opset_imports=opsets[: 1 + spare], ir_version=8)
        canonicalize(model)
        onnx.checker.check_model(model, full_check=True)
        return model

    one = build(["a", "b", "c", "w"], [0, 1, 2, 3], False)
    assert [node.name for node in one.graph.node] == ["MatMul/0", "Neg/0", "Abs/0", "Add/0"]
    assert [tensor.name for tensor in one.graph.initializer] == ["constant/0"]
    two = build(["z", "y", "x", "a"], [0, 2, 1, 3], False)
    three = build(["k1", "k7", "k3", "k2"], [], True)
    assert one.SerializeToString() == two.SerializeToString() == three.SerializeToString()
    (samples,) = open_session(one.SerializeToString()).run(
        None, {"latents": np.array([[1, -2]], "float32")}
    )
    np.testing.assert_array_equal(samples, [[0, 4]])


@pytest.mark.slow
def test_a_program_writes_the_same_bundle_each_time(tmp_path):
    """Includes the SavedModel, whose names contain counters of the process."""
    program = (
        "import sys, keras, export, tests.test_export_onnx as here;"
        "keras.utils.set_random_seed(1);"
        "export.export_bundle(here.dcgan(), sys.argv[1])"
    )
    manifests = []
    for i in range(2):
        subprocess.run(
            [sys.executable, "-c", program, tmp_path / str(i)],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": str(i)},
            check=True,
            capture_output=True,
        )
        manifests.append(export.Manifest.load(tmp_path / str(i)))
    assert manifests[0].files == manifests[1].files


# ------------------------------------------------------------------------- weights beyond 2 GB


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """A bundle whose weights are outside model.onnx, as those of a model beyond 2 GB are."""
    limit = to_onnx.MAX_FILE
    to_onnx.MAX_FILE = 1000
    try:
        return export.export_bundle(small(), tmp_path_factory.mktemp("outside") / "bundle")
    finally:
        to_onnx.MAX_FILE = limit


def test_weights_outside_the_model(outside):
    data = outside.path / "model.onnx.data"
    model = onnx.load(outside.path / "model.onnx", load_external_data=False)
    kept = [t for t in model.graph.initializer if t.external_data]
    assert {e.value for t in kept for e in t.external_data if e.key == "location"} == {data.name}
    assert data.stat().st_size >= sum(4 * int(np.prod(t.dims)) for t in kept) > 1000
    assert {"model.onnx", "model.onnx.data"} <= set(outside.manifest.files)
    assert outside.manifest.files["model.onnx.data"]["bytes"] == data.stat().st_size
    # No weight is transposed at run time, although weights were inputs during the conversion.
    turned = [n.input[0] for n in model.graph.node if n.op_type == "Transpose"]
    assert not {t.name for t in model.graph.initializer} & set(turned)
    assert check_files(outside.path, outside.manifest) == []
    assert compare_onnx(outside.path, outside.manifest, None)[1] == []
    assert max(outside.manifest.worst_parity().values()) < 1e-5


def test_the_server_reads_weights_outside_the_model(outside, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bundle = serving.Bundle(outside.path)
    golden = np.load(outside.path / "golden.npz")
    np.testing.assert_allclose(bundle.generate(golden["seeds"]), golden["samples"], atol=1e-5)


def test_weights_outside_the_model_are_checked(outside, tmp_path):
    copy = shutil.copytree(outside.path, tmp_path / "bundle")
    data = copy / "model.onnx.data"
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    with pytest.raises(serving.UsageError, match=r"model\.onnx\.data must have the SHA-256"):
        serving.Bundle(copy)
    report = export.verify_bundle(copy)
    assert any(problem.startswith("model.onnx.data was changed") for problem in report.problems)
    data.unlink()
    with pytest.raises(serving.UsageError, match=r"must hold model\.onnx\.data"):
        serving.Bundle(copy)


@pytest.mark.parametrize("location", ["../elsewhere.bin", "elsewhere.bin", "/etc/hostname"])
def test_only_files_of_the_bundle_are_read(location, outside, tmp_path, monkeypatch):
    """A model that names another file for its weights, with a manifest that agrees."""
    copy = shutil.copytree(outside.path, tmp_path / "bundle")
    shutil.copy(copy / "model.onnx.data", tmp_path / "elsewhere.bin")
    shutil.copy(copy / "model.onnx.data", copy / "elsewhere.bin")
    monkeypatch.chdir(copy)  # where onnxruntime would look for them
    model = onnx.load(copy / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    (copy / "model.onnx").write_bytes(model.SerializeToString())
    content = json.loads((copy / "manifest.json").read_text())
    data = (copy / "model.onnx").read_bytes()
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    content["files"]["model.onnx"] = entry
    for listed in (True, False):
        if not listed:
            del content["files"]["model.onnx.data"]
        content["digest"] = digest(content)
        (copy / "manifest.json").write_text(json.dumps(content))
        with pytest.raises(serving.UsageError, match=r"model\.onnx must load") as caught:
            serving.Bundle(copy)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_model_beyond_2_gb(tmp_path):
    """2.2 GB of weights, most in one layer; the ONNX model alone, as memory goes."""
    memory = pathlib.Path("/proc/meminfo").read_text() if sys.platform == "linux" else ""
    free = sum(int(n) * 1024 for n in re.findall(r"MemAvailable:\s+(\d+)", memory))
    if free < 15 * 2**30 or shutil.disk_usage(tmp_path).free < 5 * 2**30:
        pytest.skip("needs 15 GB of memory and 5 GB of disk")
    constant = keras.initializers.Constant(1e-3)
    layers = [
        L.Dense(1024, "tanh"),
        L.Dense(1024 * 500, kernel_initializer=constant),
        L.Reshape((500, 1024)),
        L.GlobalAveragePooling1D(),
        L.Dense(16 * 1024, "tanh"),
        L.Dense(4 * 1024, "tanh", kernel_initializer=constant),
        L.Dense(2),
    ]
    model = keras.Sequential([keras.Input((LATENTS,)), *layers], name="big")
    assert sum(4 * np.prod(w.shape) for w in model.weights) > 2.1 * 2**30
    latents = np.random.default_rng(0).normal(size=(3, LATENTS)).astype("float32")
    network = open_network(model)
    expected = network(latents).numpy()
    to_onnx.save_onnx(to_onnx.to_onnx(network), tmp_path / "model.onnx")
    del model, network
    keras.backend.clear_session()
    assert (tmp_path / "model.onnx").stat().st_size < 2**20
    assert (tmp_path / "model.onnx.data").stat().st_size > 2**31
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    session = open_session(str(tmp_path / "model.onnx"))
    (samples,) = session.run(["samples"], {"latents": latents})
    np.testing.assert_allclose(samples, expected, atol=1e-4 * np.abs(expected).max())
