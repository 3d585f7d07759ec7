"""All adversarial losses against values worked out in numpy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gan import UsageError, losses
from keras_gan.registry import classes

ALL = sorted(classes(losses.Loss))
LOGITS = np.array([0.0, 3.0, -3.0, 1e4, -1e4])
REAL, FAKE = (a.reshape(-1, 1) for a in np.meshgrid(LOGITS, LOGITS))


def softplus(x):
    return np.logaddexp(0.0, x)


def by_hand(name, real, fake):
    """Per-sample values of (discriminator, generator) in float64, from the papers' formulas."""
    average_real, average_fake = real - fake.mean(0), fake - real.mean(0)
    d, g = {
        "minimax": (softplus(-real) + softplus(fake), -softplus(fake)),
        "non_saturating": (softplus(-real) + softplus(fake), softplus(-fake)),
        "least_squares": ((real - 1) ** 2 / 2 + fake**2 / 2, (fake - 1) ** 2 / 2),
        "wasserstein": (fake - real, -fake),
        "hinge": (np.maximum(0, 1 - real) + np.maximum(0, 1 + fake), -fake),
        "relativistic": (softplus(-(real - fake)), softplus(-(fake - real))),
        "relativistic_average": (
            softplus(-average_real) + softplus(average_fake),
            softplus(average_real) + softplus(-average_fake),
        ),
    }[name]
    return d.reshape(len(d), -1).mean(1), g.reshape(len(g), -1).mean(1)


def both(name, real, fake):
    loss = losses.get(name)
    real, fake = (keras.ops.convert_to_tensor(x, "float32") for x in (real, fake))
    return np.asarray(loss.discriminator(real, fake)), np.asarray(loss.generator(real, fake))


def test_there_are_seven_losses():
    assert {
        "minimax",
        "non_saturating",
        "least_squares",
        "wasserstein",
        "hinge",
        "relativistic",
        "relativistic_average",
    } == set(ALL)


def test_known_constants():
    """A few values to the last digit, so that numpy and the code cannot be wrong together."""
    zero = np.zeros((1, 1))
    log2 = 0.6931471805599453
    expected = {
        "minimax": (2 * log2, -log2),
        "non_saturating": (2 * log2, log2),
        "least_squares": (0.5, 0.5),
        "wasserstein": (0.0, 0.0),
        "hinge": (2.0, 0.0),
        "relativistic": (log2, log2),
        "relativistic_average": (2 * log2, 2 * log2),
    }
    for name, values in expected.items():
        d, g = both(name, zero, zero)
        assert (d[0], g[0]) == pytest.approx(values, abs=1e-6), name


@pytest.mark.parametrize("name", ALL)
def test_values_at_moderate_and_extreme_logits(name):
    for mine, expected in zip(both(name, REAL, FAKE), by_hand(name, REAL, FAKE), strict=True):
        assert mine.shape == (25,)
        assert np.isfinite(mine).all()
        np.testing.assert_allclose(mine, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_patch_logits_are_averaged_for_each_sample(name):
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(2, 3, 4, 5, 1)).astype("float32") * 3
    for mine, expected in zip(both(name, real, fake), by_hand(name, real, fake), strict=True):
        assert mine.shape == (3,)
        np.testing.assert_allclose(mine, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("method", [0, 1], ids=["discriminator", "generator"])
def test_gradients_are_those_of_the_formulas(name, method):
    """By both batches, against central differences of the formulas in float64."""
    step = 1e-6
    batches = [np.array([[0.3], [-1.7]]), np.array([[0.1], [1.4]])]
    tensors = [tf.constant(x, tf.float32) for x in batches]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        loss = losses.get(name)
        value = tf.reduce_mean((loss.discriminator, loss.generator)[method](*tensors))
    gradients = tape.gradient(value, tensors, unconnected_gradients="zero")
    for which, row in np.ndindex(2, 2):
        values = []
        for sign in (1, -1):
            moved = [x.copy() for x in batches]
            moved[which][row] += sign * step
            values.append(by_hand(name, *moved)[method].mean())
        slope = (values[0] - values[1]) / (2 * step)
        assert float(gradients[which][row, 0]) == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_round_trip(name):
    loss = losses.get(name)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is type(loss)
    assert losses.get({"name": name, **loss.get_config()}).get_config() == loss.get_config()


def test_the_decision_threshold_is_the_middle_of_the_loss():
    real, fake = (keras.ops.convert_to_tensor([[x]], "float32") for x in (4.0, -2.0))
    thresholds = {name: float(losses.get(name).decision_threshold(real, fake)) for name in ALL}
    assert thresholds == {
        "minimax": 0.0,
        "non_saturating": 0.0,
        "hinge": 0.0,
        "least_squares": 0.5,
        "wasserstein": 1.0,
        "relativistic": 1.0,
        "relativistic_average": 1.0,
    }


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(UsageError, match=r"Received: 'hing'\. Did you mean 'hinge'\?"):
        losses.get("hing")
    with pytest.raises(UsageError, match=r"^`margin` is not .* 'hinge'\. Received: margin=2\. It"):
        losses.get({"name": "hinge", "margin": 2})


def test_lists_of_logits_are_averaged():
    """Two discriminators, one of patches: each sample's values, then the mean of both."""
    rng = np.random.default_rng(1)
    real, fake = ([rng.normal(size=s) for s in ((3, 1), (3, 4, 1))] for _ in range(2))
    tensors = [[tf.constant(x, tf.float32) for x in logits] for logits in (real, fake)]
    for name in ALL:
        loss = losses.get(name)
        by_numpy = [by_hand(name, r, f) for r, f in zip(real, fake, strict=True)]
        for method, function in enumerate((loss.discriminator, loss.generator)):
            expected = (by_numpy[0][method] + by_numpy[1][method]) / 2
            np.testing.assert_allclose(losses.values(function, *tensors), expected, rtol=1e-5)
    metrics = losses.accuracies(losses.get("hinge"), *tensors)
    positive = [(r > 0).reshape(3, -1).mean(1) for r in real]
    np.testing.assert_allclose(metrics["real_accuracy"], (positive[0] + positive[1]) / 2)
    negative = [(f < 0).reshape(3, -1).mean(1) for f in fake]
    np.testing.assert_allclose(metrics["fake_accuracy"], (negative[0] + negative[1]) / 2)
    means = (real[0].reshape(3, -1).mean(1) + real[1].reshape(3, -1).mean(1)) / 2
    np.testing.assert_allclose(metrics["real_logits"], means, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(losses.score(tensors[0]), means, rtol=1e-5, atol=1e-7)
