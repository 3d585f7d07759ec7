"""Points from 8 Gaussians in a ring or 25 in a grid, a standard test for mode collapse."""

from __future__ import annotations

import math

import numpy as np

from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split, check_drawn
from keras_gan.errors import UsageError
from keras_gan.spec import Spec

SHAPE = (2,)  # of a sample


def open(
    *,
    modes: int = 8,
    count: int = 100_000,
    held_out_count: int = 10_000,
    data_seed: int = 0,
    labels: bool = False,
) -> Source:
    """Draws points from a mixture of equally likely Gaussians in the plane.

    Args:
        modes: 8 for a ring of radius 2, standard deviation 0.02; 25 for a 5x5 grid with
            spacing 2, standard deviation 0.05.
        count: number of points to train on.
        held_out_count: number of points held out, drawn from another random stream.
        data_seed: non-negative integer that fixes the points (not the order of training).
        labels: whether batches come with the number of the mode as class id.

    Raises:
        UsageError: a number of modes other than 8 and 25, or too few points.

    Reference:
        Srivastava et al., "VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational
        Learning", 2017; Lin et al., "PacGAN: The power of two samples in generative adversarial
        networks", 2018.
    """
    check_drawn(count, held_out_count, data_seed)
    streams = np.random.SeedSequence(data_seed).spawn(2)
    splits = {}
    for split, size, stream in zip(
        ("train", "held_out"), (count, held_out_count), streams, strict=True
    ):
        points, ids = _draw(modes, size, np.random.default_rng(stream))
        splits[split] = Split(points, ids if labels else None)
    shape = "in a ring" if modes == 8 else "in a grid"
    description = (
        f"gaussians: {count:,} + {held_out_count:,} points from {modes} Gaussians {shape}, "
        f"drawn with seed {data_seed}"
    )
    return Source(Spec("points", (2,), None, modes if labels else 0), splits, description)


def centers(modes: int) -> np.ndarray:
    """Returns the means of the Gaussians, float64, `(modes, 2)`; row `i` is that of class `i`."""
    if modes == 8:
        angles = 2 * np.pi * np.arange(8) / 8
        return 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    if modes == 25:
        line = np.arange(-4.0, 5.0, 2.0)
        return np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(25, 2)
    raise UsageError(f"`modes` must be 8 (ring) or 25 (grid). Received: modes={modes!r}")


def std(modes: int) -> float:
    """Returns the standard deviation of each Gaussian in each direction."""
    centers(modes)
    return {8: 0.02, 25: 0.05}[modes]


def score(points: np.ndarray, modes: int) -> dict[str, float | int]:
    """Counts the modes that generated points cover.

    A point is of high quality if it is within 3 standard deviations of its nearest mode. A mode
    is covered if at least one such point is nearest to it.

    Args:
        points: array of shape `(count, 2)`.
        modes: 8 or 25.

    Returns:
        `"modes"`, the number of modes covered; `"high_quality"`, the share of points of high
        quality; `"reverse_kl"`, the Kullback-Leibler divergence in nats of the modes of those
        points from the uniform distribution, at most log(modes), infinite without such a point.

    Reference:
        Lin et al., "PacGAN", 2018, section 4.1.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise UsageError(f"`points` must have the shape (count, 2). Received: shape={points.shape}")
    squared = np.stack([((points - c) ** 2).sum(axis=1) for c in centers(modes)], axis=1)
    nearest = squared.argmin(axis=1)
    # The comparison is false for NaN, so that such a point is near no mode.
    good = squared[np.arange(len(points)), nearest] <= (3 * std(modes)) ** 2
    counts = np.bincount(nearest[good], minlength=modes)
    shares = counts[counts > 0] / max(1, counts.sum())
    divergence = float((shares * np.log(shares * modes)).sum()) if len(shares) else math.inf
    return {
        "modes": int((counts > 0).sum()),
        "high_quality": float(good.mean()),
        "reverse_kl": divergence,
    }


def _draw(modes: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    ids = rng.integers(modes, size=size).astype(np.int32)
    noise = rng.normal(scale=std(modes), size=(size, 2))
    return (centers(modes)[ids] + noise).astype(np.float32), ids
