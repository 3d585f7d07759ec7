"""Networks of each family: shapes, parameters, options, and rejected arguments."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gan
from keras_gan import Spec, UsageError, architectures, precision

IMAGES = [(28, 28, 1), (32, 32, 3), (64, 64, 3), (8, 12, 4), (4, 4, 1), (20, 36, 3)]


def params(model):
    return model.count_params()


@pytest.mark.parametrize("shape", IMAGES, ids=str)
@pytest.mark.parametrize("conditional", [False, True])
def test_dcgan_supports_images_with_height_and_width_divisible_by_4(shape, conditional):
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
    """Width 32 at 28x28: 128-64-32 channels at 7, 14 and 28 pixels, computed by hand."""
    g, d = architectures.build("dcgan", Spec("image", (28, 28, 1), (-1.0, 1.0)))
    project, up = 64 * 7 * 7 * 128, 4 * 4 * (128 * 64 + 64 * 32)
    norms, last = 4 * (128 + 64 + 32), 9 * 32 + 1
    assert params(g) == project + up + norms + last
    down = (4 * 4 * 1 * 64 + 64) + (4 * 4 * 64 * 128 + 128)
    assert params(d) == down + 7 * 7 * 128 + 1


def test_upsampling_of_dcgan_is_an_option():
    """A stage of nearest-neighbor upsampling has 9 weights for each pair of channels, not 16."""
    spec = Spec("image", (16, 16, 3), (-1.0, 1.0))
    make = functools.partial(
        architectures.build_network, "generator", "dcgan", spec, widths=[8, 4, 4]
    )
    transposed, nearest = make(), make(upsampling="nearest")
    assert transposed.count_params() - nearest.count_params() == (16 - 9) * (8 * 4 + 4 * 4)
    assert nearest.output_shape == (None, 16, 16, 3)
    with pytest.raises(UsageError, match=r"`upsampling` must be one of transposed, nearest. Rec"):
        make(upsampling="bilinear")


def test_extra_halvings_of_dcgan_follow_the_mirrored_stages():
    """Width 32 at 28x28, two more: 128 at 7 pixels, 256 at 4, 512 at 2, kernels of 3."""
    spec = Spec("image", (28, 28, 1), (-1.0, 1.0))
    d = architectures.build_network("discriminator", "dcgan", spec, extra_halvings=2)
    mirrored = (4 * 4 * 1 * 64 + 64) + (4 * 4 * 64 * 128 + 128)
    extra = (3 * 3 * 128 * 256 + 256) + (3 * 3 * 256 * 512 + 512)
    assert params(d) == mirrored + extra + 2 * 2 * 512 + 1
    assert d.get_layer("stage_4_activation").output.shape == (None, 2, 2, 512)
    d = architectures.build_network("discriminator", "dcgan", spec, width=128, extra_halvings=1)
    assert d.get_layer("features").output.shape == (None, 4 * 4 * 512)  # no wider than 512
    message = r"`extra_halvings` must be an integer of at least 0. Received: extra_halvings=-1"
    with pytest.raises(UsageError, match=message):
        architectures.build_network("discriminator", "dcgan", spec, extra_halvings=-1)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_extra_convolutions_of_dcgan_are_at_the_lowest_resolution(norm):
    spec = Spec("image", (28, 28, 1), (-1.0, 1.0))
    plain, deeper = (
        architectures.build_network("generator", "dcgan", spec, extra_convolutions=n, norm=norm)
        for n in (0, 2)
    )
    of_one = 3 * 3 * 128 * 128 + (4 * 128 if norm == "batch" else 128)
    assert params(deeper) == params(plain) + 2 * of_one
    assert deeper.get_layer("stage_0_conv_2_activation").output.shape == (None, 7, 7, 128)
    message = r"`extra_convolutions` must be an integer of at least 0. .*extra_convolutions=True"
    with pytest.raises(UsageError, match=message):
        architectures.build_network("generator", "dcgan", spec, extra_convolutions=True)


@pytest.mark.parametrize(
    ("shape", "depth"), [((28, 28, 1), 2), ((32, 32, 3), 3), ((64, 64, 3), 4), ((20, 36, 3), 2)]
)
def test_the_default_depth_ends_at_4_to_7_pixels_if_the_size_allows_it(shape, depth):
    g = architectures.build_network("generator", "dcgan", Spec("image", shape, (-1.0, 1.0)))
    assert sum(isinstance(layer, keras.layers.Conv2DTranspose) for layer in g.layers) == depth


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_norms(norm):
    spec = Spec("image", (8, 8, 1), (-1.0, 1.0))
    options = {"widths": [8, 4], "norm": norm}
    g, d = architectures.build("dcgan", spec, False, options, {"widths": [8, 4, 4], "norm": norm})
    kinds = {"batch": keras.layers.BatchNormalization, "layer": keras_gan.layers.GroupNormalization}
    for network, expected in ((g, 2), (d, 1)):
        found = [x for x in network.layers if isinstance(x, tuple(kinds.values()))]
        assert len(found) == (expected if norm in kinds else 0)
        assert all(isinstance(x, kinds[norm]) for x in found)


def test_projection_adds_an_inner_product_to_the_logit():
    """The inner product is that of the features and the label's embedding."""
    spec = Spec("points", (2,), num_classes=2)
    d = architectures.build_network("discriminator", "mlp", spec, True, widths=[3])
    x, y = np.ones((2, 2), "float32"), np.array([0, 1])
    features = keras.Model(d.inputs, d.get_layer("activation_0").output)([x, y]).numpy()
    embedding = d.get_layer("label_embedding").get_weights()[0]
    kernel, bias = d.get_layer("logits").get_weights()
    expected = features @ kernel + bias + (features * embedding[y]).sum(1, keepdims=True)
    np.testing.assert_allclose(d([x, y]), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("value_range", "low", "high"), [(None, None, None), ((-1.0, 1.0), -1, 1), ((0.0, 4.0), 0, 4)]
)
def test_mlp_respects_the_value_range(value_range, low, high):
    spec = Spec("points", (3,), value_range)
    g = architectures.build_network("generator", "mlp", spec, latent_dim=5)
    samples = g(1000 * np.random.default_rng(0).normal(size=(64, 5))).numpy()
    assert samples.shape == (64, 3)
    if value_range is None:
        assert np.abs(samples).max() > 10
    else:
        assert (samples.min(), samples.max()) == pytest.approx((low, high), abs=0.05)


