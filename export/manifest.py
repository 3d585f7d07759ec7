"""The manifest of a bundle: what it holds, where it comes from, and how well it was checked."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import math
import platform
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from keras_gan import Spec, UsageError, __version__, latents

SCHEMA_VERSION = 1
FILE_NAME = "manifest.json"
SEEDS = latents.ALGORITHM
NOTICE = (
    "Generated content: every sample is made by a generative model, none is a recording of "
    "anything real. Say so where you publish samples."
)

_PACKAGES = ("tensorflow", "keras", "tf2onnx", "onnx", "numpy")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Describes a bundle; `manifest.json` is this class as JSON.

    Args:
        name: name of the model, also the folder's name in `saved_model/`.
        kind: `"image"`, `"points"`, `"audio"`, `"sequence"`, `"video"` or `"array"`.
        shape: shape of one sample.
        value_range: smallest and largest value of a sample, `None` where unbounded.
        latent_dim: length of a latent vector.
        classes: `{"count": n, "names": [...]}`; count 0 for a generator without labels.
        inputs: name, dtype and shape of each input of `model.onnx` and `serving_default`.
        outputs: the same of each output, `samples` first.
        files: `sha256` and `bytes` of each file, by its path in the bundle.
        parity: largest difference to Keras that was measured, by runtime and batch size.
        training: what the caller tells of the training: recipe, images seen, metrics.
        licence: licence of the weights, `None` if the caller named none.
        software: version of each package that took part.
        seeds: name of the map from seeds to latents, defined in `docs/seeds.md`.
        notice: that the samples are generated.
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
    licence: str | None
    software: dict[str, str]
    seeds: str = SEEDS
    notice: str = NOTICE
    created: str = ""
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def load(cls, bundle: str | Path) -> Manifest:
        """Reads the manifest of the bundle in a folder.

        Raises:
            UsageError: no readable manifest, an unknown schema version, a field that is missing
                or does not fit.
        """
        path = Path(bundle) / FILE_NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(
                f"A bundle is a folder with a {FILE_NAME}. Received: {str(bundle)!r} "
                f"({error.strerror or error})"
            ) from error
        except ValueError as error:
            raise UsageError(
                f"{FILE_NAME} must be JSON. Received: {str(path)!r} ({error})"
            ) from error
        return cls.from_json(content)

    @classmethod
    def from_json(cls, content: Any) -> Manifest:
        """Builds a manifest from the content of its file, checking every field."""
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise UsageError(
                f"This version reads bundles of schema_version {SCHEMA_VERSION}. "
                f"Received: schema_version={version!r}"
            )
        known = {field.name for field in dataclasses.fields(cls)}
        if missing := sorted(known - content.keys()):
            raise UsageError(f"{FILE_NAME} must have all its fields. Missing: {', '.join(missing)}")
        fields = {key: value for key, value in content.items() if key in known}
        for key in ("shape", "value_range"):
            if isinstance(fields[key], list):
                fields[key] = tuple(fields[key])
        manifest = cls(**fields)
        manifest.validate()
        return manifest

    def validate(self) -> None:
        """Raises UsageError for the first field that does not fit the schema."""
        for field, ok in self._rules().items():
            if not ok:
                value = repr(getattr(self, field))[:100]
                raise UsageError(f"{FILE_NAME} has a damaged field. Received: {field}={value}")
        self.spec()

    def spec(self) -> Spec:
        """Describes the samples as a data set's spec would."""
        return Spec(
            kind=self.kind,  # type: ignore[arg-type]
            shape=self.shape,
            value_range=self.value_range,
            num_classes=self.classes["count"],
            class_names=tuple(self.classes["names"]),
        )

    def worst_parity(self) -> dict[str, float]:
        """Gives the largest difference to Keras of each runtime over all batch sizes."""
        figures = self.parity.get("figures", {})
        return {runtime: max(by_batch.values()) for runtime, by_batch in figures.items()}

    def save(self, bundle: str | Path) -> None:
        """Writes the manifest into the bundle's folder."""
        content = json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False)
        (Path(bundle) / FILE_NAME).write_text(content + "\n", encoding="utf-8")

    def _rules(self) -> dict[str, bool]:
        return {
            "name": isinstance(self.name, str) and self.name != "",
            "shape": isinstance(self.shape, tuple) and all(type(n) is int for n in self.shape),
            "value_range": self.value_range is None or _is_range(self.value_range),
            "latent_dim": type(self.latent_dim) is int and self.latent_dim > 0,
            "classes": _is_classes(self.classes),
            "inputs": _is_ports(self.inputs),
            "outputs": _is_ports(self.outputs),
            "files": _is_files(self.files),
            "parity": isinstance(self.parity, dict),
            "training": self.training is None or isinstance(self.training, dict),
            "software": isinstance(self.software, dict),
            "seeds": self.seeds == SEEDS,
        }


def describe_files(bundle: Path) -> dict[str, dict[str, Any]]:
    """Gives size and SHA-256 of every file of a bundle except its manifest."""
    return {
        path: {"sha256": sha256(bundle / path), "bytes": (bundle / path).stat().st_size}
        for path in list_files(bundle)
    }


def list_files(bundle: Path) -> list[str]:
    """Lists the files of a bundle except its manifest, as sorted POSIX paths."""
    paths = (path for path in bundle.rglob("*") if path.is_file())
    names = (path.relative_to(bundle).as_posix() for path in paths)
    return sorted(name for name in names if name != FILE_NAME)


def sha256(path: Path) -> str:
    """Hashes a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def software_versions() -> dict[str, str]:
    """Gives the version of everything that shaped the bundle."""
    versions = {"python": platform.python_version(), "keras_gan": __version__}
    versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
    import onnxruntime  # the distribution's name depends on the platform, the module's does not

    return versions | {"onnxruntime": onnxruntime.__version__}


def plain_json(value: Any) -> Any:
    """Turns numpy's numbers into Python's, and NaN and infinity, which JSON lacks, into null."""
    if isinstance(value, dict):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def utc_now() -> str:
    """Gives the time as the manifest writes it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _is_range(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(end, int | float) for end in value)
        and value[0] < value[1]
    )


def _is_classes(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and type(value.get("count")) is int
        and value["count"] >= 0
        and isinstance(value.get("names"), list)
        and all(isinstance(name, str) for name in value["names"])
    )


def _is_ports(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(
            isinstance(port, dict) and port.keys() >= {"name", "dtype", "shape"} for port in value
        )
    )


def _is_files(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(_is_inside(path) for path in value)
        and all(
            isinstance(file, dict) and {"sha256", "bytes"} <= file.keys() for file in value.values()
        )
    )


def _is_inside(path: str) -> bool:
    """Says whether a path stays in the bundle: a manifest may come from a stranger."""
    parts = PurePosixPath(path)
    return path != "" and not parts.is_absolute() and ".." not in parts.parts and "\\" not in path
