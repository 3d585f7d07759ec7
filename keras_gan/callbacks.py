"""What happens beside the game: grids, evaluation, record, progress, an orderly end."""

from __future__ import annotations

import math
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import rich.console
import rich.progress

from keras_gan import metrics, pictures, precision, report
from keras_gan.errors import UsageError
from keras_gan.run import Run, told_in_one_line, write_atomically

_SHOWN = ("d_loss", "g_loss", "real_accuracy", "fake_accuracy")


class SampleGrid(keras.callbacks.Callback):
    """Draws the same seeds again and again while the generator learns.

    Args:
        folder: where the pictures go, one PNG for each drawing, named by the images seen.
        seeds: the seeds to draw.
        labels: class ids for a conditional game; by default the seeds modulo the classes.
        every_seconds: time between two drawings, in seconds above 0. There is one at the start
            and one at the end as well.

    Raises:
        UsageError: a folder that cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        seeds: Sequence[int] = range(64),
        labels: Sequence[int] | None = None,
        every_seconds: float = 30.0,
    ):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.seeds = list(seeds)
        self.labels = labels
        self.every_seconds = every_seconds

    def on_train_begin(self, logs: Any = None) -> None:
        with told_in_one_line(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._draw()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if time.monotonic() >= self._next:
            self._draw()

    def on_train_end(self, logs: Any = None) -> None:
        self._draw()

    def _draw(self) -> None:
        gan: Any = self.model
        with precision.graphs("float32"):  # the pictures that the seeds name
            samples = gan.generate(self.seeds, labels=self.labels)
        path = self.folder / f"images-{gan.count('images_seen'):09d}.png"
        write_atomically(path, pictures.png(pictures.grid(samples)))
        self._next = time.monotonic() + self.every_seconds


class Evaluation(keras.callbacks.Callback):
    """Measures the averaged generator on held-out samples and keeps the best checkpoint.

    Adds to the logs of the epoch: `sliced_wasserstein`, and the discriminator's loss and
    accuracies on held-out samples as `val_d_loss`, `val_real_accuracy`, `val_fake_accuracy`.

    Args:
        run: where the best checkpoint goes.
        held_out: real samples that the training does not see, `(count, ...)`, as the game
            takes them.
        labels: their class ids, `(count,)`, in a conditional game.
        every_images: images between two evaluations; 0 for one at the end alone.
        seed: the first of as many seeds as there are samples.
        batch_size: how many samples are judged at once.
        last_step: number of the step that ends the training, so that the end is evaluated too.
        limits_reached: tells whether the training ends for another reason that is no
            interruption.
    """

    metric = "sliced_wasserstein"

    def __init__(
        self,
        run: Run,
        held_out: np.ndarray,
        labels: np.ndarray | None = None,
        every_images: int = 0,
        seed: int = 2**62,
        batch_size: int = 64,
        last_step: float = math.inf,
        limits_reached: Callable[[], bool] = lambda: False,
    ):
        super().__init__()
        self.run, self.held_out, self.labels = run, held_out, labels
        self.every_images, self.batch_size = every_images, batch_size
        self.seeds = range(seed, seed + len(held_out))
        self.last_step = last_step
        self.limits_reached = limits_reached
        self.best = math.inf

    def on_train_begin(self, logs: Any = None) -> None:
        seen = self.model.count("images_seen")  # pyright: ignore
        self._next = self._after(seen)
        record = self.run.best_record
        # After a resume, a best beyond the checkpoint is of a future that did not happen.
        if record and record["images_seen"] <= seen:
            self.best = record[self.metric]

    def _after(self, seen: int) -> float:
        """When the next evaluation is due: at multiples, wherever a training was resumed."""
        every = self.every_images
        return (seen // every + 1) * every if every else math.inf

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        gan: Any = self.model
        seen = gan.count("images_seen")
        last = gan.count("iteration") >= self.last_step or self.limits_reached()
        if logs is None or not (seen >= self._next or last):
            return
        self._next = self._after(seen)
        logs.update(self.evaluate())
        if logs[self.metric] < self.best:
            self.best = logs[self.metric]
            record = {self.metric: self.best, "images_seen": gan.count("images_seen")}
            self.run.save_best(gan, record)

    def evaluate(self) -> dict[str, float]:
        """The measures of the game as it stands, in float32 however it is trained."""
        with precision.graphs("float32"):
            return self._evaluate()

    def _evaluate(self) -> dict[str, float]:
        gan: Any = self.model
        generated = gan.generate(self.seeds, labels=self.labels)
        results = {self.metric: metrics.sliced_wasserstein(self.held_out, generated)}
        played = gan.evaluate(
            self.held_out, self.labels, batch_size=self.batch_size, verbose=0, return_dict=True
        )
        for name in ("d_loss", "real_accuracy", "fake_accuracy"):
            results[f"val_{name}"] = float(played[name])
        return results


class Record(keras.callbacks.Callback):
    """Keeps the run folder up to date: a row, a report and a checkpoint for each epoch.

    A loss that is no number any more ends the training before it reaches a checkpoint.

    Args:
        run: the run folder.
        every_seconds: least time between two checkpoints and between two reports, so that
            short ticks cost little; there is always one at the end.
    """

    def __init__(self, run: Run, every_seconds: float = 30.0):
        super().__init__()
        self.run = run
        self.every_seconds = every_seconds

    def on_train_begin(self, logs: Any = None) -> None:
        seen = self.model.count("images_seen")  # pyright: ignore
        # After a resume, rows beyond the checkpoint are of a future that did not happen.
        self.rows = [row for row in self.run.rows() if row["images_seen"] <= seen]
        self.seconds = self.rows[-1]["seconds"] if self.rows else 0.0
        self._mark, self._images = time.monotonic(), seen
        self._next = self._mark + self.every_seconds

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        gan: Any = self.model
        logs = {name: float(value) for name, value in (logs or {}).items()}
        if not all(math.isfinite(logs[name]) for name in ("d_loss", "g_loss")):
            raise UsageError(
                f"The training broke down after {gan.count('images_seen'):,} images: a loss is no "
                f"number any more (d_loss={logs['d_loss']}, g_loss={logs['g_loss']}). What was "
                f"good is in {self.run.checkpoints}; try a smaller learning rate"
            )
        now, seen = time.monotonic(), gan.count("images_seen")
        spent = now - self._mark
        self.seconds += spent
        row = {"images_seen": seen, "iteration": gan.count("iteration"), "seconds": self.seconds}
        row["images_per_second"] = (seen - self._images) / max(spent, 1e-9)
        self.rows.append(row | logs)
        self._mark, self._images = now, seen
        self.run.write_rows(self.rows)
        if now >= self._next:
            self._write()

    def on_train_end(self, logs: Any = None) -> None:
        self._write()

    def _write(self) -> None:
        self.run.save(self.model)  # pyright: ignore[reportArgumentType]
        report.write(self.run)
        self._next = time.monotonic() + self.every_seconds


class Limits(keras.callbacks.Callback):
    """Ends the training at a number of steps, at a time, or when the user asks for it.

    Ctrl-C and SIGTERM let the step finish and end the training in order; a second Ctrl-C ends
    it at once.

    Args:
        steps: number of the last step, counted over all resumes.
        minutes: most time, in minutes, or `None`.
    """

    def __init__(self, steps: int, minutes: float | None = None):
        super().__init__()
        self.steps = steps
        self.minutes = minutes
        self.interrupted: signal.Signals | None = None
        self.out_of_time = False
        self._handlers: dict[signal.Signals, Any] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        self._end = time.monotonic() + 60 * self.minutes if self.minutes else math.inf
        self.interrupted, self.out_of_time = None, False
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._handlers[number] = signal.signal(number, self._on_signal)
            except ValueError:  # not in the main thread, where signals cannot be taken
                break

    def _on_signal(self, number: int, frame: Any) -> None:
        if self.interrupted and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.interrupted = signal.Signals(number)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        gan: Any = self.model
        self.out_of_time = time.monotonic() >= self._end
        if self.interrupted or self.out_of_time or gan.count("iteration") >= self.steps:
            gan.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        self.close()

    def close(self) -> None:
        """Gives the signals back, also after an error."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())


