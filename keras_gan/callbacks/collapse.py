"""Detection of collapsed trainings, and rollback to the last good state."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import metrics, precision
from keras_gan.arguments import check_integer, check_number, check_share
from keras_gan.callbacks.state import GameState, given_to
from keras_gan.checkpoints import FiniteWeights
from keras_gan.errors import UsageError
from keras_gan.optimizers import learning_rate, optimizers_of, set_learning_rate


class CollapseGuard(keras.callbacks.Callback):
    """Guard that stops or rolls back a collapsed training before its state becomes a checkpoint.

    At the end of each epoch it rejects losses and weights that are not finite. At least
    `every_steps` steps apart it also checks for

    - mode collapse: in `patience` checks in a row the generated samples have less than
      `diversity` of the data's own diversity (see `metrics.Diversity`) and less than half of the
      best so far. A generator starts with little diversity: it must have reached that share once,
      or have failed to reach it in 5,000 steps. A generator without latents has one answer to each
      condition, so that only examples of different conditions are compared;
    - a discriminator that wins outright: in `winning` checks in a row its accuracy on real and on
      generated samples was at least 99.9 % over the whole epoch, and its loss between 0 and 0.01,
      which leaves neither network anything to learn from. Wasserstein's loss never saturates and
      never counts, nor does a game whose generator also learns from a supervised term.

    The last state without any of these is kept in memory. A training that is stopped is restored
    to it. A training that is rolled back continues from it, with learning rates times `factor`,
    with the batches that come next (the stream of data is not rewound) and, as noise is a
    function of the step, with the same noise. Place this callback before callbacks that write
    checkpoints.

    Adds `diversity` to the logs of an epoch with a check, and `roll_backs` after the first one.

    Args:
        held_out: real samples, `(count, ...)`, of which the first 64 are used; with fewer than 16
            or none, diversity is not checked.
        labels: their class ids, `(count,)`, in a conditional game.
        action: `"stop"` or `"roll_back"`.
        factor: factor of the learning rates at a roll back, above 0 and at most 1.
        retries: roll backs before the training is stopped, from 0 up.
        diversity: share of the data's diversity, above 0 and below 1.
        patience: checks in a row that a mode collapse must last, from 1 up.
        winning: checks in a row that the discriminator must have won, from 1 up.
        every_steps: least number of steps between two checks, from 1 up.
        seed: the first of the seeds of the generated samples, the same in each check.
        history: rows of the run so far, so that a resumed training continues the counts.
        fields: further fields of the held-out samples by name, for a generator that asks for them.

    Raises:
        UsageError: an argument out of range; at the start of a training, weights that are not
            finite.
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
        fields: Mapping[str, np.ndarray] | None = None,
    ):
        super().__init__()
        counts = {"patience": patience, "winning": winning, "every_steps": every_steps}
        _check_arguments(action, factor, retries, diversity, counts)
        self.action, self.factor, self.retries = action, factor, retries
        self.diversity, self.patience, self.winning = diversity, patience, winning
        self.every_steps, self.history = every_steps, history
        self._real = None if held_out is None else np.asarray(held_out[: self.samples])
        self._labels = None if labels is None else labels[: self.samples]
        self._fields = {name: x[: self.samples] for name, x in (fields or {}).items()}
        self._measure, self._first_seed = None, seed
        self.problem: str | None = None
        self.reason: str | None = None
        self.roll_backs = 0

    @property
    def suspicious(self) -> bool:
        """True if the last checks failed, but fewer in a row than it takes to act."""
        return self._low > 0 or self._won > 0

    def on_train_begin(self, logs: Any = None) -> None:
        gan: Any = self.model
        seen = gan.count("examples_seen")
        self._finite = FiniteWeights(gan)
        broken = self._finite()
        if broken:
            raise UsageError(f"A training must start from finite weights. Received: {broken}")
        self.problem, self.reason, self.roll_backs = None, None, 0
        self._best, self._low, self._won = 0.0, 0, 0
        self._compare_with_data(gan)
        for row in self.history:
            if row["examples_seen"] > seen:
                break
            self.roll_backs = max(self.roll_backs, int(row.get("roll_backs", 0)))
            if "diversity" in row:
                self._check(row, int(row["iteration"]))
        # As a graph, because it runs at the end of every epoch, and epochs may be short.
        self._finite.flags = tf.function(self._finite.flags, autograph=False)
        self._good = GameState(gan)
        self._next = self._after(gan.count("iteration"))

    def _compare_with_data(self, gan: Any) -> None:
        """Chooses the real samples whose diversity the generated ones are compared with."""
        self._measure, real = None, self._real
        if real is None:
            return
        given, rows = given_to(gan, self._fields), np.arange(len(real))
        if given and not gan.latent_dim:
            rows = _first_of_each(given)
        if len(rows) < self.fewest:
            return
        if np.ptp(real[rows], axis=0).any():  # identical samples have no diversity to compare with
            self._measure = metrics.Diversity(real[rows])
        self._seeds = self._first_seed + np.arange(len(rows))
        self._given = {name: values[rows] for name, values in given.items()}
        self._classes = None
        if gan.num_classes:
            known = self._labels
            self._classes = self._seeds % gan.num_classes if known is None else known[rows]

    def _after(self, step: int) -> int:
        """Returns the step of the next check: a multiple, also after a resume."""
        return (step // self.every_steps + 1) * self.every_steps

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.problem:
            self._restore()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        gan: Any = self.model
        if logs is None:
            return
        step = gan.count("iteration")
        due = step >= self._next
        self.problem = loss_not_finite(logs, gan) or self._finite()
        if not self.problem and due:
            self._next = self._after(step)
            if self._measure is not None:
                logs["diversity"] = self._diversity(self._measure)
            self.problem = self._check(logs, step)
        if self.roll_backs:
            logs["roll_backs"] = self.roll_backs
        if self.problem:
            self._act(self.problem)
        elif due and not self.suspicious:
            self._good = GameState(gan)

    def _diversity(self, measure: metrics.Diversity) -> float:
        gan: Any = self.model
        with precision.graphs("float32"):
            samples = gan.generate(self._seeds, labels=self._classes, average=False, **self._given)
            return measure(samples)

    def _check(self, measured: Mapping[str, float], step: int) -> str | None:
        """Counts failed checks in a row. Returns the problem once there are enough."""
        share = measured.get("diversity", 1.0)
        self._best = max(self._best, share)
        fallen = self._best >= self.diversity and share < self._best / 2
        never = self._best < self.diversity and step >= self.warm_up
        self._low = self._low + 1 if share < self.diversity and (fallen or never) else 0
        # Games without these metrics cannot be won outright.
        accuracy = min(measured.get("real_accuracy", 0.0), measured.get("fake_accuracy", 0.0))
        won = accuracy >= 0.999 and 0 <= measured.get("d_loss", math.inf) < 0.01
        gan: Any = self.model
        self._won = self._won + 1 if won and not gan.is_supervised else 0
        if self._low >= self.patience:
            return (
                f"mode collapse: the generated samples have {share:.1%} of the data's diversity, "
                f"after {self._best:.0%} at best"
            )
        if self._won >= self.winning:
            return (
                f"the discriminator wins outright: its accuracy was at least {accuracy:.1%} in "
                f"{self._won} checks in a row, and its loss is down to {measured['d_loss']:.2g}"
            )
        return None

    def _act(self, problem: str) -> None:
        gan: Any = self.model
        if self.action == "roll_back" and self.roll_backs < self.retries:
            self.roll_backs += 1
            warnings.warn(
                f"After {gan.count('examples_seen'):,} examples: {problem}. Back to "
                f"{self._good.examples_seen:,} examples, learning rates times {self.factor:g} "
                f"({self.roll_backs} of {self.retries})",
                stacklevel=2,
            )
            # The roll back undoes the last step. Other limits are checked again at the next one.
            gan.stop_training = False
        else:
            after = f"after {gan.count('examples_seen'):,} examples"
            if self.roll_backs:
                after += f" and {self.roll_backs} roll backs"
            self.reason = f"collapsed: {problem}, {after}"
            gan.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        if self.problem:
            self._restore()

    def _restore(self) -> None:
        """Restores the last good state, with lower learning rates unless the training ends."""
        gan: Any = self.model
        optimizers = optimizers_of(gan).values()
        rates = [learning_rate(optimizer) for optimizer in optimizers]
        self._good.restore(gan)
        # After a stop the rates stay: the user decides what to change.
        if self.reason is None:
            for optimizer, rate in zip(optimizers, rates, strict=True):
                set_learning_rate(optimizer, rate, self.factor)
        if not all(isinstance(rate, float) for rate in rates):
            gan.make_train_function(force=True)  # a schedule is part of the graph
        self._low = self._won = 0
        self._next = self._after(gan.count("iteration"))
        self.problem = None


def _check_arguments(
    action: str, factor: float, retries: int, diversity: float, counts: Mapping[str, int]
) -> None:
    if action not in ("stop", "roll_back"):
        raise UsageError(f"`action` must be stop or roll_back. Received: action={action!r}")
    check_share("factor", factor)
    check_number("diversity", diversity, above=0, below=1)
    for name, value in counts.items():
        check_integer(name, value)
    check_integer("retries", retries, 0)


def _first_of_each(fields: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the numbers of the examples that are the first with their values of the fields."""
    rows = [values.reshape(len(values), -1) for values in fields.values()]
    _, first = np.unique(np.concatenate(rows, axis=1), axis=0, return_index=True)
    return np.sort(first)


def loss_not_finite(logs: Mapping[str, float], gan: Any) -> str | None:
    """Returns the problem if a loss of an epoch is not finite; one such step is enough.

    A loss that no training step has computed yet is not a problem.
    """
    for name, value in logs.items():
        is_loss = name.endswith("loss") and not name.startswith("val_")
        if is_loss and not math.isfinite(value) and gan.has_values(name):
            return f"a loss is not finite ({name}={float(value)})"
    return None
