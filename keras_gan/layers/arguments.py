"""Validation of the numbers that layers and architectures take."""

from __future__ import annotations

import numbers
from typing import Any

from keras_gan.errors import UsageError


def is_integer(value: Any, minimum: int = 1) -> bool:
    """Returns True for an integer of at least `minimum`; booleans and floats do not count."""
    integral = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return integral and int(value) >= minimum


def check_count(name: str, value: Any, minimum: int = 1) -> None:
    """Raises a `UsageError` unless the argument is an integer of at least `minimum`."""
    if not is_integer(value, minimum):
        raise UsageError(
            f"`{name}` must be an integer of at least {minimum}. Received: {name}={value!r}"
        )


def check_positive(name: str, value: Any) -> None:
    """Raises a `UsageError` unless the argument is a finite number above 0."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not 0 < float(value) < float("inf"):
        raise UsageError(f"`{name}` must be a finite number above 0. Received: {name}={value!r}")
