"""The convolutions that halve and double against TensorFlow's own, to the second derivative."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gan import convolutions, layers, precision

L = keras.layers


def normal(*shape, seed):
    return tf.random.stateless_normal(shape, seed=(seed, 0), dtype=tf.float64)


LARGE, SMALL, KERNEL = (
    normal(2, 6, 8, 3, seed=1),
    normal(2, 3, 4, 5, seed=2),
    normal(4, 4, 3, 5, seed=3),
)
PAIRS = {
    "halve": (convolutions.halve, lambda x, k: tf.nn.conv2d(x, k, 2, "SAME"), LARGE),
    "double": (
        convolutions.double,
        lambda x, k: tf.nn.conv2d_transpose(x, k, (2, 6, 8, 3), 2, "SAME"),
        SMALL,
    ),
}


@pytest.fixture(params=["parts", "products"])
def form(request, monkeypatch):
    """Either form of the weight gradient, on few channels."""
    monkeypatch.setattr(convolutions, "PART", 2)
    with precision.graphs("bfloat16" if request.param == "products" else "float32"):
        yield


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_values_first_and_second_derivatives(name, graph):
    ours, theirs, x = PAIRS[name]

    def derivatives(function):
        with tf.GradientTape() as outer:
            outer.watch((x, KERNEL))
            with tf.GradientTape() as inner:
                inner.watch((x, KERNEL))
                y = function(x, KERNEL)
                bent = tf.reduce_sum(tf.sin(y))
            first = inner.gradient(bent, (x, KERNEL))
            squares = sum(tf.reduce_sum(g**3) for g in first)
        return y, *first, *outer.gradient(squares, (x, KERNEL))

    run = tf.function(derivatives) if graph else derivatives
    for value, expected in zip(run(ours), run(theirs), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("form")
def test_the_weight_gradient_differentiates():
    """By both of its arguments, against TensorFlow's."""

    def theirs(large, small):
        return tf.raw_ops.Conv2DBackpropFilter(
            input=large,
            filter_sizes=(4, 4, 3, 5),
            out_backprop=small,
            strides=[1, 2, 2, 1],
            padding="SAME",
        )

    found = []
    for function in (convolutions.weight_gradient, theirs):
        with tf.GradientTape() as tape:
            tape.watch((LARGE, SMALL))
            value = function(LARGE, SMALL)
            loss = tf.reduce_sum(tf.sin(value))
        found.append((value, *tape.gradient(loss, (LARGE, SMALL))))
    for value, expected in zip(*found, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["Conv2D", "Conv2DTranspose"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_the_layers_are_keras_layers(kind, dtype):
    """Same weights, same function; the gradient in bfloat16 as near as bfloat16 is."""
    arguments = {"filters": 32, "kernel_size": 4, "strides": 2, "padding": "same", "dtype": dtype}
    ours, theirs = getattr(layers, kind)(**arguments), getattr(L, kind)(**arguments)
    x = tf.random.stateless_normal((2, 8, 8, 32), seed=(4, 5))
    theirs.build(x.shape)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    found = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            y = layer(x)
            loss = tf.reduce_sum(tf.square(tf.cast(y, "float32")))
        found.append((y, *tape.gradient(loss, layer.trainable_variables)))
    for value, expected in zip(*found, strict=True):
        scale = np.abs(np.asarray(expected, "float32")).max()
        tolerance = 1e-6 if dtype == "float32" else 2e-2
        error = np.abs(np.asarray(value, "float32") - np.asarray(expected, "float32")).max()
        assert error <= tolerance * scale
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(ours))
    assert type(again) is type(ours)


@pytest.mark.parametrize("kind", ["Conv2D", "Conv2DTranspose"])
@pytest.mark.parametrize("channels", [32, 600])
def test_the_form_is_chosen_by_the_precision_and_the_channels(kind, channels):
    filters, given = (8, channels) if kind == "Conv2D" else (channels, 8)
    layer = getattr(layers, kind)(filters, 4, strides=2, padding="same", use_bias=False)
    x = tf.zeros((2, 4, 4, given))
    layer.build(x.shape)

    def products():
        def gradient(x):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(layer(x))
            return tape.gradient(loss, layer.trainable_variables)

        graph = tf.function(gradient).get_concrete_function(x).graph
        kinds = [op.type for op in graph.get_operations()]
        return kinds.count("Conv2DBackpropFilter"), kinds.count("MatMul")

    # 600 channels are 4 parts of 128 and one of 88.
    assert products() == ({32: 1, 600: 5}[channels], 0)
    with precision.graphs("bfloat16"):
        assert products() == (0, 4)


@pytest.mark.parametrize("strides", [1, 2])
def test_groups_are_convolutions_of_their_own_to_the_second_derivative(strides, monkeypatch):
    """In one operation where the machine can, else in several; in numpy's order of channels."""
    x = tf.cast(normal(2, 6, 5, 6, seed=4), "float32")
    kernel = tf.cast(normal(3, 3, 2, 12, seed=5), "float32")

    def one_by_one(x, kernel):
        parts = [
            tf.nn.conv2d(x[..., 2 * g : 2 * g + 2], kernel[..., 4 * g : 4 * g + 4], strides, "SAME")
            for g in range(3)
        ]
        return tf.concat(parts, -1)

    def derivatives(function):
        with tf.GradientTape() as outer:
            outer.watch((x, kernel))
            with tf.GradientTape() as inner:
                inner.watch((x, kernel))
                y = function(x, kernel)
                bent = tf.reduce_sum(tf.sin(y))
            first = inner.gradient(bent, (x, kernel))
            squares = sum(tf.reduce_sum(g**3) for g in first)
        return y, *first, *outer.gradient(squares, (x, kernel))

    expected = derivatives(one_by_one)
    layer = layers.Conv2D(12, 3, strides, "same", groups=3, use_bias=False)
    layer.build(x.shape)
    assert layer.kernel.shape == kernel.shape
    layer.kernel.assign(kernel)
    np.testing.assert_allclose(layer(x), expected[0], atol=1e-4)
    for in_one in {convolutions.groups_in_one("float32"), False}:
        monkeypatch.setattr(convolutions, "groups_in_one", lambda dtype, answer=in_one: answer)
        found = derivatives(lambda x, k: convolutions.grouped(x, k, 3, strides))
        for value, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, right, rtol=2e-3, atol=2e-3 * np.abs(right).max())


def test_what_cannot_be_done_in_one_is_found_by_trying():
    """In float64 there is no kernel for it on a CPU."""
    assert not convolutions.groups_in_one("float64")
    layer = layers.Conv2D(4, 3, groups=2, dtype="float64")
    x = normal(1, 5, 5, 4, seed=6)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    assert tape.gradient(y, x).shape == x.shape
