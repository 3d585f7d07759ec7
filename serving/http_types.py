"""What a request and an answer are, whichever server speaks the protocol underneath."""

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


class HTTPError(UsageError):
    """A request that gets no samples: its status, and the line that says why."""

    def __init__(self, status: int, message: str, head: bytes = b""):
        super().__init__(message)
        self.status = status
        self.head = head


class Request:
    """One request, whole.

    Args:
        method: in capitals.
        path: decoded.
        query: after the question mark, as it came.
        headers: values by lower-case names.
        body: its content.
        client: address of the other end.
    """

    __slots__ = (
        "body",
        "chunks",
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
        self.chunks = True  # whether the other end reads them: HTTP/1.0 does not
        self.id = b""
        self.route = "other"  # a name out of few, for the metrics
        self.served: Any = None
        self.start = time.monotonic()

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            HTTPError: no JSON, or said to be something else.
        """
        kind = self.headers.get(b"content-type")
        # curl says form-urlencoded of what it is given with -d.
        if (
            kind is not None
            and kind != JSON
            and kind.split(b";")[0].strip().lower() not in _READ_AS_JSON
        ):
            raise HTTPError(
                415,
                "The body must be application/json. "
                f"Received: content-type={short_repr(kind.decode('latin-1'))}",
            )
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise HTTPError(400, f"The body must be JSON. Received: {error}") from error


_READ_AS_JSON = (JSON, b"application/x-www-form-urlencoded", BYTES, b"")


class Answer:
    """One answer.

    Args:
        status: of HTTP.
        body: its content, whole.
        kind: its content type.
        head: more header lines, each ended by CR LF.
        stream: content in pieces, in the place of `body`.
        length: bytes of the stream, where they are known.
    """

    __slots__ = ("body", "head", "kind", "length", "status", "stream")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        kind: bytes = JSON,
        head: bytes = b"",
        stream: AsyncIterator[bytes] | None = None,
        length: int | None = None,
    ):
        self.status = status
        self.body = body
        self.kind = kind
        self.head = head
        self.stream = stream
        self.length = length


def json_answer(content: Any, status: int = 200, head: bytes = b"") -> Answer:
    """Gives an answer of JSON."""
    return Answer(status, orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), JSON, head)


def error_answer(status: int, message: str, head: bytes = b"") -> Answer:
    """Gives the answer that says what was wrong."""
    # What was received may hold halves of surrogate pairs, which are no text.
    text = message.encode("utf-8", "backslashreplace").decode("utf-8")
    return Answer(status, orjson.dumps({"error": text}), JSON, head)
