"""Tensors of a protocol's request, checked, and run by the batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np

from serving.engine import LIGHT, Job, even
from serving.http_types import Answer, HTTPError
from serving.limits import Settings


class Inputs:
    """Latents or seeds, and labels, of one request.

    Args:
        served: the version of the model.
        tensors: arrays by name: `latents` or `seeds`, `labels` if there are classes.
        truncation: factor on the latents.
        settings: the server's.

    Raises:
        HTTPError: what does not fit the model or its limits.
    """

    def __init__(
        self,
        served: Any,
        tensors: dict[str, np.ndarray],
        truncation: float,
        settings: Settings,
    ):
        self.served = served
        self.truncation = truncation
        bundle = served.bundle
        self.latents: np.ndarray | None = None
        self.seeds: np.ndarray | None = None
        self.labels: np.ndarray | None = None
        if ("latents" in tensors) == ("seeds" in tensors):
            raise HTTPError(
                400, f"latents or seeds say which samples. Received: {', '.join(tensors) or 'none'}"
            )
        if "latents" in tensors:
            latents = tensors["latents"]
            if latents.ndim != 2 or latents.shape[1] != bundle.latent_dim:
                raise HTTPError(
                    400,
                    f"latents must have the shape [n, {bundle.latent_dim}]. "
                    f"Received: {list(latents.shape)}",
                )
            with np.errstate(over="ignore"):
                latents = latents.astype(np.float32)
            if not np.isfinite(latents).all():
                raise HTTPError(400, "latents must be finite numbers. Received: one that is not")
            self.latents = latents * np.float32(truncation) if truncation != 1 else latents
            self.count = len(latents)
        else:
            self.seeds = seeds = _column("seeds", tensors["seeds"])
            if seeds.size and int(seeds.min()) < 0:
                raise HTTPError(400, "A seed must be at least 0 and below 2**63. Received: another")
            self.count = len(seeds)
        if not 0 < self.count <= settings.max_count:
            raise HTTPError(
                400, f"A request takes 1 to {settings.max_count} samples. Received: {self.count}"
            )
        if self.count > 1 and self.count * served.size > settings.max_values:
            raise HTTPError(
                400,
                f"An answer holds at most {settings.max_values} numbers. "
                f"Received: {self.count} samples of {served.size}",
            )
        self._set_labels(tensors.get("labels"))

    def _set_labels(self, labels: np.ndarray | None) -> None:
        bundle = self.served.bundle
        if labels is None:
            if bundle.num_classes and self.seeds is None:
                raise HTTPError(
                    400, f"Bundle {bundle.name!r} takes labels beside latents. Received: none"
                )
            return
        if not bundle.num_classes:
            raise HTTPError(400, f"Bundle {bundle.name!r} takes no labels. Received: labels")
        self.labels = _column("labels", labels)
        if len(self.labels) != self.count:
            raise HTTPError(
                400,
                f"labels must be one for each of {self.count} samples. "
                f"Received: {len(self.labels)}",
            )
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= bundle.num_classes:
            raise HTTPError(
                400, f"A label must be 0 to {bundle.num_classes - 1}. Received: another"
            )

    def job(
        self,
        first: int,
        last: int,
        encode: Callable[[Job, np.ndarray], Any] | None,
        deadline: float,
    ) -> Job:
        """The job of samples `first` to `last`."""
        rows = slice(first, last)
        job = Job(
            last - first,
            None if self.seeds is None else self.seeds[rows],
            None if self.latents is None else self.latents[rows],
            None if self.labels is None else self.labels[rows],
            1.0 if self.seeds is None else self.truncation,
            encode,
            deadline,
        )
        job.light = job.count * self.served.size <= LIGHT
        job.engine = self.served.engine
        return job


async def batches(
    app: Any, inputs: Inputs, deadline: float, answer: Callable[[np.ndarray], Answer]
) -> Answer:
    """Runs more samples than a batch holds, a few batches at a time, and answers with all."""
    served = inputs.served
    step = even(inputs.count, served.engine.max_batch)
    samples = np.empty((inputs.count, *served.bundle.shape), np.float32)
    starts = iter(range(0, inputs.count, step))
    taken = False

    async def work(turn: int) -> None:
        nonlocal taken
        engine = served.engine
        # While the queue is full, the first of these goes on alone.
        while turn == 0 or engine.waiting < engine.queue:
            if (first := next(starts, None)) is None:
                return
            job = inputs.job(first, min(first + step, inputs.count), None, deadline)
            part, taken = taken, True
            samples[first : first + job.count] = await served.engine.run(job, part=part)

    served.users += 1
    tasks = [asyncio.ensure_future(work(turn)) for turn in range(2 * app.settings.workers)]
    try:
        await asyncio.gather(*tasks)
        return await asyncio.get_running_loop().run_in_executor(None, answer, samples)
    finally:
        served.users -= 1
        for task in tasks:
            task.cancel()


def flatten(value: Any, real: bool) -> tuple[list[Any], list[int]]:
    """Gives the numbers of JSON's lists in lists, and their shape.

    numpy would look for a type that holds them all: one long string makes every element as wide.

    Raises:
        ValueError: rows of different lengths.
        TypeError: something else than numbers, or, unless `real`, than integers.
    """
    flat, shape = [value], []
    while type(flat[0]) is list:
        size = len(flat[0])
        if len(shape) == 8 or any(type(x) is not list or len(x) != size for x in flat):
            raise ValueError("rows of different lengths")
        shape.append(size)
        if not size:
            return [], shape
        flat = list(chain.from_iterable(flat))
    kinds = set(map(type, flat))
    if list in kinds:
        raise ValueError("rows of different lengths")
    if other := kinds - ({int, float} if real else {int}):
        raise TypeError(min(kind.__name__ for kind in other))
    return flat, shape


def integers(flat: list[int], shape: list[int]) -> np.ndarray:
    """An array of int64, or of uint64 for what is too large for it.

    Raises:
        OverflowError: what is too large for both.
    """
    kind = np.uint64 if min(flat) >= 0 and max(flat) >= 2**63 else np.int64
    return np.array(flat, kind).reshape(shape)


def _column(name: str, values: np.ndarray) -> np.ndarray:
    """Integers of shape `[n]` or `[n, 1]` as int64 of shape `(n,)`."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise HTTPError(
            400, f"{name} must be integers of shape [n] or [n, 1]. Received: {list(values.shape)}"
        )
    if values.dtype.kind == "u" and values.size and int(values.max()) >= 2**63:
        raise HTTPError(400, f"{name} must be below 2**63. Received: {int(values.max())}")
    return values.astype(np.int64)
