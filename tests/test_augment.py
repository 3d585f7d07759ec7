"""Augmentations: the effect of each operation, and all of them in a game."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gan
from keras_gan import UsageError, augment, recipe, terms, train
from keras_gan.augment import pipeline
from keras_gan.augment.random import RandomNumbers
from keras_gan.games import _step
from keras_gan.random_numbers import fold_in
from keras_gan.schedules import Linear

RNG = np.random.default_rng(9)
SEED = tf.constant([3, 4], tf.int64)
IMAGES = tf.constant(RNG.uniform(-1, 1, (64, 8, 16, 3)), tf.float32)
POLICIES = ["color", "translation", "cutout", "color,translation,cutout"]
# Each registered augmentation with a strong effect, for the contract tests.
ALL = {
    "diff_augment": augment.DiffAugment(),
    "flip_translation": augment.FlipTranslation(),
    "pipeline": augment.Pipeline(0.8, cutout=1.0),
    "adaptive": augment.Adaptive(probability=0.8, cutout=1.0),
    "apa": augment.Apa("pipeline", probability=0.5),
}


def test_all_are_in_the_contract_tests():
    assert set(ALL) == set(augment.names())


def state_of(transform, examples_seen=0.0):
    start = {name: tf.constant(v) for name, v in transform.initial_state().items()}
    return start | {"examples_seen": tf.constant(examples_seen)}


def applied(transform, images):
    return transform.apply(images, SEED, state_of(transform))


def per_image(values):
    """Returns the mean over each image."""
    return np.asarray(values).reshape(len(values), -1).mean(1)


def check_uniform(numbers, low, high):
    """Checks the bounds, the range and the mean of 64 uniform numbers."""
    numbers = np.asarray(numbers)
    assert low - 1e-4 <= numbers.min() < low + 0.15 * (high - low)
    assert high - 0.15 * (high - low) < numbers.max() <= high + 1e-4
    error = (high - low) / np.sqrt(12 * len(numbers))
    assert numbers.mean() == pytest.approx((low + high) / 2, abs=4 * error)
    assert len(np.unique(numbers.round(6))) > 50


def test_brightness_shifts_each_image_by_its_own_number():
    shift = augment.brightness(IMAGES, SEED) - IMAGES
    assert np.ptp(shift.numpy().reshape(64, -1), axis=1).max() < 1e-6
    check_uniform(per_image(shift), -0.5, 0.5)


def test_saturation_keeps_each_pixels_mean_and_scales_the_distance_from_it():
    augmented = augment.saturation(IMAGES, SEED).numpy()
    gray = IMAGES.numpy().mean(3, keepdims=True)
    np.testing.assert_allclose(augmented.mean(3, keepdims=True), gray, atol=1e-6)
    factor = per_image((augmented - gray) ** 2) / per_image((IMAGES - gray) ** 2)
    np.testing.assert_allclose(
        augmented - gray, (IMAGES - gray) * np.sqrt(factor)[:, None, None, None], atol=1e-5
    )
    check_uniform(np.sqrt(factor), 0.0, 2.0)
    one_channel = IMAGES[..., :1]
    np.testing.assert_allclose(augment.saturation(one_channel, SEED), one_channel, atol=1e-6)


def test_contrast_keeps_each_images_mean_and_scales_the_distance_from_it():
    augmented = augment.contrast(IMAGES, SEED).numpy()
    mean = per_image(IMAGES)[:, None, None, None]
    np.testing.assert_allclose(per_image(augmented), per_image(IMAGES), atol=1e-6)
    factor = augmented.std((1, 2, 3)) / IMAGES.numpy().std((1, 2, 3))
    np.testing.assert_allclose(
        augmented - mean, (IMAGES - mean) * factor[:, None, None, None], atol=1e-5
    )
    check_uniform(factor, 0.5, 1.5)


def test_translation_is_by_whole_pixels_and_fills_with_zeros():
    augmented = augment.translation(IMAGES, SEED).numpy()
    shifts = set()
    for image, translated in zip(IMAGES.numpy(), augmented, strict=True):
        fits = []
        for down in (-1, 0, 1):  # an eighth of 8
            for right in (-2, -1, 0, 1, 2):  # an eighth of 16
                expected = np.zeros_like(image)
                rows = slice(max(down, 0), 8 + min(down, 0))
                columns = slice(max(right, 0), 16 + min(right, 0))
                rows_from = slice(max(-down, 0), 8 + min(-down, 0))
                columns_from = slice(max(-right, 0), 16 + min(-right, 0))
                expected[rows, columns] = image[rows_from, columns_from]
                if np.array_equal(expected, translated):
                    fits.append((down, right))
        assert len(fits) == 1
        shifts.add(fits[0])
    assert len(shifts) >= 14  # of 15: 64 images miss a given shift once in 80 times


def test_flip_translation_flips_half_of_the_images_and_translates_them():
    results = augment.flip(IMAGES, SEED).numpy()
    flipped = [np.array_equal(b, a[:, ::-1]) for a, b in zip(IMAGES.numpy(), results, strict=True)]
    kept = [np.array_equal(b, a) for a, b in zip(IMAGES.numpy(), results, strict=True)]
    assert np.logical_xor(flipped, kept).all()
    assert 16 < sum(flipped) < 48  # of 64: 4 standard errors
    augmented = augment.FlipTranslation()(IMAGES, SEED).numpy()
    seeds = [fold_in(SEED, i) for i in range(2)]
    expected = augment.translation(augment.flip(IMAGES, seeds[0]), seeds[1])
    np.testing.assert_array_equal(augmented, expected)
    with pytest.raises(UsageError, match=r"takes images .* samples of shape \(2,\)"):
        augment.FlipTranslation().check((2,))


def test_cutout_sets_half_the_height_and_width_to_zero_and_is_cut_off_at_the_border():
    hole = augment.cutout(tf.ones((400, 8, 16, 3)), SEED).numpy() == 0
    assert (hole == hole[..., :1]).all()
    whole, firsts = 0, set()
    for image in hole[..., 0]:
        rows, columns = image.any(1).nonzero()[0], image.any(0).nonzero()[0]
        # A contiguous rectangle, of 4 x 8 unless it touches the border.
        assert image.sum() == len(rows) * len(columns)
        assert np.ptp(rows) == len(rows) - 1
        assert np.ptp(columns) == len(columns) - 1
        assert len(rows) == 4 or (len(rows) in (2, 3) and {rows[0], 7 - rows[-1]} & {0})
        assert len(columns) == 8 or (
            len(columns) in range(4, 8) and {columns[0], 15 - columns[-1]} & {0}
        )
        whole += (len(rows), len(columns)) == (4, 8)
        firsts.add(int(rows[-1]) if rows[0] == 0 else int(rows[0]) + 3)
    assert firsts == set(range(1, 10))  # centers between all rows and at both borders
    # 5 of 9 row positions and 9 of 17 column positions are inside.
    assert whole / 400 == pytest.approx(5 / 9 * 9 / 17, abs=0.1)


def test_cutout_keeps_the_other_pixels():
    augmented = augment.cutout(IMAGES, SEED).numpy()
    np.testing.assert_array_equal(augmented[augmented != 0], IMAGES.numpy()[augmented != 0])


@pytest.mark.parametrize("policy", POLICIES)
def test_results_are_a_function_of_the_seed(policy):
    transform = augment.DiffAugment(policy)
    first = transform(IMAGES, SEED).numpy()
    assert first.shape == IMAGES.shape
    np.testing.assert_array_equal(first, transform(IMAGES, SEED))
    assert not np.array_equal(first, transform(IMAGES, SEED + 1))
    same = transform(tf.repeat(IMAGES[:1], 16, axis=0), SEED).numpy()
    assert len(np.unique(same.reshape(16, -1), axis=0)) > 5  # each image has its own numbers


@pytest.mark.parametrize("policy", POLICIES)
def test_graphs_and_xla_compute_the_same_for_any_batch(policy):
    transform = augment.DiffAugment(policy)
    specs = [tf.TensorSpec((None, 8, 16, 3)), tf.TensorSpec((2,), tf.int64)]
    for jit_compile in (False, True):
        compiled = tf.function(transform, input_signature=specs, jit_compile=jit_compile)
        for size in (1, 6):
            np.testing.assert_allclose(
                compiled(IMAGES[:size], SEED), transform(IMAGES[:size], SEED), atol=1e-5
            )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_random_numbers_do_not_depend_on_the_precision(dtype):
    transform = augment.DiffAugment()
    augmented = transform(tf.cast(IMAGES, dtype), SEED)
    assert augmented.dtype == dtype
    np.testing.assert_allclose(tf.cast(augmented, tf.float32), transform(IMAGES, SEED), atol=0.05)


@pytest.mark.parametrize("name", ALL)
def test_the_gradient_is_that_of_finite_differences(name):
    images = tf.cast(IMAGES[:3], tf.float64)
    rng = np.random.default_rng(2)
    probe, direction = (tf.constant(rng.normal(size=images.shape)) for _ in range(2))

    @tf.function
    def value(x):
        return tf.reduce_sum(probe * applied(ALL[name], x) ** 2)

    with tf.GradientTape() as tape:
        tape.watch(images)
        result = value(images)
    slope = float(tf.reduce_sum(tape.gradient(result, images) * direction))
    step = 1e-6
    ahead, behind = value(images + step * direction), value(images - step * direction)
    assert slope == pytest.approx(float(ahead - behind) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_a_penalty_through_it_has_the_second_derivative_of_finite_differences(name):
    """D(x) = (w . augmented x)^2: the derivative by w flows through the augmentation."""
    images = tf.cast(IMAGES[:3], tf.float64)
    rng = np.random.default_rng(2)
    w, direction = (tf.constant(rng.normal(size=images.shape[1:])) for _ in range(2))

    def value(w):
        def discriminate(x):
            return {"logits": tf.reduce_sum(w * applied(ALL[name], x), axis=(1, 2, 3)) ** 2 / 100}

        forward = terms.SharedForward(discriminate)
        context = terms.StepContext("discriminator", {}, forward, None, None, images, images, None)
        return tf.reduce_mean(terms.R1().values(context))

    @tf.function
    def slope():
        with tf.GradientTape() as tape:
            tape.watch(w)
            result = value(w)
        return tf.reduce_sum(tape.gradient(result, w) * direction)

    step = 1e-5
    ahead, behind = value(w + step * direction), value(w - step * direction)
    assert float(slope()) == pytest.approx(float(ahead - behind) / (2 * step), rel=1e-6)


XLA = [pytest.param(n, True, marks=() if n == "pipeline" else pytest.mark.slow) for n in ALL]


@pytest.mark.parametrize(
    ("name", "jit_compile"), [("pipeline", False), ("diff_augment", False), *XLA]
)
def test_images_of_any_shape_in_a_graph_and_under_xla(name, jit_compile):
    for shape in ((5, 8, 3),) if jit_compile else ((5, 8, 1), (8, 5, 3), (4, 4, 2)):
        images = tf.constant(RNG.uniform(-1, 1, (6, *shape)), tf.float32)
        specs = [tf.TensorSpec((None, *shape))]

        def transform(x):
            return applied(ALL[name], x)

        compiled = tf.function(transform, input_signature=specs, jit_compile=jit_compile)
        for size in (1, 6):
            augmented = compiled(images[:size])
            assert augmented.shape == (size, *shape)
            np.testing.assert_allclose(augmented, transform(images[:size]), atol=1e-4)


SETUPS = [{}, {"jit_compile": True}, {"policy": "mixed_float16"}]


@pytest.mark.parametrize(
    ("name", "setup"),
    [("diff_augment", SETUPS[0])]
    + [pytest.param("diff_augment", s, marks=pytest.mark.slow) for s in SETUPS[1:]]
    + [pytest.param(n, s, marks=pytest.mark.slow) for n in ("adaptive", "apa") for s in SETUPS],
    ids=str,
)
def test_a_game_is_trained_with_it(make_gan, images, name, setup):
    keras.config.set_dtype_policy(setup.get("policy", "float32"))
    try:
        gan = make_gan(compiled=False, augment=ALL[name], terms=["r1", "dragan"])
    finally:
        keras.config.set_dtype_policy("float32")
    gan.compile(jit_compile=setup.get("jit_compile", False))
    logs = gan.fit(images.take(2), verbose=0).history
    assert np.isfinite([values[0] for values in logs.values()]).all()
    assert logs["r1"][0] > 0


def test_a_saved_game_keeps_it_and_resumes_bit_for_bit(make_gan, images, tmp_path):
    straight = make_gan(augment={"name": "diff_augment", "policy": "color,cutout"})
    straight.fit(images, verbose=0)
    straight.save(tmp_path / "game.keras")
    straight.fit(images, verbose=0)
    resumed = keras.saving.load_model(tmp_path / "game.keras")
    assert type(resumed.augment) is augment.DiffAugment
    assert resumed.augment.get_config() == {"policy": "color,cutout", "probability": 1.0}
    resumed.fit(images, verbose=0)
    for a, b in zip(resumed.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ALL)
def test_names_and_round_trip(name):
    for found in (augment.get(name), ALL[name]):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(found))
        assert type(again) is type(found)
        assert str(again.get_config()) == str(found.get_config())
        assert again.initial_state() == found.initial_state()
    assert augment.names()[name].endswith(".")
    scheduled = augment.Pipeline(Linear(0, 1, 10))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(scheduled))
    assert repr(again.probability) == "Linear(start=0.0, end=1.0, examples=10)"


def test_callables_and_none_are_passed_through():
    def own(samples, seed):
        return samples

    assert augment.get(None) is None
    assert augment.get(own) is own
    assert augment.DiffAugment(" cutout , color").policy == "cutout,color"


def test_invalid_arguments_are_rejected(make_gan):
    with pytest.raises(UsageError, match=r"Received: 'colr'. Did you mean 'color'"):
        augment.DiffAugment("colr,cutout")
    with pytest.raises(UsageError, match=r"Received: ''"):
        augment.DiffAugment("color,")
    with pytest.raises(UsageError, match=r"'difaugment'\. Did you mean 'diff_augment'"):
        make_gan(augment="difaugment")
    with pytest.raises(UsageError, match=r"`ratio` is not .* ratio=2. Valid: policy, probab"):
        augment.get({"name": "diff_augment", "ratio": 2})
    for make, message in (
        (lambda: augment.Pipeline(1.5), "`probability` must be a number from 0 to 1. .*=1.5"),
        (lambda: augment.Pipeline(Linear(0, 2, 5)), "`probability` must .* probability=Linear"),
        (lambda: augment.Pipeline(1.0, color=True), "`color` must be .* color=True"),
        (lambda: augment.Adaptive(target=1.0), "`target` must .* above -1 and below 1. .*=1.0"),
        (lambda: augment.Adaptive(interval=0), "`interval` must be .* at least 1. .*=0"),
        (lambda: augment.Adaptive(examples=0), "`examples` must be a number above 0. .*=0"),
        (lambda: augment.Apa("adaptve"), "'adaptve'. Did you mean 'adaptive'"),
        (lambda: augment.Apa(abs), "`augment` must be one of .*"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)
    spec = keras_gan.Spec("points", (2,))
    networks = keras_gan.architectures.build("mlp", spec)
    with pytest.raises(UsageError, match=r"takes images .* samples of shape \(2,\)"):
        keras_gan.GAN(*networks, augment="diff_augment")


def test_a_recipe_names_it():
    settings = [
        "game.augment={name: diff_augment, policy: cutout}",
        "networks.discriminator.widths=[4,4,4]",
    ]
    resolved = recipe.load("quickstart", settings)
    assert recipe.parse(resolved.model_dump()) == resolved
    gan = train.build(resolved, keras_gan.Spec("image", (28, 28, 1), (-1.0, 1.0)))
    assert gan.augment.policy == "cutout"
    assert recipe.load("quickstart").game.augment is None
    by_name = recipe.load("quickstart", ["game.augment=diff_augment"])
    assert by_name.game.augment == "diff_augment"
    nested = "game.augment={name: apa, augment: {name: adaptive, target: 0.5}}"
    assert (
        train.build(
            recipe.load("quickstart", [nested, "networks.discriminator.widths=[4,4,4]"]),
            keras_gan.Spec("image", (28, 28, 1), (-1.0, 1.0)),
        ).augment.augment.target
        == 0.5
    )
    with pytest.raises(UsageError, match=r"game.augment.augment.tarjet is not .*'target'"):
        recipe.load(
            "quickstart", ["game.augment={name: apa, augment: {name: adaptive, tarjet: 1}}"]
        )


# ------------------------------------------------------------------------ the pipeline of ADA


def one_group(group, probability=1.0):
    factors = dict.fromkeys(("blit", "geometry", "color", "cutout"), 0.0) | {group: 1.0}
    return augment.Pipeline(probability, **factors)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_images_are_unchanged_at_probability_0(dtype):
    images = tf.cast(IMAGES, dtype)
    never = augment.Pipeline(0.0, cutout=1.0)
    np.testing.assert_array_equal(never(images, SEED), images)
    compiled = tf.function(never, jit_compile=True)
    np.testing.assert_array_equal(compiled(images, SEED), images)
    start = augment.Adaptive()
    np.testing.assert_array_equal(start.apply(images, SEED, state_of(start)), images)


def test_resampling_by_hand():
    """Flips, rotations, translations by 1 and 1/2 pixel, scaling; reflection at the border."""
    image = tf.reshape(tf.constant([[1.0, 2, 4], [8, 16, 32], [64, 128, 256]]), (1, 3, 3, 1))

    def resampled(*rows):
        augmented = augment.resample(image, tf.constant([[*rows, [0.0, 0, 1]]]))
        return augmented.numpy()[0, :, :, 0].tolist()

    assert resampled([-1.0, 0, 0], [0, 1, 0]) == [[4, 2, 1], [32, 16, 8], [256, 128, 64]]
    # New right is old down: a rotation by 90 degrees to the left.
    assert resampled([0.0, -1, 0], [1, 0, 0]) == [[4, 32, 256], [2, 16, 128], [1, 8, 64]]
    assert resampled([1.0, 0, -1], [0, 1, 0])[0] == [2, 1, 2]
    assert resampled([1.0, 0, 0], [0, 1, 2]) == [[64, 128, 256], [8, 16, 32], [1, 2, 4]]
    assert resampled([1.0, 0, 0.5], [0, 1, 0])[2] == [96, 192, 192]
    assert resampled([0.5, 0, 0], [0, 0.5, 0])[1] == [12, 16, 24]
    wide = tf.constant([[[[1.0], [2.0]]]])  # a single row is its own reflection
    shifted = augment.resample(wide, tf.constant([[[1.0, 0, 0], [0, 1, 0.3], [0, 0, 1]]]))
    np.testing.assert_array_equal(shifted, wide)


def test_blit_maps_pixels_and_does_not_leak():
    """Of 8 orientations, the original is the most frequent below probability 1."""
    rng = np.random.default_rng(3)
    image = rng.uniform(-1, 1, (1, 3, 3, 1)).astype("float32")  # too small for a translation
    orientations = [np.rot90(m, k) for m in (image[0], image[0, :, ::-1]) for k in range(4)]
    augmented = one_group("blit", 0.5)(tf.repeat(image, 4000, axis=0), SEED).numpy()
    share = [np.mean((augmented == way).all((1, 2, 3))) for way in orientations]
    assert sum(share) == 1
    # Flipped with probability 1/4; rotated by each of three angles with 1/8.
    expected = [0.75 * q for q in (5 / 8, 1 / 8, 1 / 8, 1 / 8)]
    expected += [0.25 * q for q in (5 / 8, 1 / 8, 1 / 8, 1 / 8)]
    np.testing.assert_allclose(share, expected, atol=4 * 0.5 / np.sqrt(4000))
    wide = tf.constant(rng.uniform(-1, 1, (500, 4, 16, 1)), tf.float32)
    blitted = one_group("blit")(wide, SEED).numpy()
    shifts = {
        int(np.flatnonzero(np.isclose(row, before[1, 8, 0]))[0]) - 8
        for before, row in zip(wide.numpy(), blitted[:, 1, :, 0], strict=True)
        if np.isclose(row, before[1, 8, 0]).any()
    }
    assert {-2, -1, 0, 1, 2} <= shifts


def test_the_random_numbers_have_the_papers_distributions():
    numbers = RandomNumbers(tf.zeros((20000, 1)), SEED)
    normal = numbers.normal(0.2).numpy()
    assert normal.mean() == pytest.approx(0, abs=0.006)
    assert normal.std() == pytest.approx(0.2, rel=0.02)
    assert (np.abs(normal) < 0.2).mean() == pytest.approx(0.6827, abs=0.014)
    octaves = np.log2(numbers.lognormal(0.5).numpy())
    assert octaves.mean() == pytest.approx(0, abs=0.015)
    assert octaves.std() == pytest.approx(0.5, rel=0.02)
    assert set(numbers.integer(4).numpy()) == {0, 1, 2, 3}
    changed = numbers.select(0.3, numbers.uniform(1, 2), 0.0).numpy() > 0
    assert changed.mean() == pytest.approx(0.3, abs=0.013)


def test_geometry_by_its_matrices():
    """Scaling, rotation, anisotropic scaling, rotation: the determinant is 1 / scale^2."""
    numbers = RandomNumbers(tf.zeros((20000, 1)), SEED)
    matrices = pipeline.geometry_inverse(numbers, 1.0, 10, 40).numpy()
    octaves = -np.log2(np.linalg.det(matrices[:, :2, :2])) / 2
    assert octaves.std() == pytest.approx(0.2, rel=0.03)
    stretches = np.linalg.svd(matrices[:, :2, :2])[1]
    ratio = np.log2(stretches[:, 0] / stretches[:, 1]) / 2  # of both axes: |N(0, 0.2)|
    assert np.sqrt((ratio**2).mean()) == pytest.approx(0.2, rel=0.03)
    # The translation comes last, so that the inverse reverts it first.
    shifts = np.linalg.solve(matrices[:, :2, :2], -matrices[:, :2, 2:])[..., 0]
    np.testing.assert_allclose(shifts.std(0), [40 / 8, 10 / 8], rtol=0.03)
    matrices = pipeline.geometry_inverse(
        RandomNumbers(tf.zeros((20000, 1)), SEED), 0.36, 8, 8
    ).numpy()
    rotated = matrices[:, 0, 1] != 0
    assert rotated.mean() == pytest.approx(0.36, abs=0.015)  # by either rotation


def test_color_by_its_matrices():
    offset, matrix = pipeline.color_transform(RandomNumbers(tf.zeros((20000, 1)), SEED), 1.0, 3)
    gray = matrix.numpy() @ np.ones(3) / 1.0
    # The gray axis is preserved: scaled by the contrast, and inverted with probability 1/2.
    np.testing.assert_allclose(np.ptp(gray, axis=1), 0, atol=1e-4)
    assert (gray[:, 0] < 0).mean() == pytest.approx(0.5, abs=0.015)
    contrast = np.log2(np.abs(gray[:, 0]))
    assert contrast.std() == pytest.approx(0.5, rel=0.03)
    assert offset.numpy().std() == pytest.approx(0.2, rel=0.03)
    # Around it, colors are rotated, and scaled by saturation times contrast.
    across = matrix.numpy() @ (np.array([1.0, -1, 0]) / np.sqrt(2))
    np.testing.assert_allclose(across.sum(1), 0, atol=1e-3)
    saturation = np.log2(np.linalg.norm(across, axis=1)) - contrast
    assert saturation.std() == pytest.approx(1.0, rel=0.03)
    hue = np.arctan2(across @ np.array([1, 1, -2]) / np.sqrt(6), across @ [1, -1, 0] / np.sqrt(2))
    assert np.histogram(hue, 8, (-np.pi, np.pi))[0].min() > 2500 * 0.9
    # A single channel has brightness, contrast and luma inversion only.
    _, single = pipeline.color_transform(RandomNumbers(tf.zeros((20000, 1)), SEED), 1.0, 1)
    np.testing.assert_allclose(single[:, 0, 0], gray[:, 0], rtol=1e-3)


def test_cutout_of_the_pipeline_is_half_the_height_and_width():
    augmented = one_group("cutout", 0.5)(tf.ones((2000, 8, 16, 1)), SEED).numpy()[..., 0] == 0
    assert augmented.any((1, 2)).mean() == pytest.approx(0.5, abs=0.05)
    assert augmented.sum((1, 2)).max() == 4 * 8
    assert augmented.mean((1, 2))[augmented.any((1, 2))].mean() == pytest.approx(
        (7 / 16) ** 2, rel=0.08
    )


def test_a_scheduled_probability_follows_the_examples_seen(make_gan, images):
    transform = augment.DiffAugment("cutout", Linear(0.0, 1.0, 400))
    for seen, share in ((0.0, 0), (100.0, 0.25), (400.0, 1)):
        augmented = transform.apply(tf.ones((2000, 4, 4, 1)), SEED, {"examples_seen": seen})
        changed = (augmented.numpy() == 0).any((1, 2, 3)).mean()
        assert changed == pytest.approx(share, abs=0.04 if 0 < share < 1 else 0)
    gan = make_gan(augment=transform)
    logs = gan.fit(images, verbose=0).history
    assert logs["augment_probability"][0] == pytest.approx(np.mean([0, 8, 16, 24]) / 400)


# ------------------------------------------------------------------------ adaptive


def test_the_probability_changes_every_fourth_step_by_the_examples_in_between():
    transform = augment.Adaptive(examples=1000, probability=0.1)
    state = state_of(transform)
    seen, path = 0, []
    # Four steps at r = 0.75, four at 0.5, then some at 1; 8 examples each.
    margins = [[1.0, 1, 1, 1, 1, 1, 1, -1]] * 4 + [[2.0, 3, 1, -1]] * 4 + [[5.0]] * 5
    for real in margins:
        state |= transform.observe(
            tf.constant(real), state | {"examples_seen": tf.constant(seen * 1.0)}
        )
        seen += 8
        path.append((float(state["probability"]), float(state["overfitting"])))
    up, down = (0.132, 0.75), (0.1, 0.5)
    expected = [(0.1, 0.0)] * 4 + [up] * 4 + [down] * 4 + [(0.132, 1.0)]
    np.testing.assert_allclose(path, expected, atol=1e-6)


def test_the_probability_stays_in_0_to_1():
    transform = augment.Adaptive(examples=10, interval=1, probability=0.5)
    for sign, end in ((1.0, 1.0), (-1.0, 0.0)):
        state = state_of(transform)
        for step in range(4):
            seen = {"examples_seen": tf.constant(8.0 * step)}
            state |= transform.observe(tf.constant([sign]), state | seen)
        assert float(state["probability"]) == end


def test_replicas_with_the_mean_state_adapt_like_one_replica():
    transform = augment.Adaptive(examples=1000, interval=2, probability=0.5)
    signs = np.sign(np.random.default_rng(4).normal(0.55, 1.0, (9, 2, 4))).astype("float32")
    one, two = state_of(transform), state_of(transform)
    for step, (left, right) in enumerate(signs):
        seen = {"examples_seen": tf.constant(8.0 * step)}
        one |= transform.observe(tf.constant([*left, *right]), one | seen)
        parts = [transform.observe(tf.constant(part), two | seen) for part in (left, right)]
        two |= {name: (parts[0][name] + parts[1][name]) / 2 for name in two}
        for name in ("probability", "overfitting"):
            assert float(one[name]) == pytest.approx(float(two[name]), abs=1e-6)
    assert float(one["probability"]) != 0.5


def constant_game(slope, **arguments):
    """Builds a game whose discriminator rates real samples, all above 0, by the slope's sign."""
    z, x = keras.Input((4,)), keras.Input((8, 12, 1))
    bias = keras.initializers.Constant(-9.0)  # generated samples are all near -1
    dense = keras.layers.Dense(96, "tanh", kernel_initializer="zeros", bias_initializer=bias)
    generator = keras.Model(z, keras.layers.Reshape((8, 12, 1))(dense(z)))
    flat = keras.layers.Flatten()(x)
    init = keras.initializers.Constant(slope)
    discriminator = keras.Model(x, keras.layers.Dense(1, kernel_initializer=init)(flat))
    gan = keras_gan.GAN(generator, discriminator, **arguments)
    gan.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0))
    return gan


