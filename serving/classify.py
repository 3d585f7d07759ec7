"""`/v1/classify`: a picture to the probabilities of its classes.

A small picture is decoded in the event loop, sooner than a thread would take it; a larger one in a
thread. Its input is a job of the model's queue, like the samples of any other request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from serving import uploads
from serving.checks import check_integer
from serving.classification import Classification, Classifier, Sample
from serving.engine import SampleJob
from serving.errors import TooLargeError
from serving.generate.fields import FIELDS as GENERATE_FIELDS
from serving.http_types import Request, Response, json_response
from serving.loading import Served
from serving.picture_requests import find, read
from serving.turns import in_turn

# JSON schema by field name. The OpenAPI document is generated from these.
FIELDS: dict[str, dict[str, Any]] = {
    "model": {"type": "string", "description": "Optional if the server has one classifier."},
    "version": GENERATE_FIELDS["version"],
    "top": {
        "type": "integer",
        "minimum": 1,
        "description": "Number of classes in the answer, the most probable first. Default: all.",
    },
    "timeout": GENERATE_FIELDS["timeout"],
}
_SIZE = {"type": "object", "properties": {x: {"type": "integer"} for x in ("height", "width")}}
# JSON schema of the answer.
ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["model", "version", "sha256", "classes", "novelty", "picture", "input", "notes"],
    "properties": {
        "model": {"type": "string"},
        "version": {"type": "integer"},
        "sha256": {"type": "string"},
        "classes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "name", "probability"],
                "properties": {
                    "id": {"type": "integer"},
                    "name": {"type": "string"},
                    "probability": {"type": "number", "minimum": 0, "maximum": 1},
                },
            },
        },
        "novelty": {"type": ["number", "null"]},
        "picture": _SIZE,
        "input": _SIZE,
        "notes": {"type": "array", "items": {"type": "string"}},
    },
}
_SMALL_FILE = 2**14  # bytes of a file that is decoded in the event loop
_SMALL_PICTURE = 2**15  # pixels of such a file
_FEW = 200  # classes of an answer that takes little time to encode
_THREADS = ThreadPoolExecutor(2, "classified-pictures")


def start(app: Any, request: Request) -> Any:
    """Handles `/v1/classify`; returns a job or a coroutine that results in the response.

    Raises:
        UsageError: a field that is not allowed, or a small file that is not a picture.
    """
    content, fields = read(request, FIELDS)
    none = "none, since the server has no classifier of pictures"
    served = request.served = find(app, fields, classifies_pictures, none)
    top = check_integer("top", fields["top"], 1, 2**31 - 1) if "top" in fields else None
    deadline = request.start + app.settings.timeout_of(fields)
    found: Classifier = served.classifier  # type: ignore[assignment]
    if len(content) <= _SMALL_FILE:
        try:
            sample = _read(found, content, min(_SMALL_PICTURE, app.settings.max_pixels))
        except TooLargeError:  # by its header: nothing is decoded
            pass
        else:
            return _job(served, found, sample, top, deadline)
    return _answer(app, served, content, top, deadline)


def classifies_pictures(served: Served) -> bool:
    """Checks that a model is a classifier of pictures."""
    return served.classifier is not None and served.classifier.takes_pictures


async def _answer(
    app: Any, served: Served, content: bytes, top: int | None, deadline: float
) -> Response:
    """Returns the response with the classes of the picture."""
    found: Classifier = served.classifier  # type: ignore[assignment]
    served.users += 1
    try:
        async with in_turn(app, deadline):
            sample = await asyncio.get_running_loop().run_in_executor(
                _THREADS, _read, found, content, app.settings.max_pixels
            )
            return await served.engine.run(_job(served, found, sample, top, deadline))
    finally:
        served.users -= 1


def _job(
    served: Served, found: Classifier, sample: Sample, top: int | None, deadline: float
) -> SampleJob:
    """Returns the job whose result is the response."""
    job = SampleJob(1, None, {found.source.name: sample.array}, deadline=deadline)
    job.sizes = tuple(served.bundle.inputs.check_sizes(job.given).items())
    names = [port.name for port in served.bundle.outputs]

    def encode(job: SampleJob, outputs: list[np.ndarray]) -> Response:
        by_name = dict(zip(names, outputs, strict=True))
        return _respond(served, sample, found.answer(sample, by_name), top)

    job.encode, job.engine = encode, served.engine
    job.is_light = found.count <= _FEW
    return job


def _read(found: Classifier, content: bytes, max_pixels: int) -> Sample:
    return found.from_picture(uploads.read(content, max_pixels, found.limits))


def _respond(served: Served, sample: Sample, found: Classification, top: int | None) -> Response:
    answer = {
        "model": served.bundle.name,
        "version": served.version,
        "sha256": served.bundle.sha256,
        "classes": [each._asdict() for each in found.top(top)],
        "novelty": found.novelty,
        "picture": _size_of(sample.size or sample.array.shape[1:3]),
        "input": _size_of(sample.array.shape[1:3]),
        "notes": found.notes,
    }
    return json_response(answer, headers=served.headers)


def _size_of(size: tuple[int, ...]) -> Mapping[str, int]:
    return {"height": size[0], "width": size[1]}
