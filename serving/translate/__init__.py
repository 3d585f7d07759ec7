"""`/v1/translate`: a picture of any size to the picture that a translator makes of it.

A picture is decoded and encoded in threads beside the event loop. Its tiles are jobs of the
model's queue like the samples of any other request, a few at a time: they share batches with those
of other requests, and no large picture keeps the others waiting.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from serving.http_types import Request, Response
from serving.picture_requests import find, read
from serving.translate.fields import FIELDS
from serving.translate.request import TranslateRequest
from serving.translation import Tile, Translation
from serving.turns import in_turn

__all__ = ["FIELDS", "start"]

Use = Callable[[np.ndarray], Any]  # of an output, in the worker

_SMALL = 2**18  # pixels of an answer that is encoded in the worker, sooner than in a thread
# Few threads: at the default limit a decoded picture takes 200 MiB with its translation, and
# 500 MiB while it is encoded.
_THREADS = ThreadPoolExecutor(2, "pictures")


def start(app: Any, request: Request) -> Any:
    """Handles `/v1/translate`; returns a coroutine that returns the response.

    Raises:
        UsageError: a field that is not allowed.
    """
    content, fields = read(request, FIELDS)
    none = "none, since the server has no translator"
    served = request.served = find(app, fields, lambda each: each.translation is not None, none)
    return _answer(app, TranslateRequest(served, fields, request, app.settings), content)


async def _answer(app: Any, wanted: TranslateRequest, content: bytes) -> Response:
    """Returns the response with the translated picture."""
    served, loop = wanted.served, asyncio.get_running_loop()
    served.users += 1
    try:
        async with in_turn(app, wanted.deadline):
            found, first = await loop.run_in_executor(_THREADS, _begin, wanted, content)
            if len(found.plan.tiles) == 1 and math.prod(found.plan.size) <= _SMALL:
                return await served.engine.run(wanted.job(first, _ending(wanted, found)))
            await _run(app, wanted, found, first)
            return await loop.run_in_executor(_THREADS, _finish, wanted, found)
    finally:
        served.users -= 1


def _begin(wanted: TranslateRequest, content: bytes) -> tuple[Translation, np.ndarray]:
    """Decodes a picture; returns its way through the network, and the input of the first tile."""
    found = wanted.read(content)
    return found, found.input_of(found.plan.tiles[0])


def _finish(wanted: TranslateRequest, found: Translation) -> Response:
    return wanted.respond(found.finish())


def _ending(wanted: TranslateRequest, found: Translation) -> Use:
    """Returns the function that makes the response from the output of the only tile."""

    def respond(output: np.ndarray) -> Response:
        found.place(found.plan.tiles[0], output)
        return _finish(wanted, found)

    return respond


def _placing(found: Translation, tile: Tile) -> Use:
    """Returns the function that writes the output of a tile to its place in the answer."""
    return lambda output: found.place(tile, output)


async def _run(app: Any, wanted: TranslateRequest, found: Translation, first: np.ndarray) -> None:
    """Runs the tiles of a picture, a few ahead of the one that is waited for."""
    engine, loop = wanted.served.engine, asyncio.get_running_loop()
    ahead = 2 * app.settings.workers
    running: deque[asyncio.Task[Any]] = deque()
    try:
        for number, tile in enumerate(found.plan.tiles):
            # While other requests wait, at most one tile of this one is queued.
            while running and (
                running[0].done() or len(running) >= (1 if engine.is_full else ahead)
            ):
                await running.popleft()
            array = first
            if number:
                array = await loop.run_in_executor(_THREADS, found.input_of, tile)
            job = wanted.job(array, _placing(found, tile))
            running.append(asyncio.ensure_future(engine.run(job, part=number > 0)))
            await asyncio.sleep(0)  # the queue may refuse the first tile; then no others are cut
        while running:
            await running.popleft()
    finally:
        for task in running:
            task.cancel()
