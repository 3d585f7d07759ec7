"""The manifest of a bundle: what it holds, where it comes from, and how well it was checked."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from keras_gan import Spec, UsageError, __version__, latents

SCHEMA_VERSION = 1
FILE_NAME = "manifest.json"
SEEDS = latents.ALGORITHM
PRECISIONS = {"float16": "model.fp16.onnx", "int8": "model.int8.onnx"}  # beside model.onnx
NOTICE = (
    "Generated content: every sample is made by a generative model, none is a recording of "
    "anything real. Say so where you publish samples."
)

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_MAX_BYTES = 16 * 2**20  # of the manifest itself
_MAX_DEPTH = 64
_MAX_VALUES = 2**31  # of a sample
# Of inputs and outputs, by the names that numpy, TensorFlow and ONNX share.
_DTYPES = ["bool", "float16", "float32", "float64"]
_DTYPES += [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_PACKAGES = ("tensorflow", "keras", "tf2onnx", "onnx", "numpy")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Describes a bundle; `manifest.json` is this class as JSON.

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
            `precisions`, what is known of the model in each other precision.
        training: what the caller tells of the training: recipe, images seen, metrics.
        license: license of the weights, `None` if the caller named none.
        intended_use: what the model is for, in the words of the caller, or `None`.
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
    license: str | None
    software: dict[str, str]
    intended_use: str | None = None
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
            content = _read_json(path)
        except OSError as error:
            raise UsageError(
                f"A bundle is a folder with a {FILE_NAME}. Received: {str(bundle)!r} "
                f"({error.strerror or error})"
            ) from error
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{FILE_NAME} must be JSON. Received: {str(path)!r} ({error})"
            ) from error
        manifest = cls.from_json(content)
        if content.get("digest") != digest(content):
            raise UsageError(
                f"{FILE_NAME} must have the digest of its own content; it is damaged or was "
                f"changed. Received: {str(path)!r} with digest={content.get('digest')!r:.80}"
            )
        return manifest

    @classmethod
    def from_json(cls, content: Any) -> Manifest:
        """Builds a manifest from the content of its file, checking every field."""
        version = content.get("schema_version") if isinstance(content, dict) else None
        if type(version) is not int or version != SCHEMA_VERSION:
            raise UsageError(
                f"This version reads bundles of schema_version {SCHEMA_VERSION}. "
                f"Received: schema_version={version!r:.80}"
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
        self._check_ports()

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
        fields = dataclasses.asdict(self)
        content = json.dumps(fields | {"digest": digest(fields)}, indent=2, allow_nan=False)
        (Path(bundle) / FILE_NAME).write_text(content + "\n", encoding="utf-8")

    def _check_ports(self) -> None:
        """Refuses inputs and outputs that contradict the fields which say the same."""
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
                    f"{FILE_NAME} must have inputs and outputs that fit its other fields. "
                    f"Received: {field}={getattr(self, field)!r:.100}"
                )

    def _rules(self) -> dict[str, bool]:
        return {
            "name": isinstance(self.name, str) and MODEL_NAME.fullmatch(self.name) is not None,
            "kind": _is_text(self.kind),
            "shape": _is_shape(self.shape),
            "value_range": self.value_range is None or _is_range(self.value_range),
            "latent_dim": type(self.latent_dim) is int and 0 < self.latent_dim < 2**24,
            "classes": _is_classes(self.classes),
            "inputs": _is_ports(self.inputs),
            "outputs": _is_ports(self.outputs),
            "files": _is_files(self.files),
            "parity": _is_parity(self.parity),
            "training": self.training is None or isinstance(self.training, dict),
            "license": self.license is None or isinstance(self.license, str),
            "intended_use": self.intended_use is None or isinstance(self.intended_use, str),
            "software": isinstance(self.software, dict)
            and all(isinstance(version, str) for version in self.software.values()),
            "seeds": self.seeds == SEEDS,
            "notice": isinstance(self.notice, str),
            "created": _is_time(self.created),
        }


def digest(content: dict[str, Any]) -> str:
    """Gives the SHA-256 of a manifest: its JSON without `digest`, sorted by key, in ASCII."""
    rest = {key: value for key, value in content.items() if key != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def describe_files(bundle: Path) -> dict[str, dict[str, Any]]:
    """Gives size and SHA-256 of every file of a bundle except its manifest."""
    return {
        path: {"sha256": sha256(bundle / path), "bytes": (bundle / path).stat().st_size}
        for path in list_files(bundle)
    }


def list_files(bundle: Path) -> list[str]:
    """Lists the files of a bundle except its manifest, as sorted POSIX paths."""
    return sorted(name for name, plain in walk(bundle) if plain and name != FILE_NAME)


def walk(bundle: Path) -> Iterator[tuple[str, bool]]:
    """Gives the path of everything in a bundle but folders, and whether it is a plain file.

    Links are not followed: they may lead out of the bundle.
    """
    for folder, folders, files in os.walk(bundle):
        here = Path(folder)
        for name in files:
            mode = (here / name).lstat().st_mode
            yield (here / name).relative_to(bundle).as_posix(), stat.S_ISREG(mode)
        for name in folders:
            if (here / name).is_symlink():
                yield (here / name).relative_to(bundle).as_posix(), False


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


def _read_json(path: Path) -> Any:
    """Reads JSON as strictly as a stranger's file must be read.

    Python's own reader takes the last of two equal keys, NaN and infinity, and any depth.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("a link or no plain file")
    if status.st_size > _MAX_BYTES:
        raise ValueError(f"{status.st_size} bytes")
    content = json.loads(
        path.read_text(encoding="utf-8"),
        object_pairs_hook=_object,
        parse_constant=_number,
        parse_float=_number,
    )
    level = [content]
    for _ in range(_MAX_DEPTH):
        level = [x for item in level if isinstance(item, dict | list) for x in _items(item)]
        if not level:
            return content
    raise ValueError(f"nested more than {_MAX_DEPTH} deep")