@pytest.mark.parametrize(
    ("network", "field"), [("generator", "latents"), ("discriminator", "logits")]
)
def test_a_condition_of_the_name_of_a_layer_is_refused(network, field):
    fields = {"samples": keras_gan.Field("points", (2,)), field: keras_gan.Field("array", (3,))}
    spec = Spec(fields=fields)
    with pytest.raises(UsageError, match=f"must not have the name .* Received: '{field}' in the"):
        architectures.build_network(network, "mlp", spec, conditions=[field])


def test_mlp_supports_images():
    spec = Spec("image", (4, 6, 3), (-1.0, 1.0))
    g, d = architectures.build("mlp", spec)
    assert d(g(np.zeros((2, 2)))).shape == (2, 1)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((30, 30, 1), {}, r"divisible by 4 at depth=2. Received: 30 x 30"),
        ((28, 28, 1), {"depth": 3}, r"divisible by 8 at depth=3"),
        ((28, 28, 1), {"widths": [8, 4], "depth": 3}, r"widths=\[8, 4\], depth=3"),
        ((28, 28, 1), {"widths": [8, 0, 4]}, r"`widths` must be a list .* widths=\[8, 0, 4\]"),
        ((28, 28, 1), {"widths": 8}, r"`widths` must be a list .* Received: widths=8"),
        ((28, 28, 1), {"widths": [8, 4, True]}, r"`widths` must be .* widths=\[8, 4, True\]"),
        ((28, 28, 1), {"width": "wide"}, r"`width` must be an integer .* width='wide'"),
        ((28, 28, 1), {"depth": 0}, r"`depth` must be an integer of at least 1. Received: depth=0"),
        ((28, 28, 1), {"latent_dim": 2.5}, r"`latent_dim` must be an integer .* latent_dim=2.5"),
        ((28, 28, 1), {"latent_dim": True}, r"Received: latent_dim=True"),
        ((28, 28, 1), {"latent_dim": None}, r"Received: latent_dim=None"),
        ((28, 28, 1), {"norm": "group"}, r"one of none, batch, layer. Received: norm='group'"),
        ((28, 28, 1), {"widht": 3}, r"`widht` is not an option of .* 'dcgan'.*mean 'width'"),
    ],
)
def test_dcgan_rejects_invalid_options(shape, options, message):
    with pytest.raises(UsageError, match=message):
        architectures.build("dcgan", Spec("image", shape, (-1.0, 1.0)), generator=options)


@pytest.mark.parametrize("family", ["dcgan", "resnet", "r3gan"])
def test_redundant_and_meaningless_options_are_rejected(family):
    spec = Spec("image", (8, 8, 1), (-1.0, 1.0), num_classes=3)
    option, value = ("embedding_dim", 8) if family == "r3gan" else ("conditioning", "projection")
    for role in ("generator", "discriminator"):
        with pytest.raises(UsageError, match=r"set one of them to null.*width=8, widths=\[8, 4, 4"):
            architectures.build_network(role, family, spec, width=8, widths=(8, 4, 4))
    with pytest.raises(
        UsageError, match=rf"`{option}` is for networks that take labels.* {option}={value!r}"
    ):
        architectures.build_network("discriminator", family, spec, **{option: value})


def test_every_family_rejects_invalid_arguments():
    spec = Spec("points", (2,))
    with pytest.raises(UsageError, match=r"Received: 'dcgn'\. Did you mean 'dcgan'"):
        architectures.build("dcgn", spec)
    with pytest.raises(UsageError, match="data with labels"):
        architectures.build("mlp", spec, conditional=True)
    with pytest.raises(UsageError, match=r"is for images only .*Received: kind='points'"):
        architectures.build("dcgan", spec)
    with pytest.raises(UsageError, match=r"`latent_dim` must be an integer.* latent_dim=0"):
        architectures.build("mlp", spec, generator={"latent_dim": 0})
    for wrong in ([], [3, 0], 3):
        with pytest.raises(UsageError, match=r"`widths` must be a list of integers"):
            architectures.build("mlp", spec, discriminator={"widths": wrong})


def test_every_module_is_listed_with_its_first_line():
    names = architectures.names()
    assert {"dcgan", "mlp"} <= set(names)
    assert all(line.endswith(".") and len(line) > 20 for line in names.values())


# ------------------------------------------------------------------------ every family and variant


CLASSES = 3
# Family, options of the generator, options of the discriminator.
VARIANTS = [
    ("dcgan", {"widths": [8, 4, 4]}, {"widths": [8, 4, 4]}),
    (
        "dcgan",
        {"widths": [8, 4, 4], "conditioning": "batch_norm"},
        {"widths": [8, 4, 4], "conditioning": "concatenation"},
    ),
    ("resnet", {"widths": [8, 4, 4]}, {"widths": [8, 4, 4]}),
    (
        "resnet",
        {
            "widths": [8, 4, 4],
            "conditioning": "concatenation",
            "spectral": True,
            "attention": 4,
            "shortcut": "blurred",
            "output": "clipped",
        },
        {"widths": [8, 4, 4], "conditioning": "concatenation", "attention": 4},
    ),
    ("r3gan", {"widths": [16, 8, 8]}, {"widths": [16, 8, 8]}),
]


