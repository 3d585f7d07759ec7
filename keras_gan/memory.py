"""Estimate of the memory that training needs, before it starts."""

from __future__ import annotations

import contextlib
import math

import keras
import tensorflow as tf

from keras_gan.games import Game
from keras_gan.optimizers import optimizers_of

# Bytes of TensorFlow, Keras and the data pipeline: the measured peak of a process with small
# networks.
_BASE = 770 * 2**20
# Copies of a network's layer outputs that are in memory together, for each sample of a batch: one
# for the forward and the backward pass, which share much memory, and one more for the second
# derivative of a penalty. With these figures, the estimate was 2 to 10 % above the peak measured
# on a CPU: quickstart at batch sizes 32 and 256, gaussians-8 at 256 and 8192.
_PASSES, _PASSES_WITH_TERMS = 1, 2


def estimate(gan: Game, batch_size: int) -> list[str]:
    """Estimates the memory of the weights, of a batch, and of the whole process.

    Args:
        gan: a compiled game.
        batch_size: examples in a training batch.

    Returns:
        One line of text for each of the three, in MiB.
    """
    weights = sum(_bytes(v) for v in gan.variables)
    optimizers = optimizers_of(gan).values()
    moments = sum(_bytes(v) for optimizer in optimizers for v in optimizer.variables)
    # A discriminator with packing computes one set of activations for each pack of samples.
    packs = batch_size / gan.data_spec.multiple
    passes = 2 * (_PASSES_WITH_TERMS if gan.terms else _PASSES)  # real and generated
    activations = 0.0
    for name, network in gan.networks.items():
        if name == gan.sampled:
            activations += packs * gan.packing.size * _PASSES * _activations(network.model)
        else:
            activations += packs * passes * _activations(network.model)
    total = _BASE + weights + moments + activations
    return [
        f"memory of weights, average and moments: {_mib(weights + moments)}",
        f"memory of a batch of {batch_size}, estimated: {_mib(activations)}",
        f"memory of the process without its data, estimated: {_mib(total)}",
    ]


def _bytes(variable) -> int:
    return math.prod(variable.shape) * tf.as_dtype(variable.dtype).size


def _activations(network: keras.Model) -> int:
    """Returns the bytes of all layer outputs for one sample, those of nested models included."""
    total = 0
    for layer in network.layers:
        # Layers of a subclassed model that were never called symbolically have no output.
        with contextlib.suppress(AttributeError):
            total += math.prod(n for n in layer.output.shape if n) * 4
        if isinstance(layer, keras.Model):
            total += _activations(layer)
    return total


def _mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"
