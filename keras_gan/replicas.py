"""Sums and means over the replicas of a distribution strategy, and results of several workers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


def count() -> int:
    """Returns the number of replicas that train together; 1 without a strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def index() -> Any:
    """Returns the number of this replica, from 0."""
    replica = tf.distribute.get_replica_context()
    return replica.replica_id_in_sync_group if replica else 0


def mean(values):
    """Returns the mean of the replicas' values, the same on each of them; differentiable.

    With one replica, these are the values themselves. It cannot be used within a branch of
    `tf.cond`, where replicas cannot communicate.
    """
    replica: Any = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return values
    return replica.all_reduce(tf.distribute.ReduceOp.MEAN, values)


def sum_of_gradients(gradients: list, variables: list, keep_overflow: bool) -> list:
    """Returns the sum of the replicas' gradients, the same on each of them.

    The sum is taken before the optimizer sees the gradients, so that it clips what one device
    would clip, and so that the loss scales of all replicas see an overflow of one of them.

    Args:
        gradients: tensors, or None where a variable has no gradient.
        variables: those that the gradients belong to.
        keep_overflow: whether sums that are not finite are returned as they are, for a loss scale
            to be halved. Otherwise all gradients of such a step are zero.
    """
    # The gradient of an embedding, added up with that of a branch, has lost its shape.
    present: list[Any] = [
        tf.ensure_shape(tf.convert_to_tensor(g), v.shape)
        for g, v in zip(gradients, variables, strict=True)
        if g is not None
    ]
    # As one vector: a message between machines costs the same for one number as for thousands.
    flat = tf.concat([tf.reshape(tf.cast(g, "float32"), [-1]) for g in present], 0)
    replica: Any = tf.distribute.get_replica_context()
    total = replica.all_reduce(tf.distribute.ReduceOp.SUM, flat)
    if not keep_overflow:
        total = tf.where(ops.all(ops.isfinite(total)), total, tf.zeros_like(total))
    parts = tf.split(total, [math.prod(g.shape) for g in present])
    left = (tf.cast(tf.reshape(t, g.shape), g.dtype) for t, g in zip(parts, present, strict=True))
    return [None if g is None else next(left) for g in gradients]


# ------------------------------------------------------------------------ several processes


def spans_processes(strategy: Any = None) -> bool:
    """Returns whether the strategy, by default the current one, trains in several processes."""
    strategy = strategy or tf.distribute.get_strategy()
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def as_results(results: dict[str, Any]) -> dict[str, Any]:
    """Returns the results of a step in the form that Keras can average over processes.

    Keras reduces each result along a first axis, which a scalar does not have, and with two
    messages each. So all of them travel as one vector, which `by_name` takes apart again.
    """
    if not spans_processes():
        return results
    vector = ops.stack([ops.cast(value, "float32") for value in results.values()])
    return {"/".join(results): ops.expand_dims(vector, 0)}


def by_name(function: Callable) -> Callable:
    """Returns Keras's function of a step with its results by name, undoing `as_results`."""

    def step(iterator):
        ((names, vector),) = function(iterator).items()
        return dict(zip(names.split("/"), tf.unstack(vector), strict=True))

    return step
