"""What happens beside the game: grids, evaluation, record, progress, an orderly end."""

from __future__ import annotations

import itertools
import math
import os
import pathlib
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import rich.console
import rich.progress
import tensorflow as tf

from keras_gan import latents, metrics, pictures, precision, report
from keras_gan.errors import UsageError
from keras_gan.optimizers import (  # noqa: F401
    Lowered,
    learning_rate,
    lowered_by,
    set_learning_rate,
)
from keras_gan.run import FiniteWeights, Run, told_in_one_line, write_atomically

ops: Any = keras.ops

_WRITING = 20  # the time between two checkpoints or reports, in times that writing one takes
_REPORTING = 30.0  # seconds between two reports
_SHOWN = ("d_loss", "g_loss", "real_accuracy", "fake_accuracy")


class SingleRunCallbackList(keras.callbacks.CallbackList):
    """Callbacks that see several calls of `fit` as one training: with one beginning and one end.

    Args:
        callbacks: what is called, in this order; `None` is left out.
        model: the game.
    """

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback | None], model: keras.Model):
        super().__init__([callback for callback in callbacks if callback], True, model=model)
        self._begun = False

    def on_train_begin(self, logs: Any = None) -> None:
        if not self._begun:
            self._begun = True
            super().on_train_begin(logs)

    def on_train_end(self, logs: Any = None) -> None:
        """Nothing: `end` is the end."""

    def end(self) -> None:
        """Tells the callbacks that the training is over."""
        super().on_train_end()


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
        path = self.folder / f"images-{gan.count('examples_seen'):09d}.png"
        write_atomically(path, pictures.png(pictures.grid(samples)))
        self._next = time.monotonic() + self.every_seconds


