"""Groups of images that look alike, found by a perceptual hash."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

_GRID = 16  # differences along each axis of the thumbnail
_BITS = 2 * _GRID * _GRID
_LARGEST_DISTANCE = 24  # bits of 512 that differ in images that look alike
_LEAST_STEP = 0.5  # gray level; smaller differences, as of a plain background, count as none
_CHUNK = 1024  # images hashed together
_ORDERS = 32  # random orders of the bits
_KEY_BITS = 64
_NEIGHBORS = 8  # images compared with each one in an order


def groups(images: np.ndarray) -> np.ndarray:
    """Returns the number of the group of each image, from 0, `(count,)`.

    Images whose hashes differ in at most 24 of 512 bits are in one group, and so are those that
    are linked by others. The hash is the difference hash of both axes: the signs of the
    differences between neighbors in a gray thumbnail, which hardly change with brightness,
    contrast, size and compression. To find near hashes without comparing all pairs, the images
    are sorted by 64 bits of the hash in a random order, and each is compared with the next 8; this
    is repeated for 32 orders, which are the same in every call. Images with hardly any differences
    are groups of their own.

    Args:
        images: `(count, height, width, channels)`; also a memory map.
    """
    hashes = difference_hash(images)
    # Plain pictures differ by their color alone, of which the hash knows nothing.
    has_shapes = np.bitwise_count(hashes).sum(axis=1) > _LARGEST_DISTANCE
    rng = np.random.default_rng(0)
    pairs = [np.empty((0, 2), np.int64)]
    for _ in range(_ORDERS):
        order = _sorted_by(hashes, rng.permutation(_BITS)[:_KEY_BITS])
        for step in range(1, min(_NEIGHBORS, len(order) - 1) + 1):
            first, second = order[:-step], order[step:]
            distance = np.bitwise_count(hashes[first] ^ hashes[second]).sum(axis=1)
            near = (distance <= _LARGEST_DISTANCE) & has_shapes[first] & has_shapes[second]
            pairs.append(np.stack([first[near], second[near]], axis=1))
    first, second = np.concatenate(pairs).T
    linked = sparse.coo_array((np.ones(len(first), bool), (first, second)), (len(hashes),) * 2)
    return csgraph.connected_components(linked, directed=False)[1]


def difference_hash(images: np.ndarray) -> np.ndarray:
    """Returns the hashes of images, uint64, `(count, 8)`, of 512 bits each.

    Args:
        images: see `groups`.
    """
    found = [np.empty((0, _BITS // 64), np.uint64)]
    for start in range(0, len(images), _CHUNK):
        gray = np.asarray(images[start : start + _CHUNK], np.float32).mean(axis=-1)
        rows, columns = (_averages(length) for length in gray.shape[1:])
        across = np.diff(rows[_GRID] @ gray @ columns[_GRID + 1].T, axis=2) > _LEAST_STEP
        down = np.diff(rows[_GRID + 1] @ gray @ columns[_GRID].T, axis=1) > _LEAST_STEP
        bits = np.concatenate([across.reshape(len(gray), -1), down.reshape(len(gray), -1)], axis=1)
        found.append(np.packbits(bits, axis=1).view(np.uint64))
    return np.concatenate(found)


def _averages(length: int) -> dict[int, np.ndarray]:
    """Returns the matrices that average an axis into 16 and into 17 equal parts."""
    pixels = np.arange(length)
    matrices = {}
    for count in (_GRID, _GRID + 1):
        edges = np.linspace(0, length, count + 1)[:, np.newaxis]
        parts = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
        matrices[count] = (parts.clip(0) * count / length).astype(np.float32)
    return matrices


def _sorted_by(hashes: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Returns the order of the hashes by some of their bits, the first of them the highest."""
    unpacked = np.unpackbits(hashes.view(np.uint8), axis=1)[:, bits]
    keys = np.ascontiguousarray(np.packbits(unpacked, axis=1)).view(">u8")[:, 0]
    return np.argsort(keys, kind="stable")
