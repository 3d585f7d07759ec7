"""Tracks of one bright object through videos, and the uniform motion that fits them best.

The object moves at a constant velocity and bounces off the edges of the frame: at an edge, the
component of the velocity across it changes its sign, and the other one stays.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_gan.datasets import bright_object
from keras_gan.errors import UsageError
from keras_gan.metrics.requirements import Missing
from keras_gan.spec import Spec

NEAR = 1.5  # pixels from an edge within which the object may turn
MOVING = 0.25  # pixels per frame: slower is not motion toward an edge, or away from it
_LEAST_FRAMES = 3


@dataclasses.dataclass(frozen=True)
class Tracks:
    """Places of one object in the frames of videos. The axes are downward and to the right.

    Args:
        places: centroid of what is bright, in pixels, float64 `(videos, frames, 2)`. In a frame
            without anything bright it is the middle of the frame.
        gaps: pixels between the object's box and the upper and the lower edge, and the left and the
            right one, `(videos, frames, 2, 2)`; 0 in a frame without anything bright.
    """

    places: np.ndarray
    gaps: np.ndarray

    @property
    def steps(self) -> np.ndarray:
        """Displacements from frame to frame, `(videos, frames - 1, 2)`."""
        return np.diff(self.places, axis=1)

    @property
    def speed(self) -> float:
        """Mean length of these, in pixels per frame."""
        return float(np.linalg.norm(self.steps, axis=-1).mean())


def measure(videos: np.ndarray) -> Tracks:
    """Measures the tracks of one bright object on a dark background.

    Args:
        videos: `(videos, frames, height, width, channels)`, uint8 or floating point in [-1, 1], of
            at least 3 frames.

    Raises:
        UsageError: videos of another form.
    """
    videos = np.asarray(videos)
    if videos.ndim != 5 or not len(videos) or videos.shape[1] < _LEAST_FRAMES:
        raise UsageError(
            "Tracks are measured in videos (videos, frames, height, width, channels) of at least "
            f"{_LEAST_FRAMES} frames. Received: shape={videos.shape}"
        )
    light = bright_object.find_light(videos)
    places = bright_object.find_centroids(light)
    middle = (np.array(light.shape[2:]) - 1) / 2
    gaps = np.stack([_gaps(np.any(light > 0, axis=5 - axis)) for axis in (2, 3)], axis=2)
    return Tracks(np.where(np.isnan(places), middle, places), gaps)


def _gaps(lit: Any) -> np.ndarray:
    """Returns the pixels before and after what is bright along an axis, `(..., 2)`."""
    return np.stack([lit.argmax(axis=2), lit[..., ::-1].argmax(axis=2)], axis=-1)


def fit(tracks: Tracks) -> tuple[np.ndarray, np.ndarray]:
    """Finds the uniform motion with bounces that is nearest to the measured one.

    On each axis it is the speed and the direction in each frame with the smallest sum of absolute
    differences from the measured displacements. The direction may turn, toward the inside, only in
    a frame in which the object is within 1.5 pixels of the edge. The best speed is one of the
    measured ones, because the sum is piecewise linear in it; all of them are tried, each with its
    best directions by dynamic programming.

    Args:
        tracks: the measured tracks.

    Returns:
        Speed in pixels per frame, from 0, `(videos, 2)`; and velocity from each frame to the next,
        `(videos, frames - 1, 2)`.
    """
    steps = tracks.steps
    near = tracks.gaps <= NEAR
    found = [_fit_axis(steps[..., axis], near[:, :, axis]) for axis in (0, 1)]
    speeds, velocities = zip(*found, strict=True)
    return np.stack(speeds, axis=-1), np.stack(velocities, axis=-1)


def _fit_axis(steps: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the best speed, `(videos,)`, and the signed velocities of one axis.

    Args:
        steps: displacements `(videos, steps)`.
        near: whether the object is near the first and the last edge, `(videos, frames, 2)`.
    """
    best = np.full(len(steps), np.inf)
    speed, velocities = np.zeros(len(steps)), np.zeros_like(steps)
    for candidate in np.abs(steps).T:
        costs = np.abs(steps[..., np.newaxis] - candidate[:, np.newaxis, np.newaxis] * [1, -1])
        total, signs = _directions(costs, near)
        better = total < best
        best, speed = np.where(better, total, best), np.where(better, candidate, speed)
        found = candidate[:, np.newaxis] * signs
        velocities = np.where(better[:, np.newaxis], found, velocities)
    return speed, velocities


def _directions(costs: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the smallest total cost, and the signs that have it.

    Args:
        costs: cost of each step toward larger and toward smaller coordinates,
            `(videos, steps, 2)`.
        near: see `_fit_axis`. The sign may become positive near the first edge, and negative near
            the last one.
    """
    count, length, _ = costs.shape
    totals = costs[:, 0]
    turned = np.zeros((count, length, 2), bool)
    for step in range(1, length):
        others = np.where(near[:, step], totals[:, ::-1], np.inf)
        turned[:, step] = others < totals
        totals = np.minimum(totals, others) + costs[:, step]
    way = totals.argmin(axis=1)
    rows, signs = np.arange(count), np.empty((count, length))
    for step in range(length - 1, -1, -1):
        signs[:, step] = 1 - 2 * way
        way = np.where(turned[rows, step, way], 1 - way, way)
    return totals.min(axis=1), signs


def unfit(spec: Spec) -> Missing | None:
    """Returns the requirement that samples do not meet, of one tracked object, or `None`."""
    objects = spec.samples.meta.get("bouncing_objects")
    if objects != 1:
        rule = "videos of one object that bounces, such as moving-fashion with garments: 1"
        return Missing(rule, f"kind {spec.kind!r} with bouncing_objects={objects}")
    frames = spec.shape[0]
    if frames is None or frames < _LEAST_FRAMES:
        return Missing(f"videos of at least {_LEAST_FRAMES} frames", f"{frames} frames")
    return None
