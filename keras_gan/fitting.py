"""Training of a prepared game with its callbacks, tick by tick."""

from __future__ import annotations

import dataclasses
import math
import signal
from typing import Any

import keras
import numpy as np

from keras_gan import building, callbacks, datasets, memory, recipe, workers
from keras_gan import precision as precisions
from keras_gan.games.gan import GAN
from keras_gan.run import Run


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The end of a training.

    Args:
        run: the run folder.
        gan: the game in its last state.
        reason: "finished", "out of time", "interrupted", "equilibrium: ..." or "collapsed: ...",
            with the measurements that led to it.
        signal: the signal that interrupted the training, if any.
        seconds: wall-clock time of the training, without building.
        team: the workers that took part.
    """

    run: Run
    gan: GAN
    reason: str
    signal: signal.Signals | None
    seconds: float
    team: workers.Team

    @property
    def collapsed(self) -> bool:
        """True if the guard ended the training; the game is then in its last good state."""
        return self.reason.startswith("collapsed")


class Fitting:
    """One training of a game, from its current step to its end.

    Args:
        gan: the compiled game.
        recipe: the resolved recipe.
        source: the data.
        held_out: the held-out samples of the evaluations.
        run: the run folder.
        team: the workers.
    """

    def __init__(
        self,
        gan: GAN,
        recipe: recipe.Recipe,
        source: datasets.Source,
        held_out: building.HeldOut,
        run: Run,
        team: workers.Team,
    ):
        self.gan, self.recipe, self.source = gan, recipe, source
        self.held_out, self.run, self.team = held_out, run, team
        self.resumed = bool(gan.count("iteration"))
        training = recipe.training
        self.steps = building.total_steps(recipe)
        self.tick = max(1, min(self.steps, round(training.tick_examples / training.batch_size)))
        self.limits = callbacks.Limits(self.steps, training.minutes, hold=True)
        if team.several:
            self.limits = workers.SharedLimits(team, self.steps, training.minutes, hold=True)
        self.progress = callbacks.Progress(training.examples, training.minutes)
        history = run.rows()
        self.guard = self._make_guard(history)
        self.equilibrium = self._make_equilibrium(history)

    def fit(self, tensorboard: bool = False) -> Outcome:
        """Trains to the end.

        Args:
            tensorboard: write logs for TensorBoard into the run folder as well.
        """
        gan, tick = self.gan, self.tick
        run_callbacks = callbacks.SingleRunCallbackList(self._callbacks(tensorboard), gan)
        begun = gan.count("iteration") % tick
        try:
            if begun:  # finish the tick in which the run was stopped: later rows stay the same
                self._fit_ticks(tick - begun, 1, run_callbacks)
            if not (begun and gan.stop_training):
                self._fit_ticks(tick, math.inf, run_callbacks)
            run_callbacks.end()
        finally:
            self.progress.close()
            self.limits.close()
        self.team.gather([0])  # workers wait until the chief has written everything
        rows = self.run.rows()
        seconds = rows[-1]["seconds"] if rows else 0.0
        reason = self._reason()
        interrupted = self.limits.interrupted if reason == "interrupted" else None
        return Outcome(self.run, gan, reason, interrupted, seconds, self.team)

    def _fit_ticks(
        self, steps: int, ticks: float, run_callbacks: callbacks.SingleRunCallbackList
    ) -> None:
        """Calls `fit` with epochs of a number of steps."""
        done = self.gan.count("iteration")
        self.gan.sample_kind = self.source.spec.kind
        batch_size = self.recipe.training.batch_size
        advising = memory.advising(
            self.gan, batch_size, self.team.replicas, self.resumed, self.run.path
        )
        with advising, precisions.graphs(self.recipe.training.precision):
            self.gan.fit(
                building.batches(self.recipe, self.source, done, self.team),
                steps_per_epoch=steps,
                initial_epoch=done // self.tick,
                # The limits end the training at its last step, also after roll backs.
                epochs=min(done // self.tick + ticks, 2**62),
                verbose=0,
                callbacks=run_callbacks,
            )

    def _reason(self) -> str:
        if self.guard and self.guard.reason:
            return self.guard.reason
        if self.limits.interrupted and self.gan.count("iteration") < self.steps:
            return "interrupted"
        if self.equilibrium and self.equilibrium.reason:
            return self.equilibrium.reason
        return "out of time" if self.limits.out_of_time else "finished"

    def _limits_reached(self) -> bool:
        return bool(self.limits.out_of_time or (self.equilibrium and self.equilibrium.reason))

    # ---------------------------------------------------------------- callbacks

    def _callbacks(self, tensorboard: bool) -> list[keras.callbacks.Callback | None]:
        """Returns the callbacks in order: those that end the training before those that record.

        Each callback sees what the previous ones have found.
        """
        found: list[keras.callbacks.Callback | None] = [self.limits, self.guard, self.equilibrium]
        # Every worker evaluates, as the discriminator is evaluated by all of them together.
        evaluation = self._make_evaluation()
        if self.team.chief:
            found += [self.progress, self._make_preview(), evaluation]
            found += [self._make_snapshots(), self._make_writer()]
            if tensorboard:
                found.append(keras.callbacks.TensorBoard(str(self.run.path / "tensorboard")))
        else:
            found += [evaluation, workers.WorkerCallbacks(self.run, guard=self.guard)]
        if self.team.several:
            found.append(workers.Agreement(self.team))
        return found

    def _make_preview(self) -> callbacks.Preview:
        section = self.recipe.samples
        seeds = range(section.seed, section.seed + section.count)
        every, field = section.every_seconds, self.source.spec.samples
        given = callbacks.given_to(self.gan, self.held_out.fields)
        if not given:
            return callbacks.Preview(self.run.samples, seeds, every_seconds=every, field=field)
        # The held-out examples in their order, again from the first if there are more seeds.
        rows = np.arange(section.count) % len(self.held_out.samples)
        given = {name: values[rows] for name, values in given.items()}
        labels: Any = self.held_out.labels
        labels = None if labels is None else labels[rows]
        return callbacks.Preview(self.run.samples, seeds, labels, every, field, given)

    def _make_evaluation(self) -> callbacks.Evaluation:
        held_out = self.held_out
        return callbacks.Evaluation(
            self.run,
            held_out.samples,
            held_out.labels,
            held_out.comparison,
            every_examples=self.recipe.evaluation.every_examples,
            batch_size=min(self.recipe.training.batch_size, len(held_out.samples)),
            last_step=self.steps,
            limits_reached=self._limits_reached,
            guard=self.guard,
            fields=held_out.fields,
            conditions=held_out.conditions,
            baselines=lambda: self.gan.baselines(self.source.field_arrays("train")),
        )

    def _make_snapshots(self) -> callbacks.AverageSnapshots:
        every = self.tick * self.recipe.training.batch_size
        return callbacks.AverageSnapshots(self.run, every, self.guard)

    def _make_writer(self) -> callbacks.RunWriter:
        training = self.recipe.training
        return callbacks.RunWriter(
            self.run,
            every_seconds=training.checkpoint_seconds,
            keep=training.keep_checkpoints,
            guard=self.guard,
            ending=self._reason,
        )

    def _make_guard(self, history: list[dict[str, float]]) -> callbacks.CollapseGuard | None:
        section = self.recipe.training.collapse_guard
        if section.action == "off":
            return None
        samples, labels = self.held_out.samples, self.held_out.labels
        fields = self.held_out.fields
        arguments = {**section.model_dump(), "history": history, "fields": fields}
        if self.team.several:
            return workers.SharedCollapseGuard(self.team, samples, labels, **arguments)
        return callbacks.CollapseGuard(samples, labels, **arguments)

    def _make_equilibrium(self, history: list[dict[str, float]]) -> callbacks.Equilibrium | None:
        section = self.recipe.training.equilibrium
        if section is None:
            return None
        samples, labels = self.held_out.samples, self.held_out.labels
        arguments = {**section.model_dump(), "history": history, "guard": self.guard}
        arguments["fields"] = self.held_out.fields
        return callbacks.Equilibrium(samples, labels, **arguments)
