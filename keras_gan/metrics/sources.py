"""Origins of samples: a run, a bundle, files, arrays, a data set or a game."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np

from keras_gan import datasets
from keras_gan.arguments import check_number
from keras_gan.errors import UsageError
from keras_gan.games.gan import GAN
from keras_gan.metrics.generators import Drawing, from_bundle, from_gan, from_run
from keras_gan.metrics.real_data import from_data, open_data, open_whole
from keras_gan.metrics.samples import Samples
from keras_gan.spec import Spec

DEFAULT_DRAWING = Drawing()

# Origins with a generator, whose latents can be truncated.
_GENERATORS = ("game", "run", "bundle")


def open_samples(
    source: Any,
    like: Spec | None = None,
    drawing: Drawing = DEFAULT_DRAWING,
    checkpoint: str = "last",
) -> Samples:
    """Opens the samples to evaluate.

    Args:
        source: a run folder; a bundle folder; a folder of images or a .npz or .npy file, of which
            all samples are taken; a data set's name, for its training split; a numpy array, or a
            pair of samples and labels; a `GAN`; or `Samples`.
        like: description of the data to compare with: pictures in a folder are decoded to it, and
            the samples of a game are of its kind.
        drawing: settings for drawing from a generator.
        checkpoint: of a run, `"last"`, `"best"`, `"averaged"` or a `.keras` file.

    Raises:
        UsageError: a source that does not exist or cannot be read, or a setting that it does not
            have.
    """
    origin, path = _classify(source)
    _check_settings(source, origin, drawing, str(checkpoint))
    if origin == "samples":
        return source
    if origin == "game":
        return from_gan(source, drawing, {"source": f"the game {source.name}"}, like)
    if origin == "arrays":
        return from_data(open_data(source, like=like), "all")
    if origin == "run":
        return from_run(path, drawing, str(checkpoint))
    if origin == "bundle":
        return from_bundle(path, drawing)
    module, options = datasets.find(source)
    if "path" not in options:  # a data set by its name: the score of a copy of its training data
        return from_data(datasets.open(source), "train")
    return from_data(open_whole(os.fspath(source), module, like), "all")


def _classify(source: Any) -> tuple[str, pathlib.Path]:
    """Returns the origin's type, and its path if it has one."""
    if isinstance(source, Samples):
        return "samples", pathlib.Path()
    if isinstance(source, GAN):
        return "game", pathlib.Path()
    if isinstance(source, np.ndarray | tuple):
        return "arrays", pathlib.Path()
    is_path = isinstance(source, str | os.PathLike)
    path = pathlib.Path(os.path.expanduser(source)) if is_path else pathlib.Path()
    if is_path and (path / "recipe.yaml").is_file():
        return "run", path
    if is_path and (path / "manifest.json").is_file():
        return "bundle", path
    return "data", path


def _check_settings(source: Any, origin: str, drawing: Drawing, checkpoint: str) -> None:
    is_path = isinstance(source, str | os.PathLike)
    name = repr(os.fspath(source)) if is_path else f"samples of type {type(source).__name__}"
    if checkpoint != "last" and origin != "run":
        raise UsageError(
            "checkpoint can be chosen only for a run. "
            f"Received: checkpoint={checkpoint!r} for {name}"
        )
    check_number("truncation", drawing.truncation, minimum=0)
    if drawing.truncation != 1 and origin not in _GENERATORS:
        raise UsageError(
            "truncation other than 1 is available only for a run, a bundle or a game. "
            f"Received: truncation={drawing.truncation} for {name}"
        )
    if not drawing.average and origin not in ("run", "game"):
        raise UsageError(
            "The live generator (average=False, --live) can be chosen only for a run or a game. "
            f"Received: average=False for {name}"
        )
