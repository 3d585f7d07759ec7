"""Asks a server for samples: `keras-gan serve`, TensorFlow Serving, or Triton and its kin.

Each call is written once, as a plan that gives requests and is sent their answers; `Client` carries
plans out with blocking sockets, `AsyncClient` on the event loop.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import dataclasses
import email.utils
import functools
import http.client
import io
import itertools
import json
import math
import os
import random
import re
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

import numpy as np

from serving.bundle import Bundle
from serving.errors import UsageError
from serving.interpolation import around, interpolate
from serving.manifest import read_manifest
from serving.seeds import check_seeds, latents_from_seeds

T = TypeVar("T")
PROTOCOLS = ("keras_gan", "tf_serving", "v2")
_BUSY = (429, 502, 503)  # the server is there or will be, and has done nothing yet
_NOT_HERE = (400, 404, 405, 501)  # how a server says that it does not know a path
_IDLE = 16  # connections kept open
_NUMBERS = (int, float, np.integer, np.floating)
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0  # seconds
_BINARY = "Inference-Header-Content-Length"


class ServerError(UsageError):
    """What a server answered instead of samples, in its own line.

    Args:
        message: the line.
        status: HTTP status of the answer.
    """

    def __init__(self, message: str, status: int = 0):
        super().__init__(message, status)
        self.status = status

    def __str__(self) -> str:
        return str(self.args[0])


class Wanted(TypedDict, total=False):
    """What `generate` and `pictures` take beside seeds, by keyword."""

    seed: int | None
    count: int | None
    labels: Any
    truncation: float
    interpolate: Sequence[int] | None
    around: int | None
    radius: float
    model: str | None
    version: int | None


@dataclasses.dataclass(frozen=True)
class _Request:
    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    may_fail: bool = False  # the plan wants to see statuses of 4xx for itself


@dataclasses.dataclass(frozen=True)
class _Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise ServerError(
                f"A server must answer in JSON. Received: {self.body[:80]!r}", self.status
            ) from error

    def line(self) -> str:
        """The server's own words on what was wrong."""
        with contextlib.suppress(ServerError):
            content = self.json()
            if isinstance(content, dict) and isinstance(content.get("error"), str):
                return " ".join(content["error"].split())[:500]
        text = " ".join(self.body[:200].decode("utf-8", "replace").split())
        return f"The server must answer. Received: status {self.status} {text}".rstrip()


Plan = Generator[_Request, _Answer, T]


@dataclasses.dataclass(frozen=True)
class _Model:
    """What is known of a model on a server; `None` for what the server does not tell."""

    name: str
    version: int | None = None
    versions: tuple[int, ...] = ()
    kind: str | None = None
    shape: tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None
    latent_dim: int | None = None
    class_count: int | None = None
    class_names: tuple[str, ...] = ()
    sha256: str | None = None
    inputs: tuple[tuple[str, int], ...] = ()  # names and ranks
    signatures: tuple[str, ...] = ()
    binary: bool = False

    def with_manifest(self, manifest: dict[str, Any] | None) -> _Model:
        """Fills in from a bundle's manifest what the server left open."""
        if manifest is None:
            return self
        if self.shape and self.shape != tuple(manifest["shape"]):
            raise UsageError(
                "The bundle must be the one that the server has. Received: a bundle of shape "
                f"{tuple(manifest['shape'])} and a model of shape {self.shape}"
            )
        limits = manifest["value_range"]
        return dataclasses.replace(
            self,
            kind=manifest["kind"],
            shape=tuple(manifest["shape"]),
            value_range=None if limits is None else (float(limits[0]), float(limits[1])),
            latent_dim=manifest["latent_dim"],
            class_count=manifest["classes"]["count"],
            class_names=tuple(manifest["classes"]["names"]),
            sha256=self.sha256 or manifest["files"]["model.onnx"]["sha256"],
        )

    def public(self) -> dict[str, Any]:
        """The entry of `models()`, with the keys of this library's own server."""
        return {
            "name": self.name,
            "version": self.version,
            "versions": list(self.versions),
            "kind": self.kind,
            "shape": None if self.shape is None else list(self.shape),
            "value_range": None if self.value_range is None else list(self.value_range),
            "latent_dim": self.latent_dim,
            "classes": None
            if self.class_count is None
            else {"count": self.class_count, "names": list(self.class_names)},
            "sha256": self.sha256,
        }


@dataclasses.dataclass(frozen=True)
class _Samples:
    """What is asked for, checked: seeds, or a walk between some."""

    seeds: np.ndarray
    labels: Any = None
    truncation: float = 1.0
    walk: np.ndarray | None = None  # seeds to interpolate between; then `seeds` are not used
    count: int = 1
    around: int | None = None
    radius: float = 0.3
    model: str | None = None
    version: int | None = None

    @property
    def number(self) -> int:
        """How many samples there will be."""
        return self.count if self.walk is not None else len(self.seeds)

    @property
    def plain(self) -> bool:
        """Whether seeds and labels alone say it."""
        return self.walk is None and self.around is None and self.truncation == 1

    def parts(self, size: int) -> Iterator[_Samples]:
        """Cuts it into requests of at most `size` samples; a walk stays whole."""
        if self.walk is not None or len(self.seeds) <= size:
            yield self
            return
        for start in range(0, len(self.seeds), size):
            rows = slice(start, start + size)
            labels = self.labels[rows] if isinstance(self.labels, list) else self.labels
            yield dataclasses.replace(self, seeds=self.seeds[rows], labels=labels)

    def latents(self, size: int) -> np.ndarray:
        """Latent vectors as this library's own server makes them."""
        if self.walk is not None:
            z = interpolate(latents_from_seeds(self.walk, size), self.count)
        elif self.around is not None:
            center = latents_from_seeds([self.around], size)[0]
            z = around(center, latents_from_seeds(self.seeds, size), self.radius)
        else:
            z = latents_from_seeds(self.seeds, size)
        return z * np.float32(self.truncation)

    def label_seeds(self) -> np.ndarray:
        """The seeds that say the labels where nobody else does."""
        if self.walk is not None:
            return np.repeat(self.walk[:1], self.count)
        if self.around is not None:
            return np.full(len(self.seeds), self.around, np.int64)
        return self.seeds


