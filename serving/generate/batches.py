"""Responses of `/v1/generate` that need several batches: gathered, or streamed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np

from serving.checks import count_not_finite
from serving.engine import SampleJob, even
from serving.generate.rendering import (
    LinesRendering,
    NpyRendering,
    not_finite_header,
    npy_header,
)
from serving.generate.request import GenerateRequest
from serving.http_types import LINES, NPY, Response, error_response


async def gather(app: Any, request: GenerateRequest) -> Response:
    """Returns one response with more samples than a batch holds."""
    rendering = request.rendering
    parts = [part async for part in run_batches(app, request, rendering.part)]
    # Encoding images and long lists would block the event loop.
    return await asyncio.get_running_loop().run_in_executor(None, rendering.combine, parts)


async def stream(app: Any, request: GenerateRequest) -> Response:
    """Returns a response that starts with its first batch, while later ones still run."""
    rendering = request.rendering
    parts = run_batches(app, request, rendering.part)
    try:
        first = await anext(parts)  # a failure here still gets an HTTP status
    except BaseException:
        await parts.aclose()  # type: ignore[attr-defined]
        raise
    if isinstance(rendering, NpyRendering):
        header = npy_header((request.count, *first.shape[1:]), first.dtype)
        length = len(header) + request.count * first[0].nbytes
        pieces = _pieces(header + first.tobytes(), parts, np.ndarray.tobytes)
        # Of the first batch: the headers are sent before the others exist.
        counts = count_not_finite({request.bundle.outputs[0].name: first})
        headers = request.headers + not_finite_header(counts)
        return Response(200, b"", NPY, headers, pieces, length)
    media_type = LINES
    if isinstance(rendering, LinesRendering):
        media_type = rendering.media_type
        if not rendering.lines.is_json:  # no line can say that the stream is over or has failed
            pieces = _pieces(_joined(first), parts, _joined)
            return Response(200, b"", media_type, request.headers, pieces)
    return Response(200, b"", media_type, request.headers, _lines(app, request, first, parts))


async def run_batches(
    app: Any, request: GenerateRequest, encode: Callable[[SampleJob, list[np.ndarray]], Any]
) -> AsyncIterator[Any]:
    """Runs a request batch by batch, a few ahead of the reader; yields the parts in order."""
    served = request.served
    engine = served.engine
    step = even(request.count, engine.max_batch)
    ahead = 2 * app.settings.workers
    running: deque[asyncio.Task[Any]] = deque()
    served.users += 1
    try:
        first = 0
        while first < request.count or running:
            # While other requests wait, at most one batch of this one is queued.
            while first < request.count and len(running) < (1 if engine.is_full else ahead):
                if request.stream:
                    request.deadline = app.now() + request.timeout
                job = request.job(first, min(first + step, request.count), encode)
                task = asyncio.ensure_future(engine.run(job, part=first > 0))
                running.append(task)
                if first == 0:
                    # The queue may refuse the first batch; then no others are submitted.
                    await asyncio.sleep(0)
                    if task.done() and task.exception():
                        break
                first += step
            yield await running.popleft()
    finally:
        served.users -= 1
        for task in running:
            task.cancel()


async def _pieces(
    first: bytes, parts: AsyncIterator[Any], encode: Callable[[Any], bytes]
) -> AsyncIterator[bytes]:
    try:
        yield first
        async for part in parts:
            yield encode(part)
    finally:
        await parts.aclose()  # type: ignore[attr-defined]


def _joined(lines: list[bytes]) -> bytes:
    return b"\n".join(lines) + b"\n"


async def _lines(
    app: Any, request: GenerateRequest, first: list[bytes], parts: AsyncIterator[Any]
) -> AsyncIterator[bytes]:
    try:
        yield _joined(first)
        async for part in parts:
            yield _joined(part)
        yield b'{"done":%d}\n' % request.count
    except Exception as error:
        status, message, _ = app.explain(error)
        yield error_response(status, message).body + b"\n"
    finally:
        await parts.aclose()  # type: ignore[attr-defined]
