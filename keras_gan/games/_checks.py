"""Checks of the two networks of a GAN against each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_gan import network_checks
from keras_gan.errors import UsageError
from keras_gan.games._packing import Packing
from keras_gan.networks import Network, input_names


def pair(
    networks: Mapping[str, Network],
    outputs: Mapping[str, Mapping[str, Any]],
    packing: Packing,
    num_classes: int,
) -> None:
    """Checks that a generator and a discriminator fit the game and each other.

    Args:
        networks: the two networks by name.
        outputs: their symbolic outputs by name.
        packing: how samples are grouped for the discriminator.
        num_classes: number of classes of the game; 0 for an unconditional one.

    Raises:
        UsageError: they do not fit.
    """
    generator, discriminator = networks["generator"], networks["discriminator"]
    labels = ("labels",) if num_classes else ()
    first = ("latents",) if "latents" in generator.fields or not generator.by_name else ()
    _check_inputs(generator, (*first, *labels), num_classes)
    # A discriminator that predicts the classes need not be given the labels.
    predicts = {"classes", "similarities"} & set(outputs["discriminator"])
    known = labels if "labels" in discriminator.fields or not predicts else ()
    _check_inputs(discriminator, ("samples", *known), num_classes)
    if "logits" not in outputs["discriminator"]:
        raise UsageError(
            "The discriminator must return logits, or a dictionary with one named logits. "
            f"Received: outputs {', '.join(outputs['discriminator'])}"
        )
    network_checks.list_of_logits(outputs["discriminator"]["logits"])
    if packing.size > 1 and num_classes:
        raise UsageError(
            "Packs of samples have no class of their own: a conditional game must have "
            f"{packing.name}=1. Received: {packing}, num_classes={num_classes}"
        )
    if packing.size > 1 and len(discriminator.fields) > 1:
        raise UsageError(
            f"A discriminator of packs can take samples only. Received: {packing}, a discriminator "
            f"of {', '.join(discriminator.fields)}"
        )
    _check_samples(discriminator, packing)
    _check_kernels(discriminator.model)


def _check_inputs(network: Network, expected: tuple[str, ...], num_classes: int) -> None:
    """Checks that a network takes the fields that it must take in its game.

    Args:
        network: the network.
        expected: fields that it must take; it may take others of the data, but not labels.
        num_classes: number of classes of the game; 0 for an unconditional one.

    Raises:
        UsageError: another number of inputs, or labels missing or unexpected.
    """
    names = input_names(network.model)
    missing = [name for name in expected if name not in network.fields]
    unexpected = "labels" in network.fields and "labels" not in expected
    too_many = not network.by_name and len(names) > len(expected)
    if not missing and not unexpected and not too_many:
        return
    hint = "" if num_classes else "; for a conditional game give num_classes"
    raise UsageError(
        f"The {network.role} of a game with num_classes={num_classes} must have "
        f"{len(expected)} input{'s' * (len(expected) > 1)} ({', '.join(expected)}){hint}. "
        f"Received: {len(names)} ({', '.join(names)})"
    )


def _check_samples(discriminator: Network, packing: Packing) -> None:
    """Checks that a discriminator takes the samples of the generator, or packs of them.

    Raises:
        UsageError: it takes samples of another shape.
    """
    expected = network_checks.input_shape(discriminator, "samples")
    if expected is None or tf.TensorShape(expected).is_compatible_with(packing.shape):
        return
    packs = f", of which {packing} make {packing.shape}" if packing.size > 1 else ""
    raise UsageError(
        "The discriminator must take the generator's samples. Received: a discriminator of "
        f"samples {expected} and a generator of samples {packing.sample_shape}{packs}"
    )


def _check_kernels(model: keras.Model) -> None:
    """Checks that a discriminator has no layer of Keras that rewrites its kernel when called.

    Raises:
        UsageError: it has one.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.SpectralNormalization):
            raise UsageError(
                "keras.layers.SpectralNormalization rewrites its kernel at every training call, "
                "also in the generator's step, and does not normalize in inference; use "
                f"keras_gan.layers.SpectralNormalization. Received: layer {layer.name!r}"
            )
