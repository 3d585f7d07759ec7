"""Errors of other libraries in one line."""

from __future__ import annotations


def one_line(error: BaseException) -> str:
    """Returns the message of an error in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__
