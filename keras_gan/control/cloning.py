"""Behavior cloning of a policy's copy, as a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import random_numbers
from keras_gan.control import distributions
from keras_gan.layers import update_statistics
from keras_gan.networks import Network

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


def cloned(
    policy: Network, fields: Mapping[str, np.ndarray], seed: int, steps: int = 2_000
) -> Network:
    """Returns a copy of a policy that is trained by behavior cloning, full batches up to 256.

    Args:
        policy: the policy, which stays as it is.
        fields: actions, `samples`, and `observation`, `(count, ...)`.
        seed: seed of the order of the examples.
        steps: number of steps of Adam with a learning rate of 1e-3.
    """
    model = keras.models.clone_model(policy.model)
    model.set_weights(policy.model.get_weights())
    copied = policy.with_model(model)
    observations, actions = (tf.constant(fields[n]) for n in ("observation", "samples"))
    update_statistics(model, observations)
    optimizer, weights = keras.optimizers.Adam(1e-3), model.trainable_variables
    optimizer.build(weights)
    count = len(fields["samples"])
    size = min(256, count)

    @tf.function(autograph=False)
    def train():
        def step(i):
            rows = random_numbers.integers((size,), [seed, i], count)
            with tf.GradientTape() as tape:
                seen = tf.gather(observations, rows)
                outputs = copied({"observation": seen}, training=True)
                distribution: Any = distributions.class_of(outputs)
                found = distribution(outputs).log_prob(tf.gather(actions, rows))
                loss = -ops.mean(found)
            optimizer.apply(tape.gradient(loss, weights), weights)
            return (i + 1,)

        tf.while_loop(lambda i: i < steps, step, (tf.constant(0),), parallel_iterations=1)

    train()
    return copied
