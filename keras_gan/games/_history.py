"""History of generated pictures that a discriminator is shown, as variables of a game."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_gan import random_numbers

_SHOWN = 0.5  # probability that a generated picture is exchanged for one of the history


class History:
    """A pool of generated pictures, so that a discriminator does not forget earlier generators.

    Pictures fill the pool first. Once it is full, each picture of a batch is exchanged with
    probability 1/2 for a picture of the pool, which is drawn at random, another one for each
    picture of the batch, and whose place it takes. A batch that is larger than the pool exchanges
    as many of its pictures as the pool has.

    Args:
        game: the game, which gets the variables.
        name: name of the discriminator.
        size: number of pictures, from 0 up; with 0, generated pictures are returned as they are.
        shape: height, width and channels of a picture.

    Reference:
        - [Shrivastava et al., 2016](https://arxiv.org/abs/1612.07828), section 2.3
    """

    def __init__(self, game: Any, name: str, size: int, shape: tuple):
        self.size, self.shape = size, shape
        if not size:
            return
        arguments = {"initializer": "zeros", "trainable": False}
        # Replicas must agree on one history, which is then saved.
        arguments["aggregation"] = "only_first_replica"
        self.pictures = game.add_weight(
            name=f"history_{name}", shape=(size, *shape), dtype="float32", **arguments
        )
        self.count = game.add_weight(
            name=f"history_{name}_count", shape=(), dtype="int64", **arguments
        )

    def __call__(self, fake: Any, seed: Any) -> Any:
        """Returns pictures of a batch and of the history, and updates the history.

        Args:
            fake: generated pictures, `(batch, height, width, channels)`, float32.
            seed: two integers for stateless random operations.
        """
        if not self.size:
            return fake
        fake = tf.ensure_shape(fake, (None, *self.shape))
        pictures, count = self.pictures.value, tf.cast(self.count.value, tf.int32)
        rows = tf.range(tf.shape(fake)[0])
        drawn = random_numbers.fold_in(seed, tf.constant(0, tf.int64))
        order = tf.argsort(random_numbers.uniform((self.size,), drawn))
        coins = random_numbers.uniform(tf.shape(rows), seed)

        # The first rows fill the pool. Of the others, each has a place of its own in it.
        fills = rows + count < self.size
        place = tf.where(fills, rows + count, tf.gather(order, rows % self.size))
        full = tf.logical_and(rows < self.size, place < count)
        swaps = tf.logical_and(tf.logical_not(fills), tf.logical_and(full, coins < _SHOWN))
        place = tf.minimum(place, self.size - 1)
        shown = tf.where(swaps[:, None, None, None], tf.gather(pictures, place), fake)

        # For each place, the row whose picture it gets, or -1.
        writes = tf.logical_or(fills, swaps)
        target = tf.where(writes, place, self.size)
        source = tf.tensor_scatter_nd_max(
            tf.fill((self.size + 1,), -1), target[:, None], tf.where(writes, rows, -1)
        )[: self.size]
        new = tf.gather(fake, tf.maximum(source, 0))
        self.pictures.assign(tf.where(source[:, None, None, None] >= 0, new, pictures))
        count += tf.reduce_sum(tf.cast(fills, tf.int32))
        self.count.assign(tf.cast(count, tf.int64))
        return shown
