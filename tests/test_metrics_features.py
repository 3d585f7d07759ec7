"""Metrics of features: closed forms, cases by hand, failures to detect, torch-fidelity."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tracemalloc
import venv

import keras
import numpy as np
import pytest
import scipy.signal
from scipy.spatial.distance import cdist

import export
import keras_gan
from keras_gan import UsageError, metrics

BENCHMARK = pathlib.Path(__file__).parents[1] / "benchmarks" / "metrics.py"
# Values of torch-fidelity 0.4.0 for the benchmark's features, in float64:
# `python benchmarks/metrics.py --torch-python PATH --reference`.
REFERENCE = {
    "frechet": {"distance": 0.08258575727704454},
    "frechet, far": {"distance": 0.08258565073020563},
    "frechet, deficient": {"distance": 4.850382590800351},
    "kernel": {"mean": 0.0008661928645820494, "deviation": 0.0029973373478791934},
    "neighbors": {"precision": 0.9116666913032532, "recall": 0.8171428442001343},
    "score": {"mean": 1.0378108093305891, "deviation": 0.0047081101809027205},
}


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_of_metrics", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exact(count, mean, covariance, seed=0):
    """Returns a sample with exactly this mean and covariance, not only in its distribution."""
    x = np.random.default_rng(seed).normal(size=(count, len(mean)))
    x -= x.mean(axis=0)
    white = np.linalg.solve(np.linalg.cholesky(np.cov(x, rowvar=False)), x.T).T
    return white @ np.linalg.cholesky(np.asarray(covariance, float)).T + mean


# ------------------------------------------------------------------------------- accumulators


def test_moments_are_those_of_the_sample():
    x = np.random.default_rng(0).normal(size=(300, 7)) @ np.diag(np.arange(1.0, 8)) + 3
    moments = metrics.Moments.of(x)
    assert (moments.count, moments.dim) == (300, 7)
    np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(moments.covariance, np.cov(x, rowvar=False), rtol=1e-11, atol=1e-12)
    assert (moments.covariance == moments.covariance.T).all()


def test_moments_do_not_depend_on_how_rows_are_batched():
    x = np.random.default_rng(0).normal(size=(1000, 5)).astype("float32")
    whole, parts = metrics.Moments(block=64), metrics.Moments(block=64)
    whole.update(x)
    for start, stop in ((0, 1), (1, 64), (64, 65), (65, 700), (700, 700), (700, 1000)):
        parts.update(x[start:stop])
        if start:
            parts.covariance  # noqa: B018 - reading does not change the state
    assert (whole.mean == parts.mean).all()
    assert (whole.covariance == parts.covariance).all()


def test_moments_far_from_zero_do_not_cancel():
    """Near 1e6 squares are 1e12, and a difference of their sums has lost all digits of 1e-4."""
    x = np.random.default_rng(0).normal(size=(3000, 4)) * 1e-2
    moments = metrics.Moments(block=500)
    moments.update(x + 1e6)
    near = np.cov((x + 1e6) - 1e6, rowvar=False)  # with the digits that 1e6 leaves
    np.testing.assert_allclose(moments.covariance, near, rtol=1e-6, atol=1e-12)


def test_moments_merge_as_one_stream():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(130, 6)), rng.normal(5, 3, size=(77, 6))
    one, other = metrics.Moments(block=32), metrics.Moments(block=32)
    one.update(first)
    other.update(second)
    both = metrics.Moments()
    for part in (one, other, metrics.Moments()):
        both.merge(part)
    one.merge(other)
    expected = np.concatenate([first, second])
    for moments in (one, both):
        assert moments.count == 207
        np.testing.assert_allclose(moments.mean, expected.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(moments.covariance, np.cov(expected, rowvar=False), rtol=1e-10)
    assert other.count == 77
    np.testing.assert_allclose(other.mean, second.mean(axis=0), rtol=1e-12)
    one.update(first)  # more rows can follow
    again = np.cov(np.concatenate([expected, first]), rowvar=False)
    np.testing.assert_allclose(one.covariance, again, rtol=1e-10)


def test_moments_are_saved_and_loaded(tmp_path):
    x = np.random.default_rng(0).normal(size=(50, 3))
    moments = metrics.Moments.of(x)
    moments.save(tmp_path / "moments")
    loaded = metrics.Moments.load(tmp_path / "moments")
    assert loaded.count == 50
    np.testing.assert_allclose(loaded.mean, moments.mean, rtol=0)
    assert (loaded.covariance == moments.covariance).all()  # to the last bit
    loaded.update(x)
    twice = np.cov(np.concatenate([x, x]), rowvar=False)
    np.testing.assert_allclose(loaded.covariance, twice, rtol=1e-11)
    (tmp_path / "other").write_text("no moments")
    for name in ("other", "missing"):
        with pytest.raises(UsageError, match=rf"that `save` wrote\. Received: .*{name}"):
            metrics.Moments.load(tmp_path / name)
    with pytest.raises(UsageError, match=r"at least 1 sample can be saved\. Received: 0 samples"):
        metrics.Moments().save(tmp_path / "none")


def test_memory_of_moments_does_not_grow_with_the_count():
    def peak(batches):
        moments, batch = metrics.Moments(block=256), np.ones((200, 64), "float32")
        tracemalloc.start()
        for _ in range(batches):
            moments.update(batch)
        moments.covariance.sum()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few, many = peak(10), peak(500)
    assert many < few * 1.05
    assert many < 16 * 64 * (64 + 256) * 2  # of 51 MB of features


def test_collected_keeps_every_row():
    rows = np.arange(12.0).reshape(6, 2)
    collected = metrics.Collected()
    assert len(collected) == 0
    buffer = rows[:4].copy()
    collected.update(buffer)
    buffer[:] = -1  # belongs to the caller
    collected.update(rows[4:])
    assert len(collected) == 6
    assert collected.array.dtype == np.float32
    assert (collected.array == rows).all()


# ------------------------------------------------------------------------------- Frechet


def test_frechet_distance_of_gaussians():
    """For diagonal covariances it is |m|^2 plus the sum of (s1 - s2)^2 of the deviations."""
    one = exact(50, np.zeros(3), np.diag([1.0, 4.0, 9.0]))
    other = exact(80, np.array([1.0, 2.0, 2.0]), np.diag([4.0, 4.0, 1.0]), seed=1)
    expected = 9 + 1 + 0 + 4
    assert metrics.frechet_distance(one, other) == pytest.approx(expected, rel=1e-10)
    assert metrics.frechet_distance(other, one) == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_of_covariances_that_do_not_commute():
    """Of 2 x 2 matrices, tr(M^(1/2))^2 = tr(M) + 2 det(M)^(1/2)."""
    a, b = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[1.0, -0.5], [-0.5, 0.5]])
    product = a @ b
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    found = metrics.frechet_distance(exact(40, [5, 5], a), exact(40, [5, 5], b, seed=1))
    assert found == pytest.approx(np.trace(a) + np.trace(b) - 2 * root, rel=1e-10)


def test_frechet_distance_of_fewer_samples_than_dimensions():
    """Two points at +-a have the covariance 2 a a^T, and tr((C1 C2)^(1/2)) is 2 |a.b|."""
    a, b = np.array([1.0, 2.0, 2.0]), np.array([3.0, 0.0, 4.0])
    found = metrics.frechet_distance(np.stack([a, -a]), np.stack([b, -b]))
    assert found == pytest.approx(2 * 9 + 2 * 25 - 4 * 11, rel=1e-12)
    # In general the trace is the sum of singular values of the centered samples' product.
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 64)), rng.normal(size=(31, 64)) * 2
    centered = [s - s.mean(axis=0) for s in (x, y)]
    root = np.linalg.svd(centered[0] @ centered[1].T)[1].sum() / np.sqrt(19 * 30)
    shift = np.square(x.mean(axis=0) - y.mean(axis=0)).sum()
    traces = x.var(axis=0, ddof=1).sum() + y.var(axis=0, ddof=1).sum()
    assert metrics.frechet_distance(x, y) == pytest.approx(shift + traces - 2 * root, rel=1e-10)
    assert metrics.frechet_distance(y, x) == pytest.approx(shift + traces - 2 * root, rel=1e-10)


def test_frechet_distance_of_a_set_to_itself_is_zero():
    """Also for constant or repeated features, and scales so unequal that products lose them."""
    x = np.random.default_rng(0).normal(size=(200, 40)) * np.logspace(0, -9, 40)
    x[:, 7], x[:, 8] = 0, x[:, 9]
    assert metrics.frechet_distance(x, x) < 1e-9 * x.var(axis=0).sum()
    assert metrics.frechet_distance(np.ones((5, 3)), np.ones((5, 3))) == 0
    assert metrics.frechet_distance(np.ones((5, 3)), np.zeros((4, 3))) == pytest.approx(3)


def test_frechet_distance_of_streams_is_that_of_arrays():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 5)), rng.normal(size=(70, 5)).astype("float32")
    collected = metrics.Collected()
    collected.update(y)
    streams = metrics.frechet_distance(metrics.Moments.of(x), collected)
    assert streams == metrics.frechet_distance(x, y)


# ------------------------------------------------------------------------------- kernel


def test_kernel_distance_by_hand():
    """x = {0, 1}, y = {1, 2}: k(0, 1) + k(1, 2) - 2 (k(0,1) + k(0,2) + k(1,1) + k(1,2)) / 4."""
    x, y = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
    found = metrics.kernel_distance(x, y, subsets=3, subset_size=2)
    assert found.mean == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)
    assert found.deviation == pytest.approx(0, abs=1e-12)
    assert float(found) == found.mean


def test_kernel_distance_is_unbiased():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3000, 8)).astype("float32")
    found = metrics.kernel_distance(x, y, subsets=50, subset_size=100)
    assert found.standard_error == pytest.approx(found.deviation / np.sqrt(50))
    assert abs(found.mean) < 4 * found.standard_error
    shifted = metrics.kernel_distance(x, y + 0.5, subsets=50, subset_size=100)
    assert shifted.mean > 20 * shifted.standard_error
    assert metrics.kernel_distance(x, y, 50, 100, seed=1).mean != found.mean
    assert metrics.kernel_distance(x, y, 50, 100) == found


# ------------------------------------------------------------------------------- neighbors

REAL = np.array([[0.0], [1.0], [2.0], [3.0]])
GENERATED = np.array([[3.5], [4.5], [0.5], [10.0]])


def test_precision_and_recall_by_hand():
    """Real balls have radius 1 and contain 3.5 and 0.5. The ball of 0.5 covers all real ones."""
    assert metrics.precision_recall(REAL, GENERATED, neighbors=1) == (0.5, 1.0)
    surface = np.array([[4.0], [4.5], [40.0]])  # 4 is on the surface of 3's ball: inside
    assert metrics.precision_recall(REAL, surface, neighbors=1).precision == 1 / 3


def test_density_and_coverage_by_hand():
    """3.5 is in the ball of 3, and 0.5 in those of 0 and 1: three of four balls, not that of 2."""
    assert metrics.density_coverage(REAL, GENERATED, neighbors=1) == (0.75, 0.75)


@pytest.mark.parametrize("counts", [(1500, 1100), (40, 1300)])
def test_neighbor_metrics_in_tiles_are_those_of_all_distances(counts):
    rng = np.random.default_rng(0)
    real = rng.normal(size=(counts[0], 6)).astype("float32") + 100
    generated = (rng.normal(size=(counts[1], 6)) * 0.8 + 100.3).astype("float32")
    own, other = np.sort(cdist(real, real), axis=1), np.sort(cdist(generated, generated), axis=1)
    between = cdist(real, generated)
    found = metrics.precision_recall(real, generated)
    assert found.precision == (between <= own[:, 3:4]).any(axis=0).mean()
    assert found.recall == (between <= other[:, 3]).any(axis=1).mean()
    inside = between <= own[:, 5:6]
    found = metrics.density_coverage(real, generated)
    assert found.density == pytest.approx(inside.sum() / 5 / len(generated), rel=1e-12)
    assert found.coverage == inside.any(axis=1).mean()
    neighbors = metrics.nearest(generated, real, count=3)
    assert (neighbors.indices == np.argsort(between.T, axis=1)[:, :3]).all()
    np.testing.assert_allclose(neighbors.distances, np.sort(between.T, axis=1)[:, :3], rtol=1e-9)


@pytest.mark.parametrize("far", [0.0, 1000.0])
def test_copies_lie_on_the_surfaces_of_their_originals(far):
    """Each ball contains its center and 5 neighbors, one on its surface: (5 + 1) / 5."""
    real = (np.random.default_rng(0).normal(size=(700, 16)) + far).astype("float32")
    copies = np.random.default_rng(1).permutation(real)
    assert metrics.precision_recall(real, copies) == (1, 1)
    assert metrics.density_coverage(real, copies) == (pytest.approx(1.2, rel=1e-12), 1)
    found = metrics.nearest(copies, real, count=2)
    assert (found.distances[:, 0] == 0).all()
    assert (real[found.indices[:, 0]] == copies).all()
    assert found.distances[:, 1].min() > 0


# ------------------------------------------------------------------------------- others


def test_inception_score_of_confident_and_of_unsure_predictions():
    certain = np.tile(np.eye(4), (25, 1))
    assert metrics.inception_score(certain, splits=1) == (pytest.approx(4), 0)
    assert metrics.inception_score(np.full((50, 4), 0.25)).mean == pytest.approx(1)
    # One split has only class 0, the other two classes: scores 1 and 2.
    parts = np.eye(2)[[0, 0, 0, 1]]
    assert metrics.inception_score(parts, splits=2, seed=None) == pytest.approx((1.5, 0.5))
    # p = (0.9, 0.1) and (0.1, 0.9): KL to (0.5, 0.5) is log 2 minus the entropy.
    unsure = np.array([[0.9, 0.1], [0.1, 0.9]])
    entropy = -0.9 * np.log(0.9) - 0.1 * np.log(0.1)
    found = metrics.inception_score(unsure.astype("float32"), splits=1).mean
    assert found == pytest.approx(2 * np.exp(-entropy), rel=1e-6)


def test_mode_coverage_by_hand():
    found = metrics.mode_coverage(np.array([0, 0, 0, 2]), 3)
    assert found.modes == 2
    assert found.reverse_kl == pytest.approx(0.75 * np.log(0.75 * 3) + 0.25 * np.log(0.25 * 3))
    assert metrics.mode_coverage(np.array([0, 1, 1, 1]), np.array([10, 30])) == (2, 0)
    assert metrics.mode_coverage(np.array([0, 1]), np.array([1.0, 0.0])).reverse_kl == np.inf
    ids = np.random.default_rng(0).integers(0, 1000, 26_000)
    assert metrics.mode_coverage(ids, 1000).reverse_kl == pytest.approx(999 / 52_000, rel=0.1)


def ms_ssim(a, b, span, weights):
    """Wang et al.'s formulas, with scipy's convolution."""
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    c1, c2, product = (0.01 * span) ** 2, (0.03 * span) ** 2, 1.0
    for scale, weight in enumerate(weights):
        mean = [scipy.signal.convolve2d(x, window, "valid") for x in (a, b, a * a, b * b, a * b)]
        covariance = mean[4] - mean[0] * mean[1]
        variances = mean[2] - mean[0] ** 2 + mean[3] - mean[1] ** 2
        structure = (2 * covariance + c2) / (variances + c2)
        luminance = (2 * mean[0] * mean[1] + c1) / (mean[0] ** 2 + mean[1] ** 2 + c1)
        last = scale == len(weights) - 1
        product *= max(0, (luminance * structure if last else structure).mean()) ** weight
        a, b = (x.reshape(x.shape[0] // 2, 2, -1, 2).mean(axis=(1, 3)) for x in (a, b))
    return product


def test_ms_ssim_of_one_pair():
    rng = np.random.default_rng(0)
    base = scipy.signal.convolve2d(rng.uniform(-1, 1, (32, 32)), np.ones((5, 5)) / 9, "valid")
    a, b = np.clip(base, -1, 1), np.clip(base + rng.normal(0, 0.2, base.shape), -1, 1)
    images = np.stack([a, b])[..., None].astype("float32")
    weights = np.array([0.0448, 0.2856]) / (0.0448 + 0.2856)  # 28 x 28 and 14 x 14
    expected = ms_ssim(a + 1, b + 1, 2.0, weights)
    assert 0.2 < expected < 0.95
    assert metrics.ms_ssim_diversity(images, pairs=3) == pytest.approx(expected, rel=1e-4)
    shifted = metrics.ms_ssim_diversity((images + 1) * 127.5, pairs=3, value_range=(0, 255))
    assert shifted == pytest.approx(expected, rel=1e-4)


def test_ms_ssim_falls_with_diversity():
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (20, 16, 16, 3)).astype("float32")
    several = metrics.ms_ssim_diversity(images, pairs=50)
    assert several < 0.2
    assert metrics.ms_ssim_diversity(images, pairs=50) == several  # the pairs are the seed's
    assert metrics.ms_ssim_diversity(np.repeat(images[:1], 20, 0), pairs=50) == pytest.approx(1)
    assert several < metrics.ms_ssim_diversity(images[:2].repeat(10, 0), pairs=50) < 1


def test_sliced_wasserstein_of_collected_features():
    x = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    collected = metrics.Collected()
    collected.update(x)
    assert metrics.sliced_wasserstein(collected, x + 1) == metrics.sliced_wasserstein(x, x + 1)
    lists = metrics.sliced_wasserstein(x.tolist(), (x + 1).tolist())
    assert lists == metrics.sliced_wasserstein(x, x + 1)
    bad = x.copy()
    bad[7, 1] = np.nan
    with pytest.raises(UsageError, match=r"finite numbers\. Received: generated with NaN"):
        metrics.sliced_wasserstein(x, bad)
    with pytest.raises(UsageError, match=r"an array or Collected\. Received: real as Moments"):
        metrics.sliced_wasserstein(metrics.Moments.of(x), x)
    with pytest.raises(UsageError, match=r"must be numbers\. Received: real of type <U1"):
        metrics.sliced_wasserstein([["x"]], [["y"]])


def test_ms_ssim_within_classes_detects_a_collapse_in_each():
    """Two classes of one repeated image each: equal within a class, different between them."""
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (2, 16, 16, 1)).astype("float32").repeat(10, axis=0)
    labels = np.arange(20) // 10
    order = rng.permutation(20)
    images, labels = images[order], labels[order]
    assert metrics.ms_ssim_diversity(images, pairs=50) < 0.8
    assert metrics.ms_ssim_diversity(images, pairs=50, labels=labels) == pytest.approx(1)
    noise = rng.uniform(-1, 1, (20, 16, 16, 1)).astype("float32")
    assert metrics.ms_ssim_diversity(noise, pairs=50, labels=labels) < 0.3  # two different images
    with pytest.raises(UsageError, match=r"2 images of one class\. Received: 20 images of 20 cl"):
        metrics.ms_ssim_diversity(noise, labels=np.arange(20))
    with pytest.raises(UsageError, match=r"one label for each of the 20 images\. Received: \(3,"):
        metrics.ms_ssim_diversity(noise, labels=np.zeros(3, int))


# ------------------------------------------------------------------------------- failures


@pytest.fixture(scope="module")
def classes():
    """Returns class ids, training samples and as many held-out samples of ten classes."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(10, 12)) * 4
    ids = np.arange(1000) % 10
    training, held_out = (centers[ids] + rng.normal(size=(1000, 12)) for _ in range(2))
    return ids, training, held_out


