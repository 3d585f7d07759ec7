"""Checks of the callbacks given to `fit`, before the first step.

Most callbacks of Keras raise an error only at the end of an epoch, or never act without a word.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Any

import keras

from keras_gan.errors import UsageError
from keras_gan.optimizers import inner, learning_rate, optimizers_of
from keras_gan.registry import nearest
from serving.errors import short_repr

_MONITORING = (
    keras.callbacks.EarlyStopping,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.ReduceLROnPlateau,
)
_KNOWN = ("builtins", "keras", "keras_gan")  # modules whose callbacks add known names only
_RATES = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)


def check(game: Any, given: Any, *, validation: bool, training: bool = True) -> None:
    """Checks callbacks of Keras against a game.

    Args:
        game: a game.
        given: callbacks as `fit` takes them.
        validation: whether the epochs end with a validation.
        training: whether the callbacks are those of a training.

    Raises:
        UsageError: an object of another type, or a callback that could not work or would
            never act in this game.
    """
    callbacks = _listed(given)
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise UsageError(
                "`callbacks` must be instances of keras.callbacks.Callback. "
                f"Received: {short_repr(callback)}"
            )
        if isinstance(callback, keras.callbacks.SwapEMAWeights):
            _check_averages(game)
    if not training:
        return
    names = _Names(game, callbacks, validation)
    for callback in callbacks:
        if isinstance(callback, _RATES):
            _check_rates(game, callback)
        if isinstance(callback, _MONITORING):
            _check_monitor(callback, names)
        if isinstance(callback, keras.callbacks.ModelCheckpoint):
            _check_file(callback, names)
        if isinstance(callback, keras.callbacks.TerminateOnNaN) and names.unknown("loss"):
            raise UsageError(
                "keras.callbacks.TerminateOnNaN watches a metric named loss and would never act; "
                "keras_gan.callbacks.CollapseGuard() stops at a loss or weight that is not finite. "
                f"Received: {type(callback).__name__} for a game with the metrics {names.listed}"
            )


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    if isinstance(given, keras.callbacks.CallbackList):
        return list(given.callbacks)
    return list(given) if isinstance(given, (list, tuple)) else [given]


class _Names:
    """Names of the logs of an epoch, as far as they are known before it.

    Args:
        game: a game.
        callbacks: all callbacks of the training; some of them may add to the logs.
        validation: whether the epochs end with a validation.
    """

    def __init__(self, game: Any, callbacks: Iterable[Any], validation: bool):
        measured = [metric.name for metric in game.metrics]
        self.listed = ", ".join(measured)
        self._measured, self._validation = measured, validation
        self._known = {*measured, *(f"learning_rate_{player}" for player in game.players)}
        if validation:
            self._known |= {f"val_{name}" for name in measured}
        # A callback of the user may add anything, and ours may add anything but a `loss`.
        self._open = any(map(_may_add, callbacks))
        classes = [cls for callback in callbacks for cls in type(callback).__mro__]
        self._ours = any(cls.__module__.startswith("keras_gan.callbacks") for cls in classes)

    def unknown(self, name: str) -> bool:
        """Returns True if no log can have this name."""
        if name in self._known or self._open:
            return False
        unvalidated = name.startswith("val_") and name[4:] in self._measured
        return not self._ours or unvalidated or name in ("loss", "val_loss")

    def hint(self, name: str) -> str:
        """Returns what to use in place of an unknown name."""
        if name.startswith("val_") and name[4:] in self._measured and not self._validation:
            return "Give validation_data to fit"
        if name in ("loss", "val_loss"):
            return f"Valid: {self.listed}"
        return nearest(name, sorted(self._known))


def _may_add(callback: Any) -> bool:
    """Returns True for a callback with a method of the user's own, which may add to the logs.

    A subclass without one is like its base class.
    """
    own = [c for c in type(callback).__mro__ if c.__module__.split(".")[0] not in _KNOWN]
    names = {name for cls in own for name in vars(cls)} | set(vars(callback))
    is_lambda = isinstance(callback, keras.callbacks.LambdaCallback)
    return is_lambda or any(name.startswith("on_") for name in names)


def _check_monitor(callback: Any, names: _Names) -> None:
    """Checks the monitored metric and its direction, which Keras asks for after an epoch."""
    kind, name = type(callback).__name__, callback.monitor
    reads = getattr(callback, "save_best_only", True)
    if reads and names.unknown(name):
        raise UsageError(
            f"`monitor` of {kind} must be a metric of the training. "
            f"Received: monitor={name!r}. {names.hint(name)}"
        )
    decided = callback.monitor_op is not None or name.removeprefix("val_") == "loss"
    if callback.mode == "auto" and not decided:
        raise UsageError(
            f"`mode` of {kind} must be 'min' or 'max': Keras does not know the direction of a "
            f"game's metrics. Received: monitor={name!r}, mode='auto'"
        )


def _check_file(callback: Any, names: _Names) -> None:
    """Checks the name of a checkpoint's file, which Keras uses after an epoch."""
    path = callback.filepath
    if not callback.save_weights_only and not path.endswith(".keras"):
        raise UsageError(
            "A game can be saved only to a .keras file, or its weights to .weights.h5 with "
            f"save_weights_only=True. Received: ModelCheckpoint with filepath={path!r}"
        )
    for _, field, _, _ in string.Formatter().parse(path):
        if field and field not in ("epoch", "batch") and names.unknown(field):
            raise UsageError(
                "`filepath` of ModelCheckpoint can hold epoch, batch and metrics in braces. "
                f"Received: filepath={path!r}. {names.hint(field)}"
            )


def _check_rates(game: Any, callback: Any) -> None:
    """Checks that a callback can set the learning rates of all players."""
    for player, optimizer in optimizers_of(game).items():
        rate = learning_rate(optimizer)
        if not isinstance(rate, float):
            raise UsageError(
                f"{type(callback).__name__} can change only learning rates that are numbers. "
                f"Received: {player}_optimizer with the schedule {type(rate).__name__}. Remove "
                "the callback or the schedule"
            )


def _check_averages(game: Any) -> None:
    """Checks that there are averages of an optimizer to swap in."""
    if any(inner(optimizer).use_ema for optimizer in optimizers_of(game).values()):
        return
    raise UsageError(
        "SwapEMAWeights needs an optimizer with use_ema=True. A game has a moving average of its "
        "own, which evaluation, generate and export use without it. "
        f"Received: SwapEMAWeights, use_ema=False, ema_half_life={game.ema_half_life}"
    )
