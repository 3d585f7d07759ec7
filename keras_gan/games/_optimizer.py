"""The optimizers of all players as one `model.optimizer`, as Keras's callbacks expect it.

Keras's callbacks handle several optimizers as those of `keras.optimizers.MultiOptimizer`: they go
through `model.optimizer.optimizers` and log `learning_rate_NAME` for each.
"""

from __future__ import annotations

from typing import Any

import keras

from keras_gan.arguments import check_number
from keras_gan.errors import UsageError
from keras_gan.optimizers import inner, learning_rate, optimizers_of


class NoSharedRateError(UsageError, AttributeError):
    """A learning rate asked of all players together; an AttributeError, so `hasattr` is False."""


class PlayerOptimizer:
    """The optimizer of one player, by the name of the player.

    Attributes are those of the optimizer that updates the weights.
    """

    def __init__(self, name: str, optimizer: Any):
        vars(self).update(name=name, optimizer=inner(optimizer))

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["optimizer"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "learning_rate" and not callable(value):
            self._check_rate(value)
        setattr(vars(self)["optimizer"], name, value)

    def _check_rate(self, value: Any) -> None:
        """Checks that a number may become the learning rate."""
        number = value if isinstance(value, (int, float)) else float(value)
        check_number("learning_rate", number, minimum=0)
        rate = learning_rate(self.optimizer)
        if not isinstance(rate, float):
            raise UsageError(
                "A learning rate can be set only if the optimizer was created with a number. "
                f"Received: learning_rate={number:g} for {self.name}_optimizer, which follows the "
                f"schedule {type(rate).__name__}"
            )


class PlayerOptimizers:
    """The optimizers of a compiled game.

    Args:
        game: the game.
    """

    built = True

    def __init__(self, game: Any):
        self._game = game

    @property
    def optimizers(self) -> list[PlayerOptimizer]:
        """The optimizers in the order of the players, named after them."""
        return [PlayerOptimizer(name, of) for name, of in optimizers_of(self._game).items()]

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of all optimizers."""
        return [v for of in optimizers_of(self._game).values() for v in of.variables]

    @property
    def iterations(self) -> keras.Variable:
        """The number of training steps."""
        return self._game.iteration

    @property
    def learning_rate(self) -> Any:
        raise NoSharedRateError(self._hint("learning_rate"))

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        raise UsageError(self._hint(f"learning_rate={value!r}"))

    def get_config(self) -> dict[str, Any]:
        raise UsageError(
            "A game can be saved only to a .keras file, which holds the optimizers of all "
            "players. Received: a format with one optimizer. Use save('NAME.keras')"
        )

    def _hint(self, received: str) -> str:
        names = " and ".join(f"{player}_optimizer.learning_rate" for player in self._game.players)
        return (
            "The players of a game have an optimizer each. "
            f"Received: optimizer.{received}. Use {names}"
        )
