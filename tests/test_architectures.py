"""Players of every family: shapes, counts, options, and what is refused."""

import keras
import numpy as np
import pytest

import keras_gan
from keras_gan import Spec, UsageError, architectures

IMAGES = [(28, 28, 1), (32, 32, 3), (64, 64, 3), (8, 12, 4), (4, 4, 1), (20, 36, 3)]


def params(model):
    return model.count_params()


@pytest.mark.parametrize("shape", IMAGES, ids=str)
@pytest.mark.parametrize("conditional", [False, True])
def test_dcgan_makes_and_judges_any_image_whose_sides_divide_by_4(shape, conditional):
    spec = Spec("image", shape, (-1.0, 1.0), num_classes=5)
    small = {"width": 2}
    g, d = architectures.build("dcgan", spec, conditional, small, small)
    latents, labels = np.random.default_rng(0).normal(size=(3, 64)), np.array([0, 4, 2])
    samples = g([latents, labels] if conditional else latents)
    assert samples.shape == (3, *shape)
    assert np.abs(samples).max() <= 1
    assert samples.dtype == "float32"
    logits = d([samples, keras.ops.convert_to_tensor(labels)] if conditional else samples)
    assert logits.shape == (3, 1)
    assert [i.name for i in g.inputs] == (["latents", "labels"] if conditional else ["latents"])
    assert [i.name for i in d.inputs] == (["samples", "labels"] if conditional else ["samples"])


def test_dcgan_28_has_the_parameters_of_its_layers():
    """Width 32 at 28x28: 128-64-32 channels at 7, 14 and 28 pixels, worked out by hand."""
    g, d = architectures.build("dcgan", Spec("image", (28, 28, 1), (-1.0, 1.0)))
    project, up = 64 * 7 * 7 * 128, 4 * 4 * (128 * 64 + 64 * 32)
    norms, last = 4 * (128 + 64 + 32), 9 * 32 + 1
    assert params(g) == project + up + norms + last
    down = (4 * 4 * 1 * 64 + 64) + (4 * 4 * 64 * 128 + 128)
    assert params(d) == down + 7 * 7 * 128 + 1


@pytest.mark.parametrize(
    ("shape", "depth"), [((28, 28, 1), 2), ((32, 32, 3), 3), ((64, 64, 3), 4), ((20, 36, 3), 2)]
)
def test_the_default_depth_ends_at_4_to_7_pixels_where_the_sides_allow_it(shape, depth):
    g = architectures.build_player("generator", "dcgan", Spec("image", shape, (-1.0, 1.0)))
    assert sum(isinstance(layer, keras.layers.Conv2DTranspose) for layer in g.layers) == depth


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_norms(norm):
    spec = Spec("image", (8, 8, 1), (-1.0, 1.0))
    options = {"widths": [8, 4], "norm": norm}
    g, d = architectures.build("dcgan", spec, False, options, {"widths": [8, 4, 4], "norm": norm})
    kinds = {"batch": keras.layers.BatchNormalization, "layer": keras_gan.layers.GroupNormalization}
    for player, expected in ((g, 2), (d, 1)):
        found = [x for x in player.layers if isinstance(x, tuple(kinds.values()))]
        assert len(found) == (expected if norm in kinds else 0)
        assert all(isinstance(x, kinds[norm]) for x in found)


def test_a_projection_discriminator_prefers_no_label_at_first_but_can():
    """The logit is that of the sample plus the inner product of features and embedding."""
    spec = Spec("points", (2,), num_classes=2)
    d = architectures.build_player("discriminator", "mlp", spec, True, widths=[3])
    x, y = np.ones((2, 2), "float32"), np.array([0, 1])
    features = keras.Model(d.inputs, d.get_layer("activation_0").output)([x, y]).numpy()
    embedding = d.get_layer("label_embedding").get_weights()[0]
    kernel, bias = d.get_layer("logits").get_weights()
    expected = features @ kernel + bias + (features * embedding[y]).sum(1, keepdims=True)
    np.testing.assert_allclose(d([x, y]), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("value_range", "low", "high"), [(None, None, None), ((-1.0, 1.0), -1, 1), ((0.0, 4.0), 0, 4)]
)
def test_mlp_keeps_to_the_value_range(value_range, low, high):
    spec = Spec("points", (3,), value_range)
    g = architectures.build_player("generator", "mlp", spec, latent_dim=5)
    samples = g(1000 * np.random.default_rng(0).normal(size=(64, 5))).numpy()
    assert samples.shape == (64, 3)
    if value_range is None:
        assert np.abs(samples).max() > 10
    else:
        assert (samples.min(), samples.max()) == pytest.approx((low, high), abs=0.05)


def test_mlp_makes_images_too():
    spec = Spec("image", (4, 6, 3), (-1.0, 1.0))
    g, d = architectures.build("mlp", spec)
    assert d(g(np.zeros((2, 2)))).shape == (2, 1)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((30, 30, 1), {}, r"divide by 4 at depth=2. Received: 30 x 30"),
        ((28, 28, 1), {"depth": 3}, r"divide by 8 at depth=3"),
        ((28, 28, 1), {"widths": [8, 4], "depth": 3}, r"widths=\[8, 4\], depth=3"),
        ((28, 28, 1), {"widths": [8, 0, 4]}, r"Widths must be .* \[8, 0, 4\]"),
        ((28, 28, 1), {"norm": "group"}, r"one of none, batch, layer. Received: norm='group'"),
        ((28, 28, 1), {"widht": 3}, r"no such option. Received: 'widht'. Did you mean 'width'"),
    ],
)
def test_what_dcgan_refuses(shape, options, message):
    with pytest.raises(UsageError, match=message):
        architectures.build("dcgan", Spec("image", shape, (-1.0, 1.0)), generator=options)


def test_what_is_refused_of_any_family():
    spec = Spec("points", (2,))
    with pytest.raises(UsageError, match=r"Received: 'dcgn'\. Did you mean 'dcgan'"):
        architectures.build("dcgn", spec)
    with pytest.raises(UsageError, match="data with labels"):
        architectures.build("mlp", spec, conditional=True)
    with pytest.raises(UsageError, match=r"makes images. Received: kind='points'"):
        architectures.build("dcgan", spec)


def test_every_module_is_listed_with_a_line():
    names = architectures.names()
    assert {"dcgan", "mlp"} <= set(names)
    assert all(line.endswith(".") and len(line) > 20 for line in names.values())
