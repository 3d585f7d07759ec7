"""Penalties on the players: one small class each, found by name.

A penalty is called with the discriminator, a real and a generated batch, and gives one value per
sample, before its weight. `GAN` adds `weight` times their mean to the loss of the player that it
is on, the discriminator as a rule, every `interval` of that player's steps (then `interval` times
as strongly, so that the average stays). One that needs more than the two batches takes a `Play`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_gan import schedules
from keras_gan.errors import UsageError
from keras_gan.registry import find, registered, snake_case
from keras_gan.schedules import Schedule

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops
random: Any = tf.random


class SharedForward:
    """The discriminator of one step: one forward pass per batch, however often it is asked.

    The loss and the penalties look at the same two batches. Calling this object with a tensor it
    has seen returns the logits it has; `input_gradient` differentiates through that same pass.
    To be made inside the tape that differentiates by the discriminator's weights.

    Args:
        discriminator: callable from samples `(batch, ...)` to logits `(batch, ...)`.
    """

    def __init__(self, discriminator):
        self.discriminator = discriminator
        self._passes: dict[int, tuple] = {}  # id -> (samples, tape, logits); samples keep the id

    def __call__(self, samples):
        return self._pass(samples)[2]

    def input_gradient(self, samples):
        """Gradient of the sum of the logits by the samples, of the samples' shape."""
        samples, tape, logits = self._pass(samples)
        # Samples of a batch do not meet in a discriminator without batch statistics, so that the
        # gradient of the sum holds the gradient of each.
        return tape.gradient(logits, samples)

    def _pass(self, samples):
        if id(samples) not in self._passes:
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(samples)
                logits = self.discriminator(samples)
            self._passes[id(samples)] = (samples, tape, logits)
        return self._passes[id(samples)]


@dataclasses.dataclass(frozen=True)
class Play:
    """What a penalty may look at in one player's turn.

    Args:
        player: whose turn it is, "discriminator" or "generator".
        generator: the live generator, for its weights.
        discriminator: the discriminator, for its weights and layers.
        discriminate: callable from samples to float32 logits, as the turn does it: behind the
            augmentation, in training mode. The discriminator's own turn has a `SharedForward`.
        generate: callable from latents `(batch, latent_dim)` to samples as the discriminator
            takes them, in training mode, with the labels of this turn.
        latents: what the generated batch is made of, `(batch, latent_dim)`.
        real: real samples, `(batch, ...)`, before the augmentation.
        fake: generated samples, the same shape; in the generator's turn differentiable.
        seed: two integers for what is random in a penalty (stateless).
    """

    player: str
    generator: keras.Model
    discriminator: keras.Model
    discriminate: Callable[[Any], Any]
    generate: Callable[[Any], Any]
    latents: Any
    real: Any
    fake: Any
    seed: Any

    def alone(self) -> Play:
        """The same with forward passes of its own, for a branch of the graph."""
        shared = self.discriminate
        if not isinstance(shared, SharedForward):
            return self
        return dataclasses.replace(self, discriminate=SharedForward(shared.discriminator))


def input_gradient(discriminator, samples):
    """Gradient of a discriminator's summed logits by its samples, differentiable once more.

    Args:
        discriminator: a `SharedForward`, or any callable from samples to logits.
        samples: `(batch, ...)`.

    Returns:
        A tensor of the samples' shape, at least float32.
    """
    if not isinstance(discriminator, SharedForward):
        discriminator = SharedForward(discriminator)
    gradient = discriminator.input_gradient(samples)
    return ops.cast(gradient, keras.backend.result_type(gradient.dtype, "float32"))


def squared_norm(gradient):
    """Sum of squares over all axes but the first: `(batch,)`."""
    return ops.sum(ops.square(gradient), axis=tuple(range(1, len(gradient.shape))))


def norm(gradient):
    """Euclidean norm over all axes but the first, `(batch,)`, with a finite slope at 0."""
    # The square root has an infinite slope at 0; below the epsilon the norm counts as its root.
    return ops.sqrt(ops.maximum(squared_norm(gradient), 1e-12))


def between(real, fake, seed):
    """a x + (1 - a) G(z), with one a per sample, uniform in [0, 1]."""
    mix = _uniform((tf.shape(real)[0],) + (1,) * (len(real.shape) - 1), seed, real.dtype)
    return mix * real + (1 - mix) * fake


def _uniform(shape, seed, dtype):
    seed = (0, 0) if seed is None else seed
    return random.stateless_uniform(shape, seed=seed, dtype=dtype, alg="philox")


