"""Players of every family: shapes, counts, options, and what is refused."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

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
        {"widths": [8, 4, 4], "conditioning": "concatenation", "spectral": True, "attention": 4},
        {"widths": [8, 4, 4], "conditioning": "concatenation", "attention": 4},
    ),
    ("r3gan", {"widths": [16, 8, 8]}, {"widths": [16, 8, 8]}),
]


def variant_id(value):
    return value if isinstance(value, str) else value.get("conditioning", "default")


def players(family, generator, discriminator, conditional, shape=(8, 12, 3)):
    keras.utils.set_random_seed(3)
    spec = Spec("image", shape, (-1.0, 1.0), num_classes=CLASSES if conditional else 0)
    return architectures.build(family, spec, conditional, generator, discriminator)


def inputs_of(player, conditional, count=6):
    rng = np.random.default_rng(2)
    first = rng.normal(size=(count, *player.inputs[0].shape[1:])).astype("float32")
    return [first, np.arange(count) % CLASSES] if conditional else first


def disturbed(player):
    """All weights away from the zeros and ones that some begin as."""
    rng = np.random.default_rng(4)
    for variable in player.variables:
        if variable.name == "moving_variance":
            variable.assign(rng.uniform(0.5, 2.0, variable.shape))
        elif variable.dtype == "float32":
            variable.assign(variable + 0.1 * rng.normal(size=variable.shape).astype("float32"))


@pytest.mark.parametrize(
    ("family", "generator", "discriminator", "conditional"),
    [(*variant, True) for variant in VARIANTS] + [(*VARIANTS[i], False) for i in (0, 2, 4)],
    ids=lambda value: variant_id(value) if isinstance(value, dict) else str(value),
)
def test_players_fit_each_other_and_come_back_from_a_file(
    family, generator, discriminator, conditional, tmp_path
):
    g, d = players(family, generator, discriminator, conditional)
    latents = inputs_of(g, conditional)
    samples = g(latents)
    assert samples.shape == (6, 8, 12, 3)
    assert samples.dtype == "float32"
    labels = np.arange(6) % CLASSES
    assert d([samples.numpy(), labels] if conditional else samples).shape == (6, 1)
    for player in (g, d):
        disturbed(player)
        player.save(tmp_path / "player.keras")
        again = keras.saving.load_model(tmp_path / "player.keras")
        given = inputs_of(player, conditional)
        np.testing.assert_array_equal(again(given), player(given))


@pytest.mark.parametrize(("family", "generator", "discriminator"), VARIANTS, ids=variant_id)
def test_a_label_changes_what_a_player_makes_of_its_own_sample_alone(
    family, generator, discriminator
):
    for player in players(family, generator, discriminator, conditional=True):
        disturbed(player)
        first, labels = inputs_of(player, conditional=True)
        others = labels.copy()
        others[1] = 2  # of class 1 before
        before, after = np.asarray(player([first, labels])), np.asarray(player([first, others]))
        changed = np.abs(before - after).reshape(6, -1).max(1) > 1e-6
        assert changed.tolist() == [False, True, False, False, False, False]


def test_the_label_channel_is_a_picture_of_the_class():
    """Keras.io's conditional GAN joins a channel for each class; this one is learned."""
    _, d = players("dcgan", *VARIANTS[1][1:], conditional=True)
    first, labels = inputs_of(d, conditional=True)
    joined = keras.Model(d.inputs, d.get_layer("image_and_label").output)([first, labels])
    pictures = d.get_layer("label_embedding").get_weights()[0].reshape(CLASSES, 8, 12)
    np.testing.assert_array_equal(joined[..., :3], first)
    np.testing.assert_array_equal(joined[..., 3], pictures[labels])


# ------------------------------------------------------------------------ resnet


def trained_params(model):
    return sum(np.prod(v.shape) for v in model.trainable_variables)


def conv(inputs, outputs, side=3):
    return side * side * inputs * outputs + outputs


