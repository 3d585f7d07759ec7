"""Training and evaluation of a game: `fit`, `evaluate` and single batches, after one check."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import data_spec, data_streams
from keras_gan.arguments import check_integer, check_number
from keras_gan.data_ranges import SeenValues
from keras_gan.data_spec import BatchCheck, DataSpec
from keras_gan.errors import UsageError
from keras_gan.games import _callbacks, _players
from serving import kinds, value_ranges


class DataInterface(keras.Model):
    """Base class of games: the methods of `keras.Model` that take data, with checks of it."""

    sample_shape: tuple = ()
    sample_kind: str | None = None  # kind of the data, in its range; otherwise `fit` guesses it
    seen_values: SeenValues  # of the data that the game was trained on
    _watch: data_streams.Watch | None = None  # of the call of `fit` that is running
    # Identities of the variables that each player trains, at `compile`.
    _compiled_weights: Mapping[str, tuple[int, ...]] | None = None

    @property
    def data_spec(self) -> DataSpec:
        """The data that the game needs."""
        raise NotImplementedError

    @property
    def data_range(self) -> value_ranges.Range | None:
        """Range of the data that the game was trained on; None before, or without a range."""
        limits = kinds.get(kinds.of_shape(self.sample_shape)).range_for(self.sample_shape)
        extremes = self.seen_values.extremes
        if limits is None or extremes is None:
            return None
        if self.sample_kind and kinds.get(self.sample_kind).range_for(self.sample_shape) is None:
            return extremes if extremes[0] < extremes[1] else limits  # of no usual range
        return value_ranges.of_data(extremes[0], extremes[1], limits)

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any):
        """Trains as `keras.Model.fit` does, after a check of the data.

        Arrays are checked as a whole. The first batches of a stream are checked before the first
        step, for which a tf.data set is started once, and each later batch before its step. A
        batch that does not fit ends the training; the game keeps the state before it.

        Raises:
            UsageError: frozen networks, fields that are missing, samples of a wrong type, shape or
                range, NaN among them, labels out of range, batches that do not divide into the
                game's steps, weights of samples or classes, or callbacks that cannot work.
        """
        given = _named(keras.Model.fit, (self, x, y, *args), kwargs)
        _check_numbers(given)
        _refuse_weights(given)
        _players.check(self, self._compiled_weights)
        validated = given.get("validation_data") is not None or given.get("validation_split")
        _callbacks.check(self, given.get("callbacks"), validation=bool(validated))
        watch, spec = data_streams.Watch(self.distribute_strategy), self._spec
        with _kept_if_refused(self.seen_values):
            x, y, check = _checked(watch, x, y, spec, given)
        passes = None
        if isinstance(check, BatchCheck):
            if data_streams.is_ordered(x):
                given.setdefault("shuffle", False)  # Keras warns of its own default otherwise
            if spec.num_classes and check.complete and not given.get("steps_per_epoch"):
                passes = check
        elif check is not None:
            data_spec.warn_unused(check, spec.num_classes)
        validation = given.pop("validation_data", None)
        if validation is not None:
            given["validation_data"] = _checked_pair(watch, validation, _whole(spec))
        given["callbacks"] = _with_checks(given.get("callbacks"), _Checks(passes), self)
        self._watch = watch
        try:
            with watch:
                return super().fit(x, y, **given)
        finally:
            self._watch = None

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any):
        """Evaluates as `keras.Model.evaluate` does, after the same checks as `fit`.

        Raises:
            UsageError: as `fit`.
        """
        if self._watch is not None and self._watch.returned(x):  # the validation of `fit`
            return super().evaluate(x, y, *args, **kwargs)
        given = _named(keras.Model.evaluate, (self, x, y, *args), kwargs)
        _check_numbers(given)
        _refuse_weights(given)
        _callbacks.check(self, given.get("callbacks"), validation=True, training=False)
        watch = data_streams.Watch(self.distribute_strategy)
        x, y, _ = _checked(watch, x, y, _whole(self._spec), given)
        with watch:
            return super().evaluate(x, y, **given)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any):
        """Trains on one batch as `keras.Model.train_on_batch` does, after the check of `fit`."""
        given = _named(keras.Model.train_on_batch, (self, x, y, *args), kwargs)
        _refuse_weights(given)
        with _kept_if_refused(self.seen_values):
            x, y = _one_batch(x, y, self._spec)
        return super().train_on_batch(x, y, **given)

    def test_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any):
        """Evaluates one batch as `keras.Model.test_on_batch` does, after the check of `fit`."""
        given = _named(keras.Model.test_on_batch, (self, x, y, *args), kwargs)
        _refuse_weights(given)
        x, y = _one_batch(x, y, _whole(self._spec))
        return super().test_on_batch(x, y, **given)

    @property
    def _spec(self) -> DataSpec:
        replicas = self.distribute_strategy.num_replicas_in_sync
        return dataclasses.replace(self.data_spec, replicas=replicas, seen=self.seen_values)


class _Checks(keras.callbacks.Callback):
    """Checks, after each epoch, that no callback has frozen or unfrozen a network.

    Warns after the first pass through a stream of classes without examples.

    Args:
        check: the check that has seen the batches; None if classes need no look.
    """

    def __init__(self, check: BatchCheck | None):
        super().__init__()
        self._batches = check

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        game: Any = self.model
        _players.check(game, game._compiled_weights)
        if self._batches is not None and not game.stop_training:
            used = np.flatnonzero(self._batches.seen)
            data_spec.warn_unused(used, self._batches.spec.num_classes)
        self._batches = None


def _named(method: Callable, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a method of Keras beside x and y by name."""
    given = inspect.signature(method).bind(*args, **kwargs).arguments
    others = {name: value for name, value in given.items() if name not in ("self", "x", "y")}
    return {**others.pop("kwargs", {}), **others}


