"""Files that a command writes."""

from __future__ import annotations

import os
from pathlib import Path

from serving.errors import UsageError


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
