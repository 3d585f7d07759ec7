"""Bundles: every kind of generator in every runtime, and all errors."""

import io
import json
import os
import re
import resource
import shutil
import stat

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

import export
import keras_gan
from export import isolated
from export.manifest import Manifest
from export.network import open_network
from export.variables import randomized_batch_statistics
from export.verify import SavedModelRun, run_saved_models
from export.warmup import message_class, prediction_log
from keras_gan import UsageError
from serving.manifest import digest
from serving.seeds import latents_from_seeds

L = keras.layers
LATENTS = 6


def transposed():
    """Sequential: Dense, Reshape, BatchNormalization, Conv2DTranspose."""
    return keras.Sequential(
        [
            keras.Input((LATENTS,)),
            L.Dense(3 * 3 * 8, use_bias=False),
            L.BatchNormalization(),
            L.LeakyReLU(0.2),
            L.Reshape((3, 3, 8)),
            L.Conv2DTranspose(4, 4, 2, "same", use_bias=False),
            L.BatchNormalization(),
            L.ReLU(),
            L.Conv2DTranspose(1, 5, 1, "same", activation="tanh"),
        ],
        name="transposed",
    )


def upsampled():
    """Functional: UpSampling2D, Conv2D, BatchNormalization, a Resizing that leaks training=True."""
    z = keras.Input((LATENTS,))
    x = L.Reshape((2, 2, 8))(L.Dense(2 * 2 * 8)(z))
    x = L.UpSampling2D()(x)
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(6, 3, padding="same")(x)))
    x = L.Resizing(6, 6, interpolation="bilinear")(x)
    x = L.Activation("silu")(L.BatchNormalization()(x))
    x = L.Dropout(0.5)(x)
    return keras.Model(z, L.Conv2D(4, 3, padding="same", activation="tanh")(x), name="upsampled")


def conditional():
    """Functional with a list of inputs: Embedding, GroupNormalization."""
    z, y = keras.Input((LATENTS,), name="z"), keras.Input((), dtype="int32", name="y")
    x = L.Concatenate()([z, L.Embedding(3, 4)(y)])
    x = L.Reshape((4, 4, 4))(L.Dense(4 * 4 * 4)(x))
    x = L.ReLU()(L.GroupNormalization(2)(x))
    x = L.Conv2DTranspose(3, 4, 2, "same", activation="tanh")(x)
    return keras.Model([z, y], x, name="conditional")


class Subclassed(keras.Model):
    """Takes a dict and returns normalized points."""

    def __init__(self):
        super().__init__(name="subclassed")
        self.embedding = L.Embedding(4, LATENTS)
        self.hidden = L.Dense(16, activation="relu")
        self.normalization = L.BatchNormalization()
        self.out = L.Dense(2)

    def call(self, inputs, training=None):
        x = inputs["latents"] + self.embedding(inputs["labels"])
        return self.out(self.normalization(self.hidden(x), training=training))


def subclassed():
    model = Subclassed()
    model({"latents": np.zeros((2, LATENTS), "float32"), "labels": np.zeros(2, "int32")})
    return model


BUILDERS = {
    transposed: {},
    upsampled: {},
    conditional: {"num_classes": 3, "class_names": ("shirt", "shoe", "bag")},
    subclassed: {"num_classes": 4},
}


SHAPES = {
    "transposed": (6, 6, 1),
    "upsampled": (6, 6, 4),
    "conditional": (8, 8, 3),
    "subclassed": (2,),
}


@pytest.fixture(scope="module", params=BUILDERS, ids=lambda builder: builder.__name__)
def exported(request, tmp_path_factory):
    """A generator with batch statistics far from the initial ones, and its bundle."""
    model = request.param()
    for variable in model.non_trainable_variables:
        if variable.name.startswith("moving"):
            variable.assign(np.random.default_rng(1).uniform(0.3, 3.0, variable.shape))
    before = [variable.numpy() for variable in model.variables]
    bundle = export.export_bundle(
        model,
        tmp_path_factory.mktemp("exported") / "bundle",
        training={"examples_seen": np.int64(1000), "metrics": {"fid": 12.5, "kid": float("nan")}},
        license="CC0-1.0",
        **BUILDERS[request.param],
    )
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)
    return model, bundle


def run_keras(model, bundle, feeds):
    return np.asarray(open_network(model, num_classes=classes(bundle))(**feeds))


