"""Content drift: how far the frames of a video move away from its first frame in features."""

from __future__ import annotations

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric


class ContentDrift(Metric):
    """Mean feature distance from the first frame of a video, relative to that between videos.

    0 is a content that stays, 1 frames that differ as much as those of other videos.
    `content_drift_real` is that of the real videos. Of up to 256 videos. In the manner of the
    average content distance of MoCoGAN, which compares features of faces.

    Reference:
        - [Tulyakov et al., 2017](https://arxiv.org/abs/1707.04993), section 4.2
    """

    title = "Content drift"
    better = "lower"
    needs = ("images", "stills")
    order = 37

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        real, generated = inputs.stills
        return {
            self.name: content_drift(generated.features),
            f"{self.name}_real": content_drift(real.features),
        }


def content_drift(features: np.ndarray) -> float:
    """Returns the drift of the content of videos.

    Args:
        features: features of the frames, `(videos, frames, number)`, of at least 2 videos and
            2 frames.

    Returns:
        Mean Euclidean distance of frames 1, 2, ... from frame 0, divided by the mean distance
        between frames 0 of two different videos; NaN if these are all equal.

    Raises:
        UsageError: an array of another form.
    """
    features = np.asarray(features, np.float64)
    if features.ndim != 3 or min(features.shape[:2]) < 2:
        raise UsageError(
            "`features` must be (videos, frames, number) of at least 2 videos and 2 frames. "
            f"Received: shape={features.shape}"
        )
    within = np.linalg.norm(features[:, 1:] - features[:, :1], axis=-1).mean()
    first, count = features[:, 0], len(features)
    apart = sum(float(np.linalg.norm(first - one, axis=-1).sum()) for one in first)
    between = apart / (count * (count - 1))
    return float(within / between) if between > 0 else float("nan")
