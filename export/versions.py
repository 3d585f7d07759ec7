"""A folder of numbered bundles of one model, each of which appears complete or not at all.

    models/fm/1/  models/fm/2/       bundles
    models/fm/latest                 a link to the highest version
    models/fm/saved_model/NAME/2     a link to the SavedModel of each, for TF Serving
    models/fm/tf_serving/            TF Serving's configuration, as in every bundle

Readers of `latest` find the old bundle or the new one, because a rename replaces the link.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from export.manifest import Manifest
from export.staging import clean, locked
from export.tf_serving import FOLDER, configuration
from keras_gan import UsageError
from serving.manifest import FILE_NAME

LATEST = "latest"
_OURS = {LATEST, "saved_model", FOLDER}


def numbers(folder: Path) -> list[int]:
    """Lists the versions in a folder, ascending."""
    if not folder.is_dir():
        return []
    names = [path.name for path in folder.iterdir() if (path / FILE_NAME).is_file()]
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))


def check_folder(folder: Path, version: int | Literal["next"], name: str) -> None:
    """Checks that a version may be added to a folder, before anything is computed.

    Raises:
        UsageError: the version is invalid or exists, the folder holds something else, or its
            versions have another name.
    """
    if version != "next" and not (type(version) is int and 0 < version < 2**31):
        raise UsageError(f"version must be next or a number from 1. Received: version={version!r}")
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UsageError(
            f"The target of versions must be a folder. Received: {folder}, which is a file"
        )
    clean(stage_beside(folder))
    found = numbers(folder)
    foreign = sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in _OURS and not path.name.isdecimal() and path.name[0] != "."
    )
    if foreign:
        raise UsageError(
            "A folder of versions must be new, empty, or hold only versions. "
            f"Received: {folder}, which holds {foreign[0]}"
        )
    if version in found:
        raise UsageError(f"A version is never replaced. Received: {folder}, which has {version}")
    if found and (other := Manifest.load(folder / str(found[-1])).name) != name:
        raise UsageError(
            f"All versions of a model have one name. Received: {name!r}, and {other!r} in {folder}"
        )


def stage_beside(folder: Path) -> Path:
    """Returns the path beside which a version is written: in the folder, on its file system."""
    return folder / "version"


def publish(staged: Path, folder: Path, version: int | Literal["next"], name: str) -> Path:
    """Moves a bundle into the folder under the next or a given number; returns its path."""
    with locked(folder):
        found = numbers(folder)
        number = max(found, default=0) + 1 if version == "next" else version
        os.rename(staged, folder / str(number))
        models = folder / "saved_model" / name
        models.mkdir(parents=True, exist_ok=True)
        for each in (*found, number):  # completes an export that was killed at this point
            if not os.path.lexists(models / str(each)):
                _link(f"../../{each}/saved_model/{name}/1", models / str(each))
        (folder / FOLDER).mkdir(exist_ok=True)
        for file, content in configuration(name).items():
            _replace(folder / FOLDER / file, partial(_write, content))
        _replace(folder / LATEST, partial(_link, str(max([*found, number]))))
    return folder / str(number)


def _link(target: str, path: Path) -> None:
    os.symlink(target, path, target_is_directory=True)


def _write(content: str, path: Path) -> None:
    path.write_text(content, encoding="utf-8")


def _replace(path: Path, create: Callable[[Path], object]) -> None:
    """Creates a file or a link under another name, then renames it, so that one always exists."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)  # left by an export that was killed at this point
    create(new)
    os.replace(new, path)
