"""Layers against numpy and Keras, and exported to the runtimes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import export
import keras_gan
from keras_gan import UsageError, layers
from keras_gan.layers import resampling

L = keras.layers
RNG = np.random.default_rng(11)


@pytest.mark.parametrize("groups", [1, 2, 6, -1])
def test_group_normalization_computes_what_keras_does(groups):
    rng = np.random.default_rng(0)
    x = (3 + 2 * rng.normal(size=(4, 5, 3, 6))).astype("float32")
    ours, theirs = layers.GroupNormalization(groups), keras.layers.GroupNormalization(groups)
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.gamma.assign(np.arange(1.0, 7.0))
        layer.beta.assign(np.linspace(-1, 1, 6))
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-5)


def test_group_normalization_by_hand():
    """Two values become -1 and 1 divided by sqrt(1 + epsilon / variance)."""
    x = np.array([[1.0, 5.0], [0.0, 0.0]], "float32")
    expected = [[-2 / np.sqrt(4.001), 2 / np.sqrt(4.001)], [0.0, 0.0]]
    np.testing.assert_allclose(layers.GroupNormalization()(x), expected, atol=1e-6)


def test_half_precision_does_not_overflow():
    x = np.array([[3e4, -3e4]], "float16")
    y = layers.GroupNormalization(dtype="mixed_float16")(x)
    assert y.dtype == "float16"
    np.testing.assert_allclose(y, [[1.0, -1.0]], atol=1e-3)


def test_group_normalization_config_and_groups_that_do_not_divide_the_channels():
    layer = layers.GroupNormalization(3, epsilon=1e-5, name="norm")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    with pytest.raises(UsageError, match=r"groups=3, channels=4"):
        layer.build((None, 8, 8, 4))


def test_spectral_normalization_rejects_layers_of_other_kinds():
    for wrong in (L.ReLU(), L.DepthwiseConv2D(3), layers.EqualizedDense(3)):
        with pytest.raises(
            UsageError, match=rf"one kernel.* Dense.* Received: layer={type(wrong).__name__}"
        ):
            layers.SpectralNormalization(wrong)
    with pytest.raises(UsageError, match="Received: iterations=0"):
        layers.SpectralNormalization(L.Dense(2), iterations=0)


# ------------------------------------------------------------------------ spectral normalization

# A layer, its input shape without the batch, and its kernel as a matrix, output channels first.
WRAPPED = {
    "Dense": (lambda: L.Dense(5), (4,), lambda k: k.T),
    "Embedding": (lambda: L.Embedding(7, 3), (), lambda k: k.T),
    "Conv1D": (lambda: L.Conv1D(5, 3), (6, 4), lambda k: k.reshape(-1, 5).T),
    "Conv2D": (lambda: L.Conv2D(5, 3), (6, 6, 4), lambda k: k.reshape(-1, 5).T),
    "Conv3D": (lambda: L.Conv3D(5, 2), (3, 3, 3, 4), lambda k: k.reshape(-1, 5).T),
    "Conv1DTranspose": (
        lambda: L.Conv1DTranspose(5, 3),
        (6, 4),
        lambda k: k.transpose(1, 0, 2).reshape(5, -1),
    ),
    "Conv2DTranspose": (
        lambda: L.Conv2DTranspose(5, 3),
        (6, 6, 4),
        lambda k: k.transpose(2, 0, 1, 3).reshape(5, -1),
    ),
    "Conv3DTranspose": (
        lambda: L.Conv3DTranspose(5, 2),
        (3, 3, 3, 4),
        lambda k: k.transpose(3, 0, 1, 2, 4).reshape(5, -1),
    ),
}


def kernel_of(wrapper):
    layer = wrapper.layer
    return layer.embeddings if isinstance(layer, L.Embedding) else layer.kernel


@pytest.mark.parametrize("kind", WRAPPED)
def test_spectral_normalization_divides_by_the_largest_singular_value(kind):
    keras.utils.set_random_seed(2)
    make, shape, as_matrix = WRAPPED[kind]
    layer = layers.SpectralNormalization(make(), iterations=300)
    x = RNG.normal(size=(2, *shape)).astype("float32") if shape else np.array([0, 6, 3])
    layer(x)
    kernel = kernel_of(layer)
    kernel.assign(3 * RNG.normal(size=kernel.shape))
    if kind != "Embedding":
        layer.layer.bias.assign(RNG.normal(size=5))
    layer.update_power_iteration()
    before = kernel.numpy()
    sigma = np.linalg.svd(as_matrix(before), compute_uv=False)[0]
    assert float(layer.sigma()) == pytest.approx(sigma, rel=1e-3)
    outputs = layer(x, training=True).numpy()
    np.testing.assert_array_equal(layer(x, training=False), outputs)
    np.testing.assert_array_equal(kernel.numpy(), before)
    kernel.assign(before / sigma)
    np.testing.assert_allclose(outputs, layer.layer(x), rtol=1e-3, atol=2e-3)
    assert tuple(layer.compute_output_shape((None, *shape))[1:]) == outputs.shape[1:]


def test_one_update_is_one_step_of_the_power_iteration():
    """W = diag(3, 1) maps u = (1, 1) to W W u = (9, 1), with sigma = |(27, 1)| / |(9, 1)|."""
    layer = layers.SpectralNormalization(L.Dense(2, use_bias=False))
    layer.build((None, 2))
    layer.layer.kernel.assign(np.diag([3.0, 1.0]))
    layer.u.assign([2.0, 2.0])  # the length does not matter
    assert float(layer.sigma()) == pytest.approx(np.sqrt(10 / 2), rel=1e-6)
    layer.update_power_iteration()
    np.testing.assert_allclose(layer.u, np.array([9.0, 1.0]) / np.sqrt(82), rtol=1e-6)
    assert float(layer.sigma()) == pytest.approx(np.sqrt((27**2 + 1) / 82), rel=1e-6)


def spectral_slopes(layer, probe, step=1e-6):
    """Returns d sum(probe * kernel / sigma) along a direction: by tape and finite differences."""
    kernel = layer.layer.kernel
    direction = np.random.default_rng(5).normal(size=kernel.shape)
    x = np.eye(kernel.shape[0])

    with tf.GradientTape() as tape:
        value = tf.reduce_sum(probe * layer(x))
    slope = float(tf.reduce_sum(tape.gradient(value, kernel.value) * direction))
    u = layer.u.numpy() / np.linalg.norm(layer.u.numpy())
    start = kernel.numpy()
    v = u @ start.T / np.linalg.norm(u @ start.T)

    def frozen(w):
        return (probe * w / (u @ w.T @ v)).sum()

    def true(w):
        return (probe * w / np.linalg.svd(w, compute_uv=False)[0]).sum()

    return slope, *(
        (f(start + step * direction) - f(start - step * direction)) / (2 * step)
        for f in (frozen, true)
    )


def test_the_gradient_flows_through_sigma_with_constant_vectors():
    keras.utils.set_random_seed(4)
    layer = layers.SpectralNormalization(L.Dense(4, use_bias=False, dtype="float64"))
    layer.build((None, 6))
    probe = np.random.default_rng(1).normal(size=(6, 4))
    by_tape, frozen, true = spectral_slopes(layer, probe)
    assert by_tape == pytest.approx(frozen, rel=1e-7)
    assert by_tape != pytest.approx(true, rel=0.01)  # u has not converged yet
    for _ in range(300):
        layer.update_power_iteration()
    by_tape, frozen, true = spectral_slopes(layer, probe)
    assert by_tape == pytest.approx(frozen, rel=1e-7)
    assert by_tape == pytest.approx(true, rel=1e-6)


def test_a_kernel_of_zeros_stays_finite_and_can_be_trained():
    layer = layers.SpectralNormalization(L.Dense(2, use_bias=False, kernel_initializer="zeros"))
    x = np.ones((3, 4), "float32")
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer(x))
    np.testing.assert_array_equal(
        tape.gradient(value, layer.layer.kernel.value), np.full((4, 2), 3)
    )
    before = layer.u.numpy()
    layer.update_power_iteration()
    np.testing.assert_allclose(layer.u, before / np.linalg.norm(before), rtol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_spectral_normalization_iterates_at_full_precision(policy):
    """With a singular value whose square overflows float16."""
    layer = layers.SpectralNormalization(L.Dense(3, use_bias=False, dtype=policy), iterations=50)
    x = np.eye(3, dtype="float32")
    layer(x)
    layer.layer.kernel.assign(np.diag([3e4, 2e4, 1e-3]))
    layer.update_power_iteration()
    assert layer.u.dtype == "float32"
    assert float(layer.sigma()) == pytest.approx(3e4, rel=1e-6)
    y = layer(x)
    assert y.dtype == policy.removeprefix("mixed_")
    np.testing.assert_allclose(np.asarray(y, "float32")[:2, :2], np.diag([1, 2 / 3]), atol=4e-3)


def spectral_networks():
    def wrap(layer):
        return layers.SpectralNormalization(layer)

    generator = keras.Sequential(
        [
            keras.Input((4,)),
            wrap(L.Dense(2 * 3 * 8)),
            L.Reshape((2, 3, 8)),
            L.ReLU(),
            wrap(L.Conv2DTranspose(8, 4, 2, "same")),
            layers.SelfAttention2D(spectral=True),
            L.ReLU(),
            wrap(L.Conv2DTranspose(1, 4, 2, "same", activation="tanh")),
        ]
    )
    discriminator = keras.Sequential(
        [
            keras.Input((8, 12, 1)),
            wrap(L.Conv2D(4, 4, 2, "same")),
            L.LeakyReLU(0.2),
            L.Flatten(),
            wrap(L.Dense(1)),
        ]
    )
    return generator, discriminator


def spectral_gan(**arguments):
    keras.utils.set_random_seed(6)
    gan = keras_gan.GAN(*spectral_networks(), loss="hinge", **arguments)
    gan.compile(keras.optimizers.SGD(1e-2), keras.optimizers.SGD(1e-2))
    return gan


def spectral_layers(network):
    found = [x for x in network._flatten_layers() if isinstance(x, layers.SpectralNormalization)]
    assert found
    return found


@pytest.mark.parametrize("steps", [1, 2])
def test_a_training_step_updates_the_power_iteration_once_for_each_network_update(images, steps):
    """Real, fake, penalty, generator step: many calls, and one power iteration."""
    gan = spectral_gan(terms=["gradient_penalty"], discriminator_steps=steps)
    gan.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0))  # the kernels do not change
    expected = []
    for network, updates in ((gan.generator, 1), (gan.discriminator, steps)):
        for layer in spectral_layers(network):
            u = layer.u.numpy()
            kernel = np.moveaxis(layer.layer.kernel.numpy(), layer._output_axis, 0)
            matrix = kernel.reshape(len(u), -1)
            for _ in range(updates):
                u = matrix @ (matrix.T @ u)
                u /= np.linalg.norm(u)
            expected.append((layer, u))
    gan.fit(images.take(1), verbose=0)
    for layer, u in expected:
        np.testing.assert_allclose(layer.u, u, atol=1e-5, err_msg=layer.name)
    networks = gan.generator, gan.average_generator, gan.discriminator
    before = [w.copy() for network in networks for w in network.get_weights()]
    gan.evaluate(images, verbose=0)
    gan.generate(range(3))
    gan.generator(np.zeros((2, 4), "float32"), training=True)
    gan.discriminator(np.zeros((2, 8, 12, 1), "float32"), training=True)
    after = [w for network in networks for w in network.get_weights()]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_average_is_normalized_by_its_own_singular_values(images):
    gan = spectral_gan(ema_half_life=20.0, ema_rampup=1e9)
    gan.fit(images, epochs=10, verbose=0)
    for layer in spectral_layers(gan.average_generator):
        kernel = np.moveaxis(layer.layer.kernel.numpy(), layer._output_axis, 0)
        sigma = np.linalg.svd(kernel.reshape(len(kernel), -1), compute_uv=False)[0]
        assert float(layer.sigma()) == pytest.approx(sigma, rel=0.02)


@pytest.mark.slow
def test_a_game_with_spectral_normalization_resumes_bit_for_bit(images, tmp_path):
    straight, stopped = spectral_gan(terms=["r1"]), spectral_gan(terms=["r1"])
    straight.fit(images, epochs=2, verbose=0)
    stopped.fit(images, verbose=0)
    stopped.save(tmp_path / "game.keras")
    resumed = keras.saving.load_model(tmp_path / "game.keras")
    np.testing.assert_array_equal(resumed.generate(range(3)), stopped.generate(range(3)))
    resumed.fit(images, verbose=0)
    for a, b in zip(resumed.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_xla_trains_a_game_with_spectral_normalization_to_the_same_weights(images):
    trained = []
    for jit_compile in (False, True):
        gan = spectral_gan(terms=["r1"])
        kernel = gan.generator.layers[0].layer.kernel  # XLA draws other noise: ignore it
        kernel.assign(keras.ops.zeros_like(kernel))
        optimizers = keras.optimizers.SGD(0.01), keras.optimizers.SGD(0.01)
        gan.compile(*optimizers, jit_compile=jit_compile)
        gan.fit(images.take(1), verbose=0)
        trained.append(gan.discriminator.get_weights())
    for a, b in zip(*trained, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


# ------------------------------------------------------------------------ the other layers


def test_self_attention_by_hand():
    """Two positions, in numpy: softmax of the products of queries and keys."""
    keras.utils.set_random_seed(8)
    layer = layers.SelfAttention2D()
    x = RNG.normal(size=(2, 1, 2, 16)).astype("float32")
    np.testing.assert_array_equal(layer(x), x)  # gamma is 0 at first
    layer.gamma.assign(0.7)
    f, g, h, o = (
        w.kernel.numpy()[0, 0] for w in (layer.query, layer.key, layer.value, layer.projection)
    )
    assert (f.shape, h.shape, o.shape) == ((16, 2), (16, 8), (8, 16))
    for sample, outputs in zip(x[:, 0], layer(x).numpy()[:, 0], strict=True):
        scores = np.exp((sample @ f) @ (sample @ g).T)
        weights = scores / scores.sum(1, keepdims=True)
        np.testing.assert_allclose(outputs, sample + 0.7 * weights @ (sample @ h) @ o, atol=1e-5)


def test_self_attention_with_pooled_keys_and_values():
    layer = layers.SelfAttention2D(pool_size=2)
    x = np.repeat(np.repeat(RNG.normal(size=(1, 2, 3, 8)), 2, 1), 2, 2).astype("float32")
    unpooled = layers.SelfAttention2D()
    for each in (layer, unpooled):
        each.build(x.shape)
        each.gamma.assign(1.0)
    for a, b in zip(unpooled.weights, layer.weights, strict=True):
        a.assign(b)
    # If the four positions of a window are equal, pooling does not change the result.
    np.testing.assert_allclose(layer(x), unpooled(x), atol=1e-5)
    with pytest.raises(UsageError, match=r"Received: pool_size=4, height=2, width=6"):
        layers.SelfAttention2D(pool_size=4).build((None, 2, 6, 8))


def test_conditional_batch_normalization_is_keras_batch_normalization_for_each_class():
    x = (3 + 2 * RNG.normal(size=(6, 4, 5, 3))).astype("float32")
    labels = np.array([0, 1, 1, 0, 2, 2])
    ours = layers.ConditionalBatchNormalization(3, momentum=0.8)
    theirs = L.BatchNormalization(momentum=0.8, epsilon=1e-5, center=False, scale=False)
    ours.build([x.shape, labels.shape])
    gamma, beta = RNG.normal(size=(2, 3, 3)).astype("float32")
    ours.gamma.assign(gamma)
    ours.beta.assign(beta)
    for training in (True, False, True, False):
        normalized = theirs(x, training=training).numpy()
        expected = normalized * gamma[labels][:, None, None] + beta[labels][:, None, None]
        np.testing.assert_allclose(ours([x, labels], training=training), expected, atol=1e-4)
    np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, atol=1e-5)
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, atol=1e-4)
    # The derivatives of the operation for images are those of the plain formula.
    image, scale, shift = (tf.constant(v, "float32") for v in (x, gamma[labels], beta[labels]))

    def plain(x):
        centered = x - tf.reduce_mean(x, (0, 1, 2))
        x = centered * tf.math.rsqrt(tf.reduce_mean(centered**2, (0, 1, 2)) + 1e-5)
        return x * scale[:, None, None] + shift[:, None, None]

    found = trained(lambda x: ours([x, labels], training=True), image)
    for value, by_hand in zip(found, trained(plain, image), strict=True):
        np.testing.assert_allclose(value, by_hand, atol=2e-4, rtol=2e-3)
    vectors = layers.ConditionalBatchNormalization(3)
    rows = RNG.normal(size=(6, 3)).astype("float32")
    np.testing.assert_allclose(
        vectors([rows, labels], training=True), (rows - rows.mean(0)) / rows.std(0), atol=1e-3
    )
    step = tf.function(lambda x: ours([x, labels], training=True), autograph=False)
    kinds = [op.type for op in step.get_concrete_function(x).graph.get_operations()]
    assert (kinds.count("FusedBatchNormV3"), kinds.count("Mean")) == (1, 0)
    ours.trainable = False  # as in Keras: a frozen layer is in inference mode
    np.testing.assert_array_equal(ours([x, labels], training=True), ours([x, labels]))


def trained(layer, x, by=None):
    """Returns outputs, first and second derivatives, the latter by x or by a weight."""
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(tf.sin(tf.cast(y, "float32")))
        first = tape.gradient(loss, x)
        cubes = tf.reduce_sum(first**3)  # squares would not reveal Keras's stop_gradient
    return y, first, outer.gradient(cubes, x if by is None else by)


def test_batch_normalization_computes_what_keras_does_in_one_operation():
    x = tf.constant((3 + 2 * RNG.normal(size=(6, 4, 5, 3))).astype("float32"))
    ours, theirs = (
        kind(momentum=0.8) for kind in (layers.BatchNormalization, L.BatchNormalization)
    )
    found = []
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.gamma.assign([1.0, 0.5, -2.0])
        layer.beta.assign([0.0, 1.0, 2.0])
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.sin(layer(x, training=True)))
        gradients = tape.gradient(loss, layer.trainable_variables)
        layer(x + 1, training=True)
        first = trained(lambda x, layer=layer: layer(x, training=True), x)[1]
        found.append((layer(x), first, *gradients, *layer.weights))
    for value, expected in zip(*found, strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-4)
    step = tf.function(lambda x: ours(x, training=True), autograph=False)
    kinds = [op.type for op in step.get_concrete_function(x).graph.get_operations()]
    assert (kinds.count("FusedBatchNormV3"), kinds.count("Mean")) == (1, 0)
    ours.trainable = False  # as in Keras: a frozen layer is in inference mode
    np.testing.assert_array_equal(ours(x, training=True), ours(x))


def of_unit_variance(x):
    """Normalizes each channel to mean 0 and variance 1, with Keras's epsilon."""
    centered = x - tf.reduce_mean(x, (0, 1, 2))
    return centered * tf.math.rsqrt(tf.reduce_mean(centered**2, (0, 1, 2)) + 1e-3)


