"""Exceptions for user errors, shared by all packages of the project."""

from __future__ import annotations

import reprlib
from itertools import islice
from typing import Any


class UsageError(ValueError):
    """A mistake in what the user gave, reported in one line: the rule, then what was received.

    The command line prints the line and exits with status 2; Python code can catch it as the
    `ValueError` that it is.
    """


class _Short(reprlib.Repr):
    """Looks at no more of a value than it tells."""

    def __init__(self):
        super().__init__()
        self.maxlevel = 4
        self.maxstring = self.maxother = self.maxlong = 80

    def repr_dict(self, value: dict[Any, Any], level: int) -> str:
        """Without the sorting of all keys that reprlib starts with."""
        if level <= 0:
            return "{...}"
        pairs = [
            f"{self.repr1(key, level - 1)}: {self.repr1(item, level - 1)}"
            for key, item in islice(value.items(), self.maxdict)
        ]
        return "{" + ", ".join(pairs + ["..."] * (len(value) > self.maxdict)) + "}"


_short = _Short()


def short_repr(value: Any) -> str:
    """What was received, for an error: at most 80 characters, of a value of any size and depth."""
    return _short.repr(value)[:80]