def variant_id(value):
    return value if isinstance(value, str) else value.get("conditioning", "default")


def networks(family, generator, discriminator, conditional, shape=(8, 12, 3)):
    keras.utils.set_random_seed(3)
    spec = Spec("image", shape, (-1.0, 1.0), num_classes=CLASSES if conditional else 0)
    return architectures.build(family, spec, conditional, generator, discriminator)


def inputs_of(network, conditional, count=6):
    rng = np.random.default_rng(2)
    first = rng.normal(size=(count, *network.inputs[0].shape[1:])).astype("float32")
    return [first, np.arange(count) % CLASSES] if conditional else first


def disturb(network):
    """Moves all weights away from the zeros and ones that some are initialized with."""
    rng = np.random.default_rng(4)
    for variable in network.variables:
        if variable.name == "moving_variance":
            variable.assign(rng.uniform(0.5, 2.0, variable.shape))
        elif variable.dtype == "float32":
            variable.assign(variable + 0.1 * rng.normal(size=variable.shape).astype("float32"))


@pytest.mark.parametrize(
    ("family", "generator", "discriminator", "conditional"),
    [(*variant, True) for variant in VARIANTS] + [(*VARIANTS[i], False) for i in (0, 2, 4)],
    ids=lambda value: variant_id(value) if isinstance(value, dict) else str(value),
)
def test_networks_are_compatible_and_can_be_saved_and_loaded(
    family, generator, discriminator, conditional, tmp_path
):
    g, d = networks(family, generator, discriminator, conditional)
    latents = inputs_of(g, conditional)
    samples = g(latents)
    assert samples.shape == (6, 8, 12, 3)
    assert samples.dtype == "float32"
    labels = np.arange(6) % CLASSES
    assert d([samples.numpy(), labels] if conditional else samples).shape == (6, 1)
    for network in (g, d):
        disturb(network)
        network.save(tmp_path / "network.keras")
        again = keras.saving.load_model(tmp_path / "network.keras")
        given = inputs_of(network, conditional)
        np.testing.assert_array_equal(again(given), network(given))


@pytest.mark.parametrize(("family", "generator", "discriminator"), VARIANTS, ids=variant_id)
def test_a_label_affects_only_the_output_of_its_own_sample(family, generator, discriminator):
    for network in networks(family, generator, discriminator, conditional=True):
        disturb(network)
        first, labels = inputs_of(network, conditional=True)
        others = labels.copy()
        others[1] = 2  # of class 1 before
        before, after = np.asarray(network([first, labels])), np.asarray(network([first, others]))
        changed = np.abs(before - after).reshape(6, -1).max(1) > 1e-6
        assert changed.tolist() == [False, True, False, False, False, False]


def test_the_label_channel_is_a_learned_picture_of_the_class():
    """The conditional GAN of keras.io has a constant channel for each class instead."""
    _, d = networks("dcgan", *VARIANTS[1][1:], conditional=True)
    first, labels = inputs_of(d, conditional=True)
    joined = keras.Model(d.inputs, d.get_layer("image_and_label").output)([first, labels])
    pictures = d.get_layer("label_embedding").get_weights()[0].reshape(CLASSES, 8, 12)
    np.testing.assert_array_equal(joined[..., :3], first)
    np.testing.assert_array_equal(joined[..., 3], pictures[labels])


# ------------------------------------------------------------------------ resnet


def trained_params(model):
    return sum(np.prod(v.shape) for v in model.trainable_variables)


def conv(inputs, outputs, size=3):
    return size * size * inputs * outputs + outputs


def up_block(inputs, outputs):
    """Returns the parameters of two normalizations, two convolutions and the shortcut's."""
    norms = 2 * inputs + 2 * outputs
    return norms + conv(inputs, outputs) + conv(outputs, outputs) + conv(inputs, outputs, 1)


def down_block(inputs, outputs, short=True):
    return conv(inputs, inputs) + conv(inputs, outputs) + short * conv(inputs, outputs, 1)


def first_block(channels):
    return conv(3, channels) + conv(channels, channels) + conv(3, channels, 1)


@pytest.mark.parametrize(
    ("size", "base", "up", "down", "plain"),
    [
        (32, 4, [256] * 4, [128] * 4, 2),
        (48, 6, [512, 256, 128, 64], [64, 128, 256, 512, 1024], 1),
        (64, 4, [1024, 512, 256, 128, 64], [64, 128, 256, 512, 1024], 0),
    ],
)
def test_resnet_has_the_parameters_of_the_published_tables(size, base, up, down, plain):
    """Miyato et al., tables 4 and 5; for 64 pixels, those of the library mimicry."""
    spec = Spec("image", (size, size, 3), (-1.0, 1.0))
    g, d = architectures.build("resnet", spec)
    blocks = sum(up_block(a, b) for a, b in itertools.pairwise(up))
    dense = 128 * base * base * up[0] + base * base * up[0]
    assert trained_params(g) == dense + blocks + 2 * up[-1] + conv(up[-1], 3)
    pairs = list(itertools.pairwise(down))
    blocks = sum(
        down_block(a, b, short=a != b or i < len(pairs) - plain) for i, (a, b) in enumerate(pairs)
    )
    assert trained_params(d) == first_block(down[0]) + blocks + down[-1] + 1
    if size == 32:
        assert (trained_params(g), trained_params(d)) == (4_276_739, 1_053_825)
    pools = [x for x in d.layers if isinstance(x, keras.layers.AveragePooling2D)]
    assert len(pools) == 2 * (len(down) - plain)


