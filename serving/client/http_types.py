"""Requests, responses and errors of the HTTP clients."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import urllib.parse
from collections.abc import Generator
from typing import Any, TypeVar

from serving.errors import UsageError

T = TypeVar("T")


class ServerError(UsageError):
    """An error response of a server, as one line.

    Args:
        message: the line.
        status: HTTP status of the response; 0 if there was none.
    """

    def __init__(self, message: str, status: int = 0):
        super().__init__(message, status)
        self.status = status

    def __str__(self) -> str:
        return str(self.args[0])


@dataclasses.dataclass(frozen=True)
class Request:
    """An HTTP request.

    Args:
        method: `"GET"` or `"POST"`.
        path: path and query.
        body: empty for none.
        headers: beside those that every request has.
        optional: the caller handles the status of a server that does not know the path.
        is_streamed: the caller reads the body as it arrives.
    """

    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    optional: bool = False
    is_streamed: bool = False


@dataclasses.dataclass(frozen=True)
class Response:
    """An HTTP response; header names are lowercase.

    Args:
        status: of HTTP.
        headers: by name.
        body: empty for a stream.
        pieces: generator of the body of a stream, which closes the connection when it is closed;
            an asynchronous one from `AsyncClient`. `None` for another response.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    pieces: Any = None

    def json(self) -> Any:
        """Parses the body.

        Raises:
            ServerError: the body is not JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise ServerError(
                f"A server must answer in JSON. Received: {self.body[:80]!r}", self.status
            ) from error

    def error_line(self) -> str:
        """Returns the server's own description of an error as one line."""
        with contextlib.suppress(ServerError):
            content = self.json()
            if isinstance(content, dict) and isinstance(content.get("error"), str):
                return " ".join(content["error"].split())[:500]
        text = " ".join(self.body[:200].decode("utf-8", "replace").split())
        return f"The server must answer. Received: status {self.status} {text}".rstrip()


# A call, written once for both clients: it yields requests and is sent their responses.
Exchange = Generator[Request, Response, T]


def get(path: str, optional: bool = False) -> Request:
    """Returns a GET request."""
    return Request("GET", path, optional=optional)


def post(path: str, body: bytes, headers: dict[str, str] | None = None) -> Request:
    """Returns a POST request, of JSON unless the headers say otherwise."""
    return Request("POST", path, body, headers or {"Content-Type": "application/json"})


def to_json(content: Any) -> bytes:
    """Encodes a request's body.

    Raises:
        UsageError: a value that JSON does not have, such as NaN.
    """
    try:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"A request must hold finite numbers and text only. Received: {error}"
        ) from error


def quote(name: str) -> str:
    """Escapes a model's name as one segment of a path."""
    return urllib.parse.quote(name, safe="")
