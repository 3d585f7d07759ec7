"""Checks of the values in requests: integers, numbers, booleans, seeds, columns of integers.

Needs numpy alone. Every check raises a `UsageError` that states the rule and the received value;
the HTTP server answers it with status 400.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from serving.errors import NotFiniteError, UsageError, short_repr

MAX_SEED = 2**63 - 1
_MAX_RANK = 8
_INTEGERS = (int, np.integer)  # tuples, as a union would be built at every call
_REALS = (*_INTEGERS, float, np.floating)
_ALLOWED: dict[str, set[type]] = {"f": {int, float}, "b": {bool}}  # by numpy's letter


def check_integer(name: str, value: Any, low: int, high: int) -> int:
    """Returns an integer from `low` to `high`.

    Raises:
        UsageError: another type (booleans and floats included), or out of range.
    """
    if type(value) is not int or not low <= value <= high:
        most = "2**63 - 1" if high == MAX_SEED else high
        raise UsageError(
            f"`{name}` must be an integer from {low} to {most}. "
            f"Received: {name}={short_repr(value)}"
        )
    return value


def check_different(name: str, values: Sequence[str]) -> None:
    """Checks that texts that name things differ, and that none is empty.

    Raises:
        UsageError: a text that occurs twice, or an empty one.
    """
    if len(set(values)) < len(values) or "" in values:
        raise UsageError(
            f"`{name}` must be different texts, none of them empty. "
            f"Received: {name}={short_repr(list(values))}"
        )


def check_number(name: str, value: Any, low: float, high: float) -> float:
    """Returns a finite number from `low` to `high`, as a float.

    Raises:
        UsageError: another type (booleans included), NaN, or out of range.
    """
    if not (type(value) in (int, float) and low <= value <= high and math.isfinite(value)):
        raise UsageError(
            f"`{name}` must be a number from {low} to {high}. Received: {name}={short_repr(value)}"
        )
    return float(value)


def is_integer(value: Any) -> bool:
    """Returns True for an integer of Python or numpy, but not for a Boolean."""
    return isinstance(value, _INTEGERS) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Returns True for an integer or floating-point number of Python or numpy, no Boolean."""
    return isinstance(value, _REALS) and not isinstance(value, bool)


def check_truncation(value: Any) -> float:
    """Returns a truncation from Python, a finite number of at least 0, as a float.

    Raises:
        UsageError: another type (booleans included), NaN, infinity, or below 0.
    """
    if not is_real(value) or not 0 <= value < math.inf:
        raise UsageError(
            "`truncation` must be a finite number of at least 0. "
            f"Received: truncation={short_repr(value)}"
        )
    return float(value)


def check_boolean(name: str, value: Any) -> bool:
    """Returns a boolean.

    Raises:
        UsageError: another type.
    """
    if type(value) is not bool:
        raise UsageError(f"`{name}` must be true or false. Received: {name}={short_repr(value)}")
    return value


def check_seed_list(name: str, value: Any) -> np.ndarray:
    """Converts one seed or a list of seeds from JSON to an int64 array of shape `(n,)`.

    Raises:
        UsageError: an empty list, or an element that is not an integer from 0 to 2**63 - 1.
    """
    if type(value) is int:
        value = [value]
    if type(value) is not list or not value:
        raise UsageError(f"`{name}` must be a list of seeds. Received: {name}={short_repr(value)}")
    for seed in value:
        if type(seed) is not int or not 0 <= seed <= MAX_SEED:
            raise UsageError(
                "A seed must be an integer of at least 0 and below 2**63. "
                f"Received: {name}={short_repr(value)}"
            )
    return np.array(value, np.int64)


def check_column(name: str, values: np.ndarray, high: int = MAX_SEED) -> np.ndarray:
    """Converts integers of shape `(n,)` or `(n, 1)` to an int64 array of shape `(n,)`.

    Args:
        name: plural name of the column, `"seeds"` or `"labels"`; errors use the singular too.
        values: array of any dtype.
        high: largest allowed value; the smallest is 0.

    Raises:
        UsageError: another shape or dtype, or a value out of range.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise UsageError(
            f"`{name}` must be integers of shape [n] or [n, 1]. "
            f"Received: shape={list(values.shape)}, dtype={values.dtype}"
        )
    is_signed = values.dtype.kind == "i"
    too_small = is_signed and values.size and int(values.min()) < 0
    # int64 cannot exceed the largest seed: such requests save the second pass.
    may_exceed = high < MAX_SEED or not is_signed
    if too_small or (may_exceed and values.size and int(values.max()) > high):
        wrong = next(x for x in map(int, values) if not 0 <= x <= high)
        rule = "at least 0 and below 2**63" if high == MAX_SEED else f"0 to {high}"
        one = name.removesuffix("s")
        raise UsageError(f"A {one} must be {rule}. Received: {one}={wrong}")
    return values.astype(np.int64)


def check_finite(name: str, values: np.ndarray) -> None:
    """Checks that all values of a float array are finite.

    Raises:
        UsageError: NaN or infinity; the error shows the first.
    """
    finite = np.isfinite(values)
    if not finite.all():
        raise UsageError(f"`{name}` must be finite numbers. Received: {name}={values[~finite][0]}")


def count_not_finite(outputs: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Returns the number of NaN and infinite values of each output that has any."""
    found = {}
    for name, values in outputs.items():
        if not is_finite(values):
            found[name] = values.size - int(np.count_nonzero(np.isfinite(values)))
    return found


def is_finite(values: np.ndarray) -> bool:
    """Returns True if no value is NaN or infinite.

    Half the time of `np.isfinite(values).all()`, which every response would wait for.
    """
    return values.dtype.kind != "f" or b"\0" not in np.isfinite(values).tobytes()