# The smallest valid numbers of batches, steps and epochs. As for Keras, no epochs are valid, and 0
# steps stand for the whole data.
_SMALLEST = {
    **dict.fromkeys(("batch_size", "validation_batch_size", "validation_freq"), 1),
    **dict.fromkeys(("epochs", "initial_epoch"), 0),
    **dict.fromkeys(("steps_per_epoch", "validation_steps", "steps"), 0),
}


def _check_numbers(given: Mapping[str, Any]) -> None:
    """Checks the arguments of `fit` and `evaluate` that count batches, steps and epochs."""
    for name, smallest in _SMALLEST.items():
        value = given.get(name)
        epochs = name == "validation_freq" and isinstance(value, list | tuple | set)
        if value is not None and not epochs:
            check_integer(name, value, smallest)
    split = given.get("validation_split")
    if split is not None:
        check_number("validation_split", split, minimum=0, below=1)


def _refuse_weights(given: dict[str, Any]) -> None:
    weights = {name: given.pop(name, None) for name in ("sample_weight", "class_weight")}
    data_spec.refuse_weights(**weights)


def _whole(spec: DataSpec) -> DataSpec:
    """Returns what an evaluation needs, which does not divide its batches.

    It computes no terms, and so needs no labels that only they read.
    """
    asked = {k: v for k, v in spec.asked.items() if not (spec.label_classes and k == "labels")}
    return dataclasses.replace(spec, multiple=1, seen=None, label_classes=0, asked=asked)


@contextlib.contextmanager
def _kept_if_refused(seen: SeenValues) -> Iterator[None]:
    """Leaves out the values of data that is refused."""
    before = seen.extremes
    try:
        yield
    except UsageError:
        seen.extremes = before
        raise


def _with_checks(callbacks: Any, checks: _Checks, game: keras.Model) -> Any:
    """Returns callbacks in any form that `fit` takes, with the checks as the last."""
    if isinstance(callbacks, keras.callbacks.CallbackList):  # Keras takes it as it is
        running: Any = callbacks
        checks.set_model(game)
        others = [each for each in running.callbacks if not isinstance(each, _Checks)]
        running.callbacks = [*others, checks]
        return running
    several = isinstance(callbacks, list | tuple)
    return [*(callbacks if several else [callbacks] if callbacks else []), checks]


