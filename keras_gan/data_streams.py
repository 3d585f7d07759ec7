"""Streams of batches for `fit` and `evaluate`, whose batches are checked before they are used."""

from __future__ import annotations

import dataclasses
import multiprocessing
import queue
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import data_spec
from keras_gan.autograph import do_not_convert
from keras_gan.data_spec import BatchCheck, DataSpec
from keras_gan.errors import UsageError

_EMPTY = (
    "The data set must have at least one batch. Received: none (are there fewer samples than "
    "batch_size, with drop_remainder?)"
)


class Watch:
    """Checks of all data that one call of `fit` or `evaluate` is given.

    Arrays are checked as a whole. Of a stream the first batches are checked before the first step,
    and each later one on its way: on the CPU, before it is distributed. A batch that does not fit
    ends the call with one line; as a context, this class raises it in place of TensorFlow's error.

    Args:
        strategy: the game's distribution strategy.
    """

    def __init__(self, strategy: Any):
        self._strategy = strategy
        self._reports: list[Any] = [queue.SimpleQueue()]
        self._returned: list[Any] = []

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, tf.errors.OpError):
            for reports in self._reports:
                if not reports.empty():
                    raise reports.get() from None

    def returned(self, x: Any) -> bool:
        """Returns whether `stream` has returned an object."""
        return any(each is x for each in self._returned)

    def stream(self, x: Any, check: BatchCheck) -> Any:
        """Returns a stream that gives the same batches, each of them checked.

        Args:
            x: tf.data set, distributed data set, PyDataset, iterator, or another iterable of
                batches that can be read repeatedly, such as a DataLoader.
            check: the check.

        Raises:
            UsageError: the first thing that does not fit in the first batches, or no batches.
        """
        if isinstance(x, tf.data.Dataset):
            checked = self._dataset(x, check)
        elif _is_distributed(x):
            checked = self._distributed(x, check)
        elif isinstance(x, keras.utils.PyDataset):
            checked = self._py_dataset(x, check)
        elif isinstance(x, Iterator):
            checked = self._iterator(x, check)
        else:
            checked = self._iterable(x, check)
        self._returned.append(checked)
        return checked

    # ---------------------------------------------------------------- kinds of streams

    def _dataset(self, dataset: tf.data.Dataset, check: BatchCheck) -> tf.data.Dataset:
        spec, element = check.spec, dataset.element_spec
        declared = data_spec.read_fields(element)
        data_spec.check_declared(declared, spec)
        _check_declared_size(declared["samples"].shape, spec)
        used = [name for name in spec.names if name in declared]
        read = map(data_spec.read_fields, dataset)
        look_ahead(({name: fields[name] for name in used} for fields in read), check)
        cardinality = int(dataset.cardinality())
        check.length = cardinality if cardinality > 0 else None
        check.rewind()
        report = self._reports[0]

        def look(*arrays: Any) -> None:
            try:
                check(dict(zip(spec.names, arrays, strict=True)))
            except UsageError as error:
                report.put(error)
                raise

        def checked(*parts: Any) -> Any:
            batch: Any = parts[0] if len(parts) == 1 else parts
            fields = data_spec.read_fields(batch)
            seen = tf.numpy_function(look, [fields[name] for name in spec.names], [])
            with tf.control_dependencies([seen]):
                return tf.nest.map_structure(_passed_on, _with_shapes(batch, spec))

        return dataset.map(do_not_convert(checked))

    def _distributed(self, dataset: Any, check: BatchCheck) -> Any:
        # It is on its devices already, where it cannot be looked at in passing.
        batch = next(iter(dataset), None)
        if batch is None:
            raise UsageError(_EMPTY)
        check.complete, check.spec = False, dataclasses.replace(check.spec, replicas=1)
        local = self._strategy.experimental_local_results
        values: Any = tf.nest.flatten(batch)
        for replica in range(len(local(values[0]))):
            part = tf.nest.map_structure(lambda value, i=replica: local(value)[i], batch)
            check(data_spec.read_fields(part), "the first batch")
        check.judge()
        return dataset

    def _py_dataset(self, dataset: Any, check: BatchCheck) -> keras.utils.PyDataset:
        if dataset.num_batches == 0:
            raise UsageError(_EMPTY)
        report = self._reports[0]
        if dataset.use_multiprocessing:  # its batches are read, and checked, in other processes
            check.complete, report = False, multiprocessing.SimpleQueue()
            self._reports.append(report)
        return _CheckedPyDataset(dataset, check, report)

    def _iterator(self, batches: Iterator[Any], check: BatchCheck) -> Iterator[tuple]:
        first = look_ahead_keeping(batches, check)
        return self._checked(first, batches, check)

    def _checked(self, first: list, rest: Iterable[Any], check: BatchCheck) -> Iterator[tuple]:
        yield from first
        for batch in rest:
            try:
                check(data_spec.read_fields(batch))
            except UsageError as error:
                self._reports[0].put(error)
                raise
            yield as_tuple(batch)

    def _iterable(self, batches: Iterable[Any], check: BatchCheck) -> tf.data.Dataset:
        first = look_ahead_keeping(iter(batches), check)[0]
        signature = tf.nest.map_structure(_signature, first)

        def passes() -> Iterator[Any]:
            check.rewind()
            for batch in self._checked([], batches, check):
                yield tf.nest.map_structure(np.asarray, batch)

        dataset = tf.data.Dataset.from_generator(passes, output_signature=signature)
        dataset = dataset.map(do_not_convert(lambda *parts: _with_shapes(parts, check.spec)))
        length = getattr(batches, "__len__", None)
        if length is not None:
            dataset = dataset.apply(tf.data.experimental.assert_cardinality(length()))
        return dataset.prefetch(tf.data.AUTOTUNE)


