"""Rendering of samples as the response of `/v1/generate`: files, arrays, JSON, a grid.

Runs in the engine's workers, except for `combine`, which a thread runs for long responses. The
file formats are those of the kind of the first output; the formats here are those of every kind.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from serving import animations
from serving.checks import check_samples, count_not_finite, is_finite
from serving.engine import SampleJob
from serving.http_types import JSON, NOT_FINITE, NPY, NPZ, PNG, Response, header_lines
from serving.kinds import Lines
from serving.provenance import provenance

if TYPE_CHECKING:
    from serving.generate.request import GenerateRequest


class Rendering:
    """A format of responses.

    Args:
        request: the checked request.
    """

    is_light = False  # True if encoding takes negligible time beside a fast model
    whole_only = ""  # why the format cannot be streamed, as the start of an error

    def __init__(self, request: GenerateRequest):
        self.request = request

    def whole(self, job: SampleJob, outputs: list[np.ndarray]) -> Response:
        """Returns the whole response, of one batch."""
        return self.combine([self.part(job, outputs)])

    def part(self, job: SampleJob, outputs: list[np.ndarray]) -> Any:
        """Encodes a batch as a part of a longer response."""
        raise NotImplementedError

    def combine(self, parts: list[Any]) -> Response:
        """Returns the whole response, of several batches."""
        raise NotImplementedError

    def _headers_of_one(self) -> bytes:
        """Returns the headers of a single sample, with its seed if it has one."""
        request = self.request
        seed = request.samples.first_seed
        if seed is None:
            return request.headers
        return b"%bx-seed: %d\r\n" % (request.headers, seed)

    def _check(self, first: int, outputs: Sequence[np.ndarray]) -> None:
        """Checks that outputs are finite, for a format without other numbers.

        Args:
            first: number of the first sample.
            outputs: those that the response shows.

        Raises:
            NotFiniteError: a value that is not.
        """
        request = self.request

        def describe(row: int) -> str:
            facts = request.samples.facts(first + row)
            return ", ".join(f"{k}={v}" for k, v in facts.items()) or f"sample {first + row}"

        named = {p.name: x for p, x in zip(request.bundle.outputs, outputs, strict=False)}
        check_samples(named, request.format, "npy and npz have NaN and infinity", describe)

    def _texts(self, facts: dict[str, Any]) -> dict[str, str]:
        """Returns the provenance that a file keeps, nothing if the request wants none."""
        bundle = self.request.bundle
        return provenance(bundle.name, bundle.sha256, **facts) if self.request.metadata else {}


class NpyRendering(Rendering):
    """One `.npy` file of the first output."""

    is_light = True

    @property
    def _name(self) -> str:
        return self.request.bundle.outputs[0].name

    def whole(self, job: SampleJob, outputs: list[np.ndarray]) -> Response:
        """Returns the whole response, of one batch."""
        request, samples = self.request, outputs[0]
        headers = self._headers_of_one() if request.count == 1 else request.headers
        header = npy_header(samples.shape, samples.dtype)
        if not is_finite(samples):
            headers += not_finite_header(count_not_finite({self._name: samples}))
        return Response(200, header + samples.tobytes(), NPY, headers)

    def part(self, job: SampleJob, outputs: list[np.ndarray]) -> np.ndarray:
        """Returns the numbers of a batch."""
        return outputs[0]

    def combine(self, parts: list[np.ndarray]) -> Response:
        """Returns the whole response, of several batches."""
        request = self.request
        header = npy_header((request.count, *parts[0].shape[1:]), parts[0].dtype)
        counts = [count_not_finite({self._name: part}).get(self._name, 0) for part in parts]
        headers = request.headers + not_finite_header({self._name: sum(counts)})
        return Response(200, b"".join([header, *map(np.ndarray.tobytes, parts)]), NPY, headers)


class NpzRendering(Rendering):
    """One `.npz` file of all outputs, the seeds and the labels."""

    whole_only = "A .npz file is one archive"

    def part(self, job: SampleJob, outputs: list[np.ndarray]) -> list[np.ndarray]:
        """Returns the outputs of a batch."""
        return outputs

    def combine(self, parts: list[list[np.ndarray]]) -> Response:
        """Returns the whole response, of several batches."""
        request = self.request
        names = [port.name for port in request.bundle.outputs]
        found = dict(zip(names, map(np.concatenate, zip(*parts, strict=True)), strict=True))
        headers = request.headers + not_finite_header(count_not_finite(found))
        samples = request.samples
        if samples.first_seed is not None:
            found["seeds"] = samples.seeds(0, request.count)
        if (labels := samples.labels(0, request.count)) is not None:
            found["labels"] = labels
        buffer = io.BytesIO()
        np.savez(buffer, **found)  # type: ignore[arg-type]
        return Response(200, buffer.getvalue(), NPZ, headers)


class JsonRendering(Rendering):
    """A JSON object that lists the samples, each with its values."""

    is_light = True

    def part(self, job: SampleJob, outputs: list[np.ndarray]) -> list[bytes]:
        """Encodes each sample as a JSON object."""
        first = job.context
        descriptions = self.request.samples.descriptions(first, first + len(outputs[0]))
        self._add_contents(descriptions, first, outputs)
        return [orjson.dumps(x, option=orjson.OPT_SERIALIZE_NUMPY) for x in descriptions]

    def combine(self, parts: list[list[bytes]]) -> Response:
        """Returns the whole response, of several batches."""
        request = self.request
        about = {
            "model": request.bundle.name,
            "version": request.served.version,
            "sha256": request.bundle.sha256,
        }
        samples = b",".join(x for part in parts for x in part)
        body = orjson.dumps(about)[:-1] + b',"samples":[' + samples + b"]}"
        return Response(200, body, JSON, request.headers)

    def _add_contents(
        self, samples: list[dict[str, Any]], first: int, outputs: list[np.ndarray]
    ) -> None:
        """Adds what was generated to the descriptions of samples."""
        self._check(first, outputs)
        for fields, values in zip(samples, json_ready(outputs[0]), strict=True):
            fields["values"] = values
        if len(outputs) > 1:
            outputs = [json_ready(output) for output in outputs]
            names = [port.name for port in self.request.bundle.outputs]
            for fields, *values in zip(samples, *outputs, strict=True):
                fields["outputs"] = dict(zip(names, values, strict=True))


class FileRendering(JsonRendering):
    """A file of the first output's kind, or a JSON object that lists several in base64."""

    is_light = False

    def whole(self, job: SampleJob, outputs: list[np.ndarray]) -> Response:
        """Returns the whole response, of one batch."""
        request = self.request
        if request.count > 1:
            return super().whole(job, outputs)
        content = self._files(0, outputs[0])[0]
        about = request.served.kind.headers(outputs[0][0], request.bundle.meta)
        headers = self._headers_of_one() + header_lines(about)
        return Response(200, content, self.media_type, headers)

    @property
    def media_type(self) -> bytes:
        """Content-Type of a file."""
        media_type = self.request.served.files[self.request.format].media_type
        if media_type.startswith("text/"):
            media_type += "; charset=utf-8"
        return media_type.encode("ascii")

    def _add_contents(
        self, samples: list[dict[str, Any]], first: int, outputs: list[np.ndarray]
    ) -> None:
        files = self._files(first, outputs[0])
        for fields, content in zip(samples, files, strict=True):
            fields[self.request.format] = base64.b64encode(content).decode("ascii")

    def _files(self, first: int, samples: np.ndarray) -> list[bytes]:
        self._check(first, [samples])
        request = self.request
        encode, meta = request.served.files[request.format].encode, request.bundle.meta
        facts = request.samples.facts
        return [
            encode(sample, meta, self._texts(facts(number)) if request.metadata else {})
            for number, sample in enumerate(samples, first)
        ]


