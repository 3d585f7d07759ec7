"""Repository of the served bundles, by name and version.

The folders are polled. A new version is opened, verified, warmed up and compared with its golden
samples in a thread, and only then served; the version that it replaces finishes its requests first.
A bundle that cannot be opened is logged once and changes nothing.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from serving.discovery import VersionFolder, describe_missing, find_models
from serving.errors import UsageError
from serving.examples import read_examples
from serving.limits import Settings
from serving.loading import Served, open_bundle, start_engine, warm_up

_JOIN_SECONDS = 5.0  # for threads to stop
_GRACE = 0.05  # seconds within which a request that has found an engine submits its job
_MAX_MISSES = 1  # polls for which a folder may be away while it is replaced

_Key = tuple[str, int]  # name and version


class Repository:
    """Models by name, each with its versions by number.

    Args:
        settings: settings of the server; `paths` are the folders to poll.
        say: called with a line to log, and with True if it reports a failure.
        observe: called for each new version; returns the observer of its engine's batches.

    Raises:
        UsageError: a path without a bundle, or two models with the same name.
    """

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str, bool], None] = lambda line, failed: None,
        observe: Callable[[Served], Callable[[int, float], None] | None] = lambda served: None,
    ):
        self.models: dict[str, dict[int, Served]] = {}
        self.newest: dict[str, Served] = {}
        self.loaded = False  # True once all versions found at the start are loaded
        self.error: BaseException | None = None  # the failure that stopped the start
        self.ending: set[Served] = set()  # replaced or removed, with workers that still run
        self.ended = True  # False if a thread outlived `close`
        self._settings = settings
        self._say = say
        self._observe = observe
        self._refused: dict[str, Any] = {}  # stamps of the folders that could not be opened
        self._misses: dict[_Key, int] = {}
        self._logged: set[str] = set()
        self._stamps: dict[_Key, Any] = {}  # of the versions that are served
        # The models in each path, at the last poll.
        self._seen: dict[str, list[tuple[Path, list[VersionFolder]]]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]
        self._initial = self._scan(strict=True)

    # ------------------------------------------------------------------ for requests

    def find(self, name: str, version: int | None = None) -> Served | None:
        """Returns a version of a model, by default the newest; `None` if there is none."""
        if version is None:
            return self.newest.get(name)
        return self.models.get(name, {}).get(version)

    def __iter__(self) -> Iterator[Served]:
        for versions in list(self.models.values()):
            yield from list(versions.values())

    # ------------------------------------------------------------------ life cycle

    def start(self, loop: asyncio.AbstractEventLoop, ended: Callable[[], None]) -> None:
        """Starts to load and then to poll; calls `ended` in the loop once all is loaded."""
        self._loop = loop
        self._thread = threading.Thread(
            target=self._watch, args=(ended,), name="repository", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stops polling and all engines."""
        self._stop.set()
        closing = {*self, *self.ending}
        for served in closing:
            served.engine.close()
        self.models, self.newest = {}, {}
        self.ending.clear()
        # A thread that is inside onnxruntime when the interpreter exits aborts the process.
        end = time.monotonic() + _JOIN_SECONDS
        for served in closing:
            self.ended &= served.engine.join(max(0.0, end - time.monotonic()))
        if self._thread is not None:
            self._thread.join(max(0.0, end - time.monotonic()))
            self.ended &= not self._thread.is_alive()

    def _watch(self, ended: Callable[[], None]) -> None:
        try:
            for found in self._initial:
                self._add(self._open(found), found)
            self._call(setattr, self, "loaded", True)
        except Exception as error:
            self.error = error
        # Objects created during loading stay: later collections need not visit them.
        gc.collect()
        gc.freeze()
        self._call(ended)
        if self.error is not None:
            return
        while not self._stop.wait(self._settings.poll_seconds):
            try:
                self.refresh()
            except Exception as error:  # such as a folder that changes while it is read
                self._say(f"The folders could not be read: {error!r:.200}", True)

    def refresh(self) -> None:
        """Polls the folders once, and applies what has changed."""
        while True:
            folders = {(found.name, found.version): found for found in self._scan(strict=False)}
            new = [found for key, found in folders.items() if self._is_new(key, found)]
            for found in new:
                self._try_add(found)
            # If one was refused, an older version takes its rank among the newest: scan again.
            if not any(self._is_refused(found) for found in new):
                break
        for key in folders:
            self._misses.pop(key, None)
        for name, versions in list(self.models.items()):
            for key in [(name, version) for version in versions]:
                if key not in folders:
                    self._misses[key] = self._misses.get(key, 0) + 1
                    if self._misses[key] > _MAX_MISSES:
                        del self._misses[key]
                        self._stamps.pop(key, None)
                        self._call(self._remove, key)

    def _is_refused(self, found: VersionFolder) -> bool:
        return self._refused.get(str(found.folder)) == found.stamp

    def _is_new(self, key: _Key, found: VersionFolder) -> bool:
        return self._stamps.get(key) != found.stamp and not self._is_refused(found)

    def _try_add(self, found: VersionFolder) -> None:
        """Opens a version and serves it, or logs why it cannot be served."""
        try:
            served = self._open(found)
        except Exception as error:
            self._refused[str(found.folder)] = found.stamp
            line = str(error) if isinstance(error, UsageError) else repr(error)[:200]
            self._say(f"{found.name} version {found.version} was refused: {line}", True)
            return
        self._add(served, found)

    def _open(self, found: VersionFolder) -> Served:
        settings = self._settings
        bundle = open_bundle(found, settings)
        if settings.device == "auto" and bundle.device == "cpu":
            self._say_once("No GPU was found that onnxruntime can use; running on the CPU.")
        served = Served(bundle, found.version, found.is_numbered)
        warm_up(bundle, settings.max_batch, served.sizes)
        served.examples = read_examples(bundle.path, bundle.manifest)
        served.engine = start_engine(bundle, settings, self._loop, self._observe(served))
        return served

    def _add(self, served: Served, found: VersionFolder) -> None:
        key = (found.name, found.version)
        self._refused.pop(str(found.folder), None)
        self._stamps[key] = found.stamp
        self._call(self._insert, key, served)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed: the server has stopped
            self._stop.set()

    # ------------------------------------------------------------------ in the event loop

    def _insert(self, key: _Key, served: Served) -> None:
        name, version = key
        old = self.models.setdefault(name, {}).get(version)
        self.models[name][version] = served
        self._update_newest(name)
        event = "reloaded" if old else "loaded"
        self._say(f"{name} version {version} was {event}: {served.bundle.sha256[:12]}", False)
        if old:
            self._release(old)

    def _remove(self, key: _Key) -> None:
        name, version = key
        old = self.models.get(name, {}).pop(version, None)
        self._update_newest(name)
        if old:
            self._say(f"{name} version {version} was removed", False)
            self._release(old)

    def _update_newest(self, name: str) -> None:
        versions = self.models.get(name)
        if versions:
            self.newest[name] = versions[max(versions)]
        else:
            self.models.pop(name, None)
            self.newest.pop(name, None)

    def _release(self, served: Served) -> None:
        """Closes an engine, after requests that have found it have submitted their jobs."""
        self.ending.add(served)
        self._loop.call_later(_GRACE, self._close_if_idle, served)

    def _close_if_idle(self, served: Served) -> None:
        """Closes an engine once its requests are answered."""
        if not served.busy:
            served.engine.close()
            if served.engine.join(0.0):
                self.ending.discard(served)
                return
        self._loop.call_later(_GRACE, self._close_if_idle, served)

    # ------------------------------------------------------------------ folders

    def _scan(self, strict: bool) -> list[VersionFolder]:
        """Returns the versions to serve, the newest of each model first.

        Args:
            strict: raise errors, as at the start, instead of logging them.
        """
        found: dict[str, dict[int, VersionFolder]] = {}
        owner: dict[str, str] = {}  # folder of each model
        for path in self._settings.paths:
            for folder, versions in self._models_in(path, strict):
                for version in versions:
                    name = version.name
                    if owner.setdefault(name, str(folder)) == str(folder):
                        found.setdefault(name, {})[version.version] = version
                        continue
                    message = (
                        "Models must differ in their names. "
                        f"Received: {name!r} in {owner[name]!r} and {str(folder)!r}"
                    )
                    if strict:
                        raise UsageError(message)
                    self._say_once(message)
        return [version for versions in found.values() for version in self._newest_of(versions)]

    def _models_in(self, path: str, strict: bool) -> list[tuple[Path, list[VersionFolder]]]:
        try:
            models = list(find_models(Path(path).expanduser()))
        except OSError as error:
            if strict:
                raise UsageError(f"A folder must be readable. Received: {error}") from error
            return self._seen.get(path, [])  # a disk that is away for a while removes nothing
        if not models and strict:
            raise UsageError(describe_missing(path))
        self._seen[path] = models
        return models

    def _newest_of(self, versions: dict[int, VersionFolder]) -> list[VersionFolder]:
        # A refused version does not count. One that was served before it changed still does.
        good = [
            version
            for version, found in versions.items()
            if (found.name, version) in self._stamps or not self._is_refused(found)
        ]
        newest = sorted(good, reverse=True)[: self._settings.versions]
        return [versions[version] for version in newest]

    def _say_once(self, line: str) -> None:
        if line not in self._logged:
            self._logged.add(line)
            self._say(line, True)