class _CheckedPyDataset(keras.utils.PyDataset):
    """A PyDataset whose batches are checked where they are read.

    Args:
        dataset: the PyDataset.
        check: the check.
        report: queue for the error of a batch that does not fit.
    """

    def __init__(self, dataset: Any, check: BatchCheck, report: Any):
        super().__init__(dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size)
        self._dataset, self._check, self._report = dataset, check, report

    def __getitem__(self, index: int) -> tuple:
        batch = self._dataset[index]
        try:
            self._check(data_spec.read_fields(batch), f"dataset[{index}]")
        except UsageError as error:
            self._report.put(error)
            raise
        return as_tuple(batch)

    @property
    def num_batches(self) -> int | None:
        return self._dataset.num_batches

    def on_epoch_begin(self) -> None:
        self._dataset.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self._dataset.on_epoch_end()


# ------------------------------------------------------------------------ batches


def is_stream(x: Any) -> bool:
    """Returns whether an object gives batches, rather than being an array or holding arrays."""
    if isinstance(x, tf.data.Dataset | keras.utils.PyDataset) or _is_distributed(x):
        return True
    is_data = hasattr(x, "__array__") or isinstance(x, Mapping | list | tuple | str | bytes)
    return isinstance(x, Iterable) and not is_data and not hasattr(x, "shape")


def is_ordered(x: Any) -> bool:
    """Returns whether a stream has an order that Keras does not shuffle."""
    return not (isinstance(x, keras.utils.PyDataset) and x.num_batches is not None)


def _is_distributed(x: Any) -> bool:
    return isinstance(x, tf.distribute.DistributedDataset)


def look_ahead(batches: Iterable[Mapping[str, Any]], check: BatchCheck) -> None:
    """Checks the first batches of a stream, as many as its range is judged by.

    Raises:
        UsageError: the first thing that does not fit, or no batch.
    """
    for fields in batches:
        check(fields)
        if check.enough:
            return
    if not check.count:
        raise UsageError(_EMPTY)
    check.judge()


def look_ahead_keeping(batches: Iterator[Any], check: BatchCheck) -> list[tuple]:
    """Does the same for batches that can be read only once, and returns those it has read."""
    kept = []

    def fields() -> Iterator[Mapping[str, Any]]:
        for batch in batches:
            kept.append(as_tuple(batch))
            yield data_spec.read_fields(batch)

    look_ahead(fields(), check)
    return kept


def as_tuple(batch: Any) -> tuple:
    """Returns a batch as a tuple without absent parts, as Keras takes it."""
    parts = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
    return tuple(part for part in parts if part is not None)


def _check_declared_size(shape: tf.TensorShape, spec: DataSpec) -> None:
    size = None if shape.rank is None else shape[0]
    if spec.multiple > 1 and size is None:
        raise UsageError(
            f"With {spec.multiple_of} = {spec.multiple} every batch must be of one known size: use "
            "batch(size, drop_remainder=True). Received: batches of unknown size"
        )
    if size:
        spec.check_size(size)


def _passed_on(value: Any) -> Any:
    return None if value is None else tf.identity(value)


def _with_shapes(batch: Any, spec: DataSpec) -> Any:
    """Returns a batch whose samples and labels have the shapes that the game knows."""
    parts = list(batch) if isinstance(batch, tuple) else [batch]
    shapes = {"samples": spec.sample_shape, "labels": (), **spec.shapes}
    if isinstance(parts[0], Mapping):
        parts[0] = {
            name: _with_shape(value, shapes.get(name)) if name in spec.names else value
            for name, value in parts[0].items()
        }
    else:
        parts[0] = _with_shape(parts[0], spec.sample_shape)
    if spec.num_classes and len(parts) > 1:
        parts[1] = _with_shape(parts[1], ())
    return tuple(parts) if isinstance(batch, tuple) else parts[0]


def _with_shape(value: Any, shape: tuple | None) -> Any:
    known = value.shape.rank is not None and value.shape[1:].is_fully_defined()
    if shape is None or known:
        return value
    return tf.ensure_shape(value, (None, *shape))


def _signature(value: Any) -> tf.TensorSpec:
    array = np.asarray(value)
    return tf.TensorSpec((None,) * array.ndim, array.dtype)