def test_clipped_samples_of_resnet_reach_the_ends_of_the_range():
    g, _ = networks("resnet", {"widths": [6, 4], "output": "clipped"}, {"widths": [4]}, False)
    unbounded = keras.Model(g.inputs, g.get_layer("to_image").output)
    z = inputs_of(g, False)
    inner = unbounded(z, training=True).numpy()
    samples = g(z, training=True).numpy()
    np.testing.assert_array_equal(samples, np.clip(inner, -1, 1))
    assert 0.05 < np.mean(np.abs(samples) == 1) < 0.6
    assert keras_gan.networks.output_range(g) == (-1.0, 1.0)


def test_resnet_has_initial_images_of_unit_variance_before_tanh():
    """A kernel of variance 2 / (fan_in + fan_out), times fan_in / 2, the mean square of ReLU."""
    keras.utils.set_random_seed(0)
    spec = Spec("image", (32, 32, 3), (-1.0, 1.0))
    g = architectures.build_network("generator", "resnet", spec, width=64)
    before = keras.Model(g.inputs, g.get_layer("to_image").output)
    z = np.random.default_rng(0).normal(size=(32, 128)).astype("float32")
    inner = before(z, training=True).numpy()[
        :, 1:-1, 1:-1
    ]  # the border is affected by zero padding
    assert np.mean(inner**2) == pytest.approx(576 / (576 + 27), rel=0.25)
    samples = g(z, training=True).numpy()
    assert 0.4 < samples.std() < 0.75


def test_spectral_normalization_is_on_every_kernel_of_a_network():
    """Including those of self-attention."""
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    wrapped = keras_gan.layers.SpectralNormalization
    plain_g, plain_d = networks("resnet", *VARIANTS[2][1:], conditional=True)
    assert not [x for x in plain_g._flatten_layers() if isinstance(x, wrapped)]
    for network in (plain_d, *networks("resnet", *VARIANTS[3][1:], conditional=True)):
        found = list(network._flatten_layers())
        within = {id(x.layer) for x in found if isinstance(x, wrapped)}
        kernels = [x for x in found if isinstance(x, kinds)]
        assert kernels
        assert [x.name for x in kernels if id(x) not in within] == []
        attention = [x for x in found if isinstance(x, keras_gan.layers.SelfAttention2D)]
        assert len(attention) == (network is not plain_d)
        for layer in attention:
            four = (layer.query, layer.key, layer.value, layer.projection)
            assert all(isinstance(x, wrapped) for x in four)
    assert isinstance(plain_d.get_layer("label_embedding"), wrapped)


def weights_of(network):
    """Returns the weights by layer name."""
    return {layer.name: layer.get_weights() for layer in network.layers if layer.get_weights()}


def between(network, first, last):
    """Returns the part of a network from the output of one layer to that of another."""
    return keras.Model(network.get_layer(first).output, network.get_layer(last).output)


def convolved(x, weights, groups=1):
    """Computes a stride-1 convolution for each group, with a bias if there is one."""
    kernel = weights[0]
    parts = zip(np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True)
    y = np.concatenate([tf.nn.conv2d(a, k, 1, "SAME").numpy() for a, k in parts], -1)
    return y + weights[1] if len(weights) > 1 else y


def pooled(x):
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def upsampled(x):
    return x.repeat(2, 1).repeat(2, 2)


def test_the_upsampling_block_is_the_published_one():
    """Norm, ReLU, upsampling, 3x3, norm, ReLU, 3x3; the shortcut has upsampling and 1x1."""
    g, _ = networks("resnet", {"widths": [6, 4, 5]}, {"widths": [4]}, False)
    disturb(g)
    weights = weights_of(g)

    def norm_and_relu(x, name):
        gamma, beta, mean, variance = weights[name]
        return np.maximum(gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta, 0)

    x = np.random.default_rng(1).normal(size=(2, 2, 3, 6)).astype("float32")
    outputs = between(g, "reshape", "block_1")(x)
    y = upsampled(norm_and_relu(x, "block_1_norm_1"))
    y = norm_and_relu(convolved(y, weights["block_1_conv_1"]), "block_1_norm_2")
    y = convolved(y, weights["block_1_conv_2"])
    expected = y + convolved(upsampled(x), weights["block_1_short"])
    assert expected.shape == (2, 4, 6, 4)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)

    # With a blurred shortcut, a pixel has 9/16 of its own, 3/16 of two and 1/16 of the third next.
    g, _ = networks("resnet", {"widths": [6, 4, 5], "shortcut": "blurred"}, {"widths": [4]}, False)
    disturb(g)
    blurred = between(g, "reshape", "block_1")(x)
    short = convolved(x, weights["block_1_short"])
    mixed = 9 * short[:, 0, 1] + 3 * short[:, 1, 1] + 3 * short[:, 0, 2] + short[:, 1, 2]
    np.testing.assert_allclose(blurred[:, 1, 3], y[:, 1, 3] + mixed / 16, rtol=1e-4, atol=1e-4)


def test_the_blocks_of_the_discriminator_are_the_published_ones():
    """The first block, a block without pooling, and the sum over the positions."""
    options = {"widths": [6, 6, 4], "halvings": 2, "spectral": False}
    _, d = networks("resnet", {"widths": [4, 4, 4]}, options, False)
    disturb(d)
    weights = weights_of(d)
    x = inputs_of(d, False)
    y = np.maximum(convolved(x, weights["block_1_conv_1"]), 0)
    y = pooled(convolved(y, weights["block_1_conv_2"]))
    first = y + convolved(pooled(x), weights["block_1_short"])
    outputs = between(d, "samples", "block_1")(x)
    np.testing.assert_allclose(outputs, first, rtol=1e-4, atol=1e-4)
    x = np.random.default_rng(1).normal(size=(6, 2, 3, 6)).astype("float32")
    y = np.maximum(convolved(np.maximum(x, 0), weights["block_3_conv_1"]), 0)
    plain = x + convolved(y, weights["block_3_conv_2"])
    assert "block_3_short" not in weights
    np.testing.assert_allclose(between(d, "block_2", "block_3")(x), plain, rtol=1e-4, atol=1e-4)
    features = np.maximum(plain, 0).sum((1, 2))
    np.testing.assert_allclose(between(d, "block_2", "features")(x), features, rtol=1e-4, atol=1e-4)
    kernel, bias = weights["logits"]
    logits = between(d, "block_2", "logits")(x)
    np.testing.assert_allclose(logits, features @ kernel + bias, rtol=1e-4, atol=1e-4)


