"""Diversity of samples, which falls when a generator loses modes."""

from __future__ import annotations

import numpy as np

from keras_gan.errors import UsageError


class Diversity:
    """Diversity of sets of samples, relative to the diversity of the data.

    The smaller of two ratios. The mean distance between samples falls when all of them crowd into
    one region. The effective number of samples falls when they gather at few places, however far
    apart: n samples at k places count as k. It is the inverse of the mean similarity
    `exp(-(d / width)^2)`, with a quarter of the data's mean distance as the width.

    It applies to the values themselves, pixels or points, and to features.

    Args:
        real: real samples, `(count, ...)`, at least 2, not all equal.

    Raises:
        UsageError: fewer than 2 samples, or all equal.

    Reference:
        - [Friedman and Dieng, 2022](https://arxiv.org/abs/2210.02410): the effective number is
          the Vendi score of order 2.
    """

    def __init__(self, real: np.ndarray):
        self.count = len(real)
        squared = _squared_distances(real) if self.count > 1 else np.zeros(1)
        distance = float(np.sqrt(squared).sum()) / max(1, self.count * (self.count - 1))
        if not distance > 0:
            raise UsageError(
                "Diversity needs at least 2 real samples that are not all equal. "
                f"Received: {self.count} samples at a mean distance of {distance:.6g}"
            )
        self.width = distance / 4
        self._own = self._measures(squared)

    def __call__(self, samples: np.ndarray) -> float:
        """Returns the ratio, from 0 (all samples equal) to 1 (at least as diverse as the data).

        Args:
            samples: as many as the real samples, because the effective number grows with it.

        Raises:
            UsageError: another number of samples.
        """
        if len(samples) != self.count:
            raise UsageError(
                f"Diversity needs {self.count} samples, as many as real ones. "
                f"Received: {len(samples)} samples"
            )
        distance, number = self._measures(_squared_distances(samples))
        # At one place the effective number is 1 and the diversity 0.
        shares = distance / self._own[0], (number - 1) / (self._own[1] - 1)
        return float(np.clip(min(shares), 0.0, 1.0))

    def _measures(self, squared: np.ndarray) -> tuple[float, float]:
        pairs = self.count * (self.count - 1)
        distance = float(np.sqrt(squared).sum()) / pairs
        return distance, 1.0 / float(np.exp(-squared / self.width**2).mean())


def _squared_distances(samples: np.ndarray) -> np.ndarray:
    """Returns the squared Euclidean distance of each pair, `(count, count)`."""
    flat = np.asarray(samples, np.float64).reshape(len(samples), -1)
    flat = flat - flat.mean(axis=0)  # loses fewer digits to cancellation
    norms = np.square(flat).sum(axis=1)
    squared = norms[:, None] + norms[None, :] - 2 * flat @ flat.T
    np.fill_diagonal(squared, 0.0)
    return np.maximum(squared, 0.0)
