"""Exceptions for user errors, shared by all packages of the project."""

from __future__ import annotations

import reprlib
from itertools import islice
from typing import Any


class UsageError(ValueError):
    """A user's mistake, reported in one line: the rule, then what was received.

    The command line prints the line and exits with status 2; Python code can catch the error as a
    `ValueError`.
    """


class TooLargeError(UsageError):
    """Data of more bytes, pixels or numbers than a limit allows."""


class NotFiniteError(UsageError):
    """Generated values that are NaN or infinite, for a format that has no such values."""


class NotFiniteWarning(UserWarning):
    """Generated values that are NaN or infinite, in an array or a format that has such values."""


class _ShortRepr(reprlib.Repr):
    """A repr that reads no more of a value than it prints."""

    def __init__(self):
        super().__init__()
        self.maxlevel = 4
        self.maxstring = self.maxother = self.maxlong = 80

    def repr_dict(self, value: dict[Any, Any], level: int) -> str:
        """Prints the first entries; reprlib would sort all keys first."""
        if level <= 0:
            return "{...}"
        pairs = [
            f"{self.repr1(key, level - 1)}: {self.repr1(item, level - 1)}"
            for key, item in islice(value.items(), self.maxdict)
        ]
        return "{" + ", ".join(pairs + ["..."] * (len(value) > self.maxdict)) + "}"


_repr = _ShortRepr()


def short_repr(value: Any) -> str:
    """Returns the repr of a value of any size and depth, cut to 80 characters, for errors."""
    return _repr.repr(value)[:80]


def one_line(error: BaseException, limit: int = 300) -> str:
    """Returns the message of another library's error in one line, cut to `limit` characters."""
    return " ".join(str(error).split())[:limit] or type(error).__name__
