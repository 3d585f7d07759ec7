"""Seed to latent vector, in numpy; `keras_gan/latents.py` is the same in TensorFlow.

Defined in `docs/seeds.md`: the generator of random numbers is part of the bundle format.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from serving.errors import UsageError

_PARITY = np.uint32(0x1BD11BDA)  # Threefish's key schedule constant, cut to 32 bits
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
# As arrays of no axes, which ufuncs take faster than scalars.
_SHIFTS = tuple(
    tuple((np.array(n, np.uint32), np.array(32 - n, np.uint32)) for n in turn)
    for turn in _ROTATIONS
)


def check_seeds(seeds: Any) -> np.ndarray:
    """Turns what a user gave as seeds into an int64 array of shape `(batch,)`.

    Args:
        seeds: one integer or a sequence of integers, each `0 <= seed < 2**63`.

    Raises:
        UsageError: a seed that is not an integer or out of range, or an array of another rank.
    """
    try:
        values = np.atleast_1d(np.asarray(list(seeds) if isinstance(seeds, range) else seeds))
    except (ValueError, OverflowError):
        values = np.empty((0, 0))
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        raise UsageError(f"seeds must be a sequence of integers. Received: seeds={seeds!r:.80}")
    if values.size and (int(values.min()) < 0 or int(values.max()) >= 2**63):
        raise UsageError(
            f"A seed must be at least 0 and below 2**63. Received: seeds={seeds!r:.80}"
        )
    return values.astype(np.int64)


def latents_from_seeds(seeds: Any, latent_dim: int) -> np.ndarray:
    """Draws the standard normal latent vector that each seed names.

    Args:
        seeds: integers, shape `(batch,)`, each `0 <= seed < 2**63`.
        latent_dim: length of a latent vector.

    Returns:
        float32 array of shape `(batch, latent_dim)`.

    Raises:
        UsageError: a seed that is not an integer or out of range.
    """
    words = check_seeds(seeds).astype(np.uint64)[:, np.newaxis]
    key = (words.astype(np.uint32), (words >> np.uint64(32)).astype(np.uint32))
    pairs = np.arange((latent_dim + 1) // 2, dtype=np.uint32)[np.newaxis, :]
    first, second = threefry_2x32(key, (pairs, np.zeros_like(pairs)))

    radius = np.sqrt(-2.0 * np.log(_uniform(first)))
    angle = 2.0 * math.pi * _uniform(second)
    normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    flat = normal.reshape(len(words), pairs.size * 2)
    return flat[:, :latent_dim].astype(np.float32)


def labels_from_seeds(seeds: Any, num_classes: int) -> np.ndarray:
    """Gives each seed a class, for when the user names none: the seed modulo `num_classes`.

    Args:
        seeds: integers, shape `(batch,)`.
        num_classes: number of classes, at least 1.

    Returns:
        int64 array of shape `(batch,)`.
    """
    return check_seeds(seeds) % np.int64(num_classes)


def threefry_2x32(
    key: tuple[np.ndarray, np.ndarray], counter: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Threefry-2x32 with 20 rounds, on uint32 arrays.

    Reference:
        Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    low = np.empty_like(y)
    # In place: of a single seed, making 200 small arrays takes longer than the arithmetic.
    for step in range(1, 6):
        for left, right in _SHIFTS[(step - 1) % 2]:
            np.add(x, y, x)
            np.right_shift(y, right, low)
            np.left_shift(y, left, y)
            np.bitwise_or(y, low, y)
            np.bitwise_xor(y, x, y)
        np.add(x, keys[step % 3], x)
        np.add(y, keys[(step + 1) % 3] + np.uint32(step), y)
    return x, y


def _uniform(words: np.ndarray) -> np.ndarray:
    """Maps a word to the middle of its interval, so that neither 0 nor 1 can come out."""
    return (words.astype(np.float64) + 0.5) / 4294967296.0
