"""Export of any network by its declared inputs."""

import io
import json

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from google.protobuf import text_format
from PIL import Image
from protos import message

import export
from export.encoders import ENCODERS, encoder_of
from export.manifest import Manifest
from export.network import open_network
from export.triton import configuration
from export.verify import SavedModelRun, run_saved_models
from keras_gan import Field, Spec, UsageError
from serving import kinds
from serving.inputs import Inputs, Port
from serving.manifest import digest

L = keras.layers


def translator():
    """From pictures of any height and width to pictures of the same size."""
    x = keras.Input((None, None, 3), name="picture")
    h = L.BatchNormalization()(L.Conv2D(8, 3, 2, "same", activation="relu")(x))
    h = L.GroupNormalization(2)(L.Conv2D(8, 3, padding="same", activation="relu")(h))
    up = L.Conv2D(8, 3, padding="same")(L.UpSampling2D()(h))
    transposed = L.Conv2DTranspose(16, 4, 2, "same")(h)
    y = L.Conv2D(3, 3, padding="same", activation="tanh")(L.Concatenate()([up, transposed]))
    return keras.Model(x, y, name="translator")


def two_latents():
    """From a normal and a uniform vector, a map of noise and a truncation to sounds."""
    content, style = keras.Input((16,), name="content"), keras.Input((6,), name="style")
    noise = keras.Input((16, 1), name="noise_1")
    truncation = keras.Input((), name="truncation_psi")
    cut = content * keras.ops.expand_dims(truncation, -1)
    h = L.Reshape((16, 4))(L.Dense(64)(L.Concatenate()([cut, style])))
    wave = L.Conv1D(1, 3, padding="same", activation="tanh")(L.Concatenate()([h, noise]))
    outputs = {"samples": wave, "energy": keras.ops.mean(wave**2, (1, 2))}
    return keras.Model([content, style, noise, truncation], outputs, name="two_latents")


def conditioned():
    """From latents and a given vector to rows of a table."""
    z, condition = keras.Input((5,), name="z"), keras.Input((2,), name="condition")
    h = L.Dense(8, activation="relu")(L.Concatenate()([z, condition]))
    return keras.Model([z, condition], L.Dense(3)(h), name="conditioned")


def classifier():
    """From pictures to probabilities of classes, and a score."""
    x = keras.Input((8, 8, 1), name="picture")
    h = L.Flatten()(L.Conv2D(4, 3, 2, activation="relu")(x))
    outputs = {"classes": L.Dense(3, activation="softmax")(h), "novelty": L.Dense(1)(h)}
    return keras.Model(x, outputs, name="classifier")


