"""Repeated keys of JSON objects, of which Python's readers would keep the last."""

from __future__ import annotations

import json
from typing import Any


class RepeatedKey(ValueError):
    """An object of a JSON text that names a key twice.

    Args:
        key: the key.
    """

    def __init__(self, key: str):
        super().__init__(f"the key {key!r:.80} twice")
        self.key = key


def parse_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object of a JSON text, as the `object_pairs_hook` of `json.loads`.

    Raises:
        RepeatedKey: two keys are equal.
    """
    content = dict(pairs)
    if len(content) != len(pairs):
        seen: set[str] = set()
        raise RepeatedKey(next(key for key, _ in pairs if key in seen or seen.add(key)))
    return content


def check_keys(text: bytes, content: Any) -> None:
    """Checks that no object of a JSON text has a repeated key.

    Reads the text again only if its colons are more than the pairs of the content: then a string
    has one as well, or a key is repeated.

    Args:
        text: the text, already found to be JSON.
        content: what a reader has returned for it.

    Raises:
        RepeatedKey: two keys of an object are equal.
        RecursionError: the nesting is too deep for Python's own reader.
    """
    colons = text.count(b":")
    flat = len(content) if type(content) is dict else 0  # enough for most requests
    if colons > max(1, flat) and _count_pairs(content, colons) < colons:
        # The numbers have been read before, and `len` takes the least time.
        json.loads(text, object_pairs_hook=parse_object, parse_int=len, parse_float=len)


def _count_pairs(content: Any, most: int) -> int:
    """Counts the pairs of all objects, level by level, until there are `most`."""
    count, level = 0, [content]
    while level:
        count += sum(len(item) for item in level if type(item) is dict)
        if count >= most:
            break
        level = [
            value
            for item in level
            for value in (item.values() if type(item) is dict else item)
            if type(value) is dict or type(value) is list
        ]
    return count
