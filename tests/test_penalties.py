"""Penalties against values by hand, and their second derivatives against finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gan
from keras_gan import UsageError, penalties
from keras_gan.registry import classes

ALL = sorted(classes(penalties.Penalty))
RNG = np.random.default_rng(7)
REAL = tf.constant(RNG.normal(size=(4, 3)), tf.float32)
FAKE = tf.constant(RNG.normal(size=(4, 3)), tf.float32)


def test_on_a_linear_discriminator():
    """D(x) = w.x has the gradient w everywhere: |w|^2 = 14."""
    w = tf.constant([[1.0], [-2.0], [3.0]])
    values = {name: penalties.get(name)(lambda x: x @ w, REAL, FAKE).numpy() for name in ALL}
    assert values["r1"] == pytest.approx([7.0] * 4, abs=1e-6)
    assert values["r2"] == pytest.approx([7.0] * 4, abs=1e-6)
    for name in ("gradient_penalty", "lipschitz_penalty", "dragan"):
        assert values[name] == pytest.approx([(14**0.5 - 1) ** 2] * 4, abs=1e-5), name
    flatter = {name: penalties.get(name)(lambda x: x @ (w / 14), REAL, FAKE) for name in ALL}
    for name in ("gradient_penalty", "dragan"):  # |w| / 14 is 1 / sqrt(14), less than 1
        assert flatter[name].numpy() == pytest.approx([(14**-0.5 - 1) ** 2] * 4, abs=1e-5), name
    assert flatter["lipschitz_penalty"].numpy() == pytest.approx([0.0] * 4)


@pytest.mark.parametrize("name", ALL)
def test_is_finite_with_a_finite_gradient_where_the_discriminator_is_flat(name):
    w = tf.Variable(tf.zeros((3, 1)))
    with tf.GradientTape() as tape:
        values = penalties.get(name)(lambda x: x @ w, REAL, FAKE)
    assert np.isfinite(values.numpy()).all()
    assert np.isfinite(tape.gradient(values, w).numpy()).all()


def test_r1_sees_the_real_and_r2_the_generated_samples():
    """D(x) = |x|^2 / 2 has the gradient x."""

    def half_square(x):
        return tf.reduce_sum(x**2, axis=1, keepdims=True) / 2

    square = (REAL.numpy() ** 2).sum(1) / 2, (FAKE.numpy() ** 2).sum(1) / 2
    np.testing.assert_allclose(penalties.R1()(half_square, REAL, FAKE), square[0], rtol=1e-6)
    np.testing.assert_allclose(penalties.R2()(half_square, REAL, FAKE), square[1], rtol=1e-6)


def test_gradient_penalty_mixes_each_sample_by_its_own_uniform_number():
    """With D(x) = x^2 / 2 from real 1 to fake 0 the norm is the mixing number itself."""
    ones, zeros = tf.ones((4096, 1)), tf.zeros((4096, 1))
    values = penalties.GradientPenalty()(lambda x: x**2 / 2, ones, zeros, seed=(3, 4)).numpy()
    mix = 1 - np.sqrt(values)
    assert len(np.unique(mix)) > 4000
    # Uniform: mean 1/2 and variance 1/12, within 4 standard errors.
    assert mix.mean() == pytest.approx(0.5, abs=4 * (1 / 12 / 4096) ** 0.5)
    assert mix.var() == pytest.approx(1 / 12, abs=0.004)
    assert 0 <= mix.min() < 0.01 < 0.99 < mix.max() <= 1
    other = penalties.GradientPenalty()(lambda x: x**2 / 2, ones, zeros, seed=(3, 5)).numpy()
    assert not np.allclose(values, other)


def test_lipschitz_penalty_looks_where_the_gradient_penalty_does():
    """D(x) = 2 x^2 has the slope 4 x: steeper than 1 from 1/4 on alone."""
    ones, zeros = tf.ones((256, 1)), tf.zeros((256, 1))
    two_sided, one_sided = (
        penalties.get(name)(lambda x: 2 * x**2, ones, zeros, seed=(3, 4)).numpy()
        for name in ("gradient_penalty", "lipschitz_penalty")
    )
    mix = penalties.between(ones, zeros, (3, 4)).numpy()[:, 0]
    np.testing.assert_allclose(two_sided, (4 * mix - 1) ** 2, atol=1e-5)
    np.testing.assert_allclose(one_sided, np.where(mix > 0.25, two_sided, 0.0), atol=1e-5)
    assert (one_sided == 0).any()


def test_dragan_looks_around_the_real_samples():
    """D(x) = |x|^2 / 2 has the gradient x': the noise is what it is away from the samples."""
    real = tf.constant(RNG.normal(5.0, 2.0, size=(2000, 1)), tf.float32)
    fake = tf.fill((2000, 1), np.nan)  # is not looked at
    values = penalties.Dragan()(lambda x: x**2 / 2, real, fake, seed=(1, 2)).numpy()
    far = real.numpy()[:, 0] > 1  # where |x'| - 1 is x' - 1
    noise = (np.sqrt(values) + 1 - real.numpy()[:, 0])[far] / (0.5 * np.std(real))
    assert -1e-4 < noise.min() < 0.01 < 0.99 < noise.max() < 1 + 1e-4
    assert noise.mean() == pytest.approx(0.5, abs=4 * (1 / 12 / 1900) ** 0.5)
    other = penalties.Dragan()(lambda x: x**2 / 2, real, fake, seed=(1, 3)).numpy()
    assert not np.allclose(values, other)


