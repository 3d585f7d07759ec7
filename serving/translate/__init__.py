"""`/v1/translate`: a picture of any size to the picture that a translator makes of it.

A picture is decoded and encoded in threads beside the event loop. Its tiles are jobs of the
model's queue like the samples of any other request, a few at a time: they share batches with those
of other requests, and no large picture keeps the others waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serving.engine import Expired
from serving.http_types import HTTPError, Request, Response
from serving.loading import Served
from serving.translate.fields import FIELDS, read
from serving.translate.request import TranslateRequest
from serving.translation import Tile, Translation

__all__ = ["FIELDS", "start"]

# Few threads: a decoded picture takes 100 MiB, with its translation, at the default limit.
_THREADS = ThreadPoolExecutor(2, "pictures")


def start(app: Any, request: Request) -> Any:
    """Handles `/v1/translate`; returns a coroutine that returns the response.

    Raises:
        UsageError: a field that is not allowed.
    """
    content, fields = read(request)
    served = request.served = _find(app, fields.get("model"), fields.get("version"))
    return _answer(app, TranslateRequest(served, fields, request, app.settings), content)


def _find(app: Any, name: Any, version: Any) -> Served:
    """Returns the version of a translator that a request names, or the only translator.

    Raises:
        HTTPError: 400 for a model that is no translator, else as `App.find`.
    """
    newest = app.repository.newest
    translators = sorted(x for x, served in newest.items() if served.translation is not None)
    if name is None and len(translators) == 1:
        name = translators[0]
    served = None if name is None and newest else app.find(name, version)
    if served is None or served.translation is None:
        valid = ", ".join(translators) or "none, since no model here is a translator"
        raise HTTPError(400, f"`model` must be one of {valid}. Received: model={name!r:.80}")
    return served


async def _answer(app: Any, wanted: TranslateRequest, content: bytes) -> Response:
    """Returns the response with the translated picture."""
    served, loop = wanted.served, asyncio.get_running_loop()
    served.users += 1
    try:
        try:
            async with asyncio.timeout(max(0.0, wanted.deadline - app.now())):
                await app.pictures.acquire()
        except TimeoutError:
            raise Expired from None
        try:
            found = await loop.run_in_executor(_THREADS, wanted.read, content)
            await _run(app, wanted, found)
            return await loop.run_in_executor(_THREADS, _finish, wanted, found)
        finally:
            app.pictures.release()
    finally:
        served.users -= 1


def _finish(wanted: TranslateRequest, found: Translation) -> Response:
    return wanted.respond(found.finish())


async def _run(app: Any, wanted: TranslateRequest, found: Translation) -> None:
    """Runs the tiles of a picture, a few ahead of the one that is waited for."""
    engine, loop = wanted.served.engine, asyncio.get_running_loop()
    ahead = 2 * app.settings.workers
    inputs = found.inputs()
    running: deque[asyncio.Task[Any]] = deque()
    try:
        for number, tile in enumerate(found.plan.tiles):
            # While other requests wait, at most one tile of this one is queued.
            while running and (
                running[0].done() or len(running) >= (1 if engine.is_full else ahead)
            ):
                await running.popleft()
            array = await loop.run_in_executor(_THREADS, next, inputs)
            job = wanted.job(array, _place(found, tile))
            running.append(asyncio.ensure_future(engine.run(job, part=number > 0)))
            await asyncio.sleep(0)  # the queue may refuse the first tile; then no others are cut
        while running:
            await running.popleft()
    finally:
        for task in running:
            task.cancel()


def _place(found: Translation, tile: Tile) -> Any:
    """Returns the function that writes the output of a tile to its place in the answer."""
    return lambda output: found.place(tile, output)