def classes(bundle):
    """Returns the number of classes of a bundle, 0 without labels."""
    port = bundle.manifest.classes
    return port.num_classes if port else 0


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_onnx_reproduces_keras(exported, batch):
    model, bundle = exported
    seeds = np.arange(100, 100 + batch)
    latents = latents_from_seeds(seeds, LATENTS)
    feeds = {"latents": latents}
    if classes(bundle):
        feeds["labels"] = seeds % classes(bundle)
    session = onnxruntime.InferenceSession(
        bundle.path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    (samples,) = session.run(["samples"], feeds)
    np.testing.assert_allclose(samples, run_keras(model, bundle, feeds), rtol=0, atol=1e-4)


def test_parity_is_also_recorded_with_random_statistics(exported):
    model, bundle = exported
    figures = bundle.manifest.parity["figures"]
    with randomized_batch_statistics(model) as has_statistics:
        pass
    assert ("onnx, random statistics" in figures) is has_statistics
    for runtime in ("onnx", "saved_model", "saved_model generate"):
        assert set(figures[runtime]) == {"1", "5", "64"}
    assert all(value < 1e-5 for by_batch in figures.values() for value in by_batch.values())


def test_names_and_shapes_of_onnx(exported):
    model, bundle = exported
    graph = onnx.load(bundle.path / "model.onnx").graph
    conditional = classes(bundle) > 0
    ports = [
        (
            port.name,
            port.type.tensor_type.elem_type,
            *(d.dim_param or d.dim_value for d in port.type.tensor_type.shape.dim),
        )
        for port in (*graph.input, *graph.output)
    ]
    labels = [("labels", onnx.TensorProto.INT64, "batch")] if conditional else []
    assert ports == [
        ("latents", onnx.TensorProto.FLOAT, "batch", LATENTS),
        *labels,
        ("samples", onnx.TensorProto.FLOAT, "batch", *SHAPES[model.name]),
    ]


def test_names_and_shapes_of_the_signatures(exported):
    _, bundle = exported
    manifest = bundle.manifest
    loaded = tf.saved_model.load(str(saved_model(bundle)))
    labels = {"labels": (None,)} if classes(bundle) else {}
    pictures = {"generate_png"} if manifest.first.kind == "image" else set()
    assert set(loaded.signatures) == {"serving_default", "generate"} | pictures
    for name, function in loaded.signatures.items():
        first = {"latents": (None, LATENTS)} if name == "serving_default" else {"seeds": (None,)}
        inputs = function.structured_input_signature[1]
        assert {key: tuple(spec.shape) for key, spec in inputs.items()} == first | labels
        expected = (
            {"png_bytes": (None,)}
            if name == "generate_png"
            else {"samples": (None, *manifest.first.shape)}
        )
        outputs = function.structured_outputs
        assert {key: tuple(spec.shape) for key, spec in outputs.items()} == expected


def test_warm_up_requests_fit_the_signatures(exported):
    _, bundle = exported
    loaded = tf.saved_model.load(str(saved_model(bundle)))
    records = tf.data.TFRecordDataset(
        str(saved_model(bundle) / "assets.extra" / "tf_serving_warmup_requests")
    )
    logs = [message_class("PredictionLog").FromString(record.numpy()) for record in records]
    requests = {log.predict_log.request.model_spec.signature_name: log for log in logs}
    assert set(requests) == set(loaded.signatures)
    for name, log in requests.items():
        request = log.predict_log.request
        assert request.model_spec.name == bundle.manifest.name
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        outputs = loaded.signatures[name](**{k: tf.constant(v) for k, v in inputs.items()})
        assert all(len(value) == 1 for value in outputs.values())


def test_warm_up_requests_are_tf_servings_own_messages():
    """Compares with the bytes of tensorflow-serving-api 2.21's own PredictionLog."""
    log = prediction_log("m", "s", {})
    assert log.SerializeToString().hex(" ") == "32 0a 0a 08 0a 06 0a 01 6d 1a 01 73"
    log = prediction_log("m", "s", {"seeds": np.array([7])})
    assert log.SerializeToString().hex(" ") == (
        "32 20 0a 1e 0a 06 0a 01 6d 1a 01 73 "
        "12 14 0a 05 73 65 65 64 73 12 0b 08 09 12 04 12 02 08 01 52 01 07"
    )


def test_the_manifest_describes_the_bundle(exported):
    model, bundle = exported
    manifest = Manifest.load(bundle.path)
    assert manifest == bundle.manifest
    assert manifest.name == model.name
    assert manifest.role == "generator"
    assert (manifest.inputs[0].name, manifest.inputs[0].shape) == ("latents", (LATENTS,))
    assert [port.fill for port in manifest.inputs] == ["normal", "class"][: len(manifest.inputs)]
    assert [port.stream for port in manifest.inputs] == [0, 1][: len(manifest.inputs)]
    assert [(port.name, port.shape) for port in manifest.outputs] == [
        ("samples", SHAPES[model.name])
    ]
    assert manifest.training == {"examples_seen": 1000, "metrics": {"fid": 12.5, "kid": None}}
    assert set(manifest.worst_parity()) >= {"onnx", "saved_model", "saved_model generate"}
    assert max(manifest.worst_parity().values()) < 1e-5
    assert manifest.license == "CC0-1.0"
    assert "generated" in manifest.notice.lower()
    assert {"keras", "tensorflow", "onnx", "onnxruntime", "keras_gan"} <= set(manifest.software)
    content = json.loads((bundle.path / "manifest.json").read_text())
    assert content["schema_version"] == 2
    properties = onnx.load(bundle.path / "model.onnx").metadata_props
    assert {"name", "seeds", "notice"} <= {item.key for item in properties}


def saved_model(bundle):
    return bundle.path / "saved_model" / bundle.manifest.name / "1"


# ------------------------------------------------------------------------------- GANs


def small_gan(**kwargs):
    discriminator = keras.Sequential([keras.Input((6, 6, 1)), L.Flatten(), L.Dense(1)])
    return keras_gan.GAN(transposed(), discriminator, **kwargs)


@pytest.fixture(scope="module")
def gan_bundle(tmp_path_factory):
    gan = small_gan()
    for weight in gan.generator.trainable_variables:
        weight.assign(weight + 0.5)  # the averaged generator now differs
    return gan, export.export_bundle(gan, tmp_path_factory.mktemp("gan") / "b", name="small-1.5")


def test_a_seed_names_the_same_sample_in_every_runtime(gan_bundle):
    import serving

    gan, bundle = gan_bundle
    seeds = [0, 5, 2**40, 2**63 - 1]
    samples = gan.generate(seeds=seeds)
    np.testing.assert_allclose(serving.Bundle(bundle.path).generate(seeds), samples, atol=1e-4)
    generate = tf.saved_model.load(str(saved_model(bundle))).signatures["generate"]
    in_tf = generate(seeds=tf.constant(seeds, tf.int64))["samples"]
    np.testing.assert_allclose(in_tf, samples, atol=1e-4)
    truncated = gan.generate(seeds=seeds, truncation=0.5)
    np.testing.assert_allclose(
        serving.Bundle(bundle.path).generate(seeds, truncation=0.5), truncated, atol=1e-4
    )


def test_a_bundle_can_be_verified_again(gan_bundle):
    _, bundle = gan_bundle
    report = export.verify_bundle(bundle.path)
    assert report.ok, str(report)
    for runtime in ("onnx", "saved_model", "saved_model generate"):
        assert set(report.figures[runtime]) == {1, 5, 64}
        assert max(report.figures[runtime].values()) < 1e-5
        assert runtime in str(report)


def test_checks_without_keras_share_a_process_until_it_fails(gan_bundle, monkeypatch):
    bundle = gan_bundle[1].path
    run = [SavedModelRun(bundle, "generate_png", 1)]

    def check():
        assert len(run_saved_models("small-1.5", run)[0]["png_bytes"]) == 1
        return isolated._Process.current

    isolated._close()
    first = check()
    assert check() is first
    inputs = str(bundle / "golden.npz")
    missing = {"saved_model": "/missing", "signature": "x", "inputs": inputs, "batch": 1}
    with pytest.raises(UsageError, match=r"without Keras. Received: exit status 1, .*/missing"):
        isolated.run_isolated([missing], "A SavedModel")
    assert isolated._Process.current is None
    second = check()
    second._process.stdin.close()  # as if it had just ended for want of work
    second._process.wait()
    second._process.stdin, second._process.poll = io.BytesIO(), lambda: None
    third = check()
    assert third is not second
    third._process.kill()  # as the system does for want of memory
    third._process.wait()
    fourth = check()
    monkeypatch.setattr(isolated, "_MOST_RUNS", 1)
    assert check() is not fourth
    monkeypatch.setattr(isolated, "_TIMEOUT", 0.0)
    with pytest.raises(UsageError, match=r"within 0.0 s. Received: no result"):
        isolated.run_isolated([missing], "A SavedModel")
    assert isolated._Process.current is None


def test_images_of_the_saved_model_are_the_samples(gan_bundle):
    gan, bundle = gan_bundle
    (outputs,) = run_saved_models("small-1.5", [SavedModelRun(bundle.path, "generate_png", 5)])
    pictures = outputs["png_bytes"]
    golden = np.load(bundle.path / "golden.npz")
    expected = np.clip(np.rint((gan.generate(seeds=golden["seeds"][:5]) + 1) * 127.5), 0, 255)
    assert pictures.dtype == np.uint8
    assert np.abs(pictures.astype(int) - expected).max() <= 1


@pytest.fixture(scope="module")
def live_bundle(gan_bundle, tmp_path_factory):
    target = tmp_path_factory.mktemp("live") / "bundle"
    return export.export_bundle(gan_bundle[0], target, name="small-1.5", average=False)


def test_the_live_generator_is_exported_on_request(gan_bundle, live_bundle):
    gan, bundle = gan_bundle
    golden = np.load(live_bundle.path / "golden.npz")
    np.testing.assert_allclose(
        golden["samples"], gan.generate(seeds=golden["seeds"], average=False), atol=1e-4
    )
    assert np.abs(golden["samples"] - np.load(bundle.path / "golden.npz")["samples"]).max() > 0.01


def test_mixed_precision_is_exported_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = transposed()
    finally:
        keras.config.set_dtype_policy("float32")
    bundle = export.export_bundle(model, tmp_path / "bundle")
    samples = np.load(bundle.path / "golden.npz")["samples"]
    latents = np.load(bundle.path / "golden.npz")["latents"]
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, model(latents, training=False).numpy(), atol=0.1)
    assert {layer.compute_dtype for layer in model.layers} == {"bfloat16"}


