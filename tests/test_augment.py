"""Augmentations: each operation by what it must do, and all of them in the game."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gan
from keras_gan import UsageError, augment, recipe, train

RNG = np.random.default_rng(9)
SEED = tf.constant([3, 4], tf.int64)
IMAGES = tf.constant(RNG.uniform(-1, 1, (64, 8, 16, 3)), tf.float32)
POLICIES = ["color", "translation", "cutout", "color,translation,cutout"]


def per_image(values):
    """Mean over each image."""
    return np.asarray(values).reshape(len(values), -1).mean(1)


def is_uniform(numbers, low, high):
    """Within the bounds, as wide and as centered as 64 uniform numbers are."""
    numbers = np.asarray(numbers)
    assert low - 1e-4 <= numbers.min() < low + 0.15 * (high - low)
    assert high - 0.15 * (high - low) < numbers.max() <= high + 1e-4
    error = (high - low) / np.sqrt(12 * len(numbers))
    assert numbers.mean() == pytest.approx((low + high) / 2, abs=4 * error)
    assert len(np.unique(numbers.round(6))) > 50


def test_brightness_shifts_each_image_by_a_number_of_its_own():
    shift = augment.brightness(IMAGES, SEED) - IMAGES
    assert np.ptp(shift.numpy().reshape(64, -1), axis=1).max() < 1e-6
    is_uniform(per_image(shift), -0.5, 0.5)


def test_saturation_keeps_each_pixels_mean_and_scales_what_is_around_it():
    made = augment.saturation(IMAGES, SEED).numpy()
    gray = IMAGES.numpy().mean(3, keepdims=True)
    np.testing.assert_allclose(made.mean(3, keepdims=True), gray, atol=1e-6)
    factor = per_image((made - gray) ** 2) / per_image((IMAGES - gray) ** 2)
    np.testing.assert_allclose(
        made - gray, (IMAGES - gray) * np.sqrt(factor)[:, None, None, None], atol=1e-5
    )
    is_uniform(np.sqrt(factor), 0.0, 2.0)
    one_channel = IMAGES[..., :1]
    np.testing.assert_allclose(augment.saturation(one_channel, SEED), one_channel, atol=1e-6)


def test_contrast_keeps_each_images_mean_and_scales_what_is_around_it():
    made = augment.contrast(IMAGES, SEED).numpy()
    mean = per_image(IMAGES)[:, None, None, None]
    np.testing.assert_allclose(per_image(made), per_image(IMAGES), atol=1e-6)
    factor = made.std((1, 2, 3)) / IMAGES.numpy().std((1, 2, 3))
    np.testing.assert_allclose(
        made - mean, (IMAGES - mean) * factor[:, None, None, None], atol=1e-5
    )
    is_uniform(factor, 0.5, 1.5)


def test_translation_moves_whole_pixels_and_lets_zeros_in():
    made = augment.translation(IMAGES, SEED).numpy()
    moves = set()
    for image, moved in zip(IMAGES.numpy(), made, strict=True):
        fits = []
        for down in (-1, 0, 1):  # an eighth of 8
            for right in (-2, -1, 0, 1, 2):  # an eighth of 16
                expected = np.zeros_like(image)
                rows = slice(max(down, 0), 8 + min(down, 0))
                columns = slice(max(right, 0), 16 + min(right, 0))
                rows_from = slice(max(-down, 0), 8 + min(-down, 0))
                columns_from = slice(max(-right, 0), 16 + min(-right, 0))
                expected[rows, columns] = image[rows_from, columns_from]
                if np.array_equal(expected, moved):
                    fits.append((down, right))
        assert len(fits) == 1
        moves.add(fits[0])
    assert len(moves) >= 14  # of 15: 64 images miss a given one once in 80 times


def test_flip_translation_mirrors_half_of_the_images_and_moves_them():
    mirrored = augment.flip(IMAGES, SEED).numpy()
    flipped = [np.array_equal(b, a[:, ::-1]) for a, b in zip(IMAGES.numpy(), mirrored, strict=True)]
    kept = [np.array_equal(b, a) for a, b in zip(IMAGES.numpy(), mirrored, strict=True)]
    assert np.logical_xor(flipped, kept).all()
    assert 16 < sum(flipped) < 48  # of 64: 4 standard errors
    made = augment.FlipTranslation()(IMAGES, SEED).numpy()
    seeds = [augment._folded(SEED, i) for i in range(2)]
    expected = augment.translation(augment.flip(IMAGES, seeds[0]), seeds[1])
    np.testing.assert_array_equal(made, expected)
    with pytest.raises(UsageError, match=r"takes images .* samples of shape \(2,\)"):
        augment.FlipTranslation().check((2,))


def test_cutout_sets_half_the_sides_to_zero_and_cuts_it_off_at_the_border():
    hole = augment.cutout(tf.ones((400, 8, 16, 3)), SEED).numpy() == 0
    assert (hole == hole[..., :1]).all()
    whole, firsts = 0, set()
    for image in hole[..., 0]:
        rows, columns = image.any(1).nonzero()[0], image.any(0).nonzero()[0]
        # A rectangle without gaps, of 4 x 8 unless it touches the border.
        assert image.sum() == len(rows) * len(columns)
        assert np.ptp(rows) == len(rows) - 1
        assert np.ptp(columns) == len(columns) - 1
        assert len(rows) == 4 or (len(rows) in (2, 3) and {rows[0], 7 - rows[-1]} & {0})
        assert len(columns) == 8 or (
            len(columns) in range(4, 8) and {columns[0], 15 - columns[-1]} & {0}
        )
        whole += (len(rows), len(columns)) == (4, 8)
        firsts.add(int(rows[-1]) if rows[0] == 0 else int(rows[0]) + 3)
    assert firsts == set(range(1, 10))  # centers between all rows, and at both borders
    # 5 of 9 places of the rows and 9 of 17 of the columns are inside.
    assert whole / 400 == pytest.approx(5 / 9 * 9 / 17, abs=0.1)


def test_what_is_left_stays_as_it_is():
    made = augment.cutout(IMAGES, SEED).numpy()
    np.testing.assert_array_equal(made[made != 0], IMAGES.numpy()[made != 0])


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_and_another_does_not(policy):
    transform = augment.DiffAugment(policy)
    first = transform(IMAGES, SEED).numpy()
    assert first.shape == IMAGES.shape
    np.testing.assert_array_equal(first, transform(IMAGES, SEED))
    assert not np.array_equal(first, transform(IMAGES, SEED + 1))
    same = transform(tf.repeat(IMAGES[:1], 16, axis=0), SEED).numpy()
    assert len(np.unique(same.reshape(16, -1), axis=0)) > 5  # each image its own


@pytest.mark.parametrize("policy", POLICIES)
def test_graphs_and_xla_give_the_same_for_any_batch(policy):
    transform = augment.DiffAugment(policy)
    specs = [tf.TensorSpec((None, 8, 16, 3)), tf.TensorSpec((2,), tf.int64)]
    for jit_compile in (False, True):
        compiled = tf.function(transform, input_signature=specs, jit_compile=jit_compile)
        for size in (1, 6):
            np.testing.assert_allclose(
                compiled(IMAGES[:size], SEED), transform(IMAGES[:size], SEED), atol=1e-5
            )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_precision_does_not_choose_the_numbers(dtype):
    transform = augment.DiffAugment()
    made = transform(tf.cast(IMAGES, dtype), SEED)
    assert made.dtype == dtype
    np.testing.assert_allclose(tf.cast(made, tf.float32), transform(IMAGES, SEED), atol=0.05)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_gradient_is_that_of_finite_differences(policy):
    transform = augment.DiffAugment(policy)
    images = tf.cast(IMAGES[:3], tf.float64)
    rng = np.random.default_rng(2)
    probe, direction = (tf.constant(rng.normal(size=images.shape)) for _ in range(2))

    def value(x):
        return tf.reduce_sum(probe * transform(x, SEED) ** 2)

    with tf.GradientTape() as tape:
        tape.watch(images)
        result = value(images)
    slope = float(tf.reduce_sum(tape.gradient(result, images) * direction))
    step = 1e-6
    ahead, behind = value(images + step * direction), value(images - step * direction)
    assert slope == pytest.approx(float(ahead - behind) / (2 * step), rel=1e-6)


def test_a_penalty_behind_it_has_the_second_derivative_of_finite_differences():
    """D(x) = (w . augmented x)^2: the penalty's slope by w goes through the augmentation."""
    transform = augment.DiffAugment()
    images = tf.cast(IMAGES[:3], tf.float64)
    rng = np.random.default_rng(2)
    w, direction = (tf.constant(rng.normal(size=images.shape[1:])) for _ in range(2))

    def value(w):
        def discriminate(x):
            return tf.reduce_sum(w * transform(x, SEED), axis=(1, 2, 3)) ** 2 / 100

        return tf.reduce_mean(keras_gan.penalties.R1()(discriminate, images, images))

    with tf.GradientTape() as tape:
        tape.watch(w)
        result = value(w)
    slope = float(tf.reduce_sum(tape.gradient(result, w) * direction))
    step = 1e-5
    ahead, behind = value(w + step * direction), value(w - step * direction)
    assert slope == pytest.approx(float(ahead - behind) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("how", [{}, {"jit_compile": True}, {"policy": "mixed_float16"}], ids=str)
def test_a_game_plays_behind_it(make_gan, images, how):
    keras.config.set_dtype_policy(how.get("policy", "float32"))
    try:
        gan = make_gan(compiled=False, augment="diff_augment", penalties=["r1", "dragan"])
    finally:
        keras.config.set_dtype_policy("float32")
    gan.compile(jit_compile=how.get("jit_compile", False))
    logs = gan.fit(images.take(2), verbose=0).history
    assert np.isfinite([values[0] for values in logs.values()]).all()
    assert logs["r1"][0] > 0


def test_a_saved_game_keeps_it_and_goes_on_bit_for_bit(make_gan, images, tmp_path):
    def new():
        return make_gan(augment={"name": "diff_augment", "policy": "color,cutout"})

    straight, stopped = new(), new()
    straight.fit(images, epochs=2, verbose=0)
    stopped.fit(images, verbose=0)
    stopped.save(tmp_path / "game.keras")
    resumed = keras.saving.load_model(tmp_path / "game.keras")
    assert type(resumed.augment) is augment.DiffAugment
    assert resumed.augment.get_config() == {"policy": "color,cutout"}
    resumed.fit(images, verbose=0)
    for a, b in zip(resumed.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", augment.names())
def test_names_and_round_trip(name):
    found = augment.get(name)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(found))
    assert type(again) is type(found)
    assert again.get_config() == found.get_config()
    assert augment.names()[name].endswith(".")


def test_what_is_passed_through():
    def own(samples, seed):
        return samples

    assert augment.get(None) is None
    assert augment.get(own) is own
    assert augment.DiffAugment(" cutout , color").policy == "cutout,color"


def test_what_is_refused(make_gan):
    with pytest.raises(UsageError, match=r"Received: 'colour'. Did you mean 'color'"):
        augment.DiffAugment("colour,cutout")
    with pytest.raises(UsageError, match=r"Received: ''"):
        augment.DiffAugment("color,")
    with pytest.raises(UsageError, match=r"'difaugment'\. Did you mean 'diff_augment'"):
        make_gan(augment="difaugment")
    with pytest.raises(UsageError, match=r"takes \['policy'\]. Received: 'ratio'"):
        augment.get({"name": "diff_augment", "ratio": 2})
    spec = keras_gan.Spec("points", (2,))
    players = keras_gan.architectures.build("mlp", spec)
    with pytest.raises(UsageError, match=r"takes images .* samples of shape \(2,\)"):
        keras_gan.GAN(*players, augment="diff_augment")


def test_a_recipe_names_it():
    settings = ["game.augment={name: diff_augment, policy: cutout}", "discriminator.widths=[4,4,4]"]
    resolved = recipe.load("quickstart", settings)
    assert recipe.parse(resolved.model_dump()) == resolved
    gan = train.build(resolved, keras_gan.Spec("image", (28, 28, 1), (-1.0, 1.0)))
    assert gan.augment.policy == "cutout"
    assert recipe.load("quickstart").game.augment is None
    by_name = recipe.load("quickstart", ["game.augment=diff_augment"])
    assert by_name.game.augment == "diff_augment"
