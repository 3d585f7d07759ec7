"""The bundles that are served, by name and version, and what becomes of them while they are.

A folder is looked at again and again. What is new is opened, checked, warmed and held against its
golden samples in a thread of its own, and only then takes its place; what it replaces ends the
requests that it has. A bundle that cannot be opened is told of once, and changes nothing.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import io
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from serving.bundle import Bundle
from serving.engine import QUICK, Engine
from serving.errors import UsageError
from serving.limits import Settings, cpus

_GOLDEN = "golden.npz"
_MAX_GOLDEN = 64 * 2**20
_JOIN_SECONDS = 5.0  # for threads to end
_GRACE = 0.05  # seconds in which a request that has found an engine submits to it


class Served:
    """A version of a model: the bundle, the engine that runs it, and what answers say of it.

    Args:
        bundle: opened, with a session for each worker.
        version: its number.
        numbered: whether that is the name of its folder, whose content then never changes.
    """

    def __init__(self, bundle: Bundle, version: int, numbered: bool):
        self.bundle = bundle
        self.version = version
        self.numbered = numbered
        self.engine: Engine = None  # type: ignore[assignment]
        self.users = 0  # requests of several batches that are under way
        self.size = math.prod(bundle.shape)
        self.forms = _forms(bundle)
        self.form = self.forms[0]
        self.head = (
            f"x-model: {bundle.name}\r\nx-model-version: {version}\r\n"
            f"x-model-sha256: {bundle.sha256}\r\n"
        ).encode("ascii")
        self.counts: Any = None  # the metrics' own

    @property
    def busy(self) -> bool:
        """Whether requests of it are under way."""
        return bool(self.users or self.engine.pending)

    def describe(self) -> dict[str, Any]:
        """What `/v1/models` says of it."""
        manifest, bundle = self.bundle.manifest, self.bundle
        return {
            "name": bundle.name,
            "version": self.version,
            "kind": bundle.kind,
            "shape": bundle.shape,
            "value_range": bundle.value_range,
            "latent_dim": bundle.latent_dim,
            "classes": {"count": bundle.num_classes, "names": bundle.class_names},
            "sha256": bundle.sha256,
            "license": manifest.get("license", manifest.get("license")),
            "notice": manifest.get("notice"),
            "intended_use": manifest.get("intended_use"),
            "pictures": "grid" in self.forms,
            "formats": self.forms,
        }


def _forms(bundle: Bundle) -> tuple[str, ...]:
    if bundle.kind == "image" and bundle.shape[-1] in (1, 3, 4):
        return ("png", "npy", "json", "grid")
    return ("grid", "npy", "json") if bundle.kind == "points" else ("npy", "json")


class Place:
    """Where a version was found."""

    def __init__(self, folder: Path, name: str, version: int, numbered: bool):
        self.folder = folder
        self.name = name
        self.version = version
        self.numbered = numbered
        self.stamp = _stamp(folder)


class Repository:
    """Models by name, each with its versions by number.

    Args:
        settings: the server's; `paths` are the folders to look into.
        say: told what happens, in one line, and whether it is a failure.
        observe: called for each new version; gives what its engine tells of batches.

    Raises:
        UsageError: a path that holds no bundle, or two models of one name.
    """

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str, bool], None] = lambda line, failed: None,
        observe: Callable[[Served], Callable[[int, float], None] | None] = lambda served: None,
    ):
        self.models: dict[str, dict[int, Served]] = {}
        self.newest: dict[str, Served] = {}
        self.loaded = False  # all that was there at the start
        self.error: BaseException | None = None  # what stopped the start
        self.ending: set[Served] = set()  # replaced or gone, with workers that still run
        self.ended = True  # False if a thread outlived `close`
        self._settings = settings
        self._say = say
        self._observe = observe
        self._refused: dict[str, Any] = {}
        self._missed: dict[tuple[str, int], int] = {}
        self._told: set[str] = set()
        self._stamps: dict[tuple[str, int], Any] = {}
        self._seen: dict[str, list[tuple[Path, list[Place]]]] = {}  # in each path, at the last look
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]
        self._first = self._look(strict=True)

    # ------------------------------------------------------------------ for requests

    def find(self, name: str, version: int | None = None) -> Served | None:
        """Gives a version of a model, by default the newest."""
        if version is None:
            return self.newest.get(name)
        return self.models.get(name, {}).get(version)

    def __iter__(self) -> Iterator[Served]:
        for versions in list(self.models.values()):
            yield from list(versions.values())

    # ------------------------------------------------------------------ while it runs

    def start(self, loop: asyncio.AbstractEventLoop, ended: Callable[[], None]) -> None:
        """Starts to load, and then to watch; `ended` is called in the loop once all is loaded."""
        self._loop = loop
        self._thread = threading.Thread(
            target=self._watch, args=(ended,), name="repository", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stops watching and ends all engines."""
        self._stop.set()
        closing = {*self, *self.ending}
        for served in closing:
            served.engine.close()
        self.models, self.newest = {}, {}
        self.ending.clear()
        # A thread within onnxruntime, when the interpreter ends, aborts the process.
        end = time.monotonic() + _JOIN_SECONDS
        for served in closing:
            self.ended &= served.engine.join(max(0.0, end - time.monotonic()))
        if self._thread is not None:
            self._thread.join(max(0.0, end - time.monotonic()))
            self.ended &= not self._thread.is_alive()

    def _watch(self, ended: Callable[[], None]) -> None:
        try:
            for place in self._first:
                self._take(place, strict=True)
            self._call(setattr, self, "loaded", True)
        except Exception as error:
            self.error = error
        # What was read to get here is not needed again.
        gc.collect()
        gc.freeze()
        self._call(ended)
        if self.error is not None:
            return
        while not self._stop.wait(self._settings.poll_seconds):
            try:
                self.refresh()
            except Exception as error:  # a folder that changes while it is read, at the worst
                self._say(f"The folders could not be read: {error!r:.200}", True)

    def refresh(self) -> None:
        """Looks at the folders once, and takes in what has changed."""
        while True:
            places = {(place.name, place.version): place for place in self._look(strict=False)}
            new = [p for key, p in places.items() if self._is_new(key, p)]
            for place in new:
                self._take(place, strict=False)
            # In the place of one that is refused, an older version counts among the newest.
            if not any(self._is_refused(place) for place in new):
                break
        for key in places:
            self._missed.pop(key, None)
        for name, versions in list(self.models.items()):
            for version in list(versions):
                key = (name, version)
                if key not in places:
                    # Twice: a folder that is replaced is away for a moment.
                    self._missed[key] = self._missed.get(key, 0) + 1
                    if self._missed[key] > 1:
                        del self._missed[key]
                        self._drop(key)

    def _is_refused(self, place: Place) -> bool:
        return self._refused.get(str(place.folder)) == place.stamp

    def _is_new(self, key: tuple[str, int], place: Place) -> bool:
        return self._stamps.get(key) != place.stamp and not self._is_refused(place)

    def _take(self, place: Place, strict: bool) -> None:
        """Opens what is at a place and puts it there, or says why not."""
        key = (place.name, place.version)
        try:
            served = self._open(place)
        except Exception as error:
            if strict:
                raise
            self._refused[str(place.folder)] = place.stamp
            line = str(error) if isinstance(error, UsageError) else repr(error)[:200]
            self._say(f"{place.name} version {place.version} is not taken: {line}", True)
            return
        self._refused.pop(str(place.folder), None)
        self._stamps[key] = place.stamp
        self._call(self._place, key, served)

    def _open(self, place: Place) -> Served:
        settings = self._settings
        gpu = settings.device != "cpu"
        bundle = Bundle(
            place.folder,
            threads=1,
            device=settings.device,
            precision=settings.precision,
            sessions=settings.workers,
        )
        if bundle.name != place.name:
            raise UsageError(
                f"A model keeps its name. Received: {str(place.folder)!r}, which became "
                f"{bundle.name!r}"
            )
        if gpu and settings.device == "auto" and bundle.device == "cpu":
            self._say_once("No GPU was found that onnxruntime can use; it runs on the CPU.")
        served = Served(bundle, place.version, place.numbered)
        _warm(bundle, settings.max_batch)
        one, wide = math.inf, None
        if bundle.device == "cpu":
            one = _seconds(bundle.runners()[0], bundle)
            threads = min(settings.workers, cpus())
            if threads > 1 and one > QUICK:
                wide = bundle.wide_runner(threads)
                if _seconds(wide, bundle) > one:
                    wide = None
        served.engine = Engine(
            bundle.runners(),
            bundle.latent_dim,
            bundle.num_classes,
            self._loop,
            max_batch=settings.max_batch,
            queue=settings.queue,
            observe=self._observe(served),
            one=one,
            wide=wide,
        )
        return served

    # ------------------------------------------------------------------ in the event loop

    def _place(self, key: tuple[str, int], served: Served) -> None:
        name, version = key
        old = self.models.setdefault(name, {}).get(version)
        self.models[name][version] = served
        self._choose(name)
        again = "again, changed" if old else "loaded"
        self._say(f"{name} version {version} is {again}: {served.bundle.sha256[:12]}", False)
        if old:
            self._let_go(old)

    def _remove(self, key: tuple[str, int]) -> None:
        name, version = key
        old = self.models.get(name, {}).pop(version, None)
        self._choose(name)
        if old:
            self._say(f"{name} version {version} is gone", False)
            self._let_go(old)

    def _choose(self, name: str) -> None:
        versions = self.models.get(name)
        if versions:
            self.newest[name] = versions[max(versions)]
        else:
            self.models.pop(name, None)
            self.newest.pop(name, None)

    def _let_go(self, served: Served) -> None:
        """Ends an engine, after the requests that have found it have come to it."""
        self.ending.add(served)
        self._loop.call_later(_GRACE, self._retire, served)

    def _retire(self, served: Served) -> None:
        """Ends an engine once the requests that it has are answered."""
        if not served.busy:
            served.engine.close()
            if served.engine.join(0.0):
                self.ending.discard(served)
                return
        self._loop.call_later(_GRACE, self._retire, served)

    # ------------------------------------------------------------------ folders

    def _drop(self, key: tuple[str, int]) -> None:
        self._stamps.pop(key, None)
        self._call(self._remove, key)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # closed: the server has ended
            self._stop.set()

    def _look(self, strict: bool) -> list[Place]:
        """Finds what is to be served in the folders, the newest version of each model first."""
        found: dict[str, dict[int, Place]] = {}
        owner: dict[str, str] = {}
        for path in self._settings.paths:
            try:
                models = list(_models(Path(path).expanduser()))
                if not models and strict:
                    raise UsageError(_no_bundle(path))
                self._seen[path] = models
            except OSError as error:
                if strict:
                    raise UsageError(f"A folder must be readable. Received: {error}") from error
                models = self._seen.get(path, [])  # a disk that is away for a while removes nothing
            for folder, places in models:
                for place in places:
                    if owner.setdefault(place.name, str(folder)) != str(folder):
                        message = (
                            "Models must differ in their names. "
                            f"Received: {place.name!r} in {owner[place.name]!r} and {str(folder)!r}"
                        )
                        if strict:
                            raise UsageError(message)
                        self._say_once(message)
                        continue
                    found.setdefault(place.name, {})[place.version] = place
        chosen = []
        for name, versions in found.items():
            # One that was refused takes no place; what was good before it changed stays.
            good = [
                version
                for version, place in versions.items()
                if (name, version) in self._stamps or not self._is_refused(place)
            ]
            newest = sorted(good, reverse=True)[: self._settings.versions]
            chosen += [versions[version] for version in newest]
        return chosen

    def _say_once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._say(line, True)


