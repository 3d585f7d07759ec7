"""Inputs of a batch from its jobs: drawn from seeds, labels, or given arrays.

Runs in the engine's workers. A plain generator, of one latent vector and labels, has a class of its
own: the latents of all jobs in a batch are drawn together, which takes about as long as drawing
those of one job.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from serving.inputs import Inputs
from serving.seeds import normals

if TYPE_CHECKING:
    from serving.engine import SampleJob

# A job, the first of its samples in the batch, and the one after the last.
Piece = tuple["SampleJob", int, int]
# Pairs of random words drawn per call: ufuncs on more than 500 numbers release the interpreter
# lock, and reacquiring it means waiting for other threads.
_MAX_PAIRS = 480


class PlainFeeds:
    """Feeds of a network with one latent vector, and labels or not.

    Args:
        latents: name of the input of latents.
        latent_dim: length of a latent vector.
        labels: name of the input of labels; any text without classes.
        num_classes: number of classes, 0 for a network without labels.
    """

    def __init__(self, latents: str, latent_dim: int, labels: str = "", num_classes: int = 0):
        self._names = (latents, labels)
        self._latent_dim = latent_dim
        self._num_classes = num_classes
        self._step = max(1, _MAX_PAIRS // max(1, (latent_dim + 1) // 2))  # seeds per call

    def __call__(self, pieces: list[Piece], count: int) -> dict[str, np.ndarray]:
        """Returns the arrays of all inputs for a batch of `count` samples."""
        if len(pieces) == 1 and not pieces[0][0].given and count <= self._step:
            return self._feeds_of_one(*pieces[0])
        name, label_name = self._names
        latents = np.empty((count, self._latent_dim), np.float32)
        labels = np.empty(count, np.int64) if self._num_classes else None
        seeded: list[np.ndarray] = []
        row = 0
        for job, first, last in pieces:
            end = row + last - first
            if name in job.given:
                latents[row:end] = job.given[name][first:last]
            else:
                seeded.append(job.seeds[first:last])  # type: ignore[index]
            if labels is not None:
                own = job.labels
                labels[row:end] = seeded[-1] % self._num_classes if own is None else own[first:last]
            row = end
        if seeded:
            self._draw(pieces, seeded, latents)
        return {name: latents} if labels is None else {name: latents, label_name: labels}

    def _feeds_of_one(self, job: SampleJob, first: int, last: int) -> dict[str, np.ndarray]:
        """Returns the feeds of a batch of one job, without copying its latents."""
        seeds: np.ndarray = job.seeds[first:last]  # type: ignore[index]
        latents = normals(seeds, self._latent_dim, 0)
        if job.truncation != 1:
            latents = latents * np.float32(job.truncation)
        if not self._num_classes:
            return {self._names[0]: latents}
        labels = seeds % self._num_classes if job.labels is None else job.labels[first:last]
        return {self._names[0]: latents, self._names[1]: np.ascontiguousarray(labels)}

    def _draw(self, pieces: list[Piece], seeded: list[np.ndarray], latents: np.ndarray) -> None:
        """Draws the latents of all seeds of a batch: many take about as long as one."""
        seeds = seeded[0] if len(seeded) == 1 else np.concatenate(seeded)
        step = self._step
        drawn = normals(seeds[:step], self._latent_dim, 0)
        if len(seeds) > step:
            more = range(step, len(seeds), step)
            rest = [normals(seeds[i : i + step], self._latent_dim, 0) for i in more]
            drawn = np.concatenate([drawn, *rest])
        row = start = 0
        for job, first, last in pieces:
            size = last - first
            if self._names[0] not in job.given:
                part = drawn[start : start + size]
                start += size
                latents[row : row + size] = (
                    part if job.truncation == 1 else part * np.float32(job.truncation)
                )
            row += size


class DeclaredFeeds:
    """Feeds of any network, filled as its inputs declare.

    Args:
        inputs: the inputs of the network.
    """

    def __init__(self, inputs: Inputs):
        self._inputs = inputs

    def __call__(self, pieces: list[Piece], count: int) -> dict[str, np.ndarray]:
        """Returns the arrays of all inputs for a batch of `count` samples."""
        filled = [self._fill(*piece) for piece in pieces]
        if len(filled) == 1:
            return {name: np.ascontiguousarray(array) for name, array in filled[0].items()}
        return {name: np.concatenate([feeds[name] for feeds in filled]) for name in filled[0]}

    def _fill(self, job: SampleJob, first: int, last: int) -> dict[str, np.ndarray]:
        given = {name: array[first:last] for name, array in job.given.items()}
        # Without seeds, all inputs that are drawn are given, and only the number counts.
        seeds = np.zeros(last - first, np.int64) if job.seeds is None else job.seeds[first:last]
        labels = None if job.labels is None else job.labels[first:last]
        return self._inputs.fill(seeds, labels, job.truncation, given)


def choose_feeds(inputs: Inputs) -> PlainFeeds | DeclaredFeeds:
    """Returns the feeds of a network by its inputs."""
    classes = inputs.classes
    plain = (
        len(inputs.normal) == 1
        and inputs.ports[1:] == (() if classes is None else (classes,))
        and inputs.normal[0].stream == 0
        and inputs.normal[0].dtype == "float32"
        and len(inputs.normal[0].shape) == 1
        and not inputs.normal[0].is_dynamic
        and inputs.normal[0].name != "truncation"
    )
    if not plain or (classes and (classes.dtype != "int64" or "frequencies" in classes.meta)):
        return DeclaredFeeds(inputs)
    latents = inputs.normal[0]
    size = math.prod(n or 0 for n in latents.sizes)
    if classes is None:
        return PlainFeeds(latents.name, size)
    return PlainFeeds(latents.name, size, classes.name, classes.num_classes)