class OfClasses(keras.layers.Layer):
    """Our conditional normalization of three samples of the classes 0, 1, 1."""

    def build(self, input_shape):
        self.norm = keras_gan.layers.ConditionalBatchNormalization(2)
        self.norm.build([input_shape, (None,)])

    def call(self, inputs, training=False):
        return self.norm([inputs, tf.constant([0, 1, 1])], training=training)


LAYERS = {
    "Conv2D": lambda: [keras.layers.Conv2D(3, 4, 2, "same")],
    "Conv2DTranspose": lambda: [keras.layers.Conv2DTranspose(2, 4, 2, "same")],
    "Dense": lambda: [keras.layers.Flatten(), keras.layers.Dense(5)],
    "LeakyReLU": lambda: [keras.layers.Conv2D(3, 3), keras.layers.LeakyReLU(0.2)],
    "GroupNormalization": lambda: [
        keras.layers.Conv2D(4, 3),
        keras_gan.layers.GroupNormalization(2),
    ],
    "AveragePooling2D": lambda: [keras.layers.Conv2D(2, 3), keras.layers.AveragePooling2D(2)],
    "UpSampling2D": lambda: [keras.layers.UpSampling2D(), keras.layers.Conv2D(2, 3)],
    "SpectralNormalization of Conv2D": lambda: [
        keras_gan.layers.SpectralNormalization(keras.layers.Conv2D(3, 4, 2, "same"))
    ],
    "SpectralNormalization of Conv2DTranspose": lambda: [
        keras_gan.layers.SpectralNormalization(keras.layers.Conv2DTranspose(2, 4, 2, "same"))
    ],
    "SpectralNormalization of Dense": lambda: [
        keras.layers.Flatten(),
        keras_gan.layers.SpectralNormalization(keras.layers.Dense(5)),
    ],
    "SelfAttention2D": lambda: [
        keras.layers.Conv2D(8, 3),
        keras_gan.layers.SelfAttention2D(pool_size=2, spectral=True),
    ],
    "ConditionalBatchNormalization": lambda: [keras.layers.Conv2D(4, 3), OfClasses()],
    "PixelNormalization": lambda: [
        keras.layers.Conv2D(4, 3),
        keras_gan.layers.PixelNormalization(),
    ],
    "MinibatchStandardDeviation": lambda: [
        keras.layers.Conv2D(4, 3),
        keras_gan.layers.MinibatchStandardDeviation(2),
    ],
    "BlurPool2D": lambda: [keras.layers.Conv2D(2, 2), keras_gan.layers.BlurPool2D()],
    "BlurUpsample2D": lambda: [
        keras_gan.layers.BlurUpsample2D(),
        keras.layers.Conv2D(2, 3),
        keras_gan.layers.BlurPool2D([1, 2, 1], "zero"),
    ],
    "EqualizedDense": lambda: [
        keras.layers.Flatten(),
        keras_gan.layers.EqualizedDense(5, gain=1.4, learning_rate_multiplier=0.1),
    ],
    "EqualizedConv2D": lambda: [keras_gan.layers.EqualizedConv2D(3, 4, 2)],
}


@pytest.fixture
def float64():
    keras.utils.set_random_seed(3)  # before the layers: each chooses its seed when it is made
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy("float32")