class Penalty:
    """Base class of the penalties.

    A subclass gives `__call__`, or `of_play` if it needs more than the two batches or remembers
    something; its name in recipes and among the metrics is the class name in snake case. It must
    be registered with `keras.saving.register_keras_serializable`, so that a game can be saved.
    `players` tells whose loss it is added to: "discriminator", "generator" or both.

    Args:
        weight: factor of the penalty, at least 0, or a schedule of it.
        interval: the penalty is computed every `interval` steps of its player, at least 1, and
            then weighs `interval` times as much ("lazy regularization", StyleGAN2).

    Raises:
        UsageError: a weight or interval out of range.
    """

    players: tuple[str, ...] = ("discriminator",)

    def __init__(self, weight: float | Schedule = 1.0, interval: int = 1):
        weight = schedules.get(weight)
        if not all(0 <= value < float("inf") for value in schedules.extremes(weight)):
            raise UsageError(
                f"The weight of a penalty must be a number from 0 up. Received: weight={weight!r}"
            )
        if int(interval) != interval or interval < 1:
            raise UsageError(
                "The interval of a penalty must be a whole number of steps from 1 up. "
                f"Received: interval={interval!r}"
            )
        self.weight = weight if isinstance(weight, Schedule) else float(weight)
        self.interval = int(interval)

    def __call__(self, discriminator, real, fake, seed=None):
        """Computes the penalty.

        Args:
            discriminator: callable from samples to logits.
            real: real samples, `(batch, ...)`.
            fake: generated samples, the same shape.
            seed: two integers for what is random in it (stateless), or `None` for a fixed seed.

        Returns:
            One value per sample, `(batch,)`, before the weight.
        """
        raise NotImplementedError

    def initial_state(self) -> dict[str, float]:
        """What it remembers from step to step: numbers by name, as they are at the start."""
        return {}

    def of_play(self, play: Play, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Computes the penalty in a player's turn.

        Args:
            play: what there is to look at.
            state: float32 scalars by the names of `initial_state`.

        Returns:
            Values as of `__call__`, and the new state: under several replicas the mean of what
            each of them returns.
        """
        return self(play.discriminate, play.real, play.fake, play.seed), state

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {"weight": serialize(self.weight), "interval": self.interval}

    @classmethod
    def from_config(cls, config: dict) -> Penalty:
        deserialize = keras.saving.deserialize_keras_object
        return cls(**{name: deserialize(value) for name, value in config.items()})


@keras.saving.register_keras_serializable("keras_gan")
class R1(Penalty):
    """Zero-centered gradient penalty on real samples: 1/2 |grad D(x)|^2, gamma being the weight.

    Args:
        weight: the papers' gamma.
        interval: see `Penalty`.

    Reference:
        - [Mescheder et al., 2018](https://arxiv.org/abs/1801.04406), equation 9
    """

    def __call__(self, discriminator, real, fake, seed=None):
        return squared_norm(input_gradient(discriminator, real)) / 2


@keras.saving.register_keras_serializable("keras_gan")
class R2(Penalty):
    """Zero-centered gradient penalty on generated samples: 1/2 |grad D(G(z))|^2.

    Args:
        weight: the papers' gamma.
        interval: see `Penalty`.

    Reference:
        - [Mescheder et al., 2018](https://arxiv.org/abs/1801.04406), equation 10
    """

    def __call__(self, discriminator, real, fake, seed=None):
        return squared_norm(input_gradient(discriminator, fake)) / 2


@keras.saving.register_keras_serializable("keras_gan")
class GradientPenalty(Penalty):
    """The gradient penalty of WGAN-GP: (|grad D(x')| - 1)^2 between real and generated samples.

    x' = a x + (1 - a) G(z), with one a per sample, uniform in [0, 1].

    Args:
        weight: the paper's lambda, 10 there.
        interval: see `Penalty`.

    Reference:
        - [Gulrajani et al., 2017](https://arxiv.org/abs/1704.00028), equation 3
    """

    def __init__(self, weight: float = 10.0, interval: int = 1):
        super().__init__(weight, interval)

    def __call__(self, discriminator, real, fake, seed=None):
        return ops.square(norm(input_gradient(discriminator, between(real, fake, seed))) - 1)


@keras.saving.register_keras_serializable("keras_gan")
class LipschitzPenalty(GradientPenalty):
    """The one-sided penalty of WGAN-LP: max(0, |grad D(x')| - 1)^2, x' as in `GradientPenalty`.

    A critic of the Wasserstein distance must not be steeper than 1; nothing says that it must be
    as steep as that.

    Args:
        weight: the paper's lambda, 10 by default.
        interval: see `Penalty`.

    Reference:
        - [Petzka et al., 2017](https://arxiv.org/abs/1709.08894)
    """

    def __call__(self, discriminator, real, fake, seed=None):
        excess = norm(input_gradient(discriminator, between(real, fake, seed))) - 1
        return ops.square(ops.maximum(excess, 0))


@keras.saving.register_keras_serializable("keras_gan")
class Dragan(Penalty):
    """The gradient penalty of DRAGAN: (|grad D(x')| - 1)^2 around the real samples.

    x' = x + std(x) u / 2, where std(x) is the standard deviation of all values of the real batch
    and u is uniform in [0, 1], one number for each value.

    Args:
        weight: the paper's lambda, 10 there.
        interval: see `Penalty`.

    Reference:
        - [Kodali et al., 2017](https://arxiv.org/abs/1705.07215)
    """

    def __init__(self, weight: float = 10.0, interval: int = 1):
        super().__init__(weight, interval)

    def __call__(self, discriminator, real, fake, seed=None):
        noise = _uniform(tf.shape(real), seed, real.dtype)
        around = real + 0.5 * ops.std(real) * noise
        return ops.square(norm(input_gradient(discriminator, around)) - 1)


def names() -> dict[str, str]:
    """Every penalty's name with the first line of its description."""
    return registered(Penalty)


def get(penalty: str | dict | Penalty) -> Penalty:
    """Gives the penalty of a name, of a `{"name": ..., **arguments}` dictionary, or itself.

    Raises:
        UsageError: no penalty has that name, or it does not take an argument.
    """
    return find(Penalty, penalty, "penalty")


def name_of(penalty: Penalty) -> str:
    """The penalty's name in recipes and among the metrics."""
    return snake_case(type(penalty).__name__)
