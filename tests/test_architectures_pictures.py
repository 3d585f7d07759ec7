"""Networks from pictures to pictures: sizes, receptive fields, games, exported forms."""

import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

import export
import keras_gan
from keras_gan import Field, Spec, UsageError, architectures, layers, memory, precision
from keras_gan.metrics import pairs
from keras_gan.networks import output_range

RNG = np.random.default_rng(5)


def spec(size=(None, None), condition=None, channels=3, given=3):
    """Pictures of a size with a condition, by default of any size."""
    small = size if condition is None else condition
    fields = {"samples": (*size, channels), "condition": (*small, given)}
    return Spec(fields={name: Field("image", shape) for name, shape in fields.items()})


def build(family, of=None, role=None, conditions=("condition",), **options):
    role = role or ("discriminator" if family == "patch" else "generator")
    return architectures.build_network(
        role, family, of or spec(), conditions=conditions, **(SMALL.get(family, {}) | options)
    )


SMALL = {
    "unet": {"widths": [8, 8, 8]},
    "patch": {"width": 4},
    "translator": {"width": 8, "blocks": 2},
    "srresnet": {"width": 8, "blocks": 2},
    "rrdb": {"width": 8, "blocks": 1, "growth": 4},
}
# Family, options, number that must divide height and width, factor of the samples.
GENERATORS = [
    ("unet", {}, 8, 1),
    ("unet", {"norm": "instance"}, 8, 1),
    ("translator", {}, 4, 1),
    ("translator", {"features": True, "norm": "none"}, 4, 1),
    ("srresnet", {"scale": 4}, 1, 4),
    ("srresnet", {"scale": 1}, 1, 1),
    ("rrdb", {"scale": 3}, 1, 3),
]
ONCE = ("unet-", "translator-", "srresnet-4")
NAMES = [f"{family}-{'-'.join(map(str, options.values()))}" for family, options, *_ in GENERATORS]


def pictures(*shape):
    return RNG.uniform(-1, 1, shape).astype("float32")


def samples_of(network, x):
    found = network(x, training=False)
    return np.asarray(found["samples"] if isinstance(found, dict) else found)


def randomize(network, gain=1.0):
    """Draws all weights, so that no part of a network is the identity or zero."""
    rng = np.random.default_rng(0)
    for weight in network.variables:
        if "moving_variance" in weight.path or "gamma" in weight.path:
            weight.assign(rng.uniform(0.5, 2, weight.shape))
        elif len(weight.shape) == 1:
            weight.assign(rng.normal(0, 0.2, weight.shape))
        else:
            weight.assign(rng.normal(0, gain / np.sqrt(np.prod(weight.shape[:-1])), weight.shape))
    return network


# ------------------------------------------------------------------------ sizes


@pytest.mark.parametrize(("family", "options", "divisor", "scale"), GENERATORS, ids=NAMES)
def test_a_generator_takes_pictures_of_any_size_that_it_divides(family, options, divisor, scale):
    g = randomize(build(family, spec(given=3), **options))
    assert [x.name for x in g.inputs] == ["condition"]
    for height, width in ((2 * divisor, 2 * divisor), (3 * divisor, 5 * divisor)):
        x = pictures(2, height, width, 3)
        y = samples_of(g, x)
        assert y.shape == (2, scale * height, scale * width, 3)
        assert y.dtype == "float32"
        # A picture's answer does not depend on the others of its batch.
        np.testing.assert_allclose(samples_of(g, x[1:]), y[1:], atol=1e-5)


@pytest.mark.parametrize("family", ["unet", "translator", "srresnet", "rrdb"])
def test_a_generator_of_gray_pictures_makes_colored_ones(family):
    options = {"scale": 2} if family in ("srresnet", "rrdb") else {}
    g = build(family, spec(channels=3, given=1), **options)
    assert samples_of(g, pictures(1, 16, 16, 1)).shape[-1] == 3


def test_the_default_unet_has_the_weights_of_its_layers():
    """Five levels of 32, 64, 128, 256, 256 channels, 4 x 4 down and 3 x 3 up, by hand."""
    g = architectures.build_network("generator", "unet", spec((32, 32)), conditions=["condition"])
    widths = [32, 64, 128, 256, 256]
    down = 16 * sum(a * b for a, b in zip([3, *widths], widths, strict=False))
    up = 9 * (256 * 256 + 512 * 128 + 256 * 64 + 128 * 32)
    # Upsampled features and those of the picture, 16 each; all 32; the samples.
    detail = 9 * (64 * 16 + 3 * 16 + 32 * 16 + 16 * 3) + 3 * 16 + 3
    norms = 4 * (64 + 128 + 256) + 4 * (256 + 128 + 64 + 32)
    assert g.count_params() == down + up + norms + detail + 32 + 256  # and two biases


