"""`/v1/generate`: samples from seeds as images, numbers, a grid or a stream."""

from __future__ import annotations

import hashlib
from typing import Any

from serving.generate.batches import gather, stream
from serving.generate.fields import FIELDS, FORMATS, from_query, unknown_field
from serving.generate.request import GenerateRequest
from serving.http_types import JSON, HTTPError, Request, Response
from serving.limits import Settings

__all__ = ["FIELDS", "FORMATS", "GenerateRequest", "from_query", "start"]


def start(app: Any, request: Request) -> Any:
    """Handles `/v1/generate`.

    Returns:
        A response, a job that results in one, or a coroutine that returns one.

    Raises:
        UsageError: a field that is not allowed.
    """
    if request.method != "POST":
        fields = from_query(request.query)
    else:
        fields = request.json()
        if type(fields) is not dict:
            raise HTTPError(400, f"The body must be an object. Received: a {type(fields).__name__}")
        if unknown := fields.keys() - FIELDS.keys():
            raise unknown_field(min(unknown))
    served = request.served = app.find(fields.get("model"), fields.get("version"))
    wanted = GenerateRequest(served, fields, request.start, app.settings)
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
    about = f"{wanted.bundle.sha256} {wanted.bundle.name} {wanted.served.version} ".encode()
    return b'"%b"' % hashlib.sha256(about + request.query).hexdigest()[:32].encode()


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
