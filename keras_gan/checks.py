"""What is refused before the game begins, with what was received and what to do."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import latents
from keras_gan.errors import UsageError
from keras_gan.schedules import bounds

_WRONG_SECOND_DERIVATIVE = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,  # and InstanceNormalization, if Keras has it
    keras.layers.LayerNormalization,
)


def number(name: str, value: Any, least: float, above: bool = False) -> None:
    """Refuses what is not a finite number from `least` up (or above it), nor a schedule of one."""
    finite = all(_is_number(v) and math.isfinite(v) for v in bounds(value))
    if not finite or not all(v > least if above else v >= least for v in bounds(value)):
        bound = f"above {least}" if above else f"from {least} up"
        raise UsageError(f"{name} must be a number {bound}. Received: {name}={value!r}")


def share(name: str, value: Any) -> None:
    """Refuses what is neither a number above 0 and at most 1 nor a schedule of one."""
    if not all(_is_number(v) and 0 < v <= 1 for v in bounds(value)):
        raise UsageError(
            f"{name} must be a number above 0 and at most 1. Received: {name}={value!r}"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def whole_number(name: str, value: Any, least: int) -> None:
    """Refuses what is not a whole number from `least` up."""
    fits = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not fits or value < least:
        raise UsageError(
            f"{name} must be a whole number from {least} up. Received: {name}={value!r}"
        )


# ------------------------------------------------------------------------ players


def players(generator, discriminator, num_classes, latent_dim, terms, pac=1):
    """Refuses players that do not fit each other.

    Returns:
        The length of a latent vector and the shape of a sample.
    """
    for role, player in (("generator", generator), ("discriminator", discriminator)):
        if not isinstance(player, keras.Model):
            raise UsageError(f"The {role} must be a keras.Model. Received: {type(player).__name__}")
        if not player.built:
            raise UsageError(
                f"The {role} must be built: begin it with keras.Input, or call it once on a batch. "
                f"Received: {player.name!r} without weights"
            )
        _input_count(role, player, num_classes)
    latent_dim = _latent_dim(generator, latent_dim)
    labels = [keras.KerasTensor((None,), "int32")] if num_classes else []
    shape = _output_shape(generator, [keras.KerasTensor((None, latent_dim), "float32"), *labels])
    if None in shape:
        raise UsageError(f"The generator's samples must have a known shape. Received: {shape}")
    if pac > 1 and num_classes:
        raise UsageError(
            "A pack of samples has no class of its own: a conditional game must have pac=1. "
            f"Received: pac={pac}, num_classes={num_classes}"
        )
    judged = (*shape[:-1], pac * shape[-1])
    expected = _first_input_shape(discriminator)
    if expected is not None and not tf.TensorShape(expected).is_compatible_with(judged):
        packed = f", of which pac={pac} make {judged}" if pac > 1 else ""
        raise UsageError(
            "The discriminator must take what the generator makes. Received: a discriminator of "
            f"samples {expected} and a generator of samples {shape}{packed}"
        )
    for layer in discriminator._flatten_layers():
        if isinstance(layer, keras.layers.SpectralNormalization):
            raise UsageError(
                "keras.layers.SpectralNormalization rewrites its kernel at every training call, "
                "the generator's turn included, and does not normalize in inference; use "
                f"keras_gan.layers.SpectralNormalization. Received: layer {layer.name!r}"
            )
    for role, player in (("generator", generator), ("discriminator", discriminator)):
        if any(role in penalty.second_order for penalty in terms.values()):
            _differentiable_twice(role, player)
    return latent_dim, shape


def _input_count(role: str, player, num_classes: int) -> None:
    inputs = getattr(player, "inputs", None)
    if inputs is None:
        return
    first = "latents" if role == "generator" else "samples"
    wanted = [first, "labels"] if num_classes else [first]
    if len(inputs) != len(wanted):
        hint = "" if num_classes else "; for a conditional game give num_classes"
        raise UsageError(
            f"The {role} of a game with num_classes={num_classes} must have "
            f"{len(wanted)} input{'s' * (len(wanted) > 1)} ({', '.join(wanted)}){hint}. "
            f"Received: {len(inputs)} ({', '.join(i.name for i in inputs)})"
        )


def _first_input_shape(player) -> tuple | None:
    inputs = getattr(player, "inputs", None)
    return tuple(inputs[0].shape[1:]) if inputs else None


def _latent_dim(generator, latent_dim: int | None) -> int:
    shape = _first_input_shape(generator)
    if shape is None:
        if latent_dim is None:
            raise UsageError(
                "A subclassed generator does not tell the length of its latents: "
                "give latent_dim. Received: latent_dim=None"
            )
        return int(latent_dim)
    if len(shape) != 1 or shape[0] is None:
        raise UsageError(
            "The generator's first input must be latents (batch, latent_dim). "
            f"Received: (batch, {', '.join(map(str, shape))})"
        )
    if latent_dim not in (None, shape[0]):
        raise UsageError(
            f"latent_dim must be what the generator takes, {shape[0]}. "
            f"Received: latent_dim={latent_dim}"
        )
    return int(shape[0])


def _output_shape(generator, inputs) -> tuple:
    output = generator.compute_output_spec(inputs if len(inputs) > 1 else inputs[0])
    return tuple(output.shape[1:])


def _differentiable_twice(role: str, player) -> None:
    """Refuses layers through which the second derivative is missing or wrong, silently."""
    for layer in player._flatten_layers():
        if isinstance(layer, _WRONG_SECOND_DERIVATIVE):
            raise UsageError(
                "A penalty cannot be differentiated through a normalization layer of Keras in the "
                f"{role} (tf.nn.moments has a wrong second derivative); use none, or "
                f"keras_gan.layers.GroupNormalization. Received: layer {layer.name!r}, "
                f"{type(layer).__name__}"
            )
        resizes = isinstance(layer, keras.layers.Resizing)
        if resizes or getattr(layer, "interpolation", "nearest") != "nearest":
            raise UsageError(
                "A penalty cannot be differentiated through a resizing layer of the "
                f"{role} (TensorFlow has no second derivative for it); use AveragePooling2D "
                f"or nearest UpSampling2D. Received: layer {layer.name!r}"
            )


# ------------------------------------------------------------------------ compile


def optimizers(generator: Any, discriminator: Any, arguments: dict[str, Any]) -> None:
    """Refuses what Keras cannot run, with its issue, rather than fail in the first step."""
    if generator is discriminator:
        raise UsageError(
            "Each player needs an optimizer of its own, as it keeps the player's moments. "
            "Received: the same instance for both"
        )
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas == 1:
        return
    if (arguments.get("steps_per_execution") or 1) > 1:
        raise UsageError(
            "Keras cannot run several steps per execution on several replicas "
            "(https://github.com/keras-team/keras/issues/19246). "
            f"Received: steps_per_execution={arguments['steps_per_execution']}"
        )
    if arguments.get("jit_compile") is True:
        raise UsageError(
            "Keras cannot compile by XLA on several replicas "
            "(https://github.com/keras-team/keras/issues/18666). "
            "Received: jit_compile=True"
        )
    for optimizer in (generator, discriminator):
        _on_replicas(inner(optimizer))


def inner(optimizer: Any) -> Any:
    """The optimizer that steps: within a loss scale, the wrapped one."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _on_replicas(optimizer: Any) -> None:
    if optimizer.gradient_accumulation_steps or optimizer.ema_overwrite_frequency:
        raise UsageError(
            "Keras cannot accumulate gradients or overwrite weights by their average on several "
            "replicas (https://github.com/keras-team/keras/issues/20582). Received: "
            f"gradient_accumulation_steps={optimizer.gradient_accumulation_steps}, "
            f"ema_overwrite_frequency={optimizer.ema_overwrite_frequency}"
        )
    if not hasattr(optimizer, "_all_reduce_sum_gradients"):
        raise UsageError(
            "This version of Keras sums the replicas' gradients in a way that is not known here; "
            f"use one that has been tested (3.15), or one device. Received: {keras.__version__}"
        )