def test_resnet_has_glorot_initializers_with_twice_the_variance_in_residual_branches():
    """The deviation is the gain times sqrt(2 / (fan_in + fan_out)), as in mimicry."""
    g, d = networks("resnet", {"widths": [64, 48, 32]}, {"widths": [64, 64, 48]}, True)
    for network, name, gain, area, channels in (
        (g, "block_1_conv_1", 2**0.5, 9, (64, 48)),
        (g, "block_2_conv_2", 2**0.5, 9, (32, 32)),
        (g, "block_1_short", 1.0, 1, (64, 48)),
        (g, "to_image", 1.0, 9, (32, 3)),
        (d, "block_1_conv_1", 2**0.5, 9, (3, 48)),
        (d, "block_2_conv_2", 2**0.5, 9, (48, 64)),
        (d, "block_2_short", 1.0, 1, (48, 64)),
        (d, "logits", 1.0, 1, (64, 1)),
    ):
        layer = network.get_layer(name)
        kernel = (layer if network is g else layer.layer).kernel.numpy()
        deviation = gain * (2 / (area * sum(channels))) ** 0.5
        assert kernel.std() == pytest.approx(deviation, rel=0.15), name
        assert np.abs(kernel).max() <= 3**0.5 * deviation  # uniform
    rows = d.get_layer("label_embedding").layer.embeddings.numpy()
    assert np.abs(rows).max() <= (6 / (CLASSES + 64)) ** 0.5
    assert rows.std() == pytest.approx((2 / (CLASSES + 64)) ** 0.5, rel=0.15)


def test_attention_is_at_the_height_of_the_option():
    g, d = networks(
        "resnet", {"attention": 16, "width": 8}, {"attention": 8, "width": 8}, False, (32, 32, 3)
    )
    assert g.get_layer("attention").output.shape[1:3] == (16, 16)
    assert d.get_layer("attention").output.shape[1:3] == (8, 8)
    assert d.get_layer("attention").input is d.get_layer("block_4").output


# ------------------------------------------------------------------------ r3gan


def bottleneck(width, group=16):
    hidden = 2 * width
    return 2 * width * hidden + 9 * group * hidden + 2 * hidden


@pytest.mark.parametrize(
    ("preset", "size", "widths", "group"),
    [
        ("cifar10", 32, [768] * 4, 16),
        ("ffhq-256", 256, [*[768] * 4, 384, 192, 96], 16),
        ("cpu", 28, [128, 64, 32], 16),
        ("cpu-small", 32, [64, 48, 32], 16),
        pytest.param("ffhq-64", 64, [*[768] * 4, 384], 16, marks=pytest.mark.slow),
        pytest.param("imagenet-32", 32, [1536] * 4, 32, marks=pytest.mark.slow),
        pytest.param("imagenet-64", 64, [1536] * 5, 32, marks=pytest.mark.slow),
    ],
)
def test_r3gan_has_the_parameters_of_the_published_tables(preset, size, widths, group):
    spec = Spec("image", (size, size, 3), (-1.0, 1.0))
    g, d = architectures.build("r3gan", spec, False, {"preset": preset}, {"preset": preset})
    blocks = 2 * sum(bottleneck(w, group) for w in widths)
    changes = sum(a * b for a, b in itertools.pairwise(widths) if a != b)
    area = (size >> len(widths) - 1) ** 2
    basis, image = area * widths[0], 3 * widths[-1]
    assert params(g) == 64 * widths[0] + basis + blocks + changes + image
    assert params(d) == image + blocks + changes + basis + widths[0]
    if preset == "ffhq-256":  # the paper: 23.06 and 23.01 million
        assert (round(params(g) / 1e4), round(params(d) / 1e4)) == (2306, 2301)
    assert area == 16 or preset.startswith("cpu")


def along(x, axis, function):
    """Applies a function of the last axis along another axis."""
    return np.moveaxis(function(np.moveaxis(x, axis, -1)), -1, axis)


def interpolated(x):
    """Upsamples by 2: 3/4 of each pixel and 1/4 of its neighbor, zeros beyond the border."""

    def line(x):
        zeros = np.zeros_like(x[..., :1])
        before, after = np.append(zeros, x[..., :-1], -1), np.append(x[..., 1:], zeros, -1)
        pairs = np.stack([(3 * x + before) / 4, (3 * x + after) / 4], -1)
        return pairs.reshape(*x.shape[:-1], -1)

    return along(along(x, 1, line), 2, line)


def decimated(x):
    """Downsamples by 2: [1, 3, 3, 1] / 8, centered between two pixels."""

    def line(x):
        zeros = np.zeros_like(x[..., :1])
        x = np.concatenate([zeros, x, zeros], -1)
        return (x[..., :-3:2] + 3 * x[..., 1:-2:2] + 3 * x[..., 2:-1:2] + x[..., 3::2]) / 8

    return along(along(x, 1, line), 2, line)


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def r3gan_block(x, weights, name, groups):
    y = leaky(convolved(x, weights[f"{name}_in"]))
    y = leaky(convolved(y, weights[f"{name}_groups"], groups))
    return x + convolved(y, weights[f"{name}_out"])


