"""Swap test: the same content with another motion, of generators that draw both apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics import tracks
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.stills import CLIPS, Stills

_DIFFERENT = 0.5  # pixels per frame by which the velocities of different motions differ


class ContentSwap(Metric):
    """Share of videos that keep their class if all latents but those of the content are others.

    The class of a video is the one of most of its frames. `content_by_chance` is the share of pairs
    of unrelated videos of one class. Of videos of one object that bounces, `motion_changed` is the
    share of pairs whose velocities differ by more than half a pixel per frame, and
    `motion_by_chance` that of unrelated videos. Of 256 pairs.
    """

    title = "Content kept with another motion"
    better = "higher"
    needs = ("swaps", "stills")
    order = 38

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        if inputs.swaps is None:
            raise UsageError("The metric needs pairs of one content. Received: none")
        first, second = inputs.swaps(CLIPS)
        moves = tracks.unfit(inputs.spec) is None
        found = content_swap(first, second, inputs.extractor.still, moves)
        values = {self.name: found.kept, "content_by_chance": found.kept_by_chance}
        if moves:
            values |= {"motion_changed": found.changed, "motion_by_chance": found.changed_by_chance}
        return values


class ContentSwapResult(NamedTuple):
    """Result of a swap test.

    Args:
        kept: share of pairs of one class.
        kept_by_chance: the same of unrelated videos.
        changed: share of pairs of different motion; NaN where motion is not measured.
        changed_by_chance: the same of unrelated videos.
    """

    kept: float
    kept_by_chance: float
    changed: float = float("nan")
    changed_by_chance: float = float("nan")


def content_swap(
    first: np.ndarray, second: np.ndarray, still: Callable[[np.ndarray], Any], moves: bool = True
) -> ContentSwapResult:
    """Compares videos row by row with others of the same content and another motion.

    Args:
        first: videos `(count, frames, height, width, channels)` in [-1, 1], at least 2.
        second: as many, of the same shape.
        still: function from frames to features and class probabilities, such as
            `open_features("video_classifier", spec).still`.
        moves: whether the motion of one bright object is measured, see `velocity_error`.

    Raises:
        UsageError: videos of different shapes, or fewer than 2.
    """
    if first.shape != second.shape or first.ndim != 5 or len(first) < 2:
        raise UsageError(
            "A swap test needs at least 2 videos, and as many of the same shape. "
            f"Received: {first.shape} and {second.shape}"
        )
    one, other = (_most_frequent(Stills.of(videos, still).classes) for videos in (first, second))
    counts = np.unique(one, return_counts=True)[1]
    total = len(one) * (len(one) - 1)
    by_chance = float((counts * (counts - 1)).sum() / total)
    kept = float((one == other).mean())
    if not moves:
        return ContentSwapResult(kept, by_chance)
    velocities = [tracks.fit(tracks.measure(videos))[1][:, 0] for videos in (first, second)]
    unrelated = np.roll(velocities[0], 1, axis=0)
    changed = [_differ(velocities[0], others) for others in (velocities[1], unrelated)]
    return ContentSwapResult(kept, by_chance, *changed)


def _most_frequent(classes: np.ndarray) -> np.ndarray:
    return np.array([np.bincount(row).argmax() for row in classes])


def _differ(first: np.ndarray, second: np.ndarray) -> float:
    return float((np.abs(first - second).max(axis=-1) > _DIFFERENT).mean())
