"""The device itself: its name, placement, random numbers, TensorFloat-32."""

import gpu_games as games
import numpy as np
import pytest
import tensorflow as tf

from keras_gan import latents, precision, random_numbers, train

DRAWS = {
    "integers": lambda seed: random_numbers.integers((1000,), seed, 2**24),
    "fold_in": lambda seed: random_numbers.fold_in(seed, tf.constant(7, tf.int64)),
    "uniform": lambda seed: random_numbers.uniform((1000,), seed),
    "normal": lambda seed: random_numbers.normal((1000,), seed),
    "latents": lambda seed: latents.latents_from_seeds(tf.range(20, dtype=tf.int64), 50),
}


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("name", DRAWS)
def test_random_numbers_are_those_of_the_cpu(name, jit_compile, device):
    """Of XLA as well, which draws other floats from a seed than TensorFlow does."""
    seed = tf.constant([5, 2**40 + 1], tf.int64)
    found = []
    for place in (device, "CPU:0"):
        draw = tf.function(DRAWS[name], jit_compile=jit_compile)
        with tf.device(place):
            found.append(draw(tf.identity(seed)).numpy())
    if found[0].dtype.kind == "i" or name == "uniform":
        np.testing.assert_array_equal(*found)
    else:  # by the logarithm and the cosine of the device
        np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-6)
    assert len(np.unique(found[0])) > len(found[0]) / 2


@pytest.mark.parametrize("policy", games.PRECISIONS)
def test_layers_compute_on_the_device(policy, on_device):
    gan = games.make(policy)
    games.assert_placed(gan, on_device)
    samples = gan.generator(tf.zeros((2, games.LATENTS)))
    logits = gan.discriminator(samples)
    assert samples.device.endswith(on_device)
    assert logits.device.endswith(on_device)
    assert gan.discriminator.layers[1].compute_dtype == policy.removeprefix("mixed_")


def test_the_device_of_a_training_is_named(hardware):
    assert train.name_devices().startswith("GPU: ")
    assert "TensorFloat-32" in precision.choose("float32")[1]


def test_products_in_tensor_float_32_have_11_bits(hardware):
    """On an older GPU than Ampere, TensorFlow ignores the option, and this fails."""
    a = tf.random.stateless_normal((512, 512), seed=(1, 2), alg="philox")
    exact = a.numpy().astype("float64") @ a.numpy().astype("float64")
    errors = {}
    for enabled in (False, True):
        tf.config.experimental.enable_tensor_float_32_execution(enabled)
        with tf.device(hardware):
            errors[enabled] = np.abs(tf.matmul(a, a).numpy() - exact).max() / np.abs(exact).max()
    assert errors[False] < 1e-5
    assert 1e-5 < errors[True] < 1e-2


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize(
    "component",
    [games.Component("loss", "relativistic"), games.Component("term", "r1")],
    ids=str,
)
def test_trains_in_tensor_float_32_as_on_the_cpu_in_float32(component, jit_compile, hardware):
    tf.config.experimental.enable_tensor_float_32_execution(True)
    found = games.train(hardware, "float32", jit_compile, **component.arguments())
    games.assert_close(games.reference(component), found, games.TOLERANCES["tf32"])
