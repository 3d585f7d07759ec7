"""Metrics of pictures that need no network: patches, the Nyquist band, pairs and copies."""

import importlib
import math

import numpy as np
import pytest

from keras_gan import Spec, UsageError, building, callbacks, datasets, metrics, recipe
from keras_gan.__main__ import main
from keras_gan.metrics import comparison, features, nearest_ratio
from keras_gan.workers import NullRun

# The modules: in the package their names are those of the functions.
module, of_spectrum, of_pairs = (
    importlib.import_module(f"keras_gan.metrics.{name}")
    for name in ("patch_distance", "nyquist_ratio", "pair_distance")
)
RNG = np.random.default_rng(0)
AMPLITUDE = 10.0


def smooth(count, height, width, channels, seed=0):
    """Pictures of random low frequencies with a little noise, uint8."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(0, 255, (count, 4, 4, channels))
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    large = small[:, rows][:, :, columns] + rng.normal(0, 8, (count, height, width, channels))
    return np.clip(large, 0, 255).round().astype("uint8")


def checkerboard(height, width):
    """Alternates between -1 and 1 along both axes, as one gray picture."""
    signs = (-1.0) ** np.add.outer(np.arange(height), np.arange(width))
    return signs[np.newaxis, ..., np.newaxis]


def evaluate(source, data, given=None, count=None, **options):
    return metrics.evaluate(source, data, given, count, cache=False, progress=False, **options)


# ------------------------------------------------------------------------ patches


def test_levels_are_halved_down_to_16_pixels_of_the_smaller_size():
    assert module.level_sizes(64, 64) == [(64, 64), (32, 32), (16, 16)]
    assert module.level_sizes(100, 75) == [(100, 75), (50, 38), (25, 19)]
    assert module.level_sizes(31, 200) == [(31, 200), (16, 100)]
    assert module.level_sizes(28, 28) == [(28, 28)]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 47)])
def test_a_picture_is_the_sum_of_its_levels_each_enlarged(height, width):
    picture = smooth(2, height, width, 3).astype("float32")
    fine, coarse = module.laplacian_pyramid(picture, 2)
    assert coarse.shape == (2, (height + 1) // 2, (width + 1) // 2, 3)
    np.testing.assert_allclose(fine + module._enlarged(coarse, picture.shape), picture, atol=1e-3)
    flat = np.full_like(picture, 77)
    fine, coarse = module.laplacian_pyramid(flat, 2)
    assert not fine.any()
    assert (coarse == 77).all()


def test_the_distance_of_black_and_white_pictures_by_hand():
    """Normalized patches are +-1 in one set, -sqrt(3) and 1/sqrt(3) in the other.

    All 49 values of a patch are equal, so that a direction `a` projects on `sum(a)` times the
    value, and E|sum(a)| of unit vectors is sqrt(2 / pi) (1 + 1 / 196) up to 1e-5.
    """
    real, generated = np.zeros((2, 4, 8, 8, 1), "uint8")
    real[:2], generated[:3] = 255, 255
    root = math.sqrt(3)
    transport = (root - 1) / 4 + (1 / root + 1) / 4 + (1 - 1 / root) / 2
    expected = 1000 * transport * math.sqrt(2 / math.pi) * (1 + 1 / 196)
    found = metrics.patch_distance(real, generated, directions=20_000)
    assert found.levels == {8: found.mean}
    assert found.mean == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("shape", [(8, 8, 1), (64, 64, 3), (21, 13, 3), (40, 100, 1)])
def test_equal_sets_are_at_0_and_others_are_not(shape):
    a, b = smooth(6, *shape), smooth(6, *shape, seed=1)
    found = metrics.patch_distance(a, a)
    assert found.mean == 0
    assert list(found.levels) == [min(size) for size in module.level_sizes(*shape[:2])]
    other = metrics.patch_distance(a, b)
    assert all(value > 0 for value in other.levels.values())
    assert other.mean == pytest.approx(np.mean(list(other.levels.values())))
    # The normalization hides a common brightness and contrast, as the documentation says.
    faded = metrics.patch_distance(a, b * 0.5 + 20)
    assert faded.mean == pytest.approx(other.mean, rel=1e-3)


def test_levels_are_in_order_and_show_the_scale_of_a_fault():
    real = smooth(20, 64, 64, 1)
    fine = real + AMPLITUDE * checkerboard(64, 64)
    blocks = np.kron(RNG.normal(0, 60, (20, 4, 4)), np.ones((16, 16)))[..., np.newaxis]
    of_fine = metrics.patch_distance(real, fine).levels
    of_coarse = metrics.patch_distance(real, real + blocks).levels
    assert list(of_fine) == [64, 32, 16]
    assert of_fine[64] > 20 * of_fine[16]
    assert of_coarse[16] > of_fine[16]
    assert of_coarse[16] > of_coarse[64]


def test_seeds_decide_and_batches_do_not(monkeypatch):
    a, b = smooth(12, 32, 32, 3), smooth(12, 32, 32, 3, seed=1)
    found = metrics.patch_distance(a, b)
    assert metrics.patch_distance(a, b) == found
    other = metrics.patch_distance(a, b, seed=1)
    assert other != found
    assert other.mean == pytest.approx(found.mean, rel=0.25)
    monkeypatch.setattr(module, "_VALUES", 5 * 32 * 32 * 3)
    assert metrics.patch_distance(a, b) == found


def test_what_has_no_patches_is_refused():
    a = smooth(4, 8, 8, 1)
    for pair, message in (
        ((a, a[:3]), r"same number of images .*Received: \(4, 8, 8, 1\) and \(3, 8, 8, 1\)"),
        ((a[:, :7], a[:, :7]), r"at least 8 x 8\. Received: 7 x 8"),
        ((a, np.where(a == a[0, 0, 0, 0], np.nan, a)), r"finite.*generated of type float64 with N"),
    ):
        with pytest.raises(UsageError, match=message):
            metrics.patch_distance(*pair)
    with pytest.raises(UsageError, match=r"1 direction\. Received: patches=32, directions=0"):
        metrics.patch_distance(a, a, directions=0)


# ------------------------------------------------------------------------ Nyquist band and pairs


@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 40)])
def test_a_checkerboard_of_twice_the_amplitude_has_four_times_the_energy(height, width):
    waves = np.cos(2 * np.pi * 4 * np.arange(width) / width)[np.newaxis, np.newaxis, :, np.newaxis]
    low, comb = 100 + 50 * waves + np.zeros((1, height, width, 3)), checkerboard(height, width)
    real = low + AMPLITUDE * comb
    assert metrics.nyquist_ratio(real, low + 2 * AMPLITUDE * comb) == pytest.approx(4, rel=1e-9)
    assert metrics.nyquist_ratio(real, low) == pytest.approx(0, abs=1e-9)
    # Stripes of the same amplitude have the same energy, and so have two pictures on average.
    stripes = (-1.0) ** np.arange(width)[np.newaxis, np.newaxis, :, np.newaxis]
    both = np.concatenate([real, low + AMPLITUDE * stripes])
    assert metrics.nyquist_ratio(real, both) == pytest.approx(1, rel=1e-9)


def test_combs_are_above_1_and_blur_is_below(monkeypatch):
    real, fake = smooth(40, 21, 34, 3), smooth(40, 21, 34, 3, seed=1).astype(float)
    ratio = metrics.nyquist_ratio(real, fake)
    assert ratio == pytest.approx(1, abs=0.15)
    assert metrics.nyquist_ratio(real, fake + 4 * AMPLITUDE * checkerboard(21, 34)) > 2
    blurred = (fake + np.roll(fake, 1, 1) + np.roll(fake, 1, 2) + np.roll(fake, 1, (1, 2))) / 4
    assert metrics.nyquist_ratio(real, blurred) < 0.3
    monkeypatch.setattr(of_spectrum, "_VALUES", 1)
    assert metrics.nyquist_ratio(real, fake) == pytest.approx(ratio, rel=1e-12)
    assert math.isnan(metrics.nyquist_ratio(np.zeros((1, 8, 8, 1)), np.ones((1, 8, 8, 1))))
    with pytest.raises(
        UsageError, match=r"of the same shape.*Received: \(40, 21, 34, 3\) and \(40"
    ):
        metrics.nyquist_ratio(real, fake[:, :20])


def test_the_distance_of_pairs_by_hand(monkeypatch):
    """Pictures of 0, 0 and 3 in 64 values: distances of 0, 24 and 24."""
    images = np.zeros((3, 8, 8, 1), "uint8")
    images[2] = 3
    assert metrics.pair_distance(images) == 16
    assert metrics.pair_distance(images[1:]) == 24
    monkeypatch.setattr(of_pairs, "_VALUES", 5)
    assert metrics.pair_distance(images) == 16
    with pytest.raises(UsageError, match=r"at least 2 images, uint8\. Received: 1 images of type"):
        metrics.pair_distance(images[:1])


# ------------------------------------------------------------------------ evaluation


def test_pictures_of_any_size_are_evaluated_without_a_network():
    x = smooth(60, 40, 36, 3)
    data = datasets.from_arrays(x[:40], held_out=0.25)
    found = evaluate(x[40:50], data)
    expected = metrics.patch_distance(data.to_uint8(data.arrays("held_out")[0]), x[40:50])
    assert found["patch_distance"] == expected.mean
    assert found["patch_distance_36"] == expected.levels[36]
    assert found["patch_distance_18"] == expected.levels[18]
    ratio = found["pair_distance"] / found["pair_distance_real"]
    assert found["pair_distance_ratio"] == pytest.approx(ratio)
    assert found["nearest_ratio"] == pytest.approx(1, abs=0.2)
    assert next(iter(found.values)) == "patch_distance"
    assert {"nyquist_ratio", "feature_sliced_wasserstein", "ms_ssim"} <= found.values.keys()
    assert "frechet_distance" not in found.values
    protocol = found.protocol
    assert (protocol["extractor"], protocol["resize"]) == ("reduced_pixels", "antialiased bicubic")
    height, width, _ = protocol["input"]
    assert 3900 < height * width * 3 == protocol["features"] <= 4096
    assert protocol["patch_distance"] | {"seed": 0, "images": 10} == protocol["patch_distance"]
    copies = evaluate(data.arrays("train")[0][:10], data, metrics="nearest")
    assert copies["nearest_distance"] == copies["nearest_ratio"] == 0


def test_long_strips_are_reduced_and_other_large_samples_are_refused():
    for shape in ((2, 9000, 3), (9000, 2, 1), (64, 64, 4)):
        reduced = features.open_features("reduced_pixels", Spec("image", shape, (-1.0, 1.0)))
        assert 0 < reduced.dim <= 4096
    points = RNG.normal(size=(8, 5000)).astype("float32")
    with pytest.raises(UsageError, match=r"more than 4,096 values.*shape \(5000,\), features=None"):
        evaluate(points, points)
    with pytest.raises(UsageError, match=r"takes images.*Received: samples of kind 'points'"):
        evaluate(points, points, "reduced_pixels")


def test_training_and_evaluation_compute_the_same_values():
    x = smooth(24, 17, 16, 1)
    real, generated = x[:12], x[12:]
    found = evaluate(generated, real, metrics=["patch_distance", "nyquist_ratio", "pair_distance"])
    compare = metrics.Comparison(real / 127.5 - 1)
    assert compare.metric == "patch_distance"
    measured = compare(generated / 127.5 - 1)
    names = ["patch_distance", "nyquist_ratio", "pair_distance_ratio"]
    assert list(measured) == [*names, "sliced_wasserstein"]
    assert [measured[name] for name in names] == [found[name] for name in names]
    assert compare.protocol["patch_distance"]["patches_per_image"] == 32


def test_small_images_and_other_kinds_keep_the_sliced_wasserstein_distance():
    small, large = (Spec("image", (size, 9, 1), (-1.0, 1.0)) for size in (7, 8))
    assert comparison.default_metrics(small, 2) == (
        *("sliced_wasserstein", "pair_distance_ratio", "nearest_ratio"),
    )
    lone = ("patch_distance", "nyquist_ratio", "sliced_wasserstein")
    assert comparison.default_metrics(large, 1) == lone
    assert comparison.default_metrics(Spec("points", (2,)), 9) == ("sliced_wasserstein",)
    with pytest.raises(UsageError, match=r"patch_distance needs samples of kind image\. Received"):
        metrics.Comparison(np.zeros((4, 2)), "patch_distance")


def test_copies_are_measured_during_training():
    """Copies have distance 0, held-out samples distance 1, and blends of both are in between."""
    x = smooth(60, 32, 32, 3) / 127.5 - 1
    training, real, fresh = x[:20], x[20:40], x[40:]
    compare = metrics.Comparison(real, training=lambda: training)
    assert "nearest_ratio" in compare.names
    assert compare(training)["nearest_ratio"] == 0
    assert compare(real)["nearest_ratio"] == 1
    assert compare(fresh)["nearest_ratio"] == pytest.approx(1, abs=0.3)
    # Halfway between a training image and its difference from a held-out one, distances halve.
    index = metrics.nearest(flat(real), flat(training)).indices[:, 0]
    halves = (real + training[index]) / 2
    assert compare(halves)["nearest_ratio"] == pytest.approx(0.5, abs=0.02)
    assert compare.protocol["nearest_ratio"] == {"samples": 20}
    assert compare.protocol["training_samples"] == 20
    assert "nearest_ratio" not in metrics.Comparison(real).names
    with pytest.raises(UsageError, match=r"nearest_ratio compares with training samples\. Rec"):
        metrics.Comparison(real, others=["nearest_ratio"])
    with pytest.raises(UsageError, match="The metric of an evaluation must be one of"):
        metrics.Comparison(real, "nearest_ratio")
    unread = metrics.Comparison(real, "patch_distance", training=pytest.fail)
    assert "training_samples" not in unread.protocol


def test_pixels_may_be_compared_with_other_pictures_than_the_held_out_ones():
    x = smooth(60, 32, 32, 3) / 127.5 - 1
    training, real, others = x[:20], x[20:40], x[40:]
    compare = metrics.Comparison(real, training=lambda: training, pictures=others)
    held_out = metrics.Comparison(real, training=lambda: training)
    found, usual = compare(others), held_out(others)
    assert found["patch_distance"] == 0 < usual["patch_distance"]
    assert (found["nyquist_ratio"], found["pair_distance_ratio"]) == (1, 1)
    for name in ("nearest_ratio", "sliced_wasserstein"):
        assert found[name] == usual[name] > 0
    assert compare.protocol["pictures"] == "all"
    assert "pictures" not in held_out.protocol
    with pytest.raises(UsageError, match=r"at least as many\. Received: \(19, .*\(20, 32, 32"):
        metrics.Comparison(real, pictures=others[1:])


def test_more_pictures_are_compared_than_are_held_out():
    x = smooth(90, 32, 32, 3) / 127.5 - 1
    training, real, others, made = x[:20], x[20:30], x[30:60], x[60:]
    compare = metrics.Comparison(real, training=lambda: training, pictures=others)
    found, protocol = compare(made), compare.protocol
    assert (compare.count, protocol["count"], protocol["picture_count"]) == (30, 10, 30)
    of_pixels = metrics.Comparison(others)(made)
    for name in ("patch_distance", "nyquist_ratio", "pair_distance_ratio"):
        assert found[name] == of_pixels[name]
    of_values = metrics.Comparison(real, training=lambda: training)(made[:10])
    for name in ("nearest_ratio", "sliced_wasserstein"):
        assert found[name] == of_values[name]


def test_a_recipe_compares_pixels_with_a_choice_of_all_pictures(tmp_path):
    brightness = np.arange(40, dtype=np.uint8)
    x = np.broadcast_to(brightness[:, None, None, None], (40, 8, 8, 1))
    np.savez(tmp_path / "x.npz", x_train=x[:30], x_test=x[30:])
    settings = ["evaluation.features=null", "evaluation.metric=null", "evaluation.pictures=all"]
    settings += ["evaluation.others=[]", "evaluation.count=20"]
    made = recipe.load("quickstart", settings, str(tmp_path / "x.npz"))
    source = building.open_data(made)
    held_out = building.open_held_out(made, source, 1)
    compared = building._choice_of_all(made, source, {"samples": held_out.samples})["samples"]
    chosen = np.round((compared[:, 0, 0, 0] + 1) * 127.5).astype(int)
    assert held_out.comparison.count == len(set(chosen)) == 20
    assert (np.sum(chosen < 30), np.sum(chosen >= 30)) == (15, 5)  # 3 of 4 are trained on
    assert (len(held_out.samples), held_out.conditions) == (10, {})
    points = recipe.load("gaussians-8", ["evaluation.pictures=all"])
    with pytest.raises(UsageError, match=r"pictures=all is for images; .* Received: points of"):
        building.open_held_out(points, building.open_data(points), 1)


def test_samples_are_compared_with_pictures_of_the_same_classes(tmp_path):
    numbers = np.arange(40)
    classes = numbers % 4
    x = np.broadcast_to(numbers.astype(np.uint8)[:, None, None, None], (40, 8, 8, 1))
    arrays = {"x_train": x[:30], "x_test": x[30:], "y_train": classes[:30], "y_test": classes[30:]}
    np.savez(tmp_path / "x.npz", **arrays)
    settings = ["evaluation.features=null", "evaluation.metric=null", "evaluation.pictures=all"]
    settings += ["evaluation.others=[]", "evaluation.count=20"]
    made = recipe.load("fashion-mnist-classes", settings, str(tmp_path / "x.npz"))
    source = building.open_data(made)
    held_out = building.open_held_out(made, source, 1)
    own = {"samples": held_out.samples, "labels": held_out.labels}
    compared = building._choice_of_all(made, source, own)
    shown = np.round((compared["samples"][:, 0, 0, 0] + 1) * 127.5)
    np.testing.assert_array_equal(shown % 4, compared["labels"])
    np.testing.assert_array_equal(held_out.conditions["labels"], compared["labels"])
    assert (len(compared["labels"]), len(held_out.labels)) == (20, 10)
    gan = building.build(made, source.spec)
    evaluation = callbacks.Evaluation(
        NullRun(),
        held_out.samples,
        held_out.labels,
        held_out.comparison,
        conditions=held_out.conditions,
    )
    seeds, labels = evaluation.seeds, held_out.labels
    samples = gan.generate(seeds, labels=compared["labels"])
    expected = held_out.comparison(samples, gan.generate(seeds[:10], labels=labels))
    assert evaluation.measure(gan) == pytest.approx(expected, nan_ok=True)
    assert held_out.comparison(samples)["sliced_wasserstein"] != expected["sliced_wasserstein"]
    with pytest.raises(UsageError, match=r"as many as .* compared, 20\. Received: 10 of 'labels'"):
        callbacks.Evaluation(evaluation.run, held_out.samples, labels, held_out.comparison)
    unconditional = building.open_held_out(_without_labels(made), source, 1)
    assert (unconditional.labels, unconditional.conditions) == (None, {})


def _without_labels(made):
    networks = {
        role: network.model_copy(update={"condition": []})
        for role, network in made.networks.items()
    }
    return made.model_copy(update={"networks": networks})


def test_copies_of_every_training_sample_are_found():
    """Also where their number does not divide into the parts in which they are read."""
    x = smooth(320, 8, 8, 1)
    source = datasets.from_arrays(x[:310], x_test=x[310:])
    found = np.sort(building._training_samples(source).reshape(310, -1), axis=0)
    np.testing.assert_allclose(found, np.sort(x[:310].reshape(310, -1) / 127.5 - 1, 0), atol=1e-5)


def flat(images):
    return nearest_ratio.reduce(images).reshape(len(images), -1)


@pytest.mark.parametrize(
    ("shape", "reduced"),
    [
        ((28, 28, 1), (28, 28, 1)),
        ((64, 64, 3), (16, 16, 3)),
        ((65, 47, 3), (16, 11, 3)),
        ((3, 2000, 1), (1, 1000, 1)),
        ((1, 2000, 1), (1, 2000, 1)),
        ((5,), (5,)),
    ],
    ids=str,
)
def test_images_are_reduced_for_the_search_of_copies(shape, reduced):
    samples = np.arange(2 * np.prod(shape), dtype=np.float64).reshape(2, *shape)
    found = nearest_ratio.reduce(samples)
    assert found.shape == (2, *reduced)
    np.testing.assert_array_equal(nearest_ratio.reduce(found), found)
    if len(shape) == 3 and shape != reduced:
        side = shape[1] // reduced[1]
        assert found[0, 0, 0, 0] == samples[0, :side, :side, 0].mean()


# ------------------------------------------------------------------------ features of other data


def test_features_of_a_classifier_of_other_images_are_refused_or_named(tmp_path, capsys):
    x = smooth(30, 28, 28, 1)
    for shape in ((32, 32, 1), (28, 28, 3)):
        with pytest.raises(UsageError, match=r"fashion_mnist is a classifier of .*patch_distance"):
            features.open_features("fashion_mnist", Spec("image", shape, (-1.0, 1.0)))
    named = evaluate(x[:10], x[10:], "fashion_mnist", 10, metrics="frechet_distance")
    assert named.protocol["note"].startswith("fashion_mnist are the features of a classifier of F")
    unnamed = evaluate(x[:10], x[10:], None, 10, metrics="patch_distance")
    assert unnamed.protocol["extractor"] == "pixels"
    known = datasets.open("fashion-mnist-10k")
    assert features.default_features(known) == "fashion_mnist"
    names, labels = known.spec.class_names, np.arange(30) % 10
    garments = datasets.from_arrays(x, labels, class_names=names)
    assert features.default_features(garments) == "fashion_mnist"
    own = evaluate(x[:10], known, "fashion_mnist", 10, metrics="frechet_distance")
    assert "note" not in own.protocol
    for name, samples in (("a", x[:10]), ("b", x[10:])):
        np.savez(tmp_path / f"{name}.npz", samples)
    asked = ["--features", "fashion_mnist", "--metrics", "frechet_distance", "--cache", "off"]
    main(["evaluate", str(tmp_path / "a.npz"), "--data", str(tmp_path / "b.npz"), *asked])
    out = " ".join(capsys.readouterr().out.split())
    assert "note: fashion_mnist are the features of a classifier of Fashion-MNIST, which" in out


def test_a_recipe_of_fashion_mnist_on_other_pictures_names_the_way_out(tmp_path):
    np.savez(tmp_path / "color.npz", smooth(30, 24, 24, 3))
    np.savez(tmp_path / "gray.npz", smooth(30, 28, 28, 1))
    color, gray = (str(tmp_path / f"{name}.npz") for name in ("color", "gray"))
    source = datasets.open(color, held_out=0.25)
    with pytest.raises(UsageError, match=r"evaluation\.metric=patch_distance.*\(24, 24, 3"):
        building.open_held_out(recipe.load("fashion-mnist", (), color), source, 1)
    changed = recipe.load("fashion-mnist", ["evaluation.metric=patch_distance"], color)
    assert building.open_held_out(changed, source, 1).comparison.names == ("patch_distance",)
    resolved, source = recipe.load("fashion-mnist", (), gray), datasets.open(gray, held_out=0.25)
    with pytest.warns(UserWarning, match=r"classifier of Fashion-MNIST, which these data are not"):
        building.open_held_out(resolved, source, 1)
