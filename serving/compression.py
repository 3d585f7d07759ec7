"""Decompression of request bodies, bounded in size.

Reference:
    RFC 9110, section 8.4: gzip, x-gzip, deflate (which has the format of zlib), identity.
"""

from __future__ import annotations

import zlib

from serving.errors import short_repr
from serving.http_types import HTTPError

_WINDOW = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # as zlib names the formats
_MAX_MEMBERS = 16  # parts of a gzip body; the rest is copied after each


def decompress(body: bytes, encoding: bytes, most: int) -> bytes:
    """Returns a body without its compression.

    Args:
        body: the body as it was sent.
        encoding: value of Content-Encoding.
        most: maximum bytes of the result. Several members of gzip are joined, which takes twice
            their size for a moment.

    Raises:
        HTTPError: 400 for a damaged body, 413 for a result of more bytes, 415 for an encoding that
            is unknown, or for several.
    """
    names = [name.strip() for name in encoding.decode("latin-1").lower().split(",")]
    names = [name for name in names if name not in ("", "identity")]
    if not names:
        return body
    if len(names) > 1 or names[0] not in _WINDOW:
        raise HTTPError(
            415,
            "A body may be compressed once, by gzip or deflate. "
            f"Received: content-encoding={short_repr(encoding.decode('latin-1'))}",
            b"accept-encoding: gzip, deflate\r\n",
        )
    return _inflate(body, names[0], most)


def _inflate(body: bytes, name: str, most: int) -> bytes:
    pieces: list[bytes] = []
    size, rest = 0, body
    for _ in range(_MAX_MEMBERS):
        stream = zlib.decompressobj(_WINDOW[name])
        try:
            # One byte above the limit shows that there are more.
            pieces.append(stream.decompress(rest, most + 1 - size))
        except zlib.error as error:
            raise _damaged(name, str(error)) from error
        size += len(pieces[-1])
        if size > most:
            raise HTTPError(
                413,
                f"A request body must be at most {most} bytes. "
                f"Received: {len(body)} bytes of {name}, more than {most} when decompressed",
            )
        if not stream.eof:
            raise _damaged(name, f"{len(body)} bytes without an end")
        rest = stream.unused_data
        if not rest.strip(b"\0"):  # some programs pad with zeros
            return b"".join(pieces)
        if name == "deflate":
            break
    raise _damaged(name, f"{len(rest)} bytes after the end")


def _damaged(name: str, received: str) -> HTTPError:
    return HTTPError(400, f"The body must be complete {name} data. Received: {received:.120}")
