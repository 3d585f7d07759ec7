"""Consistency terms: equal logits for augmented samples and for near latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_gan import augment as augments
from keras_gan import random_numbers
from keras_gan.arguments import check_number, check_positive
from keras_gan.errors import UsageError
from keras_gan.networks import mean_over_outputs, mean_per_sample
from keras_gan.schedules import Schedule
from keras_gan.terms._term import (
    GameSpec,
    PairTerm,
    StepContext,
    Term,
    normal,
    widened,
)
from keras_gan.terms.gradient import squared_norm

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


def squared_distance(context: StepContext, samples, others):
    """Returns |D(x) - D(x')|^2 of each sample, `(batch,)`."""
    return mean_over_outputs(
        lambda one, other: mean_per_sample(ops.square(one - other)),
        context.logits(samples),
        context.logits(others),
    )


@keras.saving.register_keras_serializable("keras_gan")
class Consistency(Term):
    """Consistency regularization, CR: |D(x) - D(T(x))|^2 on real samples.

    T is an augmentation that should not change the logits. If the game has an augmentation of its
    own, it is applied to both x and T(x).

    Args:
        weight: the paper's lambda, 10 there.
        interval: see `Term`.
        augment: T: name or instance of an augmentation without a state, or a callable
            `augment(samples, seed)`. By default mirroring and translation, as in the paper, for
            images.

    Raises:
        UsageError: no augmentation, an adaptive one, or samples that it does not take.

    Reference:
        - [Zhang et al., 2020](https://arxiv.org/abs/1910.12027), algorithm 1
    """

    also_called = ("cr", "crgan")

    def __init__(
        self,
        weight: float | Schedule = 10.0,
        interval: int = 1,
        augment: str | dict | augments.Augment | Callable = "flip_translation",
    ):
        super().__init__(weight, interval)
        self.augment = augments.get(augment)
        adaptive = isinstance(self.augment, augments.Augment) and self.augment.initial_state()
        if self.augment is None or adaptive:
            raise UsageError(
                "`augment` of a consistency term must be an augmentation that is always the same; "
                f"an adaptive one belongs to the game. Received: augment={augment!r}"
            )

    def check(self, game: GameSpec) -> None:
        if isinstance(self.augment, augments.Augment):
            self.augment.check(game.sample_shape)

    def values(self, context: StepContext):
        return self._distance(context, context.real, context.seed)

    def _distance(self, context: StepContext, samples, seed):
        changed = context.per_sample(lambda x: self.augment(x, seed), samples)
        return squared_distance(context, samples, changed)

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {**super().get_config(), "augment": serialize(self.augment)}


@keras.saving.register_keras_serializable("keras_gan")
class BalancedConsistency(Consistency):
    """Balanced consistency, bCR: |D(x) - D(T(x))|^2 + |D(G(z)) - D(T(G(z)))|^2.

    `Consistency`, on real samples only, lets artifacts of T appear in generated ones.

    Args:
        weight: of both parts; with `real` and `fake` of 1 the paper's two lambdas, 10 there.
        interval: see `Term`.
        augment: see `Consistency`.
        real: factor of the part on real samples, from 0 up: lambda_real is `weight * real`.
        fake: factor of the part on generated samples, from 0 up.

    Raises:
        UsageError: a factor out of range, or as `Consistency`.

    Reference:
        - [Zhao et al., 2020](https://arxiv.org/abs/2002.04724), algorithm 1
    """

    also_called = ("bcr",)

    def __init__(
        self,
        weight: float | Schedule = 10.0,
        interval: int = 1,
        augment: str | dict | augments.Augment | Callable = "flip_translation",
        real: float = 1.0,
        fake: float = 1.0,
    ):
        super().__init__(weight, interval, augment)
        check_number("real", real, minimum=0)
        check_number("fake", fake, minimum=0)
        self.real, self.fake = float(real), float(fake)

    def values(self, context: StepContext):
        seeds = [random_numbers.fold_in(context.seed, i) for i in range(2)]
        values = self.real * self._distance(context, context.real, seeds[0])
        return values + self.fake * self._distance(context, context.fake, seeds[1])

    def get_config(self) -> dict:
        return {**super().get_config(), "real": self.real, "fake": self.fake}


@keras.saving.register_keras_serializable("keras_gan")
class LatentConsistency(PairTerm):
    """Latent consistency, zCR: near latents, equal logits and different samples.

    The discriminator minimizes |D(G(z)) - D(G(z + dz))|^2; the generator minimizes
    -|G(z) - G(z + dz)|^2, the squared norm over all values of a sample, which keeps it from
    ignoring its latents. dz is normal. Together with `BalancedConsistency` it is the paper's ICR.

    G(z + dz) is one more pass of the generator in training mode, in the steps of both networks, so
    batch statistics of the generator are updated once more.

    Args:
        weight: on the discriminator: the paper's lambda_dis, 5 there.
        interval: see `Term`.
        generator_weight: on the generator: the paper's lambda_gen, 0.5 there; or a schedule.
        noise: standard deviation of dz, above 0; 0.03 in the paper.

    Raises:
        UsageError: a weight or the noise out of range.

    Reference:
        - [Zhao et al., 2020](https://arxiv.org/abs/2002.04724), algorithm 2
    """

    also_called = ("zcr", "icr")

    def __init__(
        self,
        weight: float | Schedule = 5.0,
        interval: int = 1,
        generator_weight: float | Schedule = 0.5,
        noise: float = 0.03,
    ):
        super().__init__(weight, interval, generator_weight)
        check_positive("noise", noise)
        self.noise = float(noise)

    def networks_read(self, player: str) -> tuple[str, ...]:
        return ("generator",) if player == "generator" else ("generator", "discriminator")

    def values(self, context: StepContext):
        near = context.generate(
            context.latents + self.noise * normal(context.latents, context.seed)
        )
        if context.player == "generator":
            return -squared_norm(widened(near - context.fake))
        return squared_distance(context, context.fake, ops.stop_gradient(near))

    def get_config(self) -> dict:
        return {**super().get_config(), "noise": self.noise}
