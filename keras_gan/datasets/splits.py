"""Splits of a data set: training and held-out examples, and how they are divided."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from keras_gan.arguments import check_integer, is_number
from keras_gan.errors import UsageError


class OwnSplitsError(UsageError):
    """Error for the option `held_out` on data that have held-out examples of their own."""


class Factor(NamedTuple):
    """A property of samples that is known exactly, whether or not it is their label.

    Args:
        ids: its value in each sample, integers from 0, `(count,)`.
        names: names of the values, in the order of the ids.
        in_frames: whether a single frame of a video shows it.
    """

    ids: np.ndarray
    names: tuple[str, ...]
    in_frames: bool = False


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of a data set: rows of arrays that other splits may share.

    Args:
        samples: array of samples, `(count, ...)`. Images are uint8 or floating point, NHWC;
            points are floating point, `(count, features)`.
        labels: int32 class ids of the rows of `samples`, `(count,)`; `None` without labels.
        index: rows of the arrays that make the split, in order; `None` for all of them.
        disjoint: whether it is known to share no sample with another split.
        others: arrays of further fields by name, `(count, ...)`.
        apart: rows that together hold all of the data once, in order, where the rows of the split
            overlap each other, as windows do; `None` for all of them.
        independent: rows of those of `others` that do not belong to the samples row by row, such as
            the pictures of another domain, by name and in order. Their arrays may be of any
            length, and batches draw from these rows on their own.
        factors: known properties of the rows of `samples`, by name.
    """

    samples: np.ndarray
    labels: np.ndarray | None = None
    index: np.ndarray | None = None
    disjoint: bool = False
    others: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    independent: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    apart: np.ndarray | None = None
    factors: Mapping[str, Factor] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.samples if self.index is None else self.index)

    def without_overlap(self) -> Split:
        """Returns the split with rows that hold all of its data once, see `apart`."""
        return self if self.apart is None else dataclasses.replace(self, index=self.apart)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The whole arrays of all fields by name: samples, labels if there are any, others."""
        labels = {} if self.labels is None else {"labels": self.labels}
        return {"samples": self.samples, **labels, **dict(sorted(self.others.items()))}

    def rows_of(self, name: str) -> np.ndarray:
        """Returns the rows of a field's array that make the split, in order."""
        return self.independent.get(name, self.row_numbers)

    def swapped(self, name: str) -> Split:
        """Returns the split with the samples and a field exchanged, without labels."""
        samples, others = self.others[name], {**self.others, name: self.samples}
        if name not in self.independent:
            return dataclasses.replace(
                self, samples=samples, labels=None, others=others, disjoint=True
            )
        # The rows of the field are its own, so that those of all others are foreign to them.
        rows = {other: self.rows_of(other) for other in others} | {name: self.row_numbers}
        return Split(samples, None, self.rows_of(name), True, others, rows)

    @property
    def row_numbers(self) -> np.ndarray:
        """Rows of the arrays that make the split, in order."""
        return np.arange(len(self.samples)) if self.index is None else self.index


def hold_out(whole: Split, fraction: float, groups: np.ndarray | None = None) -> dict[str, Split]:
    """Divides a split into `"train"` and `"held_out"` by the content of its samples.

    The samples are sorted by a hash of their content and the first ones are held out. The choice
    looks random, does not depend on the training seed or on the order of the files, and never
    separates copies of one sample.

    Args:
        whole: the examples to divide.
        fraction: share to hold out, at least 0 and below 1; if not 0, at least one is held out.
        groups: number or name of the group of each row, `(len(whole),)`; rows of one group are
            not separated. At most the share is held out then, unless every group is larger: the
            smallest group is. The choice depends on the names of the groups, and without names on
            the content. By default each sample is a group.

    Raises:
        UsageError: a fraction outside the range, or samples that cannot be divided.
    """
    if not is_number(fraction) or not 0 <= fraction < 1:
        raise UsageError(
            "`held_out` must be the share of the samples to hold out, at least 0 and below 1. "
            f"Received: held_out={fraction!r}"
        )
    rows = whole.row_numbers
    if fraction == 0 or len(rows) < 2:
        return {"train": whole}
    digests = digests_of(whole.samples, rows)
    wanted = max(1, round(fraction * len(rows)))
    joined = None if groups is None else join_groups(groups, digests)
    # Without other groups than copies of one sample, the choice is the one without groups.
    if groups is not None and joined is not None and len(set(joined)) < len(set(digests)):
        keys = groups if groups.dtype.kind == "U" else digests
        held = _held_groups(joined, keys, wanted)
    else:
        limit = np.sort(digests)[wanted - 1]
        held = digests <= limit
        if len(rows) - held.sum() < min(2, len(rows) - 1):
            held = digests < limit  # copies that cannot be divided are all trained on
    if not held.any():
        raise UsageError(
            "Samples can be held out only if at least two differ; held_out=0 holds none out. "
            f"Received: {len(rows)} samples that are all the same"
        )
    return {
        "train": dataclasses.replace(whole, index=rows[~held], disjoint=True),
        "held_out": dataclasses.replace(whole, index=rows[held], disjoint=True),
    }


