"""Folders of pictures with a subfolder for each class."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from serving.errors import UsageError
from serving.picture_forms import ENDINGS


def folder_name(name: str) -> str:
    """Returns a class name as a folder can have it: `T-shirt/top` is `T-shirt_top`."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name)


def find_pictures(folder: Path, names: Sequence[str], chosen: Sequence[int]) -> dict[int, list]:
    """Returns the files of the pictures of each class, by its id.

    Args:
        folder: the folder of the subfolders.
        names: names of all classes, as folders have them.
        chosen: ids of the classes that are to be read, or none for all.

    Raises:
        UsageError: the folder does not exist, a subfolder is not a class, or a class has no
            pictures.
    """
    if not folder.is_dir():
        raise UsageError(f"--balance must name a folder. Received: --balance {folder}")
    found = sorted(x.name for x in folder.iterdir() if x.is_dir() and x.name[0] != ".")
    unknown = [name for name in found if name not in names]
    if not found or (unknown and not chosen):
        what = f"{unknown[0]!r} in {str(folder)!r}" if unknown else f"{str(folder)!r} without any"
        raise UsageError(
            "Every subfolder of --balance must have the name of a class of the bundle, "
            f"{', '.join(names)}. Received: {what}"
        )
    pictures = {number: _pictures(folder / names[number]) for number in chosen or range(len(names))}
    for number, files in pictures.items():
        if not files:
            raise UsageError(
                "Every class must have a picture to balance; --labels names some of the classes. "
                f"Received: {names[number]!r} without pictures in {str(folder)!r}"
            )
    return pictures


def _pictures(folder: Path) -> list[Path]:
    return [
        Path(place, name)
        for place, _, names in sorted(os.walk(folder))
        for name in sorted(names)
        if name[0] != "." and name.lower().rpartition(".")[2] in ENDINGS
    ]


def link(source: Path, target: Path) -> None:
    """Makes a file appear at a second place, by a hard link or else as a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
