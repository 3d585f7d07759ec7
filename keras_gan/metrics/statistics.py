"""Statistics of a set of samples, collected in one pass and cached on disk."""

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
from keras_gan.metrics.extractor import Extractor
from keras_gan.metrics.samples import Samples

_VERSION = 2  # of the files in the cache, and of the computation of features
LIMIT = 2 * 10**9  # bytes that the files in the cache may take
_NAME = re.compile(r"[0-9a-f]{32}\.(moments|rows)\.npz")


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Statistics of the real or of the generated samples.

    Args:
        moments: mean and covariance of the features.
        features: `(count, dim)`, `count * dim * 4` bytes; `None` if only moments were requested.
        probabilities: float32 `(count, classes)`, likewise; `None` without classes.
        labels: the samples' own classes `(count,)`, if they have any.
    """

    moments: Moments
    features: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    labels: np.ndarray | None = None

    @property
    def count(self) -> int:
        """Number of samples."""
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
        samples: the samples.
        count: number of samples to read.
        extractor: the network.
        rows: keep each sample's features; without them memory does not grow with the count.
        title: title of the progress bar.
        progress: show a progress bar on stderr, if that is a terminal.
    """
    moments, collected = Moments(), Collected()
    probabilities: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    with _bar(title, count, progress) as advance:
        for batch, classes in samples.read(count):
            features, batch_probabilities = extractor(batch)
            moments.update(features)
            if rows:
                collected.update(features)
                probabilities += [] if batch_probabilities is None else [batch_probabilities]
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


def cache_folder(cache: bool | str | os.PathLike[str] | None) -> pathlib.Path | None:
    """Returns the folder for statistics: the user's cache (`True`), a path, or `None`."""
    if cache is None or cache is False:
        return None
    if cache is True:
        return decoding.cache_folder().parent / "metrics"
    return pathlib.Path(os.path.expanduser(cache))


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
    """Returns the result of `gather`, from the cache if it is there, and the samples' hash.

    The name of a file in the cache is a hash of the samples' content, their number, and the
    extractor with its runtime, so that a file cannot be outdated. A damaged file is replaced.
    If the files take more than `LIMIT` bytes, the oldest are deleted.

    Raises:
        UsageError: the samples are a generator's, which have no hash, or the folder cannot be
            written to.
    """
    if samples.digest is None:
        raise UsageError(
            "The samples to compare with must be data, not a generator. "
            f"Received: {samples.protocol['source']}"
        )
    digest = samples.digest(count)
    identity = extractor.identity
    if folder is None or identity is None:
        new = gather(samples, count, extractor, rows=rows, title=title, progress=progress)
        return new, digest
    key = f"{_VERSION} {digest} {count} {identity} {extractor.shape} {extractor.resize}"
    stem = folder / hashlib.sha256(key.encode()).hexdigest()[:32]
    statistics = _read(stem, rows)
    if statistics is None:
        statistics = gather(samples, count, extractor, rows=rows, title=title, progress=progress)
        _write(stem, statistics)
        _prune(folder)
    return statistics, digest


def _read(stem: pathlib.Path, rows: bool) -> Statistics | None:
    """Returns the cached statistics, or `None` if a file is missing or damaged."""
    try:
        moments = Moments.load(stem.with_suffix(".moments.npz"))
        if not rows:
            return Statistics(moments)
        with np.load(stem.with_suffix(".rows.npz"), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return Statistics(moments, **arrays)
    except (UsageError, OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile):
        return None


def _write(stem: pathlib.Path, statistics: Statistics) -> None:
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        _write_file(stem.with_suffix(".moments.npz"), statistics.moments.save)
        if statistics.features is not None:
            names = ("features", "probabilities", "labels")
            named = {name: getattr(statistics, name) for name in names}
            arrays: dict[str, Any] = {k: v for k, v in named.items() if v is not None}
            _write_file(stem.with_suffix(".rows.npz"), lambda path: np.savez(path, **arrays))
    except OSError as error:
        raise UsageError(
            "The cache folder must be writable (cache=False or --cache off disables the cache). "
            f"Received: {stem.parent}: {error.strerror}"
        ) from error


def _prune(folder: pathlib.Path) -> None:
    """Deletes the oldest of the cache's own files until the rest fits into the limit."""
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another process may delete it too
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
    """Writes a temporary file and renames it, so that the file is never partial."""
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