def test_batch_normalization_has_the_second_derivative_that_keras_lacks():
    x = tf.constant(RNG.normal(size=(4, 3, 2, 2)).astype("float32"))
    compiled = layers.BatchNormalization()
    compiled.build(x.shape)

    def by_xla(x):
        return compiled(x, training=True)

    results = {
        name: trained(layer, x)
        for name, layer in (
            ("ours", lambda x: layers.BatchNormalization()(x, training=True)),
            ("by XLA", tf.function(by_xla, jit_compile=True, autograph=False)),
            ("Keras", lambda x: L.BatchNormalization()(x, training=True)),
        )
    }
    expected = trained(of_unit_variance, x)
    for values in (results["ours"], results["by XLA"]):
        for value, right in zip(values, expected, strict=True):
            np.testing.assert_allclose(value, right, rtol=1e-3, atol=1e-3)
    assert np.abs(results["Keras"][2] - expected[2]).max() > 0.01


def test_a_penalty_on_gradients_through_batch_normalization_reaches_its_scale():
    x = tf.constant(np.random.default_rng(4).normal(size=(4, 3, 2, 2)).astype("float32"))
    layer = layers.BatchNormalization()
    layer.build(x.shape)
    layer.gamma.assign([1.5, -0.5])
    gamma = tf.Variable(layer.gamma.value)
    found = (
        trained(lambda x: layer(x, training=True), x, by=layer.gamma.value)[2],
        trained(lambda x: gamma * of_unit_variance(x), x, by=gamma)[2],
    )
    assert np.abs(found[1]).min() > 0.1
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-3)


