"""Rules on memory and disk."""

from __future__ import annotations

from collections.abc import Iterator

from serving.doctor.facts import Facts, Finding
from serving.doctor.rules._rule import rule

GIB = 2**30
# The quickstart's peak is 1,265 MiB (docs/results.md).
LEAST_MEMORY = 1.5 * GIB
LITTLE_DISK, NO_DISK = GIB, GIB / 16


@rule
def memory(facts: Facts) -> Iterator[Finding]:
    """Finds too little memory for the smallest training."""
    total, free = facts.machine.memory, facts.machine.free_memory
    if total is not None and total < LEAST_MEMORY:
        yield Finding(
            "warning",
            "training",
            "little-memory",
            f"the memory, or the container's limit, is {total / GIB:.1f} GiB; the quickstart "
            f"needs {LEAST_MEMORY / GIB} GiB",
            "raise the container's limit, or train on a larger machine",
        )
    elif free is not None and free < LEAST_MEMORY:
        yield Finding(
            "warning",
            "training",
            "little-free-memory",
            f"{free / GIB:.1f} GiB of memory are free; the quickstart needs "
            f"{LEAST_MEMORY / GIB} GiB",
            "end other programs before training",
        )


@rule
def temporary_files(facts: Facts) -> Iterator[Finding]:
    """Finds an environment in which no temporary file can be written."""
    if not facts.machine.temporary:
        yield Finding(
            "warning",
            "both",
            "no-temporary-folder",
            "no folder for temporary files can be written, as in a container that is read-only",
            "set TMPDIR to a folder that can be written; in a container docker run --tmpfs /tmp",
        )


@rule
def disk(facts: Facts) -> Iterator[Finding]:
    """Finds folders with little space left."""
    for folder, free in facts.machine.disk.items():
        if free < LITTLE_DISK:
            yield Finding(
                "error" if free < NO_DISK else "warning",
                "training",
                "little-disk",
                f"{free / GIB:.2f} GiB are free in {folder}, where "
                "runs, checkpoints or temporary files are written",
                "free some space, or write elsewhere: --run for runs, TMPDIR for temporary files",
            )
