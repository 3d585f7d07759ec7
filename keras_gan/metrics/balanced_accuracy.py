"""Balanced accuracy of a discriminator at its best threshold."""

from __future__ import annotations

import numpy as np

from keras_gan.errors import UsageError


def balanced_accuracy(real: np.ndarray, other: np.ndarray, real_above: bool = False) -> float:
    """Returns the mean of the accuracies on two sets, classified by their logits.

    The threshold is the best one, not that of the loss. The logits of relativistic and Wasserstein
    losses have no origin; with any loss, logits that are only shifted or negated still separate
    the sets; and the middle between two means separates nothing if only the spreads differ. A
    discriminator cannot separate the sets only if no threshold does. The best threshold of a
    sample is biased on that sample, so each half of the samples is classified at the threshold of
    the other half.

    Args:
        real: logits of the real samples, `(count,)`, in random order, at least 2.
        other: logits of the other samples, likewise.
        real_above: classify samples as real only above the threshold. By default the better of
            above and below is used.

    Returns:
        The accuracy, from 0 to 1: about 0.5 if the logits do not separate the sets, 1 if they
        separate them completely.

    Raises:
        UsageError: fewer than 2 samples in a set, NaN or infinity.
    """
    real, other = np.asarray(real, np.float64).ravel(), np.asarray(other, np.float64).ravel()
    if min(len(real), len(other)) < 2:
        raise UsageError(
            "Balanced accuracy needs at least 2 samples of each set. "
            f"Received: {len(real)} real and {len(other)} other samples"
        )
    if not (np.isfinite(real).all() and np.isfinite(other).all()):
        raise UsageError("Logits must be finite numbers. Received: NaN or infinity")
    halves = [(real[::2], other[::2]), (real[1::2], other[1::2])]
    results = []
    for fitted, tested in (halves, halves[::-1]):
        threshold, sign = _best_rule(*fitted, real_above)
        right = (1 + np.sign(tested[0] - threshold)) / 2, (1 + np.sign(threshold - tested[1])) / 2
        accuracy = (right[0].mean() + right[1].mean()) / 2  # a tie counts 1/2
        results.append(accuracy if sign > 0 else 1 - accuracy)
    return float(np.mean(results))


def _best_rule(real: np.ndarray, other: np.ndarray, real_above: bool) -> tuple[float, int]:
    """Returns the threshold, and 1 if logits above it are classified as real, else -1."""
    values = np.unique(np.concatenate([real, other]))
    thresholds = (values[1:] + values[:-1]) / 2 if len(values) > 1 else values
    below = np.searchsorted(np.sort(real), thresholds) / len(real)
    others_below = np.searchsorted(np.sort(other), thresholds) / len(other)
    gain = others_below - below  # 2 (balanced accuracy - 1/2)
    best = int(np.argmax(gain if real_above else np.abs(gain)))
    return float(thresholds[best]), 1 if real_above or gain[best] >= 0 else -1