def test_batch_normalization_leaves_masked_samples_to_keras():
    x = RNG.normal(size=(5, 3, 2, 4)).astype("float32")
    mask = RNG.random((5, 3, 2)) < 0.6
    ours, theirs = layers.BatchNormalization(), L.BatchNormalization()
    found, expected = (layer(x, training=True, mask=mask) for layer in (ours, theirs))
    np.testing.assert_array_equal(found, expected)
    for value, right in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(value, right)
    whole = layers.BatchNormalization()(x, training=True)
    assert np.abs(np.asarray(whole) - found).max() > 0.1


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (5, 4)),
        ({"axis": 1}, (5, 4, 3, 2)),
        ({"renorm": True}, (5, 3, 2, 4)),
        ({"scale": False}, (5, 3, 2, 4)),
        ({"center": False}, (5, 3, 2, 4)),
        ({"synchronized": True}, (5, 3, 2, 4)),
        ({"dtype": "float64"}, (5, 3, 2, 4)),
    ],
    ids=str,
)
def test_batch_normalization_leaves_unsupported_cases_to_keras(options, shape):
    x = RNG.normal(size=shape)
    ours, theirs = layers.BatchNormalization(**options), L.BatchNormalization(**options)
    np.testing.assert_array_equal(ours(x, training=True), theirs(x, training=True))
    step = tf.function(lambda x: ours(x, training=True), autograph=False)
    graph = step.get_concrete_function(tf.TensorSpec(shape, ours.compute_dtype)).graph
    assert "FusedBatchNormV3" not in [op.type for op in graph.get_operations()]
    for value, expected in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