def test_a_repeated_sample_is_detected(classes):
    """It looks real, so precision may miss it; recall, coverage and distances detect it."""
    _, training, held_out = classes
    repeated = np.repeat(held_out[:1], 1000, axis=0)
    assert metrics.precision_recall(training, repeated).recall == 0
    assert metrics.density_coverage(training, repeated).coverage < 0.02
    assert metrics.precision_recall(training, held_out).recall > 0.7
    assert metrics.density_coverage(training, held_out).coverage > 0.9
    distances = [
        (metrics.frechet_distance(training, x), metrics.kernel_distance(training, x, 5, 500).mean)
        for x in (repeated, held_out)
    ]
    for collapsed, equal in zip(*distances, strict=True):
        assert collapsed > 100 * abs(equal)
    # A repeated training sample: a ball of radius 0 contains only its original.
    repeated = np.repeat(training[:1], 1000, axis=0)
    assert metrics.precision_recall(training, repeated) == (1, 1 / 1000)


def test_a_memorized_training_set_is_detected(classes):
    """Only nearest neighbors detect it; all other metrics are perfect."""
    _, training, held_out = classes
    memorized = training + 1e-3 * np.random.default_rng(1).normal(size=training.shape)
    assert metrics.precision_recall(training, memorized) == (1, 1)
    assert metrics.frechet_distance(training, memorized) < 1e-4
    copied = np.median(metrics.nearest(memorized, training).distances)
    new = np.median(metrics.nearest(held_out, training).distances)
    assert copied < new / 100


