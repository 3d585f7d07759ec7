"""The convolutions made for CPUs against TensorFlow's own, to the second derivative."""

import functools
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gan import convolutions, layers, precision

L = keras.layers


def normal(*shape, seed):
    return tf.random.stateless_normal(shape, seed=(seed, 0), dtype=tf.float64)


LARGE = {sides: normal(2, *sides, 3, seed=1) for sides in ((6, 8), (7, 5))}
SMALL = {(6, 8): normal(2, 3, 4, 5, seed=2), (7, 5): normal(2, 4, 3, 5, seed=2)}
KERNELS = {size: normal(size, size, 3, 5, seed=3) for size in (3, 4)}


def pair(name, sides):
    """Ours, TensorFlow's, and what they are applied to."""
    if name == "halve":
        return convolutions.halve, lambda x, k: tf.nn.conv2d(x, k, 2, "SAME"), LARGE[sides]
    return (
        lambda x, k: convolutions.double(x, k, sides),
        lambda x, k: tf.nn.conv2d_transpose(x, k, (2, *sides, 3), 2, "SAME"),
        SMALL[sides],
    )


@pytest.fixture(params=["parts", "products", "forwards"])
def form(request, monkeypatch):
    """Either form of the weight gradient, on few channels; and what CPUs without AVX-512 do."""
    monkeypatch.setattr(convolutions, "PART", 2)
    monkeypatch.setattr(convolutions, "forwards", lambda dtype: request.param == "forwards")
    with precision.graphs("bfloat16" if request.param == "products" else "float32"):
        yield