def _models(path: Path) -> Iterator[tuple[Path, list[Place]]]:
    """The models in a folder: it is a bundle, a run, versions, or holds such."""
    own = _versions(path)
    if own:
        yield path, own
        return
    for folder in sorted(path.iterdir()) if path.is_dir() else ():
        if folder.is_dir() and not folder.name.startswith("."):
            own = _versions(folder)
            if own:
                yield folder, own


def _versions(path: Path) -> list[Place]:
    for folder in (path, path / "bundle"):
        if (folder / "manifest.json").is_file():
            return _place(folder, 1, False)
    found = []
    if path.is_dir():
        for folder in path.iterdir():
            if re.fullmatch(r"[0-9]{1,18}", folder.name) and (folder / "manifest.json").is_file():
                found += _place(folder, int(folder.name), True)
    return found


def _place(folder: Path, version: int, numbered: bool) -> list[Place]:
    """A place if its manifest can be read at all; what is wrong with it is told on opening."""
    import json

    try:
        with open(folder / "manifest.json", "rb") as file:
            manifest = json.loads(file.read(16 * 2**20))
        name = manifest["name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        name = None
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}", name):
        name = folder.parent.name if numbered or folder.name == "bundle" else folder.name
    return [Place(folder, name, version, numbered)]


def _stamp(folder: Path) -> tuple[Any, ...]:
    """Changes when a bundle does."""
    stamps = []
    for name in ("manifest.json", "model.onnx", "model.onnx.data"):
        try:
            status = os.stat(folder / name)
        except OSError:
            stamps.append(None)
        else:
            stamps.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(stamps)


