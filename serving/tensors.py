"""Tensor inputs of protocol requests: checks, jobs, and requests of several batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np

from serving.checks import check_column, check_finite
from serving.engine import LIGHT, SampleJob, even
from serving.errors import UsageError, short_repr
from serving.http_types import Response
from serving.limits import Settings


class TensorInputs:
    """Latents or seeds, and labels, of one request.

    Args:
        served: version of the model.
        tensors: arrays by name: `latents` or `seeds`; also `labels` if the model has classes.
        truncation: factor on the latents.
        settings: settings of the server.

    Raises:
        UsageError: a tensor that does not fit the model, or too many samples.
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
        self.latents: np.ndarray | None = None
        self.seeds: np.ndarray | None = None
        self.labels: np.ndarray | None = None
        if ("latents" in tensors) == ("seeds" in tensors):
            raise UsageError(
                "The inputs must be either `latents` or `seeds`. "
                f"Received: {', '.join(tensors) or 'neither'}"
            )
        if "latents" in tensors:
            self.latents = self._read_latents(tensors["latents"])
            self.count = len(self.latents)
        else:
            self.seeds = check_column("seeds", tensors["seeds"])
            self.count = len(self.seeds)
        self._check_size(settings)
        self._set_labels(tensors.get("labels"))

    def _read_latents(self, latents: np.ndarray) -> np.ndarray:
        dim = self.served.bundle.latent_dim
        if latents.ndim != 2 or latents.shape[1] != dim:
            raise UsageError(
                f"`latents` must have the shape [n, {dim}]. Received: shape={list(latents.shape)}"
            )
        with np.errstate(over="ignore"):
            latents = latents.astype(np.float32)
        check_finite("latents", latents)
        return latents if self.truncation == 1 else latents * np.float32(self.truncation)

    def _check_size(self, settings: Settings) -> None:
        if not 0 < self.count <= settings.max_count:
            raise UsageError(
                f"A request takes 1 to {settings.max_count} samples. Received: {self.count}"
            )
        if self.count > 1 and self.count * self.served.sample_size > settings.max_values:
            raise UsageError(
                f"A response holds at most {settings.max_values} numbers. "
                f"Received: {self.count} samples of {self.served.sample_size}"
            )

    def _set_labels(self, labels: np.ndarray | None) -> None:
        bundle = self.served.bundle
        if labels is None:
            if bundle.num_classes and self.seeds is None:
                raise UsageError(
                    f"Bundle {bundle.name!r} takes labels beside latents. Received: labels=None"
                )
            return
        if not bundle.num_classes:
            raise UsageError(
                f"Bundle {bundle.name!r} takes no labels. "
                f"Received: labels={short_repr(labels.tolist())}"
            )
        self.labels = check_column("labels", labels, bundle.num_classes - 1)
        if len(self.labels) != self.count:
            raise UsageError(
                f"`labels` must be one for each of {self.count} samples. "
                f"Received: {len(self.labels)} labels"
            )

    def job(
        self,
        first: int,
        last: int,
        encode: Callable[[SampleJob, np.ndarray], Any] | None,
        deadline: float,
    ) -> SampleJob:
        """Returns the job that generates samples `first` to `last - 1`."""
        rows = slice(first, last)
        job = SampleJob(
            last - first,
            None if self.seeds is None else self.seeds[rows],
            None if self.latents is None else self.latents[rows],
            None if self.labels is None else self.labels[rows],
            1.0 if self.seeds is None else self.truncation,
            encode,
            deadline,
        )
        job.is_light = job.count * self.served.sample_size <= LIGHT
        job.engine = self.served.engine
        return job


async def gather(
    app: Any, inputs: TensorInputs, deadline: float, respond: Callable[[np.ndarray], Response]
) -> Response:
    """Returns the response to a request with more samples than a batch holds.

    Args:
        app: the application.
        inputs: the checked inputs.
        deadline: on the clock of `time.monotonic`.
        respond: maps all samples to the response; runs in a thread.
    """
    served = inputs.served
    step = even(inputs.count, served.engine.max_batch)
    samples = np.empty((inputs.count, *served.bundle.shape), np.float32)
    starts = iter(range(0, inputs.count, step))
    has_place = False

    async def work(number: int) -> None:
        nonlocal has_place
        engine = served.engine
        # While the queue is full, only the first of these tasks goes on.
        while number == 0 or not engine.is_full:
            if (first := next(starts, None)) is None:
                return
            job = inputs.job(first, min(first + step, inputs.count), None, deadline)
            part, has_place = has_place, True
            samples[first : first + job.count] = await engine.run(job, part=part)

    served.users += 1
    tasks = [asyncio.ensure_future(work(number)) for number in range(2 * app.settings.workers)]
    try:
        await asyncio.gather(*tasks)
        return await asyncio.get_running_loop().run_in_executor(None, respond, samples)
    finally:
        served.users -= 1
        for task in tasks:
            task.cancel()