def test_batch_normalization_in_16_bits_computes_statistics_in_32(policy):
    x = (300 + RNG.normal(size=(8, 4, 4, 2))).astype("float32")
    full, half = layers.BatchNormalization(), layers.BatchNormalization(dtype=policy)
    given = tf.cast(x, half.compute_dtype)  # both layers get the same rounded inputs
    expected = full(tf.cast(given, "float32"), training=True)
    outputs = half(given, training=True)
    assert outputs.dtype == half.compute_dtype
    np.testing.assert_allclose(np.asarray(outputs, "float32"), expected, atol=0.02)
    tolerance = 1e-6 if policy.startswith("mixed") else 1e-2  # the moving averages have 16 bits too
    found = np.asarray(half.moving_variance, "float32")
    np.testing.assert_allclose(found, full.moving_variance, rtol=tolerance)


def test_pixel_normalization_by_hand():
    x = np.array([[[3.0, 4.0], [0.0, 0.0]]], "float32")
    expected = np.array([[[3.0, 4.0], [0.0, 0.0]]]) / np.sqrt(12.5)
    np.testing.assert_allclose(layers.PixelNormalization()(x), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("batch", "groups"),
    [
        (8, [[0, 2, 4, 6], [1, 3, 5, 7]]),
        (4, [[0, 1, 2, 3]]),
        (3, [[0, 1, 2]]),
        (5, [[0, 2, 4], [1, 3]]),
        (1, [[0]]),
    ],
)
def test_minibatch_standard_deviation_by_hand(batch, groups):
    x = RNG.normal(size=(batch, 3, 2, 4)).astype("float32")
    layer = layers.MinibatchStandardDeviation(4)
    compiled = tf.function(layer, input_signature=[tf.TensorSpec((None, 3, 2, 4))])
    for outputs in (layer(x).numpy(), compiled(x).numpy()):
        np.testing.assert_array_equal(outputs[..., :4], x)
        for group in groups:
            deviation = np.sqrt(x[group].var(axis=0) + 1e-8).mean()
            np.testing.assert_allclose(outputs[group][..., 4], deviation, rtol=1e-4)
    rows = np.array([[0.0], [2.0]], "float32")  # rows: the deviation of 0 and 2 is 1
    np.testing.assert_allclose(layer(rows), [[0.0, 1.0], [2.0, 1.0]], atol=1e-6)


