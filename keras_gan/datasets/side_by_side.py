"""Files that hold two pictures side by side, found by the likeness of their halves."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_gan.datasets import images

_LOOKED_AT = 16  # files
_SIDE = 32  # pixels of the halves that are compared
_LEAST = 4  # files, of which halves of one can be compared with those of others
_CORRELATION = 0.2  # of the edges of both halves of a file, on average
_MORE = 0.1  # by which that exceeds the correlation of halves of different files


def describe(root: Path, found: Sequence[tuple[Path, images.Header]]) -> str:
    """Returns one sentence about a folder of files that seem to hold pairs.

    All must be twice as wide as high, and the edges of both halves must be at the same places more
    often than those of halves of different files.

    Args:
        root: the folder.
        found: its files with their headers.

    Returns:
        The sentence; empty if they do not seem to.
    """
    if len(found) < _LEAST or any(h.width != 2 * h.height for _, h in found):
        return ""
    if not are_alike([file for file, _ in found]):
        return ""
    return (
        "Files that are twice as wide as high, with halves that resemble each other, are read as "
        "single pictures. If they are pairs side by side, use `keras-gan train pix2pix --data "
        f"{root}`. Received: {len(found):,} files, such as {found[0][0].name}"
    )


def are_alike(files: Sequence[Path]) -> bool:
    """Returns whether the halves of a file resemble each other more than those of others."""
    left, right = [], []
    size = (_SIDE, _SIDE)
    for at in np.unique(np.linspace(0, len(files) - 1, min(_LOOKED_AT, len(files))).astype(int)):
        with contextlib.suppress(images.CorruptImage):  # refused or skipped when it is decoded
            halves = [images.decode(files[at], size, 1, False, half=half)[0] for half in (1, 2)]
            left.append(_edges(halves[0]))
            right.append(_edges(halves[1]))
    if len(left) < _LEAST:
        return False
    correlations = np.stack(left) @ np.stack(right).T
    own = np.eye(len(left), dtype=bool)
    matching, others = correlations[own].mean(), correlations[~own].mean()
    return bool(matching > _CORRELATION and matching > others + _MORE)


def _edges(picture: np.ndarray) -> np.ndarray:
    """Returns the standardized magnitudes of a gray picture's gradients, as a vector of norm 1."""
    down, across = np.gradient(picture[..., 0].astype(np.float64))
    edges = np.hypot(down, across).ravel()
    edges -= edges.mean()
    norm = np.linalg.norm(edges)
    return edges / norm if norm else edges
