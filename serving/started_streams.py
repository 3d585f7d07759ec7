"""Streamed answers whose first part exists before the headers are sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any


class Started:
    """Bytes of a stream whose first part exists, so that a failure of it still has an HTTP status.

    Args:
        first: the first bytes.
        rest: the parts after them.
        encode: returns the bytes of a part.
        ended: called once, when the stream has ended or was closed.
    """

    def __init__(
        self,
        first: bytes,
        rest: AsyncGenerator[Any, None],
        encode: Callable[[Any], bytes],
        ended: Callable[[], None],
    ):
        self._first: bytes | None = first
        self._rest = rest
        self._encode = encode
        self._ended: Callable[[], None] | None = ended

    @classmethod
    async def start(
        cls,
        parts: AsyncGenerator[Any, None],
        header: bytes,
        encode: Callable[[Any], bytes],
        ended: Callable[[], None],
    ) -> Started:
        """Waits for the first part, which the header precedes; takes the arguments of the class."""
        try:
            first = await anext(parts)
        except BaseException:
            await parts.aclose()
            raise
        return cls(header + encode(first), parts, encode, ended)

    def __aiter__(self) -> Started:
        return self

    async def __anext__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return self._encode(await anext(self._rest))

    async def aclose(self) -> None:
        """Ends the stream, and the runs that nobody waits for."""
        ended, self._ended = self._ended, None
        if ended is not None:
            try:
                await self._rest.aclose()
            finally:
                ended()
