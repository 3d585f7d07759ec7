"""Edges of Fashion-MNIST's clothes and the clothes, 60,000 + 10,000 pairs: 32x32, gray."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_gan.datasets import fashion_mnist, pair_files
from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split

SHAPE = (32, 32, 1)  # of a sample

_THRESHOLD = 200.0  # of the magnitude of the Sobel filter with weights 1, 2, 1
_MARGIN = 2  # black pixels around a picture of 28x28
_CHUNK = 5_000  # pictures filtered at a time


def folder_source(section: Mapping[str, Any]) -> str:
    """Returns the data set that reads a folder in place of this one, see `datasets.with_folder`."""
    return "pairs"


def open(
    *,
    folder: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    flip: bool = False,
) -> Source:
    """Opens Fashion-MNIST as pairs: edges as the condition, the picture as the sample.

    Pictures are padded with black from 28x28 to 32x32. Edges are the pixels where the magnitude of
    the Sobel filter exceeds 200.

    Args:
        folder: see `keras_gan.datasets.fashion_mnist`.
        data_dir: see there.
        download: see there.
        flip: whether half of the training pairs are flipped left to right.

    Raises:
        UsageError: Fashion-MNIST is not on this machine, or a file is damaged.
    """
    source = fashion_mnist.open(folder=folder, data_dir=data_dir, download=download, labels=False)
    splits = {}
    for name in source.split_names:
        clothes, _ = source.arrays(name)
        samples = _padded(clothes)
        splits[name] = Split(samples, disjoint=True, others={"condition": edges(samples)})
    line = source.description.replace("fashion-mnist: ", "edges2fashion: edges of ", 1)
    return pair_files.make_source(splits, [line], pair_files.Change(None, flip, False))


def edges(pictures: np.ndarray) -> np.ndarray:
    """Returns the edges of gray pictures, white on black.

    Args:
        pictures: uint8, `(count, height, width, 1)`.

    Returns:
        uint8, 0 or 255, of the same shape. Pixels at the border are no edges.
    """
    found = np.zeros(pictures.shape, np.uint8)
    for first in range(0, len(pictures), _CHUNK):
        gray = pictures[first : first + _CHUNK, ..., 0].astype(np.float32)
        down, across = gray[:, 2:] - gray[:, :-2], gray[:, :, 2:] - gray[:, :, :-2]
        down = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
        across = across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]
        inside = np.hypot(down, across) > _THRESHOLD
        found[first : first + _CHUNK, 1:-1, 1:-1, 0] = np.where(inside, 255, 0)
    return found


def _padded(pictures: np.ndarray) -> np.ndarray:
    margin = (_MARGIN, _MARGIN)
    return np.pad(pictures, ((0, 0), margin, margin, (0, 0)))
