"""An estimate of what a training needs in memory, before it is tried."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from keras_gan.games.gan import GAN

# TensorFlow, Keras and the data pipeline, measured as the peak of a process with small players.
_BASE = 770 * 2**20
# How often the outputs of a player's layers are held at once, for each sample of a batch: by
# forward and backward pass (many share memory), and again by the second derivative of a penalty.
# So the estimate was 2 to 10 % above the peak measured on a CPU: quickstart at batch 32 and 256,
# gaussians-8 at 256 and 8192.
_PASSES, _PASSES_WITH_PENALTY = 1, 2


def estimate(gan: GAN, batch_size: int) -> list[str]:
    """Lines that say what the weights and a batch take, and all of it together.

    Args:
        gan: a compiled game.
        batch_size: samples in a batch of training.
    """
    weights = sum(_bytes(v) for v in gan.variables)
    optimizers = gan.generator_optimizer, gan.discriminator_optimizer
    moments = sum(_bytes(v) for optimizer in optimizers for v in optimizer.variables)
    share = batch_size // gan.discriminator_steps
    passes = 2 * (_PASSES_WITH_PENALTY if gan.terms else _PASSES)  # real and generated
    # Of a pack of samples the discriminator makes one sample's activations.
    judged = passes * _activations(gan.discriminator) / gan.packing.size
    activations = share * (_PASSES * _activations(gan.generator) + judged)
    total = _BASE + weights + moments + activations
    return [
        f"memory of weights, average and moments: {_mib(weights + moments)}",
        f"memory of a batch of {batch_size}, estimated: {_mib(activations)}",
        f"memory of the process without its data, estimated: {_mib(total)}",
    ]


def _bytes(variable) -> int:
    return math.prod(variable.shape) * tf.as_dtype(variable.dtype).size


def _activations(player: keras.Model) -> int:
    """Bytes of all layers' outputs for one sample."""
    total = 0
    for layer in player._flatten_layers(include_self=False):
        try:
            shapes = layer.output.shape
        except AttributeError:  # a layer of a subclassed model was never called symbolically
            continue
        total += math.prod(n for n in shapes if n) * 4
    return total


def _mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"
