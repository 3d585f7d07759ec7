"""Files below a folder: images or others by their suffix or content, and the rest by suffix."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from keras_gan.datasets import images
from keras_gan.errors import UsageError
from serving.bundle_folder import is_run

Parts = tuple[str, ...]  # path relative to the folder

_LOOKED_AT = 1_000  # files of a folder that are looked at to know what it holds
_TRIED = 20  # files of a suffix that is unknown, before all of them are left out
_METADATA = ("__MACOSX",)  # folders that unpacking a macOS archive leaves
_EARLIER = (".png", ".jpg", ".jpeg", ".webp", ".gif")  # suffixes that version 0.1.0 read
# Suffixes of pictures that Pillow does not decode.
_OTHER_PICTURES = (".heic", ".heif", ".jxl", ".svg", ".exr", ".hdr", ".dng", ".cr2", ".cr3", ".nef")
_OTHER_PICTURES += (".arw", ".orf", ".rw2", ".raf", ".eps", ".pdf", ".dcm", ".webm", ".mp4")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The files that are looked for.

    Args:
        noun: plural noun for them, for messages.
        suffixes: function that returns their suffixes, in lower case with the dot.
        is_one: function from the path of a file of another suffix to whether it is one of them.
        examples: phrase for the files that a folder of them must hold, for an error.
    """

    noun: str
    suffixes: Callable[[], Collection[str]]
    is_one: Callable[[Path], bool]
    examples: str = ""


IMAGES = Wanted("images", images.suffixes, images.is_image)


@dataclasses.dataclass(frozen=True)
class Files:
    """The files below a folder.

    Args:
        images: paths of the images, or of the other files that were looked for, in order.
        left_out: number of the other files by their suffix; `"hidden"` for hidden files,
            `"hidden folders"` for those, `"run folders"`, and `"without suffix"`.
        empty: folders without images beside folders with images.
    """

    images: list[Parts]
    left_out: dict[str, int]
    empty: list[Parts] = dataclasses.field(default_factory=list)

    @property
    def line(self) -> str:
        """The other files in words, such as `2 .txt, 1 hidden`; empty without any."""
        return ", ".join(f"{count:,} {kind}" for kind, count in self.left_out.items())

    @property
    def pictures(self) -> list[str]:
        """Suffixes of pictures among the other files."""
        return [suffix for suffix in self.left_out if suffix in _OTHER_PICTURES]


def check_folder(root: Path, noun: str = IMAGES.noun) -> None:
    """Checks that a folder exists and is not a run.

    Args:
        root: the folder.
        noun: plural noun for the files that are looked for.

    Raises:
        UsageError: it does not exist, or is a run.
    """
    if not root.is_dir():
        raise UsageError(f"The folder of {noun} must exist. Received: path={str(root)!r}")
    if is_run(root):
        raise UsageError(
            "Data must not be a run, whose samples are generated. "
            f"Received: path={str(root)!r}, a run"
        )


def look(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yields the first folders below a folder with the names of their files, hidden ones aside.

    They are as many as hold 1,000 files, so that a data set knows what a large folder holds.
    """
    seen = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield folder, [name for name in names if not name.startswith(".")]
        seen += len(names)
        if seen >= _LOOKED_AT:
            break


def find(root: Path, skip_errors: bool, wanted: Wanted = IMAGES) -> Files:
    """Lists the files below a folder.

    Args:
        root: the folder.
        skip_errors: whether folders that cannot be read are skipped.
        wanted: the files that are looked for.

    Raises:
        UsageError: a folder that cannot be read.
    """
    found: list[Parts] = []
    others: dict[str, list[Parts]] = collections.defaultdict(list)
    hidden = 0
    known = wanted.suffixes()
    folders = _Folders()
    for parts in _walk(root, skip_errors, folders):
        suffix = os.path.splitext(parts[-1])[1].lower()
        if parts[-1].startswith("."):
            hidden += 1
        elif suffix in known:
            found.append(parts)
        else:
            others[suffix].append(parts)
    left_out: dict[str, int] = {}
    for suffix, files in sorted(others.items(), key=lambda item: (-len(item[1]), item[0])):
        taken = _wanted_among(root, sorted(files), wanted)
        found += taken
        if len(files) > len(taken):
            left_out[suffix or "without suffix"] = len(files) - len(taken)
    if hidden:
        left_out["hidden"] = hidden
    if folders.hidden:
        left_out["hidden folder" if folders.hidden == 1 else "hidden folders"] = folders.hidden
    if folders.runs:
        left_out["run folder" if len(folders.runs) == 1 else "run folders"] = len(folders.runs)
    return Files(sorted(found), left_out, _empty(folders.listed, [*found, *folders.runs]))


def find_earlier(root: Path, skip_errors: bool) -> Files:
    """Lists the images below a folder that version 0.1.0 read."""
    found = [
        parts
        for parts in _walk(root, skip_errors)
        if parts[-1].lower().endswith(_EARLIER) and not parts[-1].startswith(".")
    ]
    return Files(sorted(found), {})


def _empty(folders: Sequence[Parts], files: Sequence[Parts]) -> list[Parts]:
    """Returns the folders that hold no file at any depth, beside folders that do."""
    filled = {parts[:depth] for parts in files for depth in range(1, len(parts))}
    parents = {parts[:-1] for parts in filled}
    return sorted(each for each in folders if each not in filled and each[:-1] in parents)


def _wanted_among(root: Path, files: Sequence[Parts], wanted: Wanted) -> list[Parts]:
    """Returns those among files of one unknown suffix that are wanted, by their content."""
    found: list[Parts] = []
    for number, parts in enumerate(files):
        if number >= _TRIED and not found:
            break
        if wanted.is_one(root.joinpath(*parts)):
            found.append(parts)
    return found


@dataclasses.dataclass
class _Folders:
    """The folders below a folder: those that were listed, and the numbers of the others.

    Runs are not listed, as their pictures are generated: `keras-gan train --data .` writes its run
    into the folder of the pictures.
    """

    listed: list[Parts] = dataclasses.field(default_factory=list)
    hidden: int = 0
    runs: list[Parts] = dataclasses.field(default_factory=list)


def _walk(root: Path, skip_errors: bool, found: _Folders | None = None) -> Iterator[Parts]:
    """Yields the paths of the files below a folder, hidden folders aside.

    Args:
        root: the folder.
        skip_errors: see `find`.
        found: receives the folders, among which macOS's folder of metadata counts as hidden; by
            default it is listed, and so are runs, as in version 0.1.0.
    """

    def refuse(error: OSError) -> None:
        if not skip_errors or error.filename == str(root):
            raise UsageError(
                f"Every folder must be readable. Received: {error.filename}: {error.strerror}"
            ) from error

    seen = set()
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=refuse):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder that has been listed
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        metadata = _METADATA if found is not None else ()
        shown = [n for n in subfolders if not n.startswith(".") and n not in metadata]
        parts = Path(folder).relative_to(root).parts
        if found is not None:
            found.hidden += len(subfolders) - len(shown)
            runs = [name for name in shown if is_run(Path(folder, name))]
            found.runs += [(*parts, name) for name in runs]
            shown = [name for name in shown if name not in runs]
            found.listed += [(*parts, name) for name in shown]
        subfolders[:] = sorted(shown)
        for name in names:
            yield (*parts, name)
