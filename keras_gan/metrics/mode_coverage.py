"""Mode coverage: how many modes come up, and how unevenly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import rel_entr

from keras_gan.errors import UsageError


class ModeCoverage(NamedTuple):
    """Number of modes that were generated at all, and the reverse KL of their shares."""

    modes: int
    reverse_kl: float


def mode_coverage(modes: np.ndarray, real_shares: int | np.ndarray) -> ModeCoverage:
    """Modes among the samples, and `KL(generated shares || real shares)`.

    The protocol of Stacked-MNIST (three digits in the color channels, told by a classifier, make
    1,000 modes; 26,000 samples), for any data whose modes can be told. It sees nothing within a
    mode.

    Args:
        modes: the mode of each generated sample, ints from 0, `(count,)`, at least 1.
        real_shares: the number of modes where all are equally likely, or each mode's share or
            count in the real data, `(num_modes,)`.

    Returns:
        `modes`, how many came up at least once, higher is better, and `reverse_kl` in nats, from 0
        (equal shares) up, lower is better: `log(num_modes)` when only one of equally likely
        modes comes up, infinite when one does that the real data never shows. An ideal
        generator's is about `(num_modes - 1) / (2 * count)`.

    Raises:
        UsageError: no samples, modes that are no ints or outside of the range, shares that are
            negative or all 0.

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
            "Real shares are the number of modes, or one number from 0 for each. "
            f"Received: real_shares={_short(real_shares)}"
        )
    if not shares.sum() > 0:
        raise UsageError(
            f"There is at least 1 mode with a share. Received: real_shares={_short(real_shares)}"
        )
    if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu":
        raise UsageError(
            "Modes are the ints of at least 1 sample, (count,). "
            f"Received: shape {ids.shape}, type {ids.dtype}"
        )
    if ids.min() < 0 or ids.max() >= len(shares):
        raise UsageError(
            f"There are modes 0 to {len(shares) - 1}. Received: {ids.min()} to {ids.max()}"
        )
    counts = np.bincount(ids, minlength=len(shares))
    divergence = rel_entr(counts / len(ids), shares / shares.sum()).sum()
    return ModeCoverage(int(np.count_nonzero(counts)), float(divergence))


def _short(value: object) -> str:
    return " ".join(str(value).split())[:60]
