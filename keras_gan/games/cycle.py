"""The game of two translators between two domains of unpaired pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import data_spec, losses, network_checks, schedules
from keras_gan.arguments import check_integer, check_number
from keras_gan.games import _cycle_checks
from keras_gan.games._game import Game
from keras_gan.games._history import History
from keras_gan.networks import as_float32, mean_per_sample, stop_gradient, update_power_iteration
from keras_gan.spec import Spec

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class Cycle(Game):
    """CycleGAN: a translator in each direction between two domains A and B without pairs.

    The field `condition` holds pictures of the domain A and `samples` those of B, drawn
    independently of each other. `forward` translates A to B and `backward` B to A. Each
    discriminator compares the pictures of its domain with translated ones, the generators
    minimize

        adversarial(A -> B) + adversarial(B -> A)
            + cycle_weight (|backward(forward(a)) - a| + |forward(backward(b)) - b|)
            + identity_weight (|forward(b) - b| + |backward(a) - a|),

    where |x| is the mean absolute value, and each discriminator minimizes half of its loss, on
    translated pictures of a history. `losses.LeastSquares` has the factor 1/2 of its paper, which
    the authors of CycleGAN leave out of the generators' loss: with it, weights of 5 and 2.5 are
    their 10 and 5. `generate` and the evaluation use `forward`; `translate` has
    both directions.

    Args:
        forward: built Keras model from pictures of A, its input `condition`, to pictures of B of
            the same height and width.
        backward: the same from B to A.
        discriminator_a: built Keras model from pictures of A to logits `(batch, ...)`.
        discriminator_b: the same of B.
        loss: name or instance of an adversarial loss, see `keras_gan.losses`.
        cycle_weight: weight of the cycle consistency, from 0 up, or a schedule of it.
        identity_weight: weight of the identity term, from 0 up, or a schedule of it. Domains with
            different numbers of channels must have 0.
        pool_size: number of translated pictures that each discriminator's history keeps, from 0
            up; it is saved with the game. Replicas share the history of the first one.
        picture_shape: height and width of the pictures of a training batch; needed with a history
            only if the networks take any size. Recipes supply it from the data.
        **kwargs: `ema_half_life`, `ema_rampup`, `average_deviations` and `seed` as of
            `keras_gan.GAN`, `name`, `dtype` and other arguments of `keras.Model`.

    Raises:
        UsageError: networks that do not fit each other or the loss, or an argument out of range.

    Reference:
        - [Zhu et al., 2017](https://arxiv.org/abs/1703.10593)
        - [Shrivastava et al., 2016](https://arxiv.org/abs/1612.07828), section 2.3, for the history
    """

    players = {
        "generators": ("forward", "backward"),
        "discriminators": ("discriminator_a", "discriminator_b"),
    }
    metric_names = (
        *("d_loss", "g_loss", "cycle_loss", "identity_loss"),
        *("real_accuracy", "fake_accuracy", "real_logits", "fake_logits"),
    )
    sampled = "forward"
    averaged = ("forward", "backward")
    first_input = "condition"
    inverse = "backward"

    def __init__(
        self,
        forward: keras.Model,
        backward: keras.Model,
        discriminator_a: keras.Model,
        discriminator_b: keras.Model,
        loss: str | dict | losses.Loss = "least_squares",
        cycle_weight: float | schedules.Schedule = 10.0,
        identity_weight: float | schedules.Schedule = 5.0,
        pool_size: int = 50,
        picture_shape: Sequence[int] | None = None,
        **kwargs: Any,
    ):
        check_number("cycle_weight", cycle_weight, minimum=0, schedule=True)
        check_number("identity_weight", identity_weight, minimum=0, schedule=True)
        check_integer("pool_size", pool_size, 0)
        _cycle_checks.arguments(kwargs)
        models = {"forward": forward, "backward": backward}
        models |= {"discriminator_a": discriminator_a, "discriminator_b": discriminator_b}
        self.has_identity = any(schedules.bounds(identity_weight))
        if not self.has_identity:
            self.metric_names = tuple(n for n in self.metric_names if n != "identity_loss")
        super().__init__(models, **kwargs)
        self.adversarial_loss = losses.get(loss)  # `self.loss` belongs to keras.Model
        for name in self.players["discriminators"]:
            network_checks.logits(self.networks[name], self.adversarial_loss)
        self.cycle_weight, self.identity_weight = cycle_weight, identity_weight
        if self.has_identity:
            _cycle_checks.identity(self.shape_of("backward"), self.sample_shape, identity_weight)
        self.pool_size = int(pool_size)
        self.picture_shape = _cycle_checks.picture_shape(picture_shape, self)
        self.histories = {
            "discriminator_a": self._history("discriminator_a", "backward"),
            "discriminator_b": self._history("discriminator_b", "forward"),
        }

    def argument(self, name: str) -> Any:
        return self.adversarial_loss if name == "loss" else super().argument(name)

    def check_networks(self, outputs: Mapping[str, Mapping[str, Any]]) -> None:
        self._shapes = _cycle_checks.networks(self.networks, outputs)

    @property
    def is_supervised(self) -> bool:
        return True  # by the cycle consistency

    def shape_of(self, name: str) -> tuple:
        return self._shapes.get(name, self.sample_shape)

    def _history(self, discriminator: str, generator: str) -> History:
        """Returns the history that a discriminator is shown of a generator's pictures."""
        height, width = self.picture_shape or (None, None)
        shape = (height, width, self.shape_of(generator)[-1])
        return History(self, discriminator, self.pool_size, shape)

    @classmethod
    def network_spec(cls, name: str, spec: Spec, options: Mapping[str, Any]) -> Spec:
        if name in ("forward", "discriminator_b"):
            return spec
        swapped = {"samples": spec.fields["condition"], "condition": spec.samples}
        return Spec(fields=dict(spec.fields) | swapped)

    @property
    def data_spec(self) -> data_spec.DataSpec:
        spec = super().data_spec
        condition = network_checks.input_shape(self.networks["forward"], "condition")
        shapes = {} if condition is None else {"condition": condition}
        return dataclasses.replace(spec, asked={"condition": "forward"}, shapes=shapes)

    # ---------------------------------------------------------------- the algorithm

    def step(self, batch: dict[str, Any]) -> None:
        """Trains both generators, and then both discriminators."""
        a, b = batch["condition"], batch["samples"]
        _cycle_checks.batch(a, b, self.picture_shape if self.pool_size else None)
        for name in self.networks:
            update_power_iteration(getattr(self, name))

        # Both generators, against both discriminators.
        with tf.GradientTape() as tape:
            fake_a, fake_b = self._translate("backward", b), self._translate("forward", a)
            g_loss = self._adversarial("discriminator_a", a, fake_a)
            g_loss += self._adversarial("discriminator_b", b, fake_b)

            # Cycle consistency: a picture that is translated and back is itself.
            cycle = _distance(self._translate("backward", fake_b), a)
            cycle += _distance(self._translate("forward", fake_a), b)
            objective = g_loss + schedules.now(self.cycle_weight, self.examples_seen.value) * cycle

            # Identity: a generator leaves pictures of its target as they are.
            if self.has_identity:
                same = _distance(self._translate("forward", b), b)
                same += _distance(self._translate("backward", a), a)
                weight = schedules.now(self.identity_weight, self.examples_seen.value)
                objective += weight * same
                self.track(identity_loss=same)
        self.minimize("generators", objective, tape)
        self.track(g_loss=g_loss, cycle_loss=cycle)

        # Both discriminators, on translated pictures of this step and of their histories.
        shown_a = self._from_history("discriminator_a", tf.stop_gradient(fake_a))
        shown_b = self._from_history("discriminator_b", tf.stop_gradient(fake_b))
        with tf.GradientTape() as tape:
            of_a = self._judge("discriminator_a", a, shown_a)
            of_b = self._judge("discriminator_b", b, shown_b)
            d_loss = self._discriminator_loss(*of_a) + self._discriminator_loss(*of_b)
            objective = d_loss / 2
        self.minimize("discriminators", objective, tape)
        self._track_discriminators(d_loss / 2, of_a, of_b)

    def _translate(self, name: str, pictures: Any) -> Any:
        """Returns translated pictures in float32, in training mode."""
        found = self.networks[name]({"condition": pictures}, training=True)
        return ops.cast(found["samples"], "float32")

    def _judge(self, name: str, real: Any, fake: Any) -> tuple[Any, Any]:
        """Returns a discriminator's float32 logits on real and on translated pictures."""
        network = self.networks[name]
        real, fake = (as_float32(network({"samples": x}, training=True)) for x in (real, fake))
        return real["logits"], fake["logits"]

    def _adversarial(self, name: str, real: Any, fake: Any) -> Any:
        real_logits, fake_logits = self._judge(name, real, fake)
        loss = self.adversarial_loss.generator
        return ops.mean(losses.values(loss, stop_gradient(real_logits), fake_logits))

    def _discriminator_loss(self, real: Any, fake: Any) -> Any:
        return ops.mean(losses.values(self.adversarial_loss.discriminator, real, fake))

    def _from_history(self, name: str, fake: Any) -> Any:
        return self.histories[name](fake, self.random_seed(f"history of {name}"))

    def _track_discriminators(self, loss: Any, *pairs: tuple[Any, Any]) -> None:
        """Updates the discriminators' metrics, which are means over both."""
        self.track(d_loss=loss)
        for real, fake in pairs:
            self.track(**losses.accuracies(self.adversarial_loss, real, fake))

    def evaluation(self, batch: dict[str, Any]) -> None:
        """Updates the metrics with the averaged generators, all networks in inference mode."""
        a, b = batch["condition"], batch["samples"]
        forward, backward = self.average("forward"), self.average("backward")

        def translate(network, pictures):
            found = network({"condition": pictures}, training=False)["samples"]
            return ops.cast(found, "float32")

        def judge(name, pictures):
            found = self.networks[name]({"samples": pictures}, training=False)
            return as_float32(found)["logits"]

        fake_a, fake_b = translate(backward, b), translate(forward, a)
        cycle = _distance(translate(backward, fake_b), a) + _distance(translate(forward, fake_a), b)
        of_a = judge("discriminator_a", a), judge("discriminator_a", fake_a)
        of_b = judge("discriminator_b", b), judge("discriminator_b", fake_b)
        loss = self.adversarial_loss.generator
        g_loss = sum(ops.mean(losses.values(loss, *each)) for each in (of_a, of_b))
        d_loss = self._discriminator_loss(*of_a) + self._discriminator_loss(*of_b)
        self.track(g_loss=g_loss, cycle_loss=cycle)
        if self.has_identity:
            same = _distance(translate(forward, b), b) + _distance(translate(backward, a), a)
            self.track(identity_loss=same)
        self._track_discriminators(d_loss / 2, of_a, of_b)

    # ---------------------------------------------------------------- samples

    def translate(
        self,
        pictures: np.ndarray,
        backward: bool = False,
        average: bool = True,
        batch_size: int = 64,
    ) -> np.ndarray:
        """Translates pictures to the other domain.

        Args:
            pictures: of the domain A, `(count, height, width, channels)`, in the range of the
                data; of B if `backward`.
            backward: translate from B to A.
            average: use the averaged generator rather than the live one.
            batch_size: number of pictures that are translated together, at least 1.

        Returns:
            Pictures of the other domain, float32, of the same height and width.

        Raises:
            UsageError: pictures of another shape, NaN, or an argument out of range.
        """
        sampler = self.sampler(average, "backward" if backward else "forward")
        count = len(np.asarray(pictures))
        given = {"condition": pictures}
        return sampler.generate(np.zeros(count, np.int64), None, 1.0, batch_size, given)


def _distance(pictures: Any, others: Any) -> Any:
    """Returns the mean absolute difference over all values of a batch."""
    return ops.mean(mean_per_sample(ops.abs(pictures - ops.cast(others, pictures.dtype))))
