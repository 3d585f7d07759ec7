"""Matching of classes by name: of generated samples, of an extractor and of the data."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics.classified import check_labeled
from keras_gan.metrics.samples import Batch, Samples
from keras_gan.spec import Spec


def match_classes(samples: Samples, real: Spec) -> Samples:
    """Returns the samples with the class ids of the real samples, matched by the classes' names.

    The ids of a folder are in the order of its names. With other names, or with some missing, the
    same id is therefore another class. Names match by themselves. Digits match by their value,
    also with the ids of classes without names.

    Args:
        samples: generated samples.
        real: description of the real samples.

    Raises:
        UsageError: a class that the real samples do not have.
    """
    if not samples.spec.num_classes or not real.num_classes:
        return samples
    own, known = class_keys(samples.spec), class_keys(real)
    by_value = isinstance(own[0], int), isinstance(known[0], int)
    if by_value == (True, False):
        known = list(range(real.num_classes))
    elif by_value == (False, True) and samples.count is None and not real.class_names:
        own = list(range(samples.spec.num_classes))  # a generator's ids are those of its data
    if not samples.spec.class_names:
        known = list(range(real.num_classes))
    unknown = [label for label, name in enumerate(own) if name not in known]
    if unknown:
        name = samples.spec.class_name(unknown[0])
        raise UsageError(
            "The classes of the samples must be among those of the data, by name or, in digits, "
            f"by id (0 to {real.num_classes - 1}); pictures in one folder have none. "
            f"Received: {name!r} of {samples.protocol['source']}"
        )
    return _renumbered(samples, np.array([known.index(name) for name in own]), real)


def class_keys(spec: Spec) -> list[Any]:
    """Returns one key per class: the value of digits, the name, or the id if there are no names.

    Names are reduced to letters and digits in one case, as a folder cannot be called T-shirt/top.
    They stay whole where the reduction would merge two classes.
    """
    if spec.class_names and all(name.isdecimal() for name in spec.class_names):
        return [int(name) for name in spec.class_names]
    if not spec.class_names:
        return list(range(spec.num_classes))
    plain = [re.sub(r"[\W_]", "", name).casefold() for name in spec.class_names]
    return plain if len({*plain, ""}) > len(plain) else list(spec.class_names)


def data_ids(classes: int, names: tuple[str, ...], spec: Spec) -> np.ndarray | None:
    """Returns the data's id of each class of an extractor; `None` if its classes are others.

    Classes are matched by name if both have names, because the ids of a folder are in the order of
    its names, and by id otherwise.

    Args:
        classes: number of the extractor's classes.
        names: their names, or none.
        spec: description of the data.
    """
    if classes != spec.num_classes:
        return None
    known = class_keys(spec)
    own = class_keys(spec.with_classes(classes, tuple(names)))
    are_numbers = isinstance(known[0], int), isinstance(own[0], int)
    if any(are_numbers) and not (all(are_numbers) and names and spec.class_names):
        own = list(range(classes))
    by_id = isinstance(known[0], str) and isinstance(own[0], int)
    if by_id or (not names and set(own) != set(known)):  # such as the labels 1 to 10
        known = list(range(classes))
    if set(own) != set(known):
        return None
    return np.array([known.index(name) for name in own])


def _renumbered(samples: Samples, ids: np.ndarray, real: Spec) -> Samples:
    """Returns samples with the labels `ids[label]`; a generator accepts the new ids as well."""

    def read(count: int) -> Iterator[Batch]:
        for batch, labels in samples.read(count):
            yield batch, labels if labels is None else ids[labels]

    spec = samples.spec.with_classes(real.num_classes, real.class_names)
    relabel = samples.with_labels

    def with_labels(labels: np.ndarray) -> Samples:
        generator: Any = relabel
        return _renumbered(generator(np.argsort(ids)[labels]), ids, real)

    all_classes = relabel is not None and len(ids) == real.num_classes
    return dataclasses.replace(
        samples, spec=spec, read=read, with_labels=with_labels if all_classes else None
    )


def like_real(samples: Samples, real: Samples, count: int) -> Samples:
    """Returns a generator's samples with the labels of `count` real ones, in random order.

    Samples that are not a conditional generator's are returned unchanged.
    """
    if samples.with_labels is None or not real.spec.num_classes:
        return samples
    labels = np.concatenate([part for _, part in real.read(count) if part is not None])
    check_labeled(labels)
    found = samples.with_labels(np.random.default_rng(0).permutation(labels))
    names = ("answers", "inverse", "controls", "codes", "classifier", "swaps")
    kept = {name: getattr(samples, name) for name in names}
    return dataclasses.replace(found, **kept)
