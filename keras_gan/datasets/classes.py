"""Classes of a data set: labels of any type as class ids without gaps, and the order of names."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_gan.datasets.splits import Split
from keras_gan.errors import UsageError
from serving.checks import check_different

MAX_CLASSES = 100_000
_FEW_CLASSES = 1000  # up to so many may have a single sample each
_SHOWN = 5  # labels in a line

_MISSING = -1  # class id of a label that is not among the classes


@dataclasses.dataclass(frozen=True)
class Classes:
    """The classes of labels.

    Args:
        labels: the label of each class, in the order of the class ids: integers or strings.
        names: the name of each class, or none.
        line: one sentence that says which labels became which class ids; empty if the labels are
            the class ids.
    """

    labels: np.ndarray
    names: tuple[str, ...] = ()
    line: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def ids(self, labels: np.ndarray) -> np.ndarray:
        """Returns the class ids of labels, int32; -1 for those that are not among the classes."""
        if not len(self.labels):
            return np.full(len(labels), _MISSING, np.int32)
        order = np.argsort(self.labels, kind="stable")
        at = np.searchsorted(self.labels, labels, sorter=order).clip(max=len(order) - 1)
        found = order[at]
        return np.where(self.labels[found] == labels, found, _MISSING).astype(np.int32)


def find_classes(
    labels: np.ndarray, class_names: Sequence[str] = (), keep_ids: bool = False
) -> Classes:
    """Returns the classes that labels have: those that occur, in ascending order.

    A class id that no sample has would never be trained, and would still be drawn from a seed.

    Args:
        labels: labels of the training samples, as `check_labels` returns them.
        class_names: names of the classes in the order of the ids. They name the ids from 0, or,
            if larger ids occur, the ids that do.
        keep_ids: whether integers stay the class ids that they are, from 0 to the largest.

    Raises:
        UsageError: too many classes, or names that do not fit them.
    """
    values, names = np.unique(labels), tuple(class_names)
    check_different("class_names", names)
    if values.dtype.kind == "U":
        values = np.array(sorted(values.tolist(), key=natural_key))
        if not names:
            _check_count(len(values), len(labels))
        return _named_by_text(values, names)
    count, number = len(values), len(names) or (int(values[-1]) + 1 if len(values) else 0)
    fits = not count or int(values[-1]) < number
    if keep_ids:
        if not fits:
            raise _wrong_ids(values, number)
        check_class_count(number, "labels")
        return Classes(np.arange(number), names)
    if not names:
        _check_count(count, len(labels))
    if count == number:
        return Classes(np.arange(number), names) if fits else _in_order(values, names)
    if not fits:
        raise _wrong_ids(values, number)
    return _present(values, names)


def number_classes(
    splits: Mapping[str, Split], class_names: Sequence[str] = (), keep_ids: bool = False
) -> tuple[dict[str, Split], Classes | None]:
    """Returns splits whose labels are class ids, and the classes; `None` without labels.

    The training samples determine the classes. Held-out samples of other classes are left out.

    Args:
        splits: splits with labels as `check_labels` returns them.
        class_names, keep_ids: see `find_classes`.

    Raises:
        UsageError: labels of different types, or what `find_classes` raises.

    Warns:
        UserWarning: labels that became other class ids, or held-out samples that are left out.
    """
    train = splits["train"]
    if train.labels is None or any(part.labels is None for part in splits.values()):
        return dict(splits), None  # labels in some splits only are refused by `Source`
    used = [_used(part) for part in splits.values()]
    if len({labels.dtype.kind == "U" for labels in used}) > 1:
        raise UsageError(
            "Labels must be of one type in all splits. Received: "
            + ", ".join(f"{name} of {y.dtype}" for name, y in zip(splits, used, strict=True))
        )
    classes = find_classes(np.concatenate(used) if keep_ids else used[0], class_names, keep_ids)
    if classes.line:
        warnings.warn(classes.line, stacklevel=2)
    numbered = {}
    for name, part in splits.items():
        part = dataclasses.replace(part, labels=classes.ids(np.asarray(part.labels)))
        numbered[name] = part if name == "train" else _without_others(part, splits[name])
    return numbered, classes


def check_labels(y: Any, count: int, name: str) -> np.ndarray:
    """Checks labels and returns them as int64 or strings, `(count,)`.

    Raises:
        UsageError: labels that are not one integer of at least 0, or one text, for each sample.
    """
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2:
        raise UsageError(
            "Labels must be class ids, (count,); for one-hot labels write "
            f"{name}.argmax(axis=1). Received: {name}.shape={y.shape}"
        )
    if y.ndim != 1:
        raise UsageError(f"Labels must be of shape (count,). Received: {name}.shape={y.shape}")
    y = _to_integers_or_text(y, name)
    if len(y) != count:
        raise UsageError(
            f"There must be one label for each sample. Received: {count} samples and {len(y)} "
            f"labels in {name}"
        )
    if y.dtype.kind == "i" and count and y.min() < 0:
        hint = "; leave unlabeled samples (-1) out, or labels=false" if y.min() == -1 else ""
        raise UsageError(
            f"Labels must be integers of at least 0, such as class ids from 0 to the number of "
            f"classes minus 1{hint}. Received: {name} from {y.min()} to {y.max()}"
        )
    return y


def natural_key(name: str) -> tuple[Any, ...]:
    """Returns a sort key by which numbers in names are in the order of their values."""
    parts = re.split(r"(\d+)", name)  # texts and digits alternate
    return (*(int(part) if number % 2 else part for number, part in enumerate(parts)), name)


def check_class_count(count: int, name: str) -> None:
    """Checks a number of classes or tokens, each of which has weights.

    Raises:
        UsageError: more than `MAX_CLASSES`.
    """
    if count > MAX_CLASSES:
        raise UsageError(
            f"Ids must be below {MAX_CLASSES:,}, as each has weights. "
            f"Received: {name} up to {count - 1:,}"
        )


def _to_integers_or_text(y: np.ndarray, name: str) -> np.ndarray:
    if y.dtype.kind == "O" and all(isinstance(label, str) for label in y):
        y = y.astype(np.str_)
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "replace")
    if y.dtype.kind == "U":
        return y
    is_float = y.dtype.kind == "f"
    if is_float and y.size and not (np.isfinite(y).all() and (y == np.rint(y)).all()):
        wrong = y[~(np.isfinite(y) & (y == np.rint(y)))][0]
        raise UsageError(
            f"Labels must be integers or texts, (count,). Received: {name}.dtype={y.dtype} with "
            f"the label {wrong}"
        )
    too_large = y.dtype.kind in "uf" and y.size and float(y.max()) >= 2.0**63
    if y.dtype.kind not in "biuf" or too_large:
        raise UsageError(
            f"Labels must be integers below 2**63 or texts, (count,). "
            f"Received: {name}.dtype={y.dtype}, shape={y.shape}"
        )
    return y.astype(np.int64)


def _named_by_text(values: np.ndarray, names: tuple[str, ...]) -> Classes:
    """Returns classes of labels that are texts, in the order of `names` if those are given."""
    texts = tuple(values.tolist())
    if not names:
        return Classes(values, texts)
    unknown = [text for text in texts if text not in names]
    if unknown:
        raise UsageError(
            f"Labels that are texts must be among the class_names, {_listed(names)}. "
            f"Received: {_listed(unknown)}"
        )
    present = tuple(name for name in names if name in texts)
    gone = [name for name in names if name not in texts]
    line = f"Classes without training samples are left out: {_listed(gone)}" if gone else ""
    return Classes(np.array(present), present, line)


def _in_order(values: np.ndarray, names: tuple[str, ...]) -> Classes:
    """Returns classes whose names are as many as the labels, though the ids do not start at 0."""
    line = (
        f"Labels {_listed(values.tolist())} became class ids {_listed(range(len(values)))}, which "
        f"are named {_listed(names)} in this order"
    )
    return Classes(values, names, line)


def _present(values: np.ndarray, names: tuple[str, ...]) -> Classes:
    """Returns the classes of integers among which some are missing."""
    labels = values.tolist()
    became = f"Labels {_listed(labels)} became class ids {_listed(range(len(labels)))}"
    if not names:
        line = (
            f"{became} and the names of the classes, so that every class has training samples; "
            "keep_ids=true keeps the labels as ids"
        )
        return Classes(values, tuple(map(str, labels)), line)
    gone = [name for label, name in enumerate(names) if label not in set(labels)]
    line = (
        f"Classes without training samples are left out: {_listed(gone)}. {became}; "
        "keep_ids=true keeps the labels as ids"
    )
    return Classes(values, tuple(names[label] for label in labels), line)


def _used(part: Split) -> np.ndarray:
    labels = np.asarray(part.labels)
    return labels if part.index is None else labels[part.index]


def _without_others(part: Split, stored: Split) -> Split:
    """Returns a held-out split without the samples of classes that are not trained on."""
    ids = _used(part)
    if (ids != _MISSING).all():
        return part
    unknown = _used(stored)[ids == _MISSING]
    rows = part.row_numbers[ids != _MISSING]
    line = (
        f"{len(unknown):,} of {len(ids):,} held-out samples have labels that no training sample "
        f"has: {_listed(sorted(set(unknown.tolist())))}"
    )
    if not len(rows):
        raise UsageError(f"Held-out samples must be of the training's classes. Received: {line}")
    warnings.warn(f"{line}. They are left out", stacklevel=3)
    return dataclasses.replace(part, index=rows)


def _check_count(count: int, samples: int) -> None:
    if count > MAX_CLASSES or (count > _FEW_CLASSES and 2 * count > samples):
        raise _too_many(count, samples)


def _too_many(count: int, samples: int) -> UsageError:
    return UsageError(
        "Labels must be classes with samples to learn from; labels=false trains without them. "
        f"Received: {count:,} classes of {samples:,} samples"
    )


def _wrong_ids(values: np.ndarray, count: int) -> UsageError:
    return UsageError(
        f"Labels must be class ids from 0 to {count - 1}. Received: {len(values)} different labels "
        f"from {values[0]} to {values[-1]} and {count} class_names"
    )


def _listed(values: Sequence[Any]) -> str:
    """Returns values in words: `1 to 10`, `0, 5, 900`, or the first and last of many."""
    values = list(values)
    whole = all(isinstance(value, int) for value in values)
    if whole and len(values) > 2 and values == list(range(values[0], values[-1] + 1)):
        return f"{values[0]} to {values[-1]}"
    shown = values if len(values) <= _SHOWN else [*values[: _SHOWN - 2], "...", values[-1]]
    more = f" ({len(values):,})" if len(values) > _SHOWN else ""
    return ", ".join(map(str, shown)) + more
