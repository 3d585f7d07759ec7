"""Evaluation on held-out samples during training, and the best checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_gan import metrics, precision
from keras_gan.callbacks.collapse import CollapseGuard
from keras_gan.callbacks.state import given_to
from keras_gan.errors import UsageError
from keras_gan.run import Run


class Evaluation(keras.callbacks.Callback):
    """Evaluations of the averaged generator on held-out samples; keeps the best checkpoint.

    Adds to the logs of the epoch: the comparison's measures, and the discriminator's loss and
    accuracies on up to 1,000 held-out samples as `val_d_loss`, `val_real_accuracy` and
    `val_fake_accuracy`. The comparison's protocol is written to the run's `evaluation.json`.

    Args:
        run: run folder of the best checkpoint, by the comparison's first metric.
        held_out: real samples that are not trained on, `(count, ...)`, in the form that the game
            takes.
        labels: their class ids, `(count,)`, in a conditional game.
        compare: the comparison with `compare.count` generated samples; by default the metrics of
            the samples' kind.
        every_examples: examples between two evaluations; 0 evaluates at the end only.
        seed: the first of `compare.count` seeds.
        batch_size: samples in one batch of the discriminator.
        last_step: number of the last training step; the end of the training is evaluated as well.
        limits_reached: returns True if the training ends for another reason than an interruption.
        guard: the guard of this training. A collapsed state is not evaluated, and a state that is
            under suspicion does not become the best.
        fields: further fields of the held-out samples by name, `(count, ...)`, for networks that
            ask for them.
        conditions: labels and further fields by name, `(compare.count, ...)`, with which samples
            are generated; by default those of the held-out samples.
        baselines: returns the game's scores of others by name, such as those of an expert, which
            are written to the protocol as controls; called once for a run.

    Raises:
        UsageError: conditions of another number.
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
        fields: Mapping[str, np.ndarray] | None = None,
        conditions: Mapping[str, np.ndarray] | None = None,
        baselines: Callable[[], Mapping[str, Mapping[str, float]]] = dict,
    ):
        super().__init__()
        self.baselines = baselines
        self.guard, self.fields = guard, dict(fields or {})
        self.compare = compare or metrics.Comparison(held_out)
        self.metric = self.compare.metric
        self.run, self.held_out, self.labels = run, held_out, labels
        self.every_examples, self.batch_size = every_examples, batch_size
        self.seeds = range(seed, seed + self.compare.count)
        self._own = self.fields if labels is None else {**self.fields, "labels": labels}
        self.conditions, self._differ = dict(conditions or self._own), bool(conditions)
        for name, values in self.conditions.items():
            if len(values) != self.compare.count:
                raise UsageError(
                    "Conditions must be as many as the samples that are compared, "
                    f"{self.compare.count}. Received: {len(values)} of {name!r}"
                )
        self.last_step = last_step
        self.limits_reached = limits_reached
        self._best_rank, self._best_at = math.inf, 0

    def on_train_begin(self, logs: Any = None) -> None:
        self._write_protocol()
        record = self.run.best_record
        if record and self.metric in record:  # the record may be of a different metric
            best = self._rank(record[self.metric])
            self._best_rank, self._best_at = best, record["examples_seen"]

    def _write_protocol(self) -> None:
        """Writes the protocol, with the baselines of the run's start."""
        score, before = self.model.score, self.run.evaluation or {}  # pyright: ignore
        protocol = self.compare.protocol
        if score is not None:
            self.metric = protocol["metric"] = score
            controls = before.get("controls") or self.baselines()
            protocol["controls"] = {name: dict(values) for name, values in controls.items()}
        self.run.evaluation = protocol

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        seen, every = self.model.count("examples_seen"), self.every_examples  # pyright: ignore
        # Evaluations fall on multiples, also after a resume or a roll back.
        self._next = (seen // every + 1) * every if every else math.inf
        if seen < self._best_at:  # a roll back has discarded the best state
            self._best_rank, self._best_at = math.inf, 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        gan: Any = self.model
        seen = gan.count("examples_seen")
        last = gan.count("iteration") >= self.last_step or self.limits_reached()
        if logs is None or not (seen >= self._next or last):
            return
        if self.guard is not None and self.guard.problem:
            return
        logs.update(self.evaluate())
        value = logs[self.metric]
        rank = self._rank(value)
        if rank < self._best_rank and not (self.guard and self.guard.suspicious):
            self._best_rank, self._best_at = rank, seen
            self.run.save_best(gan, {self.metric: value, "examples_seen": seen})

    def _rank(self, value: float) -> float:
        """Returns a number that is the smaller, the better a value is."""
        is_score = self.metric == self.model.score  # pyright: ignore
        return -value if is_score else metrics.rank(self.metric, value)

    def evaluate(self) -> dict[str, float]:
        """Returns the measures of the game's current state, in float32 at any precision."""
        with precision.graphs("float32"):
            return self._evaluate()

    def measure(self, gan: Any) -> dict[str, float]:
        """Returns the measures of the comparison for a game's averaged generator."""
        samples = self._samples(gan, self.compare.count, self.conditions)
        # With the conditions of pictures that were trained on, good samples would look like copies.
        own = self._samples(gan, len(self.held_out), self._own) if self._differ else None
        return {**gan.scores(), **self.compare(samples, own, metrics.inverse_of(gan))}

    def _samples(self, gan: Any, count: int, conditions: Mapping[str, np.ndarray]) -> np.ndarray:
        further = {name: values for name, values in conditions.items() if name != "labels"}
        given, labels = given_to(gan, further), conditions.get("labels")
        return gan.generate(self.seeds[:count], labels=labels, batch_size=250, **given)

    def _evaluate(self) -> dict[str, float]:
        gan: Any = self.model
        results = self.measure(gan)
        if not gan.has_evaluation:
            return results
        whole = max(1, self.judged // self.batch_size) * self.batch_size  # for the replicas
        held_out, labels = self.held_out[:whole], self.labels
        labels = labels if labels is None else labels[:whole]
        inputs: Any = held_out
        if self.fields:
            inputs = {name: values[:whole] for name, values in self.fields.items()}
            inputs["samples"] = held_out
        measured = gan.evaluate(
            inputs, labels, batch_size=self.batch_size, verbose=0, return_dict=True
        )
        kept = [n for n in ("d_loss", "real_accuracy", "fake_accuracy") if n in measured]
        for name in kept or measured:
            results[f"val_{name}"] = float(measured[name])
        return results
