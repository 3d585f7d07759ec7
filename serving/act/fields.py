"""Fields of a `/v1/act` request, and the schema of its answer."""

from __future__ import annotations

from typing import Any

from serving.errors import UsageError, short_repr
from serving.generate.fields import FIELDS as GENERATE_FIELDS
from serving.generate.fields import unknown_field
from serving.http_types import Request

_NUMBERS: dict[str, Any] = {"type": "array", "items": {}, "minItems": 1}
# JSON schema by field name. The OpenAPI document is generated from these.
FIELDS: dict[str, dict[str, Any]] = {
    "observation": _NUMBERS
    | {
        "description": "Numbers of the shape of one observation, or with one more axis for "
        "several. Required."
    },
    "model": {"type": "string", "description": "Optional if the server has one policy."},
    "version": GENERATE_FIELDS["version"],
    "timeout": GENERATE_FIELDS["timeout"],
}
_ACTION = {"description": "The number of a discrete action, or a list of a continuous one."}
# JSON schema of the answer, which also has the other outputs by name, such as logits or mean.
ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["model", "version", "sha256", "action"],
    "properties": {
        "model": {"type": "string"},
        "version": {"type": "integer"},
        "sha256": {"type": "string"},
        "action": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {}}]} | _ACTION,
        "logits": {"type": "array", "items": {}},
        "mean": {"type": "array", "items": {}},
        "log_std": {"type": "array", "items": {}},
    },
}


def read_fields(request: Request) -> dict[str, Any]:
    """Returns the fields of a request's body; null counts as absent.

    Raises:
        UsageError: no object, an unknown field, or no observation.
        HTTPError: a body that is not JSON.
    """
    content = request.json()
    if type(content) is not dict:
        raise UsageError(f"The body must be an object. Received: {short_repr(content)}")
    for name in content:
        if name not in FIELDS:
            raise unknown_field(name, FIELDS)
    fields = {name: value for name, value in content.items() if value is not None}
    if "observation" not in fields:
        raise UsageError(
            "`observation` must be given. "
            f"Received: {', '.join(f'{name}' for name in fields) or 'no fields'}"
        )
    return fields