def up_block(inputs, outputs):
    """Two normalizations, two convolutions and the short way's."""
    norms = 2 * inputs + 2 * outputs
    return norms + conv(inputs, outputs) + conv(outputs, outputs) + conv(inputs, outputs, 1)


def down_block(inputs, outputs, short=True):
    return conv(inputs, inputs) + conv(inputs, outputs) + short * conv(inputs, outputs, 1)


def first_block(channels):
    return conv(3, channels) + conv(channels, channels) + conv(3, channels, 1)


@pytest.mark.parametrize(
    ("side", "base", "up", "down", "plain"),
    [
        (32, 4, [256] * 4, [128] * 4, 2),
        (48, 6, [512, 256, 128, 64], [64, 128, 256, 512, 1024], 1),
        (64, 4, [1024, 512, 256, 128, 64], [64, 128, 256, 512, 1024], 0),
    ],
)
def test_resnet_has_the_parameters_of_the_published_tables(side, base, up, down, plain):
    """Miyato et al., tables 4 and 5 and, for 64, mimicry's, which has 4 to the 32 blocks' power."""
    spec = Spec("image", (side, side, 3), (-1.0, 1.0))
    g, d = architectures.build("resnet", spec)
    blocks = sum(up_block(a, b) for a, b in itertools.pairwise(up))
    dense = 128 * base * base * up[0] + base * base * up[0]
    assert trained_params(g) == dense + blocks + 2 * up[-1] + conv(up[-1], 3)
    pairs = list(itertools.pairwise(down))
    blocks = sum(
        down_block(a, b, short=a != b or i < len(pairs) - plain) for i, (a, b) in enumerate(pairs)
    )
    assert trained_params(d) == first_block(down[0]) + blocks + down[-1] + 1
    if side == 32:
        assert (trained_params(g), trained_params(d)) == (4_276_739, 1_053_825)
    pools = [x for x in d.layers if isinstance(x, keras.layers.AveragePooling2D)]
    assert len(pools) == 2 * (len(down) - plain)


def test_resnet_begins_with_pictures_of_unit_variance_before_tanh():
    """Of 2 / (fan_in + fan_out) by fan_in / 2, the mean square that a ReLU leaves of N(0, 1)."""
    keras.utils.set_random_seed(0)
    spec = Spec("image", (32, 32, 3), (-1.0, 1.0))
    g = architectures.build_player("generator", "resnet", spec, width=64)
    before = keras.Model(g.inputs, g.get_layer("to_image").output)
    z = np.random.default_rng(0).normal(size=(32, 128)).astype("float32")
    inner = before(z, training=True).numpy()[:, 1:-1, 1:-1]  # the border sees zeros
    assert np.mean(inner**2) == pytest.approx(576 / (576 + 27), rel=0.25)
    samples = g(z, training=True).numpy()
    assert 0.4 < samples.std() < 0.75


def test_spectral_normalization_is_on_every_kernel_of_the_player_that_has_it():
    g, d = players("resnet", *VARIANTS[2][1:], conditional=True)
    options = VARIANTS[3][1:]
    spectral_g, _ = players("resnet", *options, conditional=True)
    plain = (keras.layers.Conv2D, keras.layers.Dense)
    wrapped = keras_gan.layers.SpectralNormalization
    assert not any(isinstance(x, wrapped) for x in g.layers)
    for player in (d, spectral_g):
        assert not any(isinstance(x, plain) for x in player.layers)
    assert isinstance(d.get_layer("label_embedding"), wrapped)


