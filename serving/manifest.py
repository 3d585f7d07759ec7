"""Reads the manifest of a bundle, which may come from a stranger."""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving.errors import UsageError

SCHEMA_VERSION = 1
KINDS = {"image": 3, "points": 1, "audio": 2, "series": 2, "video": 4, "array": None}  # ranks
MODEL, DATA = "model.onnx", "model.onnx.data"  # the weights of a model beyond 2 GB are outside it
PRECISIONS = {"float32": MODEL, "float16": "model.fp16.onnx", "int8": "model.int8.onnx"}
SEEDS = "threefry2x32-20/box-muller/1"
_OPTIONAL = (DATA, *(file for file in PRECISIONS.values() if file != MODEL))
_MAX_BYTES = 16 * 2**20
_MAX_DEPTH = 64


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads `manifest.json` of the bundle in a folder and checks what sampling needs of it.

    Raises:
        UsageError: no strict JSON, an unknown schema, a field that is missing or does not fit,
            a content that its digest does not fit.
    """
    path = folder / "manifest.json"
    try:
        manifest = _read_json(path)
    except OSError as error:
        raise UsageError(f"A manifest must be readable. Received: {error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"A manifest must be JSON. Received: {str(path)!r} ({error})") from error
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if type(version) is not int or version != SCHEMA_VERSION:
        raise UsageError(
            f"This version reads bundles of schema_version {SCHEMA_VERSION}. "
            f"Received: {str(path)!r} with schema_version={version!r:.80}"
        )
    for field, fits in _FIELDS.items():
        value = manifest.get(field)
        if field not in manifest or not fits(value):
            rule = "The classes of a manifest must have count and names"
            rule = rule if field == "classes" else f"A manifest must have {field}"
            raise UsageError(f"{rule}. Received: {str(path)!r} with {field}={value!r:.80}")
    if manifest.get("seeds") != SEEDS:
        raise UsageError(
            f"This version knows the seeds {SEEDS!r}. "
            f"Received: {str(path)!r} with seeds={manifest.get('seeds')!r:.80}"
        )
    if manifest.get("digest") != _digest(manifest):
        raise UsageError(
            "A manifest must have the digest of its own content; it is damaged or was changed. "
            f"Received: {str(path)!r} with digest={manifest.get('digest')!r:.80}"
        )
    return manifest


def is_plain_file(path: Path) -> bool:
    """Says whether a path is a file and neither a link nor a device.

    Raises:
        OSError: there is nothing, or nothing that may be seen.
    """
    return stat.S_ISREG(path.lstat().st_mode)


def _read_json(path: Path) -> Any:
    """Python's own reader takes the last of two equal keys, NaN and infinity, and any depth."""
    if not is_plain_file(path):
        raise ValueError("a link or no plain file")
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise ValueError(f"{size} bytes")
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


def _digest(manifest: dict[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}", value))


def _is_shape(value: Any) -> bool:
    sizes = isinstance(value, list) and all(type(size) is int and size > 0 for size in value)
    return sizes and 0 < len(value) < 8 and math.prod(value) < 2**31


def _is_range(value: Any) -> bool:
    if value is None:
        return True
    numbers = isinstance(value, list) and len(value) == 2
    numbers = numbers and all(type(x) in (int, float) and -1e300 < x < 1e300 for x in value)
    return numbers and value[0] < value[1]


def _is_classes(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    count, names = value.get("count"), value.get("names")
    return (
        type(count) is int
        and 0 <= count < 2**31
        and isinstance(names, list)
        and len(names) in (0, count)
        and all(isinstance(name, str) and name.isprintable() for name in names)
    )


def _is_inputs(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) < 100 and all(map(_is_port, value))


def _is_port(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and isinstance(value.get("dtype"), str)
        and isinstance(value.get("shape"), list)
    )


def _is_files(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    read = [value.get(MODEL), *(value[name] for name in _OPTIONAL if name in value)]
    return all(map(_is_file, read))


def _is_file(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("sha256"), str)
        and bool(re.fullmatch("[0-9a-f]{64}", value["sha256"]))
        and type(value.get("bytes")) is int
    )


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "name": _is_name,
    "kind": lambda value: isinstance(value, str) and value in KINDS,
    "shape": _is_shape,
    "value_range": _is_range,
    "latent_dim": lambda value: type(value) is int and 0 < value < 2**24,
    "classes": _is_classes,
    "inputs": _is_inputs,
    "files": _is_files,
}
