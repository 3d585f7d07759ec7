"""Requests that send one picture or sound: as the body or in a form, with fields, in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from serving import multipart
from serving.errors import UsageError, short_repr
from serving.generate.fields import from_query, from_text, repeated_field, unknown_field
from serving.http_types import HTTPError, Request
from serving.loading import Served

FORM = "multipart/form-data"
# Media types of the pictures that are sent, for the OpenAPI document; the content decides.
UPLOADS = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/tiff")
_ANY = "application/octet-stream"  # names no format; the content does
_MAX_TEXT = 1024  # bytes of a field that is not a file


class Sent(NamedTuple):
    """Files that requests send.

    Args:
        noun: name of one.
        listed: examples of their media types, for errors.
        starts: with which media types begin.
    """

    noun: str
    listed: str
    starts: tuple[str, ...]


PICTURES = Sent("picture", "image/png, image/jpeg, image/webp", ("image/",))
SOUNDS = Sent(
    "sound or spectrogram", "audio/wav, application/x-npy", ("audio/", "application/x-npy")
)
SOUND_UPLOADS = ("audio/wav", "audio/x-wav", "application/x-npy")  # for the OpenAPI document


def read(
    request: Request, known: Mapping[str, Any], sent: Sent = PICTURES
) -> tuple[bytes, dict[str, Any]]:
    """Returns the file of a request, as it was sent, and its fields.

    Args:
        request: the request.
        known: the fields that there are, by name.
        sent: the files that it may send.

    Raises:
        UsageError: an unknown or repeated field, or a form without exactly one file.
        HTTPError: 415 for a media type that is neither such a file's nor a form's.
    """
    fields = from_query(request.query, known)
    media_type = request.media_type
    if media_type == FORM:
        return _read_form(request, fields, known, sent.noun), fields
    if not media_type.startswith(sent.starts) and media_type != _ANY:
        raise HTTPError(
            415,
            f"The body must be a {sent.noun} ({sent.listed}) or {FORM}. "
            f"Received: content-type={short_repr(request.content_type)}",
        )
    return request.body, fields


def find(
    app: Any, fields: Mapping[str, Any], fits: Callable[[Served], bool], otherwise: str
) -> Served:
    """Returns the version of a model for such files that a request names, or the only one.

    Args:
        app: the application.
        fields: of the request, with `model` and `version` if it names them.
        fits: whether a model takes such requests.
        otherwise: what the error lists if no model does.

    Raises:
        HTTPError: 400 for another model, else as `App.find`.
    """
    newest, name = app.repository.newest, fields.get("model")
    valid = sorted(each for each, served in newest.items() if fits(served))
    if name is None and len(valid) == 1:
        name = valid[0]
    served = None if name is None and newest else app.find(name, fields.get("version"))
    if served is None or not fits(served):
        listed = ", ".join(valid) or otherwise
        raise HTTPError(400, f"`model` must be one of {listed}. Received: model={name!r:.80}")
    return served


def _read_form(
    request: Request, fields: dict[str, Any], known: Mapping[str, Any], noun: str
) -> bytes:
    """Returns the file of a form, and adds its other parts to the fields."""
    files: list[multipart.Part] = []
    for part in multipart.parse(request.content_type, request.body):
        if part.file_name is not None:
            files.append(part)
        elif part.name not in known:
            raise unknown_field(part.name, known)
        elif part.name in fields:
            raise repeated_field(part.name)
        else:
            fields[part.name] = _value_of(part)
    if len(files) != 1:
        raise UsageError(
            f"A form must have one file, which is the {noun}. Received: {len(files)} files"
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