@pytest.mark.parametrize(
    ("size", "levels"), [((32, 32), 5), ((64, 64), 5), ((28, 28), 2), ((24, 40), 3), ((2, 2), 1)]
)
def test_a_unet_has_as_many_levels_as_the_size_of_the_data_divides_by(size, levels):
    g = architectures.build_network("generator", "unet", spec(size), conditions=["condition"])
    assert sum("down" in x.name and hasattr(x, "kernel") for x in g.layers) == levels
    assert samples_of(g, pictures(1, *size, 3)).shape == (1, *size, 3)


def test_sizes_that_do_not_divide_are_refused():
    message = r"divisible by 2 for 'unet'. Received: samples of 31 x 32 \(resize with --set data"
    with pytest.raises(UsageError, match=message):
        build("unet", spec((31, 32)))
    with pytest.raises(UsageError, match=r"divisible by 4 for 'translator'. Received: samples of"):
        build("translator", spec((30, 32)))
    g = build("unet")
    message = r"must be divisible by 8 for this network. Received: 12 x 16$"
    with pytest.raises(UsageError, match=message):
        g(pictures(1, 12, 16, 3))


def test_deeper_networks_for_large_pictures():
    def count(family, size, kind, **options):
        network = build(family, spec(size), **options)
        return sum(isinstance(x, kind) for x in network.layers)

    sizes = [(64, 64), (128, 128), (None, None)]
    assert [count("patch", n, keras.layers.Conv2D) for n in sizes] == [4, 5, 4]
    assert [count("translator", n, keras.layers.Add, blocks=None) for n in sizes] == [3, 6, 3]


# ------------------------------------------------------------------------ patch


