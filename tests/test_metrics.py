"""Balanced accuracy and diversity, by hand."""

import numpy as np
import pytest

from keras_gan import UsageError, metrics


def test_balanced_accuracy_of_separable_and_of_equal_logits():
    real, other = np.arange(10.0), np.arange(10.0) + 100
    assert metrics.balanced_accuracy(real, other) == 1
    assert metrics.balanced_accuracy(other, real) == 1  # negated logits separate as well
    assert metrics.balanced_accuracy(other, real, real_above=True) == 1
    assert metrics.balanced_accuracy(real, other, real_above=True) <= 0.5
    assert metrics.balanced_accuracy(np.ones(10), np.ones(20)) == 0.5
    # With unequal counts: 3 of 4 samples of each set are classified correctly.
    real = np.tile([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0], 5)
    other = np.tile([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0], 50)
    assert metrics.balanced_accuracy(real, other) == pytest.approx(0.75)


def test_balanced_accuracy_uses_the_best_threshold():
    """A wide and a narrow Gaussian of equal means are separated by their spread."""
    rng = np.random.default_rng(0)
    wide, narrow = rng.normal(0, 4, 20_000), rng.normal(0, 1, 20_000)
    # A threshold t adds (Phi(t) - Phi(t / 4)) / 2 to 0.5, at most 0.1454, at t = 1.72.
    expected = 0.5 + 0.1454
    assert metrics.balanced_accuracy(wide, narrow) == pytest.approx(expected, abs=0.01)


def test_balanced_accuracy_is_not_biased_by_the_choice_of_threshold():
    rng = np.random.default_rng(0)
    values = [metrics.balanced_accuracy(*rng.normal(size=(2, 200))) for _ in range(200)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.01)
    # `Equilibrium` assumes the standard error 1 / sqrt(8 n); the choice of threshold adds some.
    assert np.std(values) < 1.3 / np.sqrt(8 * 200)


def test_balanced_accuracy_needs_samples():
    with pytest.raises(UsageError, match=r"2 samples of each set\. Received: 1 real and 5 other"):
        metrics.balanced_accuracy(np.zeros(1), np.zeros(5))


def test_diversity_counts_places():
    """25 places at distance 2, much more than the width, a quarter of the mean distance."""
    line = np.arange(-4.0, 5.0, 2.0)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(25, 2)
    diversity = metrics.Diversity(np.repeat(grid, 4, axis=0))
    assert diversity(np.repeat(grid, 4, axis=0)) == 1
    assert diversity(np.repeat(grid[:1], 100, axis=0)) == 0
    # Two far corners: large distances, but 2 places of 25. Neighboring places are slightly
    # similar: exp(-(2 / width)^2), 80 neighboring pairs among the 625.
    corners = np.repeat(grid[[0, 24]], 50, axis=0)
    places = 625 / (25 + 80 * np.exp(-((2 / diversity.width) ** 2)))
    assert diversity(corners) == pytest.approx((2 - 1) / (places - 1), rel=0.03)
    # All 25 places at a tenth of the size: the distances are small.
    assert diversity(np.repeat(grid / 10, 4, axis=0)) < 0.11
    assert diversity(np.repeat(grid * 10, 4, axis=0)) == 1  # clipped to 1


def test_diversity_refuses_invalid_samples():
    with pytest.raises(UsageError, match="not all equal"):
        metrics.Diversity(np.ones((5, 3)))
    with pytest.raises(UsageError, match=r"needs 5 samples, as many as real ones\. Received: 4"):
        metrics.Diversity(np.arange(5.0)[:, None])(np.zeros((4, 1)))
