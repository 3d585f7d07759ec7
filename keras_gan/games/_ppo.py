"""Proximal policy optimization: the clipped objective, and the step of a policy and its values."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from keras_gan import schedules

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops

_MOST = 20.0  # of the change of a logarithm of a probability; e^20 is far outside of any clip


@dataclasses.dataclass(frozen=True)
class Targets:
    """Examples of a policy and a value function, one row for each step.

    Args:
        observations: `(rows, features)`.
        actions: drawn actions, `(rows, action)`.
        log_probs: logarithms of their probabilities when they were drawn, `(rows,)`.
        advantages: normalized advantages, `(rows,)`.
        returns: targets of the value function, `(rows,)`.
    """

    observations: Any
    actions: Any
    log_probs: Any
    advantages: Any
    returns: Any

    def rows(self, chosen: Any) -> Targets:
        """Returns some of the rows."""
        found = {f.name: tf.gather(getattr(self, f.name), chosen) for f in dataclasses.fields(self)}
        return Targets(**found)


def clipped_objective(ratio: Any, advantage: Any, clip: float) -> Any:
    """Returns min(r A, clip(r, 1 - e, 1 + e) A) of each row.

    Args:
        ratio: probability of the action now by that when it was drawn.
        advantage: its advantage.
        clip: e.

    Reference:
        [Schulman et al., 2017](https://arxiv.org/abs/1707.06347), equation 7
    """
    bounded = ops.clip(ratio, 1.0 - clip, 1.0 + clip)
    return ops.minimum(ratio * advantage, bounded * advantage)


def normalized(advantages: Any) -> Any:
    """Returns advantages with mean 0 and standard deviation 1; 0 if all of them are equal."""
    mean, variance = tf.nn.moments(advantages, axes=list(range(len(advantages.shape))))
    return (advantages - mean) / (tf.sqrt(variance) + 1e-8)


def update(game: Any, targets: Targets, count: Any) -> None:
    """Trains the policy and the value function for the game's epochs over all rows.

    Args:
        game: a game with `policy`, `value` and the arguments of `Imitation`.
        targets: the rows.
        count: number of rows, a multiple of the game's minibatches.
    """
    orders = tf.stack(
        [
            tf.random.experimental.stateless_shuffle(  # pyright: ignore[reportAttributeAccessIssue]
                tf.range(count), game.random_seed("minibatches", epoch), alg="philox"
            )
            for epoch in range(game.epochs)
        ]
    )
    orders = tf.reshape(orders, (game.epochs * game.minibatches, -1))

    def step(i: Any) -> Any:
        _train(game, targets.rows(orders[i]))
        return (i + 1,)

    last = game.epochs * game.minibatches
    tf.while_loop(lambda i: i < last, step, (tf.constant(0),), parallel_iterations=1)


def _train(game: Any, rows: Targets) -> None:
    """Trains both networks on one minibatch."""
    with tf.GradientTape() as tape:
        distribution = game.distribution(rows.observations, training=True)
        change = distribution.log_prob(rows.actions) - rows.log_probs
        change = ops.clip(change, -_MOST, _MOST)  # whose exponential is finite
        objective = ops.mean(clipped_objective(ops.exp(change), rows.advantages, game.clip))
        entropy = ops.mean(distribution.entropy())
        weight = schedules.now(game.entropy, game.examples_seen.value)
        loss = -objective - weight * entropy
    game.minimize("policy", loss, tape)
    with tf.GradientTape() as tape:
        values = game.values(rows.observations, training=True)
        value_loss = ops.mean(ops.square(values - rows.returns)) / 2
    game.minimize("value", value_loss, tape)
    # An estimate of KL(old, new) with small variance: r - 1 - log r.
    divergence = ops.mean(ops.exp(change) - 1.0 - change)
    game.track(policy_loss=loss, value_loss=value_loss, entropy=entropy, divergence=divergence)
