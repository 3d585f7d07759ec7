"""Generated examples among the real ones of a pipeline of tf.data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_gan.arguments import check_integer, check_number, is_number
from keras_gan.errors import UsageError
from serving.checks import check_different

LABELS = ("same", "uniform")
_LABEL_NAMES = ("label", "labels")  # of the field of labels in a dict
_PIECE = 64  # examples that are taken together where the pipeline has single ones
_FORMS = "(x, y), (x, y, sample_weight) or a dict of two fields, one of them `label` or `labels`"


def with_generated(
    dataset: tf.data.Dataset,
    bundle: Any,
    share: float = 0.5,
    *,
    truncation: float = 1.0,
    seed: int = 0,
    labels: str = "same",
    value_range: Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
) -> tf.data.Dataset:
    """Replaces a share of a pipeline's examples by generated ones, at random places.

    The number of batches, their sizes and the types stay, so that the result takes the place of
    the pipeline in `model.fit`. Which examples are replaced, and by which samples, depends on the
    seed and differs from epoch to epoch; a second run gives the same.

    Args:
        dataset: examples, batched or single: `(x, y)`, `(x, y, sample_weight)`, or a dict of two
            fields of which one is `label` or `labels`. Labels are class ids or one-hot vectors.
        bundle: an opened bundle, `serving.Bundle(path)`, of a network with classes.
        share: mean share of the examples that are replaced, 0 to 1.
        truncation: as of `Bundle.generate`.
        seed: an integer of at least 0.
        labels: `"same"` generates a sample of the class of the example that it replaces, so that
            the frequencies of the classes stay; `"uniform"` draws each class equally often.
        value_range: smallest and largest value that x can have; by default 0 and 255 for uint8,
            and required for other types if the bundle has a range.
        class_names: names of the pipeline's classes, in the order of their ids; by default
            `dataset.class_names`, as `keras.utils.image_dataset_from_directory` sets it. Without
            names the ids are those of the bundle.

    Returns:
        A data set of the same structure, types and cardinality.

    Raises:
        UsageError: a bundle without classes, of other classes or of another shape, or a wrong
            argument. Labels and values outside their range end the iteration.
    """
    _check_arguments(dataset, share, seed, labels)
    is_batched = _is_batched(dataset, _check_bundle(bundle, truncation))
    batches = dataset if is_batched else dataset.batch(_PIECE)
    names = getattr(dataset, "class_names", None) if class_names is None else class_names
    mixer = _Mixer(bundle, batches.element_spec, share, truncation, labels == "uniform")
    mixer.set_range(value_range, batches)
    mixer.set_classes(names)
    # Epochs differ, as those of `shuffle` do.
    numbers = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
    pairs = tf.data.Dataset.zip(batches, numbers.enumerate())
    mixed: Any = pairs.map(lambda batch, number: mixer(batch, number, seed)).prefetch(2)
    if not is_batched:
        mixed = mixed.unbatch().apply(
            tf.data.experimental.assert_cardinality(dataset.cardinality())
        )
    if names is not None:
        mixed.class_names = list(names)
    return mixed


class _Mixer:
    """Function that replaces examples of a batch, see `with_generated`.

    Args:
        bundle: the generator.
        spec: element spec of the batches.
        share: mean share to replace.
        truncation: of the samples.
        uniform: whether classes are drawn uniformly, in place of those of the examples.
    """

    def __init__(self, bundle: Any, spec: Any, share: float, truncation: float, uniform: bool):
        self._bundle, self._share, self._truncation = bundle, share, truncation
        self._uniform = uniform
        self._x, self._y = _places(spec)
        self._x_spec, self._y_spec = spec[self._x], spec[self._y]
        self._range: tuple[float, float] | None = None
        self._one_hot, self._count = _label_form(self._y_spec), bundle.num_classes
        self._ids = np.arange(self._count)

    def set_range(self, given: Sequence[float] | None, batches: tf.data.Dataset) -> None:
        """Sets the range of the pipeline's values."""
        if self._bundle.value_range is None:
            if given is not None:
                raise UsageError(
                    "`value_range` needs a bundle whose samples have a range. "
                    f"Received: value_range={given!r} for bundle {self._bundle.name!r}"
                )
            return
        if given is None and self._x_spec.dtype == tf.uint8:
            given = (0, 255)
        if given is None:
            x = next(iter(batches.take(1)))[self._x].numpy()
            raise UsageError(
                "`value_range` must name the smallest and largest value that samples can have, "
                "such as (0, 1), unless they are uint8. "
                f"Received: {x.dtype} from {x.min():g} to {x.max():g} in the first batch"
            )
        values = tuple(given) if isinstance(given, Sequence | np.ndarray) else ()
        if len(values) != 2 or not all(map(is_number, values)) or values[0] >= values[1]:
            raise UsageError(
                f"`value_range` must be two numbers, the smaller first. Received: {given!r}"
            )
        self._range = float(values[0]), float(values[1])

    def set_classes(self, names: Sequence[str] | None) -> None:
        """Sets the bundle's class of each class of the pipeline."""
        bundle = self._bundle
        if names is not None and bundle.class_names:
            check_different("class_names", tuple(names))
            if unknown := [name for name in names if name not in bundle.class_names]:
                raise UsageError(
                    f"The classes must be among those of the bundle, "
                    f"{', '.join(bundle.class_names)}. Received: {unknown[0]!r}"
                )
            self._ids = np.array([bundle.class_names.index(name) for name in names])
        elif names is not None and len(names) != self._count:
            raise UsageError(
                f"The classes must be the {self._count} of bundle {bundle.name!r}, which has no "
                f"names of them. Received: {len(names)} classes"
            )
        self._count = len(self._ids)
        if self._one_hot not in (0, self._count):
            raise UsageError(
                f"One-hot labels must have a column for each of {self._count} classes. "
                f"Received: {self._one_hot} columns"
            )

    def __call__(self, batch: Any, number: tuple[tf.Tensor, tf.Tensor], seed: int) -> Any:
        """Returns a batch with generated examples.

        Args:
            batch: the real examples.
            number: its position, and a random number of its own.
            seed: of the pipeline.
        """
        x, y = batch[self._x], batch[self._y]
        key = tf.stack([number[0] + tf.constant(seed, tf.int64), number[1]])
        keys = tf.random.split(key, 4)
        rows = self._rows(tf.shape(x)[0], keys[0], keys[1])
        seeds = tf.random.stateless_uniform(tf.shape(rows), keys[2], 0, 2**63 - 1, tf.int64)
        replaced = tf.gather(y, rows)
        if self._uniform:
            drawn = tf.random.stateless_uniform(tf.shape(rows), keys[3], 0, self._count, tf.int64)
            replaced = self._encode(drawn, replaced)
        with tf.control_dependencies(self._checks(x, y)):
            ids = tf.gather(self._ids, self._decode(replaced))
        samples = tf.numpy_function(self._generate, [seeds, ids], tf.float32, stateful=False)
        samples.set_shape([None, *self._x_spec.shape[1:]])
        places = rows[:, tf.newaxis]
        mixed = {
            self._x: tf.tensor_scatter_nd_update(x, places, self._to_range(samples)),
            self._y: tf.tensor_scatter_nd_update(y, places, replaced),
        }
        return _rebuild(batch, mixed, {self._x: self._x_spec, self._y: self._y_spec})

    def _rows(self, count: tf.Tensor, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        """Returns the positions to replace: the share of the batch, rounded at random."""
        mean = self._share * tf.cast(count, tf.float64)
        number = tf.floor(mean + tf.random.stateless_uniform((), first, dtype=tf.float64))
        order = tf.argsort(tf.random.stateless_uniform(count[tf.newaxis], second), stable=True)
        return order[: tf.minimum(tf.cast(number, tf.int32), count)]

    def _decode(self, labels: tf.Tensor) -> tf.Tensor:
        """Returns the class ids of labels, `(batch,)`."""
        if self._one_hot:
            return tf.argmax(labels, axis=-1)
        return tf.cast(tf.reshape(labels, [-1]), tf.int64)

    def _encode(self, ids: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
        """Returns class ids as labels of the form and type of others."""
        if self._one_hot:
            return tf.one_hot(ids, self._count, dtype=like.dtype)
        return tf.reshape(tf.cast(ids, like.dtype), tf.shape(like))

    def _checks(self, x: tf.Tensor, y: tf.Tensor) -> list[Any]:
        """Returns assertions about the range of the real examples."""
        ids = self._decode(y)
        fits = tf.reduce_all((ids >= 0) & (ids < self._count))
        rule = f"Labels must be class ids from 0 to {self._count - 1}. Received:"
        checks = [tf.debugging.Assert(fits, [rule, ids])]
        if self._range is not None:
            low, high = self._range
            margin = (high - low) / 2  # interpolation and noise may overshoot, other ranges do more
            values = tf.cast(x, tf.float32)
            least, most = tf.reduce_min(values), tf.reduce_max(values)
            fits = (least >= low - margin) & (most <= high + margin) | (tf.size(x) == 0)
            rule = f"Samples must be in `value_range`, [{low:g}, {high:g}]. Received: values from"
            checks.append(tf.debugging.Assert(fits, [rule, least, "to", most]))
        return checks

    def _generate(self, seeds: np.ndarray, ids: np.ndarray) -> np.ndarray:
        if not len(seeds):
            return np.zeros((0, *self._x_spec.shape[1:]), np.float32)
        samples = self._bundle.generate(seeds, labels=ids, truncation=self._truncation)
        return np.asarray(samples, np.float32)

    def _to_range(self, samples: tf.Tensor) -> tf.Tensor:
        """Returns samples in the range and the type of the pipeline's."""
        if self._range is not None:
            (low, high), (least, most) = self._range, self._bundle.value_range
            samples = (samples - least) * ((high - low) / (most - least)) + low
            samples = tf.clip_by_value(samples, low, high)
        if self._x_spec.dtype.is_integer:
            samples = tf.round(samples)
        return tf.cast(samples, self._x_spec.dtype)


# ------------------------------------------------------------------------ checks


def _check_arguments(dataset: Any, share: Any, seed: Any, labels: Any) -> None:
    if not isinstance(dataset, tf.data.Dataset):
        raise UsageError(f"`dataset` must be a tf.data.Dataset. Received: {type(dataset).__name__}")
    check_number("share", share, minimum=0, maximum=1)
    check_integer("seed", seed, minimum=0)
    if labels not in LABELS:
        raise UsageError(
            f"`labels` must be one of {', '.join(LABELS)}. Received: labels={labels!r}"
        )


def _check_bundle(bundle: Any, truncation: Any) -> tuple[int, ...]:
    """Checks that a network generates samples of classes, and returns the shape of one."""
    if not hasattr(bundle, "inputs") or not hasattr(bundle, "generate"):
        raise UsageError(
            "`bundle` must be an opened bundle: serving.Bundle(path). "
            f"Received: bundle={bundle!r:.200}"
        )
    if bundle.inputs.given:
        raise UsageError(
            "Generated examples need a network of seeds and classes. Received: bundle "
            f"{bundle.name!r}, whose input {bundle.inputs.given[0].name!r} must be given"
        )
    if not bundle.num_classes:
        raise UsageError(
            "Generated examples need a network with classes, whose samples have labels. "
            f"Received: bundle {bundle.name!r} without classes"
        )
    bundle.inputs.check_truncation(truncation)
    return tuple(bundle.shape)


def _is_batched(dataset: tf.data.Dataset, shape: tuple[int, ...]) -> bool:
    """Returns whether the elements are batches of samples of a shape.

    Raises:
        UsageError: another structure, or samples of another shape.
    """
    spec: Any = dataset.element_spec
    found = spec[_places(spec)[0]]
    sizes = found.shape.as_list() if found.shape.rank is not None else None
    for is_batched in (False, True):
        if sizes is not None and sizes[is_batched:] == list(shape):
            return is_batched
    raise UsageError(
        f"Samples must have the shape of the bundle's, {shape}, which a pipeline of pictures has "
        f"after tf.image.resize and with as many channels. Received: {found.shape}"
    )


def _places(spec: Any) -> tuple[Any, Any]:
    """Returns the keys of the samples and of the labels in an element.

    Raises:
        UsageError: an element of another structure.
    """
    keys: tuple[Any, Any] | None = None
    if isinstance(spec, tuple) and len(spec) in (2, 3):
        keys = 0, 1
    elif isinstance(spec, Mapping) and len(spec) == 2:
        labels = [name for name in spec if name in _LABEL_NAMES]
        if len(labels) == 1:
            keys = next(name for name in spec if name != labels[0]), labels[0]
    if keys is None or not all(isinstance(spec[key], tf.TensorSpec) for key in keys):
        received = list(spec) if isinstance(spec, Mapping) else tf.nest.map_structure(str, spec)
        raise UsageError(f"Examples must be {_FORMS}. Received: {received!r:.300}")
    return keys


def _label_form(spec: tf.TensorSpec) -> int:
    """Returns the number of columns of one-hot labels, 0 for class ids.

    Args:
        spec: of a batch of labels.

    Raises:
        UsageError: labels of another shape or type.
    """
    columns = spec.shape[-1] if spec.shape.rank == 2 else None
    rank, is_number = spec.shape.rank, spec.dtype.is_integer or spec.dtype.is_floating
    if is_number and (rank == 1 or columns == 1):
        return 0
    if is_number and columns is not None:
        return columns
    raise UsageError(
        "Labels must be class ids or one-hot vectors, one for each sample. "
        f"Received: {spec.dtype.name} of shape {spec.shape}"
    )


def _rebuild(batch: Any, mixed: Mapping[Any, tf.Tensor], specs: Mapping[Any, Any]) -> Any:
    """Returns a batch with other tensors in some places, of the static shapes that it had."""
    for key, tensor in mixed.items():
        tensor.set_shape(specs[key].shape)
    if isinstance(batch, Mapping):
        return {name: mixed.get(name, value) for name, value in batch.items()}
    return tuple(mixed.get(number, value) for number, value in enumerate(batch))
