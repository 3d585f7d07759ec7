"""Run folders and checkpoints, found by any path in them."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from keras_gan.errors import UsageError
from serving.bundle_folder import hint, is_bundle, is_run

_DEPTH = 3  # of the files in a run
CHOSEN = ("best", "averaged")  # folders of a run with one checkpoint, which they name


class Place(NamedTuple):
    """A run folder, and the checkpoint in it that a path names, if it names one."""

    folder: pathlib.Path
    checkpoint: str | None

    def choose(self, checkpoint: str) -> str:
        """Returns the checkpoint that is meant: the one that the path names, if it names one.

        Raises:
            UsageError: another checkpoint besides.
        """
        if self.checkpoint is None:
            return checkpoint
        if checkpoint != "last":
            raise UsageError(
                "A checkpoint must be given once: in the place of the run, or as checkpoint. "
                f"Received: {self.checkpoint} and checkpoint={checkpoint!r}"
            )
        return self.checkpoint


def find_run(path: str | os.PathLike[str]) -> Place | None:
    """Returns the run that a path stands for: the folder, a folder in it, or one of its files."""
    given = pathlib.Path(os.path.expanduser(path))
    for folder in _folders(given):
        if is_run(folder):
            return Place(folder, _checkpoint(given, folder))
        if is_bundle(folder):
            return None
    return None


def open_place(path: str | os.PathLike[str]) -> Place:
    """Returns the run that a path stands for.

    Raises:
        UsageError: no run, with what is there instead.
    """
    if not os.fspath(path):
        raise UsageError("A run must be named. Received: ''")
    found, given = find_run(path), pathlib.Path(os.path.expanduser(path))
    if found is not None:
        return found
    if (given / "recipe.yaml").is_file():  # a run that has lost a part, which is named later
        return Place(given, None)
    raise UsageError(f"A run folder must hold a recipe.yaml. Received: {given}, {_state(given)}")


def _folders(path: pathlib.Path) -> Iterator[pathlib.Path]:
    if not path.exists():
        return
    yield path
    for place in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
        yield from pathlib.Path(place).parents[:_DEPTH]


def _checkpoint(given: pathlib.Path, run: pathlib.Path) -> str | None:
    if given.suffix == ".keras" and given.is_file():
        return str(given)
    path = os.path.abspath(given)
    return next((name for name in CHOSEN if path == os.path.abspath(run / name)), None)


def _state(path: pathlib.Path) -> str:
    """Returns what is at a path without a run, and what to give instead."""
    if not path.exists():
        return f"which does not exist{hint(path, is_run)}"
    bundle = next(filter(is_bundle, _folders(path)), None)
    if bundle is not None:
        run = find_run(os.path.join(os.path.abspath(bundle), os.pardir))
        return f"a bundle; its run is {run.folder.resolve()}" if run else "a bundle, not its run"
    if path.is_file():
        return "a file outside a run"
    return f"which has no recipe.yaml{hint(path, is_run)}"
