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

from keras_gan import Field, Spec, UsageError, __version__, latents
from serving.inputs import Input, Port
from serving.manifest import (
    FILE_NAME,
    OPTIONAL_FIELDS,
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
MAX_SIZES = 5  # tested values of the named sizes
_PACKAGES = ("tensorflow", "keras", "tf2onnx", "onnx", "numpy")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Description of a bundle; `manifest.json` is this class as JSON.

    Args:
        name: name of the model, also the folder's name in `saved_model/`.
        role: what the network does: `"generator"`, `"translator"`, `"classifier"`, `"policy"`,
            `"reward"` or another word.
        inputs: every input of `model.onnx` and `serving_default`, with the way it is filled.
        outputs: every output; the first one is what `generate` returns and files show.
        files: `sha256` and `bytes` of each file, by its path in the bundle.
        parity: largest difference to Keras that was measured, by runtime and batch size; under
            `sizes`, the tested values of the named sizes, under `picture_sizes` further ones of a
            network that translates pictures; under `precisions`, the measurements of the model in
            each other precision.
        training: the caller's description of the training: recipe, examples seen, metrics.
        license: license of the weights, `None` if the caller named none.
        intended_use: intended use of the model in the caller's words, or `None`.
        software: version of each package that took part.
        seeds: name of the map from seeds to random inputs, defined in `docs/seeds.md`.
        notice: statement that the samples are generated.
        created: time of the export, ISO 8601 in UTC.
        translation: measured facts of a network that translates pictures of any size, see
            `export.translation`; `None` for any other, whose `manifest.json` lacks the key.
        audio: facts of a vocoder, see `export.vocoder`; `None` and lacking for any other.
        video: facts of a generator of videos of any number of frames, see `export.endless`; `None`
            and lacking for any other.
        environment: spaces of observations and actions of a policy or a reward, see
            `serving.environments`; `None` and lacking for any other.
        text: facts of a sampler of texts, see `export.text`; `None` and lacking for any other.
        schema_version: version of this schema.
    """

    name: str
    role: str
    inputs: tuple[Input, ...]
    outputs: tuple[Port, ...]
    files: dict[str, dict[str, Any]]
    parity: dict[str, Any]
    training: dict[str, Any] | None
    license: str | None
    software: dict[str, str]
    intended_use: str | None = None
    seeds: str = SEEDS
    notice: str = NOTICE
    created: str = ""
    translation: dict[str, Any] | None = None
    audio: dict[str, Any] | None = None
    video: dict[str, Any] | None = None
    environment: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
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
        fields["inputs"] = tuple(map(Input.from_json, content["inputs"]))
        fields["outputs"] = tuple(map(Port.from_json, content["outputs"]))
        manifest = cls(**fields)
        manifest.validate()
        return manifest

    def validate(self) -> None:
        """Checks every field, and that the fields agree with each other.

        Raises:
            UsageError: a field is invalid, or contradicts another one.
        """
        check_fields(self._as_json(), RULES)
        names = [port.name for port in (*self.inputs, *self.outputs)]
        if len(set(names)) != len(names):
            raise UsageError(
                f"The inputs and outputs in {FILE_NAME} must have different names. "
                f"Received: {', '.join(names):.200}"
            )
        self._check_sizes()

    @property
    def first(self) -> Port:
        """The output that `generate` returns and files show."""
        return self.outputs[0]

    @property
    def classes(self) -> Input | None:
        """The input of classes, `None` for a network without one."""
        return next((port for port in self.inputs if port.fill == "class"), None)

    @property
    def class_names(self) -> list[str]:
        """Name of each class of the input of classes; empty if they have none."""
        return list(self.classes.meta.get("class_names") or ()) if self.classes else []

    @property
    def sizes(self) -> list[dict[str, int]]:
        """Tested values of the named sizes: one empty dict where all sizes are fixed."""
        return (self.parity.get("sizes") or [{}]) + self.parity.get("picture_sizes", [])

    def spec(self) -> Spec:
        """Describes the first output, and the classes, as the spec of a data set does."""
        fields = {"samples": Field(self.first.kind, self.first.sizes, "", self.first.meta)}
        if self.classes is not None:
            known = {"num_classes", "class_names"} & self.classes.meta.keys()
            fields["labels"] = Field("label", (), "", {n: self.classes.meta[n] for n in known})
        return Spec(fields=fields)

    def worst_parity(self) -> dict[str, float]:
        """Returns the largest difference to Keras of each runtime over all batch sizes."""
        figures = self.parity.get("figures", {})
        return {runtime: max(by_batch.values()) for runtime, by_batch in figures.items()}

    def save(self, bundle: str | Path) -> None:
        """Writes the manifest into the bundle's folder."""
        fields = self._as_json()
        content = json.dumps(fields | {"digest": digest(fields)}, indent=2, allow_nan=False)
        (Path(bundle) / FILE_NAME).write_text(content + "\n", encoding="utf-8")

    def _as_json(self) -> dict[str, Any]:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for group in ("inputs", "outputs"):
            fields[group] = [port.to_json() for port in fields[group]]
        return {k: v for k, v in fields.items() if v is not None or k not in OPTIONAL_FIELDS}

    def _check_sizes(self) -> None:
        """Checks that every named size has its tested values."""
        named = {n for p in (*self.inputs, *self.outputs) for n in p.shape if isinstance(n, str)}
        lists = [self.parity.get(key) or [] for key in ("sizes", "picture_sizes")]
        tested = self.sizes if all(isinstance(each, list) for each in lists) else []
        fits = bool(tested) and all(
            isinstance(each, dict)
            and each.keys() == named
            and all(type(n) is int and 0 < n < 2**16 for n in each.values())
            for each in tested
        )
        if not fits or len(tested) > MAX_SIZES:
            raise UsageError(
                f"`parity` in {FILE_NAME} must have tested values of the named sizes. "
                f"Received: sizes={tested!r:.100}"
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
