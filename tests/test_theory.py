"""Theory of the original GAN: values by hand, and a discriminator that is trained to them."""

import math

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

import keras_gan
from keras_gan import UsageError, theory

LINE = np.linspace(-8, 9, 2001)


def log_normal(x, mean, std):
    return -(((x - mean) / std) ** 2) / 2 - math.log(std * math.sqrt(2 * math.pi))


def normal(x, mean, std):
    return np.exp(log_normal(x, mean, std))


def test_optimal_discriminator_by_hand():
    np.testing.assert_allclose(
        theory.optimal_discriminator([0.3, 1.0, 0.0, 2.0, 0.0], [0.1, 0.0, 1.0, 2.0, 0.0]),
        [0.75, 1.0, 0.0, 0.5, 0.5],
    )
    np.testing.assert_allclose(theory.optimal_logit(math.log(0.3), math.log(0.1)), math.log(3))
    # The logit of two Gaussians of equal variance is linear: here 2x - 2.
    x = np.array([-100.0, 0.0, 1.0, 100.0])  # at the ends, both densities underflow to 0
    logits = theory.optimal_logit(log_normal(x, 2, 1), log_normal(x, 0, 1))
    np.testing.assert_allclose(logits, 2 * x - 2)
    assert theory.optimal_logit([-math.inf], [-math.inf]) == 0


def test_divergence_of_equal_and_of_disjoint_densities():
    p = normal(LINE, 0, 1)
    assert theory.jensen_shannon(p, p, LINE) == 0
    assert theory.optimal_value(p, p, LINE) == -math.log(4)
    # Disjoint outcomes, and disjoint densities.
    assert theory.jensen_shannon([1, 0], [0, 1]) == pytest.approx(math.log(2), rel=1e-15)
    assert theory.optimal_value([1, 0], [0, 1]) == pytest.approx(0, abs=1e-15)
    far = theory.jensen_shannon(normal(LINE, -4, 0.3), normal(LINE, 4, 0.3), LINE)
    assert far == pytest.approx(math.log(2), abs=1e-12)


