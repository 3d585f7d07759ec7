"""Layer normalization in an export: one node, exact, and similar computations are left alone."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from export import layer_norm
from export.network import open_network
from export.to_onnx import open_session, to_onnx

RNG = np.random.default_rng(0)
TIME = (None, 6)


def built(function, shape=TIME):
    """A network of one input, with random weights."""
    given = keras.Input(shape, name="condition")
    model = keras.Model(given, function(given))
    for weight in model.weights:
        weight.assign(RNG.normal(size=weight.shape))
    return model


def exported(model, opset=17):
    return to_onnx(open_network(model, role="translator"), opset)


def run(model, x):
    return open_session(model.SerializeToString()).run(None, {"condition": x})[0]


def operators(model):
    return [node.op_type for node in model.graph.node]


def samples(shape, scale=1.0, shift=0.0):
    sizes = [7 if size is None else size for size in shape]
    return (RNG.normal(size=(5, *sizes)) * scale + shift).astype("float32")


# ------------------------------------------------------------------ the layer of Keras


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}], ids=str)
@pytest.mark.parametrize("shape", [(6,), TIME, (4, 5, 6), (2, 3, 4, 6)], ids=str)
def test_a_layer_is_one_node(shape, options, opset, monkeypatch):
    layer = layers.LayerNormalization(epsilon=1e-4, **options)
    model = built(layer, shape)
    found = exported(model, opset)
    assert operators(found) == ["LayerNormalization"]
    monkeypatch.setattr(layer_norm, "OPSET", 99)
    before = exported(model, opset)
    assert len(operators(before)) > 10
    for scale, shift in ((1.0, 0.0), (1e-3, 0.0), (3.0, 10.0)):
        x = samples(shape, scale, shift)
        wide = x.astype("float64")
        center = wide - wide.mean(axis=-1, keepdims=True)
        exact = center / np.sqrt(wide.var(axis=-1, keepdims=True) + 1e-4)
        exact = exact * (layer.gamma.numpy() if layer.scale else 1)
        exact = exact + (layer.beta.numpy() if layer.center else 0)
        most, old, new = np.abs(exact).max(), run(before, x), run(found, x)
        # No farther from the exact values than the nodes that it replaces, but for some roundings.
        assert np.abs(new - exact).max() <= np.abs(old - exact).max() + 1e-6 * most
        if shift == 0:
            assert np.abs(new - old).max() <= 1e-6 * most


def test_neither_scale_nor_shift():
    model = built(layers.LayerNormalization(scale=False, center=False))
    found = exported(model)
    assert operators(found) == ["LayerNormalization"]
    (node,) = found.graph.node
    assert len(node.input) == 2  # onnxruntime needs a scale, of ones
    x = samples(TIME)
    np.testing.assert_allclose(run(found, x), model(x), atol=2e-6)


def test_layers_between_convolutions():
    """As in a vocoder: each convolution has a bias, and one tensor is read twice."""

    def blocks(x):
        x = layers.Conv1D(8, 3, padding="same")(x)
        x = layers.LayerNormalization()(x)
        for _ in range(2):
            y = layers.DepthwiseConv1D(3, padding="same")(x)
            y = layers.Dense(16, "silu")(layers.LayerNormalization(epsilon=1e-6)(y))
            x = x + layers.Dense(8)(y)
        return layers.LayerNormalization()(x)

    model = built(blocks)
    found = exported(model)
    assert operators(found).count("LayerNormalization") == 4
    assert not {"ReduceMean", "Reciprocal", "Neg"} & set(operators(found))
    for time in (1, 50):
        x = samples((time, 6))
        expected = model(x).numpy()
        assert np.abs(run(found, x) - expected).max() <= 1e-5 * np.abs(expected).max()


# ------------------------------------------------------------------ what is left alone


def normalized(x, gamma=None, beta=None, axis=-1, **changes):
    """Computes layer normalization as Keras does; `changes` are those of similar computations."""
    mean, variance = ops.moments(x, axes=[axis], keepdims=True)
    if "other" in changes:
        variance = ops.moments(x, axes=[changes["other"]], keepdims=True)[1]
    factor = ops.rsqrt(variance + changes.get("epsilon", np.float32(1e-3)))
    factor = factor if gamma is None else factor * gamma
    shift = -changes.get("mean", mean) if changes.get("subtracted", True) else mean
    shift = shift * factor
    shift = shift if beta is None else shift + beta
    return x * factor + shift


class Computed(layers.Layer):
    """A layer that computes a function of its input, and perhaps of its weights."""

    def __init__(self, function, **options):
        super().__init__(**options)
        self.function = function

    def call(self, x):
        return self.function(x)


SIMILAR = {
    "another axis": (lambda: layers.LayerNormalization(axis=1), (5, 6)),
    "several axes": (lambda: layers.LayerNormalization(axis=[1, 2]), (5, 6)),
    "root mean square": (lambda: layers.RMSNormalization(), TIME),
    "groups": (lambda: layers.GroupNormalization(2), TIME),
    "unit length": (lambda: layers.UnitNormalization(), TIME),
    "variance of another axis": (lambda: Computed(lambda x: normalized(x, other=1)), (6, 6)),
    "the mean is added": (lambda: Computed(lambda x: normalized(x, subtracted=False)), TIME),
    "another mean": (
        lambda: Computed(lambda x: normalized(x, mean=ops.mean(2 * x, axis=-1, keepdims=True))),
        TIME,
    ),
    "epsilon of each channel": (
        lambda: Computed(lambda x: normalized(x, epsilon=np.full(6, 1e-3, "float32"))),
        TIME,
    ),
    "scale of each value": (
        lambda: Computed(lambda x: normalized(x, np.ones((1, 5, 6), "float32"))),
        (5, 6),
    ),
    "scale of the sample": (lambda: Computed(lambda x: normalized(x, ops.tanh(x))), TIME),
    "shift of the sample": (lambda: Computed(lambda x: normalized(x, beta=ops.tanh(x))), TIME),
}


@pytest.mark.parametrize("name", SIMILAR)
def test_similar_computations_stay(name):
    layer, shape = SIMILAR[name]
    model = built(layer(), shape)
    found = exported(model)
    assert "LayerNormalization" not in operators(found)
    x = samples(shape)
    expected = model(x).numpy()
    assert np.abs(run(found, x) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_values_that_others_read_stay():
    def both(x):
        mean, variance = ops.moments(x, axes=[-1], keepdims=True)
        factor = ops.rsqrt(variance + np.float32(1e-3))
        return x * factor + -mean * factor + factor

    model = built(Computed(both))
    found, x = exported(model), samples(TIME)
    assert "LayerNormalization" not in operators(found)
    np.testing.assert_allclose(run(found, x), model(x), rtol=1e-5, atol=1e-5)


def test_the_computation_of_the_tests_is_that_of_the_layer():
    model = built(Computed(normalized))
    assert operators(exported(model)) == ["LayerNormalization"]


@pytest.mark.parametrize("opset", [13, 16])
def test_older_operator_sets_have_no_such_node(opset):
    model = built(layers.LayerNormalization())
    found, x = exported(model, opset), samples(TIME)
    assert "LayerNormalization" not in operators(found)
    np.testing.assert_allclose(run(found, x), model(x), rtol=1e-5, atol=1e-5)
