"""Files that a command or a call writes: whole ones, in places that replace nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from serving.errors import UsageError


class Task(NamedTuple):
    """A file to read and the file to write."""

    source: Path
    target: Path


def write_file(path: Path, content: bytes) -> None:
    """Writes a file; it is complete or remains what it was."""
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():  # a device or a pipe is written to, not replaced
        path.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_to(to: Path, content: bytes) -> None:
    """Writes a file that a call in Python names, as `write_file` does.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        write_file(to, content)
    except OSError as error:
        raise UsageError(
            f"`to` must be a file that can be written. Received: to={str(to)!r} ({error.strerror})"
        ) from error


def check_writable(path: Path) -> None:
    """Checks that `write_file` may write a file, before its content is made; writes nothing.

    Raises:
        UsageError: a folder, or a file in a place where none can be written.
    """
    if path.is_dir():
        raise UsageError(f"--out must name a file. Received: --out {path}, a folder")
    place = Path(os.path.realpath(path))
    if not place.exists() or place.is_file():  # it is replaced, which changes its folder only
        place = next(x for x in place.parents if x.exists())
        if not place.is_dir():
            raise UsageError(f"--out must be in a folder. Received: --out {path} in a file")
    if not os.access(place, os.W_OK):
        raise UsageError(f"The output must be writable. Received: --out {path}")


def check_tasks(tasks: Iterable[Task], what: str, option: str) -> None:
    """Checks that no answer replaces a file that is read, or another answer.

    Args:
        tasks: the files.
        what: the noun for a file that is read.
        option: name of the argument for the place of the answers.

    Raises:
        UsageError: one does.
    """
    tasks = list(tasks)
    read = {os.path.realpath(task.source) for task in tasks}
    written: dict[str, Path] = {}
    for source, target in tasks:
        place = os.path.realpath(target)
        if place in read:
            raise UsageError(
                f"An answer must not replace a {what} that is read: choose another {option}. "
                f"Received: {str(target)!r}"
            )
        if (other := written.setdefault(place, source)) != source:
            raise UsageError(
                f"{what.capitalize()}s of one {option} folder must have different names. "
                f"Received: {str(other)!r} and {str(source)!r}"
            )


def check_apart(sources: Iterable[str | Path], out: Path, what: str, option: str) -> None:
    """Checks that answers are not written among the files of a folder that is read.

    Args:
        sources: files and folders that are read.
        out: file or folder of the answers.
        what: the noun for a file that is read.
        option: name of the argument for `out`.

    Raises:
        UsageError: they would be.
    """
    place = os.path.realpath(out)
    if any(os.path.realpath(os.path.expanduser(source)) == place for source in sources):
        raise UsageError(
            f"Answers must not be written into a folder of {what}s to read, where the next call "
            f"would take them for {what}s: choose another {option}. Received: {option} {out}"
        )