def _check(
    seeds: Any = None,
    seed: int | None = None,
    count: int | None = None,
    labels: Any = None,
    truncation: float = 1.0,
    interpolate: Any = None,
    around: int | None = None,
    radius: float = 0.3,
    model: str | None = None,
    version: int | None = None,
) -> _Samples:
    ways = {"seeds": seeds, "seed or count": seed if seed is not None else count}
    ways = {"interpolate": interpolate} if interpolate is not None else ways
    if around is not None and seeds is None and seed is None:
        ways["seed or count"] = count or 1
    named = [name for name, value in ways.items() if value is not None]
    if len(named) != 1 or (interpolate is not None and (seeds, seed, around) != (None,) * 3):
        raise UsageError(
            "Samples are named by seeds, by seed and count, or by interpolate and count. "
            f"Received: seeds={seeds!r:.80}, seed={seed!r}, count={count!r}, "
            f"interpolate={interpolate!r:.80}, around={around!r}"
        )
    if count is not None and not (isinstance(count, int | np.integer) and count >= 1):
        raise UsageError(f"count must be at least 1. Received: count={count!r}")
    if not (isinstance(truncation, _NUMBERS) and math.isfinite(truncation) and truncation >= 0):
        raise UsageError(f"truncation must be 0 or more. Received: truncation={truncation!r}")
    if not (isinstance(radius, _NUMBERS) and 0 <= radius <= 1):
        raise UsageError(f"radius must be 0 to 1. Received: radius={radius!r}")
    if seeds is None:
        first = check_seeds(0 if seed is None else seed)
        if len(first) != 1:
            raise UsageError(f"seed must be one integer. Received: seed={seed!r:.80}")
        seeds = range(int(first[0]), int(first[0]) + int(count or 1))
    if interpolate is not None and len(check_seeds(interpolate)) == 0:
        raise UsageError(f"interpolate must name seeds. Received: interpolate={interpolate!r}")
    several = isinstance(labels, Sequence | np.ndarray) and not isinstance(labels, str)
    wanted = _Samples(
        check_seeds(seeds),
        labels=[x.item() if isinstance(x, np.generic) else x for x in labels]
        if several
        else labels,
        truncation=float(truncation),
        walk=None if interpolate is None else check_seeds(interpolate),
        count=int(count or 1),
        around=None if around is None else int(check_seeds(around)[0]),
        radius=float(radius),
        model=model,
        version=version,
    )
    if several and len(wanted.labels) not in (1, wanted.number):
        raise UsageError(
            f"labels must be one for all or one for each of the {wanted.number} samples. "
            f"Received: {len(wanted.labels)} labels"
        )
    if several and len(wanted.labels) == 1:
        wanted = dataclasses.replace(wanted, labels=wanted.labels[0])
    return wanted