def _items(value: dict | list) -> Any:
    return value.values() if isinstance(value, dict) else value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key that is there twice")
    return found


def _number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the number {text[:20]}")
    return number


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -1e300 < value < 1e300


def _is_text(value: Any) -> bool:
    """Says whether something can be shown in one line of a terminal, whoever wrote it."""
    return isinstance(value, str) and value.isprintable() and len(value) <= 500


def _is_shape(value: Any) -> bool:
    sizes = isinstance(value, tuple) and all(type(n) is int and n > 0 for n in value)
    return sizes and 0 < len(value) < 8 and math.prod(value) < _MAX_VALUES


def _is_range(value: Any) -> bool:
    numbers = isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value))
    return numbers and value[0] < value[1]


def _is_classes(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and type(value.get("count")) is int
        and 0 <= value["count"] < 2**31
        and isinstance(value.get("names"), list)
        and all(map(_is_text, value["names"]))
    )


def _is_ports(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) < 100 and all(map(_is_port, value))


def _is_port(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and re.fullmatch(r"\w{1,200}", value["name"]) is not None
        and value.get("dtype") in _DTYPES
        and isinstance(value.get("shape"), list)
        and value["shape"][:1] == ["batch"]
        and all(type(size) is int and size > 0 for size in value["shape"][1:])
        and len(value["shape"]) < 16
    )


def _is_files(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(map(_is_inside, value))
        and all(map(_is_file, value.values()))
    )


def _is_file(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("sha256"), str)
        and re.fullmatch("[0-9a-f]{64}", value["sha256"]) is not None
        and type(value.get("bytes")) is int
        and value["bytes"] >= 0
    )


def _is_inside(path: str) -> bool:
    """Says whether a path stays in the bundle: a manifest may come from a stranger."""
    parts = PurePosixPath(path)
    plain = path not in ("", FILE_NAME) and _is_text(path) and parts.as_posix() == path
    return plain and not parts.is_absolute() and ".." not in parts.parts and "\\" not in path


def _is_parity(value: Any) -> bool:
    figures = value.get("figures", {}) if isinstance(value, dict) else None
    return (
        isinstance(figures, dict)
        and _is_number(value.get("tolerance", 0))
        and all(_is_text(name) and _is_by_batch(found) for name, found in figures.items())
        and _is_precisions(value.get("precisions", {}))
    )


def _is_by_batch(value: Any) -> bool:
    return isinstance(value, dict) and len(value) > 0 and all(map(_is_number, value.values()))


def _is_precisions(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= PRECISIONS.keys()
        and all(
            isinstance(record, dict)
            and _is_by_batch(record.get("max"))
            and _is_by_batch(record.get("rms"))
            for record in value.values()
        )
    )


def _is_time(value: Any) -> bool:
    try:
        return value == "" or datetime.datetime.fromisoformat(value) is not None
    except (TypeError, ValueError):
        return False
