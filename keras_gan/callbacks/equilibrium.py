"""Early stopping once the discriminator cannot distinguish samples from held-out data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import metrics, precision
from keras_gan.arguments import check_integer, check_number
from keras_gan.callbacks.collapse import CollapseGuard
from keras_gan.callbacks.state import given_to
from keras_gan.errors import UsageError

ops: Any = keras.ops


class Equilibrium(keras.callbacks.Callback):
    """Early stopping once the discriminator cannot distinguish samples from held-out data.

    At each evaluation the discriminator computes logits of held-out real samples, of as many
    generated ones from seeds that were not used before, and of noise. Its balanced accuracy (see
    `metrics.balanced_accuracy`) is taken at the best threshold, not at the loss's own decision
    threshold: it is comparable for losses whose logits have no origin. The game is at its
    equilibrium when that accuracy has been within `tolerance` of 0.5 for `patience` evaluations
    in a row, while the discriminator still ranks data above noise. A discriminator that has
    failed, with constant logits or no better logits for data than for noise, does not end the
    training.

    Noise is the held-out samples with the values of each in random positions; for points, which
    have no positions, uniform numbers in the data's range of each coordinate.

    Adds `balanced_accuracy` and `noise_accuracy` to the logs of the epoch.

    Args:
        held_out: real samples that are not trained on, `(count, ...)`, in random order; at least
            1 / (2 tolerance^2), so that chance stays within the tolerance.
        labels: their class ids, `(count,)`, in a conditional game.
        every_examples: examples between two evaluations; 0 evaluates at the end of each epoch.
        tolerance: largest distance of the balanced accuracy from 0.5, above 0 and below 0.5.
        patience: evaluations in a row that must be within the tolerance, from 1 up.
        noise_accuracy: least balanced accuracy of data against noise, from 0.5 to 1.
        average: evaluate the averaged generator instead of the live one, which is the one that
            the discriminator is trained against.
        seed: the first of the seeds, and the seed of the noise.
        history: rows of the run so far, so that a resumed training continues the count.
        guard: the guard of this training. A collapsed state is not evaluated.
        fields: further fields of the held-out samples by name, for networks that ask for them.

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
        fields: Mapping[str, np.ndarray] | None = None,
    ):
        super().__init__()
        self.fields = dict(fields or {})
        _check_arguments(tolerance, patience, noise_accuracy)
        least = least_held_out(tolerance)
        if len(held_out) < least:
            raise UsageError(
                f"An accuracy within {tolerance} of 0.5 needs at least {least} held-out samples "
                f"to be significant. Received: {len(held_out)}"
            )
        self.held_out, self.labels = held_out, labels
        self.every_examples, self.tolerance, self.patience = every_examples, tolerance, patience
        self.noise_accuracy, self.average, self.seed = noise_accuracy, average, seed
        self.history, self.guard = history, guard
        self.reason: str | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        gan: Any = self.model
        self._logits = _Logits(gan)
        self.reason = None
        self._evaluated = [row for row in self.history if "balanced_accuracy" in row]
        self._begin_at(gan.count("examples_seen"))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._begin_at(self.model.count("examples_seen"))  # pyright: ignore

    def _begin_at(self, seen: int) -> None:
        # A resume or a roll back discards the evaluations after the state that it goes on from.
        self._evaluated = [row for row in self._evaluated if row["examples_seen"] <= seen]
        every = self.every_examples
        self._next = (seen // every + 1) * every if every else 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        gan: Any = self.model
        seen = gan.count("examples_seen")
        if logs is None or seen < self._next or (self.guard and self.guard.problem):
            return
        measured = self.evaluate()
        logs.update(measured)
        self._evaluated.append({"examples_seen": seen, **measured})
        if self._in_a_row >= self.patience:
            self.reason = (
                "equilibrium: the discriminator's balanced accuracy between samples and held-out "
                f"data is {measured['balanced_accuracy']:.3f}, within {self.tolerance} of 0.5 in "
                f"{self._in_a_row} evaluations in a row"
            )
            gan.stop_training = True

    @property
    def _in_a_row(self) -> int:
        return sum(1 for _ in itertools.takewhile(self._is_level, reversed(self._evaluated)))

    def _is_level(self, measured: Mapping[str, float]) -> bool:
        """Checks that data and samples look alike while data and noise do not."""
        undecided = abs(measured["balanced_accuracy"] - 0.5) <= self.tolerance
        return undecided and measured["noise_accuracy"] >= self.noise_accuracy

    def evaluate(self) -> dict[str, float]:
        """Returns balanced accuracies of held-out data against new samples and new noise.

        They are computed in float32 at any precision of the training.
        """
        with precision.graphs("float32"):
            return self._evaluate()

    def _evaluate(self) -> dict[str, float]:
        gan: Any = self.model
        count, step = len(self.held_out), gan.count("iteration")
        first = self.seed + step * count  # each step has its own range of seeds
        seeds = range(first, first + count)
        given = given_to(gan, self.fields)
        fake = gan.generate(seeds, labels=self.labels, average=self.average, **given)
        noise = _noise_like(self.held_out, np.random.default_rng([self.seed, step]))
        fields = dict(self.fields)
        if self.labels is not None:
            fields["labels"] = self.labels.astype(np.int32)
        logits = [self._logits(x, fields) for x in (self.held_out, fake, noise)]
        if not all(np.isfinite(of).all() for of in logits):
            return {"balanced_accuracy": math.nan, "noise_accuracy": math.nan}
        if _is_constant(np.concatenate(logits)):
            return {"balanced_accuracy": 0.5, "noise_accuracy": 0.5}
        real, fake, noise = logits
        return {
            "balanced_accuracy": metrics.balanced_accuracy(real, fake),
            "noise_accuracy": metrics.balanced_accuracy(real, noise, real_above=True),
        }


def _check_arguments(tolerance: float, patience: int, noise_accuracy: float) -> None:
    check_number("tolerance", tolerance, above=0, below=0.5)
    check_number("noise_accuracy", noise_accuracy, minimum=0.5, maximum=1)
    check_integer("patience", patience)


def least_held_out(tolerance: float) -> int:
    """Returns the number of held-out samples that a tolerance needs.

    Two standard errors of the balanced accuracy are then within the tolerance.
    """
    # Var = (1 / (4 n) + 1 / (4 n)) / 4 = 1 / (8 n), from the accuracies on n real and n generated
    # samples; 2 sqrt(1 / (8 n)) <= tolerance.
    return math.ceil(1 / (2 * tolerance**2))


class _Logits:
    """The discriminator's logits in inference mode, one for each sample or pack."""

    def __init__(self, gan: Any, batch_size: int = 256):
        self.size = gan.packing.size
        self.batch_size = max(1, batch_size // self.size) * self.size

        @tf.function(reduce_retracing=True, autograph=False)
        def logits_of(samples, fields):
            logits = gan.logits(samples, fields)
            each = logits if isinstance(logits, (list, tuple)) else [logits]
            means = [tf.reduce_mean(tf.reshape(x, (tf.shape(x)[0], -1)), axis=1) for x in each]
            return sum(means[1:], means[0]) / len(means)

        self._graph = logits_of

    def __call__(self, samples: np.ndarray, fields: Mapping[str, np.ndarray]) -> np.ndarray:
        found = []
        samples = samples[: len(samples) // self.size * self.size]
        for start in range(0, len(samples), self.batch_size):
            part = slice(start, start + self.batch_size)
            others = {name: tf.constant(values[part]) for name, values in fields.items()}
            found.append(self._graph(tf.constant(samples[part], tf.float32), others).numpy())
        return np.concatenate(found)


def _noise_like(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns noise in the samples' range of values, which does not show what is learned."""
    flat = samples.reshape(len(samples), -1)
    if samples.ndim == 2:
        return rng.uniform(flat.min(axis=0), flat.max(axis=0), flat.shape).astype(samples.dtype)
    return rng.permuted(flat, axis=1).reshape(samples.shape)


def _is_constant(logits: np.ndarray) -> bool:
    """Checks whether logits differ by no more than the rounding of float32."""
    return float(np.ptp(logits)) <= 1e-6 * max(1.0, float(np.abs(logits).max()))
