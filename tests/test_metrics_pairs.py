"""Metrics of pairs of pictures, and the controls beside them."""

import dataclasses
import json
import math

import keras
import numpy as np
import onnx
import PIL.Image
import pytest
import skimage.metrics

from keras_gan import GAN, TwoStage, UsageError, datasets, metrics, report
from keras_gan import run as runs
from keras_gan.__main__ import main
from keras_gan.metrics import pairs, real_data
from keras_gan.spec import Field, Spec

DEFAULT = ("l1", "psnr", "ssim", "gmsd", "gradient_ratio", "spectrum_error")
OF_IMAGES = ("patch_distance", "nyquist_ratio")


def picture(*rows):
    """One gray picture of bytes."""
    return np.array(rows, "uint8")[np.newaxis, ..., np.newaxis]


def smooth(count, height, width, channels, seed=0):
    """Pictures of random low frequencies with a little noise, uint8."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(0, 255, (count, 4, 4, channels))
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    large = small[:, rows][:, :, columns] + rng.normal(0, 8, (count, height, width, channels))
    return np.clip(large, 0, 255).round().astype("uint8")


def noisy(x, deviation=20, seed=1):
    noise = np.random.default_rng(seed).normal(0, deviation, x.shape)
    return np.clip(x + noise, 0, 255).round().astype("uint8")


# ------------------------------------------------------------------------ values by hand


def test_the_mean_difference_by_hand():
    real, generated = picture([0, 255], [10, 20]), picture([255, 255], [13, 20])
    assert metrics.l1(real, generated) == pytest.approx((1 + 3 / 255) / 4, rel=1e-12)
    assert metrics.l1(real, real) == 0


def test_the_signal_to_noise_ratio_is_a_mean_over_pictures():
    real = np.zeros((3, 4, 4, 3), "uint8")
    generated = real.copy()
    generated[0] += 1  # a mean squared error of 1
    generated[1, ..., 0] += 30  # of 300
    ratios = [20 * math.log10(255), 10 * math.log10(255**2 / 300), 100]  # the third is equal
    assert metrics.psnr(real, generated) == pytest.approx(np.mean(ratios), rel=1e-12)
    luma = [20 * math.log10(255), 20 * math.log10(255 / (0.299 * 30)), 100]
    assert metrics.psnr(real, generated, luma=True) == pytest.approx(np.mean(luma), rel=1e-6)


def test_shaved_borders_do_not_count():
    real = np.zeros((1, 8, 9, 1), "uint8")
    generated = np.full_like(real, 255)
    generated[:, 2:-2, 2:-2] = 5
    assert metrics.psnr(real, generated, shave=2) == pytest.approx(20 * math.log10(51), rel=1e-12)
    assert metrics.psnr(real, generated, shave=1) < 10
    with pytest.raises(UsageError, match=r"less than half of .* 8x9\. Received: shave=4"):
        metrics.psnr(real, generated, shave=4)


def test_gray_pictures_are_their_own_luma():
    real, generated = smooth(3, 16, 16, 1), smooth(3, 16, 16, 1, seed=1)
    assert metrics.psnr(real, generated, luma=True) == metrics.psnr(real, generated)
    repeated = [np.repeat(x, 3, axis=3) for x in (real, generated)]
    expected = metrics.psnr(real, generated)
    assert metrics.psnr(*repeated, luma=True) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("shape", [(11, 11, 1), (32, 32, 1), (28, 41, 3), (64, 64, 3)])
@pytest.mark.parametrize("luma", [False, True])
def test_ratio_and_similarity_are_those_of_scikit_image(shape, luma):
    real = smooth(4, *shape)
    for generated in (noisy(real), smooth(4, *shape, seed=1), 255 - real):
        similarities, ratios = [], []
        for a, b in zip(real, generated, strict=True):
            if luma:
                a, b = (
                    x[..., :3] @ ([0.299, 0.587, 0.114] if shape[2] == 3 else [1]) for x in (a, b)
                )
            options = {"channel_axis": None if luma else -1, "data_range": 255}
            similarities.append(
                skimage.metrics.structural_similarity(
                    a,
                    b,
                    gaussian_weights=True,
                    sigma=1.5,
                    use_sample_covariance=False,
                    **options,
                )
            )
            ratios.append(skimage.metrics.peak_signal_noise_ratio(a, b, data_range=255))
        found = metrics.ssim(real, generated, luma=luma)
        assert found == pytest.approx(np.mean(similarities), abs=1e-6)
        assert metrics.psnr(real, generated, luma=luma) == pytest.approx(np.mean(ratios), abs=1e-5)


def test_similarity_needs_a_window():
    x = smooth(1, 14, 14, 1)
    assert metrics.ssim(x, x) == pytest.approx(1, abs=1e-12)
    with pytest.raises(UsageError, match=r"height and width from 15\. Received: \(1, 14, 14, 1\)"):
        metrics.ssim(x, x, shave=2)


def test_gradient_similarity_by_hand():
    """Of a halved picture with the single value 90 in the middle of 3 x 3, and a black one.

    The Prewitt filters of thirds answer 30 at the places beside the middle, 30 twice in the
    corners and 0 in the middle.
    """
    generated = np.zeros((1, 6, 6, 1), "uint8")
    generated[0, 2:4, 2:4, 0] = [[80, 100], [70, 110]]
    corner, side = 170 / (1800 + 170), 170 / (900 + 170)
    similarity = np.array([corner, side, corner, side, 1, side, corner, side, corner])
    black = np.zeros_like(generated)
    assert metrics.gmsd(black, generated) == pytest.approx(similarity.std(), rel=1e-12)
    assert metrics.gmsd(generated, generated) == 0
    odd = np.pad(generated, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=200)
    assert metrics.gmsd(np.zeros_like(odd), odd) == pytest.approx(similarity.std(), rel=1e-12)
    color = np.repeat(generated, 3, axis=3)
    found = metrics.gmsd(np.zeros_like(color), color)
    assert found == pytest.approx(similarity.std(), rel=1e-5)


@pytest.mark.parametrize("metric", [metrics.l1, metrics.psnr, metrics.ssim, metrics.gmsd])
def test_neighboring_pictures_do_not_change_each_other(metric):
    real = smooth(4, 16, 20, 1)
    generated = noisy(real)
    alone = [metric(real[i : i + 1], generated[i : i + 1]) for i in range(4)]
    assert metric(real, generated) == pytest.approx(np.mean(alone), rel=1e-12)


def test_the_gradient_ratio_of_ramps():
    columns = np.arange(16)
    real = np.broadcast_to(4 * columns[:, np.newaxis], (2, 16, 16, 1))
    steep = np.broadcast_to((3 * columns[:, None] + 4 * columns)[..., None], (2, 16, 16, 1))
    assert metrics.gradient_ratio(np.uint8(real), np.uint8(steep)) == pytest.approx(7 / 4)
    assert metrics.gradient_ratio(np.uint8(real), np.uint8(real // 2)) == pytest.approx(1 / 2)
    assert math.isnan(metrics.gradient_ratio(np.zeros_like(real, "uint8"), np.uint8(real)))


def test_half_the_contrast_is_6_decibels_at_all_frequencies():
    noise = np.random.default_rng(0).integers(-60, 61, (20, 32, 24, 1))
    real, generated = np.uint8(128 + 2 * noise), np.uint8(128 + noise)
    expected = 20 * math.log10(2)
    assert metrics.spectrum_error(real, generated) == pytest.approx(expected, rel=1e-12)
    assert metrics.spectrum_error(generated, real) == pytest.approx(expected, rel=1e-12)
    flat = np.full_like(real, 7)
    assert metrics.spectrum_error(flat, flat) == 0
    assert metrics.spectrum_error(real, flat) > 40


def test_slow_waves_do_not_change_the_upper_half_of_the_spectrum():
    real = noisy(np.full((20, 64, 64, 1), 128, "uint8"))
    wave = np.round(50 * np.sin(np.arange(64) / 64 * 4 * math.pi)).astype(int)
    slow = np.clip(real + wave[:, np.newaxis], 0, 255).astype("uint8")
    fast = noisy(real, 20, seed=2)
    assert metrics.spectrum_error(real, slow) < 0.2
    assert metrics.spectrum_error(real, fast) == pytest.approx(10 * math.log10(2), abs=0.3)


def test_answers_are_nearest_to_their_partner_or_not():
    real = np.array([0, 100, 200, 200], "uint8").reshape(4, 1, 1, 1)
    answers = np.array([10, 160, 190, 201], "uint8").reshape(4, 1, 1, 1)
    assert metrics.pair_accuracy(real, answers) == 3 / 4  # equal real pictures count as right
    assert metrics.pair_accuracy(real, real) == 1
    many = smooth(50, 8, 8, 3)
    assert metrics.pair_accuracy(many, np.roll(many, 1, axis=0)) == 0


def test_consistency_is_0_for_the_picture_that_was_reduced():
    real = smooth(3, 32, 24, 3)
    reduced = pairs.resize_bytes(real, (8, 6))
    expected = PIL.Image.fromarray(real[0]).resize((6, 8), PIL.Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(reduced[0], np.asarray(expected))
    assert metrics.consistency(reduced, real) == 0
    flat = np.full_like(real, 100)
    assert metrics.consistency(np.full_like(reduced, 97), flat) == 3
    assert metrics.consistency(np.full_like(reduced[..., :1], 97), flat) == pytest.approx(
        3, abs=1e-4
    )
    with pytest.raises(UsageError, match=r"and larger\. Received: \(3, 8, 6, 3\) for"):
        metrics.consistency(reduced, reduced)


@pytest.mark.parametrize(
    "metric", [metrics.l1, metrics.psnr, metrics.ssim, metrics.gmsd, metrics.pair_accuracy]
)
def test_partners_must_have_one_shape_and_be_bytes(metric):
    x = smooth(3, 16, 16, 1)
    for other in (x[:2], x[:, :15], x.astype("float32")):
        with pytest.raises(UsageError, match=r"of the same shape, uint8 .* Received: \(3, 16, 16"):
            metric(x, other)
    with pytest.raises(UsageError, match="Received"):
        metric(x[:0], x[:0])


def test_each_metric_reacts_to_its_failure():
    real = smooth(30, 32, 32, 1)
    blurred = pairs.resize_bytes(pairs.resize_bytes(real, (16, 16)), (32, 32))
    assert metrics.gradient_ratio(real, blurred) < 0.8
    assert metrics.spectrum_error(real, blurred) > 5
    assert metrics.gradient_ratio(real, noisy(real)) > 1.2
    brighter = np.clip(real.astype(int) + 30, 0, 255).astype("uint8")
    assert metrics.l1(real, brighter) > 0.09
    assert metrics.gmsd(real, brighter) < 0.3 * metrics.gmsd(real, real[::-1])
    assert metrics.ssim(real, brighter) > metrics.ssim(real, noisy(real))


# ------------------------------------------------------------------------ evaluation


def opened(conditions, samples, train=20):
    """Data of pairs, of which the first are trained on."""
    return datasets.from_arrays(
        samples[:train],
        x_test=samples[train:],
        fields={"condition": conditions[:train]},
        fields_test={"condition": conditions[train:]},
    )


def game(condition, samples, factor=-1.0, kind=GAN, **arguments):
    """A game whose generator multiplies the condition, in [-1, 1], and enlarges it."""
    ratio = samples[0] // condition[0]
    given = keras.Input(condition, name="condition")
    weights = keras.initializers.Constant(factor / condition[2])
    colors = keras.layers.Conv2D(samples[2], 1, kernel_initializer=weights, use_bias=False)
    x = colors(given)
    x = keras.layers.UpSampling2D(ratio)(x) if ratio > 1 else x
    generator = keras.Model(given, keras.layers.Activation("linear", name="samples")(x))
    real, again = keras.Input(samples, name="samples"), keras.Input(condition, name="condition")
    flat = [keras.layers.Flatten()(x) for x in (real, again)]
    discriminator = keras.Model(
        [real, again], keras.layers.Dense(1)(keras.layers.Concatenate()(flat))
    )
    return kind(generator, discriminator, latent_dim=1, **arguments)


def evaluate(source, data, given=None, count=None, **options):
    return metrics.evaluate(source, data, given, count, cache=False, progress=False, **options)


@pytest.fixture(scope="module")
def negatives():
    """Pictures whose conditions are their negatives: data, pictures, and a game that inverts."""
    x = smooth(60, 16, 16, 1)
    return opened(255 - x, x), x, game((16, 16, 1), (16, 16, 1))


def test_the_right_generator_is_perfect_and_the_identity_is_beside_it(negatives):
    data, x, gan = negatives
    found = evaluate(gan, data)
    assert list(found.values) == [*DEFAULT, "patch_distance", "patch_distance_16", "nyquist_ratio"]
    perfect = dict(zip(DEFAULT, (0, 100, 1, 0, 1, 0), strict=True))
    perfect |= {"patch_distance": 0, "patch_distance_16": 0, "nyquist_ratio": 1}
    assert found.values == pytest.approx(perfect, abs=1e-12)
    assert found.controls.keys() == {"identity"}
    control, real = found.controls["identity"], x[20:]
    assert control.keys() == found.values.keys()
    assert control["l1"] == metrics.l1(real, 255 - real)
    assert control["ssim"] == metrics.ssim(real, 255 - real)
    protocol = found.protocol
    assert protocol["generated"]["conditions"] == ["condition"]
    assert protocol["controls"] == {"identity": {"source": "the conditions"}}
    assert protocol["psnr"]["pairs"] == 40
    assert (protocol["psnr"]["channels"], protocol["psnr"]["shave"]) == ("all", 0)


@pytest.mark.parametrize(("count", "real_count"), [(7, None), (7, 20), (30, 12), (100, 40), (2, 2)])
def test_rows_stay_partners_at_any_count(negatives, count, real_count):
    data, _, gan = negatives
    found = evaluate(gan, data, count=count, real_count=real_count, metrics=["l1", "ssim"])
    assert found.values == {"l1": 0, "ssim": pytest.approx(1)}
    assert found.protocol["l1"]["pairs"] == min(count, real_count or count)


def test_metrics_of_images_are_of_the_pairs(negatives):
    data, x, _ = negatives
    answers = noisy(x[20:])
    found = evaluate(answers, data, metrics=["patch_distance", "l1"])
    assert found["patch_distance"] == metrics.patch_distance(x[20:], answers).mean
    assert found["l1"] == metrics.l1(x[20:], answers)


def test_arrays_of_answers_are_in_the_order_of_the_split(negatives, tmp_path):
    data, x, _ = negatives
    answers = noisy(x[20:])
    np.savez(tmp_path / "answers.npz", x=answers)
    for source in (answers, str(tmp_path / "answers.npz")):
        found = evaluate(source, data, count=9, metrics="l1")
        rows = real_data.choose(40, 9)
        assert found["l1"] == metrics.l1(x[20:][rows], answers[rows])
        assert found.controls["identity"]["l1"] == metrics.l1(x[20:][rows], 255 - x[20:][rows])
    some = evaluate(answers[:30], data)  # of which nobody knows the partners
    assert "l1" not in some.values
    assert some.controls == {}
    with pytest.raises(
        UsageError, match=r"l1 needs answers to the conditions of the data: .* not answers"
    ):
        evaluate(answers[:30], data, metrics="l1")


def test_options_of_signals(negatives):
    data, x, _ = negatives
    real, color = x[20:], smooth(60, 16, 16, 3)
    found = evaluate(noisy(real), data, shave=2, metrics=["psnr", "ssim"])
    assert found["psnr"] == metrics.psnr(real, noisy(real), shave=2)
    assert found["ssim"] == metrics.ssim(real, noisy(real), shave=2)
    assert found.protocol["ssim"]["shave"] == 2
    of_color = evaluate(noisy(color[20:]), opened(x, color), luma=True, metrics=["psnr"])
    assert of_color["psnr"] == metrics.psnr(color[20:], noisy(color[20:]), luma=True)
    assert of_color.protocol["psnr"]["channels"] == "luma, ITU-R BT.601"
    gray = np.repeat(x[20:], 3, axis=3)  # the control of a gray condition
    assert of_color.controls["identity"]["psnr"] == metrics.psnr(color[20:], gray, luma=True)
    with pytest.raises(UsageError, match="shave"):
        evaluate(noisy(real), data, shave=-1)
    with pytest.raises(UsageError, match=r"`shave` must be less than half"):
        evaluate(noisy(real), data, shave=8, metrics="psnr")


def test_the_control_of_super_resolution_is_bicubic():
    large = smooth(40, 32, 32, 3)
    small = pairs.resize_bytes(large, (8, 8))
    gan = game((8, 8, 3), (32, 32, 3), factor=1.0)
    found = evaluate(gan, opened(small, large))
    assert set(DEFAULT) | {"consistency"} <= found.values.keys()
    bicubic = pairs.resize_bytes(small, (32, 32))[20:]
    control = found.controls["bicubic"]
    assert control["psnr"] == metrics.psnr(large[20:], bicubic)
    assert control["consistency"] == metrics.consistency(small[20:], bicubic)
    assert found.protocol["consistency"]["reduced_to"] == [8, 8]
    with pytest.raises(UsageError, match=r"larger than their conditions\. .*of 8x8 for con.*8x8"):
        evaluate(gan_of_equal_sizes(), opened(small, small), metrics="consistency")


def gan_of_equal_sizes():
    return game((8, 8, 3), (8, 8, 3))


def test_held_out_pictures_may_be_larger_than_the_training_crops():
    """The spec has free sizes; metrics apply by those of the held-out pictures."""
    large = smooth(24, 24, 28, 1)
    arrays = {"train": large[:, :8, :8], "held_out": large}
    field = Field("image", (None, None, 1))
    spec = Spec(fields={"samples": field, "condition": field})
    splits = {
        name: datasets.splits.Split(x, others={"condition": 255 - x}) for name, x in arrays.items()
    }
    source = datasets.Source(spec, splits, "crops of 8x8", raw_ranges={})
    found = evaluate(game((24, 28, 1), (24, 28, 1)), source)
    assert found.values.keys() >= {*DEFAULT, "patch_distance_24"}
    assert found["ssim"] == pytest.approx(1)
    assert found.protocol["sample_shape"] == [24, 28, 1]
    with pytest.raises(UsageError, match=r"splits have samples of one shape.*\(8, 8, 1\) and \(24"):
        evaluate(game((24, 28, 1), (24, 28, 1)), source, split="all")


def test_other_runs_and_the_first_stage_are_controls(negatives):
    data, x, gan = negatives
    real = x[20:]
    first = game((16, 16, 1), (16, 16, 1), -0.5).generator
    staged = game((16, 16, 1), (16, 16, 1), kind=TwoStage, first_stage=0)
    staged.first_generator.set_weights(first.get_weights())
    found = evaluate(staged, data, controls={"noisy": noisy(real), "identical": gan})
    assert list(found.controls) == ["identity", "first stage", "noisy", "identical"]
    assert found.controls["identical"] == found.values
    assert found.controls["noisy"]["l1"] == metrics.l1(real, noisy(real))
    pale = np.round((1 + (real / 127.5 - 1) * 0.5) * 127.5).astype("uint8")
    assert found.controls["first stage"]["l1"] == pytest.approx(metrics.l1(real, pale), abs=1e-4)
    assert found.protocol["controls"]["first stage"]["weights"] == "first stage"
    for controls in (["a", "a"], [3], 3):
        with pytest.raises(UsageError, match="different paths"):
            evaluate(gan, data, controls=controls)


def test_pictures_translated_there_and_back(negatives):
    data, x, gan = negatives
    real, conditions = x[20:], 255 - x[20:]
    half = np.round((1 + (conditions / 127.5 - 1) * 0.5) * 127.5)
    there_and_back = metrics.Pairs(real, real, conditions, lambda answers: answers * -0.5)
    inputs = metrics.EvaluationInputs(real=None, generated=None, pairs=there_and_back)
    expected = np.abs(half - conditions).mean() / 255
    assert metrics.CycleL1().of(inputs) == pytest.approx(expected, abs=1e-3)
    assert metrics.inverse_of(gan) is None
    with pytest.raises(UsageError, match=r"cycle_l1 needs a game with a network for the way back"):
        evaluate(gan, data, metrics="cycle_l1")


def test_a_comparison_of_two_directions(negatives):
    _, x, _ = negatives
    conditions, real = 1 - x[20:] / 127.5, x[20:] / 127.5 - 1
    answers = metrics.Answers(conditions, invertible=True)
    compare = metrics.Comparison(real, answers=answers)
    assert "cycle_l1" in compare.names
    assert compare(real, inverse=lambda found: -found)["cycle_l1"] == 0
    assert compare(real, inverse=lambda found: found)["cycle_l1"] > 0.3
    assert "cycle_l1" not in compare.protocol["controls"]["identity"]
    unpaired = dataclasses.replace(answers, paired=False)
    compare = metrics.Comparison(real, answers=unpaired)
    assert (compare.metric, compare.names[-1]) == ("patch_distance", "cycle_l1")
    assert "l1" not in compare.names
    assert "controls" not in compare.protocol
    with pytest.raises(UsageError, match=r"psnr needs paired data\. Received: a comparison with"):
        metrics.Comparison(real, "psnr", answers=unpaired)


def test_data_without_pairs_have_no_metrics_of_pairs(negatives):
    data, _, gan = negatives

    class Unpaired(datasets.Source):
        paired = False

    source = Unpaired(data.spec, data._splits, "two domains")
    found = evaluate(gan, source)
    assert "l1" not in found.values
    assert found.values["patch_distance"] > 0
    assert found.controls == {}
    with pytest.raises(UsageError, match=r"l1 needs paired data, .*with data without pairs"):
        evaluate(gan, source, metrics="l1")


def test_translations_between_domains_without_pairs_are_counted_as_right(negatives):
    """Of a game in one direction as well; the held-out pictures are pairs by their names."""
    data, x, gan = negatives
    assert "pair_accuracy" not in evaluate(gan, data).values
    train, held = (data._splits[name] for name in ("train", "held_out"))
    alone = dataclasses.replace(train, independent={"condition": train.row_numbers[::-1]})
    source = datasets.Source(data.spec, {"train": alone, "held_out": held}, "two domains")
    assert (source.is_unpaired, source.paired, data.is_unpaired) == (True, True, False)
    found = evaluate(gan, source)
    assert found.values["pair_accuracy"] == metrics.pair_accuracy(x[20:], x[20:]) == 1
    assert found.controls["identity"]["pair_accuracy"] < 1
    backward = source.swapped("condition")
    assert backward.field_counts() == {"samples": 20, "condition": 20}
    for name, other in (("samples", "condition"), ("condition", "samples")):
        for split in ("train", "held_out"):
            np.testing.assert_array_equal(
                backward.field_arrays(split)[name], source.field_arrays(split)[other]
            )


def test_a_folder_of_answers_is_refused_for_metrics_of_pairs(negatives, tmp_path):
    """The order of the pairs is that of the data; the names of files say nothing of it."""
    data, x, _ = negatives
    for number, picture in enumerate(x[20:]):
        PIL.Image.fromarray(picture[..., 0]).save(tmp_path / f"{number:02}.png")
    line = r"l1 needs answers to the conditions of the data: a run, a bundle, or a \.npy"
    with (
        pytest.warns(UserWarning, match="files of a folder are compared as a whole"),
        pytest.raises(UsageError, match=line),
    ):
        evaluate(tmp_path, data, metrics="l1")
    np.save(tmp_path / "answers.npy", x[20:])
    assert evaluate(tmp_path / "answers.npy", data, metrics="l1").values["l1"] == 0
    folder = tmp_path / "pairs"
    (folder / "A").mkdir(parents=True)
    (folder / "B").mkdir()
    for number, picture in enumerate(x[:20]):
        PIL.Image.fromarray(picture[..., 0]).save(folder / "A" / f"{number:02}.png")
        PIL.Image.fromarray(255 - picture[..., 0]).save(folder / "B" / f"{number:02}.png")
    with pytest.raises(UsageError, match=r"paired data, such as --data pairs --set data\.path="):
        evaluate(tmp_path / "answers.npy", folder / "B", metrics="l1")
    options = {"path": str(folder), "held_out": 0.9}
    truth = datasets.open("pairs", **options).field_arrays("held_out")["samples"]
    np.save(tmp_path / "answers.npy", truth)
    found = evaluate(tmp_path / "answers.npy", "pairs", data_options=options, metrics="l1")
    assert found.values["l1"] == 0


# ------------------------------------------------------------------------ perceptual distance


def save_distance(path, size="n", inputs=("a", "b"), scale=1.0):
    """Writes an ONNX file with the mean squared difference of two pictures, NCHW."""
    shape = [size, 3, "h", "w"]
    ports = [onnx.helper.make_tensor_value_info(n, 1, shape) for n in inputs]
    out = onnx.helper.make_tensor_value_info("distance", 1, [size, 1, 1, 1])
    factor = onnx.helper.make_tensor("factor", 1, [1], [scale])
    nodes = [
        onnx.helper.make_node("Mul", [inputs[-1], "factor"], ["scaled"]),
        onnx.helper.make_node("Sub", [inputs[0], "scaled"], ["difference"]),
        onnx.helper.make_node("Mul", ["difference", "difference"], ["squares"]),
        onnx.helper.make_node("ReduceMean", ["squares"], ["distance"], axes=[1, 2, 3]),
    ]
    graph = onnx.helper.make_graph(nodes, "distance", ports, [out], [factor])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def test_perceptual_distances_are_those_of_a_file(negatives, tmp_path):
    data, x, _ = negatives
    file = save_distance(tmp_path / "my-file.onnx")
    real, answers = x[20:], noisy(x[20:])
    expected = np.mean((real / 127.5 - answers / 127.5) ** 2)
    found = evaluate(answers, data, metrics=[f"lpips:{file}", "l1"])
    assert list(found.values) == ["l1", "lpips"]
    assert found["lpips"] == pytest.approx(expected, rel=1e-5)
    assert len(found.protocol["lpips"]["sha256"]) == 64
    assert found.controls["identity"]["lpips"] > expected
    assert "lpips" not in evaluate(answers, data).values


def test_files_without_perceptual_distances_are_refused(negatives, tmp_path):
    data, x, _ = negatives
    single = save_distance(tmp_path / "one.onnx", inputs=("a",))
    biased = save_distance(tmp_path / "biased.onnx", scale=0.5)
    for name, message in (
        ("lpips", r"the path of an ONNX file .*, as lpips:PATH\. .*'lpips' with no path"),
        (f"lpips:{tmp_path / 'none.onnx'}", r"needs the path of an ONNX file.*none\.onnx"),
        (f"lpips:{single}", r"must have two inputs.*one\.onnx with a tensor"),
        (f"lpips:{biased}", r"must return 0 for equal pictures\. Received: 0\.\d+ from"),
        ("psnr:3", r"The metric psnr takes no argument\. Received: psnr:3"),
    ):
        with pytest.raises(UsageError, match=message):
            evaluate(x[20:], data, metrics=[name])


# ------------------------------------------------------------------------ training


def test_a_comparison_of_answers_is_that_of_the_evaluation(negatives):
    data, x, _ = negatives
    conditions, real = (data.values(255 - x[20:], "condition"), data.values(x[20:]))
    compare = metrics.Comparison(real, spec=data.spec, answers=metrics.Answers(conditions))
    assert compare.names == (*DEFAULT, "nyquist_ratio", "patch_distance")
    assert compare.metric == "l1"
    answers = noisy(x[20:])
    found = compare(answers / 127.5 - 1)
    expected = evaluate(answers, data)
    assert found == pytest.approx({name: expected[name] for name in compare.names})
    controls = compare.protocol["controls"]
    assert controls["identity"] == pytest.approx(
        {name: expected.controls["identity"][name] for name in compare.names}
    )
    with pytest.raises(UsageError, match=r"one condition for each of the 40 held-out .* 39 cond"):
        metrics.Comparison(real, answers=metrics.Answers(conditions[1:]))
    with pytest.raises(UsageError, match=r"psnr needs samples that answer pic|psnr needs paired"):
        metrics.Comparison(real, "psnr")


RECIPE = """
data: {source: fashion-mnist-10k}
networks:
  generator: {architecture: mlp, latent_dim: 2, widths: [16], condition: [condition]}
  discriminator: {architecture: mlp, widths: [16], condition: [condition]}
