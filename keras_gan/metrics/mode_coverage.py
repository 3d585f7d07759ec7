"""Mode coverage: number of generated modes, and divergence of their shares."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import rel_entr

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric


class ModeCoverage(Metric):
    """Mode coverage over the classes of an extractor.

    The real shares are those of the real samples' predicted classes, with one sample added to
    each, so that none is 0. An extractor with classes that are equally likely by definition
    brings its own.
    """

    title = "Mode coverage"
    needs = ("classes",)
    outputs = ("modes", "reverse_kl")
    order = 90

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        classes, (real, generated) = inputs.extractor.classes, inputs.predictions
        shares = np.bincount(real, minlength=classes) + 1
        found = mode_coverage(generated, classes if inputs.extractor.uniform else shares)
        return {"modes": float(found.modes), "reverse_kl": found.reverse_kl}


class ModeCoverageResult(NamedTuple):
    """Number of modes that were generated at all, and the reverse KL of their shares."""

    modes: int
    reverse_kl: float


def mode_coverage(modes: np.ndarray, real_shares: int | np.ndarray) -> ModeCoverageResult:
    """Returns the number of generated modes and `KL(generated shares || real shares)`.

    The protocol of Stacked-MNIST (three digits in the color channels, recognized by a classifier,
    make 1,000 modes; 26,000 samples), for any data whose modes can be recognized. It measures
    nothing within a mode.

    Args:
        modes: the mode of each generated sample, ints from 0, `(count,)`, at least 1.
        real_shares: the number of modes if all are equally likely, or each mode's share or count
            in the real data, `(num_modes,)`.

    Returns:
        `modes`, the number generated at least once, higher is better; and `reverse_kl` in nats,
        from 0 (equal shares) up, lower is better. It is `log(num_modes)` if only one of equally
        likely modes is generated, and infinite if a mode is generated that the real data lack. An
        ideal generator's is about `(num_modes - 1) / (2 * count)`.

    Raises:
        UsageError: no samples, modes that are not ints or out of range, shares that are negative
            or all 0.

    Reference:
        - [Srivastava et al., 2017](https://arxiv.org/abs/1705.07761): VEEGAN
        - [Lin et al., 2018](https://arxiv.org/abs/1712.04086): PacGAN, the same protocol
    """
    ids = np.asarray(modes)
    shares = np.asarray(real_shares, np.float64)
    if shares.ndim == 0:
        shares = np.ones(max(0, int(shares)))
    if shares.ndim != 1 or not np.isfinite(shares).all() or shares.min(initial=0) < 0:
        raise UsageError(
            "real_shares must be the number of modes, or one number from 0 for each. "
            f"Received: real_shares={_short(real_shares)}"
        )
    if not shares.sum() > 0:
        raise UsageError(
            "real_shares must have at least 1 mode with a share. "
            f"Received: real_shares={_short(real_shares)}"
        )
    if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu":
        raise UsageError(
            "modes must be the ints of at least 1 sample, (count,). "
            f"Received: modes of shape {ids.shape}, type {ids.dtype}"
        )
    if ids.min() < 0 or ids.max() >= len(shares):
        raise UsageError(
            f"modes must be modes 0 to {len(shares) - 1}. Received: {ids.min()} to {ids.max()}"
        )
    counts = np.bincount(ids, minlength=len(shares))
    divergence = rel_entr(counts / len(ids), shares / shares.sum()).sum()
    return ModeCoverageResult(int(np.count_nonzero(counts)), float(divergence))


def _short(value: object) -> str:
    return " ".join(str(value).split())[:60]
