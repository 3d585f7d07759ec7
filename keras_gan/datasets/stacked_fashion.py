"""Stacks of three garments as color channels, 1,000 modes: a test for mode collapse in images."""

from __future__ import annotations

import os

import numpy as np

from keras_gan.datasets import fashion_mnist
from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split, check_drawn
from keras_gan.spec import Spec

SHAPE = (28, 28, 3)  # of a sample


def open(
    *,
    count: int = 128_000,
    held_out_count: int = 10_000,
    data_seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    labels: bool = False,
) -> Source:
    """Stacks three images of Fashion-MNIST, drawn at random with replacement.

    The protocol of Stacked-MNIST, on Fashion-MNIST: 28x28x3, and every triple of classes is a
    mode. Held-out stacks are made of test images.

    Args:
        count: number of stacks to train on. PacGAN's 128,000 need 300 MB.
        held_out_count: number of stacks held out.
        data_seed: non-negative integer that fixes the stacks (not the order of training).
        folder: where Fashion-MNIST is, see `keras_gan.datasets.fashion_mnist`.
        data_dir: see there.
        download: see there.
        labels: whether batches come with the mode, from 0 to 999: 100 times the class of the
            first channel, plus 10 times that of the second, plus that of the third.

    Raises:
        UsageError: Fashion-MNIST cannot be found, or a count or seed out of range.

    Reference:
        - [Lin et al., 2017](https://arxiv.org/abs/1712.04086), section 4.1, and, before, Metz et
          al., 2016, for the test on MNIST
    """
    check_drawn(count, held_out_count, data_seed)
    garments = fashion_mnist.open(folder=folder, data_dir=data_dir, download=download)
    streams = np.random.SeedSequence(data_seed).spawn(2)
    splits = {}
    for split, size, stream in zip(
        ("train", "held_out"), (count, held_out_count), streams, strict=True
    ):
        images, classes = garments.arrays(split)
        drawn = np.random.default_rng(stream).integers(len(images), size=(size, 3))
        stacks = np.stack([images[drawn[:, channel], ..., 0] for channel in range(3)], axis=-1)
        modes = mode_of(np.asarray(classes)[drawn]) if labels else None
        splits[split] = Split(stacks, modes)
    spec = Spec("image", (28, 28, 3), (-1.0, 1.0), 1000 if labels else 0)
    description = (
        f"stacked-fashion: {count:,} + {held_out_count:,} stacks of three images "
        f"of {garments.description}, data_seed={data_seed}"
    )
    return Source(spec, splits, description)


def mode_of(classes: np.ndarray) -> np.ndarray:
    """Returns the mode of each stack, 0 to 999, from the classes of its channels, `(count, 3)`."""
    return (np.asarray(classes) @ np.array([100, 10, 1])).astype(np.int32)