NAMES = ["shirt", "shoe", "bag"]
ROWS = Spec(
    fields={
        "samples": Field("table", (3,), meta={"columns": ("a", "b", "age")}),
        "condition": Field("table", (2,), meta={"columns": ("age", "height")}),
    }
)
NETWORKS = {
    "translator": (translator, {}),
    "two_latents": (
        two_latents,
        {
            "inputs": {
                "content": {"fill": "normal"},
                "style": {"fill": "uniform", "value": [-1, 2]},
            },
            "outputs": {"samples": {"kind": "audio", "meta": {"sample_rate": 8000}}},
        },
    ),
    "conditioned": (conditioned, {"spec": ROWS}),
    "classifier": (
        classifier,
        {
            "role": "classifier",
            "outputs": {
                "classes": {"kind": "label", "meta": {"num_classes": 3, "class_names": NAMES}}
            },
        },
    ),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Bundles of the four networks, exported when they are asked for."""
    keras.utils.set_random_seed(1)
    folder, bundles = tmp_path_factory.mktemp("networks"), {}

    def get(name):
        if name not in bundles:
            build, options = NETWORKS[name]
            bundles[name] = export.export_bundle(build(), folder / name, **options)
        return bundles[name]

    return get


def fills(manifest):
    return [(port.name, port.fill, port.stream, port.kind) for port in manifest.inputs]


def test_the_ports_of_a_translator_of_any_size(exported):
    manifest = exported("translator").manifest
    assert manifest.role == "translator"
    assert fills(manifest) == [("picture", "given", 0, "image")]
    assert manifest.inputs[0].shape == manifest.first.shape == ("height", "width", 3)
    assert (manifest.first.name, manifest.first.kind) == ("samples", "image")
    figures = manifest.parity["figures"]
    rows = ("onnx", "saved_model", "saved_model generate")
    assert all(
        set(figures[row + sizes]) == {"1", "5", "64"}
        for row in rows
        for sizes in ("", ", other sizes")
    )
    assert "onnx, random statistics" in figures
    graph = onnx.load(exported("translator").path / "model.onnx").graph
    sizes = [
        [d.dim_param or d.dim_value for d in port.type.tensor_type.shape.dim]
        for port in (*graph.input, *graph.output)
    ]
    assert sizes == [["batch", "height", "width", 3]] * 2


def test_the_ports_of_a_network_with_two_latents(exported):
    manifest = exported("two_latents").manifest
    assert manifest.role == "generator"
    assert fills(manifest) == [
        ("content", "normal", 0, "array"),
        ("style", "uniform", 1, "array"),
        ("noise_1", "normal", 2, "array"),
        ("truncation", "constant", 0, "array"),
    ]
    assert manifest.inputs[1].value == [-1.0, 2.0]
    assert manifest.inputs[3].value == 1.0
    assert [port.name for port in manifest.outputs] == ["samples", "energy"]
    assert manifest.first.meta == {"sample_rate": 8000, "value_range": [-1.0, 1.0]}


def test_the_fields_of_the_data_describe_the_ports(exported):
    manifest = exported("conditioned").manifest
    assert fills(manifest) == [
        ("latents", "normal", 0, "array"),
        ("condition", "given", 0, "table"),
    ]
    assert manifest.inputs[1].meta == {"columns": ["age", "height"]}
    assert (manifest.first.kind, manifest.first.meta) == ("table", {"columns": ["a", "b", "age"]})


def test_the_ports_of_a_classifier(exported):
    manifest = exported("classifier").manifest
    assert (manifest.role, manifest.first.kind) == ("classifier", "label")
    assert [port.name for port in manifest.outputs] == ["classes", "novelty"]
    assert manifest.first.meta["class_names"] == NAMES
    assert "seeds" not in np.load(exported("classifier").path / "golden.npz")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_verified_again(exported, name):
    bundle = exported(name)
    report = export.verify_bundle(bundle.path)
    assert report.ok, str(report)
    assert Manifest.load(bundle.path) == bundle.manifest
    assert max(bundle.manifest.worst_parity().values()) < 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_a_seed_names_the_same_sample_without_keras(exported, name):
    """numpy's streams through onnxruntime, and the SavedModel in a process without Keras."""
    bundle = exported(name)
    golden = dict(np.load(bundle.path / "golden.npz"))
    (outputs,) = run_saved_models(bundle.manifest.name, [SavedModelRun(bundle.path, "generate", 5)])
    inputs = Inputs(bundle.manifest.inputs)
    given = {port.name: golden[port.name][:5] for port in inputs.given}
    seeds = golden["seeds"][:5] if inputs.seeded else np.arange(5)
    session = onnxruntime.InferenceSession(
        bundle.path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    names = [port.name for port in bundle.manifest.outputs]
    found = session.run(names, inputs.fill(seeds, given=given))
    assert set(outputs) == set(names)
    for name, values in zip(names, found, strict=True):
        np.testing.assert_allclose(outputs[name], values, atol=2e-5, err_msg=name)


def signatures(bundle):
    path = bundle.path / "saved_model" / bundle.manifest.name / "1"
    loaded = tf.saved_model.load(str(path))
    signatures.held = loaded  # the functions do not keep the variables
    return loaded.signatures


def test_the_signatures_ask_for_seeds_and_given_inputs(exported):
    expected = {
        "translator": ({"picture"}, {"png_bytes"}),
        "two_latents": ({"seeds"}, {"wav_bytes"}),
        "conditioned": ({"seeds", "condition"}, None),
        "classifier": ({"picture"}, None),
    }
    for name, (asked, files) in expected.items():
        bundle = exported(name)
        found = signatures(bundle)
        assert set(found["generate"].structured_input_signature[1]) == asked
        outputs = {port.name for port in bundle.manifest.outputs}
        assert set(found["generate"].structured_outputs) == outputs
        assert set(found["serving_default"].structured_outputs) == outputs
        assert set(found["serving_default"].structured_input_signature[1]) == {
            port.name for port in bundle.manifest.inputs
        }
        others = set(found) - {"generate", "serving_default"}
        encoder = encoder_of(bundle.manifest.first)
        assert others == ({encoder.signature} if encoder else set())
        if files:
            (function,) = (found[other] for other in others)
            assert set(function.structured_outputs) == files


def test_files_of_the_saved_model_are_those_of_serving(exported):
    golden = np.load(exported("two_latents").path / "golden.npz")
    call = signatures(exported("two_latents"))["generate_wav"]
    port = exported("two_latents").manifest.first
    wavs = call(seeds=tf.constant(golden["seeds"]))["wav_bytes"].numpy()
    for wav, sample in zip(wavs, golden["samples"], strict=True):
        decoded = kinds.get("audio").decode(wav, "wav", port.sizes, port.meta)
        np.testing.assert_allclose(decoded, sample, atol=1e-4)
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 10, 14, 3)).astype("float32")
    png = signatures(exported("translator"))["generate_png"](picture=tf.constant(picture))
    image = Image.open(io.BytesIO(png["png_bytes"].numpy()[0]))
    assert image.size == (14, 10)
    assert "Model SHA-256" in image.text
    assert "Seed" not in image.text


