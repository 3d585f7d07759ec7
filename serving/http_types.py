"""HTTP requests, responses and errors, independent of the server that carries them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson

from serving.errors import UsageError, short_repr
from serving.strict_json import RepeatedKey, check_keys

JSON = b"application/json"
PNG = b"image/png"
BYTES = b"application/octet-stream"
LINES = b"application/x-ndjson"
NPY = b"application/x-npy"
NPZ = b"application/x-npz"
WAV = b"audio/wav"
NOT_FINITE = b"x-not-finite"  # header that counts the NaN and infinite values of a response


class HTTPError(UsageError):
    """An error with an HTTP status.

    Args:
        status: HTTP status.
        message: the rule, then what was received, in one line.
        headers: additional header lines, each terminated by CR LF.
    """

    def __init__(self, status: int, message: str, headers: bytes = b""):
        super().__init__(message)
        self.status = status
        self.headers = headers


class Request:
    """A complete HTTP request.

    Args:
        method: HTTP method, in capitals.
        path: decoded path.
        query: raw query string, without the question mark.
        headers: header values by lower-case name.
        body: content.
        client: address of the client.
    """

    __slots__ = (
        "accepts_chunks",
        "body",
        "client",
        "headers",
        "id",
        "method",
        "path",
        "query",
        "route",
        "served",
        "start",
    )

    def __init__(
        self,
        method: str,
        path: str,
        query: bytes,
        headers: dict[bytes, bytes],
        body: bytes,
        client: str = "",
    ):
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.client = client
        self.accepts_chunks = True  # HTTP/1.0 clients do not decode chunked bodies
        self.id = b""
        self.route = "other"  # one of a few names, for the metrics
        self.served: Any = None
        self.start = time.monotonic()

    @property
    def content_type(self) -> str:
        """The Content-Type with its parameters, empty if there is none."""
        return self.headers.get(b"content-type", b"").decode("latin-1")

    @property
    def media_type(self) -> str:
        """The media type of the body without its parameters, empty if there is none."""
        return self.content_type.partition(";")[0].strip().lower()

    @property
    def is_json(self) -> bool:
        """True if the body is read as JSON, by its media type."""
        content_type = self.headers.get(b"content-type")
        return content_type is None or content_type == JSON or self.media_type in _READ_AS_JSON

    def json(self) -> Any:
        """Returns the body, decoded as JSON.

        Raises:
            HTTPError: the body is not JSON or repeats a key, or its content type names another
                format.
        """
        if not self.is_json:
            raise HTTPError(
                415,
                "The body must be application/json. "
                f"Received: content-type={short_repr(self.content_type)}",
            )
        return parse_json(self.body, "The body")


TEXT = "text/plain"
# Media types of JSON, and those of clients that name none: `curl -d` says form-urlencoded, the
# `fetch` of browsers and several HTTP libraries say text/plain for a string. Access does not
# depend on them: `serving.access` checks where a request comes from.
_READ_AS_JSON = frozenset(
    ("", "application/json", "application/x-www-form-urlencoded", "application/octet-stream", TEXT)
)
_GZIP = b"\x1f\x8b"  # how gzip data begins


def parse_json(text: bytes, subject: str) -> Any:
    """Returns the content of a JSON text.

    Args:
        text: the text.
        subject: what it is, as the start of an error.

    Raises:
        HTTPError: 400 for a text that is not JSON, or an object with a repeated key.
    """
    try:
        content = orjson.loads(text)
        check_keys(text, content)
    except RepeatedKey as error:
        raise HTTPError(
            400, f"{subject} must name each key once. Received: {short_repr(error.key)} twice"
        ) from error
    except orjson.JSONDecodeError as error:
        received = str(error)
        if text.startswith(_GZIP):
            received = "gzip data without Content-Encoding: gzip"
        raise HTTPError(400, f"{subject} must be JSON. Received: {received}") from error
    except RecursionError as error:
        raise HTTPError(
            400, f"{subject} must be nested less deeply. Received: {len(text)} bytes"
        ) from error
    return content


class Response:
    """An HTTP response.

    Args:
        status: HTTP status.
        body: the whole content.
        content_type: content type.
        headers: additional header lines, each terminated by CR LF.
        stream: content in pieces, instead of `body`.
        length: bytes of the stream, if known.
    """

    __slots__ = ("body", "content_type", "headers", "length", "status", "stream")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        content_type: bytes = JSON,
        headers: bytes = b"",
        stream: AsyncIterator[bytes] | None = None,
        length: int | None = None,
    ):
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers
        self.stream = stream
        self.length = length


def json_response(content: Any, status: int = 200, headers: bytes = b"") -> Response:
    """Returns a response whose body is `content` as JSON."""
    return Response(status, orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), JSON, headers)


def header_lines(headers: Mapping[str, str]) -> bytes:
    """Returns header lines of plain values by name, each terminated by CR LF."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("ascii")


_CONTROLS = dict.fromkeys([*range(32), 127], " ")  # characters that would end a header


def notes_header(notes: Sequence[str]) -> bytes:
    """Returns the header line that says what was done to a file that was sent, if anything."""
    if not notes:
        return b""
    text = " ".join(notes).translate(_CONTROLS)
    return b"x-notes: %b\r\n" % text.encode("ascii", "replace")


def error_response(status: int, message: str, headers: bytes = b"") -> Response:
    """Returns a response whose body is `{"error": message}`."""
    # The message may quote unpaired surrogates, which UTF-8 cannot encode.
    text = message.encode("utf-8", "backslashreplace").decode("utf-8")
    return Response(status, orjson.dumps({"error": text}), JSON, headers)
