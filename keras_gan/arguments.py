"""Checks of the numbers that users give as arguments; the errors have one wording."""

from __future__ import annotations

import numbers
from typing import Any

from keras_gan.errors import UsageError

_INFINITY = float("inf")


def is_integer(value: Any, minimum: int = 1) -> bool:
    """Returns True for an integer of at least `minimum`; booleans and floats do not count."""
    integral = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return integral and int(value) >= minimum


def is_number(value: Any) -> bool:
    """Returns True for a finite real number; booleans do not count."""
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    number: Any = value  # its type has no comparisons for type checkers
    return is_real and bool(-_INFINITY < number < _INFINITY)


def check_integer(name: str, value: Any, minimum: int = 1) -> None:
    """Raises a `UsageError` unless the argument is an integer of at least `minimum`."""
    if not is_integer(value, minimum):
        raise UsageError(
            f"`{name}` must be an integer of at least {minimum}. Received: {name}={value!r}"
        )


def check_number(
    name: str,
    value: Any,
    *,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
    schedule: bool = False,
) -> None:
    """Checks that an argument is a finite number in a range.

    Args:
        name: name of the argument, for the error.
        value: the number, or a schedule of it.
        minimum: smallest valid number.
        above: the number must be greater.
        maximum: largest valid number.
        below: the number must be smaller.
        schedule: whether a schedule may take the number's place: an object whose `bounds()` are
            numbers that must be valid.

    Raises:
        UsageError: another value.
    """
    is_schedule = schedule and hasattr(value, "bounds") and not isinstance(value, type)
    checked: tuple[Any, ...] = tuple(value.bounds()) if is_schedule else (value,)
    for number in checked:
        if (
            not is_number(number)
            or (minimum is not None and number < minimum)
            or (above is not None and number <= above)
            or (maximum is not None and number > maximum)
            or (below is not None and number >= below)
        ):
            rule = _rule(minimum, above, maximum, below)
            raise UsageError(f"`{name}` must be {rule}. Received: {name}={value!r}")


def _rule(
    minimum: float | None, above: float | None, maximum: float | None, below: float | None
) -> str:
    if minimum is not None and maximum is not None:
        return f"a number from {minimum:g} to {maximum:g}"
    parts = [f"from {minimum:g} up"] if minimum is not None else []
    parts += [f"above {above:g}"] if above is not None else []
    parts += [f"at most {maximum:g}"] if maximum is not None else []
    parts += [f"below {below:g}"] if below is not None else []
    return f"a number {' and '.join(parts)}" if parts else "a finite number"


def check_positive(name: str, value: Any) -> None:
    """Raises a `UsageError` unless the argument is a finite number above 0."""
    check_number(name, value, above=0)


def check_share(name: str, value: Any, schedule: bool = False) -> None:
    """Raises a `UsageError` unless the argument is a number above 0 and at most 1."""
    check_number(name, value, above=0, maximum=1, schedule=schedule)


def check_probability(name: str, value: Any, schedule: bool = False) -> None:
    """Raises a `UsageError` unless the argument is a number from 0 to 1."""
    check_number(name, value, minimum=0, maximum=1, schedule=schedule)
