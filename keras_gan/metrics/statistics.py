"""What the metrics need of one side's samples, gathered in one pass and kept on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import re
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import rich.console
import rich.progress

from keras_gan.datasets import decoding
from keras_gan.errors import UsageError
from keras_gan.metrics.accumulators import Collected, Moments
from keras_gan.metrics.features import Extractor
from keras_gan.metrics.sources import Samples

_VERSION = 2  # of the files in the cache, and of how features come about
LIMIT = 2 * 10**9  # bytes of the files in the cache
_NAME = re.compile(r"[0-9a-f]{32}\.(moments|rows)\.npz")


@dataclasses.dataclass(frozen=True)
class Statistics:
    """One side of a comparison.

    Args:
        moments: of the features.
        features: all of them, `count * dim * 4` bytes; `None` where only moments are asked for.
        probabilities: float32 `(count, classes)`, likewise; `None` of an extractor without classes.
        labels: the samples' own classes `(count,)`, if they have any.
    """

    moments: Moments
    features: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    labels: np.ndarray | None = None

    @property
    def count(self) -> int:
        return self.moments.count


def gather(
    samples: Samples,
    count: int,
    extractor: Extractor,
    *,
    rows: bool = True,
    title: str = "",
    progress: bool = False,
) -> Statistics:
    """Runs samples through an extractor, batch by batch.

    Args:
        samples: where they come from.
        count: how many.
        extractor: the network.
        rows: whether each sample's features are kept; without, memory does not grow with the count.
        title: of the progress bar.
        progress: whether to show one on stderr, if that is a terminal.
    """
    moments, collected = Moments(), Collected()
    probabilities: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    with _bar(title, count, progress) as advance:
        for batch, classes in samples.read(count):
            features, judged = extractor(batch)
            moments.update(features)
            if rows:
                collected.update(features)
                probabilities += [] if judged is None else [judged]
                labels += [] if classes is None else [classes]
            advance(len(batch))
    return Statistics(
        moments,
        collected.array if rows else None,
        np.concatenate(probabilities) if probabilities else None,
        np.concatenate(labels) if labels else None,
    )


@contextlib.contextmanager
def _bar(title: str, count: int, wanted: bool) -> Any:
    console = rich.console.Console(stderr=True)
    with rich.progress.Progress(
        *rich.progress.Progress.get_default_columns(),
        console=console,
        transient=True,
        disable=not (wanted and sys.stderr.isatty()),
    ) as bar:
        task = bar.add_task(title, total=count)
        yield lambda done: bar.advance(task, done)


# ------------------------------------------------------------------------ cache


def cache_folder(given: bool | str | os.PathLike[str] | None) -> pathlib.Path | None:
    """The folder for statistics: the user's cache folder, another one, or none (`False`)."""
    if given is None or given is False:
        return None
    if given is True:
        return decoding.cache_folder().parent / "metrics"
    return pathlib.Path(os.path.expanduser(given))


def gather_cached(
    samples: Samples,
    count: int,
    extractor: Extractor,
    folder: pathlib.Path | None,
    *,
    rows: bool = True,
    title: str = "",
    progress: bool = False,
) -> tuple[Statistics, str]:
    """What `gather` gives, from the cache if it is there, and the hash of the samples.

    The name of a file in the cache is a hash of the samples' content, their number, and the
    extractor with what runs it: it is never out of date. A damaged file is made anew. Where the
    files come to more than `LIMIT`, the oldest go.
    """
    if samples.digest is None:
        raise UsageError(
            "The samples to compare with must be data, not a generator. "
            f"Received: {samples.protocol['source']}"
        )
    digest = samples.digest(count)
    known = extractor.identity
    if folder is None or known is None:
        made = gather(samples, count, extractor, rows=rows, title=title, progress=progress)
        return made, digest
    asked = f"{_VERSION} {digest} {count} {known} {extractor.shape} {extractor.resize}"
    stem = folder / hashlib.sha256(asked.encode()).hexdigest()[:32]
    found = _read(stem, rows)
    if found is None:
        found = gather(samples, count, extractor, rows=rows, title=title, progress=progress)
        _write(stem, found)
        _prune(folder)
    return found, digest


def _read(stem: pathlib.Path, rows: bool) -> Statistics | None:
    """What was kept, or `None` if nothing whole was."""
    try:
        moments = Moments.load(stem.with_suffix(".moments.npz"))
        if not rows:
            return Statistics(moments)
        with np.load(stem.with_suffix(".rows.npz"), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return Statistics(moments, **arrays)
    except (UsageError, OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile):
        return None


def _write(stem: pathlib.Path, made: Statistics) -> None:
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        _write_file(stem.with_suffix(".moments.npz"), made.moments.save)
        if made.features is not None:
            named = {name: getattr(made, name) for name in ("features", "probabilities", "labels")}
            arrays: dict[str, Any] = {k: v for k, v in named.items() if v is not None}
            _write_file(stem.with_suffix(".rows.npz"), lambda path: np.savez(path, **arrays))
    except OSError as error:
        raise UsageError(
            "The cache folder must be one that can be written to (cache=False, or --cache off, "
            f"goes without). Received: {stem.parent}: {error.strerror}"
        ) from error


def _prune(folder: pathlib.Path) -> None:
    """Deletes the oldest of the cache's own files until the rest is no larger than the limit."""
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another process may be deleting it as well
            if _NAME.fullmatch(path.name):
                found.append((path.stat().st_mtime_ns, path.stat().st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= LIMIT:
            return
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        total -= size


def _write_file(path: pathlib.Path, write: Callable[[pathlib.Path], None]) -> None:
    """Writes beside the path and renames: the file is there whole or not at all."""
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
