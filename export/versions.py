"""A folder of bundles of one model, numbered from 1, each there whole or not at all.

    models/fm/1/  models/fm/2/       bundles
    models/fm/latest                 a link to the highest of them
    models/fm/saved_model/NAME/2     a link to the SavedModel of each: what TF Serving watches
    models/fm/tf_serving/            TF Serving's configuration, as in every bundle

Readers of `latest` find the old bundle or the new one: a link is replaced by a rename.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from export.manifest import FILE_NAME, Manifest
from export.staging import clean, locked
from export.tf_serving import FOLDER, configuration
from keras_gan import UsageError

LATEST = "latest"
_OURS = {LATEST, "saved_model", FOLDER}


def numbers(folder: Path) -> list[int]:
    """Lists the versions in a folder, ascending."""
    if not folder.is_dir():
        return []
    names = [path.name for path in folder.iterdir() if (path / FILE_NAME).is_file()]
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))


def check_folder(folder: Path, version: int | Literal["next"], name: str) -> None:
    """Refuses what holds other things than versions of this model, before anything is computed.

    Raises:
        UsageError: a version that is none or that exists, a folder of something else, another
            name than that of the versions that are there.
    """
    if version != "next" and not (type(version) is int and 0 < version < 2**31):
        raise UsageError(f"version must be next, or a number from 1. Received: version={version!r}")
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UsageError(f"Versions need a folder. Received: {folder}, which is none")
    clean(stage_beside(folder))
    found = numbers(folder)
    foreign = sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in _OURS and not path.name.isdecimal() and path.name[0] != "."
    )
    if foreign:
        raise UsageError(
            "A folder of versions must be new, empty, or hold versions alone. "
            f"Received: {folder}, which holds {foreign[0]}"
        )
    if version in found:
        raise UsageError(f"A version is never replaced. Received: {folder}, which has {version}")
    if found and (other := Manifest.load(folder / str(found[-1])).name) != name:
        raise UsageError(
            f"All versions of a model have one name. Received: {name!r}, and {other!r} in {folder}"
        )


def stage_beside(folder: Path) -> Path:
    """Gives the path beside which a version is written: within the folder, on its file system."""
    return folder / "version"


def publish(staged: Path, folder: Path, version: int | Literal["next"], name: str) -> Path:
    """Moves a bundle into the folder under the next number, or a given one; gives its path."""
    with locked(folder):
        found = numbers(folder)
        number = max(found, default=0) + 1 if version == "next" else version
        os.rename(staged, folder / str(number))
        models = folder / "saved_model" / name
        models.mkdir(parents=True, exist_ok=True)
        for each in (*found, number):  # also those of an export that was killed right here
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


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    """Makes a file or a link under another name, then renames it: there is always one."""
    made = path.with_name(f".{path.name}.new")
    made.unlink(missing_ok=True)  # of an export that was killed right here
    make(made)
    os.replace(made, path)
