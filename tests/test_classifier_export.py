"""A discriminator with class logits as a bundle: probabilities and novelty in every runtime."""

import json

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

import export
import keras_gan
import serving
from keras_gan import UsageError

pytestmark = pytest.mark.timeout(300)
NAMES = ("shirt", "shoe", "bag")
SHAPE = (8, 12, 1)
SPEC = keras_gan.Spec("image", SHAPE, (-1.0, 1.0), num_classes=3, class_names=NAMES)


def logits_of(x):
    """Returns the logits and class logits of a small network whose weights are not tiny."""
    initializer = keras.initializers.RandomNormal(stddev=0.3, seed=1)
    x = keras.layers.Conv2D(4, 3, 2, activation="relu", kernel_initializer=initializer)(x)
    x = keras.layers.Flatten()(x)
    dense = [keras.layers.Dense(n, dtype="float32", kernel_initializer=initializer) for n in (1, 3)]
    return dense[0](x), dense[1](x)


def discriminator():
    samples = keras.Input(SHAPE, name="samples")
    logits, classes = logits_of(samples)
    return keras.Model(samples, {"logits": logits, "classes": classes})


def game(network=None, conditional=True):
    keras.utils.set_random_seed(3)
    generator, _ = keras_gan.architectures.build(
        "dcgan", SPEC, conditional, generator={"latent_dim": 4, "widths": [8, 4, 4]}
    )
    terms = [keras_gan.terms.AuxiliaryClassifier()] if conditional else []
    options = {"num_classes": 3 * conditional, "terms": terms}
    return keras_gan.GAN(generator, network or discriminator(), **options)


@pytest.fixture(scope="module")
def gan():
    return game()


@pytest.fixture(scope="module")
def bundle(gan, tmp_path_factory):
    to = tmp_path_factory.mktemp("classifier") / "bundle"
    export.export_bundle(gan, to, network="discriminator", spec=SPEC, name="names")
    return to


def pictures(count=64):
    return np.random.default_rng(0).uniform(-1, 1, (count, *SHAPE)).astype(np.float32)


def softmax(logits):
    exponents = np.exp(np.float64(logits) - np.max(logits, -1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def test_onnx_saved_model_and_keras_agree(gan, bundle):
    x = pictures()
    raw = gan.discriminator(x, training=False)
    expected = {
        "classes": softmax(np.asarray(raw["classes"])),
        "novelty": np.asarray(raw["logits"]),
    }
    assert expected["classes"].std(axis=0).min() > 0.02  # not all pictures are alike
    session = onnxruntime.InferenceSession(bundle / "model.onnx")
    onnx = dict(
        zip(
            ("classes", "novelty"), session.run(["classes", "novelty"], {"samples": x}), strict=True
        )
    )
    loaded = tf.saved_model.load(str(bundle / "saved_model" / "names" / "1"))
    saved = loaded.signatures["serving_default"](samples=tf.constant(x))
    for found in (onnx, {name: np.asarray(value) for name, value in saved.items()}):
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name].shape == values.shape
            np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-5)
    np.testing.assert_allclose(onnx["classes"].sum(-1), 1, atol=1e-6)


def test_the_manifest_describes_the_picture_and_the_classes(bundle):
    content = json.loads((bundle / "manifest.json").read_text())
    assert content["role"] == "classifier"
    (samples,) = content["inputs"]
    assert (samples["name"], samples["kind"], samples["fill"]) == ("samples", "image", "given")
    assert samples["shape"] == ["batch", 8, 12, 1]
    assert samples["meta"]["value_range"] == [-1.0, 1.0]
    classes, novelty = content["outputs"]
    assert (classes["name"], classes["kind"]) == ("classes", "label")
    assert classes["shape"] == ["batch", 3]
    assert classes["meta"] == {"num_classes": 3, "class_names": list(NAMES)}
    assert (novelty["name"], novelty["shape"]) == ("novelty", ["batch", 1])
    assert ".classify(" in (bundle / "README.md").read_text()
    assert export.verify_bundle(bundle).ok


