"""`frames` of `/v1/generate`: one video of any length, whole or sent while it is made.

The chunks of a video are made one after the other in threads beside the event loop, each when the
one before has been sent, so that a slow reader keeps the server's memory and processor free. A
client that disconnects ends the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from serving import film_files, provenance, stream_slots
from serving.animations import MAX_RATE
from serving.checks import check_boolean, check_integer, check_number
from serving.endless import check_frames, open_film
from serving.engine import Expired
from serving.errors import UsageError, short_repr
from serving.http_types import Request, Response
from serving.limits import Settings
from serving.started_streams import Started
from serving.turns import in_turn

_THREADS = ThreadPoolExecutor(2, "films")
_ALLOWED = frozenset(
    ("model", "version", "seed", "labels", "truncation", "frames", "format", "frame_rate")
) | {"metadata", "stream", "timeout"}


class FilmRequest:
    """The checked request for a video.

    Args:
        served: version of the model.
        fields: the request's fields by name, of which null counts as absent.
        settings: settings of the server.

    Raises:
        UsageError: a field that is not allowed.
    """

    def __init__(self, served: Any, fields: Mapping[str, Any], settings: Settings):
        self.served = served
        bundle = served.bundle
        self.frames = check_frames(fields["frames"], bundle)
        if others := sorted(set(fields) - _ALLOWED):
            raise UsageError(
                f"A video of `frames` takes {', '.join(sorted(_ALLOWED))}. "
                f"Received: {others[0]}={short_repr(fields[others[0]])}"
            )
        self.is_streamed = "stream" in fields and check_boolean("stream", fields["stream"])
        self._check_length(settings)
        self.timeout = settings.timeout_of(fields)
        self.seed = check_integer("seed", fields.get("seed", 0), 0, 2**63 - 1)
        label, truncation = _one_label(fields.get("labels")), 1.0
        if "truncation" in fields:
            truncation = check_number("truncation", fields["truncation"], 0, 100)
        self.film = open_film(bundle, self.seed, self.frames, label, truncation)
        self._texts: dict[str, str] = {}
        if check_boolean("metadata", fields.get("metadata", True)):
            facts = {"seed": self.seed, "frames": self.frames}
            facts |= {} if label is None else {"label": label}
            facts |= {} if truncation == 1 else {"truncation": truncation}
            self._texts = provenance.provenance(bundle.name, bundle.sha256, **facts)
        self.writer = self._open_writer(fields)

    def _check_length(self, settings: Settings) -> None:
        if self.is_streamed:
            if self.frames > settings.max_stream:
                raise UsageError(
                    f"A stream has at most {settings.max_stream} frames. "
                    f"Received: frames={self.frames}"
                )
            return
        values = int(np.prod(self.served.video.size))
        if self.frames * values > settings.max_values:
            raise UsageError(
                f"A response holds at most {settings.max_values} numbers or pixels (stream: true "
                f"allows more). Received: {self.frames} frames of {values}"
            )

    def _open_writer(self, fields: Mapping[str, Any]) -> film_files.Writer:
        formats = film_files.available(self.is_streamed)
        form = fields.get("format", formats[0])
        if not isinstance(form, str) or form not in formats:
            what = "a streamed video" if self.is_streamed else "a video of `frames`"
            raise UsageError(
                f"`format` must be one of {', '.join(formats)} for {what}. "
                f"Received: format={short_repr(form)}"
            )
        facts, bundle = self.served.video, self.served.bundle
        rate = facts.frame_rate
        if "frame_rate" in fields:
            rate = check_number("frame_rate", fields["frame_rate"], 1, MAX_RATE)
        limits = bundle.value_range or (-1.0, 1.0)
        clip = film_files.Clip(self.frames, facts.size, rate, limits, self._texts)
        return film_files.writer(form, clip)

    def parts(self) -> Iterator[bytes]:
        """Yields the bytes of each chunk of frames, and the end of the file."""
        stream = self.served.video_stream  # opened here, in a thread, by the first request
        for frames in self.film.chunks(self.frames, stream.run):
            if content := self.writer.part(frames):  # MP4 has none for some frames
                yield content
        if content := self.writer.tail():
            yield content


def _one_label(labels: Any) -> Any:
    if isinstance(labels, list):
        if len(labels) != 1:
            raise UsageError(f"A video of `frames` has one label. Received: {len(labels)} labels")
        return labels[0]
    return labels


def start(app: Any, request: Request, fields: dict[str, Any], files: Mapping[str, Any]) -> Any:
    """Handles a request with `frames`; returns a coroutine that returns the response.

    Raises:
        UsageError: a field that is not allowed.
    """
    if files:
        raise UsageError(f"A video of `frames` takes no files. Received: {', '.join(files)}")
    given = {name: value for name, value in fields.items() if value is not None}
    wanted = FilmRequest(request.served, given, app.settings)
    return _stream(app, wanted) if wanted.is_streamed else _answer(app, wanted)


async def _answer(app: Any, wanted: FilmRequest) -> Response:
    """Returns the response with the whole video, of which few are in memory together."""
    served, loop = wanted.served, asyncio.get_running_loop()
    deadline = app.now() + wanted.timeout
    served.users += 1
    try:
        async with in_turn(app, deadline), asyncio.timeout(max(0.0, deadline - app.now())):
            parts = [wanted.writer.head()]
            async for part in _parts(wanted):
                parts.append(part)
            content = await loop.run_in_executor(_THREADS, _join, wanted.writer, parts)
    except TimeoutError:
        raise Expired from None
    finally:
        served.users -= 1
    return Response(200, content, _media_type(wanted), served.headers)


def _join(writer: film_files.Writer, parts: list[bytes]) -> bytes:
    """Returns the whole file."""
    content = bytearray().join(parts)
    at, sizes = writer.sizes(len(content))
    content[at : at + len(sizes)] = sizes
    return bytes(content)


async def _stream(app: Any, wanted: FilmRequest) -> Response:
    """Returns a response that starts with its first frames, while later ones are not made."""
    ended = stream_slots.take(app, wanted.served, "video")
    try:
        head = wanted.writer.head()
        pieces = await Started.start(_timed_parts(wanted), head, bytes, ended)
    except BaseException:
        ended()
        raise
    return Response(200, b"", _media_type(wanted), wanted.served.headers, pieces)


async def _parts(wanted: FilmRequest) -> AsyncGenerator[bytes, None]:
    """Yields the bytes of the video in parts, each made in a thread when it is asked for."""
    loop, parts = asyncio.get_running_loop(), wanted.parts()
    while (part := await loop.run_in_executor(_THREADS, next, parts, None)) is not None:
        yield part


async def _timed_parts(wanted: FilmRequest) -> AsyncGenerator[bytes, None]:
    """Yields the same; every part has a deadline of its own, as a stream may run for long."""
    parts = _parts(wanted)
    try:
        while True:
            try:
                async with asyncio.timeout(wanted.timeout):
                    part = await anext(parts, None)
            except TimeoutError:
                raise Expired from None
            if part is None:
                return
            yield part
    finally:
        await parts.aclose()


def _media_type(wanted: FilmRequest) -> bytes:
    return wanted.writer.media_type.encode("ascii")