def test_a_single_class_is_detected(classes):
    ids, training, held_out = classes
    single = held_out[ids == 3]
    assert metrics.mode_coverage(ids[ids == 3], 10) == (1, pytest.approx(np.log(10)))
    found = metrics.precision_recall(training, single)
    assert found.precision > 0.7
    assert found.recall < 0.11
    assert metrics.density_coverage(training, single).coverage < 0.11
    assert metrics.inception_score(np.eye(10)[ids[ids == 3]]).mean == pytest.approx(1)
    assert metrics.inception_score(np.eye(10)[ids], splits=1).mean == pytest.approx(10)


def test_permuted_pixels_are_detected():
    """One permutation of all images' pixels: the same values, different pictures."""
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=(800, 36)).cumsum(axis=1)  # neighboring pixels are alike
    real, generated = smooth[:400], smooth[400:]
    permuted = generated[:, rng.permutation(36)]
    distance = metrics.frechet_distance(real, generated)
    assert metrics.frechet_distance(real, permuted) > 10 * distance
    assert metrics.precision_recall(real, permuted).precision < 0.1
    assert metrics.precision_recall(real, generated).precision > 0.8


# ------------------------------------------------------------------------------- errors

OF_TWO = [
    metrics.frechet_distance,
    lambda a, b: metrics.kernel_distance(a, b, subset_size=2),
    metrics.precision_recall,
    metrics.density_coverage,
    metrics.nearest,
]


