"""The record of a training's data: spec, counts, stored ranges and a digest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_gan import datasets
from keras_gan import recipe as recipes
from keras_gan.datasets import Source
from keras_gan.errors import UsageError
from keras_gan.spec import Spec


def check_place(place: tuple[str, str], owner: str | os.PathLike[str]) -> None:
    """Checks that data which a run or bundle records can still be found.

    Args:
        place: as `datasets.place_of` returned it.
        owner: the run or bundle.

    Raises:
        UsageError: it is not there any longer; the new place has to be given.
    """
    key, where = place
    if not datasets.exists(where):
        raise UsageError(
            "The data of a run must be where it was, or its new place must be given with --data "
            f"(data=... in Python). Received: {owner} with data.{key}={where!r}, which does not "
            "exist"
        )


def data_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns what differs between two descriptions of data, in words; nothing for the same data.

    Args:
        before: as `describe_data` returned it, or a part of it, such as a bundle's.
        now: likewise, complete.
    """
    now = json.loads(json.dumps(now))
    found = []
    if "spec" in before:
        found += _spec_differences(Spec.from_json(before["spec"]), Spec.from_json(now["spec"]))
    old, new = before.get("counts", now["counts"]), now["counts"]
    counts = [
        f"{split} {old.get(split, 0):,}, now {new.get(split, 0):,}"
        for split in sorted({*old, *new})
        if old.get(split, 0) != new.get(split, 0)
    ]
    if counts:
        found.append(f"counts ({'; '.join(counts)})")
    ranges, current = before.get("raw_ranges", now["raw_ranges"]), now["raw_ranges"]
    if ranges != current and not any(each.startswith(("kind", "fields")) for each in found):
        found.append(f"stored ranges ({_ranges(ranges)}; now {_ranges(current)})")
    if before.get("labeled") != now.get("labeled") and "spec" in before:
        found.append(f"labels ({_labels_of(before)}, now {_labels_of(now)})")
    if before["digest"] != now["digest"]:
        found.append(f"content (digest {before['digest'][:8]}, now {now['digest'][:8]})")
    return found


def _labels_of(described: Mapping[str, Any]) -> str:
    few = described.get("labeled")
    return f"{few['count']:,} (digest {few['digest'][:8]})" if few else "all"


_SHOWN = 5  # class names of each of two data sets


def _spec_differences(old: Spec, new: Spec) -> list[str]:
    """Returns what differs between the fields of two data sets, in words."""
    if old == new:
        return []
    if old.kind != new.kind:
        return [f"kind ({old.kind}, now {new.kind})"]
    found = []
    if old.fields.keys() - {"labels"} != new.fields.keys() - {"labels"}:
        found.append(f"fields ({', '.join(old.fields)}; now {', '.join(new.fields)})")
    if (old.num_classes, old.class_names) != (new.num_classes, new.class_names):
        found.append(f"classes ({_classes(old, new)}, now {_classes(new, old)})")
    for name in sorted((old.fields.keys() & new.fields.keys()) - {"labels"}):
        one, other = old.fields[name], new.fields[name]
        owner = "" if name == "samples" else f" of {name}"
        facts = [("kind", one.kind, other.kind), ("shape", one.shape, other.shape)]
        facts += [("dtype", one.dtype, other.dtype)]
        facts += [
            (key, one.meta.get(key), other.meta.get(key)) for key in {**one.meta, **other.meta}
        ]
        found += [f"{key}{owner} ({a}, now {b})" for key, a, b in facts if a != b]
    return found or ["fields"]


def _ranges(ranges: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {'unbounded' if limits is None else f'from {limits[0]:g} to {limits[1]:g}'}"
        for name, limits in ranges.items()
    )


def _classes(spec: Spec, other: Spec) -> str:
    """Returns the number of a data set's classes, with those names that the other has not."""
    own = [name for name in spec.class_names if name not in other.class_names]
    names = ", ".join(own[:_SHOWN]) + ", ..." * (len(own) > _SHOWN)
    if not own and spec.class_names and set(spec.class_names) == set(other.class_names):
        names = f"in the order {', '.join(spec.class_names[:_SHOWN])}"
    return f"{spec.num_classes or 'none'}{f': {names}' if names else ''}"