def test_r3gan_initially_only_resamples_its_patterns():
    """Residual branches are 0 at first: pattern, interpolation and changes of width, in numpy."""
    g, d = networks("r3gan", {"widths": [12, 8, 8]}, {"widths": [12, 8, 8]}, False, (28, 28, 1))
    z = inputs_of(g, False)
    weights = weights_of(g)
    x = (z @ weights["project"][0])[:, None, None, :] * weights["basis"][0]
    assert x.shape[1:3] == (7, 7)
    x = interpolated(x @ weights["stage_1_widths"][0][0, 0])
    expected = interpolated(x) @ weights["samples"][0][0, 0]
    np.testing.assert_allclose(g(z), expected, atol=1e-4)
    assert d(g(z)).shape == (6, 1)


def test_r3gan_is_initially_equivariant_to_mirroring():
    """Mirrored patterns generate mirrored images, which get the same logits."""
    g, d = networks("r3gan", {"widths": [12, 8, 8]}, {"widths": [12, 8, 8]}, False, (16, 24, 3))
    z = inputs_of(g, False)
    samples = g(z).numpy()
    for axis in (1, 2):
        logits = d(samples).numpy()
        assert np.abs(d(np.flip(samples, axis)) - logits).max() > 0.1
        for layer in (g.get_layer("basis"), d.get_layer("head")):
            layer.set_weights([np.flip(w, axis - 1) for w in layer.get_weights()])
        flipped = np.flip(samples, axis)
        np.testing.assert_allclose(g(z), flipped, atol=1e-5)
        np.testing.assert_allclose(d(flipped), logits, atol=1e-4)
        samples = flipped


def test_r3gan_computes_its_formulas():
    """One block of the generator and the whole discriminator, with random weights."""
    options = {"widths": [16, 8, 8], "cardinalities": [4, 2, 1]}
    g, d = networks("r3gan", options, options, False)
    for network in (g, d):
        disturb(network)
    x = np.random.default_rng(1).normal(size=(2, 4, 6, 8)).astype("float32")
    name = "stage_1_block_1"
    outputs = between(g, "stage_1_block_0", name)(x)
    np.testing.assert_allclose(
        outputs, r3gan_block(x, weights_of(g), name, 2), rtol=1e-4, atol=1e-4
    )
    weights = weights_of(d)
    samples = inputs_of(d, False)
    x = convolved(samples, weights["from_image"])
    for stage, groups in ((2, 1), (1, 2), (0, 4)):
        for block in range(2):
            x = r3gan_block(x, weights, f"stage_{stage}_block_{block}", groups)
        if stage > 0:
            x = decimated(x)
            if f"stage_{stage}_widths" in weights:
                x = convolved(x, weights[f"stage_{stage}_widths"])
    features = (x * weights["head"][0][..., 0]).sum((1, 2))
    assert features.shape == (6, 16)
    np.testing.assert_allclose(d(samples), features @ weights["logits"][0], rtol=1e-3, atol=1e-3)


def test_r3gan_has_the_initial_deviations_of_its_formulas():
    """gain / sqrt(fan_in), with the gain sqrt(2 / 1.04) L^(-1/4) in the blocks, 0 last, else 1."""
    options = {"widths": [128, 64, 64]}
    g, d = networks("r3gan", options, options, False, (16, 16, 3))
    gain = (2 / 1.04) ** 0.5 * 6**-0.25
    for name, deviation in (
        ("project", 64**-0.5),
        ("basis", 1.0),
        ("stage_0_block_0_in", gain * 128**-0.5),
        ("stage_0_block_1_groups", gain * (9 * 16) ** -0.5),
        ("stage_1_widths", 128**-0.5),
        ("stage_2_block_0_groups", gain * (9 * 16) ** -0.5),
        ("stage_2_block_1_out", 0.0),
        ("samples", 64**-0.5),
    ):
        assert g.get_layer(name).get_weights()[0].std() == pytest.approx(deviation, rel=0.1), name
    assert g.get_layer("stage_0_block_0_groups").groups == 16
    assert d.get_layer("head").get_weights()[0].std() == pytest.approx(1 / 4, rel=0.1)
    assert d.get_layer("stage_2_block_1_out").get_weights()[0].any() == np.False_
    # Variance after interpolation of unit variance: the squared response to each pixel of the
    # pattern, summed over these pixels and averaged over those of the image.
    points = np.eye(16, dtype="float32").reshape(16, 4, 4, 1)
    expected = (interpolated(interpolated(points)) ** 2).sum(0).mean()
    squares = []
    for seed in range(4):
        keras.utils.set_random_seed(seed)
        spec = Spec("image", (16, 16, 3), (-1.0, 1.0))
        g = architectures.build_network("generator", "r3gan", spec, blocks_per_stage=1, **options)
        z = np.random.default_rng(seed).normal(size=(64, 64)).astype("float32")
        squares.append(np.mean(np.square(g(z))))
    assert np.mean(squares) == pytest.approx(expected, rel=0.15)


def test_the_conditional_logit_of_r3gan_is_an_inner_product():
    _, d = networks("r3gan", *VARIANTS[4][1:], conditional=True)
    disturb(d)
    first, labels = inputs_of(d, conditional=True)
    features = keras.Model(d.inputs, d.get_layer("class_features").output)([first, labels])
    rows = d.get_layer("label_embedding").get_weights()[0][labels]
    np.testing.assert_allclose(
        d([first, labels]), (features.numpy() * rows).sum(1, keepdims=True), rtol=1e-5
    )


def test_r3gan_has_the_class_head_of_the_published_network():
    """Its length is the width of the lowest resolution, with deviation (length * classes)^-0.5."""
    spec = Spec("image", (32, 32, 3), (-1.0, 1.0), num_classes=10)
    d = architectures.build_network("discriminator", "r3gan", spec, True, preset="cifar10")
    assert params(d) == 21_280_512
    rows = d.get_layer("label_embedding").get_weights()[0]
    assert rows.shape == (10, 768)
    assert rows.std() == pytest.approx(7680**-0.5, rel=0.05)
    assert d.get_layer("class_features").get_weights()[0].std() == pytest.approx(
        768**-0.5, rel=0.01
    )
    _, other = networks("r3gan", {"width": 4}, {"width": 4, "embedding_dim": 5}, conditional=True)
    assert other.get_layer("label_embedding").output.shape == (None, 5)


