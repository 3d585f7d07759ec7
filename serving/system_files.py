"""Files in which Linux reports on the machine and its processes, such as `/proc/cpuinfo`."""

from __future__ import annotations

from pathlib import Path


def read(path: Path) -> str:
    """Returns the text of a file; empty where there is none, as on other systems."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
