"""Common parts of the architectures: argument checks, resolutions, labels, normalization."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from keras_gan.arguments import check_integer, is_integer
from keras_gan.errors import UsageError
from keras_gan.layers import (
    BatchNormalization,
    ConditionalBatchNormalization,
    CosineDense,
    EqualizedDense,
    GroupNormalization,
    LatentCodes,
    LogSumExp,
    SpectralNormalization,
)
from keras_gan.spec import Field, Spec

NORMS = ("none", "batch", "layer")
AUXILIARY_CLASSES = ("real_and_fake", "embedding")  # beside true
EMBEDDING = 128  # length of the vectors in which samples of one class are close


# ------------------------------------------------------------------------ argument checks


def check_images(spec: Spec, family: str) -> None:
    if not spec.modality.has_pixels:
        raise UsageError(
            f"The architecture {family!r} is for images only (height, width, channels); mlp takes "
            f"samples of any kind. Received: kind={spec.kind!r}"
        )


def as_images(spec: Spec, family: str) -> Spec:
    """Returns the images that samples are to a network: their own, or those of spectrograms.

    `image_input` and `to_samples` convert from and to the samples.

    Args:
        spec: description of the samples, with or without labels.
        family: name of the architecture, for errors.

    Raises:
        UsageError: samples that are not images, and that no kind treats as such.
    """
    found = spec.modality.as_image(spec.shape, spec.samples.meta)
    if found is None or spec.modality.has_pixels:
        check_images(spec, family)
        return spec
    if None in spec.shape:
        raise UsageError(
            f"The architecture {family!r} needs samples of one size. Received: shape={spec.shape}"
        )
    return Spec(fields={**spec.fields, "samples": Field("image", found[0])})


def image_input(spec: Spec) -> tuple[Any, Any]:
    """Returns a discriminator's input `samples`, and the images that its layers see."""
    samples = keras.Input(spec.shape, name="samples")
    if spec.modality.has_pixels:
        return samples, samples
    x, (shape, (low, high)) = samples, _image_of(spec)
    # float32 under every policy: the values are up to a hundred times as exact as the rest.
    scale = 2.0 / (high - low)
    x = layers.Rescaling(scale, -1.0 - low * scale, dtype="float32", name="scale")(x)
    return samples, layers.Reshape(shape, name="image")(x)


def image_name(spec: Spec) -> str:
    """Returns the name of the layer that makes the images of a generator."""
    return "samples" if spec.modality.has_pixels else "image"


def to_samples(image, spec: Spec):
    """Returns a generator's samples from its images, with values in [-1, 1]."""
    if spec.modality.has_pixels:
        return image
    low, high = _image_of(spec)[1]
    x = layers.Reshape(spec.shape, dtype="float32", name="spectrogram")(image)
    scale = (high - low) / 2.0
    return layers.Rescaling(scale, low + scale, dtype="float32", name="samples")(x)


def _image_of(spec: Spec) -> Any:
    return spec.modality.as_image(spec.shape, spec.samples.meta)


def check_one_of(name: str, value: Any, valid: Sequence[str]) -> None:
    if value not in valid:
        raise UsageError(f"`{name}` must be one of {', '.join(valid)}. Received: {name}={value!r}")


def check_widths(widths: Any) -> list[int]:
    """Returns `widths` as a list, or raises a `UsageError`."""
    is_list = isinstance(widths, Sequence) and not isinstance(widths, str)
    if not is_list or not widths or not all(is_integer(w) for w in widths):
        received = list(widths) if isinstance(widths, tuple) else widths
        raise UsageError(
            f"`widths` must be a list of integers of at least 1. Received: widths={received!r}"
        )
    return [int(w) for w in widths]


def check_width(width: Any, widths: Any) -> None:
    """Raises a `UsageError` if `width` is invalid, or if both `width` and `widths` are set."""
    if width is None:
        return
    check_integer("width", width)
    if widths is not None:
        raise UsageError(
            "`width` and `widths` both set the channels of the stages: set one of them to null. "
            f"Received: width={width}, widths={list(check_widths(widths))}"
        )


