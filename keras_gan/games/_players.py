"""Networks and weights that the players of a game train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_gan import network_checks


def models(game: Any) -> dict[str, list[keras.Model]]:
    """Returns the networks that each player trains."""
    return {p: [getattr(game, name) for name in names] for p, names in game.players.items()}


def weights(game: Any, player: str) -> list[Any]:
    """Returns the variables that a player trains."""
    trained = models(game)[player]
    return [variable for model in trained for variable in model.trainable_variables]


def identities(game: Any) -> dict[str, tuple[int, ...]]:
    """Returns the identities of the variables that each player trains.

    A game that kept the variables themselves would count them twice.
    """
    return {player: tuple(map(id, weights(game, player))) for player in game.players}


def check(
    game: Any, compiled: Mapping[str, tuple[int, ...]] | None = None
) -> dict[str, list[keras.Model]]:
    """Returns the networks that each player trains, if they can be trained.

    Args:
        game: the game.
        compiled: the identities at `compile`, which must still be those; None before it.

    Raises:
        UsageError: a network that is frozen, or was frozen or unfrozen after `compile`.
    """
    trained = models(game)
    network_checks.trainable(trained)
    now = identities(game)
    for player, before in (compiled or now).items():
        network_checks.unchanged(player, before, now[player])
    return trained
