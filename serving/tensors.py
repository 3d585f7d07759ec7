"""Tensor inputs of protocol requests: checks, jobs, and requests of several batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np

from serving.checks import check_column, check_finite, describe_sample
from serving.engine import LIGHT, SampleJob, even
from serving.errors import UsageError, short_repr
from serving.http_types import Response
from serving.inputs import Input
from serving.limits import Settings


class TensorInputs:
    """Seeds, labels and other inputs of one request.

    Args:
        served: version of the model.
        tensors: arrays by name: `seeds`, and inputs of the model.
        truncation: factor on the normal inputs, or value of the input of this name.
        settings: settings of the server.

    Raises:
        UsageError: a tensor that does not fit the model, a missing one, or too many samples.
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
        self.seeds: np.ndarray | None = None
        self.labels: np.ndarray | None = None
        inputs = served.bundle.inputs
        self._check_names(tensors)
        if truncation != 1:  # a factor on normal inputs also where they are tensors
            inputs.check_truncation(truncation, {"truncation"} & tensors.keys())
        if "seeds" in tensors:
            self.seeds = check_column("seeds", tensors["seeds"])
        arrays = {
            name: self._read(inputs.by_name[name], array)
            for name, array in tensors.items()
            if name != "seeds"
        }
        self.count = (
            max(map(len, arrays.values()), default=0) if self.seeds is None else len(self.seeds)
        )
        if not 0 < self.count <= settings.max_count:
            raise UsageError(
                f"A request takes 1 to {settings.max_count} samples. Received: {self.count}"
            )
        labels = None if inputs.classes is None else arrays.pop(inputs.classes.name, None)
        self.given: dict[str, np.ndarray] = {}
        self.sizes: dict[str, int] = {}
        if arrays or inputs.needs_arrays:
            self.given = inputs.check_given(arrays, self.count)
            self.sizes = inputs.check_sizes(self.given)
        self.values: int = served.sizes.values(self.sizes)  # of one sample
        self._check_size(settings)
        if self.seeds is None and inputs.seeded and inputs.given:
            self.seeds = np.arange(self.count, dtype=np.int64)
        self._set_labels(labels)

    def _check_names(self, tensors: dict[str, np.ndarray]) -> None:
        """Checks that the random inputs come from seeds or as tensors, one of the two."""
        bundle = self.served.bundle
        if "labels" in tensors and not bundle.num_classes and "labels" not in bundle.inputs.by_name:
            raise UsageError(
                f"Bundle {bundle.name!r} takes no labels. "
                f"Received: labels={short_repr(tensors['labels'].tolist())}"
            )
        if "seeds" in tensors:
            bundle.inputs.check_seeded("seeds", tensors["seeds"].tolist())
        drawn = bundle.inputs.drawn
        if not drawn or (bundle.inputs.given and "seeds" not in tensors):
            return
        if all(name in tensors for name in drawn) == ("seeds" in tensors):
            names = ", ".join(f"`{name}`" for name in drawn)
            raise UsageError(
                f"The inputs must be either {names} or `seeds`. "
                f"Received: {', '.join(tensors) or 'neither'}"
            )

    def _read(self, port: Input, array: np.ndarray) -> np.ndarray:
        """Returns an array in the shape and the dtype of an input."""
        if port.fill == "class":
            return check_column("labels", array, port.num_classes - 1)
        if not port.shape and array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        sizes = array.shape[1:]
        ranks = array.ndim == len(port.shape) + 1
        if not ranks or any(n not in (None, m) for n, m in zip(port.sizes, sizes, strict=True)):
            raise UsageError(
                f"`{port.name}` must have the shape [{', '.join(map(str, ('n', *port.shape)))}]. "
                f"Received: shape={list(array.shape)}"
            )
        if np.dtype(port.dtype).kind != "f":
            return array
        with np.errstate(over="ignore"):
            array = array.astype(port.dtype)
        check_finite(port.name, array)
        is_factor = "truncation" not in self.served.bundle.inputs.by_name
        if port.fill == "normal" and is_factor and self.truncation != 1:
            array = array * np.asarray(self.truncation, port.dtype)
        return array

    def _check_size(self, settings: Settings) -> None:
        if (self.count > 1 or self.sizes) and self.count * self.values > settings.max_values:
            raise UsageError(
                f"A response holds at most {settings.max_values} numbers. "
                f"Received: {self.count} samples of {self.values}"
            )

    def _set_labels(self, labels: np.ndarray | None) -> None:
        bundle = self.served.bundle
        if labels is None:
            if bundle.num_classes and self.seeds is None:
                raise UsageError(
                    f"Bundle {bundle.name!r} takes labels beside latents. Received: labels=None"
                )
            return
        self.labels = labels
        if len(labels) != self.count:
            raise UsageError(
                f"`labels` must be one for each of {self.count} samples. "
                f"Received: {len(labels)} labels"
            )

    def describe(self, row: int) -> str:
        """Describes what a sample was made from, for an error."""
        return describe_sample(row, self.seeds, self.labels, self.truncation)

    def job(
        self,
        first: int,
        last: int,
        encode: Callable[[SampleJob, list[np.ndarray]], Any] | None,
        deadline: float,
    ) -> SampleJob:
        """Returns the job that generates samples `first` to `last - 1`."""
        rows = slice(first, last)
        job = SampleJob(
            last - first,
            None if self.seeds is None else self.seeds[rows],
            {name: array[rows] for name, array in self.given.items()} if self.given else {},
            None if self.labels is None else self.labels[rows],
            self.truncation,
            encode,
            deadline,
            tuple(self.sizes.items()) if self.sizes else (),
        )
        job.is_light = job.count * self.values <= LIGHT
        job.engine = self.served.engine
        return job


async def gather(
    app: Any,
    inputs: TensorInputs,
    deadline: float,
    respond: Callable[[list[np.ndarray]], Response],
) -> Response:
    """Returns the response to a request with more samples than a batch holds.

    Args:
        app: the application.
        inputs: the checked inputs.
        deadline: on the clock of `time.monotonic`.
        respond: maps all outputs to the response; runs in a thread.
    """
    served = inputs.served
    step = even(inputs.count, served.engine.max_batch)
    outputs: list[np.ndarray] = []
    starts = iter(range(0, inputs.count, step))
    has_place = False

    async def work(number: int) -> None:
        nonlocal has_place, outputs
        engine = served.engine
        # While the queue is full, only the first of these tasks goes on.
        while number == 0 or not engine.is_full:
            if (first := next(starts, None)) is None:
                return
            job = inputs.job(first, min(first + step, inputs.count), None, deadline)
            part, has_place = has_place, True
            found = await engine.run(job, part=part)
            if not outputs:
                outputs = [np.empty((inputs.count, *x.shape[1:]), x.dtype) for x in found]
            for output, rows in zip(outputs, found, strict=True):
                output[first : first + job.count] = rows

    served.users += 1
    tasks = [asyncio.ensure_future(work(number)) for number in range(2 * app.settings.workers)]
    try:
        await asyncio.gather(*tasks)
        return await asyncio.get_running_loop().run_in_executor(None, respond, outputs)
    finally:
        served.users -= 1
        for task in tasks:
            task.cancel()
