"""Description of a model on a server."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from serving.bundle import Bundle
from serving.client.arguments import SampleRequest
from serving.errors import UsageError


@dataclasses.dataclass(frozen=True)
class RemoteModel:
    """Description of a model on a server; `None` where the server does not say.

    Args:
        name: of the model.
        version: the one described.
        versions: all that the server has.
        kind: of the samples, as `"image"`.
        shape: of a sample.
        value_range: smallest and largest value of a sample.
        latent_dim: length of a latent vector.
        class_count: number of classes; 0 for an unconditional generator.
        class_names: their names, if they have any.
        sha256: of the bundle's `model.onnx`.
        inputs: names and ranks.
        signatures: of a SavedModel.
        binary: the server takes and returns binary tensors.
    """

    name: str
    version: int | None = None
    versions: tuple[int, ...] = ()
    kind: str | None = None
    shape: tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None
    latent_dim: int | None = None
    class_count: int | None = None
    class_names: tuple[str, ...] = ()
    sha256: str | None = None
    inputs: tuple[tuple[str, int], ...] = ()
    signatures: tuple[str, ...] = ()
    binary: bool = False

    def with_manifest(self, manifest: dict[str, Any] | None) -> RemoteModel:
        """Returns the description completed from a bundle's manifest."""
        if manifest is None:
            return self
        if self.shape and self.shape != tuple(manifest["shape"]):
            raise UsageError(
                "`bundle` must be the bundle that the server serves. Received: a bundle of shape "
                f"{tuple(manifest['shape'])} and a model of shape {self.shape}"
            )
        return dataclasses.replace(
            self,
            kind=manifest["kind"],
            shape=tuple(manifest["shape"]),
            value_range=to_range(manifest["value_range"]),
            latent_dim=manifest["latent_dim"],
            class_count=manifest["classes"]["count"],
            class_names=tuple(manifest["classes"]["names"]),
            sha256=self.sha256 or manifest["files"]["model.onnx"]["sha256"],
        )

    def public(self) -> dict[str, Any]:
        """Returns the entry of `Client.models()`, with the keys of `keras-gan serve`."""
        classes = {"count": self.class_count, "names": list(self.class_names)}
        return {
            "name": self.name,
            "version": self.version,
            "versions": list(self.versions),
            "kind": self.kind,
            "shape": None if self.shape is None else list(self.shape),
            "value_range": None if self.value_range is None else list(self.value_range),
            "latent_dim": self.latent_dim,
            "classes": None if self.class_count is None else classes,
            "sha256": self.sha256,
        }


class RemoteClasses(Bundle):
    """The classes of a model on a server; labels are resolved as for a bundle on disk."""

    def __init__(self, model: RemoteModel):
        self.name = model.name
        self.num_classes = model.class_count or 0
        self.class_names = model.class_names


def to_range(limits: Any) -> tuple[float, float] | None:
    """Returns a value range as two floats."""
    return None if limits is None else (float(limits[0]), float(limits[1]))


def from_shapes(
    name: str,
    inputs: dict[str, list[int]],
    outputs: dict[str, list[int]],
    versions: tuple[int, ...],
    parameters: dict[str, Any],
) -> RemoteModel:
    """Describes a model by the shapes of its inputs and outputs.

    Args:
        name: of the model.
        inputs: shapes by name, -1 for a free dimension.
        outputs: likewise.
        versions: that the server has, in ascending order; the last is described.
        parameters: of the server's configuration: `kind`, `value_range`, `classes`.

    Raises:
        ValueError: the model is not a generator.
    """
    if "latents" not in inputs or "samples" not in outputs:
        raise ValueError(f"inputs {sorted(inputs)} and outputs {sorted(outputs)}")
    shape, latents = tuple(outputs["samples"][1:]), inputs["latents"][1:]
    classes: Any = {"count": 0} if "labels" not in inputs else parameters.get("classes") or {}
    return RemoteModel(
        name=name,
        version=versions[-1] if versions else None,
        versions=versions,
        kind=parameters.get("kind") or _guess_kind(shape),
        shape=shape if all(size > 0 for size in shape) else None,
        value_range=to_range(parameters.get("value_range")),
        latent_dim=latents[0] if len(latents) == 1 and latents[0] > 0 else None,
        class_count=classes.get("count"),
        class_names=tuple(classes.get("names") or ()),
        inputs=tuple((key, len(value)) for key, value in inputs.items()),
    )


def _guess_kind(shape: tuple[int, ...]) -> str:
    if len(shape) == 3 and shape[-1] in (1, 3, 4):
        return "image"
    return "points" if len(shape) == 1 else "array"


def label_inputs(model: RemoteModel, request: SampleRequest) -> dict[str, np.ndarray]:
    """Returns the `labels` input of a request, empty for an unconditional generator.

    Other servers have no default for an input, so that the client must send the labels.

    Raises:
        UsageError: labels of a model that takes none, or that only the bundle could resolve.
    """
    if "labels" not in dict(model.inputs):
        if request.labels is not None:
            raise UsageError(
                f"Model {model.name!r} takes no labels. Received: labels={request.labels!r:.80}"
            )
        return {}
    seeds = request.label_seeds()
    known = RemoteClasses(model)
    if known.num_classes:
        ids = known.label_ids(seeds, request.labels)
    elif request.labels is None:
        raise UsageError(
            "This server does not report the number of classes: pass `labels`, or the bundle that "
            "it serves as Client(..., bundle=FOLDER). Received: labels=None for "
            f"{model.name!r}"
        )
    else:
        labels = request.labels
        several = labels if isinstance(labels, list) else [labels] * len(seeds)
        try:
            ids = np.array([int(label) for label in several], np.int64)
        except (ValueError, TypeError) as error:
            raise UsageError(
                "This server does not report the names of classes: labels must be ids. "
                f"Received: labels={request.labels!r:.80}"
            ) from error
    return {} if ids is None else {"labels": ids}
