"""Folders of bundles and runs, found by any path in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from serving.errors import UsageError
from serving.manifest import FILE_NAME
from serving.nearest_names import find_nearest

_SHOWN = 10  # names in an error
_DEPTH = 3  # of the files in a bundle: saved_model/NAME/VERSION/


def find_bundle(path: str | os.PathLike[str]) -> Path:
    """Returns the folder of a bundle.

    Args:
        path: the folder; that of a run with a bundle in `bundle/`; that of versions, of which the
            latest is taken; or a file or folder in any of these.

    Raises:
        UsageError: no bundle, with what is there instead.
    """
    if not os.fspath(path):
        raise UsageError("A bundle must be named. Received: ''")
    given = Path(os.path.expanduser(path))
    for folder in (given, given / "bundle", given / "latest"):
        if is_bundle(folder):
            # Resolves `latest` once: it must not change between two reads.
            return Path(os.path.realpath(folder)) if folder.name == "latest" else folder
    if not os.path.exists(given):
        raise UsageError(f"A bundle must exist. Received: {str(path)!r}{hint(path, has_bundle)}")
    above = Path(os.path.abspath(given)).parents[:_DEPTH]
    for folder in above:
        if is_bundle(folder):
            return folder
        if is_run(folder) and is_bundle(folder / "bundle"):
            return folder / "bundle"
    for folder in (given, *above):
        if is_run(folder) and folder / "bundle" not in (Path(os.path.abspath(given)), *above):
            raise UsageError(
                "A run must be exported before its bundle can be used: keras-gan export "
                f"{folder}. Received: {str(path)!r}"
            )
    raise UsageError(
        "A bundle is a folder with a manifest.json, or has one in its folder bundle/. "
        f"Received: {str(path)!r}{hint(path, has_bundle)}"
    )


def hint(path: str | os.PathLike[str], wanted: Callable[[Path], bool]) -> str:
    """Returns the end of an error about a path: the runs and bundles that may be meant.

    Args:
        path: the path, of which `wanted` is false.
        wanted: whether a folder is one that could be given.

    Returns:
        Those in the folder, or for a path that does not exist the one with the nearest name, beside
        it or, for a name alone, in `runs/`; the runs in the folder if none is wanted; or nothing.
    """
    given = Path(os.path.expanduser(path))
    if not os.path.exists(given):
        folders = [given.parent, *([Path("runs")] if len(given.parts) == 1 else [])]
        places = [each for folder in folders for each in _below(folder, wanted, is_run)]
        known = {each.name: each for each in reversed(places)}
        near = find_nearest(given.name, known)
        return f". Did you mean {str(known[near])!r}?" if near else ""
    for accepted, what in ((wanted, "bundles and runs"), (is_run, "runs, not exported,")):
        found = [*_below(given, accepted), *_below(given / "runs", accepted)]
        if found:
            names = [str(each.relative_to(given)) for each in found[:_SHOWN]]
            names += ["..."] * (len(found) > _SHOWN)
            what = what.removeprefix("bundles and ") if all(map(is_run, found)) else what
            return f"; the {what} in it are {', '.join(names)}"
    return ""


def _below(folder: Path, *wanted: Callable[[Path], bool]) -> list[Path]:
    """Returns the folders in a folder that are wanted, in the order of their names."""
    try:
        inside = sorted(each for each in folder.iterdir() if each.is_dir())
    except OSError:
        return []
    return [each for each in inside if any(is_one(each) for is_one in wanted)]


def has_bundle(folder: Path) -> bool:
    """Returns True for a bundle, a run with one, and a folder of versions with the latest."""
    return any(map(is_bundle, (folder, folder / "bundle", folder / "latest")))


def is_bundle(folder: Path) -> bool:
    """Returns True for the folder of a bundle."""
    return os.path.isfile(folder / FILE_NAME)  # pathlib's raises PermissionError


def is_run(folder: Path) -> bool:
    """Returns True for the folder of a training."""
    # The checkpoints of a run have a recipe.yaml of their own.
    return os.path.isfile(folder / "recipe.yaml") and os.path.isdir(folder / "checkpoints")
