"""Folders of bundles and runs, found by any path in them."""

from __future__ import annotations

import os
from pathlib import Path

from serving.errors import UsageError
from serving.manifest import FILE_NAME

_DEPTH = 3  # of the files in a bundle: saved_model/NAME/VERSION/


def find_bundle(path: str | os.PathLike[str]) -> Path:
    """Returns the folder of a bundle.

    Args:
        path: the folder; that of a run with a bundle in `bundle/`; that of versions, of which the
            latest is taken; or a file or folder in any of these.

    Raises:
        UsageError: no bundle, with what is there instead.
    """
    given = Path(os.path.expanduser(path))
    for folder in (given, given / "bundle", given / "latest"):
        if is_bundle(folder):
            # Resolves `latest` once: it must not change between two reads.
            return Path(os.path.realpath(folder)) if folder.name == "latest" else folder
    if not os.path.exists(given):
        raise UsageError(f"A bundle must exist. Received: {str(path)!r}")
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
        f"Received: {str(path)!r}"
    )


def is_bundle(folder: Path) -> bool:
    """Returns True for the folder of a bundle."""
    return os.path.isfile(folder / FILE_NAME)  # pathlib's raises PermissionError


def is_run(folder: Path) -> bool:
    """Returns True for the folder of a training."""
    # The checkpoints of a run have a recipe.yaml of their own.
    return os.path.isfile(folder / "recipe.yaml") and os.path.isdir(folder / "checkpoints")
