"""Patch distance: sliced Wasserstein distance of small patches, at several scales of images."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import slices, slices_of

PATCH = 7  # pixels of a patch's height and width
PATCHES, DIRECTIONS, SEED = 32, 256, 0
LEAST_SIZE = 8  # of an image's height and width
COARSEST = 16  # smallest height or width of a level that is the half of another one
_BLUR = np.array([1, 4, 6, 4, 1], np.float32) / 16
_FLAT = 1e-3  # standard deviation, in levels of gray, below which a channel is constant
_VALUES = 2**22  # values of the images that are processed together
_TOGETHER = 64  # directions that are projected on together


class PatchDistance(Metric):
    """Patch distance of up to 1,000 images, and the distance at each scale; needs no network.

    The values are the mean over the scales, `patch_distance`, and one for each, `patch_distance_64`
    and so on, named after the smaller of its height and width. All are multiplied by 1,000.
    """

    title = "Patch distance (x 1,000)"
    better = "lower"
    least = 1
    kinds = ("image",)
    least_size = LEAST_SIZE
    needs = ("images",)
    in_training = True
    order = 35

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        found = patch_distance(*inputs.pixels, patches=PATCHES, directions=DIRECTIONS, seed=SEED)
        of_levels = {f"{self.name}_{size}": value for size, value in found.levels.items()}
        return {self.name: found.mean, **of_levels}

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {"images": len(inputs.pixels[0]), **_settings()}

    def training_protocol(self, count: int) -> dict[str, Any]:
        return {self.name: _settings()}


def _settings() -> dict[str, Any]:
    return {
        "patch": PATCH,
        "patches_per_image": PATCHES,
        "directions": DIRECTIONS,
        "seed": SEED,
        "factor": 1000,
    }


class PatchDistanceResult(NamedTuple):
    """Patch distance, the mean over the levels; and each level's, by its smaller size in pixels."""

    mean: float
    levels: dict[int, float]

    def __float__(self) -> float:
        return self.mean