# ------------------------------------------------------------------------ data


def data(
    x: Any, y: Any, shape: tuple, num_classes: int, parts: int = 1, batch_size: int = 1
) -> None:
    """Refuses data that does not fit the game: arrays as a whole, data sets by the first batch."""
    if isinstance(x, tf.data.Dataset):
        x, y = _first_batch(x, shape, num_classes, parts)
    elif isinstance(x, (np.ndarray, tf.Tensor)):
        _declared(x, y, shape, num_classes, batched=True)
        if not len(x):
            raise UsageError("There must be samples to train on. Received: an array of none")
        if parts > 1:
            divides(batch_size, parts)
            divides(len(x) % batch_size, parts)
    elif x is None:
        raise UsageError("fit needs data: a data set, or an array of samples. Received: x=None")
    else:
        return  # a generator or PyDataset: its batches cannot be seen without using them up
    values(np.asarray(x), image=len(shape) == 3)
    if num_classes:
        class_ids(np.asarray(y), num_classes)


def _first_batch(dataset: tf.data.Dataset, shape: tuple, num_classes: int, parts: int) -> tuple:
    spec: Any = dataset.element_spec
    parted: tuple[Any, ...] = spec if isinstance(spec, tuple) else (spec,)
    if not 1 <= len(parted) <= 2 or not all(isinstance(part, tf.TensorSpec) for part in parted):
        raise UsageError(
            "A data set must give batches x, or (x, y), of tensors. "
            f"Received: {' '.join(str(spec).split())}"
        )
    samples: Any = parted[0]
    _declared(samples, parted[1] if len(parted) > 1 else None, shape, num_classes)
    size = samples.shape[0]
    if parts > 1 and size is None:
        raise UsageError(
            f"With discriminator_steps * pac = {parts} every batch must be of one known size: use "
            "batch(size, drop_remainder=True). Received: batches of unknown size"
        )
    divides(size or 0, parts)
    batch = next(iter(dataset.take(1)), None)
    if batch is None:
        raise UsageError(
            "The data set must have at least one batch. Received: none (are there fewer "
            "samples than batch_size, with drop_remainder?)"
        )
    parts_of = batch if isinstance(batch, tuple) else (batch,)
    return parts_of[0], parts_of[1] if len(parts_of) > 1 else None


