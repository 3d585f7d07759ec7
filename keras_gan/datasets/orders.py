"""Orders in which the examples of a split come: endless permutations, mixed with labeled ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_gan.autograph import do_not_convert
from keras_gan.datasets.splits import Split
from keras_gan.errors import UsageError


def batches_of_rows(
    count: int, seed: int, shuffle: bool, start: int, batch_size: int
) -> tf.data.Dataset:
    """Returns endless batches of row numbers, from batch `start` on, one permutation per epoch."""
    order = _endless_order(count, seed, shuffle, start * batch_size)
    return order.batch(batch_size, drop_remainder=True)


def with_labeled(
    count: int,
    labeled: np.ndarray,
    share: float,
    seed: int,
    shuffle: bool,
    start: int,
    batch_size: int,
) -> tf.data.Dataset:
    """Returns endless batches of row numbers, of which a share is drawn from the labeled rows.

    The labeled rows and the rows of the rest each have permutations of their own. They are spread
    evenly over the batch, so that each worker and each discriminator step gets its part of them.
    A batch is a function of the seed and its number.

    Args:
        count: number of rows, of which the rest of the batch is drawn.
        labeled: the labeled rows.
        share: share of the labeled rows in a batch, above 0 and below 1.
        seed: non-negative integer that fixes the order.
        shuffle: whether each epoch is a new random permutation.
        start: number of batches to skip.
        batch_size: rows in a batch, at least 2.
    """
    wanted = min(batch_size - 1, max(1, round(share * batch_size)))
    few = batches_of_rows(len(labeled), _own_seed(seed, _LABELED), shuffle, start, wanted)
    rest = batches_of_rows(count, seed, shuffle, start, batch_size - wanted)
    with tf.device("CPU:0"):
        rows = tf.constant(labeled.astype(np.int64))
        place = tf.constant(_spread(wanted, batch_size))

    def join(few: tf.Tensor, rest: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.concat([tf.gather(rows, few), rest], 0), place)

    return tf.data.Dataset.zip((few, rest)).map(do_not_convert(join))


_LABELED = 2**32 - 1  # number of the labeled rows' order, beyond those of the fields


def _spread(first: int, count: int) -> np.ndarray:
    """Returns the positions of `count` values, the `first` ones spread evenly over all."""
    number = np.arange(count + 1) * first // count
    is_first = np.diff(number) > 0
    place = np.empty(count, np.int64)
    place[is_first] = np.arange(first)
    place[~is_first] = np.arange(first, count)
    return place


def own_orders(
    part: Split, seed: int, shuffle: bool, start: int, batch_size: int
) -> dict[str, tf.data.Dataset]:
    """Returns endless batches of row numbers of the fields that are drawn on their own."""
    orders = {}
    for number, (name, rows) in enumerate(sorted(part.independent.items()), start=1):
        own = _own_seed(seed, number)
        orders[name] = batches_of_rows(len(rows), own, shuffle, start, batch_size)
    return orders


def _own_seed(seed: int, number: int) -> int:
    """Returns the seed of one of several orders of a training."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> 1)


def _endless_order(count: int, seed: int, shuffle: bool, first: int) -> tf.data.Dataset:
    """Returns row numbers from position `first` of the stream, one permutation per epoch.

    `tf.random.experimental.index_shuffle` needs no memory, but for fewer than about a thousand
    rows it produces only 256 permutations, with a bias. Sorting random keys once per epoch
    reaches all permutations and costs 8 bytes per row.
    """
    first_epoch, offset = divmod(first, count)

    def epoch_order(epoch: tf.Tensor) -> tf.data.Dataset:
        rows = tf.range(count, dtype=tf.int64)
        if shuffle:
            key = tf.stack([tf.constant(seed, tf.int64), epoch])
            # The module is missing from TensorFlow's type stubs.
            experimental = tf.random.experimental  # pyright: ignore[reportAttributeAccessIssue]
            rows = experimental.stateless_shuffle(rows, key, alg="philox")
        skip = tf.where(epoch == first_epoch, tf.constant(offset, tf.int64), 0)
        return tf.data.Dataset.from_tensor_slices(rows[skip:])

    order = tf.data.Dataset.counter(start=first_epoch).flat_map(do_not_convert(epoch_order))
    return order.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def part_of(batch_size: int, index: int, count: int) -> Callable[[tf.Tensor], tf.Tensor]:
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
