"""Balanced accuracy of a discriminator, at the threshold that serves it best."""

from __future__ import annotations

import numpy as np

from keras_gan.errors import UsageError


def balanced_accuracy(real: np.ndarray, other: np.ndarray, real_above: bool = False) -> float:
    """How well logits tell two sets apart: mean of the shares told rightly on either side.

    The threshold is the best there is, not the loss's own: the logits of relativistic losses and
    of Wasserstein's have no origin, and with any loss a discriminator whose logits are merely
    shifted or turned around still tells, or the middle between two means may tell nothing where
    the spreads differ. Only when no threshold helps can it not tell. The best threshold on a
    sample flatters itself, so each half of the samples is judged at the other half's.

    Args:
        real: logits of the real samples, `(count,)`, in random order, at least 2.
        other: logits of the others.
        real_above: only take a sample for real above the threshold; by default below it is
            allowed as well, whichever serves better.

    Returns:
        From 0 to 1; about 0.5 where the logits tell nothing, 1 where they tell everything.

    Raises:
        UsageError: fewer than 2 samples on a side, NaN or infinity.
    """
    real, other = np.asarray(real, np.float64).ravel(), np.asarray(other, np.float64).ravel()
    if min(len(real), len(other)) < 2:
        raise UsageError(
            "Balanced accuracy needs at least 2 samples of each side. "
            f"Received: {len(real)} and {len(other)}"
        )
    if not (np.isfinite(real).all() and np.isfinite(other).all()):
        raise UsageError("Logits must be finite numbers. Received: NaN or infinity")
    halves = [(real[::2], other[::2]), (real[1::2], other[1::2])]
    results = []
    for chosen, judged in (halves, halves[::-1]):
        threshold, sign = _best_rule(*chosen, real_above)
        told = (1 + np.sign(judged[0] - threshold)) / 2, (1 + np.sign(threshold - judged[1])) / 2
        accuracy = (told[0].mean() + told[1].mean()) / 2  # a tie counts half
        results.append(accuracy if sign > 0 else 1 - accuracy)
    return float(np.mean(results))


def _best_rule(real: np.ndarray, other: np.ndarray, real_above: bool) -> tuple[float, int]:
    """The threshold, and 1 to take what is above it for real or -1 for what is below."""
    values = np.unique(np.concatenate([real, other]))
    thresholds = (values[1:] + values[:-1]) / 2 if len(values) > 1 else values
    below = np.searchsorted(np.sort(real), thresholds) / len(real)
    others_below = np.searchsorted(np.sort(other), thresholds) / len(other)
    gain = others_below - below  # twice the balanced accuracy above one half
    best = int(np.argmax(gain if real_above else np.abs(gain)))
    return float(thresholds[best]), 1 if real_above or gain[best] >= 0 else -1