def _declared(x, y, sample_shape, num_classes, batched: bool = False) -> None:
    """Type, rank and shape, as far as they are declared."""
    dtype = getattr(x.dtype, "name", str(x.dtype))
    if dtype != "float32":
        hint = " (uint8 images: x / 127.5 - 1)" if dtype == "uint8" else ""
        raise UsageError(f"Samples must be float32{hint}. Received: {dtype}")
    shape = tuple(x.shape)
    if not tf.TensorShape((None, *sample_shape)).is_compatible_with(shape):
        unbatched = tf.TensorShape(sample_shape).is_compatible_with(shape)
        hint = "; the data set is not batched" if unbatched and not batched else ""
        raise UsageError(
            f"Samples must have the shape {('batch', *sample_shape)} that the players are built "
            f"for{hint}. Received: {shape}"
        )
    if not num_classes:
        return
    if y is None:
        raise UsageError(
            f"A conditional game of {num_classes} classes needs (x, y), with y class ids. "
            "Received: x alone"
        )
    label_dtype = tf.as_dtype(y.dtype)
    if not label_dtype.is_integer or len(y.shape) != 1:
        raise UsageError(
            "Labels must be integer class ids of shape (batch,), not one-hot. "
            f"Received: {label_dtype.name} of shape {tuple(y.shape)}"
        )


def values(x: np.ndarray, image: bool) -> None:
    """Refuses NaN and infinity, and images outside [-1, 1]."""
    if not np.isfinite(x).all():
        bad = int(np.size(x) - np.isfinite(x).sum())
        raise UsageError(f"Samples must be finite numbers. Received: {bad} NaN or infinite values")
    if image and (x.min() < -1.001 or x.max() > 1.001):
        raise UsageError(
            "Images must have values in [-1, 1] (from 0..255: x / 127.5 - 1). "
            f"Received: values from {x.min():g} to {x.max():g}"
        )


def class_ids(y: np.ndarray, num_classes: int) -> None:
    """Refuses class ids outside 0..num_classes-1."""
    if y.size and (y.min() < 0 or y.max() >= num_classes):
        raise UsageError(
            f"Labels must be class ids from 0 to {num_classes - 1}. "
            f"Received: ids from {y.min()} to {y.max()}"
        )


def divides(batch_size: int, parts: int) -> None:
    """Refuses a batch that cannot be dealt out to the discriminator's steps, in whole packs."""
    if batch_size % parts:
        raise UsageError(
            f"A batch must divide by discriminator_steps * pac = {parts}, as each step sees its "
            "own part, in whole packs. "
            f"Received: a batch of {batch_size}"
        )


# ------------------------------------------------------------------------ generate


def labels(given: Any, seeds: np.ndarray, num_classes: int) -> np.ndarray | None:
    """Class ids `(count,)` of a conditional game, `None` in any other."""
    if not num_classes:
        if given is not None:
            raise UsageError(
                "This generator has no classes, so that labels mean nothing to it. "
                f"Received: labels={given!r}"
            )
        return None
    if given is None:
        return np.asarray(latents.labels_from_seeds(seeds, num_classes))
    array = np.asarray(given)
    if array.dtype.kind not in "iu" or array.shape not in ((), (len(seeds),)):
        raise UsageError(
            f"labels must be one class id, or one for each of the {len(seeds)} seeds. "
            f"Received: shape {array.shape}, {array.dtype}"
        )
    class_ids(array, num_classes)
    return np.broadcast_to(array, (len(seeds),))
