"""Files of a bundle: paths, sizes and SHA-256."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving.manifest import FILE_NAME


def describe_files(bundle: Path) -> dict[str, dict[str, Any]]:
    """Returns `sha256` and `bytes` of every file of a bundle except its manifest, by path."""
    return {
        path: {"sha256": sha256(bundle / path), "bytes": (bundle / path).stat().st_size}
        for path in list_files(bundle)
    }


def list_files(bundle: Path) -> list[str]:
    """Lists the files of a bundle except its manifest, as sorted POSIX paths."""
    return sorted(name for name, plain in walk(bundle) if plain and name != FILE_NAME)


def walk(bundle: Path) -> Iterator[tuple[str, bool]]:
    """Yields the path of everything in a bundle except folders, and True for regular files.

    Links are not followed: they may lead out of the bundle.
    """
    for folder, folders, files in os.walk(bundle):
        here = Path(folder)
        for name in files:
            mode = (here / name).lstat().st_mode
            yield (here / name).relative_to(bundle).as_posix(), stat.S_ISREG(mode)
        for name in folders:
            if (here / name).is_symlink():
                yield (here / name).relative_to(bundle).as_posix(), False


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
