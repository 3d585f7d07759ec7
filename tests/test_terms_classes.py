"""Terms of auxiliary classes: values and gradients by hand, games, architectures, refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gan
from keras_gan import UsageError, architectures, layers, terms

# Term, and the discriminators' option `auxiliary_classes` that has its outputs.
OPTIONS = {
    "real_classes": True,
    "two_classifiers": "real_and_fake",
    "discriminative_classifier": "real_and_fake",
    "data_to_data": "embedding",
}
SPEC = keras_gan.Spec("points", (2,), num_classes=3)
CENTERS = 2 * np.array([[1.0, 0.0], [-0.5, 0.9], [-0.5, -0.9]])


def values_of(term, player, labels, real, fake):
    """Values of a term whose discriminator has given outputs of real and generated samples."""
    outputs = {"real": real, "fake": fake}
    outputs = {
        name: {key: tf.constant(value, tf.float32) for key, value in each.items()}
        for name, each in outputs.items()
    }
    context = terms.StepContext(
        *(player, {}, outputs.__getitem__, None, None, "real", "fake", None),
        fields={"labels": tf.constant(labels)},
    )
    return terms.get(term).values(context).numpy()


def probabilities(*rows):
    return np.log(np.array(rows))


REAL = {
    "classes": probabilities([0.5, 0.25, 0.25], [0.2, 0.2, 0.6]),
    "fake_classes": probabilities([0.8, 0.1, 0.1], [0.1, 0.5, 0.4]),
}
FAKE = {
    "classes": probabilities([0.125, 0.75, 0.125], [0.1, 0.1, 0.8]),
    "fake_classes": probabilities([0.5, 0.4, 0.1], [0.7, 0.2, 0.1]),
}


def test_two_classifiers_by_hand():
    """Labels 0 and 2: P on real samples and Q on generated ones; the generator has log Q / P."""
    given = [0, 2], REAL, FAKE
    on_discriminator = values_of("two_classifiers", "discriminator", *given)
    np.testing.assert_allclose(
        on_discriminator, [-np.log(0.5 * 0.5), -np.log(0.6 * 0.1)], rtol=1e-5
    )
    on_generator = values_of("two_classifiers", "generator", *given)
    np.testing.assert_allclose(on_generator, [np.log(0.5 / 0.125), np.log(0.1 / 0.8)], rtol=1e-5)


def test_a_discriminative_classifier_by_hand():
    """One softmax over both outputs, which sum to 1 each: of the logits, each has half."""
    given = [0, 2], REAL, FAKE
    on_discriminator = values_of("discriminative_classifier", "discriminator", *given)
    np.testing.assert_allclose(
        on_discriminator, [-np.log(0.25 * 0.25), -np.log(0.3 * 0.05)], rtol=1e-5
    )
    on_generator = values_of("discriminative_classifier", "generator", *given)
    np.testing.assert_allclose(on_generator, [np.log(0.5 / 0.125), np.log(0.1 / 0.8)], rtol=1e-5)


def test_real_classes_are_of_real_samples_alone():
    np.testing.assert_allclose(
        values_of("real_classes", "discriminator", [1, 2], REAL, {"classes": [[np.nan] * 3] * 2}),
        [np.log(4.0), -np.log(0.6)],
        rtol=1e-5,
    )
    assert terms.RealClasses.players == ("discriminator",)


# Directions at 0, 60, 90 and 180 degrees; the vectors of the classes at 0 and 90 degrees.
ANGLES = np.deg2rad([0.0, 60.0, 90.0, 180.0])
EMBEDDING = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
CIRCLE = {"embedding": EMBEDDING, "similarities": EMBEDDING}


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_data_to_data_by_hand(player):
    """Margin 0.75 and temperature 0.25: similarities below 0.75 attract, above 0.25 repel.

    Sample 0 is at its class, beyond the margin. Sample 1 is at 60 degrees from it, and sample 2,
    of the other class, at 30 degrees from sample 1. Sample 3 is opposite to sample 0.
    """
    term = {"name": "data_to_data", "margin": 0.75, "temperature": 0.25}
    given = {"discriminator": (CIRCLE, None), "generator": (None, CIRCLE)}[player]
    given = [each or dict.fromkeys(CIRCLE, np.full((4, 2), np.nan)) for each in given]
    found = values_of(term, player, [0, 0, 1, 1], *given)
    near = np.exp((np.cos(np.deg2rad(30)) - 0.25) / 0.25)  # of samples 1 and 2
    attracted = [np.exp(min(s - 0.75, 0) / 0.25) for s in (1.0, 0.5, 1.0, 0.0)]
    # A pair beyond its margin counts exp(0) = 1.
    repelled = [1 + 1, near + 1, 1 + near, 1 + 1]
    expected = [-np.log(a / (a + r)) for a, r in zip(attracted, repelled, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_data_to_data_has_no_negatives_in_a_batch_of_one_class():
    found = values_of("data_to_data", "discriminator", [0] * 4, CIRCLE, CIRCLE)
    np.testing.assert_allclose(found, [0.0] * 4, atol=1e-6)
    # Not even at a temperature at which a sum of exponentials would overflow.
    cold = {"name": "data_to_data", "temperature": 0.001}
    found = values_of(cold, "discriminator", [0, 0, 1, 1], CIRCLE, CIRCLE)
    assert np.isfinite(found).all()
    # Sample 1: its class is at 0.5, and sample 2 of the other class at cos 30 degrees.
    attracted, repelled = (0.5 - 0.98) / 0.001, (np.cos(np.deg2rad(30)) - 0.02) / 0.001
    assert found[1] == pytest.approx(repelled - attracted, rel=1e-4)


def test_cosines_by_hand():
    layer = layers.CosineDense(2)
    x = tf.constant([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]])
    layer(x)
    layer.kernel.assign([[10.0, 0.5], [0.0, 0.5]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    half = 0.5**0.5
    np.testing.assert_allclose(y, [[0.6, 1.4 * half], [0, 0], [0, -half]], atol=1e-6)
    # The gradient is at right angles to the features, and finite where they are zeros.
    gradient = tape.gradient(y, x).numpy()
    assert np.isfinite(gradient).all()
    assert gradient[0] @ [3.0, 4.0] == pytest.approx(0, abs=1e-5)
    assert np.linalg.norm(gradient[0]) > 0.1
    with pytest.raises(UsageError, match=r"`units` must be an integer.* Received: units=0"):
        layers.CosineDense(0)


# ------------------------------------------------------------------------ architectures


@pytest.mark.parametrize("family", ["dcgan", "mlp", "resnet", "r3gan"])
@pytest.mark.parametrize("option", ["real_and_fake", "embedding"])
def test_outputs_of_the_discriminators(family, option, tmp_path):
    spec = keras_gan.Spec("image", (8, 8, 1), (-1.0, 1.0), num_classes=3)
    build = architectures.build_network
    network = build("discriminator", family, spec, auxiliary_classes=option)
    samples = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype("float32")
    outputs = {name: np.asarray(value) for name, value in network(samples).items()}
    shapes = {
        "real_and_fake": {"logits": 1, "classes": 3, "fake_classes": 3},
        "embedding": {"logits": 1, "embedding": 128, "similarities": 3},
    }[option]
    assert {name: value.shape for name, value in outputs.items()} == {
        name: (5, size) for name, size in shapes.items()
    }
    if option == "embedding":
        lengths = np.linalg.norm(outputs["embedding"], axis=1)
        np.testing.assert_allclose(lengths, 1, rtol=1e-5)
        kernel = network.get_layer("similarities").kernel.numpy()
        cosines = outputs["embedding"] @ (kernel / np.linalg.norm(kernel, axis=0))
        np.testing.assert_allclose(outputs["similarities"], cosines, atol=1e-5)
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")(samples)
    for name, value in outputs.items():
        np.testing.assert_array_equal(again[name], value)


def test_options_of_the_discriminators_that_are_refused():
    build = architectures.build_network
    with pytest.raises(UsageError, match=r"one of true, false, real_and_fake, embedding. Received"):
        build("discriminator", "mlp", SPEC, auxiliary_classes="fake")
    without = keras_gan.Spec("points", (2,))
    needs = r"needs data with labels. Received: auxiliary_classes='embedding', data without classes"
    with pytest.raises(UsageError, match=needs):
        build("discriminator", "mlp", without, auxiliary_classes="embedding")


# ------------------------------------------------------------------------ games


def game(name, weight=1.0, seed=1, **arguments):
    keras.utils.set_random_seed(seed)
    generator, discriminator = (
        architectures.build_network(role, "mlp", SPEC, conditional, widths=[32, 32], **options)
        for role, conditional, options in (
            ("generator", True, {}),
            ("discriminator", False, {"auxiliary_classes": OPTIONS[name]}),
        )
    )
    given = {"name": name, "weight": weight, **arguments}
    gan = keras_gan.GAN(
        generator, discriminator, terms=[given, "r1"], num_classes=3, ema_half_life=2000
    )
    gan.compile(keras.optimizers.Adam(3e-3, beta_1=0.0), keras.optimizers.Adam(3e-3, beta_1=0.0))
    return gan


def clusters(count):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, count)
    return (CENTERS[y] + 0.1 * rng.normal(size=(count, 2))).astype("float32"), y


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "real_classes"])
def test_a_generator_learns_its_labels(name, tmp_path):
    """Three clusters of points: after a short training their means are those of the classes."""
    gan = game(name)
    gan.fit(*clusters(19_200), batch_size=64, verbose=0)
    gan.save(tmp_path / "game.keras")
    gan = keras.saving.load_model(tmp_path / "game.keras")
    for label, center in enumerate(CENTERS):
        samples = gan.generate(range(200), labels=label)
        np.testing.assert_allclose(samples.mean(axis=0), center, atol=0.5)


def test_the_discriminator_of_real_classes_becomes_a_classifier():
    gan = game("real_classes")
    x, y = clusters(12_800)
    logs = gan.fit(x, y, batch_size=64, verbose=0).history
    assert "generator_real_classes" not in logs
    assert gan.networks["discriminator"].fields == ("samples",)
    found = np.argmax(gan.discriminator(x[:1000])["classes"], axis=1)
    assert np.mean(found == y[:1000]) > 0.98


@pytest.mark.parametrize("name", ["two_classifiers", "discriminative_classifier", "data_to_data"])
def test_a_lazy_term_resumes_bit_for_bit(name, tmp_path):
    x, y = clusters(64)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    straight = game(name, interval=2)
    logs = straight.fit(data, verbose=0).history
    assert {name, f"generator_{name}"} <= set(logs)
    assert np.isfinite(logs[f"generator_{name}"]).all()
    straight.save(tmp_path / "game.keras")
    resumed = keras.saving.load_model(tmp_path / "game.keras")
    for gan in (straight, resumed):
        gan.fit(data, verbose=0)
    for a, b in zip(resumed.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def networks_with(**outputs):
    """A generator of points by class, and a discriminator with outputs of these shapes."""
    generator = architectures.build_network("generator", "mlp", SPEC, True, widths=[4])
    samples = keras.Input((2,), name="samples")
    made = {"logits": keras.layers.Dense(1)(samples)}
    for name, shape in outputs.items():
        x = keras.layers.Dense(int(np.prod(shape)))(samples)
        made[name] = keras.layers.Reshape(shape)(x)
    return generator, keras.Model(samples, made)


@pytest.mark.parametrize(
    ("name", "outputs", "message"),
    [
        ("real_classes", {}, r"reads the output 'classes' of the discriminator"),
        ("two_classifiers", {"classes": (3,)}, r"reads the output 'fake_classes' of the"),
        (
            "two_classifiers",
            {"classes": (3,), "fake_classes": (4,)},
            r"'fake_classes' must have the shape \('batch', 3\). Received: \(None, 4\)",
        ),
        ("discriminative_classifier", {"classes": (3,)}, r"reads the output 'fake_classes' of the"),
        ("real_classes", {"classes": (2,)}, r"'classes' must have the shape \('batch', 3\)"),
        ("data_to_data", {"embedding": (4,)}, r"reads the output 'similarities'"),
        (
            "data_to_data",
            {"embedding": (4,), "similarities": (5,)},
            r"'similarities' must have the shape \('batch', 3\). Received: \(None, 5\)",
        ),
        (
            "data_to_data",
            {"embedding": (2, 2), "similarities": (3,)},
            r"'embedding' must have the shape \('batch', units\). Received: \(None, 2, 2\)",
        ),
    ],
)
def test_networks_without_the_outputs_are_refused(name, outputs, message):
    with pytest.raises(UsageError, match=message) as caught:
        keras_gan.GAN(*networks_with(**outputs), terms=[name], num_classes=3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"margin": 0.5}, r"`margin` must be .*above 0.5.* Received: margin=0.5"),
        ({"margin": 1.5}, r"`margin` must be .*at most 1. Received: margin=1.5"),
        ({"temperature": 0}, r"`temperature` must be .*above 0. Received: temperature=0"),
        ({"generator_weight": -1}, r"from 0 up. Received: generator_weight=-1"),
    ],
)
def test_arguments_out_of_range_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        terms.get({"name": "data_to_data", **given})