class Progress(keras.callbacks.Callback):
    """Live progress: images seen, images/s, time left, losses, accuracies.

    A bar on a terminal; elsewhere a line every 10 seconds.

    Args:
        images: images seen at the end of the training.
        minutes: the limit in minutes, if there is one, for the time left.
    """

    def __init__(self, images: int, minutes: float | None = None):
        super().__init__()
        self.images = images
        self.minutes = minutes
        self.console = rich.console.Console(stderr=True)
        self._bar: rich.progress.Progress | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._start = self._shown = time.monotonic()
        self._first = self._last = self.model.count("images_seen")  # pyright: ignore
        if self.console.is_terminal:
            self._bar = rich.progress.Progress(
                rich.progress.BarColumn(20),
                rich.progress.TextColumn("{task.description}"),
                console=self.console,
            )
            self._task = self._bar.add_task("starting", total=self.images)
            self._bar.start()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = time.monotonic()
        if now - self._shown < (0.5 if self._bar else 10.0):
            return
        seen = self.model.count("images_seen")  # pyright: ignore
        line = self._line(seen, now, logs or {})
        self._shown, self._last = now, seen
        if self._bar:
            self._bar.update(self._task, completed=seen, description=line)
        else:
            print(line, file=sys.stderr, flush=True)

    def _line(self, seen: int, now: float, logs: dict[str, Any]) -> str:
        speed = (seen - self._last) / (now - self._shown)
        mean = (seen - self._first) / (now - self._start)
        left = (self.images - seen) / max(mean, 1e-9)
        if self.minutes:
            left = min(left, 60 * self.minutes - (now - self._start))
        minutes, seconds = divmod(round(max(left, 0)), 60)
        losses = "  ".join(f"{n} {float(logs[n]):.3f}" for n in _SHOWN if n in logs)
        return (
            f"{seen:,} of {self.images:,} images  {speed:,.0f} images/s  "
            f"{minutes}:{seconds:02d} left  {losses}"
        )

    def on_train_end(self, logs: Any = None) -> None:
        self.close()

    def close(self) -> None:
        """Gives the terminal back, also after an error."""
        if self._bar:
            self._bar.stop()
            self._bar = None
