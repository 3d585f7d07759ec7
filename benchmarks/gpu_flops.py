"""Floating-point operations of a training step, counted from the networks.

The forward pass of a network has one multiplication and one addition, 2 operations, for each
product of its dense layers, convolutions and transposed convolutions:

    dense               inputs * outputs
    convolution         output pixels * kernel area * input channels / groups * output channels
    transposed          input pixels * kernel area * input channels * output channels
    depthwise           output pixels * kernel area * channels

Everything else is not counted: normalization, activations, resampling, embeddings, spectral norms,
optimizers, averages. A nearest-neighbor upsampling and the convolution after it count as the two
layers that they are, also where a program computes them in fewer products: it can exceed the peak.

A backward pass has two products for each one of the forward pass: by the layer's inputs and by its
weights. With g and d, the operations of the generator's and of the discriminator's forward pass,
and g1 and d1, those of their first layers, whose inputs need no gradient, a training step has for
each real image, with k discriminator steps for one of the generator, p penalties of gradients (R1,
R2) every i steps, and r = 1 for a loss that compares real and generated logits, else 0:

    g                   generated images, as many as real ones
    2 (3 d - d1)        the discriminator on real and generated images, forward and backward
    3 p d / i           gradient by the images, and its derivative by inputs and weights
    (2 g - g1) / k      the generator, backward
    (2 + r) d / k       the discriminator in the generator's step, with constant weights

A product that is needed once is counted once, so redundant work lowers a program's share.
"""

from __future__ import annotations

import math
from typing import Any

from gpu_cells import Game


def forward(model: Any) -> tuple[float, float]:
    """Returns the operations of a Keras model's forward pass for one sample, and of its start.

    Args:
        model: a Functional or Sequential model.

    Returns:
        The operations of all layers, and those of layers that follow no other counted layer.
    """
    total = first = 0.0
    reached: set[str] = set()  # layers that are counted, or that follow one
    for layer in model.layers:
        flops = 2.0 * _products(layer)
        before = {parent.name for parent in _parents(layer)}
        total += flops
        if not before & reached:
            first += flops
        if flops or before & reached:
            reached.add(layer.name)
    return total, first


def _parents(layer: Any) -> list[Any]:
    """Returns the layers whose outputs a layer takes, in the model that it was first called in."""
    return [parent.operation for node in layer._inbound_nodes for parent in node.parent_nodes]


def _products(layer: Any) -> float:
    """Returns the products of a layer for one sample."""
    from keras import layers

    kinds = layers.Dense, layers.Conv2D, layers.Conv2DTranspose, layers.DepthwiseConv2D
    inner = getattr(layer, "layer", layer)  # of a wrapper, such as spectral normalization
    if not isinstance(inner, kinds):
        return 0.0
    given, made = layer.input, layer.output
    if isinstance(inner, layers.Dense):
        return math.prod(given.shape[1:]) * inner.units
    if isinstance(inner, layers.DepthwiseConv2D):
        return math.prod(made.shape[1:]) * math.prod(inner.kernel_size)
    if isinstance(inner, layers.Conv2DTranspose):
        return math.prod(given.shape[1:]) * math.prod(inner.kernel_size) * inner.filters
    channels = given.shape[-1] // inner.groups
    return math.prod(made.shape[1:]) * math.prod(inner.kernel_size) * channels


def of_step(
    generator: tuple[float, float], discriminator: tuple[float, float], game: Game
) -> float:
    """Returns the operations of a training step for each real image, see the module.

    Args:
        generator: operations of its forward pass and of its first layers, see `forward`.
        discriminator: the same.
        game: loss, penalties and number of discriminator steps.
    """
    (g, g1), (d, d1) = generator, discriminator
    penalties = 2 if game.penalty else 0
    both = 1 if game.loss.startswith("relativistic") else 0
    often = g + 2 * (3 * d - d1) + 3 * penalties * d / game.interval
    return often + (2 * g - g1 + (2 + both) * d) / game.discriminator_steps