@pytest.mark.parametrize("metric", OF_TWO)
def test_invalid_features_are_refused(metric):
    good = np.random.default_rng(0).normal(size=(20, 3))
    for value in (np.nan, np.inf):
        bad = good.copy()
        bad[17, 1] = value
        for pair in ((bad, good), (good, bad)):
            with pytest.raises(UsageError, match=r"must be finite numbers\. Received: .*row 17"):
                metric(*pair)
    with pytest.raises(UsageError, match=r"same dimension\. Received: dim=[34] and dim=[34]"):
        metric(good, np.zeros((20, 4)))
    with pytest.raises(UsageError, match=r"Received: \w+ of shape \(20,\) and type float64"):
        metric(good, np.zeros(20))
    with pytest.raises(UsageError, match=r"Received: \w+ of shape \(20, 3\) and type <U1"):
        metric(good, np.full((20, 3), "x"))
    for pair in ((good, good[:0]), (good[:0], good)):
        with pytest.raises(UsageError, match=r"needs? .*Received: 2?0"):
            metric(*pair)


def test_too_few_samples_are_refused():
    x = np.random.default_rng(0).normal(size=(6, 3))
    with pytest.raises(UsageError, match=r"2 generated samples\. Received: 6 real and 1 gen"):
        metrics.frechet_distance(x, x[:1])
    with pytest.raises(UsageError, match=r"Received: 6 real, 3 generated, neighbors=3"):
        metrics.precision_recall(x, x[:3])
    assert metrics.precision_recall(x, x[:4]).precision == 1
    with pytest.raises(UsageError, match=r"Received: 5 real, 6 generated, neighbors=5"):
        metrics.density_coverage(x[:5], x)
    with pytest.raises(UsageError, match=r"neighbors must be at least 1\. Received: neighbors=0"):
        metrics.precision_recall(x, x, neighbors=0)
    with pytest.raises(UsageError, match=r"Received: 6 real, 6 generated, subset_size=1000"):
        metrics.kernel_distance(x, x)
    with pytest.raises(UsageError, match=r"Received: subsets=0, subset_size=5"):
        metrics.kernel_distance(x, x, subsets=0, subset_size=5)
    with pytest.raises(UsageError, match=r"Received: count=7 for 6 training samples"):
        metrics.nearest(x, x, count=7)
    with pytest.raises(UsageError, match=r"features themselves.*as Moments"):
        metrics.precision_recall(metrics.Moments.of(x), x)


