"""Strict parser of multipart/form-data: form fields and files in the body of a request.

Accepts what browsers, curl and Python's clients send, and refuses the rest: a preamble, transfer
encodings, nested parts, repeated or unknown headers without end.

Reference:
    https://www.rfc-editor.org/rfc/rfc7578
"""

from __future__ import annotations

import re
from typing import NamedTuple

from serving.errors import UsageError, short_repr

_MAX_PARTS = 64
_MAX_HEADERS = 2048  # bytes of the headers of one part
_BOUNDARY = re.compile(
    r"multipart/form-data\s*;\s*boundary=(\"?)"
    r"([0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-])\1\s*",
    re.IGNORECASE,
)
_DISPOSITION = re.compile(
    r"form-data\s*;\s*name=\"([^\"\r\n]{1,200})\""
    r"(?:\s*;\s*filename=\"([^\"\r\n]{0,255})\")?(?:\s*;\s*filename\*=[^;\r\n]{0,600})?",
    re.IGNORECASE,
)


class Part(NamedTuple):
    """A part of a form.

    Args:
        name: name of the field.
        content: its value.
        file_name: name of the file, `None` for a field that is not a file.
        media_type: its Content-Type, empty if it has none.
    """

    name: str
    content: bytes
    file_name: str | None
    media_type: str


def parse(content_type: str, body: bytes) -> list[Part]:
    """Returns the parts of a body.

    Args:
        content_type: Content-Type of the request, with its boundary.
        body: the whole body, whose size the server limits.

    Raises:
        UsageError: a body that is not well-formed, with a repeated name, too many parts, or long
            headers.
    """
    found = _BOUNDARY.fullmatch(content_type.strip())
    if found is None:
        raise UsageError(
            "multipart/form-data must name a boundary of 1 to 70 characters. "
            f"Received: content-type={short_repr(content_type)}"
        )
    line = b"--" + found[2].encode("ascii")
    # Ends of the first and the last boundary, so that all of them look alike.
    pieces = (b"\r\n" + body).split(b"\r\n" + line, _MAX_PARTS + 2)
    if len(pieces) > _MAX_PARTS + 2:
        raise UsageError(f"A form must have at most {_MAX_PARTS} parts. Received: more")
    start, *parts, end = pieces if len(pieces) > 2 else (b"?", b"")
    if start or end not in (b"--", b"--\r\n"):
        raise UsageError(
            "A form must begin and end with the boundary of its Content-Type. "
            f"Received: {len(body)} bytes with {max(0, len(pieces) - 1)} boundaries"
        )
    parsed = [_parse_part(part) for part in parts]
    names = [part.name for part in parsed]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"A field may be given once. Received: {short_repr(min(repeated))} twice")
    return parsed


def _parse_part(part: bytes) -> Part:
    head, mark, content = part.partition(b"\r\n\r\n")
    if not mark or not head.startswith(b"\r\n") or len(head) > _MAX_HEADERS:
        raise UsageError(
            f"A part of a form must have headers of at most {_MAX_HEADERS} bytes and an empty line "
            f"after them. Received: {short_repr(head[:80])}"
        )
    headers: dict[str, str] = {}
    for line in head[2:].split(b"\r\n"):
        try:
            name, colon, value = line.decode("utf-8").partition(":")
        except UnicodeDecodeError:
            name = colon = value = ""
        name = name.lower()
        if not colon or name not in ("content-disposition", "content-type", "content-length"):
            raise UsageError(
                "A part of a form may have Content-Disposition, Content-Type and Content-Length. "
                f"Received: {short_repr(line)}"
            )
        if headers.setdefault(name, value.strip()) != value.strip():
            raise UsageError(f"A header may be given once. Received: {short_repr(name)} twice")
    found = _DISPOSITION.fullmatch(headers.get("content-disposition", ""))
    if found is None:
        raise UsageError(
            'A part of a form must have Content-Disposition: form-data; name="...". '
            f"Received: {short_repr(headers.get('content-disposition'))}"
        )
    return Part(found[1], content, found[2], headers.get("content-type", ""))
