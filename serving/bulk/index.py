"""Index of a folder of shards: which are complete, and from which arguments."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from serving.bulk.destinations import INDEX, Destination, is_temporary
from serving.bulk.job import BulkJob
from serving.errors import UsageError
from serving.provenance import NOTICE

SCHEMA_VERSION = 1


def software() -> dict[str, str]:
    """Returns the releases that shards depend on: others may round or compress differently."""
    import onnxruntime
    import PIL

    return {
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
        "pillow": PIL.__version__,
    }


class ShardIndex:
    """Records of the complete shards, saved often enough that a kill loses a few seconds.

    Args:
        job: the job.
        destination: folder of the shards.
        records: of the shards that exist already, by number.
    """

    def __init__(self, job: BulkJob, destination: Destination, records: dict[int, dict[str, Any]]):
        self._job, self._destination = job, destination
        self.records = records
        self._next_save = 0.0

    @property
    def count(self) -> int:
        """Number of samples in the complete shards."""
        return sum(record["count"] for record in self.records.values())

    @property
    def missing(self) -> list[int]:
        """Numbers of the shards that do not exist yet."""
        return [number for number in range(self._job.shards) if number not in self.records]

    def add(self, number: int, record: dict[str, Any]) -> None:
        """Adds the record of a shard that is complete."""
        self.records[number] = record
        if time.monotonic() >= self._next_save:
            self.save()

    def save(self, complete: bool = False) -> dict[str, Any]:
        """Writes `index.json`; returns its content."""
        start = time.monotonic()
        shards = [self.records[number] for number in sorted(self.records)]
        content = {
            "schema_version": SCHEMA_VERSION,
            "notice": NOTICE,
            "arguments": self._job.arguments(),
            "software": software(),
            "complete": complete,
            "count": self.count,
            "bytes": sum(record["bytes"] for record in shards),
            "shards": shards,
        }
        self._destination.write_text(INDEX, json.dumps(content, indent=1) + "\n")
        now = time.monotonic()
        # Writing an index of many shards takes a while, and must stay a small part of the time.
        self._next_save = now + max(2.0, 20.0 * (now - start))
        return content


def load_index(
    job: BulkJob, destination: Destination, sizes: dict[str, int], overwrite: bool
) -> ShardIndex:
    """Finds the shards of the job that are complete.

    Args:
        job: the job.
        destination: folder of the shards.
        sizes: of the files in it, by name.
        overwrite: the folder may hold other files.

    Raises:
        UsageError: the folder holds other files, or shards of other arguments.
    """
    content = destination.read_index()
    if content is None:
        others = [name for name in sizes if not is_temporary(name)]
        if others and not overwrite:
            raise UsageError(
                "A folder for shards must be new, empty, or begun by the same command; or pass "
                f"--overwrite. Received: {destination}, which holds {min(others)!r}"
            )
        return ShardIndex(job, destination, {})
    _check_arguments(job, content, destination)
    complete = {}
    records = {record["name"]: record for record in content["shards"]}
    for number in range(job.shards):
        record = records.get(job.file_name(number))
        if record and sizes.get(record["name"]) == record["bytes"]:
            complete[number] = record
    return ShardIndex(job, destination, complete)


def _check_arguments(job: BulkJob, content: Any, destination: Destination) -> None:
    """Checks that an index was written from the job's arguments and with the same releases."""
    try:
        known = content["schema_version"] == SCHEMA_VERSION
        before = {**content["arguments"], **content["software"]}
        now = {**job.arguments(), **software()}
        known = known and all(
            isinstance(r["name"], str) and type(r["bytes"]) is int and type(r["count"]) is int
            for r in content["shards"]
        )
    except (KeyError, TypeError, ValueError):
        known, before, now = False, {}, {}
    if not known:
        raise UsageError(
            f"{INDEX} must be a file that keras-gan sample wrote. Received: {destination}/{INDEX}"
        )
    keys = sorted(before.keys() | now.keys())
    changed = [key for key in keys if before.get(key) != now.get(key)]
    if changed:
        listed = (f"{key}={now.get(key)!r:.80} (was {before.get(key)!r:.80})" for key in changed)
        raise UsageError(
            "A folder of shards can only be continued with its original arguments and releases; "
            f"choose another folder. Received: {', '.join(listed)} in {destination}"
        )
