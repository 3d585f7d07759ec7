"""Bounce accuracy: share of the contacts with an edge after which an object bounces off it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_gan.metrics import tracks
from keras_gan.metrics._metric import EvaluationInputs, Metric, MetricResult
from keras_gan.metrics.requirements import Missing
from keras_gan.spec import Spec

_KEPT = 0.5  # pixels per frame by which the component along the edge may change


class BounceAccuracy(Metric):
    """Share of the contacts with an edge after which the velocity across it has turned.

    The component along the edge must stay. `bounce_accuracy_real` is that of the real videos. The
    details hold the numbers of contacts.
    """

    title = "Bounce accuracy"
    better = "higher"
    least = 1
    needs = ("images",)
    in_training = True
    order = 35

    def unfit(self, spec: Spec) -> Missing | None:
        return tracks.unfit(spec)

    def of(self, inputs: EvaluationInputs) -> MetricResult:
        real, generated = map(_bounces, inputs.tracks)
        values = {self.name: generated.accuracy, f"{self.name}_real": real.accuracy}
        return MetricResult(values, {"contacts": [generated.contacts, real.contacts]})


class BounceAccuracyResult(NamedTuple):
    """Bounces at the edges of videos.

    Args:
        accuracy: share of the contacts that are bounces, 0 to 1; NaN without contacts.
        contacts: number of contacts.
    """

    accuracy: float
    contacts: int

    def __float__(self) -> float:
        return self.accuracy


def bounce_accuracy(videos: np.ndarray) -> BounceAccuracyResult:
    """Returns the share of the contacts with an edge after which an object bounces off it.

    A contact is a frame after which the object would leave the picture if it kept the velocity
    with which it arrived. It bounces if the component across the edge then has the other sign, and
    the one along the edge differs by less than half a pixel per frame; near a corner this one may
    turn as well.

    Args:
        videos: see `velocity_error`.

    Raises:
        UsageError: videos of another form, or of fewer than 3 frames.
    """
    return _bounces(tracks.measure(videos))


def _bounces(found: tracks.Tracks) -> BounceAccuracyResult:
    steps, gaps = found.steps, found.gaps[:, 1:-1]
    before, after = steps[:, :-1], steps[:, 1:]
    contacts = bounces = 0
    for axis in (0, 1):
        along = 1 - axis
        near = (gaps[:, :, along] <= tracks.NEAR).any(axis=-1)
        kept = np.abs(after[..., along] - before[..., along]) < _KEPT
        kept |= near & (np.abs(np.abs(after) - np.abs(before))[..., along] < _KEPT)
        for edge, outward in ((0, -1.0), (1, 1.0)):
            speed = outward * before[..., axis]
            # The box is of whole pixels: half a pixel beyond the edge is outside.
            touched = (speed > tracks.MOVING) & (gaps[:, :, axis, edge] - speed < -_KEPT)
            turned = outward * after[..., axis] < -tracks.MOVING
            contacts += int(touched.sum())
            bounces += int((touched & turned & kept).sum())
    return BounceAccuracyResult(bounces / contacts if contacts else float("nan"), contacts)