HALF = [("mlp", {"widths": [8]}, {"widths": [8]}), VARIANTS[0], VARIANTS[3], VARIANTS[4]]


@pytest.mark.parametrize(("family", "generator", "discriminator"), HALF, ids=variant_id)
def test_labels_samples_and_logits_are_float32_under_a_mixed_policy(
    family, generator, discriminator
):
    """And so is the lowest resolution of R3GAN; the layers between are not."""
    full = networks(family, generator, discriminator, conditional=True)
    with precision.layers("mixed_bfloat16"):
        half = networks(family, generator, discriminator, conditional=True)
    assert keras.config.dtype_policy().name == "float32"
    full_precision = {"label_embedding", "latents_and_label", "samples", "logits"}
    if family == "r3gan":
        full_precision |= {"project", "basis", "head", "features", "class_features"}
    for ours, theirs in zip(half, full, strict=True):
        ours.set_weights(theirs.get_weights())
        given = inputs_of(ours, conditional=True)
        outputs = ours(given)
        assert outputs.dtype == "float32"
        np.testing.assert_allclose(outputs, theirs(given), atol=0.1, rtol=0.1)
        inner = [x for x in ours.layers if not isinstance(x, keras.layers.InputLayer)]
        assert "label_embedding" in {x.name for x in inner}
        assert [
            x.name for x in inner if x.name in full_precision and x.compute_dtype != "float32"
        ] == []
        assert "bfloat16" in {x.compute_dtype for x in inner}
        assert all(v.dtype == "float32" for v in ours.trainable_variables)


@pytest.mark.parametrize(
    ("family", "shape", "generator", "discriminator", "message"),
    [
        ("resnet", (30, 30, 3), {}, {}, r"divisible by 4 at depth=2. Received: 30 x 30"),
        ("resnet", (8, 8, 3), {}, {"halvings": 4}, r"by 16 at halvings=4. Received: 8 x 8"),
        ("resnet", (8, 8, 3), {}, {"halvings": 9}, r"number of blocks, 4. Received: halvings=9"),
        ("resnet", (8, 8, 3), {"attention": 5}, {}, r"one of 2, 4, 8. Received: attention=5"),
        ("resnet", (8, 8, 3), {}, {"attention": 8}, r"one of 2, 4. Received: attention=8"),
        (
            "resnet",
            (8, 8, 3),
            {"shortcut": "blur"},
            {},
            r"`shortcut` must be .* shortcut='blur'",
        ),
        ("resnet", (8, 8, 3), {"norm": "group"}, {}, r"none, batch, layer. Received: norm='gr"),
        (
            "resnet",
            (8, 8, 3),
            {"norm": "layer", "conditioning": "batch_norm"},
            {},
            r"needs norm=\"batch\".* Received: norm='layer'",
        ),
        ("dcgan", (8, 8, 3), {"conditioning": "film"}, {}, r"`conditioning` must be one of concat"),
        ("dcgan", (8, 8, 3), {}, {"conditioning": "x"}, r"projection, concatenation. Rec.*'x'"),
        ("r3gan", (30, 30, 3), {}, {}, r"divisible by 4 at depth=2. Received: 30 x 30"),
        (
            "r3gan",
            (8, 8, 3),
            {"preset": "cifar"},
            {},
            r"`preset` must be one of cifar10, .*'cifar'",
        ),
        ("r3gan", (28, 28, 1), {"preset": "cifar10"}, {}, r"is for images of 32 x 32.* 28 x 28"),
        ("r3gan", (64, 64, 3), {}, {"preset": "cpu"}, r"of 28 x 28 or 32 x 32 .* Rec.*: 64 x 64"),
        ("r3gan", (32, 28, 3), {"preset": "cpu"}, {}, r"of 28 x 28 or 32 x 32 .* Rec.*: 32 x 28"),
        (
            "r3gan",
            (32, 32, 3),
            {},
            {"preset": "cifar10", "width": 8},
            r"`preset` sets widths.* Received: preset='cifar10', width=8$",
        ),
        (
            "r3gan",
            (32, 32, 3),
            {"preset": "cifar10", "widths": [8, 8, 8, 8]},
            {},
            r"`preset` sets widths and cardinalities.* Received: preset='cifar10'",
        ),
        (
            "r3gan",
            (8, 8, 3),
            {"widths": [6, 6, 6], "cardinalities": [4, 4, 5]},
            {},
            r"divide its width times the expansion. Received: cardinality 5 for 12 channels",
        ),
        (
            "r3gan",
            (8, 8, 3),
            {},
            {"cardinalities": [1]},
            r"the 3 stages. Received: card.*\[1\]",
        ),
        ("r3gan", (8, 8, 3), {}, {"cardinalities": 4}, r"the 3 stages. Received: card.*=4"),
        (
            "r3gan",
            (8, 8, 3),
            {"widths": [6, 6, 6], "cardinalities": [4, 4, "2"]},
            {},
            r"Received: cardinality '2' for 12 channels",
        ),
        ("r3gan", (8, 8, 3), {}, {"embedding_dim": 0}, r"`embedding_dim` must be an integer"),
        ("r3gan", (8, 8, 3), {"expansion": "two"}, {}, r"`expansion` must be .* expansion='two'"),
        ("resnet", (8, 8, 3), {}, {"halvings": "one"}, r"`halvings` must be .* halvings='one'"),
        ("resnet", (8, 8, 3), {"depth": -1}, {}, r"`depth` must be an integer .* depth=-1"),
    ],
)
def test_the_residual_families_reject_invalid_options(
    family, shape, generator, discriminator, message
):
    spec = Spec("image", shape, (-1.0, 1.0), num_classes=CLASSES)
    with pytest.raises(UsageError, match=message):
        architectures.build(family, spec, True, generator, discriminator)