@pytest.mark.parametrize(("strided", "field"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_a_patch(strided, field):
    """Backward from the last two layers of 4, each with strides 1: 4, 7, then 2 * n + 2."""
    by_hand = 7
    for _ in range(strided):
        by_hand = 2 * by_hand + 2
    assert by_hand == field
    d = build("patch", conditions=(), layers=strided)
    x = tf.constant(pictures(1, 128, 128, 3))
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = d(x, training=True)
        middle = logits[:, logits.shape[1] // 2, logits.shape[2] // 2]
    seen = np.abs(tape.gradient(middle, x)[0]).sum(-1) > 0
    for axis in (0, 1):
        where = np.flatnonzero(seen.any(axis))
        assert where[-1] - where[0] + 1 == field


def test_patch_reads_its_condition_and_enlarges_a_smaller_one():
    d = randomize(build("patch", spec(given=1)))
    assert [x.name for x in d.inputs] == ["samples", "condition"]
    x, small = pictures(2, 16, 16, 3), pictures(2, 8, 8, 1)
    large = small.repeat(2, 1).repeat(2, 2)
    np.testing.assert_allclose(d([x, small]), d([x, large]), atol=1e-6)
    assert np.abs(d([x, small]) - d([x, -small])).max() > 1e-3
    traced = tf.function(
        lambda a, b: d([a, b]),
        input_signature=[
            tf.TensorSpec((None, None, None, 3)),
            tf.TensorSpec((None, None, None, 1)),
        ],
    )
    np.testing.assert_allclose(traced(x, small), d([x, large]), atol=1e-6)
    assert d([x, small]).shape == (2, 4, 4, 1)


@pytest.mark.parametrize("norm", ["none", "spectral", "instance", "batch"])
def test_norms_of_patch(norm):
    d = build("patch", norm=norm)
    kinds = {
        "spectral": layers.SpectralNormalization,
        "instance": layers.GroupNormalization,
        "batch": layers.BatchNormalization,
    }
    for name, kind in kinds.items():
        count = sum(isinstance(x, kind) for x in d.layers)
        assert count == ((4 if norm == "spectral" else 2) if name == norm else 0)


def test_features_of_patch_are_those_before_the_logits():
    d = build("patch", features=True, conditions=())
    found = d(pictures(2, 32, 32, 3))
    assert [tuple(x.shape) for x in found["features"]] == [
        *((2, 16, 16, 4), (2, 8, 8, 8), (2, 8, 8, 16))
    ]
    last = d.get_layer("logits")
    np.testing.assert_allclose(last(found["features"][-1]), found["logits"], atol=1e-6)


# ------------------------------------------------------------------------ enlargement


@pytest.mark.parametrize("family", ["srresnet", "rrdb"])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_an_untrained_network_is_the_bicubic_enlargement(family, scale):
    x = pictures(2, 9, 7, 3)
    expected = tf.image.resize(x, (9 * scale, 7 * scale), "bicubic")
    np.testing.assert_allclose(build(family, scale=scale)(x), expected, atol=2e-6)
    assert np.abs(randomize(build(family, scale=scale))(x) - expected).max() > 0.1


def test_bicubic_weights_by_hand():
    """Pixels lie 1/4, 3/4, 5/4 and 7/4 from the new ones; Keys's kernel with a = -1/2."""
    x = np.zeros((1, 2, 8, 1), "float32")
    x[:, :, 4:] = 1
    row = np.asarray(layers.BicubicUpsample2D(2)(x))[0, 1, :, 0]
    beside, far, farther = 0.2265625, -0.0703125, -0.0234375  # at 3/4, 5/4 and 7/4
    low = [0, 0, 0, 0, 0, farther, far, beside + farther]
    np.testing.assert_allclose(row, low + [1 - n for n in low[::-1]], atol=1e-6)


def test_the_scale_follows_from_fixed_sizes():
    g = build("srresnet", spec((64, 32), condition=(16, 8)))
    assert samples_of(g, pictures(1, 5, 3, 3)).shape == (1, 20, 12, 3)
    with pytest.raises(UsageError, match=r"`scale` must be given where the sizes .*scale=None"):
        build("srresnet")
    message = r"`scale` times those of the condition. Received: scale=2, samples of 64 x 64, cond"
    with pytest.raises(UsageError, match=message):
        build("rrdb", spec((64, 64), condition=(16, 16)), scale=2)
    with pytest.raises(UsageError, match=r"`scale` times those of the .*scale=None, samples of 64"):
        build("rrdb", spec((64, 64), condition=(16, 32)))
    with pytest.raises(UsageError, match=r"of the channels of the samples, 3, or of 1. Received: "):
        build("srresnet", spec(given=4), scale=2)


def test_depth_to_space_and_reflection_by_hand():
    x = np.arange(8, dtype="float32").reshape(1, 1, 2, 4)
    expected = [[0, 1, 4, 5], [2, 3, 6, 7]]
    np.testing.assert_array_equal(layers.DepthToSpace2D(2)(x)[0, :, :, 0], expected)
    line = np.arange(4, dtype="float32").reshape(1, 1, 4, 1).repeat(3, 1)
    padded = np.asarray(layers.ReflectionPadding2D(2)(line))[0, :, :, 0]
    np.testing.assert_array_equal(padded, [[2, 1, 0, 1, 2, 3, 2, 1]] * 7)
    for layer in (layers.ReflectionPadding2D, layers.DepthToSpace2D, layers.BicubicUpsample2D):
        with pytest.raises(UsageError, match=r"must be an integer of at least 1. Received: .*=0"):
            layer(0)


# ------------------------------------------------------------------------ other properties


@pytest.mark.parametrize("family", ["unet", "translator"])
def test_no_comb_at_the_highest_frequency(family):
    """The mean spectrum of untrained networks at Nyquist against that of its neighbors."""
    keras.utils.set_random_seed(1)
    power = 0.0
    for _ in range(3):
        g = architectures.build_network(
            "generator", family, spec((32, 32)), conditions=["condition"], norm="none"
        )
        y = samples_of(g, pictures(8, 32, 32, 3))
        power = power + (np.abs(np.fft.fft2(y, axes=(1, 2))) ** 2).mean((0, 3))
    for line in (power.sum(0), power.sum(1)):
        assert line[16] < 1.5 * line[[12, 13, 14, 15]].mean()


def test_features_of_a_translator_come_from_five_depths():
    g = build("translator", features=True)
    found = g(pictures(2, 16, 24, 3))
    assert [tuple(x.shape) for x in found["features"]] == [(2, 4, 6, 256)] * 5
    assert found["samples"].shape == (2, 16, 24, 3)


@pytest.mark.parametrize(("family", "options"), [row[:2] for row in GENERATORS], ids=NAMES)
def test_a_generator_in_bfloat16_and_from_a_file(family, options, tmp_path):
    with precision.layers("mixed_bfloat16"):
        g = randomize(build(family, **options))
    x = pictures(1, 16, 16, 3)
    y = samples_of(g, x)
    assert y.dtype == "float32"
    g.save(tmp_path / "network.keras")
    again = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(samples_of(again, x), y)
    plain = randomize(build(family, **options))
    assert 0 < np.abs(samples_of(plain, x) - y).mean() < 0.1


def test_a_unet_answers_with_stored_statistics():
    g = randomize(build("unet"))
    norms = [x for x in g.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) == 3  # none on the first and the lowest level
    x = pictures(4, 16, 16, 3)
    before = samples_of(g, x)
    norms[0].moving_mean.assign(norms[0].moving_mean + 1.0)
    assert np.abs(samples_of(g, x) - before).max() > 1e-3


def test_ranges_of_the_samples():
    assert output_range(build("unet")) == (-1, 1)
    assert output_range(build("translator", features=True)) == (-1, 1)
    assert output_range(build("srresnet", scale=2)) is None


def test_conditions_that_are_not_pictures():
    with pytest.raises(UsageError, match=r"condition must name a field .*Received: no condition"):
        build("unet", conditions=())
    fields = {"samples": Field("image", (8, 8, 3)), "key": Field("array", (4,))}
    with pytest.raises(UsageError, match=r"takes pictures as cond.* condition=\[key\] of kind 'ar"):
        build("translator", Spec(fields=fields), conditions=["key"])
    with pytest.raises(UsageError, match=r"is for images only .*Received: kind='points'"):
        build("patch", Spec("points", (2,)), conditions=())
    labeled = Spec("image", (8, 8, 3), num_classes=2)
    with pytest.raises(UsageError, match=r"and no labels. Received: labels among its condition"):
        architectures.build_network("discriminator", "patch", labeled, True)
    with pytest.raises(UsageError, match=r"of the discriminator must be one of .*Received: 'unet'"):
        architectures.build_network("discriminator", "unet", spec())


# ------------------------------------------------------------------------ games


def batches(count=4, size=8, side=16):
    x, y = pictures(count * size, side, side, 3), pictures(count * size, side, side, 1)
    fields = {"samples": x, "condition": y}
    return tf.data.Dataset.from_tensor_slices(fields).batch(size, drop_remainder=True)


def game(family="unet", **arguments):
    keras.utils.set_random_seed(0)
    of = spec(given=1)
    return keras_gan.GAN(build(family, of), build("patch", of), **arguments)


def test_a_game_of_any_size_trains_generates_and_resumes(tmp_path):
    data = batches()
    whole, part = game(), game()
    assert whole.sample_shape == (None, None, 3)
    for gan, epochs in ((whole, 2), (part, 1)):
        gan.compile()
        gan.fit(data, epochs=epochs, verbose=0)
    part.save(tmp_path / "gan.keras")
    again = keras.models.load_model(tmp_path / "gan.keras")
    again.fit(data, epochs=1, verbose=0)
    for one, other in zip(whole.variables, again.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    for height, width in ((8, 8), (40, 24)):
        x = pictures(3, height, width, 1)
        y = again.generate(range(3), condition=x, batch_size=2)
        assert y.shape == (3, height, width, 3)
        np.testing.assert_allclose(again.average_generator(x, training=False), y, atol=1e-5)
    assert again.generate([], condition=pictures(0, 8, 8, 1)).shape == (0, 0, 0, 3)
    message = r"divisible by 8 for this network. Received: 12 x 12$"
    with pytest.raises(UsageError, match=message):
        again.generate([0], condition=pictures(1, 12, 12, 1))


def test_batches_of_several_sizes():
    def read():
        for side in (16, 24, 32):
            yield {"samples": pictures(4, side, side, 3), "condition": pictures(4, side, side, 1)}

    shape = (None, None, None)
    signature = {"samples": tf.TensorSpec((*shape, 3)), "condition": tf.TensorSpec((*shape, 1))}
    data = tf.data.Dataset.from_generator(read, output_signature=signature)
    gan = game("translator")
    gan.compile()
    gan.fit(data, verbose=0, steps_per_epoch=3)
    assert gan.count("examples_seen") == 12
    augmented = game(augment="diff_augment")
    augmented.compile()
    with pytest.raises(UsageError, match=r"DiffAugment takes batches whose height .*None, None, 3"):
        augmented.fit(data, verbose=0)
    augmented.fit(batches(1), verbose=0)  # crops of one size
    assert augmented.count("iteration") == 1


def test_a_batch_of_a_size_that_the_network_does_not_divide():
    gan = game()
    gan.compile()
    with pytest.raises(UsageError, match=r"divisible by 8 .*Received: 20 x 20$"):
        gan.fit(batches(1, side=20), verbose=0)
    assert gan.count("iteration") == 0


def test_packs_need_a_fixed_size():
    of = spec(given=1)
    d = build("patch", of.packed(2), conditions=())
    message = r"fixed height and width.* must have pac=1. Received: pac=2, samples of .*None, 3\)$"
    with pytest.raises(UsageError, match=message):
        keras_gan.GAN(build("unet", of), d, pac=2)


def test_only_pictures_of_any_height_and_width_may_leave_those_of_samples_open():
    def shifted(height, width):
        z = keras.Input((4,), name="latents")
        x = keras.Input((height, width, 3), name="condition")
        shift = keras.layers.Reshape((1, 1, 3))(keras.layers.Dense(3)(z))
        return keras.Model([z, x], keras.layers.Add()([x, shift]))

    gan = keras_gan.GAN(shifted(None, None), build("patch"))
    assert (gan.sample_shape, gan.latent_dim) == ((None, None, 3), 4)
    message = r"must have a known shape; only a generator .* Received: \(None, 16, 3\)$"
    with pytest.raises(UsageError, match=message):
        keras_gan.GAN(shifted(None, 16), build("patch"))


@pytest.mark.parametrize(("family", "scale"), [("unet", 1), ("srresnet", 4)])
def test_the_memory_of_a_free_size_is_that_of_samples_of_64(family, scale):
    g = build(family, **({"scale": scale} if scale > 1 else {}))
    gan = keras_gan.GAN(g, build("patch"))
    outputs = keras.Model(g.inputs, [x.output for x in g.layers])
    sizes = [np.size(x) for x in outputs(pictures(1, 64 // scale, 64 // scale, 3))]
    d = keras.Model(gan.discriminator.inputs, [x.output for x in gan.discriminator.layers])
    judged = [np.size(x) for x in d([pictures(1, 64, 64, 3)] * 2)]
    assert memory.batch_bytes(gan, 5) == 5 * 4 * (sum(sizes) + 2 * sum(judged))


@pytest.mark.slow
def test_two_devices_train_to_the_weights_of_one():
    program = """
        import keras, numpy as np, replicas, tensorflow as tf
        strategy = replicas.two_devices()
        import test_architectures_pictures as pictures
        data = pictures.batches()
        states = []
        for scope in (tf.distribute.get_strategy(), strategy):
            with scope.scope():
                gan = pictures.game("translator")
                gan.compile(*(keras.optimizers.SGD(0.01) for _ in range(2)))
            gan.fit(data, verbose=0)
            states.append([w.numpy() for w in gan.trainable_variables])
        worst = max(np.abs(a - b).max() for a, b in zip(*states, strict=True))
        assert worst < 1e-5, worst
        print("equal")
    """
    here = os.path.dirname(__file__)
    path = os.pathsep.join([here, os.path.dirname(here), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout == "equal\n", done.stderr[-3000:]


def test_metrics_see_the_size_of_the_held_out_pictures():
    free = pairs.with_sizes(spec(), {"samples": pictures(2, 24, 16, 3)})
    assert free.shape == (24, 16, 3)
    assert free.fields["condition"].shape == (None, None, 3)
    fixed = spec((8, 8))
    assert pairs.with_sizes(fixed, {"samples": pictures(2, 8, 8, 3)}) == fixed


# ------------------------------------------------------------------------ exported forms


# The other forms take as long to export, and differ in operations that these have.
@pytest.mark.parametrize(
    ("family", "options", "divisor", "scale"),
    [
        pytest.param(*row, id=name, marks=() if name in ONCE else pytest.mark.slow)
        for name, row in zip(NAMES, GENERATORS, strict=True)
    ],
)
def test_exported_networks_answer_at_any_size(family, options, divisor, scale, tmp_path):
    g = randomize(build(family, **options))
    export.export_bundle(g, tmp_path / "bundle")
    session = onnxruntime.InferenceSession(tmp_path / "bundle" / "model.onnx")
    assert [x.name for x in session.get_outputs()] == ["samples"]
    # Statistics of fewer than 4 x 4 positions would enlarge differences of rounding.
    unit = 1 if divisor == 1 else 8
    for height, width in ((2, 2), (4, 4), (3, 5), (2, 8), (8, 6)):
        for count in (1, 2, 5):
            x = pictures(count, unit * height, unit * width, 3)
            (found,) = session.run(None, {"condition": x})
            assert found.shape == (count, scale * unit * height, scale * unit * width, 3)
            np.testing.assert_allclose(found, samples_of(g, x), atol=1e-5)
    if unit == 1:
        x = pictures(1, 1, 1, 3)
        np.testing.assert_allclose(
            session.run(None, {"condition": x})[0], samples_of(g, x), atol=1e-5
        )