def derivatives(function, x, kernel):
    """Values, first and second derivatives by both arguments."""
    with tf.GradientTape() as outer:
        outer.watch((x, kernel))
        with tf.GradientTape() as inner:
            inner.watch((x, kernel))
            y = function(x, kernel)
            bent = tf.reduce_sum(tf.sin(y))
        first = inner.gradient(bent, (x, kernel))
        squares = sum(tf.reduce_sum(g**3) for g in first)
    return y, *first, *outer.gradient(squares, (x, kernel))


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("name", ["halve", "double"])
@pytest.mark.parametrize("sides", LARGE, ids=["even", "odd"])
@pytest.mark.parametrize("size", KERNELS)
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_values_first_and_second_derivatives(name, sides, size, graph):
    ours, theirs, x = pair(name, sides)
    run: Any = tf.function(derivatives) if graph else derivatives
    kernel = KERNELS[size]
    for value, expected in zip(run(ours, x, kernel), run(theirs, x, kernel), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sides", [(1, 1), (3, 3), (5, 3)])
@pytest.mark.parametrize("filters", [1, 4, 5])
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_sides_that_are_kept_to_the_second_derivative(sides, filters, graph):
    x, kernel = normal(2, 6, 5, 3, seed=6), normal(*sides, 3, filters, seed=7)
    run: Any = tf.function(derivatives) if graph else derivatives
    expected = run(lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"), x, kernel)
    for value, right in zip(run(convolutions.keep, x, kernel), expected, strict=True):
        np.testing.assert_allclose(value, right, rtol=1e-9, atol=1e-9)


def check_alike(ours, theirs, arguments):
    """Values and first derivatives by all arguments."""
    found = []
    for function in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = function(*arguments)
            loss = tf.reduce_sum(tf.sin(value))
        found.append((value, *tape.gradient(loss, arguments)))
    for value, expected in zip(*found, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("filters", [1, 5])
def test_the_weight_gradient_of_sides_that_are_kept_differentiates(filters):
    """By both of its arguments, against TensorFlow's."""
    arguments = normal(2, 6, 5, 3, seed=6), normal(2, 6, 5, filters, seed=8)

    def theirs(inputs, outputs):
        return tf.raw_ops.Conv2DBackpropFilter(
            input=inputs,
            filter_sizes=(3, 3, 3, filters),
            out_backprop=outputs,
            strides=[1, 1, 1, 1],
            padding="SAME",
        )

    check_alike(lambda x, y: convolutions.kept_weight_gradient(x, y, (3, 3)), theirs, arguments)


@pytest.mark.parametrize(
    ("flags", "dtype", "precision_of_graphs", "expected"),
    [
        ({"avx2"}, "float32", "float32", True),
        ({"avx2", "avx512f"}, "float32", "float32", False),
        (set(), "float32", "float32", False),
        ({"avx2"}, "bfloat16", "float32", False),
        ({"avx2"}, "float32", "bfloat16", False),
    ],
)
def test_gradients_go_forwards_where_that_was_measured(
    flags, dtype, precision_of_graphs, expected, monkeypatch
):
    monkeypatch.setattr(precision, "cpu_flags", lambda: flags)
    # As it is, and not what it has remembered of this machine.
    monkeypatch.setattr(
        convolutions, "_has_slow_gradients", convolutions._has_slow_gradients.__wrapped__
    )
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with precision.graphs(precision_of_graphs):
        assert convolutions.forwards(dtype) == expected
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    assert not convolutions.forwards("float32")


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("name", ["halve", "double"])
def test_a_gradient_that_has_lost_its_shape_is_taken(name):
    ours, theirs, x = pair(name, (6, 8))
    kernel = KERNELS[4]

    @tf.custom_gradient
    def forget(y):
        return y, lambda upstream: tf.numpy_function(np.array, [upstream], upstream.dtype)

    @tf.function
    def gradients(function):
        with tf.GradientTape() as tape:
            tape.watch((x, kernel))
            loss = tf.reduce_sum(tf.sin(forget(function(x, kernel))))
        return tape.gradient(loss, (x, kernel))

    for value, expected in zip(gradients(ours), gradients(theirs), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("sides", LARGE, ids=["even", "odd"])
@pytest.mark.parametrize("size", KERNELS)
def test_the_weight_gradient_differentiates(sides, size):
    """By both of its arguments, against TensorFlow's."""
    arguments = (LARGE[sides], SMALL[sides])

    def ours(large, small):
        return convolutions.weight_gradient(large, small, size)

    def theirs(large, small):
        return tf.raw_ops.Conv2DBackpropFilter(
            input=large,
            filter_sizes=(size, size, 3, 5),
            out_backprop=small,
            strides=[1, 2, 2, 1],
            padding="SAME",
        )

    check_alike(ours, theirs, arguments)


def trained(alike, shape):
    """Of layers with the same weights: values and gradients by inputs and weights, in training."""
    x = tf.random.stateless_normal(shape, seed=(4, 5))
    found = []
    for layer in alike:
        layer.build(shape)
        shapes = [weights.shape for weights in layer.trainable_variables]
        layer.set_weights([0.1 * normal(*s, seed=9).numpy() for s in shapes])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(tf.square(tf.cast(y, "float32")))
        values = (y, *tape.gradient(loss, [x, *layer.trainable_variables]))
        found.append([np.asarray(value, "float32") for value in values])
    return found


@pytest.mark.parametrize("kind", ["Conv2D", "Conv2DTranspose"])
@pytest.mark.parametrize("dtype", ["float32", "float32, forwards", "mixed_bfloat16"])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize(("size", "side"), [(4, 8), (4, 7), (3, 8), (3, 7)])
def test_the_layers_are_keras_layers(kind, dtype, strides, size, side, monkeypatch):
    """Same weights, same function; in bfloat16 as near as bfloat16 is, or as Keras's own layer."""
    dtype, _, by_forwards = dtype.partition(", ")
    monkeypatch.setattr(convolutions, "forwards", lambda dtype: bool(by_forwards))
    arguments = {"filters": 32, "kernel_size": size, "strides": strides, "padding": "same"}
    exact = getattr(L, kind)(**arguments)
    ours, theirs = (getattr(place, kind)(dtype=dtype, **arguments) for place in (layers, L))
    found = trained([exact, ours, theirs], (2, side, side, 32))
    # CPUs without bfloat16 products add up in it, by Keras's layer, and lose digits by that.
    # In float32 other sums round otherwise.
    tolerance = {"float32": 3e-6 if by_forwards else 1e-6}.get(dtype, 2e-2)
    for right, value, keras_value in zip(*found, strict=True):
        error, keras_error = (np.abs(v - right).max() for v in (value, keras_value))
        assert error <= max(tolerance * np.abs(right).max(), keras_error)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(ours))
    assert type(again) is type(ours)


@pytest.mark.parametrize("kind", ["Conv2D", "Conv2DTranspose"])
@pytest.mark.parametrize(("channels", "size"), [(32, 4), (600, 4), (32, 3), (600, 3)])
@pytest.mark.parametrize("side", [4, 7])
def test_the_form_is_chosen_by_the_precision_and_the_channels(
    kind, channels, size, side, monkeypatch
):
    monkeypatch.setattr(convolutions, "forwards", lambda dtype: False)
    filters, given = (8, channels) if kind == "Conv2D" else (channels, 8)
    layer = getattr(layers, kind)(filters, size, strides=2, padding="same", use_bias=False)
    x = tf.zeros((2, side, side, given))
    layer.build(x.shape)

    def products():
        def gradient(x):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(layer(x, training=True))
            return tape.gradient(loss, layer.trainable_variables)

        graph = tf.function(gradient).get_concrete_function(x).graph
        kinds = [op.type for op in graph.get_operations()]
        return kinds.count("Conv2DBackpropFilter"), kinds.count("MatMul")

    # 600 channels are 4 parts of 128 and one of 88.
    assert products() == (5 if (channels, size) == (600, 4) else 1, 0)
    with precision.graphs("bfloat16"):
        assert products() == (0, 4)


@pytest.mark.parametrize(
    "other",
    [
        {"padding": "valid"},
        {"padding": "valid", "strides": 2},
        {"dilation_rate": 2},
        {"kernel_size": (2, 3)},
        {"kernel_size": 4},
        {"kernel_size": 4, "strides": (1, 2)},
        {"groups": 2},
        {"groups": 2, "strides": 2},
    ],
    ids=str,
)
def test_other_forms_stay(other, monkeypatch):
    """What the forms of strides 1 and 2 have no place for is computed as Keras does."""
    monkeypatch.setattr(convolutions, "forwards", lambda dtype: True)
    arguments = {"filters": 32, "kernel_size": 3, "padding": "same", **other}
    right, value = trained([L.Conv2D(**arguments), layers.Conv2D(**arguments)], (2, 9, 8, 128))
    for expected, found in zip(right, value, strict=True):
        assert np.abs(found - expected).max() <= 3e-6 * np.abs(expected).max()


def test_other_forms_of_pictures_stay(monkeypatch):
    """Channels first, for which TensorFlow has no kernel on a CPU, and sides that are unknown."""
    monkeypatch.setattr(convolutions, "forwards", lambda dtype: True)
    for strides, asked in ((1, layers._keeps), (2, layers._halves)):
        make = functools.partial(layers.Conv2D, 32, 3, strides, padding="same")
        assert asked(make(), (8, 8), 128)
        assert not asked(make(), (8, None), 128)
        assert not asked(make(), (8, 8), 8)
        assert not asked(make(data_format="channels_first"), (128, 8), None)


def test_what_goes_backwards_elsewhere_goes_forwards(monkeypatch):
    """In training alone: a graph that is exported holds TensorFlow's operations, and only them."""
    monkeypatch.setattr(convolutions, "forwards", lambda dtype: True)
    up, kept = layers.Conv2DTranspose(32, 4, 2, "same"), layers.Conv2D(48, 3, padding="same")
    down, last = layers.Conv2D(32, 4, 2, "same"), layers.Conv2D(1, 3, padding="same")
    network = keras.Sequential([up, kept, down, last])
    network.build((None, 4, 4, 32))

    def kinds(function):
        graph = tf.function(function).get_concrete_function(tf.zeros((2, 4, 4, 32))).graph
        return [op.type for op in graph.get_operations()]

    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(network(x, training=True))
        return tape.gradient(loss, [x, *network.trainable_variables])

    assert kinds(gradients).count("Conv2DBackpropInput") == 0
    # That of the 3 x 3 kernel with 48 filters; those of the others are products.
    assert kinds(gradients).count("Conv2DBackpropFilter") == 1
    forward = kinds(lambda x: network(x, training=False))
    assert forward.count("Conv2DBackpropInput") == 1
    assert "IdentityN" not in forward  # what a gradient of our own is wrapped in


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

    expected = derivatives(one_by_one, x, kernel)
    layer = layers.Conv2D(12, 3, strides, "same", groups=3, use_bias=False)
    layer.build(x.shape)
    assert layer.kernel.shape == kernel.shape
    layer.kernel.assign(kernel)
    np.testing.assert_allclose(layer(x), expected[0], atol=1e-4)
    for in_one in {convolutions.groups_in_one("float32"), False}:
        monkeypatch.setattr(convolutions, "groups_in_one", lambda dtype, answer=in_one: answer)
        found = derivatives(lambda x, k: convolutions.grouped(x, k, 3, strides), x, kernel)
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