def check_label_option(name: str, value: Any, conditional: bool) -> None:
    """Raises a `UsageError` if an option for labels is set for a network without labels."""
    if value is not None and not conditional:
        raise UsageError(
            f"`{name}` is for networks that take labels, and this one does not (`condition`). "
            f"Received: {name}={value!r}"
        )


def choose_conditioning(
    conditioning: str | None, conditional: bool, valid: Sequence[str], default: str
) -> str:
    """Returns the conditioning, `default` if it is None.

    Raises:
        UsageError: it is set for a network without labels, or it is not one of `valid`.
    """
    check_label_option("conditioning", conditioning, conditional)
    conditioning = default if conditioning is None else conditioning
    check_one_of("conditioning", conditioning, valid)
    return conditioning


def check_norm(norm: str) -> None:
    check_one_of("norm", norm, NORMS)


def check_class_norm(norm: str) -> None:
    """Raises a `UsageError` unless `norm` can have a scale and shift for each class."""
    check_norm(norm)
    if norm != "batch":
        raise UsageError(
            'conditioning="batch_norm" needs norm="batch", because it sets the scale and shift of '
            'batch normalization by class; or use conditioning="concatenation". '
            f"Received: norm={norm!r}"
        )


def check_divisible(spec: Spec, option: str, exponent: int) -> None:
    """Raises a `UsageError` unless 2**exponent divides the images' height and width."""
    height, width = spec.shape[:2]
    if height % 2**exponent or width % 2**exponent:
        raise UsageError(
            f"Height and width of the images must be divisible by {2**exponent} at "
            f"{option}={exponent}. Received: {height} x {width} (resize images with --set "
            "data.size; spectrograms have the frames and mels of data.length and data.mel; or set "
            f"a smaller `{option}`)"
        )


# ------------------------------------------------------------------------ resolutions


def default_depth(spec: Spec) -> int:
    """Returns the number of halvings until height or width is below 8, at least 2."""
    height, width = spec.shape[:2]
    depth = 2
    while min(height, width) >> depth >= 8 and not (height | width) & (2 ** (depth + 1) - 1):
        depth += 1
    return depth


def choose_depth(widths: Sequence[int] | None, depth: int | None, spec: Spec) -> int:
    """Returns the number of resolution doublings: from `widths`, `depth`, or by default."""
    if widths is not None:
        widths = check_widths(widths)
        if depth not in (None, len(widths) - 1) or len(widths) < 2:
            raise UsageError(
                "`widths` must have one entry for each stage, which is `depth` + 1 and at least "
                f"2. Received: widths={widths}, depth={depth}"
            )
        depth = len(widths) - 1
    elif depth is None:
        depth = default_depth(spec)
    check_integer("depth", depth)
    check_divisible(spec, "depth", depth)
    return depth


def doubling_widths(width: int, depth: int, maximum: int) -> list[int]:
    """Returns channels from the lowest resolution to the full one, doubled with each halving."""
    return [min(width * 2**i, maximum) for i in reversed(range(depth + 1))]


def stage_widths(
    spec: Spec,
    width: int | None,
    widths: Sequence[int] | None,
    depth: int | None,
    maximum: int,
) -> list[int]:
    """Returns the channels of each stage from the lowest resolution to the full one.

    Args:
        spec: description of the images.
        width: channels at full resolution, 32 by default.
        widths: channels of each stage, or `None`.
        depth: number of resolution doublings, or `None`.
        maximum: upper limit of the channels that follow from `width`.

    Raises:
        UsageError: height or width is not divisible by 2**depth, or the options disagree.
    """
    check_width(width, widths)
    depth = choose_depth(widths, depth, spec)
    if widths is not None:
        return check_widths(widths)
    return doubling_widths(32 if width is None else width, depth, maximum)


def base_shape(spec: Spec, depth: int, channels: int) -> tuple[int, int, int]:
    """Returns the shape of the features at the lowest resolution."""
    return spec.shape[0] // 2**depth, spec.shape[1] // 2**depth, channels