def test_attention_is_where_it_is_asked_for():
    g, d = players(
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
    ("preset", "side", "widths", "group"),
    [
        ("cifar10", 32, [768] * 4, 16),
        ("ffhq-256", 256, [*[768] * 4, 384, 192, 96], 16),
        pytest.param("ffhq-64", 64, [*[768] * 4, 384], 16, marks=pytest.mark.slow),
        pytest.param("imagenet-32", 32, [1536] * 4, 32, marks=pytest.mark.slow),
        pytest.param("imagenet-64", 64, [1536] * 5, 32, marks=pytest.mark.slow),
    ],
)
def test_r3gan_has_the_parameters_of_the_published_tables(preset, side, widths, group):
    spec = Spec("image", (side, side, 3), (-1.0, 1.0))
    g, d = architectures.build("r3gan", spec, False, {"preset": preset}, {"preset": preset})
    blocks = 2 * sum(bottleneck(w, group) for w in widths)
    changes = sum(a * b for a, b in itertools.pairwise(widths) if a != b)
    basis, image = 16 * widths[0], 3 * widths[-1]
    assert params(g) == 64 * widths[0] + basis + blocks + changes + image
    assert params(d) == image + blocks + changes + basis + widths[0]
    if preset == "ffhq-256":  # the paper: 23.06 and 23.01 million
        assert (round(params(g) / 1e4), round(params(d) / 1e4)) == (2306, 2301)


def test_r3gan_begins_as_its_resampling_alone():
    """Every block adds nothing: pattern, interpolation and widths, in numpy."""
    g, d = players("r3gan", {"widths": [12, 8, 8]}, {"widths": [12, 8, 8]}, False, (28, 28, 1))
    z = inputs_of(g, False)
    weights = {layer.name: layer.get_weights() for layer in g.layers if layer.get_weights()}
    x = (z @ weights["project"][0])[:, None, None, :] * weights["basis"][0]
    assert x.shape[1:3] == (7, 7)
    for stage in (1, 2):
        if f"stage_{stage}_widths" in weights:
            x = x @ weights[f"stage_{stage}_widths"][0][0, 0]
        for axis in (1, 2):
            x = np.moveaxis(x, axis, -1)
            after = np.concatenate([x[..., 1:], x[..., -2:-1]], -1)  # mirrored at the border
            x = np.moveaxis(np.stack([x, (x + after) / 2], -1).reshape(*x.shape[:-1], -1), -1, axis)
    expected = x @ weights["samples"][0][0, 0]
    np.testing.assert_allclose(g(z), expected, atol=1e-4)
    assert d(g(z)).shape == (6, 1)


def test_r3gan_begins_with_the_deviations_of_its_formulas():
    """gain / sqrt(fan_in): sqrt(2 / 1.04) L^(-1/4) in the blocks, 0 at their end, else 1."""
    options = {"widths": [128, 64, 64]}
    g, d = players("r3gan", options, options, False, (16, 16, 3))
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
    # What the interpolation leaves of unit variance: sums of the squares of its weights.
    line = np.eye(4)
    for _ in range(2):
        line = np.stack([line, (line + np.vstack([line[1:], line[-2]])) / 2], 1).reshape(-1, 4)
    expected = (line**2).sum(1).mean() ** 2
    squares = []
    for seed in range(4):
        keras.utils.set_random_seed(seed)
        spec = Spec("image", (16, 16, 3), (-1.0, 1.0))
        g = architectures.build_player("generator", "r3gan", spec, blocks_per_stage=1, **options)
        z = np.random.default_rng(seed).normal(size=(64, 64)).astype("float32")
        squares.append(np.mean(np.square(g(z))))
    assert np.mean(squares) == pytest.approx(expected, rel=0.15)


