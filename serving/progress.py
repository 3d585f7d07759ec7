"""Progress of a command on the terminal."""

from __future__ import annotations

import sys
import time


class ProgressLine:
    """Progress on standard error: one line that is rewritten on a terminal, else a line in 30 s.

    Args:
        plural: noun for what is counted, such as `"samples"`.
    """

    def __init__(self, plural: str):
        self._plural = plural
        self.start = time.monotonic()
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._next = self.start + (0.0 if self._terminal else 30.0)
        self._shown = 0

    def update(self, existing: int, count: int, made: int) -> None:
        """Shows how many there are, the rate and the time that is left.

        Args:
            existing: number of those that exist.
            count: number of all.
            made: number of those that this run has made.
        """
        now = time.monotonic()
        if now < self._next or sys.stderr is None:
            return
        self._next = now + (0.2 if self._terminal else 30.0)
        rate = made / max(now - self.start, 1e-9)
        left = (count - existing) / max(rate, 1e-9)
        line = f"{existing} of {count} {self._plural}, {rate:.0f}/s, {_duration(left)} left"
        if self._terminal:
            print(f"\r{line:<{self._shown}}", end="", file=sys.stderr, flush=True)
            self._shown = len(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Removes the line from a terminal."""
        if self._shown:
            print(f"\r{'':<{self._shown}}\r", end="", file=sys.stderr, flush=True)
            self._shown = 0


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