def test_residual_networks_need_images():
    for family in ("resnet", "r3gan"):
        with pytest.raises(
            UsageError, match=rf"{family!r} is for images only .*Received: kind='points'"
        ):
            architectures.build(family, Spec("points", (2,)))


TRAINED = [VARIANTS[0], *(pytest.param(*v, marks=pytest.mark.slow) for v in VARIANTS[1:])]


@pytest.mark.parametrize(("family", "generator", "discriminator"), TRAINED, ids=variant_id)
def test_each_variant_is_trained_for_two_steps(family, generator, discriminator):
    """In float32, with gradient penalties: all gradients exist and are finite."""
    gan = keras_gan.GAN(
        *networks(family, generator, discriminator, conditional=True),
        loss="relativistic",
        terms=["r1", "r2"],
        num_classes=CLASSES,
    )
    for layer in gan._flatten_layers():
        if isinstance(layer, keras_gan.layers.SelfAttention2D):
            layer.gamma.assign(0.5)  # at its initial 0, its inner weights get hardly any gradient
    gan.compile(keras.optimizers.SGD(1e-2), keras.optimizers.SGD(1e-2))
    x, y = inputs_of(gan.discriminator, conditional=True, count=8)
    before = [v.numpy() for v in gan.trainable_variables]
    data = tf.data.Dataset.from_tensor_slices((np.tanh(x), y.astype("int32"))).batch(4)
    logs = gan.fit(data, verbose=0).history
    assert np.isfinite([values[0] for values in logs.values()]).all()
    unchanged = {
        v.path
        for v, old in zip(gan.trainable_variables, before, strict=True)
        if np.array_equal(v.numpy(), old)
    }
    # The loss depends on differences of logits, in which this bias cancels; R3GAN has no bias.
    expected = {"dcgan": {"logits/bias"}, "resnet": {"logits/logits/bias"}, "r3gan": set()}
    assert unchanged == expected[family]


# ------------------------------------------------------------------------ named outputs, lists


@pytest.mark.parametrize("family", ["dcgan", "mlp", "resnet", "r3gan"])
@pytest.mark.parametrize("conditional", [False, True])
def test_auxiliary_classes_are_an_output_of_the_last_features(family, conditional):
    spec = Spec("image", (8, 12, 3), (-1.0, 1.0), num_classes=CLASSES)
    options = {"auxiliary_classes": True}
    d = architectures.build_network("discriminator", family, spec, conditional, **options)
    outputs = d(inputs_of(d, conditional))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "logits": (6, 1),
        "classes": (6, CLASSES),
    }
    plain = architectures.build_network("discriminator", family, spec, conditional)
    features = d.get_layer("classes").kernel.shape[0]
    assert params(d) - params(plain) == (features + 1) * CLASSES
    unlabeled = Spec("image", (8, 12, 3), (-1.0, 1.0))
    with pytest.raises(UsageError, match=r"`auxiliary_classes` needs data with labels"):
        architectures.build_network("discriminator", family, unlabeled, **options)


@pytest.mark.parametrize("conditional", [False, True])
def test_multi_scale_has_a_discriminator_for_each_scale(conditional, tmp_path):
    spec = Spec("image", (8, 12, 1), (-1.0, 1.0), num_classes=CLASSES)
    d = architectures.build_network(
        "discriminator", "multi_scale", spec, conditional, scales=3, widths=[4, 8], norm="layer"
    )
    disturb(d)
    given = inputs_of(d, conditional)
    logits = d(given)
    assert [tuple(each.shape) for each in logits] == [(6, 1)] * 3
    # The second discriminator sees the means of 2 x 2 pixels, the third those of 4 x 4.
    samples = given[0] if conditional else given
    for scale in range(3):
        size = 2**scale
        image = samples.reshape(6, 8 // size, size, 12 // size, size, 1).mean(axis=(2, 4))
        network = d.get_layer(f"scale_{scale}")
        alone = network([image, given[1]] if conditional else image)
        np.testing.assert_allclose(logits[scale], alone, rtol=1e-4, atol=1e-5)
    d.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    for a, b in zip(again(given), logits, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": 0}, r"`scales` must be an integer"),
        ({"scales": 5}, r"divisible by 16 at scales - 1=4. Received: 28 x 28"),
        ({"widths": []}, r"`widths` must be a list of integers"),
        ({"norm": "instance"}, r"`norm` must be one of"),
    ],
)
def test_multi_scale_rejects_invalid_options(options, message):
    spec = Spec("image", (28, 28, 1), (-1.0, 1.0))
    with pytest.raises(UsageError, match=message):
        architectures.build_network("discriminator", "multi_scale", spec, **options)


def test_two_scales_are_trained_for_two_steps_with_r1_and_the_relativistic_loss():
    spec = Spec("image", (12, 12, 1), (-1.0, 1.0))
    g, d = architectures.build(
        "multi_scale", spec, generator={"widths": [8, 4, 4]}, discriminator={"widths": [4, 8]}
    )
    gan = keras_gan.GAN(g, d, loss="relativistic", terms=["r1", "r2"])
    gan.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
    before = [weight.numpy() for weight in d.trainable_variables]
    x = np.tanh(np.random.default_rng(0).normal(size=(8, 12, 12, 1))).astype("float32")
    logs = gan.fit(x, batch_size=4, verbose=0).history
    assert np.isfinite([values[0] for values in logs.values()]).all()
    changed = [np.any(a != b.numpy()) for a, b in zip(before, d.trainable_variables, strict=True)]
    assert all(c for c, w in zip(changed, d.trainable_variables, strict=True) if "kernel" in w.path)
