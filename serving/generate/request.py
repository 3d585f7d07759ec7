"""The checked `/v1/generate` request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from serving.checks import check_boolean, check_integer, check_number
from serving.engine import LIGHT, SampleJob
from serving.errors import UsageError, short_repr
from serving.generate.fields import FORMATS
from serving.generate.rendering import RENDERINGS
from serving.generate.samples import read_samples
from serving.limits import Settings

_MAX_COLUMNS = 2**14


class GenerateRequest:
    """A request for samples: which ones, in which format, by when.

    Args:
        served: version of the model.
        fields: the request's fields by name; null counts as absent.
        now: arrival of the request, on the clock of `time.monotonic`.
        settings: settings of the server.

    Raises:
        UsageError: a field that is not allowed.
    """

    # Defaults, which most requests keep.
    columns: int | None = None
    metadata = True
    stream = False

    def __init__(self, served: Any, fields: dict[str, Any], now: float, settings: Settings):
        self.served = served
        self.bundle = served.bundle
        self.headers = served.headers
        self.timeout = settings.timeout
        given = {name: value for name, value in fields.items() if value is not None}
        truncation = 1.0
        if "stream" in given:
            self.stream = check_boolean("stream", given["stream"])
        if "metadata" in given:
            self.metadata = check_boolean("metadata", given["metadata"])
        if "truncation" in given:
            truncation = check_number("truncation", given["truncation"], 0, 100)
        if "columns" in given:
            self.columns = check_integer("columns", given["columns"], 1, _MAX_COLUMNS)
        if "timeout" in given:
            timeout = check_number("timeout", given["timeout"], 0.01, 86_400)
            self.timeout = min(self.timeout, timeout)
        self._set_format(given.get("format"))
        self.samples = read_samples(self.bundle, given, truncation)
        self.count = self.samples.count
        # A stream may run longer than this; each of its batches gets a deadline of its own.
        self.deadline = now + self.timeout
        if self.count > 1:
            self._check_size(settings)
        self.samples.set_labels(given.get("labels"))
        self.rendering = RENDERINGS[self.format](self)

    def _set_format(self, given: Any) -> None:
        self.format = self.served.default_format if given is None else given
        if self.format not in FORMATS:
            raise UsageError(
                f"`format` must be one of {', '.join(FORMATS)}. "
                f"Received: format={short_repr(given)}"
            )
        if self.format in ("png", "grid") and self.format not in self.served.formats:
            raise UsageError(
                f"`format` must be one of {', '.join(self.served.formats)} for "
                f"{self.bundle.name!r}, whose samples are {self.bundle.kind}. "
                f"Received: format={self.format!r}"
            )
        if self.format == "grid" and self.stream:
            raise UsageError(
                "A grid is one image and cannot be streamed. Received: format='grid', stream=True"
            )

    def _check_size(self, settings: Settings) -> None:
        limit = settings.max_stream if self.stream else settings.max_count
        if self.count > limit:
            hint = "" if self.stream else " (stream: true allows more)"
            raise UsageError(f"`count` must be at most {limit}{hint}. Received: count={self.count}")
        if self.stream:
            return
        values = self.count * self.served.sample_size
        if values > settings.max_values:
            raise UsageError(
                f"A response holds at most {settings.max_values} numbers or pixels (stream: true "
                f"allows more). Received: {self.count} samples of {self.served.sample_size}"
            )
        if self.format == "grid" and self.bundle.kind == "image":
            from serving.pictures import check_grid

            check_grid(self.count, self.bundle.shape, self.columns)

    def job(
        self, first: int, last: int, encode: Callable[[SampleJob, np.ndarray], Any]
    ) -> SampleJob:
        """Returns the job that generates samples `first` to `last - 1` and encodes them."""
        job = self.samples.job(first, last)
        job.encode = encode
        job.deadline = self.deadline
        job.context = first
        is_small = job.count * self.served.sample_size <= LIGHT
        job.is_light = self.rendering.is_light and is_small
        job.engine = self.served.engine
        return job
