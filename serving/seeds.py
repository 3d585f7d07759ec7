"""Latent vectors from seeds, in numpy; `keras_gan/latents.py` is the same in TensorFlow.

Defined in `docs/seeds.md`: the random number generator is part of the bundle format.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.errors import UsageError

_PARITY = np.uint32(0x1BD11BDA)  # Threefish's key schedule constant, truncated to 32 bits
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
# As 0-d arrays, which ufuncs accept faster than scalars.
_SHIFTS = tuple(
    tuple((np.array(n, np.uint32), np.array(32 - n, np.uint32)) for n in rotations)
    for rotations in _ROTATIONS
)
_FEW = 192  # pairs of words up to which a long integer is faster than arrays


def check_seeds(seeds: Any) -> np.ndarray:
    """Converts seeds given by a user to an int64 array of shape `(batch,)`.

    Args:
        seeds: one integer or a sequence of integers, each `0 <= seed < 2**63`.

    Raises:
        UsageError: a seed that is not an integer or is out of range, or an array of rank 2 or more.
    """
    try:
        given = list(seeds) if isinstance(seeds, range) else seeds
        values = np.asarray(given)
        values = values if values.ndim else values.reshape(1)
        if values.ndim == 1 and values.dtype.kind in "Of":  # such as integers that fit no dtype
            exact = np.atleast_1d(np.asarray(given, dtype=object)).tolist()
            whole = all(isinstance(seed, int | np.integer) for seed in exact)
            if exact and whole and not any(isinstance(seed, bool) for seed in exact):
                values = np.array([int(seed) if 0 <= seed < 2**63 else -1 for seed in exact])
    except (ValueError, OverflowError):
        values = np.empty((0, 0))
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        raise UsageError(f"`seeds` must be a sequence of integers. Received: seeds={_repr(seeds)}")
    # Signed integers cannot exceed the largest seed, and unsigned ones cannot be below 0.
    is_signed = values.dtype.kind == "i"
    if values.size and not (values.min() >= 0 if is_signed else int(values.max()) < 2**63):
        raise UsageError(
            f"A seed must be at least 0 and below 2**63. Received: seeds={_repr(seeds)}"
        )
    return values.astype(np.int64)


def _repr(seeds: Any) -> str:
    try:
        return f"{seeds!r:.80}"
    except ValueError:  # Python does not print integers of more than 4,300 digits
        return "an integer of thousands of digits"


def latents_from_seeds(seeds: Any, latent_dim: int) -> np.ndarray:
    """Draws the standard normal latent vector that each seed names.

    Args:
        seeds: integers, shape `(batch,)`, each `0 <= seed < 2**63`.
        latent_dim: length of a latent vector.

    Returns:
        float32 array of shape `(batch, latent_dim)`.

    Raises:
        UsageError: a seed that is not an integer or is out of range.
    """
    return normals(check_seeds(seeds), latent_dim, 0)


def normals(seeds: np.ndarray, size: int, stream: int, start: int = 0) -> np.ndarray:
    """Returns standard normal numbers of one stream, float32 `(batch, size)`.

    Args:
        seeds: checked seeds, int64 `(batch,)`.
        size: numbers for each seed.
        stream: number of the stream; two streams of a seed share no numbers.
        start: position of the first number in the stream, from 0.
    """
    # Two normal numbers come from each pair of words.
    pair, skipped = divmod(start, 2)
    # A word becomes the middle of its interval, so that no result is 0 or 1.
    words = _words(seeds, (skipped + size + 1) // 2, stream, pair)
    first, second = (words + 0.5) * 2.0**-32
    radius = np.sqrt(-2.0 * np.log(first))
    angle = 2.0 * math.pi * second
    normal = np.empty((len(first), 2 * first.shape[1]))
    np.multiply(radius, np.cos(angle), normal[:, ::2])
    np.multiply(radius, np.sin(angle), normal[:, 1::2])
    return normal[:, skipped : skipped + size].astype(np.float32, order="C")


def uniforms(seeds: np.ndarray, size: int, stream: int) -> np.ndarray:
    """Returns numbers of one stream that are uniform in [0, 1), float32 `(batch, size)`.

    Args:
        seeds: checked seeds, int64 `(batch,)`.
        size: numbers for each seed.
        stream: number of the stream.
    """
    words = np.moveaxis(_words(seeds, (size + 1) // 2, stream), 0, -1)
    # 24 bits: a float32 holds no more of them, and a rounded 32-bit word could become 1.
    drawn = (words.astype(np.uint64) >> np.uint64(8)).astype(np.float32) / np.float32(2**24)
    return np.ascontiguousarray(drawn.reshape(len(seeds), 2 * words.shape[1])[:, :size])


def classes_from_seeds(
    seeds: np.ndarray,
    num_classes: int,
    frequencies: Sequence[float] | None = None,
    stream: int = 0,
) -> np.ndarray:
    """Returns the default class of each seed, int64 `(batch,)`.

    Args:
        seeds: checked seeds, int64 `(batch,)`.
        num_classes: number of classes, at least 1.
        frequencies: how often each class occurs, at least 0 and not all 0; by default the class is
            the seed modulo `num_classes`.
        stream: number of the stream that draws by frequency.
    """
    if frequencies is None:
        return seeds % np.int64(num_classes)
    bounds = np.cumsum(np.asarray(frequencies, np.float64))
    drawn = uniforms(seeds, 1, stream)[:, 0].astype(np.float64) * bounds[-1]
    return np.searchsorted(bounds, drawn, side="right").clip(0, num_classes - 1).astype(np.int64)


def _words(seeds: np.ndarray, pairs: int, stream: int, first: int = 0) -> np.ndarray:
    """Encrypts `pairs` counters, from `(first, stream)` on, under each seed.

    Returns:
        The words, unsigned integers below 2**32 of shape `(2, batch, pairs)`.
    """
    words = seeds.astype(np.uint64)
    if len(words) * pairs <= _FEW and not stream and not first:
        return _threefry_of_few(words, pairs)
    column = words[:, np.newaxis]
    key = (column.astype(np.uint32), (column >> np.uint64(32)).astype(np.uint32))
    counter = np.arange(first, first + pairs, dtype=np.uint32)[np.newaxis, :]
    return np.stack(threefry_2x32(key, (counter, np.full_like(counter, stream))))


def labels_from_seeds(seeds: Any, num_classes: int) -> np.ndarray:
    """Returns the default class of each seed: the seed modulo `num_classes`.

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
    """Applies Threefry-2x32 with 20 rounds, on uint32 arrays.

    Args:
        key: the two words of the key.
        counter: the two words of the counter; key and counter are broadcast.

    Returns:
        The two words of the result.

    Reference:
        Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    low = np.empty_like(y)
    # In place: for a single seed, allocating 200 small arrays takes longer than the arithmetic.
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


def _threefry_of_few(words: np.ndarray, pairs: int) -> np.ndarray:
    """Returns the same words for seeds and the counters `(0, 0)` to `(pairs - 1, 0)`, as uint64.

    One long integer holds a word in every 64 bits, so one Python operation processes all of them,
    without the overhead of a ufunc call, which dominates for few words.
    """
    count = len(words) * pairs
    ones, counter, mask, parity = _lanes(len(words), pairs)
    if len(words) == 1:
        seed = int(words[0])
        first, second = (seed & 0xFFFFFFFF) * ones, (seed >> 32) * ones
    else:
        key = np.repeat(words, pairs)
        first, second = _integer(key & np.uint64(0xFFFFFFFF)), _integer(key >> np.uint64(32))
    keys = (first, second, first ^ second ^ parity)
    # x is not masked in between: its sums fit into the 64 bits of each word.
    x, y = counter + keys[0], keys[1]
    for step in range(1, 6):
        for rotation in _ROTATIONS[(step - 1) % 2]:
            x += y
            rotated = y << rotation
            y = ((rotated | rotated >> 32) ^ x) & mask
        x += keys[step % 3]
        y = (y + keys[(step + 1) % 3] + step * ones) & mask
    both = (x & mask).to_bytes(8 * count, sys.byteorder) + y.to_bytes(8 * count, sys.byteorder)
    return np.frombuffer(both, np.uint64).reshape(2, len(words), pairs)


@functools.lru_cache(64)
def _lanes(count: int, pairs: int) -> tuple[int, int, int, int]:
    """Returns in each 64-bit word a 1, the counter, the mask of 32 bits, and the parity."""
    counter = np.tile(np.arange(pairs, dtype=np.uint64), count)
    ones = _integer(np.ones(count * pairs, np.uint64))
    return ones, _integer(counter), ones * 0xFFFFFFFF, ones * int(_PARITY)


def _integer(words: np.ndarray) -> int:
    return int.from_bytes(words.tobytes(), sys.byteorder)
