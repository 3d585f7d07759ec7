"""Velocity error: distance of a moving object from uniform motion with bounces."""

from __future__ import annotations

import numpy as np

from keras_gan.metrics import tracks
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.requirements import Missing
from keras_gan.spec import Spec


class VelocityError(Metric):
    """Mean distance in pixels per frame from the nearest uniform motion with bounces.

    `velocity_error_real` is that of the real videos, the best attainable value. An object that
    stands still has no error: `speed` and `speed_real` are the mean speeds in pixels per frame.
    """

    title = "Velocity error (pixels per frame)"
    better = "lower"
    least = 1
    needs = ("images",)
    in_training = True
    order = 34

    def unfit(self, spec: Spec) -> Missing | None:
        return tracks.unfit(spec)

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        real, generated = inputs.tracks
        return {
            self.name: _error(generated),
            f"{self.name}_real": _error(real),
            "speed": generated.speed,
            "speed_real": real.speed,
        }


def velocity_error(videos: np.ndarray) -> float:
    """Returns the mean distance of the motion in videos from the nearest uniform motion.

    The displacement of the centroid of what is bright is measured from frame to frame, and compared
    with a constant speed along each axis whose direction turns only near an edge, see
    `keras_gan.metrics.tracks.fit`. Missing motion is not detected: an object that stands still, or
    a frame without one, counts as uniform motion.

    Args:
        videos: `(videos, frames, height, width, channels)`, uint8 or in [-1, 1], of one bright
            object on a dark background.

    Returns:
        Mean over videos and steps of the Euclidean distance in pixels per frame, from 0 up.

    Raises:
        UsageError: videos of another form, or of fewer than 3 frames.
    """
    return _error(tracks.measure(videos))


def _error(found: tracks.Tracks) -> float:
    difference = found.steps - tracks.fit(found)[1]
    return float(np.linalg.norm(difference, axis=-1).mean())