training: {examples: 96, batch_size: 16, tick_examples: 16, jit_compile: false, seed: SEED}
evaluation: {count: 12, metric: METRIC, others: [l1], every_examples: 16}
samples: {count: 4}
"""


@pytest.fixture(scope="module")
def trained(negatives, tmp_path_factory):
    """Two runs, of which PSNR chooses the best checkpoint, and the default metrics."""
    folder, (_, x, _) = tmp_path_factory.mktemp("pairs"), negatives
    fields = {"samples": x[:20], "condition": 255 - x[:20]}
    fields |= {"samples_test": x[20:], "condition_test": 255 - x[20:]}
    np.savez(folder / "data.npz", **fields)
    for name, seed, metric in (("first", 1, "psnr"), ("second", 2, "null")):
        text = RECIPE.replace("SEED", str(seed)).replace("METRIC", metric)
        (folder / "my.yaml").write_text(text)
        data, to = str(folder / "data.npz"), str(folder / name)
        main(["train", str(folder / "my.yaml"), "--data", data, "--run", to])
    return folder


def test_the_best_checkpoint_has_the_highest_ratio(trained):
    run = runs.Run.open(trained / "first")
    rows = [row for row in run.rows() if "psnr" in row]
    assert len(rows) == 6
    assert set(rows[-1]) >= {"psnr", "l1"}
    best = max(rows, key=lambda row: row["psnr"])
    assert run.best_record["psnr"] == pytest.approx(best["psnr"], rel=1e-6)
    assert run.best_record["examples_seen"] == best["examples_seen"]
    assert metrics.rank("psnr", 3.0) == -3.0
    assert metrics.rank("l1", 3.0) == 3.0


def test_a_training_on_pairs_computes_their_metrics_and_the_control(trained):
    run = runs.Run.open(trained / "second")
    assert run.evaluation["measures"] == [*DEFAULT, "nyquist_ratio", "patch_distance"]
    assert set(run.evaluation["measures"]) <= set(run.rows()[-1])
    assert run.best_record["l1"] == pytest.approx(
        min(row["l1"] for row in run.rows() if "l1" in row)
    )
    control = run.evaluation["controls"]["identity"]
    assert 0.3 < control["l1"] < 0.6
    lines = report.best_and_last(run, run.rows())
    assert f"Control identity l1 {control['l1']:.4g}, psnr" in lines[2]
    assert lines[2] in (run.path / "report.html").read_text()


def test_the_command_shows_controls_in_columns(trained, tmp_path, capsys):
    first, second = str(trained / "first"), str(trained / "second")
    out = tmp_path / "e.json"
    capsys.readouterr()
    main(["evaluate", first, "--control", second, "--json", str(out), "--shave", "1", "--luma"])
    printed, found = capsys.readouterr().out, json.loads(out.read_text())
    assert list(found["controls"]) == ["identity", second]
    for name, value in found["values"].items():
        line = next(line for line in printed.splitlines() if line.split()[:1] == [name])
        columns = [value, *(found["controls"][of][name] for of in found["controls"])]
        assert line.split()[1:] == [f"{each:.6g}" for each in columns]
    assert f"control identity: {40} of the conditions" in printed
    assert f"control {second}: 40 of run {second}; " in printed
    assert found["protocol"]["psnr"]["shave"] == 1
    alone = evaluate(second, None, shave=1, luma=True)
    assert alone.values == pytest.approx(found["controls"][second])


def test_a_bundle_of_answers_is_evaluated_like_its_run(trained):
    main(["export", str(trained / "first")])
    found = [evaluate(str(trained / path), None) for path in ("first", "first/bundle")]
    assert found[0].values == pytest.approx(found[1].values, rel=1e-2)
    assert found[0].controls == found[1].controls
