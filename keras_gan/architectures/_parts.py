"""What the families share: resolutions, normalization, labels, and what all of them refuse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from keras_gan.errors import UsageError
from keras_gan.layers import (
    ConditionalBatchNormalization,
    GroupNormalization,
    SpectralNormalization,
)
from keras_gan.spec import Spec

NORMS = ("none", "batch", "layer")


# ------------------------------------------------------------------------ what is refused


def check_images(spec: Spec, family: str) -> None:
    if spec.kind != "image":
        raise UsageError(f"The architecture {family!r} makes images. Received: kind={spec.kind!r}")


def check_one_of(name: str, value: Any, valid: Sequence[str]) -> None:
    if value not in valid:
        raise UsageError(f"{name} must be one of {', '.join(valid)}. Received: {name}={value!r}")


def check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or int(value) != value or value < 1:
        raise UsageError(f"{name} must be a whole number from 1 up. Received: {name}={value!r}")


def check_widths(widths: Sequence[int]) -> list[int]:
    chosen = list(widths)
    if not chosen or not all(int(w) == w and w > 0 for w in chosen):
        raise UsageError(f"Widths must be whole numbers from 1 up. Received: {chosen}")
    return chosen


def check_sides(spec: Spec, depth: int) -> None:
    """Refuses sides that cannot be halved `depth` times."""
    height, across = spec.shape[:2]
    if depth < 1 or height % 2**depth or across % 2**depth:
        raise UsageError(
            f"Both sides of an image must divide by {2 ** max(depth, 0)} at depth={depth}. "
            f"Received: {height} x {across} (resize with --set data.size, or set a smaller depth)"
        )


# ------------------------------------------------------------------------ resolutions


def default_depth(spec: Spec) -> int:
    """Halvings until the smaller side is under 8: at least the 2 that every family promises."""
    height, across = spec.shape[:2]
    depth = 2
    while min(height, across) >> depth >= 8 and not (height | across) & (2 ** (depth + 1) - 1):
        depth += 1
    return depth


def depth_of(widths: Sequence[int] | None, depth: int | None, spec: Spec) -> int:
    """How often the resolution doubles: as widths or depth say, else the default."""
    if widths is not None:
        if depth not in (None, len(widths) - 1) or len(widths) < 2:
            raise UsageError(
                "widths names every stage, one more than depth. "
                f"Received: widths={list(widths)}, depth={depth}"
            )
        depth = len(widths) - 1
    elif depth is None:
        depth = default_depth(spec)
    check_sides(spec, depth)
    return depth


# ------------------------------------------------------------------------ labels


def latents_input(latent_dim: int) -> Any:
    if latent_dim < 1:
        raise UsageError(f"latent_dim must be at least 1. Received: latent_dim={latent_dim}")
    return keras.Input((latent_dim,), name="latents")


def labels_input() -> Any:
    return keras.Input((), dtype="int32", name="labels")


def latents_and_label(latents, labels, spec: Spec, size: int, initializer: Any = "uniform"):
    """The latents joined with the label's embedding of that size."""
    embedded = layers.Embedding(
        spec.num_classes, size, embeddings_initializer=initializer, name="label_embedding"
    )(labels)
    return layers.Concatenate(name="latents_and_label")([latents, embedded])


def image_and_label(samples, labels, spec: Spec):
    """The image with one channel more, in which every class has learned a picture of its own."""
    height, across = spec.shape[:2]
    pixels = layers.Embedding(spec.num_classes, height * across, name="label_embedding")(labels)
    picture = layers.Reshape((height, across, 1), name="label_channel")(pixels)
    return layers.Concatenate(name="image_and_label")([samples, picture])


def projection(features, logits, labels, spec: Spec, spectral: bool = False):
    """The logits plus the inner product of the features and the label's embedding."""
    size = features.shape[-1]
    embedding: Any = layers.Embedding(spec.num_classes, size, name="label_embedding")
    if spectral:
        embedding = SpectralNormalization(embedding, name="label_embedding")
    agreement = layers.Dot(axes=1, dtype="float32", name="projection")(
        [features, embedding(labels)]
    )
    return layers.Add(dtype="float32", name="logits_of_label")([logits, agreement])


# ------------------------------------------------------------------------ normalization


def normalized(x, norm: str, name: str, labels=None, num_classes: int = 0):
    """One of NORMS; with labels, scale and shift of batch normalization are those of the class."""
    if norm == "batch" and labels is not None:
        return ConditionalBatchNormalization(num_classes, name=name)([x, labels])
    if norm == "batch":
        # Over the whole batch, where it is divided among devices.
        several = tf.distribute.get_strategy().num_replicas_in_sync > 1
        return layers.BatchNormalization(momentum=0.9, synchronized=several, name=name)(x)
    if norm == "layer":  # over height, width and channels of each sample
        return GroupNormalization(groups=1, name=name)(x)
    return x


def check_norm(norm: str, by_class: bool = False) -> None:
    """Refuses an unknown norm, and one that cannot be that of the class."""
    check_one_of("norm", norm, NORMS)
    if by_class and norm != "batch":
        raise UsageError(
            'conditioning="batch_norm" needs norm="batch", whose scale and shift it takes from '
            f'the class; or take conditioning="concatenation". Received: norm={norm!r}'
        )


def base_of(spec: Spec, depth: int, channels: int) -> tuple[int, int, int]:
    """Shape at the smallest resolution."""
    return spec.shape[0] // 2**depth, spec.shape[1] // 2**depth, channels


def area(shape: tuple) -> int:
    return math.prod(shape[:2])
