"""Installed packages, read from the metadata in given folders; nothing is imported."""

from __future__ import annotations

import contextlib
import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from serving import system_files

# Packages that unpack to the same folder, of which one serves in place of another.
FAMILIES: dict[str, tuple[str, ...]] = {
    "tensorflow": ("tensorflow-cpu", "tf-nightly", "tf-nightly-cpu", "intel-tensorflow"),
    "keras": ("keras-nightly",),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
}


class RecordedFile(NamedTuple):
    """Entry of a package's list of files: hash as `sha256=...`, and size; empty if unknown."""

    hash: str
    size: str


class Metadata(metadata.Distribution):
    """Metadata of a package in its folder.

    Python's own class fails on bytes that are not UTF-8, which pip accepts.

    Args:
        path: the folder, such as `numpy-2.4.6.dist-info`; a file for some packages of the system.
    """

    def __init__(self, path: Path):
        self.path = path

    def read_text(self, filename: str) -> str | None:
        return system_files.read(self.path / filename) or None

    def locate_file(self, path: str | os.PathLike[str]) -> Path:
        return self.path.parent / path

    def first(self, key: str) -> str:
        """Returns the first value of a key; empty without one."""
        return next(iter(self.metadata.get_all(key) or ()), "")


class Package:
    """Installed package.

    Args:
        distribution: its metadata.
    """

    def __init__(self, distribution: Metadata):
        self._distribution = distribution
        self.name = canonical(distribution.first("Name"))
        self.version: str = distribution.first("Version") or "unknown"
        self.folder = Path(str(distribution.locate_file("")))

    @cached_property
    def requires(self) -> list[str]:
        """The requirements, with those of its extras."""
        return list(self._distribution.requires or ())

    @cached_property
    def extras(self) -> list[str]:
        """The names of its extras."""
        return list(self._distribution.metadata.get_all("Provides-Extra") or ())

    @property
    def requires_python(self) -> str:
        """The releases of Python that it runs on, such as `>=3.11`; empty for all."""
        return self._distribution.first("Requires-Python")

    @cached_property
    def files(self) -> dict[str, RecordedFile]:
        """The files that were installed, by their path in the folder."""
        rows = csv.reader((self._distribution.read_text("RECORD") or "").splitlines())
        try:
            return {row[0]: RecordedFile(row[1], row[2]) for row in rows if len(row) == 3}
        except csv.Error:  # a damaged file
            return {}


class Packages:
    """The packages in folders; the first of several of one name is the one that Python imports.

    Args:
        folders: folders of packages, such as `site-packages`, in the order of the search.
    """

    def __init__(self, folders: Sequence[Path]):
        self.folders = list(dict.fromkeys(folders))
        self._found: dict[str, Package] = {}
        self.duplicates: dict[str, list[str]] = {}
        for distribution in (x for folder in self.folders for x in _installed(folder)):
            try:
                package = Package(distribution)
            except FileNotFoundError:  # later releases of Python raise it
                continue
            if not package.name:  # a folder that an interrupted pip left behind
                continue
            first = self._found.setdefault(package.name, package)
            if first is not package and first.folder == package.folder:
                versions = self.duplicates.setdefault(package.name, [first.version])
                versions.append(package.version)

    def get(self, name: str) -> Package | None:
        """Returns a package by its name, or None if it is not installed."""
        return self._found.get(canonical(name))

    def __iter__(self):
        return iter(self._found.values())

    def all_of(self, name: str) -> list[Package]:
        """Returns the installed packages that bring the folder of the named one."""
        family = next(((x, *others) for x, others in FAMILIES.items() if name in (x, *others)), ())
        names = dict.fromkeys((name, *family))
        return [found for x in names if (found := self.get(x)) is not None]

    def any_of(self, name: str) -> Package | None:
        """Returns the package of this name, or the one in its place."""
        return next(iter(self.all_of(name)), None)

    def find(self, path: str) -> Path | None:
        """Returns the first file or folder of this path below the folders."""
        places = (folder / path for folder in self.folders)
        # Unlike Path.exists, this does not fail in a folder that must not be read.
        return next((place for place in places if os.path.exists(place)), None)

    def versions(self, names: Iterable[str]) -> dict[str, str]:
        """Returns the versions of the installed ones among packages of these names."""
        return {x.name: x.version for name in names for x in self.all_of(name)}


def _installed(folder: Path) -> Iterator[Metadata]:
    """Yields the metadata in a folder, without what an interrupted pip has renamed to `~umpy`."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder)):
            is_metadata = name.endswith((".dist-info", ".egg-info")) or name == "EGG-INFO"
            if is_metadata and not name.startswith("~"):
                yield Metadata(folder / name)


def canonical(name: str) -> str:
    """Returns the name of a package as indexes compare it: `Foo_Bar` is `foo-bar`."""
    return re.sub(r"[-_.]+", "-", name).lower()
