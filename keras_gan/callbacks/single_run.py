"""Callbacks of a training that consists of several calls of `fit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras


class SingleRunCallbackList(keras.callbacks.CallbackList):
    """Callbacks for which several calls of `fit` are one training, with one begin and one end.

    Args:
        callbacks: the callbacks in the order in which they are called; `None` is left out.
        model: the game.
    """

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback | None], model: keras.Model):
        super().__init__([callback for callback in callbacks if callback], True, model=model)
        self._begun = False

    def on_train_begin(self, logs: Any = None) -> None:
        if not self._begun:
            self._begun = True
            super().on_train_begin(logs)

    def on_train_end(self, logs: Any = None) -> None:
        """Does nothing: another call of `fit` may follow. `end` ends the training."""

    def end(self) -> None:
        """Calls `on_train_end` of all callbacks."""
        super().on_train_end()
