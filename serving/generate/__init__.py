"""`/v1/generate`: samples as files of their kind, numbers, a grid, a stream, or by tokens."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from serving.engine import SampleJob
from serving.generate import body, films, texts
from serving.generate.batches import gather, stream
from serving.generate.fields import FIELDS, from_query
from serving.generate.request import GenerateRequest
from serving.http_types import JSON, Request, Response
from serving.limits import Settings

__all__ = ["FIELDS", "GenerateRequest", "from_query", "start"]

_NO_FILES: Mapping[str, np.ndarray] = {}
# Few threads: a compressed file of some KiB may unpack to hundreds of MiB.
_DECODERS = ThreadPoolExecutor(2, "decode")


def start(app: Any, request: Request) -> Any:
    """Handles `/v1/generate`.

    Returns:
        A response, a job that results in one, or a coroutine that returns one.

    Raises:
        UsageError: a field that is not allowed.
    """
    if request.method != "POST":
        return _answer(app, request, from_query(request.query))
    if request.headers.get(b"content-type") != JSON and body.is_file(app, request):
        return _answer_files(app, request, body.FormFields(request))
    return _answer(app, request, body.read_json(request))


async def _answer_files(app: Any, request: Request, form: body.FormFields) -> Response:
    """Returns the response to a request with files; decodes them in a thread."""
    fields = form.fields
    served = request.served = app.find(fields.get("model"), fields.get("version"))
    loop = asyncio.get_running_loop()
    files = await loop.run_in_executor(_DECODERS, form.decode, served.bundle.inputs)
    outcome = _answer(app, request, fields, files)
    if isinstance(outcome, SampleJob):
        return await served.engine.run(outcome)
    return outcome if isinstance(outcome, Response) else await outcome


def _answer(
    app: Any,
    request: Request,
    fields: dict[str, Any],
    files: Mapping[str, np.ndarray] = _NO_FILES,
) -> Any:
    """Returns the outcome of a request, as `start` does, from its fields and decoded files."""
    served = request.served = app.find(fields.get("model"), fields.get("version"))
    if fields.get("frames") is not None:
        return films.start(app, request, fields, files)
    if texts.is_wanted(served, fields):
        return texts.start(app, request, fields, files)
    wanted = GenerateRequest(served, fields, request.start, app.settings, files)
    if request.method != "POST":
        tag = _etag(wanted, request)
        wanted.headers += _cache_headers(tag, wanted, request, app.settings)
        if tag in request.headers.get(b"if-none-match", b""):
            return Response(304, b"", JSON, wanted.headers)
    if wanted.stream:
        return stream(app, wanted)
    if wanted.count <= served.engine.max_batch:
        return wanted.job(0, wanted.count, wanted.rendering.whole)
    return gather(app, wanted)


def _etag(wanted: GenerateRequest, request: Request) -> bytes:
    digest = hashlib.sha256(wanted.served.tag + request.query).hexdigest()
    return b'"%b"' % digest[:32].encode("ascii")


def _cache_headers(
    tag: bytes, wanted: GenerateRequest, request: Request, settings: Settings
) -> bytes:
    """Returns the caching headers.

    The samples of a numbered version never change. Which version is the newest does.
    """
    control = b"no-cache"
    if wanted.served.is_numbered and b"version=" in request.query:
        scope = b"private" if settings.tokens else b"public"
        control = b"%b, max-age=31536000, immutable" % scope
    return b"etag: %b\r\ncache-control: %b\r\n" % (tag, control)
