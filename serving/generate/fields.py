"""Fields of `/v1/generate`: their JSON schemas, and their text form in a query string."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qsl

from serving.animations import MAX_RATE
from serving.checks import MAX_SEED
from serving.errors import UsageError, short_repr
from serving.interpolation import EASINGS
from serving.labels import TextLabel
from serving.lists import parse_list
from serving.nearest_names import nearest
from serving.patterns import MAX_PATTERN
from serving.texts import MAX_LENGTH, MAX_TEMPERATURE
from serving.video_rules import MAX_FRAMES

_SEED: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": MAX_SEED}
_LABEL: dict[str, Any] = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}
# JSON schema by field name. The OpenAPI document is generated from these.
FIELDS: dict[str, dict[str, Any]] = {
    "model": {"type": "string", "description": "Optional if the server has one model."},
    "version": {"type": "integer", "minimum": 0, "description": "Default: the newest."},
    "seeds": {
        "type": "array",
        "items": _SEED,
        "minItems": 1,
        "description": "One sample for each. Not needed for a model without random inputs.",
    },
    "seed": _SEED | {"description": "Seed of the first sample; the next ones count up. Default 0."},
    "count": {
        "type": "integer",
        "minimum": 1,
        "description": "Number of samples. Default 1, or that of the given inputs.",
    },
    "interpolate": {
        "type": "array",
        "items": _SEED,
        "minItems": 2,
        "description": "Walks from seed to seed on the sphere, in equal time from each to the "
        "next: count samples, ends included.",
    },
    "loop": {
        "type": "boolean",
        "description": "With interpolate: returns to the first seed, and ends one step before it. "
        "Default false.",
    },
    "easing": {
        "type": "string",
        "enum": list(EASINGS),
        "description": "With interpolate: linear moves at equal speed, smooth slows down at every "
        "seed. Default linear.",
    },
    "around": _SEED | {"description": "Samples near this one, each in the direction of a seed."},
    "radius": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "Distance from the center: sqrt(1-r^2) of the center plus r of the seed. "
        "Default 0.3.",
    },
    "labels": {
        "anyOf": [*_LABEL["anyOf"], {"type": "array", "items": _LABEL}],
        "description": "Class ids or names, one for all or one for each; for interpolate also one "
        "for each of its seeds. Default: seed modulo classes; that of the first seed or of the "
        "center for interpolate and around.",
    },
    "frames": {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_FRAMES,
        "description": "Frames of one video of any length, of the seed `seed`, for a model with "
        "`video` in /v1/models. With stream they are sent as they are made. Its format is one of "
        "`video.formats` or, with stream, `video.streamed`.",
    },
    "inputs": {
        "type": "object",
        "additionalProperties": {},
        "description": "Values of inputs by name, as nested lists: one sample, or one for each "
        "seed. Files can be sent as the body, or as parts of multipart/form-data.",
    },
    "truncation": {
        "type": "number",
        "minimum": 0,
        "maximum": 100,
        "description": "Factor on the latents, or the input of this name; below 1 more typical, "
        "less varied. Default 1.",
    },
    "temperature": {
        "type": "number",
        "minimum": 0,
        "maximum": MAX_TEMPERATURE,
        "description": "Of a model of texts: factor of the noise; 0 chooses the most probable "
        "tokens. Default 1.",
    },
    "prefix": {"type": "string", "description": "Of a model of texts: their beginning."},
    "pattern": {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_PATTERN,
        "description": "Of a model of texts: regular expression that the whole texts match.",
    },
    "vocabulary": {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "description": "Of a model of texts: the only tokens after the prefix. Default: all.",
    },
    "length": {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_LENGTH,
        "description": "Of a model of texts: most tokens of a text. Default: that of the model.",
    },
    "format": {
        "type": "string",
        "description": "A file format of the model's kind, or npy, npz, json, grid: `formats` of "
        "the model in /v1/models. Default: the first file format; grid for points; npy for others.",
    },
    "frame_rate": {
        "type": "number",
        "minimum": 1,
        "maximum": MAX_RATE,
        "description": "Frames/s of one animation of all samples. Its format is one of "
        "`animations.formats` of the model in /v1/models, by default the first.",
    },
    "columns": {"type": "integer", "minimum": 1, "description": "Columns of a grid."},
    "metadata": {
        "type": "boolean",
        "description": "Writes the model and the seed into the files. Default true.",
    },
    "stream": {
        "type": "boolean",
        "description": "Sends samples as they are generated, and a text as server-sent events, "
        "one for each token. Default false.",
    },
    "timeout": {
        "type": "number",
        "minimum": 0.01,
        "maximum": 86_400,
        "description": "Seconds until the request is abandoned. Default: the server's.",
    },
}
_LISTS = {"seeds": int, "interpolate": int, "labels": TextLabel, "vocabulary": str}
_INTEGERS = {
    *("version", "seed", "count", "around", "columns", "tile", "top", "chunk", "frames", "length"),
}
_NUMBERS = {"radius", "frame_rate", "truncation", "timeout", "temperature"}
_BOOLEANS = {"loop", "metadata", "stream", "resample"}


def from_query(query: bytes, known: Mapping[str, Any] = FIELDS) -> dict[str, Any]:
    """Parses the fields of a query string; lists are separated by commas.

    Args:
        query: raw query string.
        known: the fields that there are, by name.

    Raises:
        UsageError: a repeated or unknown field, or a value of the wrong type.
    """
    try:
        pairs = _parse_pairs(query.decode("ascii"))
    except ValueError as error:
        raise UsageError(f"The query must be name=value. Received: {query[:80]!r}") from error
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name not in known:
            raise unknown_field(name, known)
        if name in fields:
            raise repeated_field(name)
        fields[name] = from_text(name, value)
    return fields


def _parse_pairs(text: str) -> list[Any]:
    """Returns the names and values of a query string.

    Raises:
        ValueError: an entry without `=`, or bytes that are not UTF-8.
    """
    if "%" not in text and "+" not in text:  # takes a third of the time of parse_qsl
        pairs = [entry.split("=", 1) for entry in text.split("&")] if text else []
        if all([len(pair) == 2 for pair in pairs]):  # noqa: C419 - faster than a generator
            return pairs
    return parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict")


def from_text(name: str, value: str) -> Any:
    """Converts the text form of a field to its value.

    Raises:
        UsageError: a value of the wrong type.
    """
    try:
        if name in _LISTS:
            return [_LISTS[name](x) for x in parse_list(value)]
        if name in _INTEGERS:
            return int(value)
        if name in _NUMBERS:
            return float(value)
    except ValueError as error:
        kind = "a number" if name in _NUMBERS else "integers" if name in _LISTS else "an integer"
        raise UsageError(
            f"`{name}` must be {kind}. Received: {name}={short_repr(value)}"
        ) from error
    if name in _BOOLEANS:
        if value not in ("true", "false", "1", "0"):
            raise UsageError(
                f"`{name}` must be true or false. Received: {name}={short_repr(value)}"
            )
        return value in ("true", "1")
    return value


def repeated_field(name: str) -> UsageError:
    """Returns the error for a field that a request gives twice."""
    return UsageError(f"A field may be given once. Received: {short_repr(name)} twice")


def unknown_field(name: str, known: Collection[str] = FIELDS) -> UsageError:
    """Returns the error for an unknown field, with the nearest valid name of the known ones."""
    hint = nearest(name, known)
    return UsageError(f"A field must be a known one. Received: field={short_repr(name)}. {hint}")
