"""Crops of photographs of Debian's wallpapers, 128x128, and the same reduced to 32x32."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from keras_gan.datasets import degradations, pair_files, photos
from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split

_LEAST_ERROR = 255**2 / 10**3.8  # mean square error of a bicubic resize at 38 dB


def folder_source(section: Mapping[str, Any]) -> str:
    """Returns the data set that reads a folder in place of this one, see `datasets.with_folder`."""
    return "degraded"


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

    The low resolution is that of Pillow's antialiased bicubic filter. Crops that are out of focus,
    which a bicubic resize restores to 38 dB or more, are left out: there is nothing to learn.

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
        sharp = [_is_sharp(*pair) for pair in zip(samples, condition, strict=True)]
        samples, condition = samples[sharp], condition[sharp]
        splits[name] = Split(samples, disjoint=True, others={"condition": condition})
    counts = " + ".join(f"{len(part):,}" for part in splits.values())
    lines = [
        f"photos-x4: {counts} sharp crops of {source.description.removeprefix('photos: ')}",
        f"low resolution {reduction}",
    ]
    return pair_files.make_source(splits, lines, pair_files.Change(crop, flip, rotate))


def _is_sharp(sample: np.ndarray, condition: np.ndarray) -> bool:
    """Returns whether a bicubic resize of the low resolution misses some detail."""
    size = sample.shape[1], sample.shape[0]
    resized = Image.fromarray(condition).resize(size, Image.Resampling.BICUBIC)
    return bool(np.square(np.asarray(resized, float) - sample).mean() > _LEAST_ERROR)