class _Calls:
    """What both clients do, but for the sending."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout: float = 60.0,
        *,
        retries: int = 6,
        protocol: str | None = None,
        bundle: str | Path | None = None,
        batch_size: int = 64,
    ):
        parts = urllib.parse.urlsplit(url if isinstance(url, str) else "")
        port: int | None = None
        with contextlib.suppress(ValueError):
            port = parts.port or (443 if parts.scheme == "https" else 80)
        plain = not (parts.query or parts.fragment or "@" in parts.netloc)
        plain = plain and parts.geturl().isascii() and " " not in parts.geturl()
        known = parts.scheme in ("http", "https") and parts.hostname
        if not known or port is None or not plain:
            raise UsageError(
                f"A server's URL is http://HOST:PORT or http://HOST:PORT/NAME. Received: {url!r}"
            )
        if token and not re.fullmatch(r"[\x21-\x7e]+", token):
            raise UsageError(
                "A token must be plain characters without spaces. Received: one with others"
            )
        if protocol not in (None, *PROTOCOLS):
            raise UsageError(
                f"protocol must be one of {', '.join(PROTOCOLS)}. Received: protocol={protocol!r}"
            )
        if not timeout > 0 or retries < 0 or batch_size < 1:
            raise UsageError(
                "timeout must be above 0, retries 0 or more and batch_size 1 or more. Received: "
                f"timeout={timeout!r}, retries={retries!r}, batch_size={batch_size!r}"
            )
        self.url = url
        self.timeout = timeout
        self.batch_size = batch_size
        self._retries = retries
        self._protocol = protocol
        self._host, self._port = str(parts.hostname), port
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._path = parts.path.rstrip("/")
        self._headers = {"Host": parts.netloc, "User-Agent": "keras-gan"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._manifest = None if bundle is None else read_manifest(Path(bundle))
        self._server: tuple[str, str, str | None] | None = None  # protocol, path, model
        self._known: dict[tuple[str, int | None], _Model] = {}
        self._only: str | None = None  # the model of a server that has one

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    # ------------------------------------------------------------------------- which server

    def _connect(self, model: str | None) -> Plan[tuple[str, str, str | None]]:
        """Finds out what the server speaks, and whether the URL ends in a model's name."""
        if self._server is None:
            parent, _, last = self._path.rpartition("/")
            places: list[tuple[str, str | None]] = [(self._path, None)]
            places += [(parent, urllib.parse.unquote(last))] if last else []
            answer = None
            for path, name in places:
                for protocol, probe in _PROBES.items():
                    if self._protocol not in (None, protocol):
                        continue
                    answer = yield _request("GET", path + probe, may_fail=True)
                    if _speaks(protocol, answer):
                        self._server = (protocol, path, name)
                        return self._server
                if (name or model) and self._protocol in (None, "tf_serving"):
                    where = f"{path}/v1/models/{_quote(name or model or '')}"
                    answer = yield _request("GET", where, may_fail=True)
                    if _speaks("tf_serving", answer):
                        self._server = ("tf_serving", path, name)
                        return self._server
            hint = "" if (last or model) else "; TensorFlow Serving is found by a model's name"
            told = "" if answer is None else f" ({answer.line()})"
            raise ServerError(
                "The URL must be that of keras-gan serve, TensorFlow Serving or a server of the "
                f"Open Inference Protocol{hint}. Received: {self.url!r}{told}",
                0 if answer is None else answer.status,
            )
        return self._server

    def _find(self, wanted: _Samples) -> Plan[tuple[str, str, str, _Model]]:
        """Gives protocol, path, name and description of the model that is asked."""
        protocol, path, name = yield from self._connect(wanted.model)
        name = wanted.model or name or self._only
        if name is None:
            found = yield from self._list()
            if len(found) != 1:
                names = ", ".join(model.name for model in found) or "none"
                raise UsageError(
                    f"Name one of the server's models, with model= or in the URL: {names}. "
                    f"Received: {self.url!r}"
                )
            name = self._only = found[0].name
        if (known := self._known.get((name, wanted.version))) is None:
            known = yield from self._describe(protocol, path, name, wanted.version)
            self._known[name, wanted.version] = known
        return protocol, path, name, known

    def _describe(self, protocol: str, path: str, name: str, version: int | None) -> Plan[_Model]:
        if protocol == "keras_gan":
            for model in (yield from self._list()):
                if model.name == name:
                    return model
            raise UsageError(f"The server must have the model. Received: {name!r}")
        describe = _describe_v2 if protocol == "v2" else _describe_tf_serving
        model = yield from describe(path, name, version)
        return model.with_manifest(self._manifest)

    def _list(self) -> Plan[list[_Model]]:
        protocol, path, name = yield from self._connect(None)
        if protocol == "keras_gan":
            content = (yield _request("GET", f"{path}/v1/models")).json()
            try:
                return [_from_listing(entry) for entry in content["models"]]
            except (KeyError, TypeError, ValueError) as error:
                raise ServerError(f"A listing must name models. Received: {error!r}") from error
        names = [name] if name else []
        if protocol == "v2" and not name:
            content = (yield _request("POST", f"{path}/v2/repository/index", b"{}")).json()
            try:
                ready = [x for x in content if x.get("state", "READY") == "READY"]
                names = sorted({str(x["name"]) for x in ready})
            except (AttributeError, KeyError, TypeError) as error:
                raise ServerError(f"An index must name models. Received: {error!r}") from error
        found = []
        for name in names:
            found.append((yield from self._describe(protocol, path, name, None)))
        return found

    def _models(self) -> Plan[list[dict[str, Any]]]:
        return [model.public() for model in (yield from self._list())]

    # ---------------------------------------------------------------------------- samples

    def _generate(self, wanted: _Samples) -> Plan[np.ndarray]:
        protocol, path, _ = yield from self._connect(wanted.model)
        made = []
        version = wanted.version  # what answers the first part answers the others
        if protocol == "keras_gan":
            for part in wanted.parts(self.batch_size):
                part = dataclasses.replace(part, version=version)
                answer = yield from self._ask(path, part, "npy")
                version = _version_of(answer) if version is None else version
                made.append(_read_npy(answer.body))
                if len(made[-1]) != part.number or made[-1].shape[1:] != made[0].shape[1:]:
                    raise ServerError(
                        f"A server must answer with {part.number} samples of one shape. "
                        f"Received: an array of shape {made[-1].shape}"
                    )
        else:
            for part in wanted.parts(self.batch_size):
                part = dataclasses.replace(part, version=version)
                samples, _, version = yield from self._infer(part)
                made.append(samples)
        return made[0] if len(made) == 1 else np.concatenate(made)

    def _pictures(self, wanted: _Samples, metadata: bool) -> Plan[list[bytes]]:
        protocol, path, _ = yield from self._connect(wanted.model)
        made: list[bytes] = []
        version = wanted.version
        for part in wanted.parts(self.batch_size):
            part = dataclasses.replace(part, version=version)
            if protocol == "keras_gan":
                answer = yield from self._ask(path, part, "png", metadata)
                version = _version_of(answer) if version is None else version
                made += _read_pictures(answer)
                continue
            *_, model = yield from self._find(part)
            if model.kind != "image":
                raise UsageError(
                    f"Samples of kind {model.kind!r} have no pictures: ask for generate(). "
                    f"Received: {model.name!r}"
                )
            if protocol == "tf_serving" and part.plain and "generate_png" in model.signatures:
                columns = self._columns(model, part) | {"seeds": part.seeds}
                found = yield from self._predict(part, "generate_png", columns)
                made += [_from_base64(item.get("b64")) for item in found]
                continue
            samples, labels, version = yield from self._infer(part)
            made += _draw(model, part, samples, labels, metadata)
        return made

    def _ask(self, path: str, part: _Samples, form: str, metadata: bool = True) -> Plan[_Answer]:
        """Asks `keras-gan serve`."""
        name = part.model or (self._server and self._server[2])
        content: dict[str, Any] = {"format": form}
        if part.walk is not None:
            content |= {"interpolate": part.walk.tolist(), "count": part.count}
        else:
            content["seeds"] = part.seeds.tolist()
        if part.around is not None:
            content |= {"around": part.around, "radius": part.radius}
        for key, value in (("model", name), ("version", part.version), ("labels", part.labels)):
            content |= {} if value is None else {key: value}
        content |= {} if part.truncation == 1 else {"truncation": part.truncation}
        content |= {} if metadata else {"metadata": False}
        return (yield _request("POST", f"{path}/v1/generate", _to_json(content)))

    def _infer(self, part: _Samples) -> Plan[tuple[np.ndarray, np.ndarray | None, int | None]]:
        """Asks a server that is not ours; gives samples, labels if there are any, and version."""
        protocol, path, name, model = yield from self._find(part)
        by_seeds = part.plain and "seeds" in dict(model.inputs)
        columns = {} if by_seeds and part.labels is None else self._columns(model, part)
        labels = columns.get("labels")
        signature = "serving_default"
        if by_seeds or (part.plain and "generate" in model.signatures):
            columns, signature = {"seeds": part.seeds} | columns, "generate"
        elif model.latent_dim is None:
            raise UsageError(
                "A generator's input latents must have one fixed length. "
                f"Received: {name!r} at {self.url!r}"
            )
        else:
            columns = {"latents": part.latents(model.latent_dim)} | columns
        try:
            if protocol == "tf_serving":
                found = yield from self._predict(part, signature, columns)
                samples, version = _to_array(found), part.version  # no answer tells it
            else:
                answer = yield from _infer_v2(path, name, part.version, model, columns)
                samples, version = _read_v2(answer)
                version = version if part.version is None else part.version
        except ServerError:
            self._known.clear()  # it may be another version by now
            self._only = None
            raise
        number = part.number
        if len(samples) != number or (model.shape and samples.shape[1:] != model.shape):
            raise ServerError(
                f"A server must answer with {number} samples of shape {model.shape}. "
                f"Received: an array of shape {samples.shape}"
            )
        if version is not None and version == model.version:
            self._known.setdefault((name, version), model)
        return samples, labels, version

    def _columns(self, model: _Model, part: _Samples) -> dict[str, np.ndarray]:
        """The labels that a request must bring, as servers leave no input out."""
        if "labels" not in dict(model.inputs):
            if part.labels is not None:
                raise UsageError(
                    f"Model {model.name!r} takes no labels. Received: labels={part.labels!r:.80}"
                )
            return {}
        seeds = part.label_seeds()
        known = _Classes(model)
        if known.num_classes:
            ids = known.label_ids(seeds, part.labels)
        elif part.labels is None:
            raise UsageError(
                "This server does not tell the number of classes: name labels, or the bundle that "
                f"it serves with Client(..., bundle=FOLDER). Received: labels=None for "
                f"{model.name!r}"
            )
        else:
            several = part.labels if isinstance(part.labels, list) else [part.labels] * len(seeds)
            try:
                ids = np.array([int(label) for label in several], np.int64)
            except (ValueError, TypeError) as error:
                raise UsageError(
                    "This server does not tell the names of classes: labels must be ids. "
                    f"Received: labels={part.labels!r:.80}"
                ) from error
        return {} if ids is None else {"labels": ids}

    def _predict(
        self, part: _Samples, signature: str, columns: dict[str, np.ndarray]
    ) -> Plan[list[Any]]:
        """Asks TensorFlow Serving, by columns."""
        _, path, name, _ = yield from self._find(part)
        version = "" if part.version is None else f"/versions/{part.version}"
        inputs = {key: value.tolist() for key, value in columns.items()}
        body = _to_json({"signature_name": signature, "inputs": inputs})
        where = f"{path}/v1/models/{_quote(name)}{version}:predict"
        outputs = (yield _request("POST", where, body)).json().get("outputs")
        outputs = outputs.get("samples") if isinstance(outputs, dict) else outputs
        if not isinstance(outputs, list):
            raise ServerError(f"A prediction must have outputs. Received: {outputs!r:.80}")
        return outputs

    # ---------------------------------------------------------------------------- retries

    def _next_wait(self, attempt: int, deadline: float, answer: _Answer | None) -> float | None:
        """Gives the seconds before the next attempt; `None` where it would come too late.

        Never less than what the server asks for, and spread, so that clients which were turned
        away together do not come back together.
        """
        if attempt >= self._retries:
            return None
        backoff = min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT) * random.uniform(0.5, 1.0)
        asked = _retry_after(answer) if answer else None
        wait = backoff if asked is None else asked + backoff
        return wait if time.monotonic() + wait < deadline else None

    def _unreachable(self, error: BaseException) -> ServerError:
        told = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, TimeoutError):
            told = f"no answer within {self.timeout:g} s"
        return ServerError(f"A server must answer at the URL. Received: {self.url!r} ({told})")

    def _accept(self, request: _Request, answer: _Answer) -> _Answer:
        if answer.status == 200 or (request.may_fail and answer.status in _NOT_HERE):
            return answer
        if 300 <= answer.status < 400:
            raise ServerError(
                "A server must answer at the URL itself. Received: a redirection to "
                f"{answer.headers.get('location')!r:.200}",
                answer.status,
            )
        raise ServerError(answer.line(), answer.status)