def test_accumulators_refuse_invalid_features():
    for accumulator in (metrics.Moments(), metrics.Collected()):
        accumulator.update(np.zeros((2, 3)))
        with pytest.raises(UsageError, match=r"dim=4 after dim=3"):
            accumulator.update(np.zeros((2, 4)))
        with pytest.raises(UsageError, match="finite numbers"):
            accumulator.update(np.full((2, 3), np.nan))
    with pytest.raises(UsageError, match="features as float32 with NaN or infinity in row 1"):
        metrics.Collected().update(np.array([[1.0], [1e300]]))
    x = np.random.default_rng(0).normal(size=(9, 2))
    with pytest.raises(UsageError, match="small enough for float64 to hold their covariance"):
        metrics.frechet_distance(x * 1e200, x)
    with pytest.raises(UsageError, match="at least 1 sample"):
        metrics.Moments().mean  # noqa: B018
    with pytest.raises(UsageError, match=r"at least 2 samples\. Received: 1"):
        metrics.Moments.of(np.zeros((1, 3))).covariance  # noqa: B018
    with pytest.raises(UsageError, match="dim=3 and dim=4"):
        metrics.Moments.of(np.zeros((2, 3))).merge(metrics.Moments.of(np.zeros((2, 4))))
    with pytest.raises(UsageError, match="block=0"):
        metrics.Moments(block=0)


