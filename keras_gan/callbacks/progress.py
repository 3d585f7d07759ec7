"""Live progress of a training on the terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

import keras
import rich.console
import rich.progress

_SHOWN = ("d_loss", "g_loss", "real_accuracy", "fake_accuracy")


class Progress(keras.callbacks.Callback):
    """Live progress: examples seen, examples/s, time left, losses, accuracies.

    A progress bar on a terminal; otherwise a line every 10 seconds.

    Args:
        examples: examples seen at the end of the training.
        minutes: time limit in minutes, or `None`.
    """

    def __init__(self, examples: int, minutes: float | None = None):
        super().__init__()
        self.examples = examples
        self.minutes = minutes
        self.console = rich.console.Console(stderr=True)
        self._bar: rich.progress.Progress | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._start = self._shown = time.monotonic()
        self._first = self._last = self.model.count("examples_seen")  # pyright: ignore
        if self.console.is_terminal:
            self._bar = rich.progress.Progress(
                rich.progress.BarColumn(20),
                rich.progress.TextColumn("{task.description}"),
                console=self.console,
            )
            self._task = self._bar.add_task("starting", total=self.examples)
            self._bar.start()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = time.monotonic()
        if now - self._shown < (0.5 if self._bar else 10.0):
            return
        seen = self.model.count("examples_seen")  # pyright: ignore
        line = self._line(seen, now, logs or {})
        self._shown, self._last = now, seen
        if self._bar:
            self._bar.update(self._task, completed=seen, description=line)
        else:
            print(line, file=sys.stderr, flush=True)

    def _line(self, seen: int, now: float, logs: dict[str, Any]) -> str:
        # After a roll back fewer examples have been seen than before.
        speed = max(0, seen - self._last) / (now - self._shown)
        mean = max(0, seen - self._first) / (now - self._start)
        left = (self.examples - seen) / max(mean, 1e-9)
        if self.minutes:
            left = min(left, 60 * self.minutes - (now - self._start))
        minutes, seconds = divmod(round(max(left, 0)), 60)
        game: Any = self.model
        known = [name for name in logs if game.has_values(name)]
        shown = [name for name in _SHOWN if name in known] or known[: len(_SHOWN)]
        losses = "  ".join(f"{name} {float(logs[name]):.3f}" for name in shown)
        return (
            f"{seen:,} of {self.examples:,} examples  {speed:,.0f} examples/s  "
            f"{minutes}:{seconds:02d} left  {losses}"
        )

    def on_train_end(self, logs: Any = None) -> None:
        self.close()

    def close(self) -> None:
        """Restores the terminal, also after an error."""
        if self._bar:
            self._bar.stop()
            self._bar = None
