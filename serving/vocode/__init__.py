"""`/v1/vocode`: a sound or a log-mel spectrogram to the sound that a vocoder makes of it.

A sound is decoded and its spectrogram computed in threads beside the event loop. Its chunks are
jobs of the model's queue like the samples of any other request, a few at a time: they share batches
with those of other requests, and no long sound keeps the others waiting. A streamed answer is sent
chunk by chunk; a client that disconnects ends the work.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from serving import stream_slots
from serving.http_types import Request, Response
from serving.picture_requests import SOUNDS, find, read
from serving.started_streams import Started
from serving.turns import in_turn
from serving.vocode.fields import FIELDS
from serving.vocode.parts import run_parts
from serving.vocode.request import VocodeRequest
from serving.vocoding import MAX_FRAMES, Clip

__all__ = ["FIELDS", "start"]

# Two pools, so that long files do not delay the chunks of streams. The first is small, which bounds
# the memory of decoded files.
_FILES = ThreadPoolExecutor(2, "sound-files")
_CHUNKS = ThreadPoolExecutor(2, "sound-chunks")


def start(app: Any, request: Request) -> Any:
    """Handles `/v1/vocode`; returns a coroutine that returns the response.

    Raises:
        UsageError: a field that is not allowed.
    """
    content, fields = read(request, FIELDS, SOUNDS)
    none = "none, since the server has no vocoder"
    served = request.served = find(app, fields, lambda each: each.vocoder is not None, none)
    request.body = b""  # a stream may take long, and needs the sound only
    wanted = VocodeRequest(served, fields, request, app.settings)
    return _stream(app, wanted, content) if wanted.is_streamed else _answer(app, wanted, content)


async def _answer(app: Any, wanted: VocodeRequest, content: bytes) -> Response:
    """Returns the response with the whole sound."""
    served, loop = wanted.served, asyncio.get_running_loop()
    served.users += 1
    try:
        async with in_turn(app, wanted.deadline):
            clip, notes = await loop.run_in_executor(_FILES, wanted.read, content)
            if clip.frames <= MAX_FRAMES or clip.vocoder.context is None:
                return await _run_once(wanted, clip, notes)
            answer, at = np.empty(clip.length, np.float32), 0
            ahead = 2 * app.settings.workers
            async for part in run_parts(wanted, clip, MAX_FRAMES, _CHUNKS, ahead):
                answer[at : at + len(part)] = part
                at += len(part)
            return await loop.run_in_executor(_FILES, wanted.respond, answer, notes)
    finally:
        served.users -= 1


async def _run_once(wanted: VocodeRequest, clip: Clip, notes: tuple[str, ...]) -> Response:
    """Returns the response of one run, encoded by the worker that has run it."""
    loop = asyncio.get_running_loop()
    chunk = next(clip.chunks(None))
    array = await loop.run_in_executor(_FILES, clip.input_of, chunk)  # may be a whole clip

    def respond(output: np.ndarray) -> Response:
        return wanted.respond(clip.part_of(chunk, output), notes)

    return await wanted.served.engine.run(wanted.job(array, respond))


async def _stream(app: Any, wanted: VocodeRequest, content: bytes) -> Response:
    """Returns a response that starts with its first chunk, while later ones are not computed."""
    served, loop = wanted.served, asyncio.get_running_loop()
    ended = stream_slots.take(app, served, "sound")
    try:
        async with in_turn(app, wanted.deadline):
            clip, notes = await loop.run_in_executor(_FILES, wanted.read, content)
        pieces = run_parts(wanted, clip, wanted.chunk, _CHUNKS)
        started = await Started.start(pieces, wanted.header(), wanted.encode, ended)
    except BaseException:
        ended()
        raise
    return wanted.respond_streamed(started, notes)