def test_other_invalid_arguments_are_refused():
    with pytest.raises(UsageError, match=r"take the softmax\)\. Received: least value -1, row 0"):
        metrics.inception_score(np.array([[-1.0, 5.0]]), splits=1)
    with pytest.raises(UsageError, match="splits=10 for 1 samples"):
        metrics.inception_score(np.ones((1, 1)))
    with pytest.raises(UsageError, match=r"modes 0 to 2\. Received: 0 to 3"):
        metrics.mode_coverage(np.array([0, 3]), 3)
    with pytest.raises(UsageError, match=r"ints .* type float64"):
        metrics.mode_coverage(np.zeros(3), 3)
    for shares in (-np.ones(3), np.array([np.nan])):
        with pytest.raises(UsageError, match="number from 0 for each"):
            metrics.mode_coverage(np.zeros(3, int), shares)
    for shares in (0, np.zeros(2)):
        with pytest.raises(UsageError, match="at least 1 mode with a share"):
            metrics.mode_coverage(np.zeros(3, int), shares)
    with pytest.raises(UsageError, match=r"at least 11 x 11\. Received: 10 x 32"):
        metrics.ms_ssim_diversity(np.zeros((2, 10, 32, 1)))
    with pytest.raises(UsageError, match=r"value_range\. Received: 0 to 255"):
        metrics.ms_ssim_diversity(np.linspace(0, 255, 512).reshape(2, 16, 16, 1))
    with pytest.raises(UsageError, match="at least 2 images"):
        metrics.ms_ssim_diversity(np.zeros((1, 16, 16, 1)))