class LinesRendering(FileRendering):
    """A file of the first output's kind; of several samples, one line each."""

    @property
    def lines(self) -> Lines:
        """Form of the lines."""
        return self.request.served.files[self.request.format].lines

    def part(self, job: SampleJob, outputs: list[np.ndarray]) -> list[bytes]:
        """Encodes each sample as a line."""
        first = job.context
        self._check(first, outputs[:1])
        about = self.request.samples.descriptions(first, first + len(outputs[0]))
        write, meta = self.lines.write, self.request.bundle.meta
        pairs = zip(outputs[0], about, strict=True)
        return [write(sample, meta, facts) for sample, facts in pairs]

    def combine(self, parts: list[list[bytes]]) -> Response:
        """Returns the whole response, of several batches."""
        content = b"".join(line + b"\n" for part in parts for line in part)
        return Response(200, content, self.media_type, self.request.headers)


class GridRendering(Rendering):
    """One PNG file with all samples, drawn as their kind draws them."""

    whole_only = "A grid is one image"

    def part(self, job: SampleJob, outputs: list[np.ndarray]) -> np.ndarray:
        """Returns the samples."""
        self._check(job.context, outputs[:1])
        return outputs[0]

    def combine(self, parts: list[np.ndarray]) -> Response:
        """Returns the whole response, of several batches."""
        from serving.pictures import to_png

        request = self.request
        samples = parts[0] if len(parts) == 1 else np.concatenate(parts)
        picture = request.served.kind.sheet(samples, request.bundle.meta, request.columns)
        png = to_png(picture, self._texts(request.samples.facts_of_all()))
        return Response(200, png, PNG, request.headers)