def check_samples(
    outputs: Mapping[str, np.ndarray], form: str, hint: str, describe: Callable[[int], str]
) -> None:
    """Checks that generated samples can be written in a format without NaN and infinity.

    Args:
        outputs: arrays `(batch, ...)` by name.
        form: the format, as the error names it.
        hint: the formats that have them, as a clause of the error.
        describe: maps the number of a sample in the batch to what it was made from.

    Raises:
        NotFiniteError: a value that is not finite; names the first sample that has one.
    """
    for name, count in count_not_finite(outputs).items():
        row = first_not_finite(outputs[name])
        values = outputs[name][row]
        bad = values[~np.isfinite(values)]
        raise NotFiniteError(
            f"`{name}` must be finite numbers in {form}; {hint}. "
            f"Received: {name}={bad.flat[0]} for {describe(row)}, in {bad.size} of {values.size} "
            f"values of the sample and {count} of the batch"
        )


def describe_not_finite(
    batches: Iterable[tuple[Mapping[str, np.ndarray], Callable[[int], str]]],
) -> str | None:
    """Returns a warning that counts the values that are not finite; `None` if all are.

    Args:
        batches: the outputs `(batch, ...)` of each batch by name, and a function that maps the
            number of a sample in it to what it was made from.
    """
    counts: dict[str, int] = {}
    first: dict[str, str] = {}
    total = 0
    for outputs, describe in batches:
        total += max(map(len, outputs.values()), default=0)
        for name, count in count_not_finite(outputs).items():
            counts[name] = counts.get(name, 0) + count
            first.setdefault(name, describe(first_not_finite(outputs[name])))
    if not counts:
        return None
    found = (
        f"{count} NaN or infinite values in {name}, first for {first[name]}"
        for name, count in counts.items()
    )
    return (
        f"Samples should be finite numbers. Received: {'; '.join(found)}, "
        f"of {total} {'sample' if total == 1 else 'samples'}"
    )


def first_not_finite(values: np.ndarray) -> int:
    """Returns the number of the first sample `(batch, ...)` that has a value that is not finite."""
    return int(np.argmin(np.isfinite(values).reshape(len(values), -1).all(axis=1)))


def describe_sample(
    row: int,
    seeds: np.ndarray | None,
    labels: np.ndarray | None = None,
    truncation: float = 1.0,
) -> str:
    """Describes what a sample was made from, for an error.

    Args:
        row: number of the sample in its batch.
        seeds: seed of each sample; `None` for samples without seeds, which are numbered.
        labels: class id of each sample, or `None`.
        truncation: factor on the latents.
    """
    parts = [f"sample {row}" if seeds is None else f"seed={seeds[row]}"]
    parts += [] if labels is None else [f"label={labels[row]}"]
    parts += [] if truncation == 1 else [f"truncation={truncation:g}"]
    return ", ".join(parts)


def check_batch_size(value: Any) -> int:
    """Returns the number of samples per run of a model.

    Raises:
        UsageError: not an integer of at least 1.
    """
    if not (is_integer(value) and value >= 1):
        raise UsageError(
            f"`batch_size` must be at least 1. Received: batch_size={short_repr(value)}"
        )
    return int(value)


def check_label_count(received: int, count: int) -> None:
    """Checks that there is one label for all samples, or one for each.

    Args:
        received: number of labels.
        count: number of samples.

    Raises:
        UsageError: another number.
    """
    if received not in (1, count):
        raise UsageError(
            f"`labels` must be one for all or one for each of the {count} seeds. "
            f"Received: {received} labels"
        )


def check_repeated_labels(received: int, count: int) -> None:
    """Checks that labels that are repeated over samples are not more than these.

    Args:
        received: number of labels.
        count: number of samples.

    Raises:
        UsageError: more labels than samples, of which some would have no effect.
    """
    if received > count:
        samples = "sample" if count == 1 else "samples"
        raise UsageError(
            "`labels` must be at most one for each sample. "
            f"Received: {received} labels for {count} {samples}"
        )


def flatten(value: Any, kind: str) -> tuple[list[Any], list[int]]:
    """Flattens nested lists of numbers from JSON; returns the numbers and their shape.

    `numpy.array` would first look for a dtype that holds every element: a single long string would
    make all elements as wide.

    Args:
        value: a number, or lists of equal length nested at most 8 deep.
        kind: numpy's letter for the kind of numbers: `"f"` allows floats and integers, `"b"`
            booleans, any other integers.

    Raises:
        ValueError: rows of different lengths.
        TypeError: an element of another type; the message is the type's name.
    """
    flat, shape = [value], []
    while type(flat[0]) is list:
        size = len(flat[0])
        if len(shape) == _MAX_RANK or any(type(x) is not list or len(x) != size for x in flat):
            raise ValueError("rows of different lengths")
        shape.append(size)
        if not size:
            return [], shape
        flat = list(chain.from_iterable(flat))
    kinds = set(map(type, flat))
    if list in kinds:
        raise ValueError("rows of different lengths")
    if other := kinds - _ALLOWED.get(kind, {int}):
        raise TypeError(min(kind.__name__ for kind in other))
    return flat, shape


def integer_array(flat: list[int], shape: list[int]) -> np.ndarray:
    """Returns an int64 array, or a uint64 array if a value is too large for int64.

    Raises:
        OverflowError: a value does not fit uint64 either.
    """
    dtype = np.uint64 if min(flat) >= 0 and max(flat) >= 2**63 else np.int64
    return np.array(flat, dtype).reshape(shape)