def resized(spec: Spec, size: int) -> Spec:
    """Returns the description of square images of this size, otherwise the same."""
    field = Field("image", (size, size, spec.shape[-1]))
    return Spec(fields={**spec.fields, "samples": field})


def area(shape: tuple) -> int:
    return math.prod(shape[:2])


# ------------------------------------------------------------------------ labels


def latents_input(latent_dim: int) -> Any:
    check_integer("latent_dim", latent_dim)
    return keras.Input((latent_dim,), name="latents")


def labels_input() -> Any:
    return keras.Input((), dtype="int32", name="labels")


def latents_and_label(latents, labels, spec: Spec, size: int, initializer: Any = "uniform"):
    """Concatenates the latents and an embedding of the label of this size."""
    embedded = label_embedding(spec, size, initializer)(labels)
    return layers.Concatenate(dtype="float32", name="latents_and_label")([latents, embedded])


def label_embedding(spec: Spec, size: int, initializer: Any = "uniform") -> Any:
    # float32 under every policy, because the gradient is a sum over all samples of a class.
    return layers.Embedding(
        spec.num_classes,
        size,
        embeddings_initializer=initializer,
        dtype="float32",
        name="label_embedding",
    )


def image_and_label(samples, labels, spec: Spec):
    """Appends a channel to the image: a learned picture of the class."""
    height, width = spec.shape[:2]
    pixels = label_embedding(spec, height * width)(labels)
    picture = layers.Reshape((height, width, 1), name="label_channel")(pixels)
    return layers.Concatenate(name="image_and_label")([samples, picture])


def projection(
    features, logits, labels, spec: Spec, spectral: bool = False, initializer: Any = "uniform"
):
    """Adds the inner product of the features and the label's embedding to the logits."""
    embedding = label_embedding(spec, features.shape[-1], initializer)
    if spectral:
        embedding = SpectralNormalization(embedding, name="label_embedding")
    agreement = layers.Dot(axes=1, dtype="float32", name="projection")(
        [features, embedding(labels)]
    )
    return layers.Add(dtype="float32", name="logits_of_label")([logits, agreement])


def outputs_with_classes(features, logits, spec: Spec, auxiliary_classes: bool | str) -> Any:
    """Returns the logits; with auxiliary classes, outputs by name from the same features.

    True adds `classes`, logits over the classes `(batch, num_classes)`, for the terms
    `auxiliary_classifier` and `real_classes`. "real_and_fake" adds `fake_classes` beside it, the
    same of generated samples, for `two_classifiers` and `discriminative_classifier`. "embedding"
    adds `embedding`, vectors of length 1, `(batch, EMBEDDING)`, and `similarities`, their cosines
    with a vector for each class, `(batch, num_classes)`, for `data_to_data`.

    Args:
        features: vectors, `(batch, units)`.
        logits: the output `logits`.
        spec: data, of which the number of classes is read.
        auxiliary_classes: False, True or one of AUXILIARY_CLASSES.

    Raises:
        UsageError: data without classes, or another value.
    """
    if auxiliary_classes is False:
        return logits
    if auxiliary_classes is not True and auxiliary_classes not in AUXILIARY_CLASSES:
        raise UsageError(
            f"`auxiliary_classes` must be one of true, false, {', '.join(AUXILIARY_CLASSES)}. "
            f"Received: auxiliary_classes={auxiliary_classes!r}"
        )
    if not spec.num_classes:
        raise UsageError(
            "`auxiliary_classes` needs data with labels. Received: "
            f"auxiliary_classes={auxiliary_classes!r}, data without classes"
        )
    # float32 under every policy, like the logits.
    options: dict[str, Any] = {"dtype": "float32"}
    if auxiliary_classes == "embedding":
        x = layers.Dense(EMBEDDING, name="embedding_features", **options)(features)
        x = layers.UnitNormalization(name="embedding", **options)(x)
        similarities = CosineDense(spec.num_classes, name="similarities", **options)(x)
        return {"logits": logits, "embedding": x, "similarities": similarities}
    names = ["classes", *(["fake_classes"] if auxiliary_classes == "real_and_fake" else [])]
    heads = {name: layers.Dense(spec.num_classes, name=name, **options) for name in names}
    return {"logits": logits} | {name: head(features) for name, head in heads.items()}


