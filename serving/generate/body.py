"""Fields and files of a `/v1/generate` request: from the query, JSON, a form, or a file as body."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving import kinds, multipart
from serving.errors import UsageError, short_repr
from serving.generate.fields import FIELDS, from_query, from_text, repeated_field, unknown_field
from serving.http_types import TEXT, HTTPError, Request, parse_json
from serving.inputs import Inputs, Port, array_from_json, decode_given

FORM = "multipart/form-data"
_ANY = ("", "application/octet-stream")  # media types that name no format
_MAX_TEXT = 2**16  # bytes of a field that is not a file


def read_json(request: Request) -> dict[str, Any]:
    """Returns the fields of a JSON body, and those of the query.

    Raises:
        UsageError: not an object, or an unknown or repeated field.
    """
    fields = request.json()
    if type(fields) is not dict:
        raise HTTPError(400, f"The body must be an object. Received: a {type(fields).__name__}")
    if not fields.keys() <= FIELDS.keys():
        raise unknown_field(min(fields.keys() - FIELDS.keys()))
    if request.query:
        query = from_query(request.query)
        if repeated := fields.keys() & query.keys():
            raise repeated_field(min(repeated))
        fields |= query
    return fields


def is_file(app: Any, request: Request) -> bool:
    """Returns True if the body is a form or a file, by its media type.

    Raises:
        HTTPError: 415 for a media type that no kind of input has.
    """
    media_type = request.media_type
    if media_type == FORM:
        return True
    if request.is_json:
        return media_type == TEXT and _takes_text(app, request)
    if not any(kinds.get(name).format_of(media_type) for name in kinds.names()):
        raise HTTPError(
            415,
            f"The body must be application/json, {FORM}, or a file of the model's given input. "
            f"Received: content-type={short_repr(request.content_type)}",
        )
    return True


def _takes_text(app: Any, request: Request) -> bool:
    """Returns True if the one given input of the model that the query names is a text."""
    query = from_query(request.query)
    if "model" not in query and len(app.repository.newest) != 1:
        return False
    given = app.find(query.get("model"), query.get("version")).bundle.inputs.given
    return len(given) == 1 and kinds.get(given[0].kind).format_of(TEXT) is not None


class FormFields:
    """Fields and parts of a request whose body is a form or a file.

    Args:
        request: the request; other fields may be in its query.

    Raises:
        UsageError: a form that is not well-formed, an unknown or repeated field.
    """

    def __init__(self, request: Request):
        self.fields = from_query(request.query)
        self._parts: list[multipart.Part] = []
        self._named: dict[str, multipart.Part] = {}  # parts with the names of fields
        if request.media_type != FORM:
            self._body: multipart.Part | None = multipart.Part(
                "", request.body, None, request.content_type
            )
            return
        self._body = None
        for part in multipart.parse(request.content_type, request.body):
            if part.file_name is not None or part.name not in FIELDS:
                self._parts.append(part)
            elif part.name in self.fields:
                raise repeated_field(part.name)
            else:
                self.fields[part.name] = _value_of(part)
                self._named[part.name] = part

    def decode(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Returns the arrays `(1, ...)` of the files, by input; takes time for large ones.

        Raises:
            UsageError: a file that fits no input, or that its kind cannot read.
        """
        if self._body is not None:
            if len(inputs.given) != 1:
                names = ", ".join(port.name for port in inputs.given) or "none"
                raise UsageError(
                    "A body of one file needs a model with one given input. "
                    f"Received: {short_repr(self._body.media_type)} for the inputs {names}"
                )
            port = inputs.given[0]
            return {port.name: decode_given(port, self._body.content, self._body.media_type)}
        found = {}
        # An input of the model precedes a field of its name, such as `prefix`.
        for name in self._named.keys() & {port.name for port in inputs.given}:
            del self.fields[name]
            self._parts.append(self._named[name])
        for part in self._parts:
            port = inputs.by_name.get(part.name)
            if port is None:
                valid = ", ".join([*FIELDS, *inputs.by_name])
                raise UsageError(
                    f"A part of a form must be one of {valid}. Received: {short_repr(part.name)}"
                )
            found[part.name] = _decode(port, part)
        return found


def _decode(port: Port, part: multipart.Part) -> np.ndarray:
    if part.media_type.partition(";")[0].strip().lower() not in _ANY:
        return decode_given(port, part.content, part.media_type)
    if part.file_name is None:
        return array_from_json(port, _parse(part))
    form = kinds.get(port.kind).format_of_file(part.file_name)
    if form is None or form.decode is None:
        raise UsageError(
            f"A file of the input {port.name!r} must have a Content-Type or an ending of its kind, "
            f"{port.kind!r}. Received: {short_repr(part.file_name)}"
        )
    return decode_given(port, part.content, form.media_type)


def _value_of(part: multipart.Part) -> Any:
    if len(part.content) > _MAX_TEXT and part.name != "inputs":
        raise UsageError(
            f"A field must have at most {_MAX_TEXT} bytes. "
            f"Received: {short_repr(part.name)} of {len(part.content)} bytes"
        )
    if part.name == "inputs":
        return _parse(part)
    try:
        return from_text(part.name, part.content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UsageError(
            f"`{part.name}` must be UTF-8. Received: {short_repr(part.content)}"
        ) from error


def _parse(part: multipart.Part) -> Any:
    return parse_json(part.content, f"`{part.name:.80}`")
