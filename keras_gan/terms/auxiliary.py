"""Auxiliary tasks of the discriminator."""

from __future__ import annotations

from typing import Any

import keras

from keras_gan.arguments import check_number
from keras_gan.errors import UsageError
from keras_gan.networks import mean_over_outputs
from keras_gan.schedules import Schedule
from keras_gan.terms._term import GameSpec, StepContext, Term, checked_weight

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class AuxiliaryClassifier(Term):
    """The auxiliary classifier of AC-GAN: cross-entropy of class logits with the labels.

    The discriminator's output `classes` holds logits over the classes, `(batch, num_classes)`. The
    discriminator minimizes -log P(c | x) - log P(c | G(z, c)) and the generator
    -log P(c | G(z, c)), where c are the labels of the batch.

    Args:
        weight: on the discriminator, from 0 up, or a schedule of it; 1 as in the paper.
        interval: see `Term`.
        generator_weight: on the generator, from 0 up, or a schedule of it; 1 as in the paper.
        real: factor of the discriminator's part on real samples, from 0 up.
        fake: factor of the discriminator's part on generated samples, from 0 up. Classifiers are
            often trained on real samples only, with 0 here.

    Raises:
        UsageError: a weight or factor out of range, a game without labels, or a discriminator
            whose output `classes` is missing or has not one logit for each class.

    Reference:
        - [Odena et al., 2017](https://arxiv.org/abs/1610.09585), equation 3
    """

    also_called = ("acgan",)

    players = ("discriminator", "generator")
    outputs = {"discriminator": ("classes",)}
    fields = ("labels",)

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        interval: int = 1,
        generator_weight: float | Schedule = 1.0,
        real: float = 1.0,
        fake: float = 1.0,
    ):
        super().__init__(weight, interval)
        self.generator_weight = checked_weight("generator_weight", generator_weight)
        check_number("real", real, minimum=0)
        check_number("fake", fake, minimum=0)
        self.real, self.fake = float(real), float(fake)

    def check(self, game: GameSpec) -> None:
        for classes in keras.tree.flatten(game.outputs["discriminator"]["classes"]):
            if tuple(classes.shape[1:]) != (game.num_classes,):
                raise UsageError(
                    "The discriminator's output 'classes' must have the shape "
                    f"('batch', {game.num_classes}). Received: {tuple(classes.shape)}"
                )

    def weight_on(self, player: str) -> float | Schedule:
        return self.generator_weight if player == "generator" else self.weight

    def values(self, context: StepContext):
        if context.player == "generator":
            return self._cross_entropy(context, context.fake)
        real = self._cross_entropy(context, context.real)
        return self.real * real + self.fake * self._cross_entropy(context, context.fake)

    def _cross_entropy(self, context: StepContext, samples):
        labels = context.fields["labels"]
        return mean_over_outputs(
            lambda classes: ops.sparse_categorical_crossentropy(labels, classes, from_logits=True),
            context.forward(samples)["classes"],
        )

    def get_config(self) -> dict:
        weight = keras.saving.serialize_keras_object(self.generator_weight)
        own = {"generator_weight": weight, "real": self.real, "fake": self.fake}
        return {**super().get_config(), **own}
