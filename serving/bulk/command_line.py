"""Command line of `keras-gan sample` for shards: options, progress, interruption."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from serving.bulk.job import BulkJob, plan
from serving.bulk.runner import run
from serving.bundle import Bundle
from serving.errors import UsageError
from serving.given_files import check_seed_option, find_files
from serving.lists import parse_labels
from serving.progress import ProgressLine
from serving.sample_command import is_ending


def command(options: Any) -> int:
    """Runs `keras-gan sample` into a folder of shards; returns the exit status.

    Args:
        options: parsed by `serving.cli`.

    Raises:
        UsageError: options that do not fit shards or each other.
    """
    job = _plan(options)
    progress = ProgressLine("samples")
    engine = options.engine or "processes"
    try:
        with _interrupted_by_sigterm():
            index = run(
                job,
                options.out,
                options.workers,
                engine,
                options.overwrite,
                lambda job, existing, made: progress.update(existing, job.count, made),
            )
    except KeyboardInterrupt as interrupt:
        progress.clear()
        print(
            "keras-gan: stopped; run the same command again to make the shards that are missing",
            file=sys.stderr,
        )
        return 143 if interrupt.args else 130
    finally:
        progress.clear()
    if count := sum(record.get("not_finite", 0) for record in index["shards"]):
        print(
            "keras-gan: warning: Samples should be finite numbers; index.json counts them by "
            f"shard. Received: {count} NaN or infinite values in {job.count} samples",
            file=sys.stderr,
        )
    made, seconds = index["made"], time.monotonic() - progress.start
    rate = f"{made / seconds:.0f} samples/s" if made else "all of them existed"
    print(
        f"Wrote {options.out}: {job.count} samples of {job.name} in {job.shards} "
        f"{'shard' if job.shards == 1 else 'shards'}, {rate}"
    )
    return 0


def _plan(options: Any) -> BulkJob:
    if options.each or not options.out:
        raise UsageError(
            "Shards are written to --out FOLDER/, and --each cannot be combined with them. "
            f"Received: --out {options.out} --each {options.each}"
        )
    _check_folder(options.out)
    if "://" in options.bundle:
        raise UsageError(f"Shards are made from a bundle on disk. Received: {options.bundle!r}")
    bundle = Bundle(options.bundle, precision=options.precision, threads=1, device="cpu")
    return plan(
        bundle,
        options.shard_size,
        seed=check_seed_option(bundle, options.seed),
        count=options.count,
        given=find_files(options.input),
        form=options.format or "webdataset",
        labels=options.labels and parse_labels(options.labels, bundle.class_names),
        truncation=options.truncation,
        batch_size=options.batch_size,
        metadata=not options.no_metadata,
    )


def _check_folder(out: str) -> None:
    """Checks that --out is not the name of a file, such as grid.png or samples.tar."""
    ending = os.path.splitext(out)[1].lower().removeprefix(".")
    if os.path.isdir(out) or not is_ending(ending):
        return
    raise UsageError(
        "Shards are written to a folder: name one without the ending of a file, or end its name "
        f"with a slash. Received: --out {out}"
    )


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Handles SIGTERM, which clusters send, as Ctrl-C."""

    def interrupt(number: int, _: Any) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield  # Python allows signal handlers in the main thread only
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
