"""The rule by which floating-point values count as normalized, for files, arrays and batches."""

from __future__ import annotations

Range = tuple[float, float]


def is_unclear(low: float, high: float, value_range: Range, margin: float = 0.0) -> bool:
    """Returns whether values may be of another range than the one they should have.

    They are if they leave it, or if none of them is negative where the range has negative values:
    then they are more likely in [0, 1]. Values that are all the same are no evidence of that.

    Args:
        low: smallest value.
        high: largest value.
        value_range: smallest and largest value that the data should have.
        margin: distance by which values may leave the range.
    """
    least, most = value_range
    leaves = low < least - margin or high > most + margin
    return leaves or is_unsigned(low, high, value_range)


def is_unsigned(low: float, high: float, value_range: Range) -> bool:
    """Returns whether values lack the negative half of their range, as those in [0, 1] do."""
    return value_range[0] < 0 <= low < high


def rescaling(low: float, high: float) -> str:
    """Returns the expression that maps values of a usual range to [-1, 1], for an error."""
    if low >= 0 and high <= 1:
        return "from 0..1: x * 2 - 1"
    return "from 0..255: x / 127.5 - 1"
