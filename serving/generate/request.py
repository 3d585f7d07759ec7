"""The checked `/v1/generate` request."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from serving import extras, kinds
from serving.animations import MAX_RATE
from serving.checks import check_boolean, check_integer, check_number
from serving.engine import LIGHT, SampleJob
from serving.errors import UsageError, short_repr
from serving.generate.rendering import (
    COMMON_RENDERINGS,
    AnimationRendering,
    FileRendering,
    LinesRendering,
    Rendering,
)
from serving.generate.samples import read_samples
from serving.inputs import Inputs, array_from_json
from serving.limits import Settings

_MAX_COLUMNS = 2**14
_NO_FILES: Mapping[str, np.ndarray] = {}


class GenerateRequest:
    """A request for samples: which ones, in which format, by when.

    Args:
        served: version of the model.
        fields: the request's fields by name; null counts as absent.
        now: arrival of the request, on the clock of `time.monotonic`.
        settings: settings of the server.
        files: arrays `(batch, ...)` of the given inputs that came as files, by name.

    Raises:
        UsageError: a field that is not allowed.
    """

    # Defaults, which most requests keep.
    columns: int | None = None
    frame_rate = 0.0  # frames/s of an animation; 0 for none
    metadata = True
    stream = False

    def __init__(
        self,
        served: Any,
        fields: dict[str, Any],
        now: float,
        settings: Settings,
        files: Mapping[str, np.ndarray] = _NO_FILES,
    ):
        self.served = served
        self.bundle = served.bundle
        self.headers = served.headers
        given = fields
        if None in fields.values():
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
        self.timeout = settings.timeout_of(given)
        if "frame_rate" in given:
            self.frame_rate = check_number("frame_rate", given["frame_rate"], 1, MAX_RATE)
        self.rendering = self._read_format(given.get("format"))
        inputs, arrays, most = self.bundle.inputs, files, 1
        if "inputs" in given:
            arrays = _read_arrays(inputs, given["inputs"], files)
        if arrays:
            most = max(map(len, arrays.values()))
        if truncation != 1:
            inputs.check_truncation(truncation, arrays)
        self.samples = read_samples(self.bundle, given, truncation, most)
        self.count = self.samples.count
        # A stream may run longer than this; each of its batches gets a deadline of its own.
        self.deadline = now + self.timeout
        if self.count > 1:
            self._check_count(settings)
        if arrays or inputs.needs_arrays:
            self.samples.set_inputs(arrays)
        self.values = served.sizes.values(self.samples.sizes)  # of one sample
        if self.count > 1 or self.samples.sizes:
            self._check_size(settings)
        self.samples.set_labels(given.get("labels"))

    def _read_format(self, given: Any) -> Rendering:
        """Returns the rendering of the format that the request names."""
        served = self.served
        formats, default = served.formats, served.default_format
        if self.frame_rate:
            formats = served.animations
            if not formats:
                raise UsageError(
                    f"An animation shows samples of kind {' or '.join(kinds.animated())}. "
                    f"Received: frame_rate={self.frame_rate:g} for {self.bundle.name!r} of kind "
                    f"{self.bundle.kind!r}"
                )
            default = formats[0]
        self.format = default if given is None else given
        if type(self.format) is not str or self.format not in formats:
            self._check_installed()
            what = "an animation of " if self.frame_rate else ""
            raise UsageError(
                f"`format` must be one of {', '.join(formats)} for {what}"
                f"{self.bundle.name!r}, whose samples are {self.bundle.kind}. "
                f"Received: format={short_repr(given)}"
            )
        common = COMMON_RENDERINGS.get(self.format, FileRendering)
        if self.format in served.line_formats:
            common = LinesRendering
        rendering = AnimationRendering(self) if self.frame_rate else common(self)
        if self.columns is not None and (self.frame_rate or self.format != "grid"):
            raise UsageError(
                "`columns` needs `format` grid. "
                f"Received: columns={self.columns}, format={self.format!r}"
            )
        if self.stream and rendering.whole_only:
            raise UsageError(
                f"{rendering.whole_only} and cannot be streamed. "
                f"Received: format={self.format!r}, stream=True"
            )
        return rendering

    def _check_installed(self) -> None:
        """Refuses a format of the kind whose package is not installed, and names its extra."""
        form = self.served.kind.all_formats().get(str(self.format))
        if form is not None and not self.frame_rate:
            extras.check(form.name, form.module, form.extra)

    def _check_count(self, settings: Settings) -> None:
        limit = settings.max_stream if self.stream else settings.max_count
        if self.count > limit:
            hint = "" if self.stream else self._hint
            raise UsageError(f"`count` must be at most {limit}{hint}. Received: count={self.count}")

    def _check_size(self, settings: Settings) -> None:
        count, values = 1 if self.stream else self.count, self.values
        shape = self.served.sizes.shape(self.samples.sizes)
        if self.frame_rate:
            values = max(values, math.prod(self.served.kind.sheet_size(1, shape)))
        if count * values > settings.max_values and (count > 1 or self.samples.sizes):
            raise UsageError(
                f"A response holds at most {settings.max_values} numbers or pixels{self._hint}. "
                f"Received: {count} samples of {values}"
            )
        if self.format == "grid":
            self.served.kind.check_sheet(self.count, shape, self.columns)

    @property
    def _hint(self) -> str:
        return "" if self.rendering.whole_only else " (stream: true allows more)"

    def job(
        self, first: int, last: int, encode: Callable[[SampleJob, list[np.ndarray]], Any]
    ) -> SampleJob:
        """Returns the job that generates samples `first` to `last - 1` and encodes them."""
        job = self.samples.job(first, last)
        job.encode = encode
        job.deadline = self.deadline
        job.context = first
        is_small = job.count * self.values <= LIGHT
        job.is_light = self.rendering.is_light and is_small
        job.engine = self.served.engine
        return job


def _read_arrays(
    inputs: Inputs, given: Any, files: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns the arrays of the field `inputs`, and those that came as files."""
    if type(given) is not dict:
        raise UsageError(
            f"`inputs` must be an object of values by input. Received: inputs={short_repr(given)}"
        )
    arrays = dict(files)
    for name, value in given.items():
        if name in files:
            raise UsageError(f"An input may be given once. Received: {short_repr(name)} twice")
        port = inputs.by_name.get(name)
        # `check_given` refuses the unknown names.
        arrays[name] = np.empty(1) if port is None else array_from_json(port, value)
    return arrays
