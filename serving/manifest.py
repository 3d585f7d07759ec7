"""The manifest of a bundle: strict JSON reader, digest, and one rule for each field."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import re
import stat
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from serving.environments import find_wrong_environment, find_wrong_environment_ports
from serving.errors import UsageError
from serving.port_rules import (
    Wrong,
    find_wrong_audio,
    find_wrong_audio_ports,
    find_wrong_input,
    find_wrong_output,
    find_wrong_text,
    find_wrong_text_ports,
    find_wrong_translated_ports,
    find_wrong_translation,
    is_line,
    is_number,
)
from serving.strict_json import parse_object
from serving.video_rules import find_wrong_video, find_wrong_video_ports

FILE_NAME = "manifest.json"
SCHEMA_VERSION = 2
MODEL, DATA = "model.onnx", "model.onnx.data"  # DATA holds the weights of a model beyond 2 GB
PRECISIONS = {"float32": MODEL, "float16": "model.fp16.onnx", "int8": "model.int8.onnx"}
SEEDS = "threefry2x32-20/box-muller/1"

_MAX_BYTES = 16 * 2**20  # of manifest.json
_MAX_DEPTH = 64


class Rule(NamedTuple):
    """The rule for one field of a manifest.

    Args:
        is_valid: checks the value as JSON gives it.
        text: the rule as it completes "must be ...".
        find: returns what breaks the rule within the value, for fields of several entries.
    """

    is_valid: Callable[[Any], bool]
    text: str
    find: Callable[[Any], Wrong | None] | None = None


def read_manifest(bundle: Path, fields: Collection[str] = ()) -> dict[str, Any]:
    """Reads the manifest of the bundle in a folder and checks it.

    A bundle may come from a stranger, so nothing in its manifest is trusted.

    Args:
        bundle: folder of the bundle.
        fields: names of `RULES` to check; by default `SAMPLING_FIELDS`.

    Returns:
        The content of `manifest.json`.

    Raises:
        UsageError: the manifest is not readable or not strict JSON, its schema is unknown, a
            field is missing or invalid, `model.onnx` is not listed, or the digest does not match.
    """
    path = bundle / FILE_NAME
    try:
        manifest = read_json(path)
    except OSError as error:
        raise UsageError(
            f"A bundle is a folder with a {FILE_NAME}. Received: {str(bundle)!r} "
            f"({error.strerror or error})"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{FILE_NAME} must be JSON. Received: {str(path)!r} ({error})") from error
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if type(version) is not int or version != SCHEMA_VERSION:
        raise UsageError(
            f"This version reads bundles of schema_version {SCHEMA_VERSION}. "
            f"Received: schema_version={version!r:.80} in {str(path)!r}"
        )
    check_fields(manifest, fields or SAMPLING_FIELDS, f" in {str(path)!r}")
    if MODEL not in manifest["files"]:
        raise UsageError(
            f"`files` in {FILE_NAME} must list {MODEL}. "
            f"Received: files={manifest['files']!r:.80} in {str(path)!r}"
        )
    _check_facts(manifest, set(fields or SAMPLING_FIELDS), f" in {str(path)!r}")
    if manifest.get("digest") != digest(manifest):
        raise UsageError(
            f"{FILE_NAME} must have the digest of its own content; it is damaged or was changed. "
            f"Received: digest={manifest.get('digest')!r:.80} in {str(path)!r}"
        )
    return manifest


def _check_facts(manifest: Mapping[str, Any], fields: set[str], where: str) -> None:
    """Checks that measured facts fit the inputs and outputs, where all of these are checked."""
    for name, find in (
        ("translation", find_wrong_translated_ports),
        ("audio", find_wrong_audio_ports),
        ("video", find_wrong_video_ports),
        ("environment", find_wrong_environment_ports),
        ("text", find_wrong_text_ports),
    ):
        if {name, "inputs", "outputs"} <= fields and (wrong := find(manifest)) is not None:
            raise UsageError(
                f"`{wrong.key}` in {FILE_NAME} must be {wrong.rule}. "
                f"Received: {wrong.key}={wrong.value!r:.80}{where}"
            )


def check_fields(manifest: Mapping[str, Any], fields: Collection[str], where: str = "") -> None:
    """Checks fields of a manifest against their rules.

    Args:
        manifest: content of a `manifest.json`, as JSON gives it.
        fields: names of `RULES` to check.
        where: text that ends an error, such as the path of the file.

    Raises:
        UsageError: a field is missing or invalid; the first in the order of `fields` is named.
    """
    if missing := sorted(set(fields) - manifest.keys() - OPTIONAL_FIELDS):
        raise UsageError(
            f"{FILE_NAME} must have all its fields. "
            f"Received: a manifest without {', '.join(missing)}{where}"
        )
    for field in fields:
        if field not in manifest:
            continue
        rule, value = RULES[field], manifest[field]
        if not rule.is_valid(value):
            wrong = rule.find(value) if rule.find is not None else None
            key, text, received = wrong or (field, rule.text, value)
            raise UsageError(
                f"`{key}` in {FILE_NAME} must be {text}. Received: {key}={received!r:.80}{where}"
            )


def digest(manifest: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of a manifest: of its JSON without `digest`, keys sorted, in ASCII."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def is_plain_file(path: Path) -> bool:
    """Returns True for a regular file, False for a link, a folder or a device.

    Raises:
        OSError: the path does not exist or may not be examined.
    """
    return stat.S_ISREG(path.lstat().st_mode)


# ------------------------------------------------------------------------ strict JSON


def read_json(path: Path) -> Any:
    """Reads strict JSON from a regular file.

    Python's own reader takes the last of two equal keys, NaN and infinity, and any depth.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: the file is a link, too large, not UTF-8, or not strict JSON.
        RecursionError: the nesting is too deep for Python's own reader.
    """
    if not is_plain_file(path):
        raise ValueError("a link, not a regular file")
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise ValueError(f"{size} bytes")
    content = json.loads(
        path.read_text(encoding="utf-8"),
        object_pairs_hook=parse_object,
        parse_constant=_parse_number,
        parse_float=_parse_number,
    )
    level = [content]
    for _ in range(_MAX_DEPTH):
        level = [x for item in level if isinstance(item, dict | list) for x in _children(item)]
        if not level:
            return content
    raise ValueError(f"nested more than {_MAX_DEPTH} deep")


def _children(value: dict | list) -> Any:
    return value.values() if isinstance(value, dict) else value


def _parse_number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the number {text[:20]}")
    return number


# ------------------------------------------------------------------------ rules of fields


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}", value))


def _is_role(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[a-z][a-z_]{0,39}", value))


def _is_outputs(value: Any) -> bool:
    return find_wrong_output(value) is None


def _is_inputs(value: Any) -> bool:
    return find_wrong_input(value) is None


def _is_translation(value: Any) -> bool:
    return find_wrong_translation(value) is None


def _is_audio(value: Any) -> bool:
    return find_wrong_audio(value) is None


def _is_video(value: Any) -> bool:
    return find_wrong_video(value) is None


def _is_environment(value: Any) -> bool:
    return find_wrong_environment(value) is None


def _is_text(value: Any) -> bool:
    return find_wrong_text(value) is None


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
    """Checks that a path stays in the bundle."""
    parts = PurePosixPath(path)
    plain = path not in ("", FILE_NAME) and is_line(path) and parts.as_posix() == path
    return plain and not parts.is_absolute() and ".." not in parts.parts and "\\" not in path


def _is_parity(value: Any) -> bool:
    figures = value.get("figures", {}) if isinstance(value, dict) else None
    return (
        isinstance(figures, dict)
        and is_number(value.get("tolerance", 0))
        and all(is_line(name) and _is_by_batch(found) for name, found in figures.items())
        and _is_precisions(value.get("precisions", {}))
    )


def _is_by_batch(value: Any) -> bool:
    return isinstance(value, dict) and len(value) > 0 and all(map(is_number, value.values()))


def _is_precisions(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= PRECISIONS.keys() - {"float32"}
        and all(
            isinstance(record, dict)
            and _is_by_batch(record.get("max"))
            and _is_by_batch(record.get("rms"))
            for record in value.values()
        )
    )


def _is_text_or_null(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_object_or_null(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _is_software(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(version, str) for version in value.values())


def _is_time(value: Any) -> bool:
    try:
        return value == "" or datetime.datetime.fromisoformat(value) is not None
    except (TypeError, ValueError):
        return False


RULES: dict[str, Rule] = {
    "name": Rule(_is_name, "1 to 200 letters, digits, '_', '-' and '.'"),
    "role": Rule(_is_role, "a word of small letters, such as generator"),
    "inputs": Rule(_is_inputs, "a list of inputs", find_wrong_input),
    "outputs": Rule(_is_outputs, "a list of outputs", find_wrong_output),
    "files": Rule(_is_files, "an object of paths in the bundle, each with sha256 and bytes"),
    "parity": Rule(_is_parity, "an object with figures by runtime and batch size"),
    "training": Rule(_is_object_or_null, "an object or null"),
    "license": Rule(_is_text_or_null, "text or null"),
    "intended_use": Rule(_is_text_or_null, "text or null"),
    "software": Rule(_is_software, "an object of versions by package"),
    "seeds": Rule(lambda value: value == SEEDS, f"{SEEDS!r}, the map that this version knows"),
    "notice": Rule(lambda value: isinstance(value, str), "text"),
    "created": Rule(_is_time, "a time in ISO 8601"),
    "translation": Rule(_is_translation, "an object of measured facts", find_wrong_translation),
    "audio": Rule(_is_audio, "an object of facts about a vocoder", find_wrong_audio),
    "video": Rule(_is_video, "an object of facts about a generator of video", find_wrong_video),
    "environment": Rule(_is_environment, "an object of spaces", find_wrong_environment),
    "text": Rule(_is_text, "an object of facts about a sampler of texts", find_wrong_text),
}
# Fields that only some networks have.
OPTIONAL_FIELDS = frozenset({"translation", "audio", "video", "environment", "text"})
# The fields that sampling needs; other readers of a bundle may leave out the rest.
SAMPLING_FIELDS = ("name", "role", "inputs", "outputs", "files", "seeds", *sorted(OPTIONAL_FIELDS))