# ------------------------------------------------------------------------------- torch-fidelity


@pytest.mark.parametrize("title", REFERENCE)
def test_values_agree_with_torch_fidelity(benchmark, title):
    """For the same features, to a relative 1e-6."""
    metric, real, generated, dim, settings = benchmark.REFERENCES[title]
    found = benchmark.ours(metric, benchmark.make_features(real, generated, dim), settings)
    assert found == pytest.approx(REFERENCE[title], rel=1e-6, abs=0)


@pytest.fixture(scope="session")
def torch_python(tmp_path_factory):
    """Returns a Python with torch-fidelity: KERAS_GAN_TORCH_PYTHON, or a new environment."""
    if python := os.environ.get("KERAS_GAN_TORCH_PYTHON"):
        return python
    environment = tmp_path_factory.mktemp("torch")
    venv.create(environment, with_pip=True)
    python = str(environment / "bin" / "python")
    packages = ["torch-fidelity==0.4.0", "torchvision", "onnxruntime"]
    install = [python, "-m", "pip", "install", "-q", *packages]
    done = subprocess.run(install, capture_output=True, text=True, timeout=1500)
    if done.returncode:
        pytest.skip(
            "pip finds no torch-fidelity with a torch and torchvision that fit (give "
            f"KERAS_GAN_TORCH_PYTHON, a Python that has them): {done.stderr[-300:]}"
        )
    return python


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_torch_fidelity_agrees_at_full_size(torch_python, tmp_path):
    cases = ["Frechet, 10,000 x 128", "kernel, 10,000 x 128", "neighbors, 10,000 x 128"]
    cases.append("score, 50,000 x 10")
    out = tmp_path / "metrics.json"
    command = [sys.executable, str(BENCHMARK), "--torch-python", torch_python, "--json", str(out)]
    subprocess.run([*command, "--rounds", "1", "--cases", *cases], check=True, timeout=1800)
    rows = json.loads(out.read_text())
    assert [row["case"] for row in rows] == cases
    assert {row["case"]: row["difference"] for row in rows if row["difference"] > 1e-6} == {}
    subprocess.run([*command, "--reference"], check=True, timeout=600)
    for title, values in json.loads(out.read_text()).items():
        assert values == pytest.approx(REFERENCE[title], rel=1e-6), title


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_torch_fidelity_agrees_on_an_exported_generator(torch_python, tmp_path):
    """It loads `model.onnx` itself, and has the samples, features and values of `evaluate`."""
    from keras_gan.metrics.evaluate import evaluate

    keras.utils.set_random_seed(3)
    spec = keras_gan.Spec("image", (28, 28, 1), (-1.0, 1.0))
    gan = keras_gan.GAN(*keras_gan.architectures.build("dcgan", spec))
    export.export_bundle(gan, tmp_path / "bundle")
    data = keras_gan.datasets.open("fashion-mnist-10k")
    real = data.to_uint8(data.rows("train", np.arange(2000))[0])
    np.save(tmp_path / "images.npy", real)
    network = pathlib.Path(metrics.__file__).parent / "networks" / "fashion_mnist.onnx"
    command = [torch_python, str(BENCHMARK.with_name("torch_fidelity_generator.py"))]
    command += ["--input1", str(tmp_path / "bundle" / "model.onnx"), "--input1-model-z-size"]
    command += [str(gan.latent_dim), "--input1-model-num-samples", "2000", "--input2", "npy"]
    command += ["--datasets-root", str(tmp_path), "--feature-extractor", "onnx"]
    command += ["--feature-extractor-weights-path", str(network)]
    command += ["--fid", "--kid", "--prc", "--isc", "--cpu", "--json", "--no-cache", "--silent"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(done.stdout)
    ours = evaluate(
        tmp_path / "bundle",
        real,
        features="fashion_mnist",
        count=2000,
        metrics=["frechet_distance", "kernel_distance", "precision_recall", "class_score"],
        cache=False,
    )
    names = {
        "frechet_distance": "frechet_inception_distance",
        "kernel_distance": "kernel_inception_distance_mean",
        "precision": "precision",
        "recall": "recall",
        "class_score": "inception_score_mean",
    }
    for name, their_name in names.items():
        assert ours[name] == pytest.approx(theirs[their_name], rel=1e-6), name
