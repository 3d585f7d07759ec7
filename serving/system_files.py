"""Small text files of the system that may be absent, such as `/proc/cpuinfo` and metadata."""

from __future__ import annotations

from pathlib import Path


def read(path: Path) -> str:
    """Returns the text of a file; empty where it is absent, as on other systems, or unreadable."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