def test_r3gan_prefers_a_class_by_an_inner_product():
    _, d = players("r3gan", *VARIANTS[4][1:], conditional=True)
    disturbed(d)
    first, labels = inputs_of(d, conditional=True)
    features = keras.Model(d.inputs, d.get_layer("class_features").output)([first, labels])
    rows = d.get_layer("label_embedding").get_weights()[0][labels]
    np.testing.assert_allclose(
        d([first, labels]), (features.numpy() * rows).sum(1, keepdims=True), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("family", "shape", "generator", "discriminator", "message"),
    [
        ("resnet", (30, 30, 3), {}, {}, r"divide by 4 at depth=2. Received: 30 x 30"),
        ("resnet", (8, 8, 3), {}, {"halvings": 4}, r"by 16 at halvings=4. Received: 8 x 8"),
        ("resnet", (8, 8, 3), {}, {"halvings": 9}, r"number of blocks, 4. Received: halvings=9"),
        ("resnet", (8, 8, 3), {"attention": 5}, {}, r"one of 2, 4, 8. Received: attention=5"),
        ("resnet", (8, 8, 3), {}, {"attention": 8}, r"one of 2, 4. Received: attention=8"),
        ("resnet", (8, 8, 3), {"norm": "group"}, {}, r"none, batch, layer. Received: norm='gr"),
        (
            "resnet",
            (8, 8, 3),
            {"norm": "layer", "conditioning": "batch_norm"},
            {},
            r"needs norm=\"batch\".* Received: norm='layer'",
        ),
        ("dcgan", (8, 8, 3), {"conditioning": "film"}, {}, r"conditioning must be one of concat"),
        ("dcgan", (8, 8, 3), {}, {"conditioning": "x"}, r"projection, concatenation. Rec.*'x'"),
        ("r3gan", (30, 30, 3), {}, {}, r"divide by 4 at depth=2. Received: 30 x 30"),
        ("r3gan", (8, 8, 3), {"preset": "cifar"}, {}, r"preset must be one of cifar10, .*'cifar'"),
        ("r3gan", (28, 28, 1), {"preset": "cifar10"}, {}, r"divide by 8 at depth=3. Rec.* 28 x 28"),
        (
            "r3gan",
            (32, 32, 3),
            {"preset": "cifar10", "widths": [8, 8, 8, 8]},
            {},
            r"preset names widths and cardinalities.* Received: preset='cifar10'",
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
            r"which there are 3. Received: card.*\[1\]",
        ),
        ("r3gan", (8, 8, 3), {}, {"embedding_dim": 0}, r"embedding_dim must be a whole number"),
    ],
)
def test_what_the_residual_families_refuse(family, shape, generator, discriminator, message):
    spec = Spec("image", shape, (-1.0, 1.0), num_classes=CLASSES)
    with pytest.raises(UsageError, match=message):
        architectures.build(family, spec, True, generator, discriminator)


def test_residual_players_need_images():
    for family in ("resnet", "r3gan"):
        with pytest.raises(UsageError, match=rf"{family!r} makes images. Received: kind='points'"):
            architectures.build(family, Spec("points", (2,)))


@pytest.mark.slow
@pytest.mark.parametrize(("family", "generator", "discriminator"), VARIANTS, ids=variant_id)
def test_a_game_of_each_variant_plays_on_two_steps(family, generator, discriminator):
    """In float32, with penalties: all gradients are there and finite."""
    gan = keras_gan.GAN(
        *players(family, generator, discriminator, conditional=True),
        loss="relativistic",
        penalties=["r1", "r2"],
        num_classes=CLASSES,
    )
    gan.compile(keras.optimizers.SGD(1e-2), keras.optimizers.SGD(1e-2))
    x, y = inputs_of(gan.discriminator, conditional=True, count=8)
    before = [v.numpy() for v in gan.trainable_variables]
    data = tf.data.Dataset.from_tensor_slices((np.tanh(x), y.astype("int32"))).batch(4)
    logs = gan.fit(data, verbose=0).history
    assert np.isfinite([values[0] for values in logs.values()]).all()
    still = {
        v.path
        for v, old in zip(gan.trainable_variables, before, strict=True)
        if np.array_equal(v.numpy(), old) and "attention/" not in v.path  # gamma is 0 at first
    }
    # A bias before a sum that the logits' differences cancel does not move.
    assert not [path for path in still if "kernel" in path], still
