"""Checks of the range of floating-point values, shared by files, arrays and batches."""

from __future__ import annotations

import math

Range = tuple[float, float]
ROUNDING = 1e-3  # share of a range's larger limit by which rounded values may leave it

WIDEST = 4.0  # widths of a range that a generator may overshoot; a wider one is another range

_USUAL: tuple[Range, ...] = ((0.0, 1.0), (0.0, 255.0))
_SIGNED: Range = (-1.0, 1.0)
_EXPRESSIONS = {
    ((0.0, 1.0), _SIGNED): "x * 2 - 1",
    ((0.0, 255.0), _SIGNED): "x / 127.5 - 1",
    ((0.0, 255.0), (0.0, 1.0)): "x / 255",
    ((0.0, 1.0), (0.0, 255.0)): "x * 255",
    (_SIGNED, (0.0, 255.0)): "(x + 1) * 127.5",
}


def leaves(low: float, high: float, value_range: Range, margin: float = 0.0) -> bool:
    """Returns whether values leave a range.

    Args:
        low: smallest value.
        high: largest value.
        value_range: smallest and largest value that the data should have.
        margin: distance by which values may leave the range.
    """
    return low < value_range[0] - margin or high > value_range[1] + margin


def leaves_rounded(low: float, high: float, value_range: Range) -> bool:
    """Returns whether values leave a range by more than rounding, see `leaves`."""
    return leaves(low, high, value_range, ROUNDING * max(map(abs, value_range)))


def is_unsigned(low: float, high: float, value_range: Range) -> bool:
    """Returns whether values lack the negative half of their range, as those in [0, 1] do.

    Values that are all the same are no evidence of that.
    """
    return value_range[0] < 0 <= low < high


def is_unclear(low: float, high: float, value_range: Range, margin: float = 0.0) -> bool:
    """Returns whether values may be of another range than the one they should have.

    They are if they leave it, or if none of them is negative where the range has negative values:
    then they are more likely in [0, 1]. For the arguments see `leaves`.
    """
    return leaves(low, high, value_range, margin) or is_unsigned(low, high, value_range)


def usual_range(low: float, high: float) -> Range | None:
    """Returns the range that values without negative ones usually have; None beyond 255."""
    fitting = (limits for limits in _USUAL if not leaves(low, high, limits))
    return next(fitting, None)


def rescaling(low: float, high: float, to: Range = _SIGNED) -> str:
    """Returns how to map values of a usual range to another, in parentheses; empty if unknown."""
    signed = None if leaves(low, high, _SIGNED) else _SIGNED
    found = usual_range(low, high) if low >= 0 else signed
    expression = _EXPRESSIONS.get((found, to)) if found else None
    if found is None or expression is None:
        return ""
    return f" (from {found[0]:g}..{found[1]:g}: {expression})"


def of_data(low: float, high: float, limits: Range) -> Range:
    """Returns the range that data of these extremes is in.

    Args:
        low: smallest value.
        high: largest value.
        limits: range of its kind, which data with negative values has.
    """
    if low >= high:
        return limits
    if is_unsigned(low, high, limits):
        return usual_range(low, high) or (low, high)
    return (low, high) if leaves(low, high, limits, ROUNDING) else limits


def of_samples(own: Range | None, data: Range | None) -> Range | None:
    """Returns the range of a generator's samples; None if nothing is known of it.

    It is that of the data that it was trained on, unless its last layers give a part of that.

    Args:
        own: range by its last layers, of which one limit may be infinite.
        data: range of the data.
    """
    finite = own if own and all(map(math.isfinite, own)) else None
    if data is None or (finite and data[0] <= finite[0] and finite[1] <= data[1]):
        return finite
    return data


def shown(value_range: Range) -> str:
    """Returns a range as text, such as "[0, 1]" or "[0, inf)"."""
    low, high = value_range
    opening, closing = "(" if math.isinf(low) else "[", ")" if math.isinf(high) else "]"
    return f"{opening}{low:g}, {high:g}{closing}"
