"""What samples of one batch share, where a distribution strategy divides the batch."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def mean(values):
    """Mean of each replica's values, the same on all of them; differentiable.

    With one replica, the values themselves. Not within a branch of `tf.cond`, where replicas
    cannot meet.
    """
    replica: Any = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return values
    return replica.all_reduce(tf.distribute.ReduceOp.MEAN, values)
