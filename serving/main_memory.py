"""Main memory that a process can use: the machine's, within the limits of its control groups."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from serving import system_files


def read(root: Path) -> tuple[int | None, int | None]:
    """Returns the bytes of the whole and of the free memory; None for what is unknown.

    Args:
        root: folder in which the system's files are, `/` for this machine.
    """
    pairs = re.findall(
        r"^(\w+):\s+(\d+) kB", system_files.read(root / "proc/meminfo"), re.MULTILINE
    )
    lines = {key: int(value) * 1024 for key, value in pairs}
    total, free = lines.get("MemTotal"), lines.get("MemAvailable")
    for limit, used in _limits(root):
        if total is None or limit < total:
            total = limit
        left = max(0, limit - used)
        free = left if free is None else min(free, left)
    return total, free


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Yields limit and use of the process's control groups, version 2 and 1, from the top."""
    names = (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    )
    for line in ["0::/", "0:memory:/", *system_files.read(root / "proc/self/cgroup").splitlines()]:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / controllers
        folder = top / path.strip("/")
        for place in (folder, *folder.parents):
            limit, used = (
                system_files.read(place / name).strip() for name in names[bool(controllers)]
            )
            if limit.isdecimal() and int(limit) < 2**60:  # version 1 has a huge one for none
                taken = int(used) if used.isdecimal() else 0
                yield int(limit), max(0, taken - _cache(place))
            if place == top:
                break


def _cache(group: Path) -> int:
    """Returns the bytes of files that the group's use includes and the system can take back."""
    found = re.search(
        r"^(?:total_)?inactive_file (\d+)$", system_files.read(group / "memory.stat"), re.M
    )
    return int(found[1]) if found else 0