class Client(_Calls):
    """Asks a server for samples; the same calls for every server that takes a bundle.

    Finds out by itself what the server is. Against Triton, and wherever a seed does not say it
    all, the latents are made here; the samples are the same. A server that is full or starting
    is asked again, after what its Retry-After says and a little more; asking twice makes the
    same samples. Connections are kept open. May be used by several threads at once.

    Args:
        url: `http://HOST:PORT`, or with `/NAME` of a model behind it.
        token: bearer token, for a server that wants one.
        timeout: seconds for one request, repeats and waits included.
        retries: how often a request is repeated at most.
        protocol: `"keras_gan"`, `"tf_serving"` or `"v2"`; found out by default.
        bundle: folder of the bundle that is served, for what another server does not tell: the
            number and names of classes, the value range.
        batch_size: samples asked for at a time.

    Raises:
        UsageError: a mistake, in the server's words where it found it (`ServerError`, with the
            `status` of the answer).
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 60.0, **options: Any):
        super().__init__(url, token, timeout, **options)
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def generate(self, seeds: Any = None, **wanted: Unpack[Wanted]) -> np.ndarray:
        """Gives samples, float32 of shape `(n, *shape)`.

        Args:
            seeds: integers, each `0 <= seed < 2**63`.
            seed, count: instead of seeds, the first one and how many (default 1).
            labels: class ids or names, one for all or one for each; by default each seed's own.
            truncation: factor on the latents, 0 or more.
            interpolate: instead of seeds, those to walk through on the sphere, in `count` steps,
                ends included.
            around: a seed; the samples are its neighbors, in directions that the seeds name.
            radius: how far from it, 0 to 1 (default 0.3).
            model: name of a model, where the URL has none and the server has several.
            version: its number; the newest by default.
        """
        return self._run(self._generate(_check(seeds, **wanted)))

    def pictures(
        self, seeds: Any = None, *, metadata: bool = True, **wanted: Unpack[Wanted]
    ) -> list[bytes]:
        """Gives samples as PNG files; takes what `generate` does.

        Args:
            metadata: whether the files say that a model made them, which one, from which seed.
        """
        return self._run(self._pictures(_check(seeds, **wanted), metadata))

    def models(self) -> list[dict[str, Any]]:
        """Gives name, version, shape and more of each model, `None` for what is not told."""
        return self._run(self._models())

    def close(self) -> None:
        """Closes the open connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, plan: Plan[T]) -> T:
        with contextlib.closing(plan):
            answer: Any = None
            while True:
                try:
                    request = plan.send(answer)
                except StopIteration as done:
                    return done.value
                answer = self._send(request)

    def _send(self, request: _Request) -> _Answer:
        deadline = time.monotonic() + self.timeout
        for attempt in itertools.count():
            try:
                answer = self._exchange(request, deadline)
            except (ConnectionError, http.client.HTTPException) as error:
                answer, failure = None, self._unreachable(error)
            except OSError as error:
                raise self._unreachable(error) from error
            else:
                if answer.status not in _BUSY:
                    return self._accept(request, answer)
                failure = ServerError(answer.line(), answer.status)
            wait = self._next_wait(attempt, deadline, answer)
            if wait is None:
                raise failure
            time.sleep(wait)
        raise RuntimeError("a count has no end")

    def _exchange(self, request: _Request, deadline: float) -> _Answer:
        for fresh in (False, True):
            with self._lock:
                connection = None if fresh or not self._idle else self._idle.pop()
            reused = connection is not None
            connection = connection or self._open()
            try:
                remaining = max(deadline - time.monotonic(), 0.001)
                connection.timeout = remaining
                if connection.sock is not None:
                    connection.sock.settimeout(remaining)
                connection.response_class = functools.partial(_Reply, deadline)  # type: ignore
                headers = self._headers | request.headers
                connection.request(request.method, request.path, request.body or None, headers)
                reply = connection.getresponse()
                body = reply.read()
            except (ConnectionError, http.client.HTTPException):
                connection.close()
                if not reused:
                    raise
                self.close()  # the server has closed it meanwhile, and the others with it
                continue
            except BaseException:
                connection.close()
                raise
            if reply.will_close:
                connection.close()
            else:
                self._give_back(connection)
            return _Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, body)
        raise ConnectionError("no connection")

    def _give_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < _IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _open(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port)
        return http.client.HTTPSConnection(self._host, self._port, context=self._tls)


