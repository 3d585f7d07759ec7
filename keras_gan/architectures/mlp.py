"""Fully connected networks, for samples of every kind and shape."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers

from keras_gan.architectures import _parts
from keras_gan.errors import UsageError
from keras_gan.spec import Spec

_EMBEDDING = 16  # length of the vector of a class id among the conditions


def generator(
    spec: Spec,
    conditional: bool = False,
    conditions: Sequence[str] = (),
    latent_dim: int = 2,
    widths: Sequence[int] = (128, 128, 128),
    codes: Mapping[str, Any] | None = None,
) -> keras.Model:
    """Builds a generator from latents `(batch, latent_dim)` [labels, conditions] to samples.

    Samples with a value range are bounded to it by tanh, and weights that sum to 1, as those of
    texts, by softmax over the last axis; for unbounded samples, the last layer is linear.

    Args:
        spec: samples of any kind and of a fixed shape.
        conditional: if True, takes labels, whose embedding is concatenated to the latents.
        conditions: names of further fields that it takes. Their values are concatenated to the
            latents, class ids by an embedding.
        latent_dim: length of a latent vector.
        widths: units of each hidden layer.
        codes: None, or codes that the first latents become: `{categorical: [10], continuous: 2}`,
            the categories of each categorical code and the number of continuous ones, see
            `keras_gan.layers.LatentCodes`. The term `mutual_information` gives them a meaning.

    Raises:
        UsageError: a width is below 1, there are no hidden layers, or a shape is not fixed.
    """
    _check_fixed("samples", spec)
    latents = _parts.latents_input(latent_dim)
    labels = _parts.labels_input() if conditional else None
    x = _parts.with_codes(latents, codes)
    x = _parts.latents_and_label(x, labels, spec, latent_dim) if conditional else x
    given = {name: _condition_input(name, spec) for name in conditions}
    x = _with_conditions(x, given, spec)
    x = _hidden_layers(x, widths, lambda i: layers.ReLU(name=f"activation_{i}"))
    # Samples are float32 under every policy, so that they have full precision.
    x = layers.Dense(math.prod(spec.shape), dtype="float32", name="values")(x)
    samples = _to_samples(x, spec)
    inputs = [latents, *([labels] if conditional else []), *given.values()]
    return _model(inputs if len(inputs) > 1 else latents, samples, "generator")


def discriminator(
    spec: Spec,
    conditional: bool = False,
    conditions: Sequence[str] = (),
    widths: Sequence[int] = (128, 128, 128),
    auxiliary_classes: bool | str = False,
    codes: Mapping[str, Any] | None = None,
    classes_as_logits: bool = False,
) -> keras.Model:
    """Builds a discriminator from samples [labels, conditions] to logits `(batch, 1)`.

    Args:
        spec: samples of any kind and of a fixed shape.
        conditional: if True, takes labels, by projection as in `dcgan.discriminator`.
        conditions: names of further fields that it takes. Their values are concatenated to those
            of the samples, class ids by an embedding.
        widths: units of each hidden layer.
        auxiliary_classes: adds outputs of classes, as in `dcgan.discriminator`.
        codes: None, or the `codes` of the generator, for the output `codes`: predictions of them
            that the term `mutual_information` reads.
        classes_as_logits: if True, the outputs are `classes`, `logits` and `features`, as in
            `dcgan.discriminator`.

    Raises:
        UsageError: a width is below 1, there are no hidden layers, or a shape is not fixed.
    """
    _check_fixed("samples", spec)
    _parts.check_classes_as_logits(
        classes_as_logits, spec, conditional, auxiliary_classes=auxiliary_classes, codes=codes
    )
    samples = keras.Input(spec.shape, name="samples")
    given = {name: _condition_input(name, spec) for name in conditions}
    x = _with_conditions(layers.Flatten(name="flatten")(samples), given, spec)
    x = _hidden_layers(x, widths, lambda i: layers.LeakyReLU(0.2, name=f"activation_{i}"))
    inputs = [samples, *given.values()]
    if classes_as_logits:
        outputs = _parts.classes_as_logits(x, spec)
        return _model(inputs if len(inputs) > 1 else samples, outputs, "discriminator")
    logits = layers.Dense(1, dtype="float32", name="logits")(x)
    if conditional:
        labels = _parts.labels_input()
        logits = _parts.projection(x, logits, labels, spec)
        inputs.insert(1, labels)
    outputs = _parts.outputs_with_classes(x, logits, spec, auxiliary_classes)
    outputs = _parts.outputs_with_codes(x, outputs, codes)
    return _model(inputs if len(inputs) > 1 else samples, outputs, "discriminator")


def _model(inputs: Any, outputs: Any, name: str) -> keras.Model:
    """Returns a network whose conditions have names that no layer has.

    Raises:
        UsageError: a field of the name of a layer.
    """
    try:
        return keras.Model(inputs, outputs, name=name)
    except ValueError as error:  # Keras checks the names
        taken = re.search(r'name "(.+?)" is used', str(error))
        if taken is None:
            raise
        raise UsageError(
            "A field in `condition` of the architecture 'mlp' must not have the name of one of its "
            f"layers; rename the field. Received: {taken[1]!r} in the {name}"
        ) from None


def _to_samples(x, spec: Spec):
    """Bounds values to the range of the samples and gives them their shape."""
    if spec.modality.is_distribution:
        x = layers.Reshape(spec.shape, dtype="float32", name="weights")(x)
        return layers.Softmax(axis=-1, dtype="float32", name="samples")(x)
    if spec.value_range is not None:
        low, high = spec.value_range
        x = layers.Activation("tanh", dtype="float32", name="tanh")(x)
        if (low, high) != (-1.0, 1.0):
            scale, offset = (high - low) / 2, (high + low) / 2
            x = layers.Rescaling(scale, offset, dtype="float32", name="range")(x)
    return layers.Reshape(spec.shape, dtype="float32", name="samples")(x)


def _hidden_layers(x, widths: Sequence[int], activation):
    for i, width in enumerate(_parts.check_widths(widths)):
        x = activation(i)(layers.Dense(width, name=f"hidden_{i}")(x))
    return x


# ------------------------------------------------------------------------ conditions


def _check_fixed(name: str, spec: Spec) -> None:
    shape = spec.fields[name].shape
    if None in shape:
        raise UsageError(
            f"The architecture 'mlp' takes fields of a fixed shape. Received: {name} of {shape}"
        )


def _condition_input(name: str, spec: Spec):
    _check_fixed(name, spec)
    field = spec.fields[name]
    return keras.Input(field.shape, name=name, dtype=field.dtype)


def _with_conditions(x, given: dict[str, Any], spec: Spec):
    """Concatenates the values of conditions to features."""
    parts = [x]
    for name, tensor in given.items():
        classes = spec.fields[name].meta.get("num_classes", 0)
        if classes:
            tensor = layers.Embedding(classes, _EMBEDDING, name=f"{name}_embedding")(tensor)
        else:
            tensor = layers.Rescaling(1.0, name=f"{name}_values")(tensor)  # also a cast to float
            tensor = layers.Flatten(name=f"{name}_flat")(tensor)
        parts.append(tensor)
    return layers.Concatenate(name="with_conditions")(parts) if given else x
