"""Resizes of images: what onnxruntime computes is what TensorFlow computes, by every method."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from export import convert, resizing
from export.network import open_network
from export.to_onnx import open_session, to_onnx
from keras_gan import UsageError

PIXELS, OTHERS = ("nearest", "bilinear", "bicubic"), ("lanczos3", "lanczos5")
# Down, up, both, halved and doubled (in one axis), to one pixel, to the same size.
SIZES = ((3, 4), (13, 5), (10, 3), (1, 6))


@keras.saving.register_keras_serializable("test_export_resizing")
class Resize(L.Layer):
    """Any function of an image as a layer."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, images):
        return self.function(images)


def resize(size, method, antialias=False):
    return Resize(lambda x: tf.image.resize(x, size, method, antialias=antialias))


def legacy(op, size, **options):
    function = getattr(tf.compat.v1.image, op)
    return Resize(lambda x: function(x, size, **options))


def fixed(size):
    """Every way to resize to a size, by name."""
    ways = {f"Resizing {m}": L.Resizing(*size, m) for m in (*PIXELS, *OTHERS)}
    for method, antialias in itertools.product((*PIXELS, "lanczos3"), (False, True)):
        ways[f"ops {method} {antialias}"] = Resize(
            lambda x, m=method, a=antialias: keras.ops.image.resize(
                x, size, interpolation=m, antialias=a
            )
        )
    for method in ("area", "gaussian", "mitchellcubic"):
        ways[f"tf {method}"] = resize(size, method)
    ways["tf bicubic antialias"] = resize(size, "bicubic", antialias=True)
    for op in ("resize_bilinear", "resize_bicubic", "resize_nearest_neighbor"):
        ways[f"{op} legacy"] = legacy(op, size)
        ways[f"{op} corners"] = legacy(op, size, align_corners=True)
    return ways


def deviations(layers, images, opset=17, shape=None, dtype="float32"):
    """The relative difference of each resize, all of them outputs of one network."""
    given = keras.Input(shape or images.shape[1:], name="picture", dtype=dtype)
    outputs = {f"output_{i}": layer(given) for i, layer in enumerate(layers.values())}
    network = open_network(keras.Model(given, outputs), role="resizer")
    session = open_session(to_onnx(network, opset).SerializeToString())
    names = [port.name for port in session.get_outputs()]
    got = dict(zip(names, session.run(None, {"picture": images}), strict=True))
    expected = network.run({"picture": images})
    assert list(got) == list(expected)
    worst = {}
    for name, key in zip(layers, expected, strict=True):
        want = expected[key].numpy()
        assert got[key].shape == want.shape, name
        assert got[key].dtype == want.dtype, name
        worst[name] = float(np.abs(got[key] - want.astype("float64")).max() / np.ptp(images))
    return worst


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype("float32")


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_resize_to_a_fixed_size_is_exact(size, images):
    worst = deviations(fixed(size), images)
    assert {name: value for name, value in worst.items() if not value < 1e-6} == {}


def test_every_upsampling_is_exact(images):
    layers = {
        f"{method} {factor}": L.UpSampling2D(factor, interpolation=method)
        for method in (*PIXELS, *OTHERS)
        for factor in (2, 3, (4, 5))
    }
    worst = deviations(layers, images)
    assert {name: value for name, value in worst.items() if not value < 1e-6} == {}


def test_positions_that_float32_rounds_are_those_of_tensorflow():
    """Where a picture is large, ONNX's Resize is off by 1e-5: its positions are rounded."""
    images = np.random.default_rng(0).normal(size=(1, 301, 4, 1)).astype("float32")
    layers = {m: L.Resizing(700, 4, m) for m in PIXELS}
    worst = deviations(layers, images)
    assert {name: value for name, value in worst.items() if not value < 1e-6} == {}


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16"])
def test_other_types_of_pixels(dtype, images):
    pixels = np.clip(images * 40 + 100, 0, 255).astype(dtype)
    layers = {m: resize((7, 4), m) for m in (*PIXELS, "area", "lanczos3")}
    layers["repeated"] = resize((10, 12), "nearest")
    # In mixed precision the network is a float32 copy, so half precision is a cast of the layer.
    if dtype == "float16":
        cast = {
            n: Resize(lambda x, f=f.function: f(tf.cast(x, tf.float16))) for n, f in layers.items()
        }
        worst = deviations(cast, pixels.astype("float32"))
    else:
        worst = deviations(layers, pixels, dtype=dtype)
    assert {name: value for name, value in worst.items() if not value < 1e-6} == {}


