"""Crops of photographs of Debian's wallpapers, 128x128, and the same reduced to 32x32."""

from __future__ import annotations

import os

import numpy as np

from keras_gan.datasets import degradations, pair_files, photos
from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split


def open(
    *,
    crop: int | None = 64,
    flip: bool = True,
    rotate: bool = True,
    held_out: float = 0.2,
    root: str | os.PathLike[str] = photos.ROOT,
    cache: str | os.PathLike[str] | None = None,
) -> Source:
    """Opens the crops of `photos` with low-resolution versions, for super-resolution by 4.

    The low resolution is that of Pillow's antialiased bicubic filter.

    Args:
        crop: height and width in pixels of random crops, a multiple of 4; `None` to train on whole
            pictures.
        flip: whether half of the crops are flipped left to right.
        rotate: whether crops are rotated by 0, 90, 180 or 270 degrees.
        held_out: share of the pictures to hold out: all of a photograph, or none.
        root: folder of the packages' files, see `keras_gan.datasets.photos`.
        cache: the cache folder; by default the user's.

    Raises:
        UsageError: a package is not installed, or an option out of range.
    """
    source = photos.open(held_out=held_out, root=root, cache=cache)
    reduction = degradations.make(4, "bicubic")
    rng = np.random.default_rng(0)  # nothing is drawn from it: the filter has no strength
    splits = {}
    for name in source.split_names:
        samples, _ = source.arrays(name)
        condition = np.stack([reduction.apply(sample, rng) for sample in samples])
        splits[name] = Split(samples, disjoint=True, others={"condition": condition})
    line = source.description.replace("photos: ", "photos-x4: ", 1)
    change = pair_files.Change(crop, flip, rotate)
    return pair_files.make_source(splits, [line, f"low resolution {reduction}"], change)
