"""Schedules within a recipe's tree of plain values."""

from __future__ import annotations

from typing import Any

from keras_gan import schedules
from keras_gan.registry import classes


def resolve(value: Any, examples: float | None = None) -> Any:
    """Returns a value of a recipe with schedule objects in place of their dictionaries.

    Args:
        value: a number, name, list or dictionary of the recipe.
        examples: length of the training in examples, for schedules that last as long as the
            training. By default they stay open-ended.
    """
    if isinstance(value, list):
        return [resolve(v, examples) for v in value]
    if not isinstance(value, dict):
        return value
    if not is_schedule(value):
        return {key: resolve(v, examples) for key, v in value.items()}
    schedule = schedules.get(value)
    return schedule if examples is None else schedule.with_duration(examples)


def is_schedule(value: Any) -> bool:
    """Checks whether a value is a dictionary that names a schedule."""
    return isinstance(value, dict) and value.get("name") in classes(schedules.Schedule)


def schedules_in(tree: Any, path: str = "") -> list[tuple[str, schedules.Schedule]]:
    """Returns every schedule of a checked tree with its path, without those nested in another."""
    if is_schedule(tree):
        return [(path, schedules.get(tree))]
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for key, value in entries:
        if isinstance(value, (dict, list)):
            found += schedules_in(value, f"{path}.{key}" if path else str(key))
    return found
