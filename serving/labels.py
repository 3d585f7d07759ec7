"""Class labels: a number is an id and a text is a name, wherever a request comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.errors import UsageError


class TextLabel(str):
    """A label from a place that holds texts only, such as an address or a command line.

    Its digits are an id where no class has a number as its name.
    """

    __slots__ = ()


def class_id(label: Any, count: int, names: Sequence[str] = ()) -> int:
    """Returns the id of a class, given as an id or as a name.

    Args:
        label: the id, a number; or the name, a text.
        count: number of classes.
        names: names of the classes, where they have any.

    Raises:
        UsageError: there is no such class.
    """
    if isinstance(label, str):
        if label in names:
            return names.index(label)
        is_id = isinstance(label, TextLabel) and not any(map(str.isdecimal, names))
        if not is_id and (label.strip().isdecimal() or any(map(str.isdecimal, names))):
            have = ", ".join(names) or "of which this network has none"
            raise UsageError(
                f"A string label must be a class name, {have}; ids, 0 to "
                f"{count - 1}, are numbers. Received: label={str(label)!r:.80}"
            )
        number = int(label) if is_id and label.isascii() and label.isdecimal() else None
    else:
        number = number_of(label)
    if number is None or not 0 <= number < count:
        hint = f" or one of {', '.join(names)}" if names else ""
        raise UsageError(
            f"A label must be 0 to {count - 1}{hint}. Received: label={str(label)!r:.80}"
        )
    return number


def several(labels: Any) -> list[Any] | None:
    """Returns labels as a list; `None` for a single one, which may be a text."""
    if isinstance(labels, np.ndarray):
        return list(labels) if labels.ndim else None
    is_text = isinstance(labels, str | bytes | bytearray)
    return list(labels) if isinstance(labels, Sequence) and not is_text else None


def number_of(label: Any) -> int | None:
    """Returns the id that a label is; `None` for a text, a boolean or a fraction."""
    if isinstance(label, str | bytes | bytearray | bool | np.bool_):
        return None
    try:
        number = int(label)
        return number if number == float(label) else None
    except (ValueError, TypeError, OverflowError):
        return None


def check_classes(labels: np.ndarray, num_classes: int) -> None:
    """Refuses class ids outside 0..num_classes-1."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        bad = low if low < 0 else high
        raise UsageError(f"A label must be 0 to {num_classes - 1}. Received: {bad}")
