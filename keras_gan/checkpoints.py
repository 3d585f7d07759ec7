"""Checkpoints: saving, sealing with a digest, loading, and finite weights."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import pathlib
import warnings
import zipfile
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan.errors import UsageError, one_line
from keras_gan.files import replace, temporary_file, write_errors
from keras_gan.games import Game
from keras_gan.optimizers import optimizers_of


class DamagedError(UsageError):
    """A checkpoint that cannot be read; an earlier one may be whole."""


def load_game(path: pathlib.Path, into: Game | None = None) -> Game:
    """Loads the game of a `.keras` file.

    Args:
        path: the file.
        into: a compiled game that receives the weights of the file, and is returned.

    Raises:
        DamagedError: a file that cannot be read.
        UsageError: a file without a game, or one whose weights do not fit `into`.
    """
    if not zipfile.is_zipfile(path) or _is_damaged(path):
        raise DamagedError(f"The checkpoint {path} is damaged, or is not a .keras file")
    try:
        if into is not None:
            _load_weights(into, path)
            return into
        gan = keras.saving.load_model(path)
    except UsageError:  # the weights do not fit `into`
        raise
    except (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = one_line(error)
        raise DamagedError(f"The checkpoint {path} cannot be read: {reason}") from None
    if not isinstance(gan, Game):
        raise UsageError(f"A checkpoint must hold a game. Received: {path}, {type(gan).__name__}")
    return gan


def _load_weights(gan: Game, path: pathlib.Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras warns of weights that it leaves out
            gan.load_weights(path)
    except UsageError as error:
        cause = error.__cause__
        reason = f"of which Keras says: {one_line(cause)}" if cause else f"because: {error}"
        raise UsageError(
            "The changed game must have the weights and optimizer moments of the checkpoint. "
            f"Received: {path}, {reason}"
        ) from None


class FiniteWeights:
    """Search for the first weight of a game that is not finite.

    Args:
        gan: a compiled game.
    """

    def __init__(self, gan: Game):
        owners: dict[str, Any] = {f"the {name}": of.model for name, of in gan.networks.items()}
        owners |= {f"the averaged {name}": gan.average(name).model for name in gan.averaged}
        owners |= {f"the {name}'s optimizer": of for name, of in optimizers_of(gan).items()}
        self._named = [
            (f"{variable.path} of {owner}", variable)
            for owner, of in owners.items()
            for variable in of.variables
            if keras.backend.is_float_dtype(variable.dtype)
        ]
        # The rest are the states of terms and of the augmentation.
        known = {id(variable) for _, variable in self._named}
        self._named += [
            (f"{variable.name} of the game", variable)
            for variable in gan.non_trainable_weights
            if id(variable) not in known and keras.backend.is_float_dtype(variable.dtype)
        ]

    def flags(self) -> tf.Tensor:
        """Returns whether each weight is finite, as one tensor, for a single device transfer."""
        return tf.stack([tf.reduce_all(tf.math.is_finite(v.value)) for _, v in self._named])

    def __call__(self) -> str | None:
        """Returns the problem in words, or `None`."""
        finite = np.asarray(self.flags())
        if finite.all():
            return None
        return f"{self._named[int(np.argmin(finite))][0]} is not finite"


def check_finite(gan: Game) -> None:
    """Raises a UsageError if a weight of the game is not finite."""
    broken = FiniteWeights(gan)()
    if broken:
        raise UsageError(f"A checkpoint must hold finite weights only. Received: {broken}")


def save_atomically(model: keras.Model, path: pathlib.Path) -> None:
    """Saves a model so that `path` is at any instant the old file or the whole new one.

    The comment of the file, a zip archive, is a digest of its content.
    """
    with write_errors(path), temporary_file(path, suffix=".keras") as temporary:
        model.save(temporary)
        _keep_attribute_lists()
        _seal(temporary)
        replace(temporary, path)


def _keep_attribute_lists() -> None:
    """Lets Keras find the lists of attributes that it has made in saving.

    Keras 3.15 stores them under one name and looks them up under another. Every save therefore
    makes a new optimizer to list its attributes, and its variables leak 70 KiB for each player.
    """
    with contextlib.suppress(ImportError, AttributeError):  # the state is not public
        state: Any = importlib.import_module("keras.src.backend.common.global_state")
        for kind in (
            "Functional",
            "Layer",
            "Loss",
            "Metric",
            "Operation",
            "Optimizer",
            "Sequential",
        ):
            found = state.get_global_attribute(f"saving_attr_skipset_{kind}")
            if found is not None:
                state.set_global_attribute(f"saving_attr_skiplist_{kind}", found)


_SEAL = b"sha256:"
_SEALED = len(_SEAL) + 64  # bytes of the comment


def _seal(path: pathlib.Path) -> None:
    """Sets the comment of a zip archive without one to its digest."""
    digest = _sha256(path, path.stat().st_size)
    with path.open("rb+") as file:
        file.seek(-2, os.SEEK_END)  # the length of the comment, until now 0
        file.write(_SEALED.to_bytes(2, "little") + _SEAL + digest)


def _is_damaged(path: pathlib.Path) -> bool:
    """Checks whether the digest of a sealed file differs from its content."""
    try:
        with zipfile.ZipFile(path) as archive:
            comment = archive.comment
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
    ):
        return True
    if not comment.startswith(_SEAL):
        return False
    return _SEAL + _sha256(path, path.stat().st_size - _SEALED) != comment


def _sha256(path: pathlib.Path, size: int) -> bytes:
    """Returns the hexadecimal digest of the first `size` bytes.

    The last two bytes, the length of the comment, are counted as zero.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for start in range(0, size - 2, 2**20):
            digest.update(file.read(min(2**20, size - 2 - start)))
    digest.update(bytes(2))
    return digest.hexdigest().encode()
