"""Atomic creation of folders: written beside their place, then moved there.

An unfinished folder belongs to the process that holds its lock. The lock ends with the process,
however that ends, so an unlocked folder was left by an export that was killed.
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
_AT_CWD, _EXCHANGE = -100, 2  # arguments of renameat2(2)


@contextlib.contextmanager
def staging(to: Path) -> Iterator[Path]:
    """Creates a folder beside the target, on the same file system, and removes it on exit."""
    to.parent.mkdir(parents=True, exist_ok=True)
    folder, lock = _create(to)
    try:
        inside = folder / "bundle"  # has the usual permissions, unlike the folder of mkdtemp
        inside.mkdir()
        yield inside
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unlock(lock)


def move(folder: Path, to: Path, overwrite: bool = False) -> None:
    """Moves a staged folder to its place; an old one stays until the new one is there."""
    if not overwrite or not os.path.lexists(to):
        os.rename(folder, to)  # fails if another process has created a folder with content
        return
    if _exchange(folder, to):
        return  # the old folder is now in the staging folder and is removed with it
    old = folder.parent / "old"
    try:
        os.rename(to, old)
        os.rename(folder, to)
    except BaseException:  # including Ctrl-C: the old or the new bundle must exist
        if old.exists() and not to.exists():
            os.rename(old, to)
        raise


def clean(to: Path) -> None:
    """Removes what killed exports to the same target left, and restores the bundles in it."""
    pattern = re.compile(re.escape(_prefix(to)) + r"[a-z0-9_]{8}")
    with contextlib.suppress(OSError):  # a folder that cannot be removed does no harm
        for path in list(to.parent.iterdir()):
            if pattern.fullmatch(path.name) and (lock := _lock_abandoned(path)) is not None:
                old = path / "old"
                if old.exists() and not os.path.lexists(to):
                    os.rename(old, to)
                shutil.rmtree(path, ignore_errors=True)
                _unlock(lock)


def _prefix(to: Path) -> str:
    return f".{to.name}.export-"


def _create(to: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_prefix(to), dir=to.parent))
        lock = _take(folder, wait=True)
        if folder.exists():
            return folder, -1 if lock is None else lock
        _unlock(lock)  # another export removed it as abandoned before it was locked


def _lock_abandoned(folder: Path) -> int | None:
    """Locks a folder that no process holds; returns `None` for one in use."""
    if sys.platform == "win32":  # has no locks on folders, so the age decides
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
    except OSError:  # locked by another process, removed, or a file system without locks
        _unlock(descriptor)
        return None
    return descriptor


def _unlock(descriptor: int | None) -> None:
    if descriptor is not None and descriptor >= 0:
        os.close(descriptor)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder's lock, so that concurrent exports run one at a time."""
    lock = _take(folder, wait=True)
    try:
        yield
    finally:
        _unlock(lock)


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two folders atomically; returns False where the system cannot."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):  # the C library lacks it
        return False
    first, second = os.fsencode(one), os.fsencode(other)
    return rename(_AT_CWD, first, _AT_CWD, second, ctypes.c_uint(_EXCHANGE)) == 0