def patch_distance(
    real: np.ndarray,
    generated: np.ndarray,
    patches: int = PATCHES,
    directions: int = DIRECTIONS,
    seed: int = SEED,
) -> PatchDistanceResult:
    """Returns the sliced Wasserstein-1 distance of patches of images, multiplied by 1,000.

    Each image becomes a Laplacian pyramid: its size is halved while the smaller of height and
    width stays at 16 or more, and a level holds what the next one lacks. Fine levels show texture
    and sharpness, the coarsest one shows shapes and their colors. At each level patches of 7 x 7
    pixels are drawn at random places, the same places in the real and in the generated images.
    The patches of a set are normalized by the mean and the standard deviation of each channel,
    and compared in random directions.

    The normalization is that of the reference: it makes levels and data sets comparable, and
    hides a brightness, color or contrast that is wrong in all images alike, which
    `sliced_wasserstein` shows. Real images have a distance above 0 to other real ones, which falls
    with the number of images: compare equal numbers only. Needs 19 kB per image and level for
    three channels.

    Args:
        real: `(count, height, width, channels)`, height and width from 8; uint8, or floating point
            in any range.
        generated: as many images of the same shape, in the same range.
        patches: patches per image and level, from 1.
        directions: number of random directions, from 1.
        seed: seed of the places and of the directions.

    Returns:
        `mean` over the levels, from 0 up, and `levels`, the full size first.

    Raises:
        UsageError: sets of different shapes, images that are too small, NaN or infinity.

    Reference:
        - [Karras et al., 2018](https://arxiv.org/abs/1710.10196), section 5, with 128 patches per
          image there
        - [Burt and Adelson, 1983](https://doi.org/10.1109/TCOM.1983.1095851): the pyramid
    """
    real, generated = np.asarray(real), np.asarray(generated)
    _check(real, generated, patches, directions)
    rng = np.random.default_rng(seed)
    sizes = level_sizes(*real.shape[1:3])
    places = [
        tuple(rng.integers(size - PATCH + 1, size=(len(real), patches)) for size in level)
        for level in sizes
    ]
    levels = {}
    sets = [_patches(images, places) for images in (real, generated)]
    for size, first, second in zip(sizes, *sets, strict=True):
        axes = rng.standard_normal((directions, first.shape[1]), np.float32)
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        total = 0.0
        for part in slices(directions, _TOGETHER):
            a, b = (np.sort(axes[part] @ rows.T, axis=1) for rows in (first, second))
            total += float(np.abs(a - b).sum(dtype=np.float64))
        levels[min(size)] = 1000 * total / (directions * len(first))
    return PatchDistanceResult(float(np.mean(list(levels.values()))), levels)


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Returns height and width of each level of the pyramid, the full size first."""
    sizes = [(height, width)]
    while min(half := ((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2)) >= COARSEST:
        sizes.append(half)
    return sizes


def laplacian_pyramid(images: np.ndarray, count: int) -> list[np.ndarray]:
    """Returns the levels of images, the finest first; the last is what remains, and no difference.

    The blur is binomial, of five pixels, with images mirrored at their edges. Every image is the
    sum of its levels, each enlarged to the size of the one before.
    """
    levels = []
    for _ in range(count - 1):
        coarse = _blur(images)[:, ::2, ::2]
        levels.append(images - _enlarged(coarse, images.shape))
        images = coarse
    return [*levels, images]


def _blur(images: np.ndarray, factor: float = 1.0) -> np.ndarray:
    for axis in (1, 2):
        images = ndimage.convolve1d(images, _BLUR * np.float32(factor), axis=axis, mode="mirror")
    return images


def _enlarged(images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    spread = np.zeros(shape, images.dtype)
    spread[:, ::2, ::2] = images
    return _blur(spread, 2.0)  # half of each line is 0


def _patches(images: np.ndarray, places: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """Returns the normalized patches of each level, `(count * patches, values)`, float32."""
    found: list[list[np.ndarray]] = [[] for _ in places]
    for part in slices_of(images, _VALUES):
        levels = laplacian_pyramid(images[part].astype(np.float32), len(places))
        for level, (tops, lefts), kept in zip(levels, places, found, strict=True):
            windows = np.lib.stride_tricks.sliding_window_view(level, (PATCH, PATCH), (1, 2))
            rows = np.arange(len(level))[:, np.newaxis]
            kept.append(windows[rows, tops[part], lefts[part]])
    return [_normalized(np.concatenate(kept)) for kept in found]


def _normalized(patches: np.ndarray) -> np.ndarray:
    """Normalizes patches `(count, patches, channels, 7, 7)` by channel, in place, and flattens."""
    for channel in range(patches.shape[2]):
        values = patches[:, :, channel]
        values -= values.mean(dtype=np.float64)
        values /= max(float(values.std(dtype=np.float64)), _FLAT)
    return patches.reshape(-1, patches[0, 0].size)


def _check(real: np.ndarray, generated: np.ndarray, patches: int, directions: int) -> None:
    if real.ndim != 4 or real.shape != generated.shape or not len(real):
        raise UsageError(
            "real and generated must have the same number of images (1 or more) and shape, "
            f"(count, height, width, channels). Received: {real.shape} and {generated.shape}"
        )
    if min(real.shape[1:3]) < LEAST_SIZE:
        raise UsageError(
            f"A patch distance needs images of at least {LEAST_SIZE} x {LEAST_SIZE}. "
            f"Received: {real.shape[1]} x {real.shape[2]}"
        )
    if patches < 1 or directions < 1:
        raise UsageError(
            "A patch distance needs at least 1 patch per image and 1 direction. "
            f"Received: patches={patches}, directions={directions}"
        )
    for name, images in (("real", real), ("generated", generated)):
        if images.dtype.kind not in "fiub" or not np.isfinite(images).all():
            raise UsageError(
                f"Images must be finite numbers. Received: {name} of type {images.dtype}"
                + (" with NaN or infinity" if images.dtype.kind == "f" else "")
            )
