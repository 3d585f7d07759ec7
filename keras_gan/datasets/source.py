"""Opened data sets: splits of checked examples, and batches of them for training."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_gan.arguments import check_integer
from keras_gan.autograph import do_not_convert
from keras_gan.datasets import labeled, orders
from keras_gan.datasets.splits import Split, without_copies
from keras_gan.datasets.transforms import Transform
from keras_gan.datasets.values import check_splits, holds_ids, one_hot, raw_range
from keras_gan.errors import UsageError
from keras_gan.spec import Field, Spec
from serving.value_ranges import Range

MEMORY_LIMIT = 2**30  # bytes of samples; larger arrays stay on disk

_ALIASES = {"train": "train", "held_out": "held_out", "test": "held_out"}


class Source:
    """An opened and checked data set: its fields, and its splits.

    Args:
        spec: the fields of an example in a batch.
        splits: `Split` by name: `"train"`, and `"held_out"` if the data set has one.
        description: one line that says which examples were read and from where.
        raw_ranges: smallest and largest value that the stored arrays of a field may hold, by
            the field's name. Fields whose kind has a range are mapped from it to that range in
            batches. Defaults to (0, 255) for uint8 images and video, to the range of int16 for
            int16 audio, and to the kind's range for floating point.
        skipped: one line with the reason for each file that was left out.
        resized: name of the filter that some images were resized with; `None` if all were
            stored in the size of the data set.
        composited: number of images with an alpha channel that were composited onto white.
        earlier: function that reads the same data as version 0.1.0 read it, for runs that began
            with that reading; `None` if it is the same.
        earlier_options: the same as options of the data set's `open`, of which
            `keras_gan.datasets.open` makes that function.
        transform: random crop, flip and rotation of the pictures in batches that are `augmented`.

    Raises:
        UsageError: arrays that do not fit the spec (dtype, shape, range, NaN), or fewer than
            2 samples to train on.
    """

    def __init__(
        self,
        spec: Spec,
        splits: Mapping[str, Split],
        description: str,
        *,
        raw_ranges: Mapping[str, Range] | None = None,
        skipped: Sequence[str] = (),
        resized: str | None = None,
        composited: int = 0,
        earlier: Callable[[], Source] | None = None,
        earlier_options: Mapping[str, Any] | None = None,
        transform: Transform | None = None,
    ) -> None:
        self.spec = spec
        self.resized = resized
        self.composited = composited
        self.earlier = earlier
        self.transform = transform
        self.earlier_options = dict(earlier_options or {})
        # It names files, whose names may be any bytes.
        self.description = description.encode("utf-8", "backslashreplace").decode()
        self.skipped = list(skipped)
        self._splits = without_copies(dict(splits))
        left_out = sum(map(len, splits.values())) - sum(map(len, self._splits.values()))
        if left_out:
            self.description += f"; {left_out:,} held-out copies of training samples left out"
        self._tensors: dict[int, tf.Tensor] = {}
        # Positions in the training split of the labeled examples; `None` if all are.
        self.labeled_rows: np.ndarray | None = None
        self.labeled_share = 0.0  # of each batch of a training that is drawn from them
        stored = self._splits["train"].arrays
        given = raw_ranges or {}
        self.raw_ranges: dict[str, Range | None] = {
            name: given.get(name) or (raw_range(field, stored[name]) if name in stored else None)
            for name, field in spec.fields.items()
        }
        self._check()

    def __repr__(self) -> str:
        return f"<Source {self.description}>"

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of the splits: `"train"` and, if there are held-out samples, `"held_out"`."""
        return tuple(self._splits)

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the stored samples."""
        return self._splits["train"].samples.dtype

    @property
    def paired(self) -> bool:
        """True if, in the held-out split, row i of every field belongs to row i of the samples."""
        return not self._splits.get("held_out", self._splits["train"]).independent

    @property
    def is_unpaired(self) -> bool:
        """True if a field of the training examples is drawn on its own, as of another domain."""
        return bool(self._splits["train"].independent)

    def count(self, split: str = "train") -> int:
        """Returns the number of examples in a split."""
        return len(self._split(split))

    def field_counts(self, split: str = "train") -> dict[str, int]:
        """Returns the number of stored values of each field in a split.

        They differ where fields are drawn on their own, as two domains without pairs are.
        """
        part = self._split(split)
        return {name: len(part.rows_of(name)) for name in part.arrays}

    def swapped(self, name: str) -> Source:
        """Returns the data with the samples and a field of pictures exchanged, not augmented.

        The examples and splits are the same.
        """
        fields = {key: field for key, field in self.spec.fields.items() if key != "labels"}
        fields["samples"], fields[name] = fields[name], fields["samples"]
        ranges = dict(self.raw_ranges)
        ranges["samples"], ranges[name] = ranges[name], ranges["samples"]
        return Source(
            Spec(fields=fields),
            {key: split.swapped(name) for key, split in self._splits.items()},
            f"{self.description}, in the opposite direction",
            raw_ranges={key: limits for key, limits in ranges.items() if limits is not None},
            skipped=self.skipped,
            resized=self.resized,
            composited=self.composited,
        )

    def arrays(self, split: str = "train") -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the stored samples and labels of a split; labels are `None` without labels."""
        fields = self.field_arrays(split)
        return fields["samples"], fields.get("labels")

    def field_arrays(self, split: str = "train") -> dict[str, np.ndarray]:
        """Returns the stored arrays of a split by the names of their fields."""
        part = self._split(split)
        if part.index is None and not part.independent:
            return part.arrays
        return {name: array[part.rows_of(name)] for name, array in part.arrays.items()}

    def rows(self, split: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns some stored samples and labels of a split, by their positions in the split."""
        fields = self.field_rows(split, rows)
        return fields["samples"], fields.get("labels")

    def field_rows(
        self, split: str, rows: np.ndarray, names: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Returns some stored rows of a split by the names of their fields.

        Args:
            split: the split.
            rows: positions in the split. Fields that are drawn on their own start again after
                their last row.
            names: names of the fields; all by default.
        """
        part = self._split(split)
        found = {}
        for name in names or part.arrays:
            own = part.independent.get(name)
            of = part.index if own is None else own
            at = rows if own is None else rows % len(own)
            found[name] = part.arrays[name][at if of is None else of[at]]
        return found

    def examples(self, split: str = "train") -> Iterator[dict[str, Any]]:
        """Yields the stored examples of a split one by one, each as a dict of its fields.

        Raises:
            UsageError: a split with a field that is drawn on its own.
        """
        part = self._split(split)
        if part.independent:
            raise UsageError(
                "The fields of a split must belong together row by row to be read as examples. "
                f"Received: {', '.join(part.independent)} drawn on its own in {split!r} "
                f"({self.description})"
            )
        for row in range(len(part)) if part.index is None else part.index:
            yield {name: array[row] for name, array in part.arrays.items()}

    def dataset(
        self,
        split: str = "train",
        batch_size: int = 64,
        seed: int = 0,
        *,
        shuffle: bool = True,
        repeat: bool = False,
        start: int = 0,
        drop_remainder: bool = True,
        shard: tuple[int, int] = (0, 1),
        augmented: bool = False,
        labeled_share: float = 0.0,
    ) -> tf.data.Dataset:
        """Returns batches of a split.

        A batch is `x` for samples alone, `(x, y)` for samples with labels, and a dict by field
        names where there are further fields. `x` is float32, `(batch_size, *spec.shape)`,
        images in [-1, 1]; `y` is int32, `(batch_size,)`. Ids of which a field has weights, such
        as the token ids of texts, are one-hot.

        Args:
            split: `"train"` or `"held_out"` (`"test"` is another name for it).
            batch_size: examples in a batch, at most as many as the split has.
            seed: non-negative integer that fixes the order of the examples.
            shuffle: whether each epoch is a new random permutation of the split.
            repeat: `True` for an endless stream, in which batch number `k` depends only on the
                seed and a batch may span two epochs; `False` for one epoch per iteration.
            start: number of batches to skip. The remaining batches are the same as without
                skipping, which an exact resume relies on.
            drop_remainder: whether a last batch that is not full is dropped (`repeat=False`).
            shard: (index, count): yields only the index-th of `count` equal parts of each
                batch, for one of `count` workers. The parts together are the batch.
            augmented: whether pictures are cropped, flipped and rotated at random as the data set's
                options say. The numbers are a function of the seed, the number of the batch and the
                row in it.
            labeled_share: share of each batch of an endless stream that is drawn from the labeled
                training examples alone, if few are labeled, see `datasets.labeled`.

        Raises:
            UsageError: an unknown or missing split, a batch larger than the split, or a batch
                size that the number of shards does not divide.
        """
        part = self._split(split)
        self._check_batches(split, batch_size, seed, start)
        if repeat:
            order = self._endless_order(split, labeled_share, seed, shuffle, start, batch_size)
        else:
            order = tf.data.Dataset.range(len(part))
            if shuffle:
                order = order.shuffle(len(part), seed=seed, reshuffle_each_iteration=True)
            order = order.batch(batch_size, drop_remainder=drop_remainder).skip(start)
        each = {"samples": order, **orders.own_orders(part, seed, shuffle, start, batch_size)}
        numbered = tf.data.Dataset.zip((tf.data.Dataset.counter(start=start), each))
        draw = None
        if augmented and self.transform is not None:
            draw = functools.partial(self.transform.draw, seed, size=batch_size)
        gather = self._gather(part, _part_of(batch_size, *shard), draw)
        batches = numbered.map(do_not_convert(gather), num_parallel_calls=tf.data.AUTOTUNE)
        return batches.with_options(_options()).prefetch(tf.data.AUTOTUNE)

    def _endless_order(self, split: str, share: float, *position: Any) -> tf.data.Dataset:
        """Returns endless batches of row numbers of a split, see `dataset`."""
        count = self.count(split)
        rows = self.labeled_rows if _ALIASES[split] == "train" else None
        labeled.check_labeled_share(share)
        if rows is None or not share:
            return orders.batches_of_rows(count, *position)
        if position[-1] < 2:
            raise UsageError(
                "`batch_size` must be at least 2 for a labeled_share above 0. "
                f"Received: batch_size={position[-1]}, labeled_share={share}"
            )
        return orders.with_labeled(count, rows, share, *position)

    def without_overlap(self) -> Source:
        """Returns the data set with rows that hold all of its data once, see `Split.apart`."""
        found = copy.copy(self)
        found._splits = {name: part.without_overlap() for name, part in self._splits.items()}
        return found

    def values(self, stored: np.ndarray, name: str = "samples") -> np.ndarray:
        """Returns stored values of a field as they are in a batch."""
        field = self.spec.fields[name]
        if holds_ids(field, stored):
            return one_hot(stored, field)
        return _to_field(_on_cpu(stored), field, self.raw_ranges[name]).numpy()

    def labels(self) -> np.ndarray:
        """Returns the class ids of the training examples, -1 for unlabeled ones."""
        part = self._splits["train"]
        if part.labels is None:
            raise UsageError(f"The data must have labels. Received: {self.description}")
        return part.labels[part.row_numbers]

    def with_labels_of(self, rows: np.ndarray, labeled_share: float) -> Source:
        """Returns the same data with the label -1 of all training examples but some.

        Args:
            rows: positions in the training split of those that keep their labels.
            labeled_share: share of each batch of a training that is drawn from them.
        """
        found = copy.copy(self)
        found._splits = labeled.without_other_labels(self._splits, rows)
        found.labeled_rows, found.labeled_share = rows, float(labeled_share)
        per_class = np.unique(self.labels()[rows], return_counts=True)[1]
        each = f"{per_class.min()} to {per_class.max()}" if np.ptp(per_class) else per_class[0]
        found.description += (
            f"; labels of {len(rows):,} of {self.count('train'):,} training examples, {each} of "
            f"each of {len(per_class)} classes"
        )
        return found

    def to_uint8(self, sample: np.ndarray) -> np.ndarray:
        """Returns stored images in 8 bits, rounded from their value range if it is another."""
        return self.field_to_uint8("samples", sample)

    def field_to_uint8(self, name: str, value: np.ndarray) -> np.ndarray:
        """Returns stored images of a field in 8 bits, see `to_uint8`."""
        limits = self.raw_ranges[name]
        if limits is None or (value.dtype == np.uint8 and limits == (0, 255)):
            return value
        low, high = limits
        scaled = (np.asarray(value, np.float64) - low) / (high - low) * 255
        return np.clip(np.round(scaled), 0, 255).astype(np.uint8)

    def _split(self, name: str) -> Split:
        if name not in _ALIASES:
            raise UsageError(
                f'`split` must be "train" or "held_out" (or "test"). Received: split={name!r}'
            )
        if _ALIASES[name] not in self._splits:
            raise UsageError(
                "This data set was opened without held-out samples: open it with held_out=0.1 to "
                f"hold out a tenth. Received: split={name!r}"
            )
        return self._splits[_ALIASES[name]]

    def _gather(
        self,
        part: Split,
        shard: Callable[[tf.Tensor], tf.Tensor],
        draw: Callable[..., tf.Tensor] | None,
    ) -> Callable[[tf.Tensor, Mapping[str, tf.Tensor]], Any]:
        """Returns a function from a batch's number and its row numbers by field to the batch.

        Row numbers are int64 of any length; fields without their own have those of the samples.

        Args:
            part: the split.
            shard: function to the rows of a worker.
            draw: function from the batch's number and a group to the numbers of the transform;
                `None` for pictures as they are stored.
        """
        indices = {name: _on_cpu(of.astype(np.int64)) for name, of in part.independent.items()}
        if part.index is not None:
            indices["samples"] = _on_cpu(part.index.astype(np.int64))
        readers = {name: self._reader(name, array) for name, array in part.arrays.items()}
        groups = {name: n for n, name in enumerate(sorted(part.independent), start=1)}

        def gather(batch: tf.Tensor, given: Mapping[str, tf.Tensor]) -> Any:
            rows = {name: shard(own) for name, own in given.items()}
            count = tf.shape(rows["samples"])[0]  # a last batch may be smaller
            for name in groups:
                if rows["samples"].shape[0] is None:
                    rows[name] = rows[name][:count]
            for name, index in indices.items():
                rows[name] = tf.gather(index, rows[name])
            change = _no_change
            if draw is not None:
                numbers = {g: shard(draw(batch, group=g))[:count] for g in (0, *groups.values())}
                change = self._change(numbers, groups)
            return _to_batch(
                {
                    name: read(rows.get(name, rows["samples"]), change)
                    for name, read in readers.items()
                }
            )

        return gather

    def _change(
        self, numbers: Mapping[int, tf.Tensor], groups: Mapping[str, int]
    ) -> Callable[[str, tf.Tensor], tf.Tensor]:
        """Returns a function from a field's name and its values to the transformed values.

        Args:
            numbers: what the transform drew for the batch, by group.
            groups: group of each field that is drawn on its own; the others are of group 0.
        """
        transform = self.transform

        def change(name: str, values: tf.Tensor) -> tf.Tensor:
            if transform is None or name not in transform.scales:
                return values
            return transform.apply(values, numbers[groups.get(name, 0)], name)

        return change

    def _reader(self, name: str, array: np.ndarray) -> Callable[[tf.Tensor, Any], tf.Tensor]:
        """Returns a function from rows of a field's array, and a change, to values in a batch."""
        field, limits = self.spec.fields[name], self.raw_ranges[name]
        if name == "labels":
            labels = _on_cpu(array.astype(field.dtype))
            return lambda rows, change: tf.gather(labels, rows)
        pick = self._picker(array)
        if holds_ids(field, array):
            depth, dtype = field.shape[-1], field.dtype  # there is no one-hot of uint16
            return lambda rows, change: tf.one_hot(tf.cast(pick(rows), "int32"), depth, dtype=dtype)
        return lambda rows, change: _to_field(change(name, pick(rows)), field, limits)

    def _picker(self, array: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
        """Returns a function from rows of an array to their stored values."""
        if type(array) is np.ndarray and array.nbytes <= MEMORY_LIMIT:
            if id(array) not in self._tensors:
                self._tensors[id(array)] = _on_cpu(array)
            tensor = self._tensors[id(array)]
            return lambda rows: tf.gather(tensor, rows)

        def pick(rows: tf.Tensor) -> tf.Tensor:
            # A tensor would copy the array, or all windows of it, into memory; numpy reads rows.
            x = tf.numpy_function(lambda i: np.asarray(array[i]), [rows], array.dtype)
            x.set_shape((rows.shape[0], *array.shape[1:]))
            return x

        return pick

    def _check(self) -> None:
        check_splits(self._splits, self.spec, self.raw_ranges)
        if self.count("train") < 2:
            raise UsageError(
                "A data set must have at least 2 samples to train on. "
                f"Received: {self.count('train')}, besides those held out ({self.description})"
            )

    def _check_batches(self, split: str, batch_size: int, seed: int, start: int) -> None:
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("start", start, 0),
        ):
            check_integer(name, value, least)
            if value >= 2**63:
                raise UsageError(f"`{name}` must be below 2**63. Received: {name}={value!r}")
        if batch_size > self.count(split):
            raise UsageError(
                f"`batch_size` must be at most the number of samples in the split, "
                f"{self.count(split)} in {split!r}. Received: batch_size={batch_size}"
            )


def _no_change(name: str, values: tf.Tensor) -> tf.Tensor:
    return values


def _to_batch(fields: dict[str, tf.Tensor]) -> Any:
    """Returns `x`, `(x, y)`, or the fields by name if there are others."""
    if fields.keys() == {"samples"}:
        return fields["samples"]
    if fields.keys() == {"samples", "labels"}:
        return fields["samples"], fields["labels"]
    return fields


def _to_field(x: tf.Tensor, field: Field, limits: Range | None) -> tf.Tensor:
    """Converts stored values to the field's dtype and, where its kind has one, its range."""
    x = tf.cast(x, field.dtype)
    if field.kind_range is None or limits in (None, field.kind_range):
        return x
    low, high = limits
    half = (high - low) / 2
    x = x / half - (low + high) / 2 / half
    x = tf.clip_by_value(x, -1.0, 1.0)  # rounding may exceed the range by one unit
    low, high = field.kind_range
    return x if (low, high) == (-1.0, 1.0) else (x + 1.0) / 2 * (high - low) + low


def _part_of(batch_size: int, index: int, count: int):
    """Returns a function from a batch's row numbers to those of one of its equal parts."""
    if not 0 <= index < count or batch_size % count:
        raise UsageError(
            "`shard` must be (index, count), with index from 0 to count - 1 and a batch size that "
            f"count divides. Received: shard={(index, count)}, batch_size={batch_size}"
        )
    if count == 1:
        return lambda rows: rows
    size = batch_size // count
    return lambda rows: rows[index * size : (index + 1) * size]


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # There are no files to shard by, so every worker takes its part of each batch.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options


def _on_cpu(array: np.ndarray) -> tf.Tensor:
    with tf.device("CPU:0"):
        return tf.constant(array)
