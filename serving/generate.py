"""`/v1/generate`: seeds to pictures, numbers, a grid, or a stream of them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import orjson

from serving.engine import LIGHT, Job, even
from serving.errors import UsageError, short_repr
from serving.http_types import BYTES, JSON, LINES, PNG, Answer, HTTPError, Request, error_answer
from serving.interpolation import around, place, slerp
from serving.limits import Settings
from serving.provenance import provenance
from serving.seeds import latents_from_seeds

FORMATS = ("png", "npy", "json", "grid")
# Name of a field to the JSON schema of it: the OpenAPI document says no more than this.
_SEED: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
_LABEL: dict[str, Any] = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}
FIELDS: dict[str, dict[str, Any]] = {
    "model": {"type": "string", "description": "May be left out where one model is served."},
    "version": {"type": "integer", "minimum": 0, "description": "By default the newest."},
    "seeds": {
        "type": "array",
        "items": _SEED,
        "minItems": 1,
        "description": "One sample for each.",
    },
    "seed": _SEED | {"description": "Of the first sample; the next ones count up. Default 0."},
    "count": {"type": "integer", "minimum": 1, "description": "Number of samples. Default 1."},
    "interpolate": {
        "type": "array",
        "items": _SEED,
        "minItems": 2,
        "description": "Walks from seed to seed on the sphere, in count steps, ends included.",
    },
    "around": _SEED | {"description": "Samples near this one's, each in the direction of a seed."},
    "radius": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "How far around: sqrt(1-r^2) of the center and r of the seed. Default 0.3.",
    },
    "labels": {
        "anyOf": [*_LABEL["anyOf"], {"type": "array", "items": _LABEL}],
        "description": "Class ids or names, one for all or one for each. Default: seed modulo "
        "classes; that of the first seed or of the center for interpolate and around.",
    },
    "truncation": {
        "type": "number",
        "minimum": 0,
        "maximum": 100,
        "description": "Factor on the latents; below 1 more typical, less varied. Default 1.",
    },
    "format": {
        "type": "string",
        "enum": list(FORMATS),
        "description": "Default: png for images, grid for points, npy for others.",
    },
    "columns": {"type": "integer", "minimum": 1, "description": "Of a grid."},
    "metadata": {
        "type": "boolean",
        "description": "Whether a PNG says which model made it, from which seed. Default true.",
    },
    "stream": {
        "type": "boolean",
        "description": "Samples as they come. Default false.",
    },
    "timeout": {
        "type": "number",
        "minimum": 0.01,
        "maximum": 86_400,
        "description": "Seconds after which to give up. Default: the server's.",
    },
}
_LISTS = {"seeds": int, "interpolate": int, "labels": str}
_INTEGERS = {"version", "seed", "count", "around", "columns"}
_NUMBERS = {"radius", "truncation", "timeout"}
_BOOLEANS = {"metadata", "stream"}


def start(app: Any, request: Request) -> Any:
    """Handles `/v1/generate`: gives an answer, a job, or what becomes an answer."""
    if request.method != "POST":
        wanted = from_query(request.query)
    else:
        wanted = request.json()
        if type(wanted) is not dict:
            raise HTTPError(400, f"The body must be an object. Received: a {type(wanted).__name__}")
        if unknown := wanted.keys() - FIELDS.keys():
            raise HTTPError(400, _unknown(min(unknown)))
    served = request.served = app.find(wanted.get("model"), wanted.get("version"))
    plan = Plan(served, wanted, request.start, app.settings)
    if request.method != "POST":
        tag = _tag(plan, request)
        plan.head += _cache(tag, plan, request, app.settings)
        if tag in request.headers.get(b"if-none-match", b""):
            return Answer(304, b"", JSON, plan.head)
    if plan.stream:
        return _stream(app, plan)
    if plan.count <= served.engine.max_batch:
        return plan.job(0, plan.count, plan.answer_of_all)
    return _gather(app, plan)


def from_query(query: bytes) -> dict[str, Any]:
    """Reads the fields from a query; lists are separated by commas.

    Raises:
        HTTPError: a field twice, an unknown one, or a value of another type.
    """
    try:
        text = query.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict")
    except ValueError as error:
        raise HTTPError(400, f"The query must be name=value. Received: {query[:80]!r}") from error
    wanted: dict[str, Any] = {}
    for name, value in pairs:
        if name not in FIELDS:
            raise HTTPError(400, _unknown(name))
        if name in wanted:
            raise HTTPError(400, f"A field is given once. Received: {short_repr(name)} twice")
        wanted[name] = _from_text(name, value)
    return wanted


def _from_text(name: str, value: str) -> Any:
    try:
        if name in _LISTS:
            return [_LISTS[name](x) for x in value.split(",")]
        if name in _INTEGERS:
            return int(value)
        if name in _NUMBERS:
            return float(value)
    except ValueError as error:
        kind = "a number" if name in _NUMBERS else "integers" if name in _LISTS else "an integer"
        raise HTTPError(
            400, f"{name} must be {kind}. Received: {name}={short_repr(value)}"
        ) from error
    if name in _BOOLEANS:
        if value not in ("true", "false", "1", "0"):
            raise HTTPError(
                400, f"{name} must be true or false. Received: {name}={short_repr(value)}"
            )
        return value in ("true", "1")
    return value


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name[:40], FIELDS, n=1, cutoff=0.6)
    hint = f"Did you mean {near[0]!r}?" if near else f"Valid: {', '.join(FIELDS)}"
    return f"There is no such field. Received: {short_repr(name)}. {hint}"


class Plan:
    """What a request wants, checked, and its samples by their number.

    Args:
        served: the bundle and its engine.
        wanted: the fields.
        now: when the request came, on the clock of `time.monotonic`.
        settings: the server's.

    Raises:
        UsageError: a field that is not allowed.
    """

    # What most requests leave out.
    walk: tuple[int, ...] = ()  # seeds to walk through
    center: int | None = None
    radius = 0.3
    seeds: np.ndarray | None = None
    first = 0
    count = 1
    columns: int | None = None
    metadata = True
    stream = False
    truncation = 1.0
    _labels: np.ndarray | None = None

    def __init__(self, served: Any, wanted: dict[str, Any], now: float, settings: Settings):
        self.served = served
        self.bundle = served.bundle
        self.head = served.head
        self.timeout = settings.timeout
        given = {name: value for name, value in wanted.items() if value is not None}
        if "stream" in given:
            self.stream = _boolean("stream", given["stream"])
        if "metadata" in given:
            self.metadata = _boolean("metadata", given["metadata"])
        if "truncation" in given:
            self.truncation = _number("truncation", given["truncation"], 0, 100)
        if "columns" in given:
            self.columns = _integer("columns", given["columns"], 1, 2**14)
        if "timeout" in given:
            self.timeout = min(self.timeout, _number("timeout", given["timeout"], 0.01, 86_400))
        self._set_form(given.get("format"))
        self._set_seeds(given)
        # A stream may take as long as it moves on; each of its parts may not.
        self.deadline = now + self.timeout
        if self.count > 1:
            self._check_size(settings)
        if "labels" in given or (self.bundle.num_classes and self._has_latents):
            self._set_labels(given.get("labels"))

    @property
    def _has_latents(self) -> bool:
        """Whether its samples are not those of seeds."""
        return bool(self.walk) or self.center is not None

    def _set_form(self, form: Any) -> None:
        self.form = self.served.form if form is None else form
        if self.form not in FORMATS:
            raise UsageError(
                f"format must be one of {', '.join(FORMATS)}. Received: format={short_repr(form)}"
            )
        if self.form in ("png", "grid") and self.form not in self.served.forms:
            valid = ", ".join(self.served.forms)
            raise UsageError(
                f"Samples of {self.bundle.name!r}, a {self.bundle.kind}, have no {self.form}: "
                f"formats are {valid}. Received: format={self.form!r}"
            )
        if self.form == "grid" and self.stream:
            raise UsageError("A grid is one picture. Received: format='grid', stream=True")

    def _set_seeds(self, given: dict[str, Any]) -> None:
        if "interpolate" in given:
            self._set_walk(given)
            return
        if "around" in given:
            self.center = _integer("around", given["around"], 0, 2**63 - 1)
        if "radius" in given:
            self.radius = _number("radius", given["radius"], 0, 1)
        if "seeds" in given:
            if "seed" in given or "count" in given:
                raise UsageError("seeds says it all. Received: seeds beside seed or count")
            self.seeds = _seed_list("seeds", given["seeds"])
            self.count = len(self.seeds)
            self.first = int(self.seeds[0])
            return
        if "seed" in given:
            self.first = _integer("seed", given["seed"], 0, 2**63 - 1)
        if "count" in given:
            self.count = _integer("count", given["count"], 1, 2**31)
            if self.first + self.count > 2**63:
                raise UsageError(
                    "A seed must be at least 0 and below 2**63. "
                    f"Received: seed={self.first}, count={self.count}"
                )

    def _set_walk(self, given: dict[str, Any]) -> None:
        if others := given.keys() & {"seeds", "seed", "around", "radius"}:
            raise UsageError(
                f"interpolate names its seeds itself. Received: {min(others)} beside it"
            )
        walk = given["interpolate"]
        self.walk = tuple(_seed_list("interpolate", walk).tolist())
        if len(self.walk) < 2:
            raise UsageError(
                f"interpolate must name 2 seeds or more. Received: interpolate={short_repr(walk)}"
            )
        self.count = _integer("count", given["count"], 2, 2**31) if "count" in given else 8
        self._known: dict[int, np.ndarray] = {}  # latents of the seeds walked through

    def _check_size(self, settings: Settings) -> None:
        limit = settings.max_stream if self.stream else settings.max_count
        if self.count > limit:
            hint = "" if self.stream else " (stream: true allows more)"
            raise UsageError(f"count must be at most {limit}{hint}. Received: {self.count} samples")
        if self.stream:
            return
        values = self.count * self.served.size
        if values > settings.max_values:
            raise UsageError(
                f"An answer holds at most {settings.max_values} numbers or pixels; stream: true "
                f"allows more. Received: {self.count} samples of {self.served.size}"
            )
        if self.form == "grid" and self.bundle.kind == "image":
            from serving.pictures import check_grid

            check_grid(self.count, self.bundle.shape, self.columns)

    def _set_labels(self, labels: Any) -> None:
        if labels is None:
            first = self.walk[0] if self.walk else self.center
            own = np.array([first], np.int64) % self.bundle.num_classes
            self._labels = np.broadcast_to(own, self.count)
            return
        if isinstance(labels, list):
            # Before they are looked at: a body holds millions.
            if len(labels) not in (1, self.count):
                raise UsageError(
                    f"labels must be one for all or one for each of the {self.count} seeds. "
                    f"Received: {len(labels)} labels"
                )
            if any(isinstance(x, bool | list | dict | None) for x in labels):
                raise UsageError(
                    f"labels must be class ids or names. Received: labels={short_repr(labels)}"
                )
            if len(labels) == 1:
                labels = labels[0]
        elif isinstance(labels, bool | dict):
            raise UsageError(
                f"labels must be class ids or names. Received: labels={short_repr(labels)}"
            )
        one = self.bundle.label_ids(np.empty(self.count if isinstance(labels, list) else 1), labels)
        self._labels = np.broadcast_to(one, self.count)

    # ------------------------------------------------------------------ its samples

    def seeds_of(self, first: int, last: int) -> np.ndarray:
        """The seeds of samples `first` to `last`; of a walk there are none."""
        if self.seeds is not None:
            return self.seeds[first:last]
        return np.arange(self.first + first, self.first + last, dtype=np.int64)

    def labels_of(self, first: int, last: int) -> np.ndarray | None:
        """Their class ids; `None` without classes."""
        if self._labels is not None:
            return self._labels[first:last]
        if not self.bundle.num_classes:
            return None
        return self.seeds_of(first, last) % self.bundle.num_classes

    def _latents_of(self, first: int, last: int) -> np.ndarray:
        dim = self.bundle.latent_dim
        if self.walk:
            rows = np.stack([self._between(i) for i in range(first, last)])
        else:
            center = latents_from_seeds([self.center], dim)[0]
            rows = around(center, latents_from_seeds(self.seeds_of(first, last), dim), self.radius)
        return rows.astype(np.float32) * np.float32(self.truncation)

    def _between(self, number: int) -> np.ndarray:
        leg, t = place(number, self.count, len(self.walk))
        a, b = self._known_latents(self.walk[leg]), self._known_latents(self.walk[leg + 1])
        return slerp(a, b, t)

    def _known_latents(self, seed: int) -> np.ndarray:
        if seed not in self._known:
            if len(self._known) > 8:
                self._known.clear()
            drawn = latents_from_seeds([seed], self.bundle.latent_dim)
            self._known[seed] = drawn[0].astype(np.float64)
        return self._known[seed]

    def job(self, first: int, last: int, encode: Callable[[Job, np.ndarray], Any]) -> Job:
        """The job of samples `first` to `last`."""
        if self._has_latents:
            latents = self._latents_of(first, last)
            job = Job(last - first, None, latents, self.labels_of(first, last))
        else:
            labels = None if self._labels is None else self._labels[first:last]
            seeds = self.seeds_of(first, last)
            job = Job(last - first, seeds, None, labels, self.truncation)
        job.encode = encode
        job.deadline = self.deadline
        job.facts = (first, last)
        job.light = self.form in ("npy", "json") and job.count * self.served.size <= LIGHT
        job.engine = self.served.engine
        return job

    # ------------------------------------------------------------------ answers, in the worker

    def answer_of_all(self, job: Job, samples: np.ndarray) -> Answer:
        """The whole answer, of one batch."""
        if self.form == "npy":
            head = self.head
            if self.count == 1 and not self.walk:
                head = b"%bx-seed: %d\r\n" % (head, self.first)
            return Answer(200, npy_header(samples.shape) + samples.tobytes(), BYTES, head)
        if self.form == "png" and self.count == 1:
            head = self.head
            if not self.walk:
                head = b"%bx-seed: %d\r\n" % (head, self.first)
            return Answer(200, self._pngs(0, samples)[0], PNG, head)
        return self.answer_of([self.part(job, samples)])

    def part(self, job: Job, samples: np.ndarray) -> Any:
        """What a batch gives to an answer of several."""
        if self.form == "npy":
            return samples.tobytes()
        if self.form == "grid":
            return self._pixels(samples)
        return self.lines(job, samples)

    def answer_of(self, parts: list[Any]) -> Answer:
        """Puts an answer together from its parts."""
        if self.form == "npy":
            shape = (self.count, *self.bundle.shape)
            return Answer(200, npy_header(shape) + b"".join(parts), BYTES, self.head)
        if self.form == "grid":
            picture = self._grid(parts[0] if len(parts) == 1 else np.concatenate(parts))
            return Answer(200, picture, PNG, self.head)
        about = {
            "model": self.bundle.name,
            "version": self.served.version,
            "sha256": self.bundle.sha256,
        }
        samples = b",".join(x for part in parts for x in part)
        return Answer(
            200, orjson.dumps(about)[:-1] + b',"samples":[' + samples + b"]}", JSON, self.head
        )

    def lines(self, job: Job, samples: np.ndarray) -> list[bytes]:
        """Each sample as an object of JSON."""
        first, _ = job.facts
        pictures = self._pngs(first, samples) if self.form == "png" else None
        labels = self.labels_of(first, first + len(samples))
        seeds = None if self.walk else self.seeds_of(first, first + len(samples))
        found = []
        for row in range(len(samples)):
            about: dict[str, Any] = {}
            if seeds is None:
                leg, at = place(first + row, self.count, len(self.walk))
                about |= {"from": self.walk[leg], "to": self.walk[leg + 1], "at": at}
            else:
                about["seed"] = int(seeds[row])
            if self.center is not None:
                about |= {"around": self.center, "radius": self.radius}
            if labels is not None:
                about["label"] = int(labels[row])
            if pictures is None:
                about["values"] = np.ascontiguousarray(samples[row])
            else:
                about["png"] = base64.b64encode(pictures[row]).decode("ascii")
            found.append(orjson.dumps(about, option=orjson.OPT_SERIALIZE_NUMPY))
        return found

    def _pixels(self, samples: np.ndarray) -> np.ndarray:
        if self.bundle.kind != "image":
            return samples
        from serving.pictures import to_uint8

        return to_uint8(samples, self.bundle.value_range)

    def _pngs(self, first: int, samples: np.ndarray) -> list[bytes]:
        from serving.pictures import to_png

        pixels = self._pixels(samples)
        return [to_png(x, self._texts(first + row)) for row, x in enumerate(pixels)]

    def _grid(self, samples: np.ndarray) -> bytes:
        from serving import pictures

        if self.bundle.kind == "image":
            picture = pictures.grid(samples, self.columns)
        else:
            picture = pictures.scatter(samples, self.bundle.value_range)
        return pictures.to_png(picture, self._texts(None))

    def _texts(self, number: int | None) -> dict[str, str] | None:
        if not self.metadata:
            return None
        facts: dict[str, Any] = {}
        if self.walk and number is not None:
            leg, at = place(number, self.count, len(self.walk))
            facts["between_seeds"] = f"{self.walk[leg]}, {self.walk[leg + 1]} at {at:g}"
        elif self.walk:
            facts["between_seeds"] = ", ".join(map(str, self.walk[:64]))
        elif number is not None:
            facts["seed"] = int(self.seeds_of(number, number + 1)[0])
        elif self.seeds is not None:
            facts["seeds"] = ", ".join(map(str, self.seeds[:1024]))
        else:
            facts["first_seed"] = self.first
        if number is None:
            facts["count"] = self.count
        if self.center is not None:
            facts |= {"around": self.center, "radius": f"{self.radius:g}"}
        if number is not None and (labels := self.labels_of(number, number + 1)) is not None:
            facts["label"] = int(labels[0])
        if self.truncation != 1:
            facts["truncation"] = f"{self.truncation:g}"
        return provenance(self.bundle.name, self.bundle.sha256, **facts)


async def _gather(app: Any, plan: Plan) -> Answer:
    """An answer of more samples than a batch holds."""
    parts = [part async for part in _parts(app, plan, plan.part)]
    # Pictures and long lists take a while: not in the event loop.
    return await asyncio.get_running_loop().run_in_executor(None, plan.answer_of, parts)


async def _parts(
    app: Any, plan: Plan, encode: Callable[[Job, np.ndarray], Any]
) -> AsyncIterator[Any]:
    """Runs a plan batch by batch, a few ahead of who reads them, and in order."""
    served = plan.served
    step = even(plan.count, served.engine.max_batch)
    ahead = 2 * app.settings.workers
    running: deque[asyncio.Task[Any]] = deque()
    served.users += 1
    try:
        first = 0
        while first < plan.count or running:
            # Others wait already: no more than one part at a time.
            while first < plan.count and len(running) < (1 if _is_full(served.engine) else ahead):
                if plan.stream:
                    plan.deadline = app.now() + plan.timeout
                job = plan.job(first, min(first + step, plan.count), encode)
                task = asyncio.ensure_future(served.engine.run(job, part=first > 0))
                running.append(task)
                if first == 0:
                    await asyncio.sleep(0)  # the first part is refused before others are queued
                    if task.done() and task.exception():
                        break
                first += step
            yield await running.popleft()
    finally:
        served.users -= 1
        for task in running:
            task.cancel()


def _is_full(engine: Any) -> bool:
    return engine.waiting >= engine.queue


async def _stream(app: Any, plan: Plan) -> Answer:
    """An answer that starts with its first batch, whatever comes later."""
    encode = plan.part if plan.form == "npy" else plan.lines
    parts = _parts(app, plan, encode)
    try:
        first = await anext(parts)  # its errors have a status of their own
    except BaseException:
        await parts.aclose()  # type: ignore[attr-defined]
        raise
    if plan.form == "npy":
        shape = (plan.count, *plan.bundle.shape)
        head = npy_header(shape)
        length = len(head) + 4 * plan.count * plan.served.size
        pieces = _numbers(head + first, parts)
        return Answer(200, b"", BYTES, plan.head, pieces, length)
    return Answer(200, b"", LINES, plan.head, _json_lines(app, plan, first, parts))


async def _numbers(first: bytes, parts: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for part in parts:
            yield part
    finally:
        await parts.aclose()  # type: ignore[attr-defined]


async def _json_lines(
    app: Any, plan: Plan, first: list[bytes], parts: AsyncIterator[Any]
) -> AsyncIterator[bytes]:
    try:
        yield b"\n".join(first) + b"\n"
        async for part in parts:
            yield b"\n".join(part) + b"\n"
        yield b'{"done":%d}\n' % plan.count
    except Exception as error:
        status, message, _ = app.explain(error)
        yield error_answer(status, message).body + b"\n"
    finally:
        await parts.aclose()  # type: ignore[attr-defined]


_headers: dict[tuple[int, ...], bytes] = {}


def npy_header(shape: tuple[int, ...]) -> bytes:
    """The start of a .npy file of float32 numbers; kept, for it takes longer than to send it."""
    if (header := _headers.get(shape)) is None:
        buffer = io.BytesIO()
        facts = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(buffer, facts)
        if len(_headers) > 4096:
            _headers.clear()
        header = _headers[shape] = buffer.getvalue()
    return header


# ---------------------------------------------------------------------------- fields


def _integer(name: str, value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        most = "2**63 - 1" if high == 2**63 - 1 else high
        raise UsageError(
            f"{name} must be an integer of {low} to {most}. Received: {name}={short_repr(value)}"
        )
    return value


def _number(name: str, value: Any, low: float, high: float) -> float:
    allowed = type(value) in (int, float) and low <= value <= high and math.isfinite(value)
    if not allowed:
        rule = f"a number of {low} to {high}"
        raise UsageError(f"{name} must be {rule}. Received: {name}={short_repr(value)}")
    return float(value)


def _boolean(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise UsageError(f"{name} must be true or false. Received: {name}={short_repr(value)}")
    return value


def _seed_list(name: str, value: Any) -> np.ndarray:
    if type(value) is int:
        value = [value]
    if type(value) is not list or not value:
        raise UsageError(f"{name} must be a list of seeds. Received: {name}={short_repr(value)}")
    for seed in value:
        if type(seed) is not int or not 0 <= seed < 2**63:
            raise UsageError(
                "A seed must be an integer of at least 0 and below 2**63. "
                f"Received: {name}={short_repr(value)}"
            )
    return np.array(value, np.int64)


# ---------------------------------------------------------------------------- caching


def _tag(plan: Plan, request: Request) -> bytes:
    about = f"{plan.bundle.sha256} {plan.bundle.name} {plan.served.version} ".encode()
    return b'"%b"' % hashlib.sha256(about + request.query).hexdigest()[:32].encode()


def _cache(tag: bytes, plan: Plan, request: Request, settings: Settings) -> bytes:
    """A seed's picture never changes; which version is the newest does."""
    life = b"no-cache"
    if plan.served.numbered and b"version=" in request.query:
        life = b"%b, max-age=31536000, immutable" % (b"private" if settings.tokens else b"public")
    return b"etag: %b\r\ncache-control: %b\r\n" % (tag, life)
