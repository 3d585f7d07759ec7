"""Engines that make shards in parallel: processes of this machine, and Ray Data."""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from serving import processor, programs
from serving.bulk.destinations import Destination
from serving.bulk.job import BulkJob, Stopped
from serving.bulk.writers import make_shard
from serving.bundle import Bundle
from serving.errors import UsageError

AddRecord = Callable[[int, dict[str, Any]], None]  # called with the number and record of a shard


def make_by_processes(
    job: BulkJob,
    destination: Destination,
    missing: list[int],
    workers: int | None,
    add: AddRecord,
) -> None:
    """Makes shards in worker processes, or in this process if one worker is enough.

    Args:
        job: the job.
        destination: folder of the shards.
        missing: numbers of the shards to make.
        workers: number of processes; by default one for each processor.
        add: called with the number and the record of each complete shard.

    Raises:
        UsageError: a worker process died.
    """
    workers = min(workers or processor.cpus(), len(missing))
    if workers == 1:
        bundle = job.open_bundle()
        for number in missing:
            add(number, _write_shard(bundle, job, destination, number))
        return
    with programs.safe_children():
        _make_in_pool(job, destination, missing, workers, add)


def _make_in_pool(
    job: BulkJob,
    destination: Destination,
    missing: list[int],
    workers: int,
    add: AddRecord,
) -> None:
    context = multiprocessing.get_context("spawn")  # a fork would share onnxruntime's threads
    stop = context.Event()
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, context, initializer=_start_worker, initargs=(job, destination, stop)
    )
    pending: set[concurrent.futures.Future] = set()
    numbers = iter(missing)
    try:
        while True:
            while len(pending) < 2 * workers and (number := next(numbers, None)) is not None:
                pending.add(pool.submit(_work, number))
            if not pending:
                break
            done, pending = concurrent.futures.wait(
                pending, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in done:
                add(*future.result())
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UsageError(
            "A worker process must not die; the system may have killed it for its memory: try "
            f"fewer --workers. Received: {workers} workers"
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        for future in pending:  # shards that were completed while the others were being stopped
            if not future.cancelled() and future.exception() is None and future.result()[1]:
                add(*future.result())


# State of a worker process: bundle, job, destination and stop event, or the error of opening them.
_worker: Any = None


def _start_worker(job: BulkJob, destination: Destination, stop: Any) -> None:
    global _worker
    # The terminal sends Ctrl-C to all processes; only the parent reacts to it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGTERM"):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        _worker = job.open_bundle(), job, destination, stop
    except Exception as error:  # an exception here would break the pool and lose its reason
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        failure = UsageError(f"A worker must be able to open the bundle. Received: {reason}")
        _worker = error if isinstance(error, UsageError) else failure


def _die_with_parent() -> None:
    """Ends the worker with its parent: a killed parent would leave it waiting forever."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _work(number: int) -> tuple[int, dict[str, Any]]:
    if isinstance(_worker, UsageError):
        raise _worker
    bundle, job, destination, stop = _worker
    try:
        return number, _write_shard(bundle, job, destination, number, stop.is_set)
    except Stopped:
        return number, {}  # the parent ignores it


def _write_shard(
    bundle: Bundle,
    job: BulkJob,
    destination: Destination,
    number: int,
    stop: Callable[[], bool] = bool,
) -> dict[str, Any]:
    with destination.writing(job.file_name(number)) as path:
        return make_shard(bundle, job, number, path, stop)


# ------------------------------------------------------------------------------- Ray Data


def import_ray() -> Any:
    """Imports Ray and Ray Data.

    Raises:
        UsageError: they are not installed.
    """
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.data")
    except ImportError as error:
        raise UsageError(
            "--engine ray needs Ray: pip install 'keras-gan[scale]'. "
            f"Received: an environment without it ({error})"
        ) from error
    return ray


class _RayWorker:
    """Actor that opens the bundle once, then makes one shard a row."""

    def __init__(self, job: BulkJob, destination: Destination):
        self._job, self._destination = job, destination
        self._bundle = job.open_bundle()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        number = int(row["number"])
        record = _write_shard(self._bundle, self._job, self._destination, number)
        return {"number": number, **record}


def make_by_ray(
    job: BulkJob,
    destination: Destination,
    missing: list[int],
    workers: int | None,
    add: AddRecord,
) -> None:
    """Makes shards in actors of Ray Data; the arguments are those of `make_by_processes`."""
    ray = import_ray()
    if not ray.is_initialized():  # RAY_ADDRESS names a cluster; without it, one starts here
        with programs.safe_children(), contextlib.chdir(os.sep):  # Ray imports from it, too
            ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    context: Any = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    workers = min(workers or int(ray.cluster_resources().get("CPU", 1)), len(missing))
    rows = ray.data.from_items(
        [{"number": number} for number in missing],
        override_num_blocks=min(len(missing), 10_000),  # Ray repeats a block as a whole
    )
    made = rows.map(
        _RayWorker, fn_constructor_args=(job, destination), concurrency=workers, num_cpus=1
    )
    try:
        for row in made.iter_rows():
            number = int(row.pop("number"))
            # Blocks of rows with and without a key are joined with None.
            found = {key: x.item() if hasattr(x, "item") else x for key, x in row.items()}
            add(number, {key: x for key, x in found.items() if x is not None})
    except ray.exceptions.RayError as error:
        # The last line of a worker's traceback says what was wrong.
        *_, last = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"Ray's workers must not fail. Received: {last[:300]}") from error
