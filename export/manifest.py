"""The manifest of a bundle as it is exported and verified: contents, origin, measured parity."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import math
import platform
from pathlib import Path
from typing import Any

import numpy as np

from keras_gan import Spec, UsageError, __version__, latents
from serving.manifest import (
    FILE_NAME,
    PRECISIONS,
    RULES,
    SCHEMA_VERSION,
    check_fields,
    digest,
    read_manifest,
)

SEEDS = latents.ALGORITHM
# Files of the models in other precisions, beside model.onnx.
REDUCED_PRECISIONS = {name: file for name, file in PRECISIONS.items() if name != "float32"}
NOTICE = (
    "Generated content: every sample is made by a generative model, none is a recording of "
    "anything real. Say so where you publish samples."
)
_PACKAGES = ("tensorflow", "keras", "tf2onnx", "onnx", "numpy")
_TUPLES = ("shape", "value_range")  # fields that JSON holds as lists


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Description of a bundle; `manifest.json` is this class as JSON.

    Args:
        name: name of the model, also the folder's name in `saved_model/`.
        kind: `"image"`, `"points"`, `"audio"`, `"series"`, `"video"` or `"array"`.
        shape: shape of one sample.
        value_range: smallest and largest value of a sample, `None` where unbounded.
        latent_dim: length of a latent vector.
        classes: `{"count": n, "names": [...]}`; count 0 for a generator without labels.
        inputs: name, dtype and shape of each input of `model.onnx` and `serving_default`.
        outputs: the same of each output, `samples` first.
        files: `sha256` and `bytes` of each file, by its path in the bundle.
        parity: largest difference to Keras that was measured, by runtime and batch size; under
            `precisions`, the measurements of the model in each other precision.
        training: the caller's description of the training: recipe, examples seen, metrics.
        license: license of the weights, `None` if the caller named none.
        intended_use: intended use of the model in the caller's words, or `None`.
        software: version of each package that took part.
        seeds: name of the map from seeds to latents, defined in `docs/seeds.md`.
        notice: statement that the samples are generated.
        created: time of the export, ISO 8601 in UTC.
        schema_version: version of this schema.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    value_range: tuple[float, float] | None
    latent_dim: int
    classes: dict[str, Any]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    files: dict[str, dict[str, Any]]
    parity: dict[str, Any]
    training: dict[str, Any] | None
    license: str | None
    software: dict[str, str]
    intended_use: str | None = None
    seeds: str = SEEDS
    notice: str = NOTICE
    created: str = ""
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def load(cls, bundle: str | Path) -> Manifest:
        """Reads and checks the manifest of the bundle in a folder.

        Raises:
            UsageError: the manifest is not readable, its schema version is unknown, a field is
                missing or invalid, or the digest does not match.
        """
        content = read_manifest(Path(bundle), RULES)
        known = {field.name for field in dataclasses.fields(cls)}
        fields = {key: value for key, value in content.items() if key in known}
        for key in _TUPLES:
            if isinstance(fields[key], list):
                fields[key] = tuple(fields[key])
        manifest = cls(**fields)
        manifest.validate()
        return manifest

    def validate(self) -> None:
        """Checks every field, and that the fields agree with each other.

        Raises:
            UsageError: a field is invalid, or contradicts the inputs and outputs.
        """
        check_fields(self._as_json(), RULES)
        self.spec()
        self._check_ports()

    def spec(self) -> Spec:
        """Describes the samples as the spec of a data set does."""
        return Spec(
            kind=self.kind,  # type: ignore[arg-type]
            shape=self.shape,
            value_range=self.value_range,
            num_classes=self.classes["count"],
            class_names=tuple(self.classes["names"]),
        )

    def worst_parity(self) -> dict[str, float]:
        """Returns the largest difference to Keras of each runtime over all batch sizes."""
        figures = self.parity.get("figures", {})
        return {runtime: max(by_batch.values()) for runtime, by_batch in figures.items()}

    def save(self, bundle: str | Path) -> None:
        """Writes the manifest into the bundle's folder."""
        fields = dataclasses.asdict(self)
        content = json.dumps(fields | {"digest": digest(fields)}, indent=2, allow_nan=False)
        (Path(bundle) / FILE_NAME).write_text(content + "\n", encoding="utf-8")

    def _as_json(self) -> dict[str, Any]:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for key in _TUPLES:
            if isinstance(fields[key], tuple):
                fields[key] = list(fields[key])
        return fields

    def _check_ports(self) -> None:
        """Checks the inputs and outputs against the fields that repeat them."""
        shapes = {port["name"]: port["shape"][1:] for port in (*self.inputs, *self.outputs)}
        count = self.classes["count"]
        for field, fits in (
            ("latent_dim", shapes.get("latents") == [self.latent_dim]),
            ("shape", shapes.get("samples") == list(self.shape)),
            ("classes", shapes.get("labels") == ([] if count else None)),
            ("inputs", len(shapes | {"seeds": []}) == len(self.inputs) + len(self.outputs) + 1),
        ):
            if not fits:
                raise UsageError(
                    f"The inputs and outputs in {FILE_NAME} must agree with its other fields. "
                    f"Received: {field}={getattr(self, field)!r:.100}"
                )


def software_versions() -> dict[str, str]:
    """Returns the version of everything that shaped the bundle, by package."""
    versions = {"python": platform.python_version(), "keras_gan": __version__}
    versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
    import onnxruntime  # the distribution's name depends on the platform, the module's does not

    return versions | {"onnxruntime": onnxruntime.__version__}


def plain_json(value: Any) -> Any:
    """Converts numpy's numbers to Python's, and NaN and infinity, which JSON lacks, to null."""
    if isinstance(value, dict):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def utc_now() -> str:
    """Returns the current time as the manifest holds it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
