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
    BatchNormalization,
    ConditionalBatchNormalization,
    GroupNormalization,
    SpectralNormalization,
    check_count,
    is_whole,
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


def check_widths(widths: Any) -> list[int]:
    is_list = isinstance(widths, Sequence) and not isinstance(widths, str)
    if not is_list or not widths or not all(is_whole(w) for w in widths):
        received = list(widths) if isinstance(widths, tuple) else widths
        raise UsageError(
            f"widths must be a list of whole numbers from 1 up. Received: widths={received!r}"
        )
    return [int(w) for w in widths]


def check_width(width: Any, widths: Any) -> None:
    """Refuses a width that is none, and one beside the widths that it would give."""
    if width is None:
        return
    check_count("width", width)
    if widths is not None:
        raise UsageError(
            "width and widths both say how wide the stages are: set one of them to null. "
            f"Received: width={width}, widths={list(check_widths(widths))}"
        )


def check_label_option(name: str, value: Any, conditional: bool) -> None:
    """Refuses an option of labels where there are none."""
    if value is not None and not conditional:
        raise UsageError(
            f"{name} is how labels come in, and this network receives none (its `condition`). "
            f"Received: {name}={value!r}"
        )


def check_sides(spec: Spec, depth: int) -> None:
    """Refuses sides that cannot be halved `depth` times."""
    check_count("depth", depth)
    height, across = spec.shape[:2]
    if height % 2**depth or across % 2**depth:
        raise UsageError(
            f"Both sides of an image must divide by {2**depth} at depth={depth}. "
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
        widths = check_widths(widths)
        if depth not in (None, len(widths) - 1) or len(widths) < 2:
            raise UsageError(
                "widths names every stage, one more than depth. "
                f"Received: widths={widths}, depth={depth}"
            )
        depth = len(widths) - 1
    elif depth is None:
        depth = default_depth(spec)
    check_sides(spec, depth)
    return depth


def doubling(width: int, depth: int, widest: int) -> list[int]:
    """Widths from the smallest resolution to the full one: twice as wide at each halving."""
    return [min(width * 2**i, widest) for i in reversed(range(depth + 1))]


def stage_widths(
    spec: Spec,
    width: int | None,
    widths: Sequence[int] | None,
    depth: int | None,
    widest: int,
) -> list[int]:
    """Channels of every stage from the smallest resolution to the full one, 32 by default.

    Raises:
        UsageError: the sides do not divide by `2**depth`, or width, widths and depth disagree.
    """
    check_width(width, widths)
    depth = depth_of(widths, depth, spec)
    if widths is not None:
        return check_widths(widths)
    return doubling(32 if width is None else width, depth, widest)


# ------------------------------------------------------------------------ labels


def latents_input(latent_dim: int) -> Any:
    check_count("latent_dim", latent_dim)
    return keras.Input((latent_dim,), name="latents")


def labels_input() -> Any:
    return keras.Input((), dtype="int32", name="labels")


def latents_and_label(latents, labels, spec: Spec, size: int, initializer: Any = "uniform"):
    """The latents joined with the label's embedding of that size."""
    embedded = label_embedding(spec, size, initializer)(labels)
    return layers.Concatenate(dtype="float32", name="latents_and_label")([latents, embedded])


def label_embedding(spec: Spec, size: int, initializer: Any = "uniform") -> Any:
    # float32 whatever the policy: a gradient adds up over all samples of a class.
    return layers.Embedding(
        spec.num_classes,
        size,
        embeddings_initializer=initializer,
        dtype="float32",
        name="label_embedding",
    )


def image_and_label(samples, labels, spec: Spec):
    """The image with one channel more, in which every class has learned a picture of its own."""
    height, across = spec.shape[:2]
    pixels = label_embedding(spec, height * across)(labels)
    picture = layers.Reshape((height, across, 1), name="label_channel")(pixels)
    return layers.Concatenate(name="image_and_label")([samples, picture])


def projection(
    features, logits, labels, spec: Spec, spectral: bool = False, initializer: Any = "uniform"
):
    """The logits plus the inner product of the features and the label's embedding."""
    embedding = label_embedding(spec, features.shape[-1], initializer)
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
        return BatchNormalization(momentum=0.9, synchronized=several, name=name)(x)
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
