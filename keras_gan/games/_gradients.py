"""Check that both networks of a GAN get gradients that are not 0 everywhere."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import optimizers
from keras_gan.errors import UsageError

_FEW, _MANY = 2, 16  # samples of the first look, and of those at random weights
_DRAWS = 4  # of random weights
_ANY_SIZE = 16  # of axes without a size of their own


def check(game: Any) -> None:
    """Checks that a gradient reaches the weights of the generator and of the discriminator.

    An operation such as sign has a gradient of 0 everywhere, and nothing would be learned. Weights
    may start at values where the gradient is 0, such as zeros in two layers in sequence: so what is
    0 at the present weights must be 0 at random ones as well. A training on several replicas is not
    looked at.

    Args:
        game: a GAN.

    Raises:
        UsageError: all gradients of a network are 0.
    """
    networks = [game.generator, game.discriminator]
    if game.distribute_strategy.num_replicas_in_sync > 1 or all(map(_is_plain, networks)):
        return
    rng = np.random.default_rng(0)
    try:
        dead = _without_gradient(game, rng, at_random=False)
        for _ in range(_DRAWS):
            if not dead:
                return
            dead &= _without_gradient(game, rng, at_random=True)
    except Exception:  # layers raise anything; the training step raises the same, or runs
        return
    for name in sorted(dead):
        weights = getattr(game, name).trainable_variables
        raise UsageError(
            f"{optimizers.NO_GRADIENT} Received: gradients of 0 for {weights[0].path!r} and "
            f"{len(weights) - 1} more weights of the {name}, also at random weights"
        )


def _is_plain(model: keras.Model) -> bool:
    """Returns True for a network of layers that have gradients, which need no look.

    They are those of Keras and of this package with activations of Keras, but no Lambda layers and
    no operations of `keras.ops`.
    """
    for layer in model._flatten_layers():
        operations = getattr(layer, "operations", ())
        if type(layer).__module__.split(".")[0] not in ("keras", "keras_gan"):
            return False
        if isinstance(layer, keras.layers.Lambda) or not all(map(_is_layer, operations)):
            return False
        activations = (getattr(layer, n, None) for n in ("activation", "recurrent_activation"))
        if not all(map(_is_of_keras, activations)):
            return False
    return True


def _is_of_keras(activation: Any) -> bool:
    package = keras.activations.relu.__module__
    module = getattr(activation, "__module__", "")
    return activation is None or module.startswith(package) or _is_layer(activation)


def _is_layer(operation: Any) -> bool:
    return isinstance(operation, keras.layers.Layer)


def _without_gradient(game: Any, rng: np.random.Generator, at_random: bool) -> set[str]:
    """Returns the networks of which all gradients are 0.

    Those that have none at all are left to the training step, whose terms may have some.
    """
    models = {name: getattr(game, name) for name in ("generator", "discriminator")}
    variables = [v for model in models.values() for v in model.trainable_variables]
    draw = _random if at_random else lambda variable, rng: variable.value
    values = [tf.convert_to_tensor(draw(variable, rng)) for variable in variables]
    fields = _fields(game, rng, (_MANY if at_random else _FEW) * game.packing.size)
    with tf.GradientTape() as tape:
        tape.watch(values)
        # Layers keep no states of this pass.
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            samples = game.networks["generator"](fields, training=False)["samples"]
            logits = game.logits(tf.cast(samples, tf.float32), fields)
        # Weighted at random, so that no sum is constant, such as that of a softmax.
        total = tf.add_n(
            [tf.reduce_sum(x * rng.normal(size=x.shape)) for x in tf.nest.flatten(logits)]
        )
    gradients = iter(tape.gradient(total, values))
    found = {
        name: [g for g in (next(gradients) for _ in model.trainable_variables) if g is not None]
        for name, model in models.items()
    }
    return {name for name, of in found.items() if of and not any(map(_is_nonzero, of))}


def _is_nonzero(gradient: Any) -> bool:
    return bool(tf.reduce_any(tf.not_equal(tf.convert_to_tensor(gradient), 0)))


def _random(variable: Any, rng: np.random.Generator) -> np.ndarray:
    """Returns normal values that keep the size of what they are applied to."""
    deviation = 1 / math.sqrt(max(1, math.prod(variable.shape[:-1])))
    return rng.normal(0, deviation, variable.shape).astype(variable.dtype)


def _fields(game: Any, rng: np.random.Generator, count: int) -> dict[str, Any]:
    """Returns fields of some examples: normal numbers, and class ids in turn."""
    found: dict[str, Any] = {}
    for network in game.networks.values():
        for name, spec in network.field_specs().items():
            shape = (count, *(_ANY_SIZE if n is None else n for n in spec.shape[1:]))
            values = rng.normal(size=shape) if spec.dtype.is_floating else np.zeros(shape)
            found[name] = tf.constant(values, spec.dtype)
    found["latents"] = tf.constant(rng.normal(size=(count, game.latent_dim)), tf.float32)
    if game.num_classes:
        found["labels"] = tf.constant(np.arange(count) % game.num_classes, tf.int32)
    return found
