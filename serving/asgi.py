"""ASGI adapter: runs the application in uvicorn, Ray Serve and other ASGI servers.

Reference:
    https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from serving.engine import SampleJob
from serving.http_types import Request, Response, error_response

if TYPE_CHECKING:
    from serving.app import App


async def run(app: App, scope: Any, receive: Any, send: Any) -> None:
    """Answers one HTTP request, or runs the lifespan protocol."""
    if scope["type"] == "lifespan":
        await _run_lifespan(app, receive, send)
    elif scope["type"] == "http":
        if app.loop is None:  # some servers mount applications without lifespan events
            app.start(asyncio.get_running_loop())
        await _run_http(app, scope, receive, send)
    else:
        raise RuntimeError(f"unknown connection type: {scope['type']}")


async def _run_lifespan(app: App, receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            app.start(asyncio.get_running_loop())
            await send({"type": "lifespan.startup.complete"})
        else:
            app.close()
            await send({"type": "lifespan.shutdown.complete"})
            return


async def _run_http(app: App, scope: Any, receive: Any, send: Any) -> None:
    client = scope.get("client")
    request = Request(
        scope["method"],
        scope["path"].removeprefix(scope.get("root_path") or "") or "/",
        scope.get("query_string", b""),
        dict(scope["headers"]),
        b"",
        client[0] if client else "",
    )
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        if len(body) > app.settings.max_body:
            app.begin(request)
            await _send(app, request, error_response(413, app.too_large(len(body))), send)
            return
        if not message.get("more_body"):
            break
    request.body = bytes(body)
    outcome = app.run(request)
    disconnect = asyncio.ensure_future(receive())
    try:
        if not isinstance(outcome, Response):
            work = asyncio.ensure_future(_finish(app, request, outcome))
            if not await _ends(work, disconnect):
                app.leave(request, 499)
                return
            outcome = work.result()
        # A server may drop what is sent to a client that has disconnected, without an error.
        sending = asyncio.ensure_future(_send(app, request, outcome, send))
        if outcome.stream is None or await _ends(sending, disconnect):
            await sending
    finally:
        disconnect.cancel()


async def _ends(task: asyncio.Task[Any], disconnect: asyncio.Task[Any]) -> bool:
    """Waits for a task; returns false if it was canceled, because the client disconnected first."""
    try:
        await asyncio.wait((task, disconnect), return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = task.done()
        if not ended:
            task.cancel()
            await asyncio.wait((task,))
    return ended


async def _finish(app: App, request: Request, outcome: Any) -> Response:
    if isinstance(outcome, SampleJob):
        return await app.settle_later(request, outcome.engine.run(outcome))  # type: ignore
    return await app.settle_later(request, outcome)


async def _send(app: App, request: Request, response: Response, send: Any) -> None:
    status = response.status
    try:
        lines = app.headers_of(request, response).split(b"\r\n")[:-1]
        headers = [(name, value) for name, _, value in (x.partition(b": ") for x in lines)]
        length = len(response.body) if response.stream is None else response.length
        if length is not None and status not in (204, 304):
            headers.append((b"content-length", b"%d" % length))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        no_body = request.method == "HEAD" or status in (204, 304)
        if response.stream is not None and not no_body:
            async for piece in response.stream:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        body = b"" if no_body else response.body
        await send({"type": "http.response.body", "body": body})
    except BaseException:
        status = 499
        raise
    finally:
        if response.stream is not None:
            await response.stream.aclose()  # type: ignore[attr-defined]
        app.leave(request, status)
