"""`Source`: what every data set module gives back, and how its samples become batches."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_gan.errors import UsageError
from keras_gan.spec import Spec

MEMORY_LIMIT = 2**30  # bytes of samples; what is larger stays on disk

_ALIASES = {"train": "train", "held_out": "held_out", "test": "held_out"}
_SCAN_BYTES = 2**26  # values are checked in pieces of this size


class OwnSplitsError(UsageError):
    """`held_out` was given for data that bring their own splits."""


class UnknownRangeError(UsageError):
    """Floating-point images without a `value_range` that are not in [-1, 1].

    Args:
        message: the error's line.
        low: smallest value of the images.
        high: largest value.
    """

    def __init__(self, message: str, low: float, high: float):
        super().__init__(message)
        self.low, self.high = low, high


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of a data set: some rows of an array that other splits may share.

    Args:
        samples: array of samples, the first dimension counting them. Images are uint8 or
            floating point, NHWC; points are floating point, (count, features).
        labels: int32 class ids of the rows of `samples`; `None` without labels.
        index: rows of `samples` that make the split, in order; `None` for all of them.
        disjoint: whether it is known to share no sample with another split.
    """

    samples: np.ndarray
    labels: np.ndarray | None = None
    index: np.ndarray | None = None
    disjoint: bool = False

    def __len__(self) -> int:
        return len(self.samples if self.index is None else self.index)


