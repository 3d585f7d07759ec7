"""Address of a server, and the retries of requests to it."""

from __future__ import annotations

import contextlib
import dataclasses
import email.utils
import http.client
import math
import random
import re
import ssl
import time
import urllib.parse

from serving.client.http_types import Request, Response, ServerError
from serving.errors import UsageError, one_line

BUSY = (429, 502, 503)  # the server is full or starting, and has not handled the request
_UNKNOWN_PATH = (400, 404, 405, 501)  # how servers refuse a path that they do not have
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0  # seconds


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Address of a server.

    Args:
        url: as the caller wrote it.
        host: name or address.
        port: of TCP.
        path: before the server's own paths, without a slash at its end.
        headers: of every request.
        tls: settings of HTTPS, or `None`.
    """

    url: str
    host: str
    port: int
    path: str
    headers: dict[str, str]
    tls: ssl.SSLContext | None

    @classmethod
    def parse(cls, url: str, token: str | None) -> Endpoint:
        """Parses a URL.

        Args:
            url: `http://HOST:PORT`, or with the `/NAME` of a model.
            token: bearer token, or `None`.

        Raises:
            UsageError: another kind of URL, or a token that no header can carry.
        """
        parts = urllib.parse.urlsplit(url if isinstance(url, str) else "")
        port: int | None = None
        with contextlib.suppress(ValueError):
            port = parts.port or (443 if parts.scheme == "https" else 80)
        plain = not (parts.query or parts.fragment or "@" in parts.netloc)
        plain = plain and parts.geturl().isascii() and " " not in parts.geturl()
        known = parts.scheme in ("http", "https") and parts.hostname
        if not known or port is None or not plain:
            raise UsageError(
                "A server's URL must be http://HOST:PORT or http://HOST:PORT/NAME. "
                f"Received: url={url!r}"
            )
        if token and not re.fullmatch(r"[\x21-\x7e]+", token):
            raise UsageError(
                "`token` must hold printable ASCII characters without spaces. "
                "Received: a token with others"
            )
        headers = {"Host": parts.netloc, "User-Agent": "keras-gan"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        return cls(url, str(parts.hostname), port, parts.path.rstrip("/"), headers, tls)


@dataclasses.dataclass(frozen=True)
class Retries:
    """Policy of repeated requests, and the errors when it gives up.

    Args:
        url: of the server.
        timeout: seconds for a request, repeats and waits included.
        limit: largest number of repeats.
    """

    url: str
    timeout: float
    limit: int

    def next_wait(self, attempt: int, deadline: float, response: Response | None) -> float | None:
        """Returns the seconds before the next attempt; `None` if it would miss the deadline.

        A wait is never shorter than the server's Retry-After. It has a random part, so that
        clients that were refused together do not return together.
        """
        if attempt >= self.limit:
            return None
        backoff = min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT) * random.uniform(0.5, 1.0)
        asked = retry_after(response) if response else None
        wait = backoff if asked is None else asked + backoff
        return wait if time.monotonic() + wait < deadline else None

    def unreachable(self, error: BaseException) -> ServerError:
        """Describes a connection that failed."""
        reason = one_line(error)
        if isinstance(error, TimeoutError):
            reason = f"no answer within {self.timeout:g} s"
        return ServerError(f"A server must answer at the URL. Received: {self.url!r} ({reason})")

    def interrupted(self, error: BaseException, received: str) -> ServerError:
        """Describes a stream that has failed.

        Args:
            error: of the connection.
            received: what has arrived before.
        """
        reason = one_line(error)
        if isinstance(error, TimeoutError):
            reason = f"nothing within {self.timeout:g} s"
        elif isinstance(error, ConnectionError | EOFError | http.client.IncompleteRead):
            reason = "a closed connection"
        return ServerError(f"A stream must have an end. Received: {received}, then {reason}")


def retry_after(response: Response) -> float | None:
    """Returns the seconds that a server asks to wait, sent as a number or as a date."""
    text = response.headers.get("retry-after", "").strip()
    with contextlib.suppress(ValueError):
        return max(float(text), 0.0) if math.isfinite(float(text)) else None
    with contextlib.suppress(ValueError, TypeError):
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    return None


def accept(request: Request, response: Response) -> Response:
    """Returns a response that the caller can use.

    Raises:
        ServerError: an error response, or a redirection.
    """
    if response.status == 200 or (request.optional and response.status in _UNKNOWN_PATH):
        return response
    if 300 <= response.status < 400:
        raise ServerError(
            "A server must answer at the URL itself. Received: a redirection to "
            f"{response.headers.get('location')!r:.200}",
            response.status,
        )
    raise ServerError(response.error_line(), response.status)
