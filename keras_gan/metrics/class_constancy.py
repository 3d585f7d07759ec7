"""Class constancy: share of videos whose frames all show the same class."""

from __future__ import annotations

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric


class ClassConstancy(Metric):
    """Share of the videos in all of whose frames the extractor finds the same class.

    Every frame is classified by itself. `class_constancy_real` is that of the real videos, and
    `frame_constancy` the share of frames of the class that is most frequent in their video. Of up
    to 256 videos.
    """

    title = "Class constancy"
    better = "higher"
    least = 1
    needs = ("images", "stills")
    order = 36

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        real, generated = inputs.stills
        return {
            self.name: class_constancy(generated.classes),
            f"{self.name}_real": class_constancy(real.classes),
            "frame_constancy": frame_constancy(generated.classes),
            "frame_constancy_real": frame_constancy(real.classes),
        }


def class_constancy(classes: np.ndarray) -> float:
    """Returns the share of videos whose frames are all of one class.

    Args:
        classes: class ids of the frames, `(videos, frames)`.

    Raises:
        UsageError: an array of another form, or without videos.
    """
    classes = _checked(classes)
    return float((classes == classes[:, :1]).all(axis=1).mean())


def frame_constancy(classes: np.ndarray) -> float:
    """Returns the share of frames of the class that is most frequent in their video.

    Takes the argument of `class_constancy`.
    """
    classes = _checked(classes)
    return (
        float(np.mean([np.unique(row, return_counts=True)[1].max() for row in classes]))
        / (classes.shape[1])
    )


def _checked(classes: np.ndarray) -> np.ndarray:
    classes = np.asarray(classes)
    if classes.ndim != 2 or not classes.size or classes.dtype.kind not in "iu":
        raise UsageError(
            "`classes` must be integers (videos, frames). "
            f"Received: shape={classes.shape}, dtype={classes.dtype}"
        )
    return classes