def _no_bundle(path: str) -> str:
    if not os.path.exists(path):
        return f"A bundle must exist. Received: {path!r}"
    return (
        "What is served is a folder of a bundle, of a run that was exported, of versions, or of "
        f"several of these. Received: {path!r}"
    )


def _zeros(bundle: Bundle, count: int) -> dict[str, np.ndarray]:
    feeds: dict[str, np.ndarray] = {"latents": np.zeros((count, bundle.latent_dim), np.float32)}
    if bundle.num_classes:
        feeds["labels"] = np.zeros(count, np.int64)
    return feeds


def _seconds(run: Callable[[dict[str, np.ndarray]], np.ndarray], bundle: Bundle) -> float:
    """What one sample takes at best, of three tries after a first."""
    feeds = _zeros(bundle, 1)
    run(feeds)
    found = []
    for _ in range(3):
        start = time.perf_counter()
        run(feeds)
        found.append(time.perf_counter() - start)
    return min(found)


def _warm(bundle: Bundle, max_batch: int) -> None:
    """Runs every session, at one sample and a full batch, and looks at the golden samples.

    Raises:
        UsageError: the model makes other samples than those that its bundle shows.
    """
    for run in bundle.runners():
        for count in (1, max_batch):
            run(_zeros(bundle, count))
    golden = _golden(bundle)
    if golden is None:
        return
    seeds, labels, expected = golden
    drawn = bundle.sample(seeds, labels, batch_size=max_batch)["samples"]
    low, high = bundle.value_range or (float(expected.min()), float(expected.max()))
    limit = 1e-2 * max(high - low, 1e-6)  # of another machine's rounding, not of another model
    worst = float(np.abs(drawn - expected).max())
    if not worst <= limit:
        raise UsageError(
            "A model must make the golden samples of its bundle. "
            f"Received: {str(bundle.path)!r}, which is off by {worst:.3g}"
        )


def _golden(bundle: Bundle) -> tuple[np.ndarray, np.ndarray | None, np.ndarray] | None:
    """The first golden samples, if the bundle has them and they are what the manifest says."""
    facts = bundle.manifest["files"].get(_GOLDEN)
    path = bundle.path / _GOLDEN
    if facts is None or not path.is_file() or path.stat().st_size > _MAX_GOLDEN:
        return None
    content = path.read_bytes()
    if not isinstance(facts, dict) or hashlib.sha256(content).hexdigest() != facts.get("sha256"):
        raise UsageError(
            f"{_GOLDEN} must have the SHA-256 that manifest.json names; the bundle is damaged or "
            f"was changed. Received: {str(path)!r}"
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as golden:
            seeds, samples = golden["seeds"][:4], golden["samples"][:4]
            labels = golden["labels"][:4] if bundle.num_classes else None
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise UsageError(
            f"{_GOLDEN} must hold seeds and samples. Received: {str(path)!r} ({error!r:.80})"
        ) from error
    if samples.shape != (len(seeds), *bundle.shape) or not len(seeds):
        raise UsageError(
            f"{_GOLDEN} must hold samples of the shape in the manifest. Received: {str(path)!r}"
        )
    return seeds, labels, samples
