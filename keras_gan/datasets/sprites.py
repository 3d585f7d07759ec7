"""Shapes with known factors, made at run time: 32x32, gray, 30,375 pictures, 3 classes.

The pictures are all combinations of six factors, each picture once:

| factor | levels | values |
|---|---|---|
| shape | 3 | ellipse, triangle, cross: the classes |
| size | 5 | radius of 5, 6, 7, 8, 9 pixels |
| angle | 5 | -40, -20, 0, 20, 40 degrees, counterclockwise |
| x | 9 | center at -6, -4.5, ..., 6 pixels from the middle, to the right |
| y | 9 | center at -6, -4.5, ..., 6 pixels from the middle, downward |
| gray | 5 | 0.4, 0.55, 0.7, 0.85, 1 on black |

That is 3 x 5 x 5 x 9 x 9 x 5 = 30,375. No two angles of a shape look the same.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from keras_gan.arguments import check_integer
from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split
from keras_gan.errors import UsageError
from keras_gan.spec import Spec

SHAPE = (32, 32, 1)  # of a sample
SHAPES = ("ellipse", "triangle", "cross")
# Values of the factors by name; the last factor changes fastest from row to row.
FACTORS: dict[str, np.ndarray] = {
    "shape": np.arange(3.0),
    "size": np.arange(5.0, 10.0),
    "angle": np.arange(-40.0, 41.0, 20.0),
    "x": np.arange(-6.0, 6.1, 1.5),
    "y": np.arange(-6.0, 6.1, 1.5),
    "gray": np.linspace(0.4, 1.0, 5),
}
LEVELS = tuple(len(values) for values in FACTORS.values())
COUNT = math.prod(LEVELS)
_SIDE = SHAPE[0]
_HELD_OUT = 10  # every tenth picture of a random order is held out
_BATCH = 256  # pictures whose factors are read together


def open(*, data_seed: int = 0) -> Source:
    """Draws all pictures, of which 3,037 are held out; labels are the shapes.

    Args:
        data_seed: non-negative integer that chooses the held-out pictures.

    Raises:
        UsageError: a seed below 0.
    """
    check_integer("data_seed", data_seed, 0)
    pictures, factors = draw_all()
    order = np.random.default_rng(data_seed).permutation(COUNT)
    held = COUNT // _HELD_OUT
    labels = factors[:, 0].astype(np.int32)
    splits = {
        "train": Split(pictures, labels, np.sort(order[held:]), True),
        "held_out": Split(pictures, labels, np.sort(order[:held]), True),
    }
    description = (
        f"sprites: {COUNT - held:,} + {held:,} pictures of shapes as 32x32x1, seed {data_seed}"
    )
    spec = Spec("image", SHAPE, (-1.0, 1.0)).with_classes(len(SHAPES), SHAPES)
    return Source(spec, splits, description)


@functools.cache  # the data, the metrics and their references all need them
def draw_all() -> tuple[np.ndarray, np.ndarray]:
    """Returns all pictures, uint8 `(count, 32, 32, 1)`, and the levels of their factors.

    Returns:
        The pictures, and int64 levels `(count, 6)` in the order of `FACTORS`, both read-only.
    """
    grid = np.stack(np.meshgrid(*map(np.arange, LEVELS), indexing="ij"), -1)
    levels = grid.reshape(COUNT, len(LEVELS))
    each = levels[:: LEVELS[-1]]  # of one gray
    values = [v[each[:, i]] for i, v in enumerate(FACTORS.values())]
    coverage = _draw(*values[:-1])
    pictures = np.empty((len(each), LEVELS[-1], _SIDE, _SIDE), np.uint8)
    for i, gray in enumerate(255 * FACTORS["gray"].astype(np.float32)):
        pictures[:, i] = coverage * gray + np.float32(0.5)  # rounded as it is stored
    found = pictures.reshape(COUNT, *SHAPE), levels
    for array in found:
        array.flags.writeable = False
    return found


def read_factors(pictures: np.ndarray) -> np.ndarray:
    """Returns the levels of the factors of pictures, int64 `(count, 6)` in the order of `FACTORS`.

    They are those of the nearest of all sprites, by the Euclidean distance of means over 2 x 2
    pixels. Of the sprites themselves the levels are exact.

    Args:
        pictures: uint8, or floating point in [-1, 1], `(count, 32, 32, 1)`.

    Raises:
        UsageError: pictures of another shape.
    """
    pictures = np.asarray(pictures)
    if pictures.shape[1:] != SHAPE:
        raise UsageError(
            f"Factors are read from sprites of shape (count, 32, 32, 1). "
            f"Received: shape={pictures.shape}"
        )
    known, levels = _reduced_sprites()
    lengths = np.square(known).sum(axis=1)
    nearest = [np.zeros(0, np.int64)]
    for start in range(0, len(pictures), _BATCH):
        batch = pictures[start : start + _BATCH]
        unit = batch / np.float32(255) if batch.dtype == np.uint8 else (batch + 1) / 2
        # |a - b|^2 without |a|^2, which is the same for all sprites.
        nearest.append((lengths - 2 * _reduced(unit) @ known.T).argmin(axis=1))
    return levels[np.concatenate(nearest)]


@functools.cache
def _reduced_sprites() -> tuple[np.ndarray, np.ndarray]:
    """Returns all sprites as `_reduced` makes them, 31 MB, and their levels."""
    pictures, levels = draw_all()
    return _reduced(pictures) / np.float32(255), levels


def _reduced(pictures: np.ndarray) -> np.ndarray:
    """Returns means over 2 x 2 pixels, float32 `(count, 256)`."""
    half = _SIDE // 2
    blocks = pictures.reshape(-1, half, 2, half, 2)
    return blocks.mean(axis=(2, 4), dtype=np.float32).reshape(-1, half * half)


def _draw(shape, size, angle, x, y) -> np.ndarray:
    """Returns the share of each pixel that a shape covers, float32 `(count, 32, 32)`.

    Args:
        shape, size, angle, x, y: values of the factors, `(count,)`.
    """
    middle = (_SIDE - 1) / 2
    axis = np.arange(_SIDE, dtype=np.float32) - middle
    across = axis[np.newaxis, np.newaxis, :] - x[:, np.newaxis, np.newaxis]
    down = axis[np.newaxis, :, np.newaxis] - y[:, np.newaxis, np.newaxis]
    turn = np.radians(angle)[:, np.newaxis, np.newaxis]
    # Coordinates of the pixels in the shape's own axes, v upward.
    u = (np.cos(turn) * across - np.sin(turn) * down).astype(np.float32)
    v = (-np.sin(turn) * across - np.cos(turn) * down).astype(np.float32)
    radius = size.astype(np.float32)[:, np.newaxis, np.newaxis]
    distance = np.empty_like(u)
    for index, of_shape in enumerate((_ellipse, _triangle, _cross)):
        rows = shape == index
        distance[rows] = of_shape(u[rows], v[rows], radius[rows])
    return np.clip(0.5 - distance, 0.0, 1.0)


# Approximate distances of pixels from the edge of a shape, negative inside.


def _ellipse(u, v, radius):
    return (np.hypot(u, 2 * v) - radius) / np.maximum(
        np.hypot(u, 4 * v) / np.maximum(np.hypot(u, 2 * v), 1e-6), 1.0
    )


def _triangle(u, v, radius):
    slope = math.sqrt(3.0) / 2
    return np.maximum(np.maximum(slope * u + v / 2, -slope * u + v / 2), -v) - radius / 2


def _cross(u, v, radius):
    u, v = np.abs(u), np.abs(v)
    return np.minimum(
        np.maximum(u - radius, v - radius / 4), np.maximum(u - radius / 4, v - radius)
    )
