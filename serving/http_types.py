"""HTTP requests, responses and errors, independent of the server that carries them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import orjson

from serving.errors import UsageError, short_repr

JSON = b"application/json"
PNG = b"image/png"
BYTES = b"application/octet-stream"
LINES = b"application/x-ndjson"
NPY = b"application/x-npy"
NPZ = b"application/x-npz"


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
        """The media type of a body that is not read as JSON, empty for one that is."""
        content_type = self.headers.get(b"content-type")
        if content_type is None or content_type == JSON:
            return ""
        plain = content_type.split(b";")[0].strip().lower()
        # curl -d labels every body as form-urlencoded.
        return "" if plain in _READ_AS_JSON else plain.decode("latin-1")

    def json(self) -> Any:
        """Returns the body, decoded as JSON.

        Raises:
            HTTPError: the body is not JSON, or its content type names another format.
        """
        if self.media_type:
            raise HTTPError(
                415,
                "The body must be application/json. "
                f"Received: content-type={short_repr(self.content_type)}",
            )
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise HTTPError(400, f"The body must be JSON. Received: {error}") from error


# What a body without a media type of its own has, from curl and from other clients.
_READ_AS_JSON = (JSON, b"application/x-www-form-urlencoded", BYTES, b"")


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


def error_response(status: int, message: str, headers: bytes = b"") -> Response:
    """Returns a response whose body is `{"error": message}`."""
    # The message may quote unpaired surrogates, which UTF-8 cannot encode.
    text = message.encode("utf-8", "backslashreplace").decode("utf-8")
    return Response(status, orjson.dumps({"error": text}), JSON, headers)
