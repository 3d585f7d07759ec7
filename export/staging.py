"""Folders that are there whole or not at all: written beside their place, then moved there.

A folder in the making belongs to the process that holds its lock, which ends with the process,
however it ends. One that nobody holds was left by an export that was killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_DAY = 24 * 3600.0
_AT_CWD, _EXCHANGE = -100, 2  # of renameat2(2)


@contextlib.contextmanager
def staging(to: Path) -> Iterator[Path]:
    """Makes a folder beside the target, on the same file system; removes what is left of it."""
    to.parent.mkdir(parents=True, exist_ok=True)
    folder, lock = _make(to)
    try:
        inside = folder / "bundle"  # has the usual permissions, which mkdtemp's own has not
        inside.mkdir()
        yield inside
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unlock(lock)


def move(folder: Path, to: Path, overwrite: bool = False) -> None:
    """Puts a staged folder in its place; an old one stays until the new one is there."""
    if not overwrite or not os.path.lexists(to):
        os.rename(folder, to)  # refused by the system where a folder with content has come up
        return
    if _exchange(folder, to):
        return  # the old one is where the new one was, and goes with the staging folder
    old = folder.parent / "old"
    try:
        os.rename(to, old)
        os.rename(folder, to)
    except BaseException:  # Ctrl-C as well: the old bundle must be there or the new one
        if old.exists() and not to.exists():
            os.rename(old, to)
        raise


def clean(to: Path) -> None:
    """Removes what killed exports to the same target have left, and puts back what they held."""
    pattern = re.compile(re.escape(_prefix(to)) + r"[a-z0-9_]{8}")
    with contextlib.suppress(OSError):  # what cannot be cleaned is in nobody's way
        for path in list(to.parent.iterdir()):
            if pattern.fullmatch(path.name) and (lock := _lock_of_nobody(path)) is not None:
                old = path / "old"
                if old.exists() and not os.path.lexists(to):
                    os.rename(old, to)
                shutil.rmtree(path, ignore_errors=True)
                _unlock(lock)


def _prefix(to: Path) -> str:
    return f".{to.name}.export-"


def _make(to: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_prefix(to), dir=to.parent))
        lock = _take(folder, wait=True)
        if folder.exists():
            return folder, -1 if lock is None else lock
        _unlock(lock)  # another export took it for a dead one before it was locked


def _lock_of_nobody(folder: Path) -> int | None:
    """Locks a folder that no process holds; gives `None` for one in use."""
    if sys.platform == "win32":  # has no locks on folders, so only age tells
        return -1 if time.time() - folder.stat().st_mtime > _DAY else None
    return _take(folder, wait=False)


def _take(folder: Path, wait: bool) -> int | None:
    if sys.platform == "win32":
        return None
    import fcntl

    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # held by another process, gone, or a file system without locks
        _unlock(descriptor)
        return None
    return descriptor


def _unlock(descriptor: int | None) -> None:
    if descriptor is not None and descriptor >= 0:
        os.close(descriptor)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder's lock, so that of several exports one at a time goes on."""
    lock = _take(folder, wait=True)
    try:
        yield
    finally:
        _unlock(lock)


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two folders in one step, with no instant without either; says whether it could."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):  # a C library without it
        return False
    first, second = os.fsencode(one), os.fsencode(other)
    return rename(_AT_CWD, first, _AT_CWD, second, ctypes.c_uint(_EXCHANGE)) == 0
