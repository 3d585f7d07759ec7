"""Checks of the range of floating-point values, shared by files, arrays and batches."""

from __future__ import annotations

Range = tuple[float, float]
ROUNDING = 1e-3  # by which values may leave their range

_USUAL: tuple[Range, ...] = ((0.0, 1.0), (0.0, 255.0))
# Mappings from 0 to an upper limit into a range.
_EXPRESSIONS = {
    (1.0, (-1.0, 1.0)): "x * 2 - 1",
    (255.0, (-1.0, 1.0)): "x / 127.5 - 1",
    (255.0, (0.0, 1.0)): "x / 255",
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


def rescaling(low: float, high: float, to: Range = (-1.0, 1.0)) -> str:
    """Returns how to map values of a usual range to another, in parentheses; empty if unknown."""
    found = usual_range(low, high)
    expression = _EXPRESSIONS.get((found[1], to)) if found else None
    if found is None or expression is None:
        return ""
    return f" (from 0..{found[1]:g}: {expression})"
