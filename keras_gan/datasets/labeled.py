"""Few labels: the choice of the training examples that keep theirs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_gan.arguments import check_integer, check_share
from keras_gan.datasets.splits import Split
from keras_gan.errors import UsageError
from keras_gan.spec import UNLABELED

if TYPE_CHECKING:
    from keras_gan.datasets.source import Source

SHARE = 0.25  # of a batch that is drawn from the labeled examples


def keep(
    source: Source,
    labeled: int | Sequence[int] | None = None,
    labeled_seed: int = 0,
    labeled_share: float = SHARE,
) -> Source:
    """Returns data of which few training examples have labels; the others have the label -1.

    The labels of the others are not kept anywhere in the result. Held-out examples keep theirs.

    Args:
        source: data with labels.
        labeled: number of training examples that keep their labels, at least one for each class
            and balanced: the numbers of two classes differ by at most one. A list of numbers is
            one of positions in the training split, whose labels alone are then read. `None` for
            all of them.
        labeled_seed: seed of the choice, from 0 up. The choice depends on the order of the
            examples and their labels, and not on the seed of the training.
        labeled_share: share of each training batch that is drawn from the labeled examples
            alone, from 0 up and below 1, at least one example if it is above 0. The rest is drawn
            from all examples. With 0 labeled examples come as often as any other.

    Raises:
        UsageError: data without labels, an option out of range, or a class without enough
            examples.
    """
    check_integer("labeled_seed", labeled_seed, 0)
    check_labeled_share(labeled_share)
    if labeled is None:
        return source
    if not source.spec.num_classes:
        raise UsageError(
            "`labeled` needs data with labels. "
            f"Received: labeled={labeled!r} for {source.description}"
        )
    labels = source.labels()
    if isinstance(labeled, Sequence):
        rows = _check_rows(labeled, len(labels))
    else:
        rows = choose(
            labels, labeled, source.spec.num_classes, labeled_seed, source.spec.class_name
        )
    return source.with_labels_of(rows, labeled_share)


def check_labeled_share(share: float) -> None:
    """Checks the option `labeled_share`."""
    if share != 0:
        check_share("labeled_share", share)
    if share == 1:
        raise UsageError(
            "`labeled_share` must be below 1, as all examples are trained on. "
            f"Received: labeled_share={share}"
        )


def choose(
    labels: np.ndarray,
    count: int,
    num_classes: int,
    seed: int,
    class_name: Callable[[int], str] = str,
) -> np.ndarray:
    """Returns the positions of a balanced random choice of examples, in ascending order.

    Args:
        labels: class ids, `(examples,)`.
        count: number of examples to choose.
        num_classes: number of classes.
        seed: seed of the choice.
        class_name: function from a class id to the name of the class, for errors.

    Raises:
        UsageError: fewer than one example for each class, or a class with too few examples.
    """
    check_integer("labeled", count)
    if not num_classes <= count <= len(labels):
        raise UsageError(
            f"`labeled` must be at least the number of classes, {num_classes}, and at most that "
            f"of the training examples, {len(labels)}. Received: labeled={count}"
        )
    # The numbers of a seed sequence are the same in every version of numpy.
    keys = np.random.SeedSequence(seed).generate_state(len(labels) + num_classes, np.uint64)
    order = np.argsort(keys[num_classes:], kind="stable")
    quotas = np.full(num_classes, count // num_classes)
    quotas[np.argsort(keys[:num_classes], kind="stable")[: count % num_classes]] += 1
    chosen = []
    for label, quota in enumerate(quotas):
        found = order[labels[order] == label][:quota]
        if len(found) < quota:
            raise UsageError(
                f"`labeled`={count} asks for {quota} examples of each class. "
                f"Received: {len(found)} of class {class_name(label)!r}"
            )
        chosen.append(found)
    return np.sort(np.concatenate(chosen))


def _check_rows(given: Sequence[int], count: int) -> np.ndarray:
    """Returns positions that a user gave, in ascending order."""
    rows = np.unique(np.asarray(given))
    whole = len(rows) and np.issubdtype(rows.dtype, np.integer)
    if not whole or len(rows) < len(given) or rows[0] < 0 or rows[-1] >= count:
        raise UsageError(
            f"`labeled` must be a number, or different positions from 0 to {count - 1}, at least "
            f"one. Received: {len(given)} positions, such as {list(given)[:3]!r}"
        )
    return rows


def without_other_labels(splits: dict[str, Split], rows: np.ndarray) -> dict[str, Split]:
    """Returns splits whose training examples have the label -1, but for some of them.

    Splits often share an array of labels. Each gets an array of its own, which holds the labels
    of its examples and -1 at all others.

    Args:
        splits: the splits, with labels.
        rows: positions in the training split of the examples that keep their labels.
    """
    kept = {name: part.row_numbers for name, part in splits.items()}
    kept["train"] = kept["train"][rows]
    return {name: _with_labels_of(part, kept[name]) for name, part in splits.items()}


def _with_labels_of(part: Split, rows: np.ndarray) -> Split:
    given = part.labels
    if given is None:
        return part
    labels = np.full_like(given, UNLABELED)
    labels[rows] = given[rows]
    return dataclasses.replace(part, labels=labels)