# ------------------------------------------------------------------------ arrays and streams


def _checked(
    watch: data_streams.Watch, x: Any, y: Any, spec: DataSpec, given: Mapping[str, Any]
) -> tuple[Any, Any, Any]:
    """Returns checked data as Keras takes it, and how it was checked.

    That is a `BatchCheck` of a stream, and of arrays the class ids that occur.
    """
    if x is None:
        raise UsageError("fit needs data: a data set, or an array of samples. Received: x=None")
    if data_streams.is_stream(x):
        if y is not None:
            raise UsageError(
                "`y` goes with arrays; batches bring their labels, as (x, y). "
                f"Received: x of type {type(x).__name__}, and y"
            )
        check = BatchCheck(spec)
        return watch.stream(x, check), None, check
    x, y, count, used = _checked_arrays(x, y, spec)
    if spec.label_classes and used is not None:
        data_spec.check_some_labeled(used, spec.label_classes)
    _check_batches(count, spec, given)
    return x, y, used


def _checked_pair(watch: data_streams.Watch, validation: Any, spec: DataSpec) -> tuple:
    parts = tuple(validation) if isinstance(validation, tuple | list) else (validation,)
    if len(parts) == 3:
        data_spec.refuse_weights(sample_weight=parts[2])
    if not 1 <= len(parts) <= 3:
        raise UsageError(
            "`validation_data` must be a data set, an array, or (x, y). "
            f"Received: {len(parts)} values"
        )
    x, y, _ = _checked(watch, parts[0], parts[1] if len(parts) > 1 else None, spec, {})
    return (x,) if y is None else (x, y)


def _one_batch(x: Any, y: Any, spec: DataSpec) -> tuple[Any, Any]:
    """Returns one checked batch as tensors."""
    x, y, count, _ = _checked_arrays(x, y, spec)
    spec.check_size(count)
    tensors: Any = keras.tree.map_structure(tf.convert_to_tensor, (x, y), none_is_leaf=False)
    return tensors


def _checked_arrays(x: Any, y: Any, spec: DataSpec) -> tuple[Any, Any, int, Any]:
    """Returns checked arrays, the number of samples, and the class ids that occur."""
    x, y = _arrays(x, y)
    given = data_spec.read_fields((x, y))
    fields = {name: data_spec.to_array(name, value) for name, value in given.items()}
    used = data_spec.check_arrays(fields, spec)
    return x, y, len(fields["samples"]), used


def _arrays(x: Any, y: Any) -> tuple[Any, Any]:
    """Returns arrays of any library as those of numpy or TensorFlow.

    Raises:
        UsageError: something that is neither an array nor a dictionary of arrays.
    """
    if isinstance(x, Mapping):
        return {name: _array(f"x[{name!r}]", value) for name, value in x.items()}, _array("y", y)
    return _array("x", x), _array("y", y)


_LISTED = ": np.asarray makes one of samples; labels go in y"
_HINTS = {
    "list": _LISTED,
    "tuple": _LISTED,
    "Source": "; source.dataset('train', batch_size) makes batches",
}


def _array(name: str, value: Any) -> Any:
    if value is None or isinstance(value, np.ndarray | tf.Tensor):
        return value
    if hasattr(value, "__array__") and hasattr(value, "shape"):
        return np.asarray(value)
    raise UsageError(
        f"`{name}` must be an array{_HINTS.get(type(value).__name__, '')}. "
        f"Received: {name} of type {type(value).__name__}"
    )


def _check_batches(count: int, spec: DataSpec, given: Mapping[str, Any]) -> None:
    """Checks that arrays divide into batches that fit."""
    split = given.get("validation_split") or 0
    rest = math.floor(count * (1 - split))
    if not rest:
        raise UsageError(
            "`validation_split` must leave at least one sample to train on. "
            f"Received: validation_split={split}, {count} samples"
        )
    count = rest
    steps = given.get("steps_per_epoch") or given.get("steps")
    size = given.get("batch_size") or (math.ceil(count / steps) if steps else 32)
    last = count % size
    if count >= size:
        spec.check_size(size)
    if last:
        spec.check_size(last)
