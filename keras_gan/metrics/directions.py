"""Directions of a game of two translators: forward, or backward from the domain of the samples."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_gan import run as runs
from keras_gan.errors import UsageError
from keras_gan.games import Game
from keras_gan.metrics.generators import read_manifest
from keras_gan.registry import classes


def is_backward(source: Any, network: str | None) -> bool:
    """Returns whether samples are translations backward, to the domain of the conditions.

    Args:
        source: the samples' source, see `open_samples`.
        network: of a run, the name of the network to evaluate; by default the game's own.

    Raises:
        UsageError: a network is named for another source than a run.
    """
    record = _record_of(source)
    if record is not None:
        return network is not None and network == _inverse(record)
    if network is not None:
        raise UsageError(
            "`network` can be chosen only for a run; a bundle holds one network. "
            f"Received: network={network!r} for {str(source)!r:.80}"
        )
    return bool(_direction_of_bundle(source))


def network_of_control(control: Any, backward: bool) -> str | None:
    """Returns the network of a control that translates in the direction of the samples.

    Args:
        control: the control's source.
        backward: the direction of the samples.

    Returns:
        The network's name in a run; `None` for the run's own one, and for other sources.

    Raises:
        UsageError: the control translates only in the other direction.
    """
    record = _record_of(control)
    network = _inverse(record) if record is not None and backward else None
    found = network is not None if record is not None else _direction_of_bundle(control)
    if found not in (None, backward):
        words = {True: "backward", False: "forward"}
        raise UsageError(
            "A control must translate in the direction of the samples. "
            f"Received: samples translated {words[backward]}, and {str(control)!r:.80} "
            f"that translates {words[bool(found)]}"
        )
    return network


def _record_of(source: Any) -> Mapping[str, Any] | None:
    """Returns the recipe of a run; `None` for other sources."""
    path = _path_of(source)
    if path is None or not (path / "recipe.yaml").is_file():
        return None
    return runs.Run.open(path).record


def _direction_of_bundle(source: Any) -> bool | None:
    """Returns whether a bundle translates backward; `None` for other sources."""
    path = _path_of(source)
    if path is None or not (path / "manifest.json").is_file():
        return None
    training = read_manifest(path).get("training") or {}
    name = training.get("network")
    return name is not None and name == _inverse(training.get("recipe") or {})


def _path_of(source: Any) -> pathlib.Path | None:
    is_path = isinstance(source, str | os.PathLike)
    return pathlib.Path(os.path.expanduser(source)) if is_path else None


def _inverse(record: Mapping[str, Any]) -> str | None:
    """Returns the name of the network for the way back in the game of a recipe, if it has one."""
    game = classes(Game).get((record.get("game") or {}).get("name", "gan"))
    return getattr(game, "inverse", None)
