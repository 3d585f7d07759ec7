"""Fields of a `/v1/translate` request."""

from __future__ import annotations

from typing import Any

from serving import uploads
from serving.generate.fields import FIELDS as GENERATE_FIELDS

MIN_TILE = 32  # pixels; smaller tiles would be mostly margin
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
    "seed": GENERATE_FIELDS["seed"]
    | {"description": "Seed of a model with random inputs, the same for all tiles. Default 0."},
    "timeout": GENERATE_FIELDS["timeout"],
}


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
