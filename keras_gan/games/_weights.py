"""Loading of a game's weights from a file: all of them, or nothing is changed."""

from __future__ import annotations

import contextlib
import io
import pathlib
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import h5py

from keras_gan.errors import UsageError, one_line

_IN_ARCHIVE = "model.weights.h5"  # in a .keras file


@contextlib.contextmanager
def loading(game: Any, filepath: Any, partly: bool) -> Iterator[None]:
    """Reports a file that does not fit a game in one line, and leaves the game as it was.

    Args:
        game: the game whose weights are loaded within the context.
        filepath: the file.
        partly: whether it may be of other networks, of which Keras loads what fits.

    Raises:
        UsageError: a file that is missing, damaged, or of other networks.
    """
    path = str(filepath)
    if "://" not in path and not pathlib.Path(path).exists():
        raise UsageError(f"The file of weights must exist. Received: filepath={path!r}")
    optimizers = game.optimizer.variables if game.optimizer is not None else []
    variables = [*game.variables, *optimizers, *game.noise_states()]
    # Not ops.convert_to_numpy, which fails for a scalar that several devices hold.
    kept = [variable.value.numpy() for variable in variables]
    extremes = game.seen_values.extremes
    try:
        if not partly:
            _check_additional(game, path)
        yield
    except BaseException as error:  # Keras and h5py raise anything
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)
        game.seen_values.extremes = extremes
        if isinstance(error, UsageError) or not isinstance(error, Exception):
            raise
        raise UsageError(
            "A file of weights must be whole, and of a game with the same networks. "
            f"Received: filepath={path!r} ({one_line(error)})"
        ) from error


def _check_additional(game: Any, path: str) -> None:
    """Checks that a file has no more weights of a network than the game, which Keras leaves out.

    Raises:
        UsageError: it has.
    """
    names = [*game.networks, *(f"average_{name}" for name in game.averaged)]
    with _opened(path) as file:
        for name in names if file else ():
            group, expected = file.get(name), len(getattr(game, name).weights)
            count = 0 if group is None else _count(group)
            if count > expected:
                raise UsageError(
                    f"A file of weights must be of a game with the same networks. Received: "
                    f"filepath={path!r} with {count} weights of {name}, which has {expected}"
                )


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Any]:
    """Opens the weights of a file; None where they are in several files, or remote."""
    if "://" in path:
        yield None
    elif path.endswith(".keras") and pathlib.Path(path).is_file():
        with zipfile.ZipFile(path) as archive:
            content = io.BytesIO(archive.read(_IN_ARCHIVE))
        with h5py.File(content, "r") as file:
            yield file
    elif path.endswith(".keras"):  # a folder
        yield None
    else:
        with h5py.File(path, "r") as file:
            yield file


def _count(group: Any) -> int:
    """Returns the number of variables in a group of a file.

    Keras numbers them in groups `vars`. Other values are those that a layer of a user's own stores
    beside its variables.
    """
    found = []
    group.visit(found.append)  # names of groups and of data sets, relative to the group
    return sum(re.fullmatch(r"(.*/)?vars/\d+", name) is not None for name in found)