FREE = {
    "5/3": lambda h, w: (h * 5 // 3, w * 5 // 3),
    "double": lambda h, w: (2 * h, 2 * w),
    "down and up": lambda h, w: (h // 2, w + 3),
    "fixed": lambda h, w: (7, 4),
}


def free(method, size, op=None, **options):
    def function(x):
        target = size(tf.shape(x)[1], tf.shape(x)[2])
        if op is None:
            return tf.image.resize(x, target, method)
        return getattr(tf.compat.v1.image, op)(x, tf.stack(target), **options)

    return Resize(function)


@pytest.mark.parametrize("size", FREE)
@pytest.mark.parametrize("method", [*PIXELS, "area"])
def test_a_resize_of_any_size_is_exact(method, size, images):
    worst = deviations({"x": free(method, FREE[size])}, images, shape=(None, None, 3))
    assert worst["x"] < 2e-6


@pytest.mark.parametrize("opset", [convert.OPSETS[0], convert.OPSETS[-1]])
@pytest.mark.parametrize("corners", [False, True])
def test_a_legacy_resize_of_any_size_is_exact(corners, opset, images):
    layers = {
        op: free("", FREE["5/3"], op, align_corners=corners)
        for op in ("resize_bicubic", "resize_nearest_neighbor")
    }
    worst = deviations(layers, images, opset, shape=(None, None, 3))
    assert max(worst.values()) < 2e-6


def test_powers_of_two_stay_one_resize(images):
    """onnxruntime's own kernel is fast and, for these factors, exact."""
    layers = [
        L.UpSampling2D(2, interpolation="bilinear"),
        L.UpSampling2D(4, interpolation="bicubic"),
        L.UpSampling2D(3, interpolation="nearest"),
        L.Resizing(10, 12, "nearest"),
    ]
    for layer in layers:
        given = keras.Input(images.shape[1:], name="picture")
        model = to_onnx(open_network(keras.Model(given, layer(given)), role="translator"))
        assert [n.op_type for n in model.graph.node if n.op_type != "Transpose"] == ["Resize"]


def test_weights_of_bicubic_resizing_by_hand():
    """From 12 to 36 pixels, a third of a pixel counts as 341/1024: TensorFlow's own table."""
    method = resizing.Method(resizing.BICUBIC, half_pixel_centers=True)
    matrix = method.weights(0, 12, 36)
    x = 341 / 1024
    keys = [  # Keys (1981), equation (4) with a = -1/2, at distances 1 + x, x, 1 - x, 2 - x
        (-0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d > 1 else 1.5 * d**3 - 2.5 * d**2 + 1)
        for d in (1 + x, x, 1 - x, 2 - x)
    ]
    np.testing.assert_allclose(matrix[17], [*[0] * 4, *keys, *[0] * 4], atol=1e-7)
    thirds = 1.5 / 27 - 2.5 / 9 + 1  # weight of the nearest pixel without the table
    assert abs(matrix[17].max() - thirds) > 1e-4


def test_a_matrix_of_resizing_by_hand():
    """A triangle filter from 2 to 4: weights 1, 3/4 : 1/4, 1/4 : 3/4, 1."""
    triangle = resizing.Filter("triangle", antialias=False, scale=[2, 1], translation=[0, 0])
    expected = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    np.testing.assert_allclose(triangle.weights(0, 2, 4), expected, atol=1e-6)
    bilinear = resizing.Method(resizing.BILINEAR, half_pixel_centers=True)
    np.testing.assert_allclose(bilinear.weights(0, 2, 4), expected, atol=1e-6)
    area = resizing.Method(resizing.AREA)
    expected = np.array([[2, 1, 0], [0, 1, 2]]) / 3
    np.testing.assert_allclose(area.weights(1, 3, 2), expected, atol=1e-6)


def test_a_filter_of_any_size_is_refused_by_its_layer():
    given = keras.Input((None, None, 3), name="picture")
    layer = free("lanczos3", FREE["double"])
    layer.name = "sharp"
    network = open_network(keras.Model(given, layer(given)), role="translator")
    with pytest.raises(UsageError, match=r"layer 'sharp' \(Resize\)") as caught:
        to_onnx(network)
    assert str(caught.value).endswith("the images that it resizes must have a fixed size")


def test_a_resize_of_a_resize_is_exact():
    images = np.random.default_rng(0).uniform(-1, 1, (3, 4, 4, 1)).astype("float32")
    odd = [L.UpSampling2D(3, interpolation="bicubic"), L.Resizing(7, 7, "bicubic")]
    assert deviations({"odd": keras.Sequential(odd)}, images)["odd"] < 1e-6
