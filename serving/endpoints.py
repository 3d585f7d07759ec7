"""Small endpoints: models, health, metrics, OPTIONS."""

from __future__ import annotations

from typing import Any

from serving.http_types import PNG, HTTPError, Request, Response, json_response


def models(app: Any, request: Request) -> Response:
    """Handles `/v1/models`."""
    found = []
    for name, served in sorted(app.repository.newest.items()):
        entry = served.describe(app.settings)
        found.append(entry | {"versions": sorted(app.repository.models[name])})
    return json_response({"models": found})


def example(
    app: Any, request: Request, name: str, number: int, version: int | None = None
) -> Response:
    """Handles `/v1/models/NAME/examples/NUMBER.png`: a picture to try a translator with."""
    served = request.served = app.find(name, version)
    if number >= len(served.examples):
        raise HTTPError(
            404,
            f"{name!r} has {len(served.examples)} examples, which are numbered from 0. "
            f"Received: number={number}",
        )
    tag = b'"%b-%d"' % (served.bundle.sha256[:32].encode("ascii"), number)
    headers = b"etag: %b\r\ncache-control: no-cache\r\n" % tag
    if tag in request.headers.get(b"if-none-match", b""):
        return Response(304, b"", PNG, headers)
    return Response(200, served.examples[number], PNG, headers)


def healthz(app: Any, request: Request) -> Response:
    """Handles `/healthz`: the process responds."""
    return Response(200, b'{"status":"ok"}')


def readyz(app: Any, request: Request) -> Response:
    """Handles `/readyz`: all models are loaded, verified and warm, and the server is not ending."""
    if app.ready:
        return Response(200, b'{"status":"ready"}')
    state = "ending" if app.draining else "loading"
    error = {"error": f"The server must be ready. Received: status={state!r}", "status": state}
    return json_response(error, 503, b"retry-after: 1\r\n")


def metrics(app: Any, request: Request) -> Response:
    """Handles `/metrics`."""
    text = app.metrics.text(app).encode("utf-8")
    return Response(200, text, b"text/plain; version=0.0.4; charset=utf-8")


def options(app: Any, request: Request, allowed: bytes) -> Response:
    """Handles OPTIONS: the methods of a path, and those allowed to other origins.

    Args:
        app: the application.
        request: the request.
        allowed: header line with the methods of the path.
    """
    headers = allowed
    origin = request.headers.get(b"origin")
    if origin is not None and app.access.allows_origin(origin):
        headers += (
            b"access-control-allow-methods: GET, POST\r\n"
            b"access-control-allow-headers: authorization, content-encoding, content-type, "
            b"x-request-id, inference-header-content-length\r\naccess-control-max-age: 600\r\n"
        )
    return Response(204, b"", headers=headers)