# ------------------------------------------------------------------------ codes


def with_codes(latents, codes: Mapping[str, Any] | None):
    """Turns the first latents into codes; without codes, returns the latents."""
    if codes is None:
        return latents
    layer = _codes_layer(codes)
    layer.check_latents(latents.shape[-1])
    return layer(latents)


def outputs_with_codes(features, outputs: Any, codes: Mapping[str, Any] | None) -> Any:
    """Returns a discriminator's outputs; with codes, also its predictions `codes` of them.

    The predictions are logits over the categories of each categorical code, and the mean of each
    continuous code, `(batch, width)`, from a hidden layer as in the paper. Its layers are
    equalized: at the rate of the convolutions, a step of plain layers changes the predictions by
    more than the codes' range, and they are never learned.
    """
    if codes is None:
        return outputs
    width = _codes_layer(codes).width
    x = EqualizedDense(128, name="codes_hidden")(features)
    x = layers.LeakyReLU(0.2, name="codes_activation")(x)
    predicted = EqualizedDense(width, dtype="float32", name="codes")(x)
    named = outputs if isinstance(outputs, dict) else {"logits": outputs}
    return named | {"codes": predicted}


def _codes_layer(codes: Any) -> LatentCodes:
    """Returns the layer of an option `codes`.

    Raises:
        UsageError: not a dictionary of `categorical` and `continuous`, or a number out of range.
    """
    if not isinstance(codes, Mapping) or not codes.keys() <= {"categorical", "continuous"}:
        raise UsageError(
            "`codes` must be a dictionary of categorical and continuous, such as "
            f"{{categorical: [10], continuous: 2}}. Received: codes={codes!r}"
        )
    return LatentCodes(**codes, name="latent_codes")


def check_classes_as_logits(
    chosen: bool, spec: Spec, conditional: bool = False, **others: Any
) -> None:
    """Raises a `UsageError` if `classes_as_logits` is chosen and cannot be used.

    Args:
        chosen: the option.
        spec: data, of which the number of classes is read.
        conditional: whether the discriminator is given labels.
        **others: options for further outputs, which it cannot have.
    """
    if not chosen:
        return
    if not spec.num_classes:
        raise UsageError(
            "`classes_as_logits` needs data with labels. Received: classes_as_logits=True, data "
            "without classes"
        )
    received = [f"{name}={value}" for name, value in others.items() if value]
    received += ["condition=[labels]"] if conditional else []
    if received:
        raise UsageError(
            "`classes_as_logits` is for a discriminator that is given no labels and has no other "
            f"classes or codes. Received: classes_as_logits=True, {received[0]}"
        )


def classes_as_logits(features, spec: Spec, dense: Any = None) -> dict[str, Any]:
    """Returns the outputs of a discriminator of K + 1 classes, of which the last has the logit 0.

    Args:
        features: the last features, `(batch, channels)`.
        spec: description of the data, whose K classes they are.
        dense: layer of K units named `classes`; by default a plain one.

    Returns:
        `classes`, logits of the K classes, `(batch, K)`; `logits`, their log(sum exp),
        `(batch, 1)`; `features`.
    """
    layer = dense or layers.Dense(spec.num_classes, dtype="float32", name="classes")
    classes = layer(features)
    return {"logits": LogSumExp(name="logits")(classes), "classes": classes, "features": features}


# ------------------------------------------------------------------------ normalization


def normalize(x, norm: str, name: str, labels=None, num_classes: int = 0):
    """Applies one of NORMS; with labels, batch normalization is class-conditional."""
    if norm == "batch" and labels is not None:
        return ConditionalBatchNormalization(num_classes, name=name)([x, labels])
    if norm == "batch":
        # Statistics of the global batch, if it is divided among devices.
        several = tf.distribute.get_strategy().num_replicas_in_sync > 1
        return BatchNormalization(momentum=0.9, synchronized=several, name=name)(x)
    if norm == "layer":  # over height, width and channels of each sample
        return GroupNormalization(groups=1, name=name)(x)
    return x