def test_a_format_in_tensorflow_is_the_first_of_a_kind():
    firsts = {next(iter(kinds.get(name).all_formats())) for name in kinds.names()}
    assert set(ENCODERS) <= firsts
    assert encoder_of(Port("x", "float32", (2,), "points")) is None


def test_triton_reads_the_ports(exported):
    manifest = exported("translator").manifest
    config = text_format.Parse(configuration(manifest), message("TritonConfig")())
    assert [list(port.dims) for port in (*config.input, *config.output)] == [[-1, -1, 3]] * 2
    (warmup,) = config.model_warmup
    (size,) = manifest.sizes[:1]
    assert list(warmup.inputs[0].value.dims) == [size["height"], size["width"], 3]
    told = {entry.key: json.loads(entry.value.string_value) for entry in config.parameters}
    assert told["inputs"][0]["kind"] == "image"


def test_golden_samples_at_other_sizes_are_checked(exported, tmp_path):
    import shutil

    copy = shutil.copytree(exported("translator").path, tmp_path / "copy")
    (copy / "golden_sizes.npz").unlink()
    assert any("golden_sizes.npz" in p for p in export.verify_bundle(copy).problems)
    content = json.loads((copy / "manifest.json").read_text())
    content["parity"]["sizes"][0]["height"] = 99
    content["digest"] = digest(content)
    shutil.copy(exported("translator").path / "golden_sizes.npz", copy)
    (copy / "manifest.json").write_text(json.dumps(content))
    assert any("must fit the manifest" in p for p in export.verify_bundle(copy).problems)


# ------------------------------------------------------------------------------- inference


def test_inputs_of_one_size_share_its_name():
    """A mask has the size of its picture; a style picture may have another one."""
    picture = keras.Input((None, None, 3), name="picture")
    mask = keras.Input((None, None, 1), name="mask")
    noise = keras.Input((None, None, 1), name="noise")
    joined = L.Concatenate()([picture, mask, noise])
    network = open_network(keras.Model([picture, mask, noise], L.Conv2D(3, 1)(joined)))
    assert [port.shape[:2] for port in network.inputs] == [("height", "width")] * 3
    assert [port.fill for port in network.inputs] == ["given", "given", "normal"]

    style = keras.Input((None, None, 3), name="style")
    mean = keras.ops.mean(style, (1, 2), keepdims=True)
    network = open_network(keras.Model([picture, style], L.Conv2D(3, 3, 2)(picture) + mean))
    assert network.inputs[1].shape == ("style_height", "style_width", 3)
    assert network.outputs[0].shape == ("samples_height", "samples_width", 3)
    assert network.role == "translator"