def test_divergence_by_hand():
    # p = (3/4, 1/4), q = (1/4, 3/4), m = (1/2, 1/2): KL(p || m) = log 2 - H(1/4), and so for q.
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    expected = math.log(2) - entropy
    assert theory.jensen_shannon([0.75, 0.25], [0.25, 0.75]) == pytest.approx(expected, rel=1e-14)
    # D* = p / (p + q) has V = sum p log D* + q log (1 - D*).
    by_hand = 2 * (0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    logits = theory.optimal_logit(np.log([0.75, 0.25]), np.log([0.25, 0.75]))
    assert theory.value_on(logits, [0.75, 0.25], [0.25, 0.75]) == pytest.approx(by_hand)
    assert theory.optimal_value([0.75, 0.25], [0.25, 0.75]) == pytest.approx(by_hand)


def test_value_of_disjoint_outcomes_with_infinite_logits():
    assert theory.value_on([math.inf, -math.inf], [1, 0], [0, 1]) == 0
    assert theory.value_on([0.0, 0.0], [1, 0], [0, 1]) == pytest.approx(-math.log(4))


def test_value_is_largest_at_the_optimal_discriminator_and_equals_the_divergence_there():
    p, q = normal(LINE, 1, 0.7), normal(LINE, 0, 1)
    best = theory.optimal_logit(log_normal(LINE, 1, 0.7), log_normal(LINE, 0, 1))
    top = theory.value_on(best, p, q, LINE)
    divergence = theory.jensen_shannon(p, q, LINE)
    assert top == pytest.approx(-math.log(4) + 2 * divergence, abs=1e-9)
    rng = np.random.default_rng(0)
    for scale in (1e-3, 0.1, 1.0):
        other = best + scale * rng.normal(size=best.shape)
        assert theory.value_on(other, p, q, LINE) < top


def test_a_grid_of_two_dimensions_and_samples_agree_with_one_dimension():
    """A second, independent axis on which both densities are equal changes nothing."""
    p, q = normal(LINE, 1, 0.7), normal(LINE, 0, 1)
    divergence = theory.jensen_shannon(p, q, LINE)
    other = np.linspace(-6, 6, 201)
    plane = [np.outer(density, normal(other, 0, 1)) for density in (p, q)]
    assert theory.jensen_shannon(*plane, LINE, other) == pytest.approx(divergence, abs=1e-6)
    rng = np.random.default_rng(0)
    logits = [
        theory.optimal_logit(log_normal(x, 1, 0.7), log_normal(x, 0, 1))
        for x in (rng.normal(1, 0.7, 400_000), rng.normal(0, 1, 400_000))
    ]
    assert theory.jensen_shannon_sampled(*logits) == pytest.approx(divergence, abs=2e-3)


def test_the_loss_is_the_value():
    """`minimax` is -V for the discriminator; for the generator it is the second term of V."""
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(2, 50, 1)).astype("float32")
    loss = keras_gan.losses.get("minimax")
    d_loss = float(np.mean(loss.discriminator(real, fake)))
    assert d_loss == pytest.approx(-theory.value(real, fake), rel=1e-5)
    both = theory.value([math.inf], fake)  # the term of the real samples is 0
    assert float(np.mean(loss.generator(real, fake))) == pytest.approx(both, rel=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.optimal_discriminator([-1.0], [1.0]), r"`p` must be a density.*Received"),
        (lambda: theory.optimal_logit([math.nan], [1.0]), r"`log_p` must be below.*nan"),
        (lambda: theory.jensen_shannon([0.5, 0.4], [0.5, 0.5]), r"`p` must integrate .* 0\.9"),
        (lambda: theory.jensen_shannon([1.0], [0.5, 0.5]), r"`q` must .* \(1,\).*shape \(2,\)"),
        (lambda: theory.value_on([0.0], [0.5, 0.5], [0.5, 0.5]), r"one logit .*\(1,\).*\(2,\)"),
        (lambda: theory.value([], [1.0]), r"real and generated samples. Received: 0 real and 1"),
    ],
)
def test_invalid_arguments_are_rejected(call, message):
    with pytest.raises(UsageError, match=message):
        call()


class _Gaussian(keras.layers.Layer):
    """Generator whose samples are its latents, exactly N(0, 1); the optimizer needs its weight."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, latents):
        return latents * self.scale


def test_a_discriminator_is_trained_to_the_optimal_one():
    """Data N(1, 0.7), a constant generator N(0, 1), D trained with the original loss."""
    keras.utils.set_random_seed(0)
    generator = keras.Sequential([keras.Input((1,)), _Gaussian()])
    discriminator = keras.Sequential(
        [keras.Input((1,))]
        + [keras.layers.Dense(32, "tanh") for _ in range(2)]
        + [keras.layers.Dense(1)]
    )
    gan = keras_gan.GAN(generator, discriminator, loss="minimax", ema_half_life=0)
    steps = 700
    rate = keras.optimizers.schedules.CosineDecay(1e-2, steps)
    gan.compile(keras.optimizers.SGD(0.0), keras.optimizers.Adam(rate))
    real = np.random.default_rng(0).normal(1, 0.7, (steps, 1024, 1)).astype("float32")
    gan.fit(tf.data.Dataset.from_tensor_slices(real), verbose=0)
    np.testing.assert_array_equal(gan.generator.get_weights()[0], 1.0)

    p, q = normal(LINE, 1, 0.7), normal(LINE, 0, 1)
    logits = discriminator.predict(LINE[:, np.newaxis], batch_size=2001, verbose=0)[:, 0]
    error = np.abs(scipy.special.expit(logits) - theory.optimal_discriminator(p, q))
    # Tolerances: 0.01 in D on the average sample, 0.002 in V.
    assert np.trapezoid(error * (p + q) / 2, LINE) < 0.01
    reached, best = theory.value_on(logits, p, q, LINE), theory.optimal_value(p, q, LINE)
    assert best - 0.002 < reached <= best
