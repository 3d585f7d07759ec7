"""Checks of networks, and of the arguments of `generate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import data_spec, latents
from keras_gan.errors import UsageError
from keras_gan.networks import Network

_WRONG_SECOND_DERIVATIVE = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,  # and InstanceNormalization, if Keras has it
    keras.layers.LayerNormalization,
)


# ------------------------------------------------------------------------ networks


def named_networks(models: Mapping[str, Any], needed: tuple[str, ...]) -> None:
    """Checks that a game has the networks that it samples from and averages.

    Raises:
        UsageError: one that is missing.
    """
    for name in needed:
        if name not in models:
            raise UsageError(
                f"The game must have a network named {name!r}. "
                f"Received: networks {', '.join(models)}"
            )


def network(role: str, model: Any) -> None:
    """Checks that a network is a built Keras model.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(model, keras.Model):
        raise UsageError(f"The {role} must be a keras.Model. Received: {type(model).__name__}")
    if not model.built:
        raise UsageError(
            f"The {role} must be built: begin it with keras.Input, or call it once on a batch. "
            f"Received: {model.name!r} without weights"
        )


def latent_dim(network: Network, given: int | None) -> int:
    """Returns the length of the latents of a generator; 0 if it takes none.

    Raises:
        UsageError: a length that cannot be read from the network, or differs from the given one.
    """
    if "latents" not in network.fields:
        return 0
    shape = input_shape(network, "latents")
    if shape is None:
        if given is None:
            raise UsageError(
                "The length of the latents cannot be read from a subclassed generator: "
                "give `latent_dim`. Received: latent_dim=None"
            )
        return int(given)
    if len(shape) != 1 or shape[0] is None:
        raise UsageError(
            "The generator's first input must be latents (batch, latent_dim). "
            f"Received: (batch, {', '.join(map(str, shape))})"
        )
    if given not in (None, shape[0]):
        raise UsageError(
            f"`latent_dim` must be the generator's, {shape[0]}. Received: latent_dim={given}"
        )
    return int(shape[0])


def input_shape(network: Network, field: str) -> tuple | None:
    """Returns the shape of an input without the batch; None of a subclassed network."""
    tensors = dict(zip(network.fields, getattr(network.model, "inputs", None) or (), strict=False))
    return tuple(tensors[field].shape[1:]) if field in tensors else None


def sample_shape(outputs: Mapping[str, Any]) -> tuple:
    """Returns the shape of a generator's samples.

    Raises:
        UsageError: no output `samples`, or an unknown shape.
    """
    if not hasattr(outputs.get("samples"), "shape"):
        raise UsageError(
            "The generator must return a tensor, or a dictionary with one named samples. "
            f"Received: outputs {', '.join(outputs)}"
        )
    shape = tuple(outputs["samples"].shape[1:])
    if None in shape:
        raise UsageError(f"The generator's samples must have a known shape. Received: {shape}")
    return shape


def second_derivative(role: str, model: keras.Model) -> None:
    """Checks that a network has no layers whose second derivative is missing or wrong, silently.

    Raises:
        UsageError: it has one.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, _WRONG_SECOND_DERIVATIVE):
            raise UsageError(
                "A gradient penalty cannot be differentiated through a normalization layer of "
                f"Keras in the {role} (tf.nn.moments has a wrong second derivative); use none, or "
                f"keras_gan.layers.GroupNormalization. Received: layer {layer.name!r}, "
                f"{type(layer).__name__}"
            )
        resizes = isinstance(layer, keras.layers.Resizing)
        if resizes or getattr(layer, "interpolation", "nearest") != "nearest":
            raise UsageError(
                "A gradient penalty cannot be differentiated through a resizing layer of the "
                f"{role} (TensorFlow has no second derivative for it); use AveragePooling2D "
                f"or nearest UpSampling2D. Received: layer {layer.name!r}"
            )


# ------------------------------------------------------------------------ generate


def labels(given: Any, seeds: np.ndarray, num_classes: int) -> np.ndarray | None:
    """Returns class ids `(count,)` for the samples of a conditional game, None of any other.

    Raises:
        UsageError: labels without classes, of another shape or type, or out of range.
    """
    if not num_classes:
        if given is not None:
            raise UsageError(
                f"`labels` cannot be used: the generator has no classes. Received: labels={given!r}"
            )
        return None
    if given is None:
        return np.asarray(latents.labels_from_seeds(seeds, num_classes))
    array = np.asarray(given)
    if array.dtype.kind not in "iu" or array.shape not in ((), (len(seeds),)):
        raise UsageError(
            f"`labels` must be one class id, or one for each of the {len(seeds)} seeds. "
            f"Received: shape {array.shape}, {array.dtype}"
        )
    data_spec.check_ids(array, num_classes)
    return np.broadcast_to(array, (len(seeds),))


def given_fields(
    fields: Mapping[str, Any], asked: Mapping[str, tf.TensorSpec], count: int
) -> dict[str, Any]:
    """Returns the given fields of a generator as arrays with one row for each sample.

    Args:
        fields: arrays by name; one row serves for all samples.
        asked: shape and dtype of the fields that the generator asks for.
        count: number of samples.

    Raises:
        UsageError: one that is missing, not asked for, or of another length, shape or dtype.
    """
    for name in asked:
        if name not in fields:
            raise UsageError(
                f"The generator needs the field {name!r}: pass {name}=..., one for each seed. "
                f"Received: {', '.join(fields) or 'no fields'}"
            )
    arrays = {}
    for name, value in fields.items():
        if name not in asked:
            raise UsageError(
                f"The generator takes these fields: {', '.join(asked) or 'none'}. "
                f"Received: {name}=..."
            )
        array = _given(name, np.asarray(value), asked[name])
        if array.shape[0] not in (1, count):
            raise UsageError(
                f"`{name}` must have one row for each of the {count} seeds, or one for all. "
                f"Received: shape {array.shape}"
            )
        arrays[name] = np.broadcast_to(array, (count, *array.shape[1:]))
    return arrays


def _given(name: str, array: np.ndarray, spec: tf.TensorSpec) -> np.ndarray:
    """Returns the values of a field in its dtype.

    Raises:
        UsageError: another shape, a dtype of another sort, NaN or infinity.
    """
    shape, wanted = tf.TensorShape(array.shape), tf.as_dtype(spec.dtype)
    is_whole = array.dtype.kind in "iub"
    if not (is_whole or (array.dtype.kind == "f" and wanted.is_floating)):
        raise UsageError(f"`{name}` must be of dtype {wanted.name}. Received: {array.dtype}")
    if array.ndim == 0 or not spec.shape.is_compatible_with(shape):
        expected = ", ".join("any" if size is None else str(size) for size in spec.shape[1:])
        raise UsageError(
            f"`{name}` must have rows of shape ({expected}). Received: shape {array.shape}"
        )
    data_spec.extremes(array, f"Values of {name!r}")
    return array.astype(wanted.as_numpy_dtype)
