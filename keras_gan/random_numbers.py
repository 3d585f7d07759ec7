"""Random numbers as functions of a seed, by the Philox algorithm on every device.

The numbers equal those of `tf.random.stateless_*` with `alg="philox"` bit for bit. TensorFlow
builds the key of each draw from about 40 operations, which a training step traces and runs for
every seed; here it takes 8, so that a game with little else in its graph starts sooner.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# TensorFlow is not annotated, and what a type checker infers of it is wrong.
raw: Any = tf.raw_ops

_PHILOX = 1
_SCRAMBLE = 0x02461E293EC8F720  # the key by which TensorFlow scrambles seeds


def fold_in(seed: Any, number: Any) -> Any:
    """Returns a new seed for each number, in the number's dtype.

    Args:
        seed: two integers.
        number: an integer, or a scalar tensor of int32 or int64.
    """
    number = tf.convert_to_tensor(number)
    drawn = raw.StatelessRandomUniformFullIntV2(shape=_shape(()), dtype=number.dtype, **_key(seed))
    return tf.stack([drawn, number])


def normal(shape: Any, seed: Any, dtype: Any = "float32") -> Any:
    """Returns standard normal numbers.

    Args:
        shape: of integers, which may be tensors.
        seed: two integers.
        dtype: a float type.
    """
    return raw.StatelessRandomNormalV2(shape=_shape(shape), dtype=tf.as_dtype(dtype), **_key(seed))


def uniform(shape: Any, seed: Any, dtype: Any = "float32") -> Any:
    """Returns uniform numbers from 0 up and below 1; arguments as for `normal`."""
    return raw.StatelessRandomUniformV2(shape=_shape(shape), dtype=tf.as_dtype(dtype), **_key(seed))


def integers(shape: Any, seed: Any, count: int) -> Any:
    """Returns integers of 0..count-1, int32; arguments as for `normal`."""
    low, high = tf.constant(0, tf.int32), tf.constant(count, tf.int32)
    return raw.StatelessRandomUniformIntV2(
        shape=_shape(shape), minval=low, maxval=high, **_key(seed)
    )


def _shape(shape: Any) -> Any:
    return tf.convert_to_tensor(shape, tf.int32)


def _key(seed: Any) -> dict[str, Any]:
    """Returns the arguments of an operation that draws from a seed."""
    # Two numbers of 64 bits are drawn where TensorFlow draws four of 32 and joins them.
    drawn = raw.StatelessRandomUniformFullIntV2(
        shape=_shape((2,)),
        key=tf.constant([_SCRAMBLE], tf.uint64),
        counter=tf.cast(seed, tf.uint64),
        alg=_PHILOX,
        dtype=tf.uint64,
    )
    counter = drawn * tf.constant([0, 1], tf.uint64)
    return {"key": drawn[:1], "counter": counter, "alg": _PHILOX}
