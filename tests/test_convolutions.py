"""Convolutions optimized for CPUs against TensorFlow's own, up to second derivatives."""

import functools
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gan import convolutions, layers, precision
from keras_gan.layers import convolution
from serving import processor

L = keras.layers


def normal(*shape, seed):
    return tf.random.stateless_normal(shape, seed=(seed, 0), dtype=tf.float64)


# Inputs and outputs of a stride-2 convolution, by the height and width of its inputs.
INPUTS = {size: normal(2, *size, 3, seed=1) for size in ((6, 8), (7, 5))}
OUTPUTS = {(6, 8): normal(2, 3, 4, 5, seed=2), (7, 5): normal(2, 4, 3, 5, seed=2)}
KERNELS = {size: normal(size, size, 3, 5, seed=3) for size in (3, 4)}


def pair(name, size):
    """Returns our function, TensorFlow's, and inputs for both."""
    if name == "conv2d_stride2":
        return convolutions.conv2d_stride2, lambda x, k: tf.nn.conv2d(x, k, 2, "SAME"), INPUTS[size]
    return (
        lambda x, k: convolutions.conv2d_transpose_stride2(x, k, size),
        lambda x, k: tf.nn.conv2d_transpose(x, k, (2, *size, 3), 2, "SAME"),
        OUTPUTS[size],
    )


@pytest.fixture(params=["blocks", "products", "forward_kernels"])
def form(request, monkeypatch):
    """Selects a form of the weight gradient, on few channels, or the forms without AVX-512."""
    monkeypatch.setattr(convolutions, "CHANNEL_BLOCK", 2)
    monkeypatch.setattr(
        convolutions, "prefers_forward_kernels", lambda dtype: request.param == "forward_kernels"
    )
    with precision.graphs("bfloat16" if request.param == "products" else "float32"):
        yield