def numpy_blur(x, kernel, padding, strides):
    """Blurs and subsamples one channel, with loops."""
    k = np.asarray(kernel, "float64") / np.sum(kernel)
    padding_sum = len(k) - 1
    widths = (padding_sum // 2, padding_sum - padding_sum // 2)
    padded = np.pad(x, [widths, widths], "reflect" if padding == "reflect" else "constant")
    full = np.array(
        [
            [
                (padded[i : i + len(k), j : j + len(k)] * np.outer(k, k)).sum()
                for j in range(padded.shape[1] - padding_sum)
            ]
            for i in range(padded.shape[0] - padding_sum)
        ]
    )
    return full[::strides, ::strides]


@pytest.mark.parametrize("padding", ["reflect", "zero"])
@pytest.mark.parametrize("kernel", [(1, 3, 3, 1), (1, 2, 1)])
def test_blur_pool_by_numpy(kernel, padding):
    x = RNG.normal(size=(1, 7, 6, 2)).astype("float32")
    for strides in (1, 2):
        layer = layers.BlurPool2D(kernel, padding, strides)
        outputs = layer(x).numpy()
        assert layer.compute_output_shape((None, 7, 6, 2))[1:] == outputs.shape[1:]
        for channel in range(2):
            expected = numpy_blur(x[0, :, :, channel], kernel, padding, strides)
            np.testing.assert_allclose(outputs[0, :, :, channel], expected, atol=1e-5)


def test_blur_upsample_is_linear_interpolation():
    row = np.array([4.0, 8.0, 0.0], "float32")
    x = np.broadcast_to(row[None, None, :, None], (1, 3, 3, 1))
    between = layers.BlurUpsample2D()(x).numpy()[0]  # [1, 3, 3, 1]: 3/4 and 1/4
    np.testing.assert_allclose(between[2, :, 0], [5, 5, 7, 6, 2, 2], atol=1e-5)
    in_place = layers.BlurUpsample2D((1, 2, 1))(x).numpy()[0]
    np.testing.assert_allclose(in_place[2, :, 0], [4, 6, 8, 4, 0, 4], atol=1e-5)
    dark = layers.BlurUpsample2D(padding="zero")(x).numpy()[0]
    np.testing.assert_allclose(dark[2, :, 0], [3, 5, 7, 6, 2, 0], atol=1e-5)
    for layer in (layers.BlurUpsample2D(), layers.BlurPool2D()):
        np.testing.assert_allclose(layer(np.ones((1, 4, 5, 2))), 1.0, atol=1e-6)


@pytest.mark.parametrize("padding", ["reflect", "zero"])
@pytest.mark.parametrize("kernel", [(1, 3, 3, 1), (1, 2, 1), (1, 2, 5), (1, 4, 6, 4, 1)])
def test_matrix_products_and_a_depthwise_convolution_blur_equally(kernel, padding, monkeypatch):
    x = RNG.normal(size=(2, 7, 6, 3)).astype("float32")
    built = [layers.BlurPool2D(kernel, padding, strides) for strides in (1, 2, 3)]
    built.append(layers.BlurUpsample2D(kernel, padding))
    by_matrices = [layer(x).numpy() for layer in built]
    monkeypatch.setattr(resampling, "MATRIX_PRODUCT_LIMIT", 5)
    for layer, expected in zip(built, by_matrices, strict=True):
        np.testing.assert_allclose(layer(x), expected, atol=1e-5)


def test_upsampling_is_that_of_keras():
    x = RNG.normal(size=(2, 3, 5, 4)).astype("float32")
    np.testing.assert_array_equal(layers.UpSampling2D()(x), L.UpSampling2D()(x))
    np.testing.assert_array_equal(layers.UpSampling2D(3)(x), L.UpSampling2D(3)(x))


def test_a_basis_is_scaled_by_its_channel():
    layer = layers.Basis2D(2, 3)
    x = RNG.normal(size=(4, 5)).astype("float32")
    y = layer(x)
    assert y.shape == (4, *layer.compute_output_shape((None, 5))[1:]) == (4, 2, 3, 5)
    np.testing.assert_allclose(y, x[:, None, None, :] * layer.basis.numpy(), atol=1e-6)
    again = layers.Basis2D.from_config(layer.get_config())
    assert (again.height, again.width) == (2, 3)
    with pytest.raises(UsageError, match="Received: height=0"):
        layers.Basis2D(0, 3)


def test_a_blur_rejects_sizes_too_small_for_reflection():
    """Reflection padding must not reach beyond the opposite edge."""
    for layer, minimum in (
        (layers.BlurPool2D(), 3),
        (layers.BlurPool2D((1, 2, 1)), 2),
        (layers.BlurPool2D((1, 4, 6, 4, 1)), 3),
        (layers.BlurUpsample2D(), 2),
        (layers.BlurUpsample2D((1, 4, 6, 4, 1)), 2),
        (layers.BlurUpsample2D((1, 5, 9, 9, 5, 1)), 3),
    ):
        kind, kernel = type(layer), layer.kernel
        np.testing.assert_allclose(layer(np.ones((1, minimum, 9, 1))), 1.0, atol=1e-6)
        message = rf"at least {minimum} pixels.* Received: height=9, width={minimum - 1}"
        with pytest.raises(UsageError, match=message):
            kind(kernel)(np.ones((1, 9, minimum - 1, 1)))
        kind(kernel, "zero")(np.ones((1, 9, minimum - 1, 1)))


@pytest.mark.parametrize("wrong", ["3", None, 2.5, True, 0, float("nan")])
def test_counts_are_integers(wrong):
    message = rf"`filters` must be an integer of at least 1. Received: filters={wrong!r}"
    with pytest.raises(UsageError, match=message):
        layers.EqualizedConv2D(wrong)
    if wrong not in (2.5,):
        with pytest.raises(UsageError, match=rf"must be a number above 0. Received: eps.*{wrong}"):
            layers.PixelNormalization(wrong)


def test_blur_rejects_invalid_arguments():
    for wrong, message in (
        ({"kernel": [1]}, r"2 or more finite numbers .* Received: kernel=\[1\]"),
        ({"kernel": [1, -1]}, "whose sum is not 0"),
        ({"padding": "same"}, "must be reflect or zero. Received: padding='same'"),
    ):
        with pytest.raises(UsageError, match=message):
            layers.BlurPool2D(**wrong)


def test_equalized_layers_scale_their_weights_in_each_call():
    dense = layers.EqualizedDense(3, gain=2.0, learning_rate_multiplier=0.5, activation="relu")
    x = RNG.normal(size=(5, 16)).astype("float32")
    dense(x)
    dense.bias.assign([1.0, 2.0, 3.0])
    expected = x @ (dense.kernel.numpy() * 2.0 / 4.0 * 0.5) + 0.5 * np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(dense(x), np.maximum(expected, 0), atol=1e-5)
    convolution = layers.EqualizedConv2D(5, 3, 2, use_bias=False)
    theirs = L.Conv2D(5, 3, 2, "same", use_bias=False)
    images = RNG.normal(size=(2, 7, 8, 4)).astype("float32")
    convolution(images)
    theirs.build(images.shape)
    theirs.kernel.assign(convolution.kernel / 6.0)  # the root of 3 * 3 * 4
    np.testing.assert_allclose(convolution(images), theirs(images), atol=1e-5)
    assert convolution.compute_output_shape((None, 7, 8, 4)) == (None, 4, 4, 5)


@pytest.mark.parametrize("multiplier", [1.0, 0.01])
def test_equalized_layers_have_initial_outputs_of_unit_variance(multiplier):
    keras.utils.set_random_seed(1)
    layer = layers.EqualizedDense(256, learning_rate_multiplier=multiplier)
    x = RNG.normal(size=(64, 128)).astype("float32")
    assert np.std(layer(x)) == pytest.approx(1.0, abs=0.05)
    assert np.std(layer.kernel) == pytest.approx(1 / multiplier, rel=0.05)


EXAMPLES = {
    "spectral": lambda: layers.SpectralNormalization(L.Conv2D(3, 3, name="inner"), 2, name="outer"),
    "attention": lambda: layers.SelfAttention2D(2, spectral=True, name="attention"),
    "batch": lambda: layers.BatchNormalization(momentum=0.5, name="of_batch"),
    "conditional": lambda: layers.ConditionalBatchNormalization(4, 0.5, 1e-3, name="of_class"),
    "pixel": lambda: layers.PixelNormalization(1e-6),
    "deviation": lambda: layers.MinibatchStandardDeviation(3),
    "groups": lambda: layers.Conv2D(4, 3, padding="same", groups=2),
    "double": lambda: layers.UpSampling2D(),
    "pool": lambda: layers.BlurPool2D([1, 2, 1], "zero", 3),
    "upsample": lambda: layers.BlurUpsample2D([1, 2, 1], "zero"),
    "dense": lambda: layers.EqualizedDense(
        3, use_bias=False, activation="relu", gain=2.0, learning_rate_multiplier=0.5
    ),
    "cosine": lambda: layers.CosineDense(3, name="of_classes"),
    "convolution": lambda: layers.EqualizedConv2D(3, 5, 2, "valid", gain=2.0),
}


def called(layer, x):
    conditional = isinstance(layer, layers.ConditionalBatchNormalization)
    return layer([x, np.arange(x.shape[0]) % 4] if conditional else x)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_config_round_trip(kind):
    layer = EXAMPLES[kind]()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    x = RNG.normal(size=(3, 8, 8, 8)).astype("float32")
    called(layer, x), called(again, x)
    assert [w.shape for w in again.weights] == [w.shape for w in layer.weights]
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(called(again, x), called(layer, x))


@pytest.mark.parametrize("kind", EXAMPLES)
def test_half_precision_is_close_to_full_precision(kind):
    x = RNG.normal(size=(3, 8, 8, 8)).astype("float32")
    full = EXAMPLES[kind]()
    expected = called(full, x)
    try:
        keras.config.set_dtype_policy("mixed_float16")
        half = EXAMPLES[kind]()
    finally:
        keras.config.set_dtype_policy("float32")
    called(half, x)
    half.set_weights(full.get_weights())
    outputs = called(half, x)
    assert outputs.dtype == "float16"
    assert all(w.dtype == "float32" for w in half.weights)
    np.testing.assert_allclose(np.asarray(outputs, "float32"), expected, atol=0.03, rtol=0.01)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_xla_computes_the_same(kind):
    layer = EXAMPLES[kind]()
    x = RNG.normal(size=(3, 8, 8, 8)).astype("float32")
    expected = called(layer, x)
    compiled = tf.function(lambda x: called(layer, x), jit_compile=True, autograph=False)
    np.testing.assert_allclose(compiled(x), expected, atol=1e-4)


@pytest.mark.slow
def test_a_generator_of_all_these_layers_is_exported(tmp_path):
    """The export compares Keras, SavedModel and onnxruntime."""
    keras.utils.set_random_seed(3)
    z, y = keras.Input((6,), name="latents"), keras.Input((), dtype="int32", name="labels")
    x = layers.PixelNormalization()(z)
    label = layers.SpectralNormalization(L.Embedding(3, 6))(y)
    x = layers.EqualizedDense(3 * 4 * 8, activation="relu")(L.Concatenate()([x, label]))
    x = L.Reshape((3, 4, 8))(x)
    x = layers.BlurUpsample2D()(x)
    x = L.ReLU()(layers.ConditionalBatchNormalization(3)([x, y]))
    x = layers.SelfAttention2D(pool_size=2, spectral=True)(x)
    x = layers.SpectralNormalization(L.Conv2DTranspose(8, 4, 2, "same"))(x)
    x = layers.GroupNormalization(2)(x)
    x = layers.EqualizedConv2D(4)(x)
    x = layers.BlurPool2D(padding="zero")(x)
    x = layers.SpectralNormalization(L.Conv2D(1, 3, padding="same", activation="tanh"))(x)
    generator = keras.Model([z, y], x)
    for variable in generator.trainable_variables:
        variable.assign_add(0.1 * RNG.normal(size=variable.shape))
    bundle = export.export_bundle(generator, tmp_path / "bundle", num_classes=3)
    assert max(bundle.manifest.worst_parity().values()) < 1e-4
    assert export.verify_bundle(bundle.path).ok


@pytest.mark.parametrize(("filters", "size", "bias"), [(1, 3, True), (3, 5, False)])
def test_a_narrow_convolution_is_a_convolution(filters, size, bias):
    """Value and gradients by input, kernel and bias, in training and in inference."""
    x = tf.random.stateless_normal((2, 6, 7, 4), seed=(1, 2))
    weighting = tf.random.stateless_normal((2, 6, 7, filters), seed=(3, 4))
    ours = layers.NarrowConv2D(filters, size, use_bias=bias, activation="tanh")
    theirs = L.Conv2D(filters, size, padding="same", use_bias=bias, activation="tanh")
    theirs.build(x.shape)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    found = []
    for layer, training in ((theirs, None), (ours, False), (ours, True)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x) if training is None else layer(x, training=training)
            weighted = tf.reduce_sum(y * weighting)
        found.append([y, *tape.gradient(weighted, [x, *layer.trainable_variables])])
    for values in found[1:]:
        for value, expected in zip(values, found[0], strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
    again = layers.NarrowConv2D.from_config(ours.get_config())
    assert (again.filters, again.kernel_size, again.use_bias) == (filters, (size, size), bias)


def test_a_narrow_convolution_rejects_unsupported_arguments():
    for wrong in ({"kernel_size": 4}, {"kernel_size": 3, "strides": 2}):
        with pytest.raises(UsageError, match="odd square kernel, strides 1, padding same"):
            layers.NarrowConv2D(3, **wrong)


@pytest.mark.parametrize("shape", [(6, 7, 4), (1, 1, 2)])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_an_upsampled_convolution_is_upsampling_and_a_convolution(shape, dtype):
    """Value and gradients by input, kernel and bias, in training and in inference."""
    x = tf.random.stateless_normal((2, *shape), seed=(1, 2))
    weighting = tf.random.stateless_normal((2, 2 * shape[0], 2 * shape[1], 3), seed=(3, 4))
    ours, up = layers.UpConv2D(3, activation="tanh", dtype=dtype), L.UpSampling2D()
    theirs = L.Conv2D(3, 3, padding="same", activation="tanh")
    theirs.build(up(x).shape)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    found = []
    for layer, training in ((theirs, None), (ours, False), (ours, True)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(up(x)) if training is None else layer(x, training=training)
            weighted = tf.reduce_sum(tf.cast(y, "float32") * weighting)
        found.append([y, *tape.gradient(weighted, [x, *layer.trainable_variables])])
    tolerance = 1e-5 if dtype == "float32" else 3e-2
    for values in found[1:]:
        for value, expected in zip(values, found[0], strict=True):
            value, expected = np.asarray(value, "float32"), np.asarray(expected)
            assert np.abs(value - expected).max() <= tolerance * max(1, np.abs(expected).max())
    assert ours.compute_output_shape((None, *shape)) == (None, 2 * shape[0], 2 * shape[1], 3)
    again = layers.UpConv2D.from_config(ours.get_config())
    assert (again.filters, again.kernel_size) == (3, (3, 3))


def test_an_upsampled_convolution_takes_images_of_any_size():
    inputs = keras.Input((None, None, 2))
    network = keras.Model(inputs, layers.UpConv2D(3)(inputs))
    assert network.output_shape == (None, None, None, 3)
    x = tf.random.stateless_normal((2, 5, 3, 2), seed=(1, 2))
    assert network(x).shape == (2, 10, 6, 3)
    np.testing.assert_allclose(network(x, training=True), network(x), atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
def test_an_upsampled_convolution_leaves_no_comb_on_a_plain_area(training):
    """Away from the border, as a new transposed convolution does."""
    plain = tf.ones((1, 6, 6, 4))
    smooth = np.asarray(layers.UpConv2D(5)(plain, training=training))[0, 2:-2, 2:-2]
    comb = np.asarray(layers.Conv2DTranspose(5, 4, 2, "same")(plain, training=training))
    assert np.abs(smooth - smooth[0, 0]).max() < 1e-5
    assert np.abs(comb[0, 2:-2, 2:-2] - comb[0, 2, 2]).max() > 0.01


def test_an_upsampled_convolution_rejects_unsupported_arguments():
    for wrong in ({"kernel_size": 4}, {"strides": 2}, {"padding": "valid"}, {"groups": 3}):
        with pytest.raises(UsageError, match="a kernel of 3 x 3, strides 1, padding same"):
            layers.UpConv2D(3, **wrong)
    with pytest.raises(UsageError, match="channels_last"):
        layers.UpConv2D(3, data_format="channels_first")
