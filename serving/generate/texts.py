"""Texts of `/v1/generate` that are sampled token by token: lines, or server-sent events.

The step of the network runs in threads beside the event loop. Between two tokens a request can end:
at its deadline, or because the client has disconnected.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orjson

from serving import stream_slots
from serving.checks import MAX_SEED, check_boolean, check_integer, check_seed_list
from serving.engine import Expired
from serving.errors import UsageError, short_repr
from serving.generate.fields import FIELDS, unknown_field
from serving.http_types import Request, Response
from serving.started_streams import Started
from serving.text_constraints import Constraint
from serving.text_steps import MAX_BATCH, Text, TextSteps, Token, encode_lines
from serving.turns import in_turn

CONTROLS = ("temperature", "prefix", "pattern", "vocabulary", "length")
_FIELDS = (*CONTROLS, "model", "version", "seeds", "seed", "count", "labels", "format")
_FIELDS += ("stream", "timeout")
FORMATS = {"txt": b"text/plain; charset=utf-8", "jsonl": b"application/jsonl"}
EVENTS = b"text/event-stream"
# Two pools, so that long requests do not delay the tokens of streams.
_WHOLE = ThreadPoolExecutor(2, "texts")
_TOKENS = ThreadPoolExecutor(2, "tokens")


def is_wanted(served: Any, fields: Mapping[str, Any]) -> bool:
    """Returns whether a request is for texts token by token.

    Args:
        served: version of the model.
        fields: the request's fields by name.
    """
    given = {name for name, value in fields.items() if value is not None}
    controls = given & {*CONTROLS}
    if controls and (served.text_sampler is not None or "inputs" not in given):
        return True  # another network refuses them, unless they are inputs of its own
    # What names other fields, such as a walk, is a request for samples, whose files have lines too.
    if served.text_sampler is None or not given <= {*_FIELDS}:
        return False
    form = fields.get("format")
    return form is None if fields.get("stream") else form in FORMATS


def start(app: Any, request: Request, fields: Mapping[str, Any], files: Mapping[str, Any]) -> Any:
    """Returns a coroutine that returns the response.

    Raises:
        UsageError: a field that is not allowed, files, or a model that does not sample texts.
    """
    if files:
        raise UsageError(f"Texts token by token take no files. Received: {', '.join(files)}")
    wanted = TextRequest(app, request, fields)
    return _stream(app, wanted) if wanted.is_streamed else _answer(app, wanted)


class TextRequest:
    """A request for texts: which ones, under which constraint, in which format, by when.

    Args:
        app: the application.
        request: the request, whose model is known.
        fields: its fields by name; null counts as absent.

    Raises:
        UsageError: a field that is not allowed, or a model that does not sample texts.
    """

    def __init__(self, app: Any, request: Request, fields: Mapping[str, Any]):
        self.served, settings = request.served, app.settings
        self.steps: TextSteps = self.served.bundle.text_steps
        given = {name: value for name, value in fields.items() if value is not None}
        for name in given:
            if name not in _FIELDS:
                raise unknown_field(name, _FIELDS) if name not in FIELDS else _not_of_texts(name)
        self.is_streamed = "stream" in given and check_boolean("stream", given["stream"])
        self.seeds = _read_seeds(given, settings.max_count)
        self.form = self._read_format(given.get("format"))
        self._controls = {n: given[n] for n in CONTROLS if n in given and n != "temperature"}
        self.temperature = given.get("temperature", 1.0)
        self.labels = self.served.bundle.label_ids(self.seeds, given.get("labels"))
        self.length = self.steps.sampler.check_length(given.get("length"))
        if len(self.seeds) * self.length > settings.max_values:
            raise UsageError(
                f"A response holds at most {settings.max_values} tokens. "
                f"Received: {len(self.seeds)} texts of {self.length}"
            )
        # For the whole answer; of a stream, which may run for long, for each token.
        self.timeout = settings.timeout_of(given)
        self.deadline = request.start + self.timeout
        self.stopped = threading.Event()

    def _read_format(self, form: Any) -> str:
        if self.is_streamed:
            if form is not None or len(self.seeds) != 1:
                raise UsageError(
                    "A stream of tokens is one text, without `format`. "
                    f"Received: {len(self.seeds)} texts, format={short_repr(form)}"
                )
            return ""
        form = "txt" if form is None else form
        if not isinstance(form, str) or form not in FORMATS:
            raise UsageError(
                f"`format` of texts must be one of {', '.join(FORMATS)}. "
                f"Received: format={short_repr(form)}"
            )
        return form

    def constraint(self) -> Constraint:
        """Compiles the constraint, which takes time; for a thread."""
        return self.steps.constraint(**self._controls)

    def tokens(self, constraint: Constraint, rows: slice) -> Iterator[Token]:
        """Yields the tokens of some of the texts."""
        labels = self.labels_of(rows)
        return self.steps.tokens(self.seeds[rows], constraint, self.temperature, labels)

    def labels_of(self, rows: slice) -> np.ndarray | None:
        """Returns the class ids of some of the texts."""
        return None if self.labels is None else self.labels[rows]

    def run(self, now: Any) -> bytes:
        """Returns the body with all texts; for a thread.

        Args:
            now: clock of the deadline.

        Raises:
            Expired: the deadline has passed, or nobody waits for the answer.
        """
        found: list[Text] = []
        constraint = self.constraint()
        for rows in _parts(len(self.seeds)):
            steps = []
            for token in self.tokens(constraint, rows):
                if self.stopped.is_set() or now() > self.deadline:
                    raise Expired
                steps.append(token)
            found += self.steps.join(self.seeds[rows], steps, self.labels_of(rows))
        return encode_lines(found, self.form)


def _parts(count: int, size: int = MAX_BATCH) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _not_of_texts(name: str) -> UsageError:
    return UsageError(
        "Texts with a temperature, prefix, pattern, vocabulary or length, and streams of tokens, "
        f"take the fields {', '.join(_FIELDS)}. Received: {name}"
    )


def _read_seeds(given: Mapping[str, Any], most: int) -> np.ndarray:
    """Returns the seeds of a request."""
    if "seeds" in given:
        for name in ("seed", "count"):
            if name in given:
                raise UsageError(f"`seeds` and `{name}` exclude each other. Received: both")
        seeds = check_seed_list("seeds", given["seeds"])
    else:
        count = check_integer("count", given.get("count", 1), 1, most)
        first = check_integer("seed", given.get("seed", 0), 0, MAX_SEED - count + 1)
        seeds = np.arange(first, first + count, dtype=np.int64)
    if len(seeds) > most:
        raise UsageError(f"`seeds` must be at most {most}. Received: {len(seeds)} seeds")
    return seeds


async def _answer(app: Any, wanted: TextRequest) -> Response:
    """Returns the response with all texts."""
    wanted.served.users += 1
    try:
        async with in_turn(app, wanted.deadline):
            left = max(0.0, wanted.deadline - app.now())
            content = await _within(left, _WHOLE, wanted.run, app.now)
        return Response(200, content, FORMATS[wanted.form], wanted.served.headers)
    finally:
        wanted.stopped.set()
        wanted.served.users -= 1


async def _within(seconds: float, pool: ThreadPoolExecutor, function: Any, *given: Any) -> Any:
    """Returns what a function returns that runs in a thread.

    Raises:
        Expired: it took longer, or has waited as long for a thread.
    """
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.get_running_loop().run_in_executor(pool, function, *given)
    except TimeoutError:
        raise Expired from None


# ------------------------------------------------------------------------ server-sent events


async def _stream(app: Any, wanted: TextRequest) -> Response:
    """Returns a response that starts with its first token, while later ones are not sampled."""
    ended = stream_slots.take(app, wanted.served, "text")
    try:
        events = _events(app, wanted)
        started = await Started.start(events, b"", lambda event: event, ended)
    except BaseException:
        ended()
        raise
    headers = wanted.served.headers + b"cache-control: no-cache\r\n"
    return Response(200, b"", EVENTS, headers, started)


async def _events(app: Any, wanted: TextRequest) -> AsyncGenerator[bytes, None]:
    """Yields an event for each token, each within the timeout, and one at the end."""
    sampler, steps, seconds = wanted.steps.sampler, [], wanted.timeout
    constraint = await _within(seconds, _TOKENS, wanted.constraint)
    tokens = wanted.tokens(constraint, slice(0, 1))
    try:
        while (token := await _within(seconds, _TOKENS, next, tokens, None)) is not None:
            number = int(token.ids[0])
            if not (sampler.ends and number == 0):
                separator = sampler.separator if steps else ""
                yield _event(
                    {
                        "index": len(steps),
                        "token": separator + sampler.tokens[number],
                        "log_probability": round(float(token.log_probabilities[0]), 6),
                    }
                )
            steps.append(token)
        yield _event(wanted.steps.join(wanted.seeds, steps, wanted.labels)[0].to_json(), b"end")
    except Exception as error:
        if not steps:
            raise  # which still has an HTTP status
        _, message, _ = app.explain(error)
        yield _event({"error": message}, b"error")


def _event(content: dict[str, Any], name: bytes = b"") -> bytes:
    kind = b"event: %b\n" % name if name else b""
    return kind + b"data: %b\n\n" % orjson.dumps(content)