def test_the_tolerance_covers_rounding(tmp_path):
    """A slope of 3000 at the end: the last bit of z, 6e-8 of about 1, is 2e-4 of the samples."""
    z = keras.Input((2,))
    steep = L.Dense(2, use_bias=False, kernel_initializer=keras.initializers.Constant(3000.0))(z)
    model = keras.Model(z, keras.ops.sin(steep), name="steep")
    tolerance = export.export_bundle(model, tmp_path / "steep").manifest.parity["tolerance"]
    assert 1e-4 < tolerance <= 1e-3
    report = export.verify_bundle(tmp_path / "steep")
    assert report.ok
    assert report.tolerance == tolerance
    manifest = export.export_bundle(points(), tmp_path / "points").manifest
    assert manifest.parity["tolerance"] == 1e-5


def test_other_inputs_have_plain_names():
    z, style = keras.Input((LATENTS,), name="z"), keras.Input((3,), name="style-code")
    model = keras.Model([z, style], L.Dense(2)(L.Concatenate()([z, style])))
    network = open_network(model)
    assert [port.name for port in network.inputs] == ["latents", "style_code"]
    values = np.ones((2, LATENTS), "float32"), np.ones((2, 3), "float32")
    np.testing.assert_array_equal(network(values[0], style_code=values[1]), model(list(values)))