def test_novelty_is_the_logsumexp_of_the_class_logits_where_the_logit_is(tmp_path):
    samples = keras.Input(SHAPE, name="samples")
    _, classes = logits_of(samples)
    logits = keras.layers.Lambda(
        lambda x: keras.ops.logsumexp(x, axis=-1, keepdims=True), output_shape=(1,)
    )(classes)
    network = keras.Model(samples, {"logits": logits, "classes": classes})
    gan = game(network, conditional=False)  # as the data have classes, not the generator
    export.export_bundle(gan, tmp_path / "bundle", network="discriminator", spec=SPEC)
    found = serving.Bundle(tmp_path / "bundle").sample(samples=pictures(8))
    raw = np.float64(network(pictures(8))["classes"])
    np.testing.assert_allclose(
        found["novelty"][:, 0], np.log(np.exp(raw).sum(-1)), rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(found["classes"], softmax(raw), rtol=0, atol=1e-5)


def test_a_game_exports_its_generator_by_default(gan):
    assert gan.exports == "generator"
    assert gan.exported() is gan.average("generator").model
    assert gan.exported("discriminator") is gan.discriminator


def test_networks_that_are_no_classifiers_are_refused(gan, tmp_path):
    plain = keras.Input(SHAPE, name="samples")
    without = keras.Model(plain, logits_of(plain)[0])
    for found, name in ((game(without, conditional=False), "discriminator"), (gan, "critic")):
        with pytest.raises(UsageError, match=r"outputs `logits` and `classes`: generator") as error:
            export.export_bundle(found, tmp_path / "bundle", network=name)
        assert str(error.value).endswith(f"Received: network={name!r}")
    samples, labels = keras.Input(SHAPE, name="samples"), keras.Input((), name="labels", dtype=int)
    logits, classes = logits_of(samples)
    logits = keras.layers.Add()([logits, keras.layers.Embedding(3, 1)(labels)])
    labeled = keras.Model([samples, labels], {"logits": logits, "classes": classes})
    with pytest.raises(UsageError, match=r"must take one sample of shape \(8, 12, 1\)") as error:
        export.export_bundle(game(labeled), tmp_path / "bundle", network="discriminator")
    assert "with the inputs samples (8, 12, 1), labels ()" in str(error.value)
    x = keras_gan.layers.MinibatchStandardDeviation(group_size=4)(samples)
    logits, classes = logits_of(keras.layers.Rescaling(5.0)(x))
    compared = keras.Model(samples, {"logits": logits, "classes": classes})
    with pytest.raises(UsageError, match=r"must answer each example by itself"):
        export.export_bundle(game(compared), tmp_path / "bundle", network="discriminator")
    assert not (tmp_path / "bundle").exists()


def test_a_keras_classifier_has_the_names_that_are_stated(tmp_path):
    x = keras.Input(SHAPE, name="picture")
    probabilities = keras.layers.Softmax(name="classes")(logits_of(x)[1])
    model = keras.Model(x, {"classes": probabilities}, name="own")
    with pytest.raises(UsageError, match=r"as many class names as probabilities, 3") as error:
        export.export_bundle(model, tmp_path / "bundle", role="classifier", class_names=["a", "b"])
    assert str(error.value).endswith("Received: 2 classes")
    export.export_bundle(model, tmp_path / "bundle", role="classifier", class_names=NAMES)
    (output,) = serving.Bundle(tmp_path / "bundle").outputs
    assert (output.kind, output.meta["class_names"]) == ("label", list(NAMES))


ACGAN = """
data: {source: DATA}
networks:
  generator: {architecture: mlp, condition: [labels], widths: [16]}
  discriminator: {architecture: mlp, widths: [16], auxiliary_classes: true}
game: {terms: [auxiliary_classifier]}
training: {examples: 64, batch_size: 32}
evaluation: {count: 16}
"""


def test_a_run_exports_its_discriminator_beside_its_generator(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from keras_gan.commands import app

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 100)
    points = (rng.normal(size=(100, 2)) + labels[:, None]).astype("float32")
    np.savez(tmp_path / "points.npz", samples=points, labels=labels)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "acgan.yaml").write_text(ACGAN.replace("DATA", str(tmp_path / "points.npz")))
    for line in ("train acgan.yaml --run run", "export run --network discriminator"):
        done = CliRunner().invoke(app, line.split())
        assert done.exit_code == 0, (done.output, done.exception)
    bundle = serving.Bundle(tmp_path / "run" / "bundle-discriminator")
    assert (bundle.name, bundle.role) == ("run-classifier", "classifier")
    assert bundle.manifest["training"]["weights"] == "live"
    assert bundle.outputs[0].meta["num_classes"] == 3
    found = bundle.sample(samples=points[:5])
    assert found["classes"].shape == (5, 3)