def slopes(penalty, *layers, away=0.0):
    """Slope of a penalty along a direction of the weights: by the tape and by differences.

    The weights are moved by random numbers as large as `away`: at the zeros and ones that many
    begin with a slope can vanish.
    """
    player = keras.Sequential([keras.Input((6, 6, 1), dtype="float64"), *layers])
    rng = np.random.default_rng(1)
    real, fake = (tf.constant(rng.normal(size=(3, 6, 6, 1))) for _ in range(2))
    variables = player.trainable_variables
    for v in variables:
        v.assign_add(away * np.random.default_rng(2).normal(size=v.shape))
    directions = [rng.normal(size=v.shape) for v in variables]

    def value():
        return tf.reduce_mean(penalty(lambda x: player(x, training=True), real, fake))

    with tf.GradientTape() as tape:
        result = value()
    gradients = tape.gradient(result, variables)
    # The last bias moves no gradient by the input; any other variable must be reached.
    missing = [v.path for v, g in zip(variables, gradients, strict=True) if g is None]
    assert not [path for path in missing if not path.endswith(("bias", "beta"))]
    known = [(g, d) for g, d in zip(gradients, directions, strict=True) if g is not None]
    slope = sum(float(tf.reduce_sum(tf.convert_to_tensor(g) * d)) for g, d in known)
    step, values = 1e-6, []
    for sign in (1, -1):
        for v, d in zip(variables, directions, strict=True):
            v.assign_add(sign * step * d)
        values.append(float(value()))
        for v, d in zip(variables, directions, strict=True):
            v.assign_sub(sign * step * d)
    return slope, (values[0] - values[1]) / (2 * step)


def head():
    return [keras.layers.Activation("softplus"), keras.layers.Flatten(), keras.layers.Dense(1)]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", LAYERS)
def test_second_derivative_through_a_layer(name, kind):
    by_tape, by_differences = slopes(penalties.get(name), *LAYERS[kind](), *head(), away=0.3)
    assert by_tape == pytest.approx(by_differences, rel=1e-5, abs=1e-7)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", ["BatchNormalization", "LayerNormalization"])
def test_normalization_layers_of_keras_are_refused_for_a_reason(kind):
    """Their second derivative is wrong by percents; should this fail, they need not be refused."""
    layer = getattr(keras.layers, kind)(dtype="float64")
    by_tape, by_differences = slopes(penalties.R1(), keras.layers.Conv2D(4, 3), layer, *head())
    assert by_tape != pytest.approx(by_differences, rel=0.02)
    keras.config.set_dtype_policy("float32")
    player = keras.Sequential([keras.Input((8, 12, 1)), type(layer)(name="norm"), *head()[1:]])
    generator = keras_gan.architectures.build_player(
        "generator", "dcgan", keras_gan.Spec("image", (8, 12, 1), (-1.0, 1.0)), width=2
    )
    keras_gan.GAN(generator, player)
    with pytest.raises(UsageError, match=rf"normalization layer .* layer 'norm', {kind}"):
        keras_gan.GAN(generator, player, penalties=["r1"])


def test_shared_forward_gives_what_separate_passes_give():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
    player = keras.Sequential(layers)
    calls = []

    def discriminate(x):
        calls.append(x)
        return player(x)

    results = []
    for wrap in (lambda d: d, penalties.SharedForward):
        calls.clear()
        with tf.GradientTape() as tape:
            discriminator = wrap(discriminate)
            loss = tf.reduce_mean(discriminator(REAL) - discriminator(FAKE))
            for name in ("r1", "r2"):
                loss += tf.reduce_mean(penalties.get(name)(discriminator, REAL, FAKE))
        results.append((len(calls), float(loss), tape.gradient(loss, player.trainable_variables)))
    (apart, loss, gradients), (shared, same_loss, same_gradients) = results
    assert (apart, shared) == (4, 2)
    assert same_loss == pytest.approx(loss, rel=1e-6)
    for a, b in zip(gradients, same_gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ALL)
def test_round_trip(name):
    penalty = penalties.get({"name": name, "weight": 3.5, "interval": 4})
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(penalty))
    assert type(again) is type(penalty)
    assert again.get_config() == {"weight": 3.5, "interval": 4}


def test_what_is_refused():
    with pytest.raises(UsageError, match=r"from 0 up. Received: weight=-1"):
        penalties.R1(-1)
    with pytest.raises(UsageError, match=r"from 1 up. Received: interval=0"):
        penalties.R1(1.0, interval=0)
    with pytest.raises(UsageError, match=r"'r3'\. Did you mean 'r[12]'"):
        penalties.get("r3")
