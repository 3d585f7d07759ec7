"""Games by name, and the parts of their constructors that a recipe's sections fill."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import keras

from keras_gan import games
from keras_gan.recipe.sections import Recipe
from keras_gan.registry import classes, parameters_of

# Arguments of a game's constructor that other sections of the recipe or the data supply.
SUPPLIED = (
    *("seed", "latent_dim", "num_classes", "name", "packing"),
    *("picture_shape", "training_examples"),
)


def game_classes() -> dict[str, Any]:
    """Returns all games by name: those in `keras_gan.games`, and imported subclasses of them."""
    for module in pkgutil.iter_modules(games.__path__):
        importlib.import_module(f"{games.__name__}.{module.name}")
    return dict(sorted(classes(games.Game).items()))


def network_names(game: type) -> list[str]:
    """Returns the names of a game's networks: the constructor's arguments that are models."""
    return [name for name, (hint, _) in parameters_of(game).items() if hint is keras.Model]


def player_names(game: Any) -> list[str]:
    """Returns the names of a game's players; by default each network is a player of its own."""
    return list(game.players) or network_names(game)


def supplied_arguments(game: type, **values: Any) -> dict[str, Any]:
    """Returns those of the values that the game's constructor takes."""
    taken = parameters_of(game)
    return {name: value for name, value in values.items() if name in taken}


def depends_on_length(recipe: Recipe) -> bool:
    """Returns True if schedules or stages of a recipe go by the length of its training."""
    game = game_classes()[recipe.game.name]
    return bool(recipe.open_ended() or game.shares(recipe.game.options))
