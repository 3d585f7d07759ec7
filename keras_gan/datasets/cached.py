"""Folders of the cache that keep decoded data between runs, written as a whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from keras_gan.errors import UsageError

_LEFTOVER_AGE = 24 * 3600  # seconds after which an unfinished folder is considered abandoned


@contextlib.contextmanager
def writing(folder: Path, needed: int, noun: str, smaller: str) -> Iterator[Path]:
    """Yields a folder to write to, which then gets its name in the cache.

    Args:
        folder: the folder in the cache. Another process may write the same one at the same time.
        needed: bytes that it will take.
        noun: plural noun for the data, for errors.
        smaller: what makes them take less, for errors.

    Raises:
        UsageError: too little space, or a cache that cannot be written to.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if needed > free * 0.95:
            raise UsageError(
                f"The decoded {noun} need {needed:,} bytes in {folder.parent}; name a larger "
                f"disk with cache=..., or {smaller}. Received: {free:,} bytes of free space"
            )
        _remove_leftovers(folder)
        partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=folder.parent))
        try:
            yield partial
            try:
                partial.rename(folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process wrote the same content first
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise UsageError(
            f"The decoded {noun} must be written to the cache folder; name another with cache=.... "
            f"Received: {folder.parent}: {error}"
        ) from error


def _remove_leftovers(folder: Path) -> None:
    """Deletes the unfinished folders of runs that were killed while decoding."""
    for partial in folder.parent.glob("*v*.partial-*"):
        with contextlib.suppress(OSError):
            newest = max(file.stat().st_mtime for file in (partial, *partial.iterdir()))
            if time.time() - newest > _LEFTOVER_AGE:
                shutil.rmtree(partial, ignore_errors=True)