class _Reply(http.client.HTTPResponse):
    """An answer that is there by a deadline; a socket's timeout is for each read, however small.

    Args:
        deadline: on the clock of `time.monotonic`.
    """

    def __init__(self, deadline: float, sock: socket.socket, *args: Any, **options: Any):
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_Until(sock, deadline))


class _Until(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: float):
        self._sock = sock
        self._deadline = deadline
        self._raw: Any = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if (remaining := self._deadline - time.monotonic()) <= 0:
            raise TimeoutError
        self._sock.settimeout(remaining)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class AsyncClient(_Calls):
    """`Client` for asyncio: the same calls, awaited; any number of them at once.

    A call that is cancelled closes its connection, which frees its place in the server.

    Args:
        url, token, timeout, retries, protocol, bundle, batch_size: as for `Client`.
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 60.0, **options: Any):
        super().__init__(url, token, timeout, **options)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def generate(self, seeds: Any = None, **wanted: Unpack[Wanted]) -> np.ndarray:
        """Gives samples, float32 of shape `(n, *shape)`; takes what `Client.generate` does."""
        return await self._run(self._generate(_check(seeds, **wanted)))

    async def pictures(
        self, seeds: Any = None, *, metadata: bool = True, **wanted: Unpack[Wanted]
    ) -> list[bytes]:
        """Gives samples as PNG files; takes what `Client.pictures` does."""
        return await self._run(self._pictures(_check(seeds, **wanted), metadata))

    async def models(self) -> list[dict[str, Any]]:
        """Gives name, version, shape and more of each model, `None` for what is not told."""
        return await self._run(self._models())

    async def close(self) -> None:
        """Closes the open connections."""
        idle, self._idle = self._idle, []
        for _, writer in idle:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, plan: Plan[T]) -> T:
        with contextlib.closing(plan):
            answer: Any = None
            while True:
                try:
                    request = plan.send(answer)
                except StopIteration as done:
                    return done.value
                answer = await self._send(request)

    async def _send(self, request: _Request) -> _Answer:
        deadline = time.monotonic() + self.timeout
        for attempt in itertools.count():
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0.001)):
                    answer = await self._exchange(request)
            except (ConnectionError, http.client.HTTPException, EOFError) as error:
                answer, failure = None, self._unreachable(error)
            except OSError as error:
                raise self._unreachable(error) from error
            else:
                if answer.status not in _BUSY:
                    return self._accept(request, answer)
                failure = ServerError(answer.line(), answer.status)
            wait = self._next_wait(attempt, deadline, answer)
            if wait is None:
                raise failure
            await asyncio.sleep(wait)
        raise RuntimeError("a count has no end")

    async def _exchange(self, request: _Request) -> _Answer:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # connections belong to the loop that opened them
            self._idle, self._loop = [], loop
        for fresh in (False, True):
            stream = None if fresh or not self._idle else self._idle.pop()
            reused = stream is not None
            reader, writer = stream or await asyncio.open_connection(
                self._host, self._port, ssl=self._tls
            )
            keep = False
            try:
                writer.write(_head(request, self._headers) + request.body)
                await writer.drain()
                answer, keep = await _read_answer(reader)
                return answer
            except (ValueError, asyncio.LimitOverrunError) as error:
                raise http.client.HTTPException(f"no answer of HTTP: {error}") from error
            except (ConnectionError, EOFError, http.client.HTTPException):
                if not reused:
                    raise
                for _, other in self._idle:
                    other.close()
                self._idle = []
            finally:
                if keep and len(self._idle) < _IDLE:
                    self._idle.append((reader, writer))
                else:
                    writer.close()
        raise ConnectionError("no connection")


class _Classes(Bundle):
    """The classes of a model on a server, told from labels as those of a bundle are."""

    def __init__(self, model: _Model):
        self.name = model.name
        self.num_classes = model.class_count or 0
        self.class_names = model.class_names


class RemoteBundle(_Classes):
    """A model on a server, with the face of a `Bundle`.

    Args:
        url: `http://HOST:PORT/NAME`, or without a name where the server has one model.
        token: bearer token; by default what the environment variable KERAS_GAN_TOKEN holds.
        options: of `Client`.

    Raises:
        UsageError: no server at the URL, no such model, or one that tells no shape.
    """

    def __init__(self, url: str, token: str | None = None, **options: Any):
        self._client = Client(url, token or os.environ.get("KERAS_GAN_TOKEN"), **options)
        *_, model = self._client._run(self._client._find(_check(0)))
        if model.shape is None or model.latent_dim is None:
            raise UsageError(
                "A server must tell the shapes of a model's inputs and outputs. "
                f"Received: {model.name!r} at {url!r}"
            )
        super().__init__(model)
        self._model = model
        self._conditional = bool(model.class_count) or "labels" in dict(model.inputs)
        self.kind = model.kind or "array"
        self.shape, self.latent_dim = model.shape, model.latent_dim
        self.value_range = model.value_range
        self.sha256 = model.sha256 or "unknown"

    @property
    def device(self) -> str:
        """Where it runs: the server."""
        return f"{self._client._host}:{self._client._port}"

    def label_ids(self, seeds: np.ndarray, labels: Any = None) -> np.ndarray | None:
        if self._conditional and not self.num_classes:
            wanted = _check(seeds, labels=labels)
            return self._client._columns(self._model, wanted)["labels"]
        return super().label_ids(seeds, labels)

    def sample(
        self, seeds: Any, labels: Any = None, truncation: float = 1.0, batch_size: int = 64
    ) -> dict[str, np.ndarray]:
        if not (isinstance(batch_size, int | np.integer) and batch_size >= 1):
            raise UsageError(f"batch_size must be at least 1. Received: batch_size={batch_size!r}")
        wanted = _check(seeds, truncation=truncation, model=self.name)
        ids = self.label_ids(wanted.seeds, labels)
        told = {"labels": None if ids is None else ids.tolist()}
        self._client.batch_size = int(batch_size)
        samples = self._client._run(
            self._client._generate(dataclasses.replace(wanted, **told))  # type: ignore[arg-type]
        )
        latents = wanted.latents(self.latent_dim)
        drawn = {"samples": samples, "seeds": wanted.seeds, "latents": latents}
        return drawn if ids is None else drawn | {"labels": ids}


# ------------------------------------------------------------------------------- the protocols

_PROBES = {"keras_gan": "/v1/models", "v2": "/v2"}  # TensorFlow Serving lists nothing


def _speaks(protocol: str, answer: _Answer) -> bool:
    content = None
    if answer.status == 200:
        with contextlib.suppress(ServerError):
            content = answer.json()
    if not isinstance(content, dict):
        return False
    if protocol == "keras_gan":
        return isinstance(content.get("models"), list)
    if protocol == "v2":
        return isinstance(content.get("name"), str) and "extensions" in content
    return isinstance(content.get("model_version_status"), list)


def _from_listing(entry: dict[str, Any]) -> _Model:
    limits, classes = entry.get("value_range"), entry.get("classes") or {}
    return _Model(
        name=str(entry["name"]),
        version=entry.get("version"),
        versions=tuple(entry.get("versions") or ()),
        kind=entry.get("kind"),
        shape=tuple(int(size) for size in entry["shape"]),
        value_range=None if limits is None else (float(limits[0]), float(limits[1])),
        latent_dim=int(entry["latent_dim"]),
        class_count=int(classes.get("count", 0)),
        class_names=tuple(classes.get("names") or ()),
        sha256=entry.get("sha256"),
    )


def _describe_v2(path: str, name: str, version: int | None) -> Plan[_Model]:
    server = (yield _request("GET", f"{path}/v2")).json()
    where = f"{path}/v2/models/{_quote(name)}"
    where += "" if version is None else f"/versions/{version}"
    content = (yield _request("GET", where)).json()
    # Triton tells the parameters of config.pbtxt here; others do not have the path.
    config = yield _request("GET", f"{where}/config", may_fail=True)
    told = config.json().get("parameters", {}) if config.status == 200 else {}
    told = {key: _parameter(value) for key, value in told.items()}
    try:
        inputs = {x["name"]: [int(n) for n in x["shape"]] for x in content["inputs"]}
        outputs = {x["name"]: [int(n) for n in x["shape"]] for x in content["outputs"]}
        if "seeds" in (content.get("parameters") or {}):  # keras-gan serve takes them as well
            inputs["seeds"] = [-1]
        versions = tuple(sorted(int(x) for x in content.get("versions") or ()))
        return _described(name, inputs, outputs, versions, told, version)(
            binary="binary_tensor_data" in server.get("extensions", ())
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError(f"Metadata must name inputs and outputs. Received: {error!r}") from error


def _describe_tf_serving(path: str, name: str, version: int | None) -> Plan[_Model]:
    where = f"{path}/v1/models/{_quote(name)}"
    status = (yield _request("GET", where)).json()
    where += "" if version is None else f"/versions/{version}"
    content = (yield _request("GET", f"{where}/metadata")).json()
    try:
        signatures = content["metadata"]["signature_def"]["signature_def"]
        states = status["model_version_status"]
        versions = sorted(int(x["version"]) for x in states if x["state"] == "AVAILABLE")
        default = signatures["serving_default"]
        inputs = {key: _tensor_shape(value) for key, value in default["inputs"].items()}
        outputs = {key: _tensor_shape(value) for key, value in default["outputs"].items()}
        told = {"kind": "image"} if "generate_png" in signatures else {}
        return _described(name, inputs, outputs, tuple(versions), told, version)(
            signatures=tuple(sorted(signatures))
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError(f"Metadata must name signatures. Received: {error!r}") from error


def _tensor_shape(port: dict[str, Any]) -> list[int]:
    return [int(dim["size"]) for dim in port["tensor_shape"].get("dim", ())]


def _parameter(value: Any) -> Any:
    text: Any = value.get("string_value") if isinstance(value, dict) else value
    with contextlib.suppress(TypeError, ValueError):
        return json.loads(text)
    return text


def _described(
    name: str,
    inputs: dict[str, list[int]],
    outputs: dict[str, list[int]],
    versions: tuple[int, ...],
    told: dict[str, Any],
    version: int | None,
) -> Any:
    """Gives a constructor of what shapes tell, for the caller to add to."""
    if "latents" not in inputs or "samples" not in outputs:
        raise ValueError(f"inputs {sorted(inputs)} and outputs {sorted(outputs)}")
    shape, latents = tuple(outputs["samples"][1:]), inputs["latents"][1:]
    limits = told.get("value_range")
    classes: Any = {"count": 0} if "labels" not in inputs else told.get("classes") or {}

    def make(**more: Any) -> _Model:
        return _Model(
            name=name,
            version=version or (versions[-1] if versions else None),
            versions=versions,
            kind=told.get("kind") or _kind(shape),
            shape=shape if all(size > 0 for size in shape) else None,
            value_range=None if limits is None else (float(limits[0]), float(limits[1])),
            latent_dim=latents[0] if len(latents) == 1 and latents[0] > 0 else None,
            class_count=classes.get("count"),
            class_names=tuple(classes.get("names") or ()),
            inputs=tuple((key, len(value)) for key, value in inputs.items()),
            **more,
        )

    return make


def _kind(shape: tuple[int, ...]) -> str:
    if len(shape) == 3 and shape[-1] in (1, 3, 4):
        return "image"
    return "points" if len(shape) == 1 else "array"


_TYPES = {"FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"), "FP16": np.dtype("<f2")}


def _infer_v2(
    path: str,
    name: str,
    version: int | None,
    model: _Model,
    columns: dict[str, np.ndarray],
) -> Plan[_Answer]:
    ranks = dict(model.inputs)
    inputs, blobs = [], []
    for key, value in columns.items():
        value = value.reshape(-1, 1) if ranks.get(key) == 2 and value.ndim == 1 else value
        kind = "INT64" if value.dtype.kind == "i" else "FP32"
        port: dict[str, Any] = {"name": key, "datatype": kind, "shape": list(value.shape)}
        if model.binary:
            blobs.append(value.astype("<i8" if kind == "INT64" else "<f4").tobytes())
            port["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            port["data"] = value.ravel().tolist()
        inputs.append(port)
    output: dict[str, Any] = {"name": "samples"}
    output |= {"parameters": {"binary_data": True}} if model.binary else {}
    head = _to_json({"inputs": inputs, "outputs": [output]})
    headers = {_BINARY: str(len(head)), "Content-Type": "application/octet-stream"}
    where = f"{path}/v2/models/{_quote(name)}"
    where += "" if version is None else f"/versions/{version}"
    body = head + b"".join(blobs)
    return (yield _request("POST", f"{where}/infer", body, headers if model.binary else None))


def _version_of(answer: _Answer) -> int | None:
    """Gives the version that `keras-gan serve` says has answered."""
    return _to_version(answer.headers.get("x-model-version", ""))


def _to_version(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _read_v2(answer: _Answer) -> tuple[np.ndarray, int | None]:
    """Gives the samples, and the version that made them where the server names one by number."""
    try:
        size = int(answer.headers.get(_BINARY.lower(), len(answer.body)))
        content = json.loads(answer.body[:size])
        start = size
        version = _to_version(str(content.get("model_version", "")))
        for port in content["outputs"]:
            length = port.get("parameters", {}).get("binary_data_size")
            if port["name"] == "samples":
                kind, shape = _TYPES[port["datatype"]], port["shape"]
                if length is None:
                    return np.array(port["data"], np.float32).reshape(shape), version
                blob = answer.body[start : start + length]
                samples = np.frombuffer(blob, kind).reshape(shape).astype(np.float32)
                return samples, version
            start += length or 0
        raise KeyError("samples")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ServerError(f"An answer must hold samples. Received: {error!r:.200}") from error


def _read_npy(body: bytes) -> np.ndarray:
    """Reads an array whose header is not trusted: it may claim more than there is, or pickles."""
    file = io.BytesIO(body)
    try:
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if fortran or dtype.kind != "f" or not shape:
            raise ValueError("no array of floats")
        data = np.frombuffer(body, dtype, offset=file.tell())
        return data.reshape(shape).astype(np.float32)
    except (ValueError, SyntaxError, TypeError, EOFError) as error:
        raise ServerError(
            f"An answer must be an .npy file of floats. Received: {body[:40]!r}"
        ) from error


def _read_pictures(answer: _Answer) -> list[bytes]:
    if answer.headers.get("content-type", "").startswith("image/png"):
        return [answer.body]
    try:
        return [_from_base64(sample["png"]) for sample in answer.json()["samples"]]
    except (KeyError, TypeError) as error:
        raise ServerError(f"An answer must hold pictures. Received: {error!r}") from error


def _from_base64(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise ServerError(f"A picture must be in base64. Received: {text!r:.40}") from error


def _to_array(content: list[Any]) -> np.ndarray:
    try:
        return np.array(content, np.float32)
    except (TypeError, ValueError) as error:
        raise ServerError(f"Samples must be numbers. Received: {str(content)[:40]!r}") from error


def _draw(
    model: _Model, part: _Samples, samples: np.ndarray, labels: np.ndarray | None, metadata: bool
) -> list[bytes]:
    """Pictures of samples that came as numbers, like those of `keras-gan sample --each`."""
    from serving import pictures
    from serving.provenance import provenance

    made = []
    for number, picture in enumerate(pictures.to_uint8(samples, model.value_range)):
        facts: dict[str, object] = {} if labels is None else {"label": labels[number]}
        if part.walk is not None:
            facts |= {"interpolate": ",".join(map(str, part.walk)), "step": number}
            facts["count"] = part.count
        else:
            facts["seed"] = part.seeds[number]
        facts |= {} if part.around is None else {"around": part.around, "radius": part.radius}
        facts |= {} if part.truncation == 1 else {"truncation": part.truncation}
        texts = provenance(model.name, model.sha256 or "unknown", **facts) if metadata else None
        made.append(pictures.to_png(picture, texts))
    return made


# ------------------------------------------------------------------------------------- HTTP


def _request(
    method: str,
    path: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    may_fail: bool = False,
) -> _Request:
    if headers is None:
        headers = {"Content-Type": "application/json"} if body else {}
    return _Request(method, path, body, headers, may_fail)


def _to_json(content: Any) -> bytes:
    try:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise UsageError(f"A request must be plain numbers and text. Received: {error}") from error


def _quote(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _retry_after(answer: _Answer) -> float | None:
    """Seconds that a server asks a client to wait, given as such or as a date."""
    text = answer.headers.get("retry-after", "").strip()
    with contextlib.suppress(ValueError):
        return max(float(text), 0.0) if math.isfinite(float(text)) else None
    with contextlib.suppress(ValueError, TypeError):
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    return None


def _head(request: _Request, headers: dict[str, str]) -> bytes:
    headers = headers | request.headers
    if request.body:
        headers["Content-Length"] = str(len(request.body))
    lines = [f"{request.method} {request.path or '/'} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _read_answer(reader: asyncio.StreamReader) -> tuple[_Answer, bool]:
    """Reads an answer of HTTP/1.1; says whether the connection can be used again."""
    status = 100
    headers: dict[str, str] = {}
    version = ""
    while 100 <= status < 200:
        head = await reader.readuntil(b"\r\n\r\n")
        first, _, rest = head.partition(b"\r\n")
        version, _, tail = first.decode("latin-1").partition(" ")
        if not version.startswith("HTTP/1.") or not tail[:3].isdecimal():
            raise http.client.BadStatusLine(first.decode("latin-1")[:80])
        status = int(tail[:3])
        parsed = http.client.parse_headers(io.BytesIO(rest))
        headers = {name.lower(): value for name, value in parsed.items()}
    keep = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = await _read_chunks(reader)
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif status in (204, 304):
        body = b""
    else:
        body, keep = await reader.read(), False
    return _Answer(status, headers, body), keep


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers
    return b"".join(parts)
