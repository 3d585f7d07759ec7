"""Discovery of bundles in folders: which models and versions there are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving.bundle_folder import find_bundle, has_bundle, hint, is_run
from serving.errors import UsageError

_MAX_MANIFEST = 16 * 2**20  # bytes
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}"
_VERSION = r"[0-9]{1,18}"
_FILES = ("manifest.json", "model.onnx", "model.onnx.data")


class VersionFolder:
    """A folder that holds a version of a model.

    Args:
        folder: the folder of the bundle.
        name: name of the model.
        version: number of the version.
        is_numbered: True if the folder is named by the number, so that its content never changes.
    """

    def __init__(self, folder: Path, name: str, version: int, is_numbered: bool):
        self.folder = folder
        self.name = name
        self.version = version
        self.is_numbered = is_numbered
        self.stamp = _stamp(folder)  # changes when the content does


def find_models(path: Path) -> Iterator[tuple[Path, list[VersionFolder]]]:
    """Yields the models in a folder, each with its versions.

    Args:
        path: a bundle, a run folder, a folder of versions, or a folder of any of these.
    """
    versions = _find_versions(path)
    if versions:
        yield path, versions
        return
    for folder in sorted(path.iterdir()) if path.is_dir() else ():
        if folder.is_dir() and not folder.name.startswith("."):
            versions = _find_versions(folder)
            if versions:
                yield folder, versions


def describe_missing(path: str) -> str:
    """Returns the error for a path without a bundle."""
    if not os.path.exists(path) or is_run(Path(path)):
        try:
            find_bundle(path)  # says why it is none
        except UsageError as error:
            return str(error)
    return (
        "A served path must be a bundle, the folder of an exported run, a folder of versions, or a "
        f"folder of any of these. Received: {path!r}{hint(path, has_bundle)}"
    )


def _find_versions(path: Path) -> list[VersionFolder]:
    for folder in (path, path / "bundle"):
        if (folder / "manifest.json").is_file():
            return [_version_folder(folder, 1, False)]
    found = []
    if path.is_dir():
        for folder in path.iterdir():
            if re.fullmatch(_VERSION, folder.name) and (folder / "manifest.json").is_file():
                found.append(_version_folder(folder, int(folder.name), True))
    return found


def _version_folder(folder: Path, version: int, is_numbered: bool) -> VersionFolder:
    """Reads the model's name alone; opening the bundle reports what is wrong with the manifest."""
    import json

    try:
        with open(folder / "manifest.json", "rb") as file:
            manifest = json.loads(file.read(_MAX_MANIFEST))
        name = manifest["name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        name = None
    if not isinstance(name, str) or not re.fullmatch(_NAME, name):
        name = folder.parent.name if is_numbered or folder.name == "bundle" else folder.name
    return VersionFolder(folder, name, version, is_numbered)


def _stamp(folder: Path) -> tuple[Any, ...]:
    stamps = []
    for name in _FILES:
        try:
            status = os.stat(folder / name)
        except OSError:
            stamps.append(None)
        else:
            stamps.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(stamps)
