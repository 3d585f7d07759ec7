"""Discriminator steps on pairs of an observation and an action."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_gan import losses, terms
from keras_gan.layers import ObservationNormalization
from keras_gan.networks import as_float32, update_power_iteration

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


def joined(observations: Any, actions: Any) -> Any:
    """Returns pairs `(batch, features + action)`."""
    return tf.concat([observations, actions], axis=-1)


def train(game: Any, real: Any, fake: Any, index: Any) -> None:
    """Trains a game's discriminator on pairs of the expert and as many of the policy.

    Args:
        game: a game with the arguments of `Imitation`.
        real: pairs of the expert.
        fake: pairs of the policy.
        index: number of the step within the round.
    """
    model = game.networks["discriminator"].model
    update_power_iteration(model)
    shift, scale = _units(model, game.spaces.observation, game.spaces.action)
    with tf.GradientTape() as tape:
        context = _context(game, (real - shift) / scale, (fake - shift) / scale, index)
        real_logits, fake_logits = context.logits(context.real), context.logits(context.fake)
        loss = ops.mean(
            losses.values(game.adversarial_loss.discriminator, real_logits, fake_logits)
        )
        objective = loss + game.sum_of_terms(context)
    game.minimize("discriminator", objective, tape)
    if game.constraint is not None:
        for weight in model.trainable_variables:
            weight.assign(game.constraint(weight))
    game.track(d_loss=loss, **losses.accuracies(game.adversarial_loss, real_logits, fake_logits))


def _units(model: keras.Model, features: int, actions: int) -> tuple[Any, Any]:
    """Returns the mean and the standard deviation by which the discriminator normalizes pairs.

    Terms see pairs in these units, so that a gradient by an observation does not depend on the
    unit in which the environment measures it.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, ObservationNormalization):
            mean, deviation = layer.mean.value, ops.sqrt(layer.variance.value + 1e-6)
            rest = tf.zeros((actions,))
            return tf.concat([mean, rest], 0), tf.concat([deviation, rest + 1.0], 0)
    return tf.zeros((features + actions,)), tf.ones((features + actions,))


def _context(game: Any, real: Any, fake: Any, index: Any) -> terms.StepContext:
    """Returns the context of the discriminator's terms, of pairs in normalized units."""
    model = game.networks["discriminator"].model
    features, actions = game.spaces.observation, game.spaces.action
    shift, scale = _units(model, features, actions)

    def forward(pairs: Any) -> Any:
        found = pairs * scale + shift
        inputs = {"observation": found[:, :features], "samples": found[:, features:]}
        return as_float32(game.networks["discriminator"](inputs, training=True))

    step = tf.cast(game.iteration.value, tf.int64) * game.discriminator_steps
    return terms.StepContext(
        player="discriminator",
        networks=game.networks,
        forward=terms.SharedForward(forward),
        generate=lambda latents: fake,
        latents=None,
        real=real,
        fake=fake,
        seed=game.random_seed("discriminator terms", index),
        step=step + tf.cast(index, tf.int64),
    )