class AnimationRendering(Rendering):
    """One animation whose frames are the samples, each drawn as their kind draws one."""

    whole_only = "An animation is one file"

    def part(self, job: SampleJob, outputs: list[np.ndarray]) -> np.ndarray:
        """Returns the samples."""
        self._check(job.context, outputs[:1])
        return outputs[0]

    def combine(self, parts: list[np.ndarray]) -> Response:
        """Returns the whole response, of several batches."""
        request = self.request
        frames = (sample[np.newaxis] for part in parts for sample in part)
        film = request.served.kind.film(frames, request.bundle.meta)
        form = animations.find(request.format)
        texts = self._texts(request.samples.facts_of_all())
        content = form.encode(film, request.frame_rate, texts)
        return Response(200, content, form.media_type.encode("ascii"), request.headers)


# The formats of every kind; others are file formats of the kind.
COMMON_RENDERINGS: dict[str, type[Rendering]] = {
    "npy": NpyRendering,
    "npz": NpzRendering,
    "json": JsonRendering,
    "grid": GridRendering,
}
_MAX_HEADERS = 4096
_headers: dict[tuple[Any, ...], bytes] = {}


def npy_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """Returns the header of a `.npy` file.

    Cached by shape: writing one takes longer than sending it.
    """
    if (header := _headers.get((shape, dtype.char))) is None:
        buffer = io.BytesIO()
        facts = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(buffer, facts)
        if len(_headers) > _MAX_HEADERS:
            _headers.clear()
        header = _headers[shape, dtype.char] = buffer.getvalue()
    return header


def json_ready(array: np.ndarray) -> np.ndarray:
    """Returns an array whose rows orjson can write.

    It is contiguous, and of at least 32 bits if of floats. Single integers are never of the dtype
    that numpy has beside int64 (`longlong`), which is that of onnxruntime.
    """
    if array.dtype.char == "e":  # float16
        array = array.astype(np.float32)
    if array.dtype.char == "q":
        array = array.view(np.int64)
    return np.ascontiguousarray(array)


def dumps_with_nan(content: Any) -> bytes:
    """Encodes content whose arrays hold NaN, Infinity or -Infinity, which JSON itself lacks.

    The numbers have the digits that orjson writes: the fewest that give the same value.
    """

    def to_list(array: np.ndarray) -> Any:
        if array.dtype.kind == "f":
            array = array.astype(str).astype(np.float64)
        return array.tolist()

    return json.dumps(content, default=to_list, separators=(",", ":")).encode("ascii")


def not_finite_header(counts: Mapping[str, int]) -> bytes:
    """Returns a header line of the numbers of NaN and infinite values by output, if any."""
    if not counts:
        return b""
    text = ", ".join(f"{name}={count}" for name, count in counts.items() if count)
    return b"%b: %b\r\n" % (NOT_FINITE, text.encode("utf-8")) if text else b""
