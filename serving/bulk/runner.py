"""Runs of bulk jobs: resumed, with the missing shards made and the index completed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from serving import tfrecord
from serving.bulk.destinations import Destination, open_destination
from serving.bulk.engines import import_ray, make_by_processes, make_by_ray
from serving.bulk.index import ShardIndex, load_index
from serving.bulk.job import BulkJob, either
from serving.errors import UsageError
from serving.provenance import NOTICE

_ENGINES = {"processes": make_by_processes, "ray": make_by_ray}
ENGINES = tuple(_ENGINES)
Progress = Callable[[BulkJob, int, int], None]  # job, samples that exist, samples made by this run


def run(
    job: BulkJob,
    out: str,
    workers: int | None = None,
    engine: str = "processes",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Makes the shards that do not exist yet; returns the content of `index.json`.

    Args:
        job: from `plan`.
        out: a folder, or a URL that fsspec knows.
        workers: number of workers; by default one for each processor.
        engine: `"processes"` of this machine, or `"ray"`: Ray Data, on its cluster.
        overwrite: the folder may hold other files.
        progress: called after each shard with the job, the number of samples that exist and the
            number of samples that this run has made.

    Raises:
        UsageError: a folder of other arguments, of other files, or not writable; a worker that
            failed.
        KeyboardInterrupt: the run was interrupted; complete shards are in the index.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"--workers must be at least 1. Received: --workers {workers}")
    if engine not in ENGINES:
        raise UsageError(f"--engine must be {either(ENGINES)}. Received: --engine {engine}")
    if engine == "ray":
        import_ray()  # fails before the folder is created
    destination = open_destination(out)
    try:
        with destination.locked():
            sizes = destination.sizes()
            index = load_index(job, destination, sizes, overwrite)
            destination.clean(sizes)
            return _complete(job, destination, index, engine, workers, progress)
    except OSError as error:
        raise UsageError(f"The output must be writable. Received: {error}") from error


def _complete(
    job: BulkJob,
    destination: Destination,
    index: ShardIndex,
    engine: str,
    workers: int | None,
    progress: Progress | None,
) -> dict[str, Any]:
    """Makes the missing shards."""
    before = index.count
    index.save()
    made = 0

    def add(number: int, record: dict[str, Any]) -> None:
        nonlocal made
        made += record["count"]
        index.add(number, record)
        if progress:
            progress(job, before + made, made)

    try:
        if missing := index.missing:
            _ENGINES[engine](job, destination, missing, workers, add)
    except BaseException:
        index.save()
        raise
    if job.form == "tfrecord":
        _write_dataset_info(job, destination, index)
    return index.save(complete=True) | {"made": made}


def _write_dataset_info(job: BulkJob, destination: Destination, index: ShardIndex) -> None:
    """Writes the files that TensorFlow Datasets reads, once all shards are complete."""
    bundle = job.open_bundle()
    files = tfrecord.metadata(
        job.name,
        bundle.outputs,
        bundle.inputs.classes,
        is_seeded=bool(bundle.inputs.seeded),
        lengths=[index.records[number]["count"] for number in range(job.shards)],
        size=sum(record["bytes"] for record in index.records.values()),
        description=f"{job.count} samples of {job.name}, seeds from {job.seed}. {NOTICE}",
    )
    for name, text in files.items():
        destination.write_text(name, text)