class Source:
    """A data set that was opened and checked: splits of samples, and what they look like.

    Args:
        spec: what one sample looks like once it is in a batch.
        splits: `Split` by name; `"train"`, and `"held_out"` if the data set has one.
        description: one line saying what was taken and from where.
        raw_range: smallest and largest value that the stored images may hold, mapped to -1 and
            1 in batches. Defaults to (0, 255) for uint8 and to (-1, 1) for floating point.
        skipped: one line for each file that was left out, with the reason.
        resized: name of the filter by which some images came to their size; `None` where all
            have it by themselves.

    Raises:
        UsageError: samples or labels that do not fit the spec (type, shape, range, NaN), or
            fewer than 2 samples to train on.
    """

    def __init__(
        self,
        spec: Spec,
        splits: Mapping[str, Split],
        description: str,
        *,
        raw_range: tuple[float, float] | None = None,
        skipped: Sequence[str] = (),
        resized: str | None = None,
    ) -> None:
        self.spec = spec
        self.resized = resized
        self.description = description
        self.skipped = list(skipped)
        self._splits = without_copies(dict(splits))
        left_out = sum(map(len, splits.values())) - sum(map(len, self._splits.values()))
        if left_out:
            self.description += f"; {left_out:,} held-out copies of training samples left out"
        self._tensors: dict[int, tf.Tensor] = {}
        self._raw_range = raw_range
        if raw_range is None and spec.kind == "image":
            is_uint8 = self._splits["train"].samples.dtype == np.uint8
            self._raw_range = (0.0, 255.0) if is_uint8 else (-1.0, 1.0)
        self._check()

    def __repr__(self) -> str:
        return f"<Source {self.description}>"

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of the splits: `"train"` and, if there are held-out samples, `"held_out"`."""
        return tuple(self._splits)

    @property
    def dtype(self) -> np.dtype:
        """Type of the samples as they are stored."""
        return self._splits["train"].samples.dtype

    def count(self, split: str = "train") -> int:
        """Number of samples in a split."""
        return len(self._split(split))

    def arrays(self, split: str = "train") -> tuple[np.ndarray, np.ndarray | None]:
        """Samples and labels of a split as they are stored; labels are `None` without labels."""
        part = self._split(split)
        if part.index is None:
            return part.samples, part.labels
        labels = None if part.labels is None else part.labels[part.index]
        return part.samples[part.index], labels

    def rows(self, split: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Some samples and labels of a split by their numbers in it, as they are stored."""
        part = self._split(split)
        rows = rows if part.index is None else part.index[rows]
        return part.samples[rows], None if part.labels is None else part.labels[rows]

    def samples(self, split: str = "train") -> Iterator[tuple[np.ndarray, int | None]]:
        """Samples and labels of a split one by one, as they are stored."""
        part = self._split(split)
        for row in range(len(part)) if part.index is None else part.index:
            yield part.samples[row], None if part.labels is None else int(part.labels[row])

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
    ) -> tf.data.Dataset:
        """Batches of a split: `x`, or `(x, y)` when the data set has labels.

        `x` is float32, `(batch_size, *spec.shape)`, images in [-1, 1]; `y` is int32,
        `(batch_size,)`.

        Args:
            split: `"train"` or `"held_out"` (`"test"` is another name for it).
            batch_size: samples in a batch, at most as many as the split has.
            seed: non-negative integer that fixes the order of the samples.
            shuffle: whether each epoch is a new random permutation of the split.
            repeat: `True` for an endless stream in which batch number `k` depends on nothing
                but the seed, batches running on from one epoch into the next; `False` for one
                epoch each time that the data set is iterated over.
            start: number of batches to leave out at the start. The rest is the same as without
                it, which is what an exact resume needs.
            drop_remainder: whether a last batch that is not full is left out (`repeat=False`).
            shard: (index, count): of each batch only the index-th of `count` equal parts, as one
                of `count` workers needs it. The parts of a batch, put together, are the batch.

        Raises:
            UsageError: an unknown or missing split, a batch larger than the split, or one that
                cannot be divided by the shards.
        """
        part = self._split(split)
        self._check_batches(split, batch_size, seed, start)
        if repeat:
            order = _endless_order(len(part), seed, shuffle, start * batch_size)
            order = order.batch(batch_size, drop_remainder=True)
        else:
            order = tf.data.Dataset.range(len(part))
            if shuffle:
                order = order.shuffle(len(part), seed=seed, reshuffle_each_iteration=True)
            order = order.batch(batch_size, drop_remainder=drop_remainder).skip(start)
        if shard[1] > 1:
            order = order.map(_part_of(batch_size, *shard))
        batches = order.map(self._gather(part), num_parallel_calls=tf.data.AUTOTUNE)
        return batches.with_options(_options()).prefetch(tf.data.AUTOTUNE)

    def _split(self, name: str) -> Split:
        if name not in _ALIASES:
            raise UsageError(
                f'split must be "train" or "held_out" (or "test"). Received: split={name!r}'
            )
        if _ALIASES[name] not in self._splits:
            raise UsageError(
                "This data set was opened without held-out samples: open it with held_out=0.1 to "
                f"set a tenth aside. Received: split={name!r}"
            )
        return self._splits[_ALIASES[name]]

    def _gather(self, part: Split):
        """A function from row numbers of a split, int64 of any length, to a batch."""
        pick = self._picker(part.samples)
        index = None if part.index is None else _on_cpu(part.index.astype(np.int64))
        labels = None if part.labels is None else _on_cpu(part.labels.astype(np.int32))

        def gather(rows: tf.Tensor) -> Any:
            rows = rows if index is None else tf.gather(index, rows)
            x = self._normalize(pick(rows))
            return x if labels is None else (x, tf.gather(labels, rows))

        return gather

    def _picker(self, samples: np.ndarray):
        """A function from rows of `samples` to their raw values."""
        if not isinstance(samples, np.memmap) and samples.nbytes <= MEMORY_LIMIT:
            if id(samples) not in self._tensors:
                self._tensors[id(samples)] = _on_cpu(samples)
            tensor = self._tensors[id(samples)]
            return lambda rows: tf.gather(tensor, rows)

        def pick(rows: tf.Tensor) -> tf.Tensor:
            # A tensor would be a copy of the array in memory; numpy reads the rows where they are.
            x = tf.numpy_function(lambda i: np.asarray(samples[i]), [rows], samples.dtype)
            x.set_shape((rows.shape[0], *samples.shape[1:]))
            return x

        return pick

    def _normalize(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.cast(x, tf.float32)
        if self._raw_range in (None, (-1.0, 1.0)):
            return x
        low, high = self._raw_range
        half = (high - low) / 2
        x = x / half - (low + high) / 2 / half
        return tf.clip_by_value(x, -1.0, 1.0)  # the ends may be a rounding error outside

    def to_uint8(self, sample: np.ndarray) -> np.ndarray:
        """A stored image in 8 bits: as it is, or rounded from its value range."""
        if sample.dtype == np.uint8 or self._raw_range is None:
            return sample
        low, high = self._raw_range
        scaled = (np.asarray(sample, np.float64) - low) / (high - low) * 255
        return np.clip(np.round(scaled), 0, 255).astype(np.uint8)

    def _check(self) -> None:
        for name, part in self._splits.items():
            _check_samples(name, part.samples, self.spec, self._raw_range)
            _check_labels(name, part, self.spec)
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
            is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
            if not is_integer or not least <= value < 2**63:
                raise UsageError(
                    f"{name} must be an integer of at least {least}. Received: {name}={value!r}"
                )
        if batch_size > self.count(split):
            raise UsageError(
                f"batch_size must be at most the number of samples in the split, "
                f"{self.count(split)} in {split!r}. Received: batch_size={batch_size}"
            )


def hold_out(
    samples: np.ndarray, labels: np.ndarray | None, fraction: float, rows: np.ndarray | None = None
) -> dict[str, Split]:
    """Divides samples into `"train"` and `"held_out"` by their content.

    The samples are put in the order of a hash of their content and the first ones are held out:
    the choice looks random, is the same whatever the training seed and the order of the files,
    and copies of one sample never come to lie on both sides.

    Args:
        samples: array of samples.
        labels: class ids of the samples or `None`.
        fraction: share to hold out, at least 0 and below 1; if not 0, at least one is held out.
        rows: rows of `samples` to divide; all of them by default.

    Raises:
        UsageError: a fraction outside the range, or samples that cannot be divided.
    """
    if not is_number(fraction) or not 0 <= fraction < 1:
        raise UsageError(
            "held_out must be the share of the samples to hold out, at least 0 and below 1. "
            f"Received: held_out={fraction!r}"
        )
    rows = np.arange(len(samples)) if rows is None else rows
    if fraction == 0 or len(rows) < 2:
        return {"train": Split(samples, labels, None if len(rows) == len(samples) else rows)}
    digests = np.fromiter((_digest(samples[i]) for i in rows), np.uint64, len(rows))
    wanted = max(1, round(fraction * len(rows)))
    limit = np.sort(digests)[wanted - 1]
    held = digests <= limit
    if len(rows) - held.sum() < min(2, len(rows) - 1):
        held = digests < limit  # copies that cannot be divided go to the training side together
    if not held.any():
        raise UsageError(
            "Samples can be held out only where there are different ones; held_out=0 holds none "
            f"out. Received: {len(rows)} samples that are all the same"
        )
    return {
        "train": Split(samples, labels, rows[~held], disjoint=True),
        "held_out": Split(samples, labels, rows[held], disjoint=True),
    }


def check_drawn(count: int, held_out_count: int, data_seed: int) -> None:
    """Refuses what samples cannot be drawn by: their numbers, and the seed that fixes them."""
    for name, value, least in (
        ("count", count, 2),
        ("held_out_count", held_out_count, 1),
        ("data_seed", data_seed, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UsageError(
                f"{name} must be an integer of at least {least}. Received: {name}={value!r}"
            )


def without_copies(splits: dict[str, Split]) -> dict[str, Split]:
    """Leaves out of the held-out samples those that are among the training samples too.

    Raises:
        UsageError: nothing would be left.
    """
    train, held_out = splits.get("train"), splits.get("held_out")
    if train is None or held_out is None or (train.disjoint and held_out.disjoint):
        return splits
    seen = {_digest(train.samples[row]) for row in _rows_of(train)}
    rows = _rows_of(held_out)
    kept = rows[[_digest(held_out.samples[row]) not in seen for row in rows]]
    if len(kept) == len(rows):
        return splits
    if not len(kept):
        raise UsageError(
            "Held-out samples must not be training samples. "
            f"Received: {len(rows)} that are all among the {len(train)} training samples"
        )
    return {**splits, "held_out": dataclasses.replace(held_out, index=kept, disjoint=True)}


def _rows_of(part: Split) -> np.ndarray:
    return np.arange(len(part.samples)) if part.index is None else part.index


def _digest(sample: np.ndarray) -> int:
    return int.from_bytes(hashlib.blake2b(sample.tobytes(), digest_size=8).digest(), "big")


def _endless_order(count: int, seed: int, shuffle: bool, first: int) -> tf.data.Dataset:
    """Row numbers from position `first` of the stream on: one permutation after the other.

    `tf.random.experimental.index_shuffle` would need no memory, but knows only 256 permutations
    of fewer than about a thousand rows, and biased ones; sorting random keys once per epoch
    gives all of them, at 8 bytes a row.
    """
    first_epoch, offset = divmod(first, count)

    def epoch_order(epoch: tf.Tensor) -> tf.data.Dataset:
        rows = tf.range(count, dtype=tf.int64)
        if shuffle:
            key = tf.stack([tf.constant(seed, tf.int64), epoch])
            # TF's type stubs do not know this module.
            experimental = tf.random.experimental  # pyright: ignore[reportAttributeAccessIssue]
            rows = experimental.stateless_shuffle(rows, key, alg="philox")
        skip = tf.where(epoch == first_epoch, tf.constant(offset, tf.int64), 0)
        return tf.data.Dataset.from_tensor_slices(rows[skip:])

    order = tf.data.Dataset.counter(start=first_epoch).flat_map(epoch_order)
    return order.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def _part_of(batch_size: int, index: int, count: int):
    """A function from a batch's row numbers to those of one of its parts."""
    if not 0 <= index < count or batch_size % count:
        raise UsageError(
            "A shard is one (from 0) of so many that the batch can be divided by. "
            f"Received: shard={(index, count)}, batch_size={batch_size}"
        )
    size = batch_size // count
    return lambda rows: rows[index * size : (index + 1) * size]


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # There are no files to shard by: every worker takes its share of each batch.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options


def _on_cpu(array: np.ndarray) -> tf.Tensor:
    with tf.device("CPU:0"):
        return tf.constant(array)


def _pieces(samples: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    step = max(1, _SCAN_BYTES // max(1, samples.nbytes // max(1, len(samples))))
    for first in range(0, len(samples), step):
        yield first, samples[first : first + step]


def _check_samples(
    name: str, samples: np.ndarray, spec: Spec, raw_range: tuple[float, float] | None
) -> None:
    if tuple(samples.shape[1:]) != tuple(spec.shape):
        raise UsageError(
            f"Samples must have the shape {tuple(spec.shape)}. "
            f"Received: {name} samples of shape {tuple(samples.shape[1:])}"
        )
    is_float = np.issubdtype(samples.dtype, np.floating)
    if not is_float and not (spec.kind == "image" and samples.dtype == np.uint8):
        wanted = "uint8 or floating point" if spec.kind == "image" else "floating point"
        raise UsageError(
            f"Samples of kind {spec.kind!r} must be {wanted}. "
            f"Received: {name} samples of dtype={samples.dtype}"
        )
    if not is_float and raw_range == (0.0, 255.0):
        return  # nothing that eight bits hold is outside
    for first, piece in _pieces(samples):
        finite = np.isfinite(piece)
        if not finite.all():
            at = np.argwhere(~finite)[0]
            where = (first + int(at[0]), *(int(i) for i in at[1:]))
            raise UsageError(
                "Samples must be finite numbers. "
                f"Received: {piece[tuple(at)]} in {name} at index {where}"
            )
        if raw_range is not None and not (
            raw_range[0] <= piece.min() and piece.max() <= raw_range[1]
        ):
            raise UsageError(
                f"Values must lie within value_range={list(raw_range)}. "
                f"Received: values from {piece.min():g} to {piece.max():g} in {name}"
            )


def _check_labels(name: str, part: Split, spec: Spec) -> None:
    if (part.labels is None) != (spec.num_classes == 0):
        raise UsageError(
            "A data set must have labels in all of its splits or in none. "
            f"Received: num_classes={spec.num_classes} and {name} "
            f"{'without' if part.labels is None else 'with'} labels"
        )
    if part.labels is None:
        return
    if part.labels.shape != (len(part.samples),):
        raise UsageError(
            "There must be one label for each sample. Received: "
            f"{len(part.samples)} samples and labels of shape {part.labels.shape} in {name}"
        )
    used = part.labels if part.index is None else part.labels[part.index]
    if len(used) and not (used.min() >= 0 and used.max() < spec.num_classes):
        raise UsageError(
            f"Labels must be class ids from 0 to {spec.num_classes - 1}. "
            f"Received: labels from {used.min()} to {used.max()} in {name}"
        )


def is_number(value: Any) -> bool:
    """Whether a value is a finite real number, and not a truth value."""
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_real and math.isfinite(value)