class Evaluation(keras.callbacks.Callback):
    """Measures the averaged generator on held-out samples and keeps the best checkpoint.

    Adds to the logs of the epoch: the comparison's measures, and the discriminator's loss and
    accuracies on up to 1,000 held-out samples as `val_d_loss`, `val_real_accuracy`,
    `val_fake_accuracy`. The comparison's protocol is written to the run's `evaluation.json`.

    Args:
        run: where the best checkpoint goes: that with the least distance.
        held_out: real samples that the training does not see, `(count, ...)`, as the game
            takes them.
        labels: their class ids, `(count,)`, in a conditional game.
        compare: what measures as many generated samples against them; by default the sliced
            Wasserstein distance.
        every_examples: images between two evaluations; 0 for one at the end alone.
        seed: the first of as many seeds as there are samples.
        batch_size: how many samples are judged at once.
        last_step: number of the step that ends the training, so that the end is evaluated too.
        limits_reached: tells whether the training ends for another reason that is no
            interruption.
        guard: what tells that the game has collapsed: such a state is not evaluated, and one that
            is suspected of it is not the best.
    """

    judged = 1_000

    def __init__(
        self,
        run: Run,
        held_out: np.ndarray,
        labels: np.ndarray | None = None,
        compare: metrics.Comparison | None = None,
        every_examples: int = 0,
        seed: int = 2**62,
        batch_size: int = 64,
        last_step: float = math.inf,
        limits_reached: Callable[[], bool] = lambda: False,
        guard: CollapseGuard | None = None,
    ):
        super().__init__()
        self.guard = guard
        self.compare = compare or metrics.Comparison(held_out)
        self.metric = self.compare.metric
        self.run, self.held_out, self.labels = run, held_out, labels
        self.every_examples, self.batch_size = every_examples, batch_size
        self.seeds = range(seed, seed + len(held_out))
        self.last_step = last_step
        self.limits_reached = limits_reached
        self.best, self._best_at = math.inf, 0

    def on_train_begin(self, logs: Any = None) -> None:
        self.run.evaluation = self.compare.protocol
        record = self.run.best_record
        if record and self.metric in record:  # else it was the best by another metric
            self.best, self._best_at = record[self.metric], record["examples_seen"]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        seen, every = self.model.count("examples_seen"), self.every_examples  # pyright: ignore
        # At multiples, wherever a training was resumed or rolled back to.
        self._next = (seen // every + 1) * every if every else math.inf
        if seen < self._best_at:  # it is of a future that did not happen
            self.best, self._best_at = math.inf, 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        gan: Any = self.model
        seen = gan.count("examples_seen")
        last = gan.count("iteration") >= self.last_step or self.limits_reached()
        if logs is None or not (seen >= self._next or last):
            return
        if self.guard is not None and self.guard.verdict:
            return
        logs.update(self.evaluate())
        if logs[self.metric] < self.best and not (self.guard and self.guard.suspects):
            self.best, self._best_at = logs[self.metric], seen
            self.run.save_best(gan, {self.metric: self.best, "examples_seen": seen})

    def evaluate(self) -> dict[str, float]:
        """The measures of the game as it stands, in float32 however it is trained."""
        with precision.graphs("float32"):
            return self._evaluate()

    def _evaluate(self) -> dict[str, float]:
        gan: Any = self.model
        results = self.compare(gan.generate(self.seeds, labels=self.labels, batch_size=250))
        whole = max(1, self.judged // self.batch_size) * self.batch_size  # replicas need those
        held_out, labels = self.held_out[:whole], self.labels
        labels = labels if labels is None else labels[:whole]
        played = gan.evaluate(
            held_out, labels, batch_size=self.batch_size, verbose=0, return_dict=True
        )
        for name in ("d_loss", "real_accuracy", "fake_accuracy"):
            results[f"val_{name}"] = float(played[name])
        return results


class RunWriter(keras.callbacks.Callback):
    """Keeps the run folder up to date: a row for each epoch, checkpoints, a report.

    What is no finite number reaches no checkpoint: a `CollapseGuard` before this callback sees to
    it, and without one the training ends with an error.

    Args:
        run: the run folder.
        every_seconds: least time between two checkpoints, in seconds from 0, a checkpoint for
            each epoch, up. It is longer where writing takes long: 20 times the last writing, so
            that no more than 5 % of the time goes there. There is always one at the end, and a
            report; before, a report every 30 seconds.
        keep: how many checkpoints stay, from 1 up.
        guard: what tells that the game has collapsed or is about to: such a state gets no
            checkpoint.
        ending: tells, at the end, how the training ended.
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
        self._next_report = self._mark + _REPORTING
        self._next_rows = self._mark
        self.run.ending = None
        self._finite = FiniteWeights(self.model)  # pyright: ignore[reportArgumentType]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._begin_at(self.model.count("examples_seen"))  # pyright: ignore

    def _begin_at(self, seen: int) -> None:
        # After a resume or a roll back, rows beyond are of a future that did not happen.
        self.rows = [row for row in self.rows if row["examples_seen"] <= seen]
        self._images = seen

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        gan: Any = self.model
        logs = {name: float(value) for name, value in (logs or {}).items()}
        seen = gan.count("examples_seen")
        collapsed = self.guard.verdict if self.guard else _loss_not_finite(logs) or self._finite()
        if collapsed and not self.guard:
            self._write_rows()
            raise UsageError(
                f"The training broke down after {seen:,} images: {collapsed}. "
                f"What was good is in {self.run.checkpoints}; try a smaller learning rate"
            )
        now = time.monotonic()
        spent = now - self._mark
        self.seconds += spent
        self._mark = now
        if _loss_not_finite(logs):
            return  # no row either: there is nothing in it
        row = {"examples_seen": seen, "iteration": gan.count("iteration"), "seconds": self.seconds}
        row["examples_per_second"] = (seen - self._images) / max(spent, 1e-9)
        self.rows.append(row | logs)
        if now >= self._next and not collapsed and not (self.guard and self.guard.suspects):
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
        """All of them, as a whole: the more there are, the less often."""
        before = time.monotonic()
        self.run.write_rows(self.rows)
        now = time.monotonic()
        self._next_rows = now + _WRITING * (now - before)

    def _save(self) -> None:
        self._write_rows()  # those of a checkpoint are there when it is
        before = time.monotonic()
        self.run.save(self.model, self.keep)  # pyright: ignore[reportArgumentType]
        now = time.monotonic()
        # Not where every tick is asked for.
        least = _WRITING * (now - before) if self.every_seconds else 0.0
        self._next = now + max(self.every_seconds, least)

    def _report(self) -> None:
        self._write_rows()
        before = time.monotonic()
        report.write(self.run)
        now = time.monotonic()
        self._next_report = now + max(_REPORTING, _WRITING * (now - before))


class Equilibrium(keras.callbacks.Callback):
    """Ends the training when the discriminator can no longer tell samples from held-out data.

    At each evaluation the discriminator judges held-out real samples, as many generated ones from
    seeds never used before, and noise. Its balanced accuracy (see `metrics.balanced_accuracy`) is
    taken at the best threshold: no loss's own boundary enters, so that it means the same for
    losses whose logits have no origin. The game is at its equilibrium when that accuracy has been
    within `tolerance` of 0.5 for `patience` evaluations in a row, while the discriminator still
    takes the data for more real than noise. One that has merely failed, with constant logits or
    none the wiser about noise, does not end the training.

    Noise is the held-out samples with the values of each put in random places; for points, which
    have no places, uniform numbers in the data's range of each coordinate.

    Adds `balanced_accuracy` and `noise_accuracy` to the logs of the epoch.

    Args:
        held_out: real samples that the training does not see, `(count, ...)`, in random order;
            at least 1 / (2 tolerance^2), so that chance stays within the tolerance.
        labels: their class ids, `(count,)`, in a conditional game.
        every_examples: images between two evaluations; 0 for one at the end of each epoch.
        tolerance: largest distance of the balanced accuracy from 0.5, above 0 and below 0.5.
        patience: how many evaluations in a row must be within it.
        noise_accuracy: least balanced accuracy of data against noise, from 0.5 to 1.
        average: judge the averaged generator rather than the live one, which is the one that the
            discriminator plays against.
        seed: the first of the seeds that are used, and the seed of the noise.
        history: rows of the run so far, so that a resumed training goes on counting.
        guard: what tells that the game has collapsed: such a state is not evaluated.

    Raises:
        UsageError: an argument out of range, or too few held-out samples for the tolerance.
    """

    def __init__(
        self,
        held_out: np.ndarray,
        labels: np.ndarray | None = None,
        every_examples: int = 0,
        tolerance: float = 0.05,
        patience: int = 3,
        noise_accuracy: float = 0.75,
        average: bool = False,
        seed: int = 2**62 + 2**61,
        history: Sequence[Mapping[str, float]] = (),
        guard: CollapseGuard | None = None,
    ):
        super().__init__()
        if not 0 < tolerance < 0.5:
            raise UsageError(
                f"tolerance must be above 0 and below 0.5. Received: tolerance={tolerance!r}"
            )
        if not 0.5 <= noise_accuracy <= 1:
            raise UsageError(
                f"noise_accuracy must be from 0.5 to 1. Received: noise_accuracy={noise_accuracy!r}"
            )
        if patience < 1:
            raise UsageError(f"patience must be at least 1. Received: patience={patience!r}")
        least = least_held_out(tolerance)
        if len(held_out) < least:
            raise UsageError(
                f"An accuracy within {tolerance} of 0.5 needs at least {least} held-out samples, "
                f"or chance decides. Received: {len(held_out)}"
            )
        self.held_out, self.labels = held_out, labels
        self.every_examples, self.tolerance, self.patience = every_examples, tolerance, patience
        self.noise_accuracy, self.average, self.seed = noise_accuracy, average, seed
        self.history, self.guard = history, guard
        self.reason: str | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        gan: Any = self.model
        self._judge = _Judge(gan)
        self.reason = None
        self._evaluated = [row for row in self.history if "balanced_accuracy" in row]
        self._begin_at(gan.count("examples_seen"))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._begin_at(self.model.count("examples_seen"))  # pyright: ignore

    def _begin_at(self, seen: int) -> None:
        # After a resume or a roll back, what lies beyond is of a future that did not happen.
        self._evaluated = [row for row in self._evaluated if row["examples_seen"] <= seen]
        every = self.every_examples
        self._next = (seen // every + 1) * every if every else 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        gan: Any = self.model
        seen = gan.count("examples_seen")
        if logs is None or seen < self._next or (self.guard and self.guard.verdict):
            return
        measured = self.evaluate()
        logs.update(measured)
        self._evaluated.append({"examples_seen": seen, **measured})
        if self._in_a_row >= self.patience:
            self.reason = (
                "equilibrium: the discriminator tells samples from held-out data with a balanced "
                f"accuracy of {measured['balanced_accuracy']:.3f}, within {self.tolerance} of 0.5 "
                f"{self._in_a_row} times in a row"
            )
            gan.stop_training = True

    @property
    def _in_a_row(self) -> int:
        return sum(1 for _ in itertools.takewhile(self._level, reversed(self._evaluated)))

    def _level(self, measured: Mapping[str, float]) -> bool:
        """Whether a discriminator that knows data from noise cannot tell samples from data."""
        undecided = abs(measured["balanced_accuracy"] - 0.5) <= self.tolerance
        return undecided and measured["noise_accuracy"] >= self.noise_accuracy

    def evaluate(self) -> dict[str, float]:
        """Balanced accuracies of held-out data against fresh samples and against fresh noise.

        In float32, however the game is trained.
        """
        with precision.graphs("float32"):
            return self._evaluate()

    def _evaluate(self) -> dict[str, float]:
        gan: Any = self.model
        count, step = len(self.held_out), gan.count("iteration")
        first = self.seed + step * count  # seeds that no other step has
        seeds = range(first, first + count)
        fake = gan.generate(seeds, labels=self.labels, average=self.average)
        noise = _noise_like(self.held_out, np.random.default_rng([self.seed, step]))
        logits = [self._judge(x, self.labels) for x in (self.held_out, fake, noise)]
        if not all(np.isfinite(of).all() for of in logits):
            return {"balanced_accuracy": math.nan, "noise_accuracy": math.nan}
        if _constant(np.concatenate(logits)):
            return {"balanced_accuracy": 0.5, "noise_accuracy": 0.5}
        real, fake, noise = logits
        return {
            "balanced_accuracy": metrics.balanced_accuracy(real, fake),
            "noise_accuracy": metrics.balanced_accuracy(real, noise, real_above=True),
        }


def least_held_out(tolerance: float) -> int:
    """How many held-out samples keep two standard errors of a balanced accuracy within it."""
    # Each side's share has the variance 1 / (4 n), their mean half of that: 1 / (8 n).
    return math.ceil(1 / (2 * tolerance**2))


class CollapseGuard(keras.callbacks.Callback):
    """Stops or rolls back a game that has collapsed, before a checkpoint is made of it.

    At the end of each epoch it refuses losses and weights that are no finite numbers. At least
    `every_steps` steps apart it also looks for

    - mode collapse: the generated samples have less than `diversity` of the data's own diversity
      (see `metrics.Diversity`) and less than half of what they had at their best, `patience`
      times in a row. A generator begins with little: it must have had that share once, or have
      failed to reach it in 5,000 steps;
    - a discriminator that wins outright: `winning` times in a row it told at least 99.9 % of the
      samples of either side rightly over the whole epoch with a loss between 0 and 0.01, which
      leaves neither player anything to learn from. Wasserstein's loss never saturates, and never
      counts.

    The last state without any of these is kept in memory. A game that is stopped is put back to
    it; a game that is rolled back goes on from it, with learning rates times `factor`, with the
    data that comes next (the stream is not wound back) and, as noise is a function of the step,
    with the noise it had. Place it before callbacks that write checkpoints.

    Adds `diversity` to the logs of an epoch in which it looked, and `roll_backs` once there are
    any.

    Args:
        held_out: real samples, `(count, ...)`, of which the first 64 are used; without them, or
            with fewer than 16, diversity is not judged.
        labels: their class ids, `(count,)`, in a conditional game.
        action: `"stop"` or `"roll_back"`.
        factor: what a roll back multiplies the learning rates by, above 0 and at most 1.
        retries: how many roll backs there are at most before the game is stopped.
        diversity: share of the data's diversity, above 0 and below 1.
        patience: how many looks in a row a mode collapse must last.
        winning: how many looks in a row the discriminator must have won.
        every_steps: least number of steps between two looks.
        seed: the first of the seeds that are looked at, the same each time.
        history: rows of the run so far, so that a resumed training goes on counting.

    Raises:
        UsageError: an argument out of range; at the start of a training, weights that are no
            finite numbers.
    """

    samples = 64
    fewest = 16
    warm_up = 5_000

    def __init__(
        self,
        held_out: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        action: str = "stop",
        factor: float = 0.5,
        retries: int = 3,
        diversity: float = 0.25,
        patience: int = 3,
        winning: int = 5,
        every_steps: int = 250,
        seed: int = 2**62 + 2**60,
        history: Sequence[Mapping[str, float]] = (),
    ):
        super().__init__()
        if action not in ("stop", "roll_back"):
            raise UsageError(f"action must be stop or roll_back. Received: action={action!r}")
        if not 0 < factor <= 1:
            raise UsageError(f"factor must be above 0 and at most 1. Received: factor={factor!r}")
        if not 0 < diversity < 1:
            raise UsageError(
                f"diversity must be above 0 and below 1. Received: diversity={diversity!r}"
            )
        counts = {"patience": patience, "winning": winning, "every_steps": every_steps}
        for name, value in counts.items():
            if value < 1:
                raise UsageError(f"{name} must be at least 1. Received: {name}={value!r}")
        if retries < 0:
            raise UsageError(f"retries must be at least 0. Received: retries={retries!r}")
        self.action, self.factor, self.retries = action, factor, retries
        self.diversity, self.patience, self.winning = diversity, patience, winning
        self.every_steps, self.history = every_steps, history
        self._measure, self._labels = None, None
        if held_out is not None and len(held_out) >= self.fewest:
            real = np.asarray(held_out[: self.samples])
            if np.ptp(real, axis=0).any():  # else the data itself is one sample
                self._measure = metrics.Diversity(real)
            self._labels = None if labels is None else labels[: len(real)]
            self._seeds = seed + np.arange(len(real))
        self.verdict: str | None = None
        self.reason: str | None = None
        self.roll_backs = 0

    @property
    def suspects(self) -> bool:
        """Whether the last looks were bad ones, but too few yet."""
        return self._low > 0 or self._won > 0

    def on_train_begin(self, logs: Any = None) -> None:
        gan: Any = self.model
        seen = gan.count("examples_seen")
        self._finite = FiniteWeights(gan)
        broken = self._finite()
        if broken:
            raise UsageError(f"A game begins with finite weights. Received: {broken}")
        self.verdict, self.reason, self.roll_backs = None, None, 0
        self._best, self._low, self._won = 0.0, 0, 0
        for row in self.history:
            if row["examples_seen"] > seen:
                break
            self.roll_backs = max(self.roll_backs, int(row.get("roll_backs", 0)))
            if "diversity" in row:
                self._look(row, int(row["iteration"]))
        # As a graph: it is asked at every epoch, and those may be short.
        self._finite.flags = tf.function(self._finite.flags, autograph=False)
        self._good = _State(gan)
        self._next = self._after(gan.count("iteration"))
        if self._measure is not None:
            self._inputs = [latents.latents_from_seeds(self._seeds, gan.latent_dim)]
            if gan.num_classes:
                classes = self._seeds % gan.num_classes if self._labels is None else self._labels
                self._inputs.append(tf.constant(classes, tf.int32))

    def _after(self, step: int) -> int:
        """When the next look is due: at multiples, wherever a training was resumed."""
        return (step // self.every_steps + 1) * self.every_steps

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.verdict:
            self._put_back()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        gan: Any = self.model
        if logs is None:
            return
        step = gan.count("iteration")
        due = step >= self._next
        self.verdict = _loss_not_finite(logs) or self._finite()
        if not self.verdict and due:
            self._next = self._after(step)
            if self._measure is not None:
                logs["diversity"] = self._diversity(self._measure)
            self.verdict = self._look(logs, step)
        if self.roll_backs:
            logs["roll_backs"] = self.roll_backs
        if self.verdict:
            self._act(self.verdict)
        elif due and not self.suspects:
            self._good = _State(gan)

    def _diversity(self, measure: metrics.Diversity) -> float:
        gan: Any = self.model
        with precision.graphs("float32"):
            return measure(gan.sampler(average=False)(*self._inputs).numpy())

    def _look(self, measured: Mapping[str, float], step: int) -> str | None:
        """Counts the bad looks in a row; says what is wrong once there are enough."""
        share = measured.get("diversity", 1.0)
        self._best = max(self._best, share)
        fallen = self._best >= self.diversity and share < self._best / 2
        never = self._best < self.diversity and step >= self.warm_up
        self._low = self._low + 1 if share < self.diversity and (fallen or never) else 0
        told = min(measured["real_accuracy"], measured["fake_accuracy"])
        lost = told >= 0.999 and 0 <= measured["d_loss"] < 0.01
        self._won = self._won + 1 if lost else 0
        if self._low >= self.patience:
            return (
                f"mode collapse: the generated samples have {share:.1%} of the data's diversity, "
                f"after {self._best:.0%} at best"
            )
        if self._won >= self.winning:
            return (
                f"the discriminator wins outright: it told {told:.1%} of the samples rightly "
                f"{self._won} times in a row, and its loss is down to {measured['d_loss']:.2g}"
            )
        return None

    def _act(self, verdict: str) -> None:
        gan: Any = self.model
        if self.action == "roll_back" and self.roll_backs < self.retries:
            self.roll_backs += 1
            warnings.warn(
                f"After {gan.count('examples_seen'):,} images: {verdict}. Back to "
                f"{self._good.examples_seen:,} images, learning rates times {self.factor:g} "
                f"({self.roll_backs} of {self.retries})",
                stacklevel=2,
            )
            # The last step is not the last any more; other limits speak up again at the next.
            gan.stop_training = False
        else:
            after = f"after {gan.count('examples_seen'):,} images"
            if self.roll_backs:
                after += f" and {self.roll_backs} roll backs"
            self.reason = f"collapsed: {verdict}, {after}"
            gan.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        if self.verdict:
            self._put_back()

    def _put_back(self) -> None:
        """Restores the last good state; unless this is the end, learning is slower from here."""
        gan: Any = self.model
        optimizers = _optimizers(gan)
        rates = [learning_rate(optimizer) for optimizer in optimizers]
        self._good.restore(gan)
        # Not after a stop: whoever goes on from the state decides what to change.
        if self.reason is None:
            for optimizer, rate in zip(optimizers, rates, strict=True):
                set_learning_rate(optimizer, rate, self.factor)
        if not all(isinstance(rate, float) for rate in rates):
            gan.make_train_function(force=True)  # a schedule is part of the graph
        self._low = self._won = 0
        self._next = self._after(gan.count("iteration"))
        self.verdict = None


class _State:
    """All that a game is, copied into memory: players, optimizers, average, counters, noise."""

    def __init__(self, gan: Any):
        self.examples_seen = gan.count("examples_seen")
        self._rates = [learning_rate(of) for of in _optimizers(gan)]
        self._values = [variable.value.numpy() for variable in variables_of(gan)]

    def restore(self, gan: Any) -> None:
        for variable, value in zip(variables_of(gan), self._values, strict=True):
            variable.assign(value)
        for optimizer, rate in zip(_optimizers(gan), self._rates, strict=True):
            if not isinstance(rate, float):  # those are among the variables
                set_learning_rate(optimizer, rate)


def _optimizers(gan: Any) -> tuple[Any, Any]:
    return gan.generator_optimizer, gan.discriminator_optimizer


def variables_of(gan: Any) -> list[Any]:
    """All that a game goes on from, without the means over an epoch, which each epoch resets."""
    means = {id(variable) for metric in gan.metrics for variable in metric.variables}
    found = [*gan.variables, *gan.generator_optimizer.variables, *gan.noise_states()]
    found += gan.discriminator_optimizer.variables
    return list(
        {id(variable): variable for variable in found if id(variable) not in means}.values()
    )


def _loss_not_finite(logs: Mapping[str, float]) -> str | None:
    """Says which loss of an epoch is no finite number: one step is enough to make it so."""
    for name in ("d_loss", "g_loss"):
        if not math.isfinite(logs[name]):
            return f"a loss is no number any more ({name}={float(logs[name])})"
    return None


class _Judge:
    """The discriminator in inference mode, on arrays: one logit for each sample or pack."""

    def __init__(self, gan: Any, batch_size: int = 256):
        pac = getattr(gan, "pac", 1)
        self.pac, self.batch_size = pac, max(1, batch_size // pac) * pac
        packed = gan.packing.pack if pac > 1 else lambda samples: samples

        @tf.function(reduce_retracing=True, autograph=False)
        def judge(samples, labels):
            samples = packed(samples)
            inputs = samples if labels is None else [samples, labels]
            logits = ops.cast(gan.discriminator(inputs, training=False), "float32")
            return tf.reduce_mean(tf.reshape(logits, (tf.shape(logits)[0], -1)), axis=1)

        self._graph = judge

    def __call__(self, samples: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        found = []
        samples = samples[: len(samples) // self.pac * self.pac]
        for start in range(0, len(samples), self.batch_size):
            part = slice(start, start + self.batch_size)
            y = None if labels is None else tf.constant(labels[part], tf.int32)
            found.append(self._graph(tf.constant(samples[part], tf.float32), y).numpy())
        return np.concatenate(found)


def _noise_like(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise that shares with the samples what is no achievement to know: their range of values."""
    flat = samples.reshape(len(samples), -1)
    if samples.ndim == 2:
        return rng.uniform(flat.min(axis=0), flat.max(axis=0), flat.shape).astype(samples.dtype)
    return rng.permuted(flat, axis=1).reshape(samples.shape)


def _constant(logits: np.ndarray) -> bool:
    """Whether logits differ by no more than the rounding of float32."""
    return float(np.ptp(logits)) <= 1e-6 * max(1.0, float(np.abs(logits).max()))


class Limits(keras.callbacks.Callback):
    """Ends the training at a number of steps, at a time, or when the user asks for it.

    Ctrl-C and SIGTERM let the step finish and end the training in order; a second Ctrl-C ends
    it at once.

    Args:
        steps: number of the last step, counted over all resumes.
        minutes: most time, in minutes, or `None`.
        hold: keep the signals past the end of the training, until `close`: so that none ends the
            program while other callbacks write.
    """

    def __init__(self, steps: int, minutes: float | None = None, hold: bool = False):
        super().__init__()
        self.steps = steps
        self.minutes = minutes
        self.hold = hold
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
        if not self.hold:
            self.close()

    def close(self) -> None:
        """Gives the signals back, also after an error."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())


class Progress(keras.callbacks.Callback):
    """Live progress: images seen, images/s, time left, losses, accuracies.

    A bar on a terminal; elsewhere a line every 10 seconds.

    Args:
        examples: examples seen at the end of the training.
        minutes: the limit in minutes, if there is one, for the time left.
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
        # Not below 0: after a roll back fewer images have been seen.
        speed = max(0, seen - self._last) / (now - self._shown)
        mean = max(0, seen - self._first) / (now - self._start)
        left = (self.examples - seen) / max(mean, 1e-9)
        if self.minutes:
            left = min(left, 60 * self.minutes - (now - self._start))
        minutes, seconds = divmod(round(max(left, 0)), 60)
        losses = "  ".join(f"{n} {float(logs[n]):.3f}" for n in _SHOWN if n in logs)
        return (
            f"{seen:,} of {self.examples:,} images  {speed:,.0f} images/s  "
            f"{minutes}:{seconds:02d} left  {losses}"
        )

    def on_train_end(self, logs: Any = None) -> None:
        self.close()

    def close(self) -> None:
        """Gives the terminal back, also after an error."""
        if self._bar:
            self._bar.stop()
            self._bar = None