def join_groups(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the numbers of the smallest groups, from 0, that divide no group of either kind.

    Args:
        first, second: number or name of the group of each row, `(count,)`.
    """
    (one, other), numbers = zip(
        *(np.unique(groups, return_inverse=True) for groups in (first, second)), strict=True
    )
    links = (np.ones(len(first), bool), (numbers[0], numbers[1] + len(one)))
    graph = sparse.coo_array(links, shape=(len(one) + len(other),) * 2)
    return csgraph.connected_components(graph, directed=False)[1][numbers[0]]


def _held_groups(groups: np.ndarray, keys: np.ndarray, wanted: int) -> np.ndarray:
    """Returns a mask of the samples to hold out: whole groups, in the order of their hashes.

    The hash of a group is that of the keys of all its members, so that large groups do not come
    first.
    """
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    members.sort(key=lambda rows: _hash("\0".join(map(str, np.unique(keys[rows]))).encode()))
    held = np.zeros(len(groups), bool)
    left = wanted
    for rows in members:
        if len(rows) <= left:
            held[rows] = True
            left -= len(rows)
    smallest = min(members, key=len)
    if not held.any() and len(groups) - len(smallest) >= 2:
        held[smallest] = True
    return held


def refuse_groups(noun: str, **options: str | None) -> None:
    """Refuses options that make groups, which data with splits of their own do not use.

    Args:
        noun: plural noun for the samples.
        **options: the options, `None` where one is not given.

    Raises:
        UsageError: an option is given.
    """
    for name, value in options.items():
        if value is not None:
            raise UsageError(
                f"`{name}` must not be given for a folder with held-out {noun} of its own. "
                f"Received: {name}={value!r}"
            )


def divide(
    splits: dict[str, Split],
    held_out: float | None,
    noun: str,
    groups: np.ndarray | None = None,
) -> dict[str, Split]:
    """Holds samples out, 0.1 of them by default, unless the data have held-out ones.

    Args:
        splits: the splits of the data: `"train"`, and perhaps `"held_out"`.
        held_out: the option `held_out`.
        noun: what the data are, for the error.
        groups: see `hold_out`.

    Raises:
        OwnSplitsError: `held_out` is given for data with splits of their own.
    """
    if "held_out" not in splits:
        return hold_out(splits["train"], 0.1 if held_out is None else held_out, groups)
    if held_out is not None:
        raise OwnSplitsError(
            f"`held_out` must not be given for {noun} with held-out samples of its own. "
            f"Received: held_out={held_out!r}"
        )
    return splits


def without_copies(splits: dict[str, Split]) -> dict[str, Split]:
    """Removes the held-out samples that are also training samples.

    Raises:
        UsageError: every held-out sample is a training sample.
    """
    train, held_out = splits.get("train"), splits.get("held_out")
    if train is None or held_out is None or (train.disjoint and held_out.disjoint):
        return splits
    rows = held_out.row_numbers
    seen = digests_of(train.samples, train.row_numbers)
    kept = rows[~np.isin(digests_of(held_out.samples, rows), seen)]
    if len(kept) == len(rows):
        return splits
    if not len(kept):
        raise UsageError(
            "Held-out samples must not be training samples. "
            f"Received: {len(rows)} that are all among the {len(train)} training samples"
        )
    return {**splits, "held_out": dataclasses.replace(held_out, index=kept, disjoint=True)}


def compile_pattern(pattern: str | None) -> re.Pattern[str] | None:
    """Returns the option `group_pattern` as a regular expression.

    Raises:
        UsageError: it is not one.
    """
    try:
        return None if pattern is None else re.compile(pattern)
    except (re.error, TypeError) as error:
        raise UsageError(
            f"`group_pattern` must be a regular expression: {error}. "
            f"Received: group_pattern={pattern!r}"
        ) from None


def match_pattern(pattern: re.Pattern[str], path: str) -> str:
    """Returns what a pattern matches in a file's name, or the path, which no other file has."""
    found = pattern.search(os.path.basename(path))
    return path if found is None else f"match {found[min(1, pattern.groups)]}"


def check_drawn(count: int, held_out_count: int, data_seed: int) -> None:
    """Checks the numbers of samples to draw and the seed that fixes them."""
    check_integer("count", count, 2)
    check_integer("held_out_count", held_out_count)
    check_integer("data_seed", data_seed, 0)


def digests_of(samples: np.ndarray, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns a digest of the content of some samples, uint64: that of equal samples is the same.

    Args:
        samples: array `(count, ...)`.
        rows: positions of the samples.
    """
    return np.fromiter((_hash(samples[row].tobytes()) for row in rows), np.uint64, len(rows))


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