def derivatives(function, x, kernel):
    """Returns values, first and second derivatives with respect to both arguments."""
    with tf.GradientTape() as outer:
        outer.watch((x, kernel))
        with tf.GradientTape() as inner:
            inner.watch((x, kernel))
            y = function(x, kernel)
            loss = tf.reduce_sum(tf.sin(y))
        first = inner.gradient(loss, (x, kernel))
        cubes = sum(tf.reduce_sum(g**3) for g in first)
    return y, *first, *outer.gradient(cubes, (x, kernel))


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("name", ["conv2d_stride2", "conv2d_transpose_stride2"])
@pytest.mark.parametrize("size", INPUTS, ids=["even", "odd"])
@pytest.mark.parametrize("kernel_size", KERNELS)
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_values_first_and_second_derivatives(name, size, kernel_size, graph):
    ours, theirs, x = pair(name, size)
    run: Any = tf.function(derivatives) if graph else derivatives
    kernel = KERNELS[kernel_size]
    for value, expected in zip(run(ours, x, kernel), run(theirs, x, kernel), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kernel_size", [(1, 1), (3, 3), (5, 3)])
@pytest.mark.parametrize("filters", [1, 4, 5])
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_unit_stride_up_to_the_second_derivative(kernel_size, filters, graph):
    x, kernel = normal(2, 6, 5, 3, seed=6), normal(*kernel_size, 3, filters, seed=7)
    run: Any = tf.function(derivatives) if graph else derivatives
    expected = run(lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"), x, kernel)
    for value, right in zip(run(convolutions.conv2d_same, x, kernel), expected, strict=True):
        np.testing.assert_allclose(value, right, rtol=1e-9, atol=1e-9)


def check_alike(ours, theirs, arguments):
    """Compares values and first derivatives with respect to all arguments."""
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
def test_the_unit_stride_weight_gradient_is_differentiable(filters):
    """With respect to both of its arguments, against TensorFlow's."""
    arguments = normal(2, 6, 5, 3, seed=6), normal(2, 6, 5, filters, seed=8)

    def theirs(inputs, outputs):
        return tf.raw_ops.Conv2DBackpropFilter(
            input=inputs,
            filter_sizes=(3, 3, 3, filters),
            out_backprop=outputs,
            strides=[1, 1, 1, 1],
            padding="SAME",
        )

    def ours(inputs, outputs):
        return convolutions.conv2d_same_weight_gradient(inputs, outputs, (3, 3))

    check_alike(ours, theirs, arguments)


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
def test_forward_kernels_are_used_where_they_were_measured_to_be_faster(
    flags, dtype, precision_of_graphs, expected, monkeypatch
):
    monkeypatch.setattr(processor, "flags", lambda: flags)
    # The cached answer for this machine is bypassed.
    monkeypatch.setattr(
        convolutions, "_has_slow_gradients", convolutions._has_slow_gradients.__wrapped__
    )
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with precision.graphs(precision_of_graphs):
        assert convolutions.prefers_forward_kernels(dtype) == expected
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    assert not convolutions.prefers_forward_kernels("float32")


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("name", ["conv2d_stride2", "conv2d_transpose_stride2"])
def test_an_upstream_gradient_without_a_static_shape_is_accepted(name):
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
@pytest.mark.parametrize("size", INPUTS, ids=["even", "odd"])
@pytest.mark.parametrize("kernel_size", KERNELS)
def test_the_stride_2_weight_gradient_is_differentiable(size, kernel_size):
    """With respect to both of its arguments, against TensorFlow's."""
    arguments = (INPUTS[size], OUTPUTS[size])

    def ours(inputs, outputs):
        return convolutions.conv2d_stride2_weight_gradient(inputs, outputs, kernel_size)

    def theirs(inputs, outputs):
        return tf.raw_ops.Conv2DBackpropFilter(
            input=inputs,
            filter_sizes=(kernel_size, kernel_size, 3, 5),
            out_backprop=outputs,
            strides=[1, 2, 2, 1],
            padding="SAME",
        )

    check_alike(ours, theirs, arguments)


def trained(alike, shape):
    """Returns values and gradients of layers with equal weights, in training."""
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
@pytest.mark.parametrize("dtype", ["float32", "float32, forward kernels", "mixed_bfloat16"])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize(("kernel_size", "height"), [(4, 8), (4, 7), (3, 8), (3, 7)])
def test_the_layers_compute_what_keras_layers_do(
    kind, dtype, strides, kernel_size, height, monkeypatch
):
    """With the same weights; in bfloat16 within its precision, or as close as Keras's layer."""
    dtype, _, forward_kernels = dtype.partition(", ")
    monkeypatch.setattr(
        convolutions, "prefers_forward_kernels", lambda dtype: bool(forward_kernels)
    )
    arguments = {"filters": 32, "kernel_size": kernel_size, "strides": strides, "padding": "same"}
    exact = getattr(L, kind)(**arguments)
    ours, theirs = (getattr(place, kind)(dtype=dtype, **arguments) for place in (layers, L))
    found = trained([exact, ours, theirs], (2, height, height, 32))
    # On CPUs without bfloat16 products, Keras's layer also accumulates in bfloat16, which loses
    # digits. In float32, sums in another order round differently.
    tolerance = {"float32": 3e-6 if forward_kernels else 1e-6}.get(dtype, 2e-2)
    for right, value, keras_value in zip(*found, strict=True):
        error, keras_error = (np.abs(v - right).max() for v in (value, keras_value))
        assert error <= max(tolerance * np.abs(right).max(), keras_error)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(ours))
    assert type(again) is type(ours)


@pytest.mark.parametrize("kind", ["Conv2D", "Conv2DTranspose"])
@pytest.mark.parametrize(("channels", "kernel_size"), [(32, 4), (600, 4), (32, 3), (600, 3)])
@pytest.mark.parametrize("height", [4, 7])
def test_the_form_is_chosen_by_the_precision_and_the_channels(
    kind, channels, kernel_size, height, monkeypatch
):
    monkeypatch.setattr(convolutions, "prefers_forward_kernels", lambda dtype: False)
    filters, given = (8, channels) if kind == "Conv2D" else (channels, 8)
    layer = getattr(layers, kind)(filters, kernel_size, strides=2, padding="same", use_bias=False)
    x = tf.zeros((2, height, height, given))
    layer.build(x.shape)

    def products():
        def gradient(x):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(layer(x, training=True))
            return tape.gradient(loss, layer.trainable_variables)

        graph = tf.function(gradient).get_concrete_function(x).graph
        kinds = [op.type for op in graph.get_operations()]
        return kinds.count("Conv2DBackpropFilter"), kinds.count("MatMul")

    # 600 channels are 4 blocks of 128 and one of 88.
    assert products() == (5 if (channels, kernel_size) == (600, 4) else 1, 0)
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
def test_other_arguments_are_left_to_keras(other, monkeypatch):
    """Convolutions that the optimized forms do not support are computed by Keras."""
    monkeypatch.setattr(convolutions, "prefers_forward_kernels", lambda dtype: True)
    arguments = {"filters": 32, "kernel_size": 3, "padding": "same", **other}
    right, value = trained([L.Conv2D(**arguments), layers.Conv2D(**arguments)], (2, 9, 8, 128))
    for expected, found in zip(right, value, strict=True):
        assert np.abs(found - expected).max() <= 3e-6 * np.abs(expected).max()


def test_other_inputs_are_left_to_keras(monkeypatch):
    """Channels first, for which TensorFlow has no kernel on a CPU, and unknown sizes."""
    monkeypatch.setattr(convolutions, "prefers_forward_kernels", lambda dtype: True)
    for strides, prefers in ((1, convolution.prefers_same), (2, convolution.prefers_stride2)):
        make = functools.partial(layers.Conv2D, 32, 3, strides, padding="same")
        assert prefers(make(), (8, 8), 128)
        assert not prefers(make(), (8, None), 128)
        assert not prefers(make(), (8, 8), 8)
        assert not prefers(make(data_format="channels_first"), (128, 8), None)


def test_forward_kernels_replace_the_gradient_kernels_in_training_only(monkeypatch):
    """An exported graph contains TensorFlow's operations only."""
    monkeypatch.setattr(convolutions, "prefers_forward_kernels", lambda dtype: True)
    up, same = layers.Conv2DTranspose(32, 4, 2, "same"), layers.Conv2D(48, 3, padding="same")
    down, last = layers.Conv2D(32, 4, 2, "same"), layers.Conv2D(1, 3, padding="same")
    network = keras.Sequential([up, same, down, last])
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
    # It belongs to the 3 x 3 kernel with 48 filters; the other weight gradients are products.
    assert kinds(gradients).count("Conv2DBackpropFilter") == 1
    forward = kinds(lambda x: network(x, training=False))
    assert forward.count("Conv2DBackpropInput") == 1
    assert "IdentityN" not in forward  # the operation around a custom gradient


@pytest.mark.parametrize("strides", [1, 2])
def test_a_grouped_convolution_is_one_convolution_for_each_group(strides, monkeypatch):
    """Up to the second derivative, in one operation where the machine can, and in several."""
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
    for in_one in {convolutions.differentiates_grouped("float32"), False}:
        monkeypatch.setattr(
            convolutions, "differentiates_grouped", lambda dtype, answer=in_one: answer
        )
        found = derivatives(lambda x, k: convolutions.conv2d_grouped(x, k, 3, strides), x, kernel)
        for value, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, right, rtol=2e-3, atol=2e-3 * np.abs(right).max())


def test_missing_kernels_for_grouped_convolutions_are_detected():
    """There is none for float64 on a CPU."""
    assert not convolutions.differentiates_grouped("float64")
    layer = layers.Conv2D(4, 3, groups=2, dtype="float64")
    x = normal(1, 5, 5, 4, seed=6)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    assert tape.gradient(y, x).shape == x.shape
