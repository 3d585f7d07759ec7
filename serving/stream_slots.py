"""Bound on the answers that are sent while they are computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from serving.http_types import HTTPError

_RETRY = b"retry-after: 1\r\n"


def take(app: Any, served: Any, noun: str) -> Callable[[], None]:
    """Counts one more stream; returns the function to call once, at its end.

    Args:
        app: the application.
        served: version of the model, which is not unloaded before that.
        noun: what is streamed, for errors.

    Raises:
        HTTPError: 503, if as many streams run as the server allows.
    """
    most = app.settings.max_streams
    if app.streams >= most:
        app.metrics.refuse("streams")
        raise HTTPError(
            503,
            f"The server has at most {most} streams of {noun} at a time. "
            f"Received: {app.streams + 1} streams",
            _RETRY,
        )
    app.streams += 1
    served.users += 1

    def ended() -> None:
        app.streams -= 1
        served.users -= 1

    return ended