@pytest.mark.parametrize(
    ("loss", "slope", "origin"),
    [("non_saturating", 1.0, 0.0), ("relativistic", 1.0, -500.0), ("relativistic", -1.0, 500.0)],
)
def test_it_rises_if_the_discriminator_overfits_and_falls_if_it_fails(loss, slope, origin):
    """The logits of a relativistic discriminator can have any origin, far from 0 for instance."""
    adaptive = augment.Adaptive(examples=1000, probability=0.3, blit=0, geometry=0, color=0)
    gan = constant_game(slope, loss=loss, augment=adaptive)
    gan.discriminator.layers[-1].bias.assign([origin])
    reals = np.full((72, 8, 12, 1), 0.5, "float32")
    logs = gan.fit(reals, batch_size=8, verbose=0).history  # adjusted in steps 5 and 9
    end = 0.3 + slope * 2 * 32 / 1000
    assert float(gan.states["augment"]["probability"]) == pytest.approx(end, abs=1e-6)
    assert float(gan.states["augment"]["overfitting"]) == slope
    mean = (4 * 0.3 + 4 * (0.3 + slope * 0.032) + end) / 9
    assert logs["augment_probability"][0] == pytest.approx(mean, abs=1e-6)


@pytest.mark.slow
def test_a_resumed_game_keeps_its_probability(make_gan, images, tmp_path):
    def game():
        inner = augment.Adaptive(examples=300, interval=2, probability=0.4, blit=0, color=0)
        return make_gan(augment=augment.Apa(inner, examples=200, interval=3, probability=0.3))

    straight = game()
    straight.fit(images, epochs=2, verbose=0)
    stopped = game()
    stopped.fit(images.take(3), verbose=0)
    stopped.save(tmp_path / "game.keras")
    resumed = keras.saving.load_model(tmp_path / "game.keras")
    resumed.fit(images.skip(3).concatenate(images), verbose=0)
    memory = {name: float(weight) for name, weight in resumed.states["augment"].items()}
    assert memory["probability"] not in (0.0, 0.3)
    assert memory["inner_probability"] not in (0.0, 0.4)
    for a, b in zip(resumed.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert "augment_probability" not in resumed.evaluate(images, verbose=0, return_dict=True)


def test_apa_presents_generated_samples_as_real_ones(make_gan):
    transform = augment.Apa(probability=0.25)
    real, fake = tf.ones((4000, 2)), -tf.ones((4000, 2))
    shown = transform.mix(real, fake, SEED, state_of(transform)).numpy()
    assert (shown[:, 0] == shown[:, 1]).all()
    assert (shown[:, 0] < 0).mean() == pytest.approx(0.25, abs=0.028)
    never = augment.Apa()
    np.testing.assert_array_equal(never.mix(real, fake, SEED, state_of(never)), real)
    # Pairs combine different samples, unless the class must be the same.
    numbers = tf.reshape(tf.range(8.0), (8, 1, 1, 1))
    always = augment.Apa(probability=1.0)
    plain = make_gan(augment=always)
    mixed = _step.mixed(plain, numbers - 100, numbers, 0)[:, 0, 0, 0]
    assert mixed.numpy().tolist() == [7, 0, 1, 2, 3, 4, 5, 6]
    conditional = make_gan(augment=always, num_classes=3)
    mixed = _step.mixed(conditional, numbers - 100, numbers, 0)
    np.testing.assert_array_equal(mixed, numbers)


@pytest.mark.slow
def test_two_replicas_have_the_same_probability():
    """On two logical CPUs, in a separate process: schedules and the state of ADA agree."""
    program = textwrap.dedent(
        """
        import numpy as np, tensorflow as tf
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(2)]
        )
        import keras, keras_gan
        from keras_gan.schedules import Linear

        def make():
            keras.utils.set_random_seed(1)
            spec = keras_gan.Spec("image", (4, 4, 1), (-1.0, 1.0))
            layers = keras.layers
            shape = (4, 4, 1)
            g = [keras.Input((2,)), layers.Dense(16), layers.Reshape(shape)]
            d = [keras.Input(shape), layers.Flatten(), layers.Dense(1)]
            adaptive = keras_gan.augment.Adaptive(
                examples=200, interval=2, probability=0.3, blit=0, geometry=0, color=0
            )
            g, d = keras.Sequential(g), keras.Sequential(d)
            gan = keras_gan.GAN(g, d, augment=adaptive, terms=["r1"])
            adam = lambda: keras.optimizers.Adam(Linear(0.0, 0.0, 9), beta_2=Linear(0.5, 0.9, 40))
            gan.compile(adam(), adam())
            return gan

        x = np.random.default_rng(0).uniform(-1, 1, (56, 4, 4, 1)).astype("float32")
        data = tf.data.Dataset.from_tensor_slices(x).batch(8)
        one = make()
        one.fit(data, verbose=0)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        with strategy.scope():
            two = make()
        two.fit(data, verbose=0)
        read = lambda gan: {n: float(w.value.numpy()) for n, w in gan.states["augment"].items()}
        assert read(one)["probability"] != 0.3
        assert read(one) == read(two), (read(one), read(two))
        print("as one")
        """
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.stdout.splitlines()[-1:] == ["as one"], done.stderr[-3000:]
