"""The record of a training in its run folder: rows, checkpoints, report."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras

from keras_gan import report
from keras_gan.callbacks.collapse import CollapseGuard, loss_not_finite
from keras_gan.checkpoints import FiniteWeights
from keras_gan.errors import UsageError
from keras_gan.run import Run

WRITING = 20  # least time between two checkpoints or reports, as a multiple of the writing time
REPORTING = 30.0  # least time between two reports, in seconds


class RunWriter(keras.callbacks.Callback):
    """Callback that writes the run folder: a row for each epoch, checkpoints, a report.

    Values that are not finite are never written to a checkpoint. A `CollapseGuard` before this
    callback handles them; without one the training ends with an error.

    Args:
        run: the run folder.
        every_seconds: least time between two checkpoints, in seconds, from 0 (a checkpoint for
            each epoch) up. The time is longer where writing is slow: 20 times the last writing
            time, so that writing takes at most 5 % of the training. The end of the training
            always has a checkpoint and a report; there is a report every 30 seconds before.
        keep: number of checkpoints that are kept, from 1 up.
        guard: the guard of this training. A state that it rejects or suspects gets no checkpoint.
        ending: returns, at the end, the reason why the training has ended.
    """

    def __init__(
        self,
        run: Run,
        every_seconds: float = 30.0,
        keep: int = 2,
        guard: CollapseGuard | None = None,
        ending: Callable[[], str] = lambda: "finished",
    ):
        super().__init__()
        self.run = run
        self.every_seconds = every_seconds
        self.keep = keep
        self.guard = guard
        self.ending = ending

    def on_train_begin(self, logs: Any = None) -> None:
        seen = self.model.count("examples_seen")  # pyright: ignore
        self.rows = self.run.rows()
        self._begin_at(seen)
        self.seconds = self.rows[-1]["seconds"] if self.rows else 0.0
        self._mark = time.monotonic()
        self._next = self._mark + self.every_seconds
        self._next_report = self._mark + REPORTING
        self._next_rows = self._mark
        self.run.ending = None
        self._finite = FiniteWeights(self.model)  # pyright: ignore[reportArgumentType]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._begin_at(self.model.count("examples_seen"))  # pyright: ignore

    def _begin_at(self, seen: int) -> None:
        # A resume or a roll back discards the rows after the state that it goes on from.
        self.rows = [row for row in self.rows if row["examples_seen"] <= seen]
        self._examples = seen

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        gan: Any = self.model
        logs = {name: float(value) for name, value in (logs or {}).items()}
        seen = gan.count("examples_seen")
        broken = loss_not_finite(logs, gan)
        problem = self.guard.problem if self.guard else broken or self._finite()
        if problem and not self.guard:
            self._write_rows()
            raise UsageError(
                f"The training failed after {seen:,} examples: {problem}. The last good state is "
                f"in {self.run.checkpoints}; try a smaller learning rate"
            )
        now = time.monotonic()
        spent = now - self._mark
        self.seconds += spent
        self._mark = now
        if broken:
            return  # the row would hold no values
        row = {"examples_seen": seen, "iteration": gan.count("iteration"), "seconds": self.seconds}
        row["examples_per_second"] = (seen - self._examples) / max(spent, 1e-9)
        self.rows.append(row | logs)
        if now >= self._next and not problem and not (self.guard and self.guard.suspicious):
            self._save()
        elif now >= self._next_rows:
            self._write_rows()
        if now >= self._next_report:
            self._report()

    def on_train_end(self, logs: Any = None) -> None:
        roll_backs = self.guard.roll_backs if self.guard else 0
        seen = self.model.count("examples_seen")  # pyright: ignore
        self.run.ending = {
            "reason": self.ending(),
            "examples_seen": seen,
            "roll_backs": roll_backs,
        }
        self._save()
        self._report()

    def _write_rows(self) -> None:
        """Writes the whole file, less often as it grows."""
        before = time.monotonic()
        self.run.write_rows(self.rows)
        now = time.monotonic()
        self._next_rows = now + WRITING * (now - before)

    def _save(self) -> None:
        self._write_rows()  # the rows up to a checkpoint are on disk before it
        before = time.monotonic()
        self.run.save(self.model, self.keep)  # pyright: ignore[reportArgumentType]
        now = time.monotonic()
        # With every_seconds=0 each epoch has a checkpoint, however long writing takes.
        least = WRITING * (now - before) if self.every_seconds else 0.0
        self._next = now + max(self.every_seconds, least)

    def _report(self) -> None:
        self._write_rows()
        before = time.monotonic()
        report.write(self.run)
        now = time.monotonic()
        self._next_report = now + max(REPORTING, WRITING * (now - before))