# --------------------------------------------------------------------------------- errors


class Noise(L.Layer):
    def call(self, x):
        return x + keras.random.normal(tf.shape(x))


class StatelessNoise(L.Layer):
    def call(self, x):
        return x + tf.random.stateless_normal(tf.shape(x), (1, 2))


class Fourier(L.Layer):
    def call(self, x):
        return tf.math.real(tf.signal.fft2d(tf.cast(x, tf.complex64)))


class Counter(L.Layer):
    def build(self, input_shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x


@pytest.mark.parametrize(
    ("layer", "op"),
    [
        (Noise(name="culprit"), ""),
        (StatelessNoise(name="culprit"), "Stateless"),
        (Fourier(name="culprit"), "FFT2D"),
        (Counter(name="culprit"), "AssignVariableOp"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_a_layer_that_cannot_be_exported_is_named(layer, op, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((LATENTS,)),
            L.Dense(64),
            L.Reshape((4, 4, 4)),
            L.BatchNormalization(),
            layer,
            L.Conv2D(1, 3, padding="same"),
        ]
    )
    before = [variable.numpy() for variable in model.variables]
    with pytest.raises(UsageError, match=r"Received: .*layer 'culprit'") as caught:
        export.export_bundle(model, tmp_path / "bundle")
    assert op in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def points(**kwargs):
    return keras.Sequential([keras.Input((LATENTS,)), L.Dense(2, **kwargs)], name="points")


def unbuilt():
    return keras.Sequential([L.Dense(2)])


def no_latents():
    pictures = keras.Input((4, 4, 3))
    return keras.Model(pictures, L.Dense(2)(L.Flatten()(pictures)))


def same_names():
    z, y = keras.Input((LATENTS,)), keras.Input((3,), name="style")
    return keras.Model([z, y], {"samples": L.Dense(2)(z), "style": L.Dense(2)(y)})


def reserved():
    z, seeds = keras.Input((LATENTS,)), keras.Input((3,), name="seeds")
    return keras.Model([z, seeds], L.Dense(2)(L.Concatenate()([z, seeds])))


class TwoArguments(keras.Model):
    """Without a build method, Keras remembers only the first of them."""

    def __init__(self):
        super().__init__(name="two_arguments")
        self.out = L.Dense(2)

    def call(self, latents, labels):
        return self.out(latents) + keras.ops.cast(labels, "float32")[:, None]


def two_arguments():
    model = TwoArguments()
    model(np.zeros((2, LATENTS), "float32"), np.zeros(2, "int32"))
    return model


def series():
    z = keras.Input((LATENTS,))
    return keras.Model(z, L.Reshape((8, 1))(L.Dense(8)(z)))


def one_number():
    z = keras.Input((LATENTS,))
    return keras.Model(z, keras.ops.sum(z, -1))


def not_finite():
    return points(bias_initializer=keras.initializers.Constant(float("inf")))


@pytest.mark.parametrize(
    ("make", "options", "rule"),
    [
        (lambda: "generator.keras", {}, "must be a keras_gan.GAN or a Keras model"),
        (unbuilt, {}, "must be built"),
        (Subclassed, {}, "must"),
        (no_latents, {}, "needs `role`"),
        (same_names, {}, "outputs of a network must have unique names"),
        (reserved, {}, "inputs of a network must have unique names"),
        (two_arguments, {}, "a list or dict. Received: model 'two_arguments'"),
        (series, {"kind": "image"}, "kind 'image' must have 3"),
        (series, {"kind": "video"}, "(frames, height, width, channels)"),
        (one_number, {}, "one sample for each example"),
        (not_finite, {}, "finite"),
        (conditional, {}, "needs num_classes"),
        (points, {"num_classes": 3}, "labels input"),
        (conditional, {"num_classes": 3, "class_names": ["a"]}, "class_names"),
        (points, {"kind": "image"}, "kind 'image' must have 3"),
        (points, {"kind": "sound"}, "`kind` must be one of"),
        (points, {"opset": 19}, "opset must be 13 to 18"),
        (points, {"name": "a/b"}, "name must"),
        (points, {"value_range": (1, -1)}, "value_range"),
        (points, {"training": {"x": object()}}, "JSON"),
    ],
)
def test_a_mistake_is_reported_in_one_line_and_leaves_no_files(make, options, rule, tmp_path):
    with pytest.raises(UsageError, match="Received: ") as caught:
        export.export_bundle(make(), tmp_path / "bundle", **options)
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------ the target


def test_an_existing_target_is_refused_then_replaced(gan_bundle, tmp_path):
    target = shutil.copytree(gan_bundle[1].path, tmp_path / "bundle")
    with pytest.raises(UsageError, match="must not exist"):
        export.export_bundle(points(), target)
    assert Manifest.load(target).name == "small-1.5"
    with pytest.raises(UsageError, match="finite"):
        export.export_bundle(not_finite(), target, overwrite=True)
    assert Manifest.load(target).name == "small-1.5"
    steps = []
    export.export_bundle(points(), target, name="second", overwrite=True, progress=steps.append)
    assert Manifest.load(target).name == "second"
    assert not (target / "saved_model" / "small-1.5").exists()
    assert list(tmp_path.iterdir()) == [target]
    assert stat.S_IMODE(target.stat().st_mode) == 0o777 & ~_umask()
    assert steps[-1] == f"Wrote {target}"


def test_only_a_bundle_is_overwritten(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("")
    for name in ("home", "file"):
        with pytest.raises(UsageError, match="overwritten"):
            export.export_bundle(points(), tmp_path / name, overwrite=True)
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"


def test_a_target_that_cannot_be_created_is_reported_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="must be writable"):
        export.export_bundle(points(), tmp_path / "file" / "bundle")


def test_a_read_only_folder_is_reported_in_one_line(tmp_path):
    tmp_path.chmod(0o555)
    user = os.geteuid()
    if user == 0:  # root may write anywhere, so give up its rights
        os.seteuid(65534)
    try:
        with pytest.raises(UsageError, match="must be writable") as caught:
            export.export_bundle(points(), tmp_path / "bundle")
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o700)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [500, 4000])
def test_a_full_disk_is_reported_in_one_line_and_leaves_no_files(limit, tmp_path):
    model = points()  # before the limit, because Keras may write files
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(UsageError, match="room for a bundle") as caught:
            export.export_bundle(model, tmp_path / "bundle")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# -------------------------------------------------------------------------------- tampering


@pytest.fixture
def copy(gan_bundle, tmp_path):
    return shutil.copytree(gan_bundle[1].path, tmp_path / "copy")


@pytest.mark.parametrize(
    "name",
    [
        "model.onnx",
        "golden.npz",
        "saved_model/small-1.5/1/saved_model.pb",
        "saved_model/small-1.5/1/variables/variables.data-00000-of-00001",
        "saved_model/small-1.5/1/assets.extra/tf_serving_warmup_requests",
    ],
)
def test_a_file_that_was_changed_is_named(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    report = export.verify_bundle(copy)
    assert not report.ok
    assert any(problem.startswith(name) for problem in report.problems)
    assert name in str(report)


def test_a_missing_and_an_added_file_are_named(copy):
    (copy / "golden.npz").unlink()
    (copy / "extra.py").write_text("")
    problems = " ".join(export.verify_bundle(copy).problems)
    assert "golden.npz is missing" in problems
    assert "'extra.py' is not in manifest.json" in problems


def test_weights_of_another_model_are_detected_by_their_samples(copy, live_bundle):
    """A forger who corrects the checksums as well still has to reproduce the golden samples."""
    shutil.copy(live_bundle.path / "model.onnx", copy / "model.onnx")
    content = json.loads((copy / "manifest.json").read_text())
    content["files"]["model.onnx"] = live_bundle.manifest.files["model.onnx"]
    content["digest"] = digest(content)
    (copy / "manifest.json").write_text(json.dumps(content))
    report = export.verify_bundle(copy)
    assert any(re.match("onnx must reproduce the samples", p) for p in report.problems)
    assert not any("saved_model" in p for p in report.problems)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 1}, "schema_version 2. Received: schema_version=1"),
        ({"role": "Six"}, "role='Six'"),
        (
            {"files": {"../../secret": {"sha256": "", "bytes": 0}}},
            "`files` in manifest.json must be",
        ),
        ({"outputs": [{"kind": "sound"}]}, "`outputs[0].name` in manifest.json must be"),
        ({"inputs": None}, "`inputs` in manifest.json must be"),
    ],
)
def test_a_damaged_manifest_is_reported_in_one_line(copy, change, message):
    content = json.loads((copy / "manifest.json").read_text()) | change
    (copy / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UsageError) as caught:
        export.verify_bundle(copy)
    assert message in str(caught.value)


def test_a_folder_that_is_not_a_bundle_is_refused(copy, tmp_path):
    with pytest.raises(UsageError, match="A bundle is a folder"):
        export.verify_bundle(tmp_path / "nowhere")
    content = json.loads((copy / "manifest.json").read_text())
    del content["parity"]
    (copy / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="Received: a manifest without parity"):
        export.verify_bundle(copy)
    (copy / "manifest.json").write_text("{")
    with pytest.raises(UsageError, match="must be JSON"):
        export.verify_bundle(copy)
