"""Fields and picture of a `/v1/translate` request: from the query, a form, or a file as body."""

from __future__ import annotations

from typing import Any

from serving import multipart, uploads
from serving.errors import UsageError, short_repr
from serving.generate.fields import FIELDS as GENERATE_FIELDS
from serving.generate.fields import from_query, from_text, repeated_field, unknown_field
from serving.http_types import HTTPError, Request

FORM = "multipart/form-data"
MIN_TILE = 32  # pixels; smaller tiles would be mostly margin
# Media types of the pictures that are sent, for the OpenAPI document; the content decides.
UPLOADS = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/tiff")
# Media types of the pictures that are sent back, by format. The first one is the default.
FORMATS = {name: media_type.encode() for name, media_type in uploads.MEDIA_TYPES.items()}
# JSON schema by field name. The OpenAPI document is generated from these.
FIELDS: dict[str, dict[str, Any]] = {
    "model": {"type": "string", "description": "Optional if the server has one translator."},
    "version": GENERATE_FIELDS["version"],
    "format": {
        "type": "string",
        "enum": list(FORMATS),
        "description": "Format of the answer. Default: by the header Accept, else png.",
    },
    "tile": {
        "type": "integer",
        "anyOf": [{"const": 0}, {"minimum": MIN_TILE}],
        "maximum": 2**14,
        "description": "Height and width of the tiles in which a large picture is translated, in "
        "pixels of the input; 0 for the whole picture. The answer is the same. Default: chosen by "
        "the size of the picture.",
    },
    "timeout": GENERATE_FIELDS["timeout"],
}
_ANY = "application/octet-stream"  # names no format; the content does
_MAX_TEXT = 1024  # bytes of a field that is not a file


def read(request: Request) -> tuple[bytes, dict[str, Any]]:
    """Returns the picture of a request, as it was sent, and its fields.

    Raises:
        UsageError: an unknown or repeated field, or a form without exactly one file.
        HTTPError: 415 for a media type that is neither a picture nor a form.
    """
    fields = from_query(request.query, FIELDS)
    media_type = request.media_type
    if media_type == FORM:
        return _read_form(request, fields), fields
    if not media_type.startswith("image/") and media_type != _ANY:
        raise HTTPError(
            415,
            f"The body must be a picture (image/png, image/jpeg, image/webp) or {FORM}. "
            f"Received: content-type={short_repr(request.content_type)}",
        )
    return request.body, fields


def _read_form(request: Request, fields: dict[str, Any]) -> bytes:
    """Returns the file of a form, and adds its other parts to the fields."""
    files: list[multipart.Part] = []
    for part in multipart.parse(request.content_type, request.body):
        if part.file_name is not None:
            files.append(part)
        elif part.name not in FIELDS:
            raise unknown_field(part.name, FIELDS)
        elif part.name in fields:
            raise repeated_field(part.name)
        else:
            fields[part.name] = _value_of(part)
    if len(files) != 1:
        raise UsageError(
            f"A form must have one file, which is the picture. Received: {len(files)} files"
        )
    return files[0].content


def _value_of(part: multipart.Part) -> Any:
    try:
        text = part.content[: _MAX_TEXT + 1].decode("utf-8")
    except UnicodeDecodeError:
        text = "\0" * (_MAX_TEXT + 1)
    if len(text) > _MAX_TEXT:
        raise UsageError(
            f"`{part.name}` must be UTF-8 of at most {_MAX_TEXT} bytes. "
            f"Received: {short_repr(part.content[:80])}"
        )
    return from_text(part.name, text)


def preferred_format(accept: bytes | None) -> str:
    """Returns the format that a header Accept weighs most; `"png"` for none or equal weights.

    Args:
        accept: value of the header, `None` without one.
    """
    if not accept:
        return next(iter(FORMATS))
    weights: dict[str, float] = {}
    for entry in accept.decode("latin-1").lower().split(","):
        media_type, *parameters = (part.strip() for part in entry.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        weights[media_type] = weight
    rest = weights.get("image/*", weights.get("*/*", 0.0))
    return max(FORMATS, key=lambda name: weights.get(FORMATS[name].decode(), rest))