def test_vectors_are_latents_of_generators_only():
    x = keras.Input((4,))
    model = keras.Model(x, L.Dense(4)(x))
    assert open_network(model).inputs[0].name == "latents"
    network = open_network(model, role="translator")
    assert [(port.name, port.fill) for port in network.inputs] == [("input_0", "given")]
    picture, condition = keras.Input((8, 8, 1), name="picture"), keras.Input((4,), name="style")
    y = L.Conv2D(1, 3, padding="same")(picture) + L.Dense(1)(condition)[:, None, None]
    network = open_network(keras.Model([picture, condition], y))
    assert {port.fill for port in network.inputs} == {"given"}


def test_frequencies_draw_classes_on_their_own_stream(tmp_path):
    z, y = keras.Input((3,), name="z"), keras.Input((), dtype="int32", name="y")
    model = keras.Model([z, y], L.Dense(2)(z + L.Embedding(3, 3)(y)), name="m")
    declared = {"labels": {"meta": {"frequencies": [0.1, 0.0, 0.9]}}}
    network = open_network(model, num_classes=3, inputs=declared)
    assert [(p.name, p.stream) for p in network.inputs] == [("latents", 0), ("labels", 1)]
    labels = Inputs(network.inputs).fill(np.arange(200))["labels"]
    assert set(labels.tolist()) == {0, 2}


# --------------------------------------------------------------------------------- errors


def two_classes():
    z, a = keras.Input((3,), name="z"), keras.Input((), dtype="int32", name="a")
    b = keras.Input((), dtype="int32", name="b")
    return keras.Model([z, a, b], z + L.Embedding(2, 3)(a) + L.Embedding(2, 3)(b), name="m")


@pytest.mark.parametrize(
    ("build", "options", "rule"),
    [
        (conditioned, {"inputs": {"style": {}}}, "inputs of this network are latents, condition."),
        (conditioned, {"outputs": {"image": {}, "x": {}}}, "outputs of this network are"),
        (conditioned, {"inputs": {"condition": {"size": 3}}}, "`inputs` may declare fill, stream"),
        (conditioned, {"inputs": {"condition": {"fill": "noise"}}}, "`fill` must be one of"),
        (two_classes, {"inputs": {"a": {"fill": "normal"}}}, "must be of floating point"),
        (
            two_classes,
            {"inputs": {"a": {"fill": "class"}, "b": {"fill": "class"}}, "num_classes": 2},
            "at most one input of fill 'class'. Received: 'a', 'b'",
        ),
        (conditioned, {"inputs": {"condition": {"kind": "image"}}}, "kind 'image' must have 3"),
        (conditioned, {"inputs": {"condition": {"kind": "sound"}}}, "`kind` must be one of"),
        (conditioned, {"inputs": {"condition": {"meta": {"rate": 3}}}}, "Received: rate"),
        (conditioned, {"outputs": {"samples": {"kind": "video"}}}, "kind 'video' must have 4"),
        (
            conditioned,
            {"inputs": {"condition": {"fill": "uniform", "value": [1, 0]}}},
            "limits in ascending order",
        ),
        (conditioned, {"inputs": {"condition": {"value": 1.0}}}, "`value` is for inputs of fill"),
        (
            conditioned,
            {"inputs": {"condition": {"fill": "normal", "stream": 2**32}}},
            "`stream` must be an integer",
        ),
        (classifier, {}, "needs `role`"),
        (classifier, {"role": "The best"}, "`role` must be a word"),
    ],
)
def test_a_wrong_declaration_is_refused_in_one_line(build, options, rule, tmp_path):
    with pytest.raises(UsageError, match="Received: ") as caught:
        export.export_bundle(build(), tmp_path / "bundle", **options)
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
