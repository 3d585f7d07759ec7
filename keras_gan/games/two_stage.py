"""The game of a generator that learns from its terms first, and then from a discriminator too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_gan import schedules
from keras_gan.arguments import check_integer, check_number, check_probability
from keras_gan.errors import UsageError
from keras_gan.games import _averaging, _step, _terms
from keras_gan.games._sampling import Sampler
from keras_gan.games.gan import GAN


@keras.saving.register_keras_serializable("keras_gan")
class TwoStage(GAN):
    """A GAN whose generator minimizes its terms alone in a first stage, as in SRGAN and ESRGAN.

    In the first stage the discriminator is not computed, and terms that read it, such as feature
    matching, are left out. At its end the averaged generator is copied into `first_generator`,
    which stays as it is. In the second stage the discriminator is trained, and the generator
    minimizes its terms and `adversarial_weight` times the adversarial loss. `blend` chooses the
    first generator, the last one, or an interpolation of their weights.

    Args:
        generator: as of `keras_gan.GAN`.
        discriminator: as of `keras_gan.GAN`.
        first_stage: length of the first stage: a number of examples above 1, or a share of the
            training from 0 to 1. With 1 there is no second stage.
        adversarial_weight: weight of the adversarial loss in the second stage, from 0 up, or a
            schedule of it.
        training_examples: length of the training in examples, which a share refers to. Recipes
            supply it.
        **kwargs: the other arguments of `keras_gan.GAN`. `terms` must have one that supervises
            the generator, such as `Reconstruction`, if there is a first stage.

    Raises:
        UsageError: an argument out of range, a share of a training of unknown length, or no term
            for the first stage; at `compile`, several replicas.

    Reference:
        - [Ledig et al., 2016](https://arxiv.org/abs/1609.04802)
        - [Wang et al., 2018](https://arxiv.org/abs/1809.00219), section 3.4, for `blend`
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        first_stage: float = 0.5,
        adversarial_weight: float | schedules.Schedule = 0.01,
        training_examples: int | None = None,
        **kwargs: Any,
    ):
        check_number("first_stage", first_stage, minimum=0)
        super().__init__(generator, discriminator, adversarial_weight=adversarial_weight, **kwargs)
        self.first_stage = first_stage
        self.training_examples = training_examples
        self.first_stage_examples = _examples(first_stage, training_examples)
        if self.first_stage_examples:
            self._check_first_stage()
        self.first_generator = _averaging.copy_of(self.generator, "generator")

    def _check_first_stage(self) -> None:
        """Checks that the generator can be trained on its terms alone.

        Raises:
            UsageError: no term that supervises it.
        """
        if not self.is_supervised:
            raise UsageError(
                "`terms` must have a term that the generator can learn from in the first stage, "
                f"such as reconstruction. Received: terms={list(self.terms)}"
            )

    @classmethod
    def shares(cls, options: Mapping[str, Any]) -> list[str]:
        return ["first_stage"] if 0 < options["first_stage"] <= 1 else []

    def compile(self, *given: Any, **arguments: Any) -> None:
        replicas = self.distribute_strategy.num_replicas_in_sync
        if replicas > 1:  # its stages are branches of the graph, in which replicas cannot meet
            raise UsageError(
                f"{type(self).__name__} can be trained on one device only. "
                f"Received: {replicas} replicas"
            )
        super().compile(*given, **arguments)

    def has_values(self, metric: str) -> bool:
        # Those of the adversarial part have values from the first step of the second stage on.
        optimizer = getattr(self, "discriminator_optimizer", None)
        begun = optimizer is not None and int(optimizer.iterations.numpy()) > 0
        return begun or metric not in (*self.metric_names, *self._later_metrics())

    def _later_metrics(self) -> list[str]:
        """Returns the names of the metrics of terms that the first stage leaves out."""
        return [
            _terms.metric(name, player)
            for name, term in self.terms.items()
            for player in term.players
            if "discriminator" in (player, *term.networks_read(player))
        ]

    # ---------------------------------------------------------------- the algorithm

    def step(self, batch: dict[str, Any]) -> None:
        """Trains the generator on its terms, and in the second stage both networks as a GAN."""
        first = self.examples_seen.value < self.first_stage_examples
        tf.cond(first, lambda: self._first_step(batch), lambda: self._second_step(batch))

    def _second_step(self, batch: dict[str, Any]) -> Any:
        super().step(batch)
        return tf.zeros(())  # a branch of the graph returns a tensor

    def _first_step(self, batch: dict[str, Any]) -> Any:
        with tf.GradientTape() as tape:
            latents, made = _step.generate(self, batch, 0)
            context = _step.context(
                self, "generator", batch, latents, batch["samples"], made["samples"], 0, made
            )
            objective = self.sum_of_terms(context, without=["discriminator"])
        self.minimize("generator", objective, tape)
        return tf.zeros(())

    def end_step(self, examples: Any) -> None:
        # Until the stage ends, the copy follows the average.
        began = self.examples_seen.value - examples

        def copy() -> Any:
            average = self.average("generator").model
            for old, new in zip(self.first_generator.weights, average.weights, strict=True):
                old.assign(new)
            return tf.zeros(())

        tf.cond(began < self.first_stage_examples, copy, lambda: tf.zeros(()))

    # ---------------------------------------------------------------- weights

    def first_sampler(self) -> Sampler:
        """Returns the graph of the first generator in inference mode, see `sampler`."""
        network = self.networks["generator"].with_model(self.first_generator)
        return Sampler(network, self.latent_dim, self.num_classes, self.sample_shape)

    def blend(self, share: float) -> None:
        """Sets the averaged generator between that of the first stage and the present one.

        Args:
            share: 0 for the generator of the first stage, 1 for the present averaged one, numbers
                between for the interpolation of their weights.

        Raises:
            UsageError: a share out of range, or a game without an average.
        """
        check_probability("share", share)
        first = _averaging.floating_weights(self.first_generator)
        last = _averaging.floating_weights(self.average("generator").model)
        pairs = zip(first, last, strict=True)
        values = [(1 - share) * a.value.numpy() + share * b.value.numpy() for a, b in pairs]
        self.assign_average("generator", values)


def _examples(first_stage: float, training_examples: int | None) -> int:
    """Returns the length of the first stage in examples.

    Raises:
        UsageError: a share of a training of unknown length.
    """
    if training_examples is not None:
        check_integer("training_examples", training_examples)
    if first_stage > 1 or first_stage == 0:
        return round(first_stage)
    if training_examples is None:
        raise UsageError(
            "`first_stage` must be a number of examples above 1, or `training_examples` be given: "
            f"a share is one of the whole training. Received: first_stage={first_stage}, "
            "training_examples=None"
        )
    return round(first_stage * training_examples)
