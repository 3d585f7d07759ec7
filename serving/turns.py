"""Turns of requests whose files or answers are large."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from serving.engine import Expired


@contextlib.asynccontextmanager
async def in_turn(app: Any, deadline: float) -> AsyncIterator[None]:
    """Waits until few enough files are in memory, for an `async with` block.

    Args:
        app: the application.
        deadline: on the clock of `app.now`.

    Raises:
        Expired: the deadline passed before.
    """
    try:
        async with asyncio.timeout(max(0.0, deadline - app.now())):
            await app.pictures.acquire()
    except TimeoutError:
        raise Expired from None
    try:
        yield
    finally:
        app.pictures.release()
