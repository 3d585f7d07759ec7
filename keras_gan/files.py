"""Atomic file writes: a reader sees the old file or the complete new one."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

from keras_gan.errors import UsageError, one_line

HALF_WRITTEN = ".*.tmp"  # pattern of the files that a killed process leaves


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Writes a file through a temporary one that is synced and renamed."""
    with write_errors(path), temporary_file(path) as temporary:
        temporary.write_bytes(content)
        replace(temporary, path)


@contextlib.contextmanager
def write_errors(path: pathlib.Path) -> Iterator[None]:
    """Turns a full disk, a read-only folder and the like into a `UsageError` of one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise UsageError(f"{path} cannot be written: {reason}") from error


@contextlib.contextmanager
def temporary_file(path: pathlib.Path, suffix: str = ".tmp") -> Iterator[pathlib.Path]:
    """Makes a file in the folder of `path`, and deletes it at the end if it is still there."""
    handle, name = tempfile.mkstemp(prefix=".", suffix=suffix, dir=path.parent)
    os.close(handle)
    temporary = pathlib.Path(name)
    temporary.chmod(0o666 & ~umask())  # mkstemp's files are private, those of a run are not
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def umask() -> int:
    """Returns the process's file mode creation mask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def replace(temporary: pathlib.Path, path: pathlib.Path) -> None:
    """Renames a file that has been written, after syncing it and before syncing its folder."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    if os.name == "posix":  # the new name survives a power failure, too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def delete_leftovers(folder: pathlib.Path, pattern: str = ".*") -> None:
    """Deletes files that a killed process has left half-written."""
    for left in folder.glob(pattern):
        left.unlink(missing_ok=True)