def check_same(recorded: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """Returns the description of data, after a check that a run was trained on them.

    Raises:
        UsageError: they differ from the recorded ones, and in what.
    """
    now = describe_data(source)
    if differences := data_differences(recorded, now):
        raise UsageError(
            f"A run can only be used with its original data, {recorded['description']}. "
            f"Received: {source.description}, which differs in {' and '.join(differences)}"
        )
    return now


@contextlib.contextmanager
def reading_moved(recorded: Mapping[str, Any], section: Any, place: str | None) -> Iterator[None]:
    """Reports other data than those of a run by what differs, whatever error reading them raises.

    The recipe's options are for the original data: an error about one of them, such as its class
    names, concerns nothing that the user has given.

    Args:
        recorded: the run's description of its data.
        section: the section `data` of the run's recipe.
        place: the new place of the data, or `None` if they have not moved.
    """
    try:
        yield
    except UsageError:
        if place is not None:
            source = section.get("source") if isinstance(section, dict) else None
            if isinstance(source, str) and datasets.takes_folder(source):
                check_same(recorded, datasets.open(source, path=place))
            else:
                check_same(recorded, datasets.open(place))
        raise


def moved_place(
    recorded: Mapping[str, Any], options: Any, data: str | os.PathLike[str] | None
) -> str | None:
    """Returns the new place of a run's data, which the options of its recipe must fit.

    Args:
        recorded: the run's description of its data.
        options: the section `data` of the run's recipe.
        data: the new place, or `None` if the data have not moved.

    Raises:
        UsageError: no place, or other data.
    """
    if data is None:
        return None
    place = os.fspath(data)
    if not place:
        raise UsageError("`data` must name the new place of the data. Received: data=''")
    if isinstance(options, dict):
        with reading_moved(recorded, options, place):
            known = {k: v for k, v in options.items() if k != "source"}
            source = options.get("source")
            if isinstance(source, str) and datasets.takes_folder(source):
                recipes.check_data(source, {**known, "path": place})
            else:
                recipes.check_data(place, known)
    return place


def describe_data(source: Source) -> dict[str, Any]:
    """Returns the spec of the data, its counts, its stored ranges, and a digest.

    The digest is of 1,000 values of each field in each split.
    """
    counts = {split: source.count(split) for split in source.split_names}
    digest = hashlib.sha256()
    for split in counts:
        for name, count in source.field_counts(split).items():
            rows = np.linspace(0, count - 1, min(count, 1000)).astype(int)
            array = source.field_rows(split, rows, (name,))[name]
            digest.update(np.ascontiguousarray(array).tobytes())
    return {
        "description": source.description,
        "spec": source.spec.to_json(),
        "counts": counts,
        "raw_ranges": {name: limits and [*limits] for name, limits in source.raw_ranges.items()},
        "digest": digest.hexdigest(),
        **_few_labels(source),
    }


def _few_labels(source: Source) -> dict[str, Any]:
    """Returns the number of labeled training examples, and a digest of which they are."""
    rows = source.labeled_rows
    if rows is None:
        return {}
    content = rows.astype("<i8").tobytes() + source.labels()[rows].astype("<i4").tobytes()
    return {"labeled": {"count": len(rows), "digest": hashlib.sha256(content).hexdigest()}}


def as_recorded(recorded: Mapping[str, Any], source: Source) -> Source:
    """Returns the source in the reading that a record of data describes.

    Versions up to 0.1.0 read some data in another way: with other class ids, files or ranges. A
    run that began with such a reading keeps it. The source is returned unchanged if neither
    reading is the recorded one.

    Args:
        recorded: what `describe_data` returned, or a part of it with at least the digest.
        source: the data as they are read now.
    """
    if source.earlier is None:
        return source
    now = describe_data(source)
    began_before = "spec" in recorded and "raw_ranges" not in recorded
    if not (began_before or data_differences(recorded, now)):
        return source
    with warnings.catch_warnings():  # the warnings of the present reading have been given
        warnings.simplefilter("ignore")
        try:
            earlier = source.earlier()
        except UsageError:  # that reading refuses the data
            return source
    before = describe_data(earlier)
    alike = not data_differences(before, now)
    if alike or data_differences(recorded, before):
        return source
    warnings.warn(
        f"The data are read as {__package__} 0.1.0 read them, with which this run began: "
        f"{earlier.description}",
        stacklevel=2,
    )
    return earlier
