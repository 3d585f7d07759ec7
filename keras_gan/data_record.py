"""The record of a training's data: spec, counts, stored ranges and a digest."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_gan import datasets
from keras_gan.datasets import Source
from keras_gan.errors import UsageError
from keras_gan.spec import Spec


def check_place(source: str, owner: str | os.PathLike[str]) -> None:
    """Checks that data which a run or bundle records can still be found.

    Raises:
        UsageError: it is not there any longer; the new place has to be given.
    """
    if not datasets.exists(source):
        raise UsageError(
            "The data of a run must be where it was, or its new place must be given with --data "
            f"(data=... in Python). Received: {owner} with data.source={source!r}, which does not "
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
    if "spec" in before and Spec.from_json(before["spec"]) != Spec.from_json(now["spec"]):
        found.append("spec")
    old, new = before.get("counts", now["counts"]), now["counts"]
    counts = [
        f"{split} {old.get(split, 0):,}, now {new.get(split, 0):,}"
        for split in sorted({*old, *new})
        if old.get(split, 0) != new.get(split, 0)
    ]
    if counts:
        found.append(f"counts ({'; '.join(counts)})")
    if before.get("raw_ranges", now["raw_ranges"]) != now["raw_ranges"]:
        found.append("stored ranges")
    if before["digest"] != now["digest"]:
        found.append(f"digest ({before['digest'][:8]}, now {now['digest'][:8]})")
    return found


def describe_data(source: Source) -> dict[str, Any]:
    """Returns the spec of the data, its counts, its stored ranges, and a digest.

    The digest is of 1,000 samples of each split.
    """
    counts = {split: source.count(split) for split in source.split_names}
    digest = hashlib.sha256()
    for split, count in counts.items():
        rows = np.linspace(0, count - 1, min(count, 1000)).astype(int)
        for array in source.field_rows(split, rows).values():
            digest.update(np.ascontiguousarray(array).tobytes())
    return {
        "description": source.description,
        "spec": source.spec.to_json(),
        "counts": counts,
        "raw_ranges": {name: limits and [*limits] for name, limits in source.raw_ranges.items()},
        "digest": digest.hexdigest(),
    }


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
