"""Chunks of a sound, run in the model's queue and delivered in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.vocoding import Chunk, Clip

if TYPE_CHECKING:
    from serving.vocode.request import VocodeRequest

_AHEAD = 2  # chunks of a stream that run or wait while one is sent


async def run_parts(
    wanted: VocodeRequest, clip: Clip, frames: int, threads: Executor, ahead: int = _AHEAD
) -> AsyncGenerator[np.ndarray, None]:
    """Yields the sound of a clip in parts, in order, each `(time,)`.

    Args:
        wanted: the request.
        clip: the clip.
        frames: frames of a part.
        threads: those that compute spectrograms.
        ahead: most parts that run or wait.
    """
    engine, loop = wanted.served.engine, asyncio.get_running_loop()
    running: deque[asyncio.Task[Any]] = deque()
    try:
        for number, chunk in enumerate(clip.chunks(frames)):
            # While other requests wait, at most one chunk of this one is queued.
            while running and len(running) >= (1 if engine.is_full else ahead):
                yield await running.popleft()
            array = await loop.run_in_executor(threads, clip.input_of, chunk)
            job = wanted.job(array, _cropping(clip, chunk))
            running.append(asyncio.ensure_future(engine.run(job, part=number > 0)))
            if number == 0:  # the queue may refuse it; and the first sound waits for no other chunk
                yield await running.popleft()
        while running:
            yield await running.popleft()
    finally:
        for task in running:
            task.cancel()
        # Canceled runs leave the queue before the model counts as unused.
        await asyncio.gather(*running, return_exceptions=True)


def _cropping(clip: Clip, chunk: Chunk) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function that cuts a chunk's part of the answer from its output."""
    return lambda output: clip.part_of(chunk, output).copy()  # not a view of a whole batch
