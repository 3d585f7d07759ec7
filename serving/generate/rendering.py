"""Rendering of samples as the response of `/v1/generate`: PNG, NPY, JSON, grid.

Runs in the engine's workers, except for `combine`, which a thread runs for long responses.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from serving.engine import SampleJob
from serving.http_types import BYTES, JSON, PNG, Response
from serving.provenance import provenance

if TYPE_CHECKING:
    from serving.generate.request import GenerateRequest


class Rendering:
    """A format of responses.

    Args:
        request: the checked request.
    """

    is_light = False  # True if encoding takes negligible time beside a fast model

    def __init__(self, request: GenerateRequest):
        self.request = request

    def whole(self, job: SampleJob, samples: np.ndarray) -> Response:
        """Returns the whole response, of one batch."""
        return self.combine([self.part(job, samples)])

    def part(self, job: SampleJob, samples: np.ndarray) -> Any:
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

    def _png(self, picture: np.ndarray, facts: dict[str, Any]) -> bytes:
        from serving.pictures import to_png

        bundle = self.request.bundle
        texts = provenance(bundle.name, bundle.sha256, **facts) if self.request.metadata else None
        return to_png(picture, texts)


class NpyRendering(Rendering):
    """One `.npy` file of float32 numbers."""

    is_light = True

    def whole(self, job: SampleJob, samples: np.ndarray) -> Response:
        """Returns the whole response, of one batch."""
        request = self.request
        headers = self._headers_of_one() if request.count == 1 else request.headers
        return Response(200, npy_header(samples.shape) + samples.tobytes(), BYTES, headers)

    def part(self, job: SampleJob, samples: np.ndarray) -> bytes:
        """Returns the bytes of the numbers."""
        return samples.tobytes()

    def combine(self, parts: list[bytes]) -> Response:
        """Returns the whole response, of several batches."""
        return Response(200, self.header() + b"".join(parts), BYTES, self.request.headers)

    def header(self) -> bytes:
        """Returns the header of the file with all samples."""
        return npy_header((self.request.count, *self.request.bundle.shape))


class JsonRendering(Rendering):
    """A JSON object that lists the samples, each with its values."""

    is_light = True
    _key = "values"  # field that holds a sample

    def part(self, job: SampleJob, samples: np.ndarray) -> list[bytes]:
        """Encodes each sample as a JSON object."""
        contents = self._contents(job.context, samples)
        key = self._key
        descriptions = self.request.samples.descriptions(job.context, job.context + len(samples))
        found = []
        for fields, content in zip(descriptions, contents, strict=True):
            fields[key] = content
            found.append(orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY))
        return found

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

    def _contents(self, first: int, samples: np.ndarray) -> list[Any]:
        return [np.ascontiguousarray(sample) for sample in samples]


class PngRendering(JsonRendering):
    """A PNG file, or a JSON object that lists several in base64."""

    is_light = False
    _key = "png"

    def whole(self, job: SampleJob, samples: np.ndarray) -> Response:
        """Returns the whole response, of one batch."""
        if self.request.count > 1:
            return super().whole(job, samples)
        return Response(200, self._pngs(0, samples)[0], PNG, self._headers_of_one())

    def _contents(self, first: int, samples: np.ndarray) -> list[Any]:
        return [base64.b64encode(png).decode("ascii") for png in self._pngs(first, samples)]

    def _pngs(self, first: int, samples: np.ndarray) -> list[bytes]:
        from serving.pictures import to_uint8

        request = self.request
        pixels = to_uint8(samples, request.bundle.value_range)
        return [
            self._png(picture, request.samples.facts(number) if request.metadata else {})
            for number, picture in enumerate(pixels, first)
        ]


class GridRendering(Rendering):
    """One PNG file with all images, or a plot of all points."""

    def part(self, job: SampleJob, samples: np.ndarray) -> np.ndarray:
        """Returns the pixels of images, or the points."""
        bundle = self.request.bundle
        if bundle.kind != "image":
            return samples
        from serving.pictures import to_uint8

        return to_uint8(samples, bundle.value_range)

    def combine(self, parts: list[np.ndarray]) -> Response:
        """Returns the whole response, of several batches."""
        from serving import pictures

        request = self.request
        samples = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if request.bundle.kind == "image":
            picture = pictures.grid(samples, request.columns)
        else:
            picture = pictures.scatter(samples, request.bundle.value_range)
        png = self._png(picture, request.samples.facts_of_all())
        return Response(200, png, PNG, request.headers)


RENDERINGS: dict[str, type[Rendering]] = {
    "png": PngRendering,
    "npy": NpyRendering,
    "json": JsonRendering,
    "grid": GridRendering,
}
_MAX_HEADERS = 4096
_headers: dict[tuple[int, ...], bytes] = {}


def npy_header(shape: tuple[int, ...]) -> bytes:
    """Returns the header of a `.npy` file of float32 numbers.

    Cached by shape: writing one takes longer than sending it.
    """
    if (header := _headers.get(shape)) is None:
        buffer = io.BytesIO()
        facts = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(buffer, facts)
        if len(_headers) > _MAX_HEADERS:
            _headers.clear()
        header = _headers[shape] = buffer.getvalue()
    return header
