"""The generator and the manifest of a bundle before any file is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

import numpy as np
import tensorflow as tf

from export.generator import Generator, open_generator
from export.manifest import Manifest, plain_json, software_versions, utc_now
from keras_gan import Spec, UsageError
from serving.manifest import RULES

_KINDS_BY_RANK = {1: "points", 2: "series", 3: "image", 4: "video"}


class Description(TypedDict, total=False):
    """The caller's description of a model.

    Args:
        kind: a kind of `keras_gan.Spec`; by default derived from the output's shape: points,
            series, image (1, 3 or 4 channels), video, else array.
        name: name of the model for servers; by default the model's own.
        num_classes: number of classes of a conditional generator; a GAN has its own.
        class_names: name of each class, in the order of the ids.
        value_range: smallest and largest value of a sample; `(-1, 1)` by default for images
            and video.
        average: of a GAN, export the averaged generator; default True.
        training: anything JSON can hold about the training, kept in the manifest.
        license: license of the weights, kept in the manifest and the model card.
        intended_use: what the model is for, kept there too.
    """

    kind: str | None
    name: str | None
    num_classes: int | None
    class_names: Sequence[str]
    value_range: tuple[float, float] | None
    average: bool
    training: dict[str, Any] | None
    license: str | None
    intended_use: str | None


def open_draft(model: Any, **description: Unpack[Description]) -> tuple[Generator, Manifest]:
    """Returns the generator of a model and its manifest, without files.

    Args:
        model: a `keras_gan.GAN` or a built Keras generator.
        description: fields of `Description`.

    Raises:
        UsageError: a model that cannot be exported, or a description that does not fit it.
    """
    given_classes = description.get("num_classes")
    class_names = description.get("class_names", ())
    known = given_classes or int(getattr(model, "num_classes", 0) or 0) or len(class_names)
    average = description.get("average", True)
    generator = open_generator(model, average=average, num_classes=known)
    num_classes = _num_classes(model, generator, given_classes, class_names)
    shape = generator.sample_shape
    kind = description.get("kind") or _kind_of(shape)
    value_range = _value_range(kind, description.get("value_range"))
    spec = Spec(kind, shape, value_range, num_classes, tuple(class_names))  # type: ignore[arg-type]
    draft = Manifest(
        name=_checked_name(description.get("name") or generator.model.name),
        kind=spec.kind,
        shape=spec.shape,
        value_range=spec.value_range,
        latent_dim=generator.latent_dim,
        classes={"count": spec.num_classes, "names": list(spec.class_names)},
        inputs=[_describe_port(port) for port in generator.input_specs()],
        outputs=[_describe_port(port) for port in generator.output_specs],
        files={},
        parity={},
        training=_checked_training(description.get("training")),
        license=description.get("license"),
        intended_use=description.get("intended_use"),
        software=software_versions(),
        created=utc_now(),
    )
    return generator, draft


def _kind_of(shape: tuple[int, ...]) -> str:
    kind = _KINDS_BY_RANK.get(len(shape), "array")
    return "array" if kind == "image" and shape[-1] not in (1, 3, 4) else kind


def _value_range(kind: str, value_range: tuple[float, float] | None) -> tuple[float, float] | None:
    if value_range is None:
        return (-1.0, 1.0) if kind in ("image", "video") else None
    low, high = float(value_range[0]), float(value_range[1])
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise UsageError(
            "value_range must be the smallest and the largest value of a sample. "
            f"Received: value_range={value_range!r}"
        )
    return low, high


def _num_classes(
    model: Any, generator: Generator, num_classes: int | None, class_names: Sequence[str]
) -> int:
    own = int(getattr(model, "num_classes", 0) or 0) or generator.num_classes
    num_classes = num_classes or own or len(class_names)
    if own and num_classes != own:
        raise UsageError(
            f"num_classes must be the model's own, {own}. Received: num_classes={num_classes}"
        )
    if generator.conditional and num_classes < 1:
        raise UsageError(
            "A generator with a labels input needs num_classes. "
            f"Received: num_classes={num_classes!r}"
        )
    if not generator.conditional and num_classes:
        raise UsageError(
            "num_classes and class_names are for a generator with a labels input. "
            f"Received: {num_classes} classes, model {generator.model.name!r} without labels"
        )
    return num_classes


def _checked_name(name: str) -> str:
    if not RULES["name"].is_valid(name):
        raise UsageError(
            "name must be of letters, digits, '_', '-' and '.', as it names a folder and a model "
            f"on a server. Received: name={name!r}"
        )
    return name


def _checked_training(training: dict[str, Any] | None) -> dict[str, Any] | None:
    try:
        return training and json.loads(json.dumps(plain_json(training), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"training must be serializable as JSON. Received: {error}") from error


def _describe_port(spec: tf.TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "dtype": spec.dtype.name,
        "shape": ["batch", *tuple(spec.shape)[1:]],
    }
