"""Penalties on the players: one small class each, found by name.

A penalty is called with the discriminator, a real and a generated batch, and gives one value per
sample, or one for the batch, before its weight. `GAN` adds `weight` times their mean to the loss
of the player that it is on, the discriminator as a rule, every `interval` of that player's steps
(then `interval` times as strongly, so that the average stays). One that needs more than the two
batches takes a `StepContext`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_gan import augment as augments
from keras_gan import replicas, schedules
from keras_gan.errors import UsageError
from keras_gan.registry import find, nearest, registered, snake_case
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
class StepContext:
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
        labels: class ids of both batches, `(batch,)`, in a conditional game.
        augmented: callable from samples to what the discriminator sees of them, with the numbers
            that `discriminate` draws.
        per_sample: callable that applies a function to samples, to each of a pack (`GAN`'s `pac`)
            by itself: `per_sample(function, samples)`.
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
    labels: Any = None
    augmented: Callable[[Any], Any] = lambda samples: samples
    per_sample: Callable[[Callable, Any], Any] = lambda function, samples: function(samples)

    def alone(self) -> StepContext:
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


def _check_weight(name: str, weight: Any) -> None:
    if not all(0 <= value < float("inf") for value in schedules.bounds(weight)):
        raise UsageError(
            f"The weight of a penalty must be a number from 0 up. Received: {name}={weight!r}"
        )


def _check_positive(name: str, value: Any, most: float = float("inf")) -> None:
    if not 0 < value < most:
        bound = "" if most == float("inf") else f" and below {most:g}"
        raise UsageError(f"{name} must be a number above 0{bound}. Received: {name}={value!r}")


class Term:
    """Base class of the penalties.

    A subclass gives `__call__`, or `of_context` if it needs more than the two batches or remembers
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
    # Players that it differentiates by their inputs, and so twice in all.
    second_order: tuple[str, ...] = ("discriminator",)

    def __init__(self, weight: float | Schedule = 1.0, interval: int = 1):
        weight = schedules.get(weight)
        _check_weight("weight", weight)
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
            One value per sample, `(batch,)`, or one for the batch, `(1,)`, before the weight.
        """
        raise NotImplementedError

    def check(self, generator, discriminator, sample_shape: tuple) -> None:
        """Refuses, with a `UsageError`, players or samples that it cannot look at."""

    def weight_on(self, player: str) -> float | Schedule:
        """Its weight in the loss of a player."""
        return self.weight

    def initial_state(self) -> dict[str, float]:
        """What it remembers from step to step: numbers by name, as they are at the start."""
        return {}

    def of_context(self, play: StepContext, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
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
    def from_config(cls, config: dict) -> Term:
        deserialize = keras.saving.deserialize_keras_object
        return cls(**{name: deserialize(value) for name, value in config.items()})


@keras.saving.register_keras_serializable("keras_gan")
class R1(Term):
    """Zero-centered gradient penalty on real samples: 1/2 |grad D(x)|^2, gamma being the weight.

    Args:
        weight: the papers' gamma.
        interval: see `Term`.

    Reference:
        - [Mescheder et al., 2018](https://arxiv.org/abs/1801.04406), equation 9
    """

    def __call__(self, discriminator, real, fake, seed=None):
        return squared_norm(input_gradient(discriminator, real)) / 2


@keras.saving.register_keras_serializable("keras_gan")
class R2(Term):
    """Zero-centered gradient penalty on generated samples: 1/2 |grad D(G(z))|^2.

    Args:
        weight: the papers' gamma.
        interval: see `Term`.

    Reference:
        - [Mescheder et al., 2018](https://arxiv.org/abs/1801.04406), equation 10
    """

    def __call__(self, discriminator, real, fake, seed=None):
        return squared_norm(input_gradient(discriminator, fake)) / 2


@keras.saving.register_keras_serializable("keras_gan")
class GradientPenalty(Term):
    """The gradient penalty of WGAN-GP: (|grad D(x')| - 1)^2 between real and generated samples.

    x' = a x + (1 - a) G(z), with one a per sample, uniform in [0, 1].

    Args:
        weight: the paper's lambda, 10 there.
        interval: see `Term`.

    Reference:
        - [Gulrajani et al., 2017](https://arxiv.org/abs/1704.00028), equation 3
    """

    def __init__(self, weight: float | Schedule = 10.0, interval: int = 1):
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
        interval: see `Term`.

    Reference:
        - [Petzka et al., 2017](https://arxiv.org/abs/1709.08894)
    """

    def __call__(self, discriminator, real, fake, seed=None):
        excess = norm(input_gradient(discriminator, between(real, fake, seed))) - 1
        return ops.square(ops.maximum(excess, 0))


@keras.saving.register_keras_serializable("keras_gan")
class Dragan(Term):
    """The gradient penalty of DRAGAN: (|grad D(x')| - 1)^2 around the real samples.

    x' = x + std(x) u / 2, where std(x) is the standard deviation of all values of the real batch
    and u is uniform in [0, 1], one number for each value.

    Args:
        weight: the paper's lambda, 10 there.
        interval: see `Term`.

    Reference:
        - [Kodali et al., 2017](https://arxiv.org/abs/1705.07215)
    """

    def __init__(self, weight: float | Schedule = 10.0, interval: int = 1):
        super().__init__(weight, interval)

    def __call__(self, discriminator, real, fake, seed=None):
        noise = _uniform(tf.shape(real), seed, real.dtype)
        around = real + 0.5 * ops.std(real) * noise
        return ops.square(norm(input_gradient(discriminator, around)) - 1)


@keras.saving.register_keras_serializable("keras_gan")
class LeCam(Term):
    """The LeCam regularization: each side's logits near the other side's average of late.

    |D(x) - a_fake|^2 + |D(G(z)) - a_real|^2, where a_real and a_fake are averages of the
    discriminator's logits over past steps, each weighing `decay` times as much as the next. For
    training on few samples; it keeps logits bounded where the loss does not.

    The averages are those of the steps before, without bias to their start, so that the penalty
    of the very first step is 0. Logits are noise for some thousand images: begin later by a
    schedule of the weight.

    Args:
        weight: the paper's lambda; 0.3 by default.
        interval: see `Term`.
        decay: of the averages for each time that the penalty is due, above 0 and below 1.

    Raises:
        UsageError: a decay out of range.

    Reference:
        - [Tseng et al., 2021](https://arxiv.org/abs/2104.03310), equation 6
    """

    second_order = ()

    def __init__(self, weight: float | Schedule = 0.3, interval: int = 1, decay: float = 0.99):
        super().__init__(weight, interval)
        _check_positive("decay", decay, most=1)
        self.decay = float(decay)

    def initial_state(self) -> dict[str, float]:
        return {"real": 0.0, "fake": 0.0, "mass": 0.0}

    def of_context(self, play: StepContext, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        real, fake = play.discriminate(play.real), play.discriminate(play.fake)
        # The sums of what the averages weigh, and of the weights: no bias to the zeros at first.
        begun = ops.cast(state["mass"] > 0, real.dtype)
        mass = tf.maximum(state["mass"], 1 - self.decay)
        real_average = ops.cast(state["real"] / mass, real.dtype)
        fake_average = ops.cast(state["fake"] / mass, fake.dtype)
        values = _per_sample(ops.square(real - fake_average))
        values += _per_sample(ops.square(fake - real_average))
        seen = {"real": ops.mean(real), "fake": ops.mean(fake), "mass": ops.ones(())}
        return begun * values, {name: self._moved(state[name], now) for name, now in seen.items()}

    def _moved(self, average, now):
        return average + (1 - self.decay) * (ops.cast(ops.stop_gradient(now), "float32") - average)

    def get_config(self) -> dict:
        return {**super().get_config(), "decay": self.decay}


@keras.saving.register_keras_serializable("keras_gan")
class Consistency(Term):
    """Consistency regularization, CR: |D(x) - D(T(x))|^2 on real samples.

    T is an augmentation that should not change the verdict. Where the game has an augmentation of
    its own, both D(x) and D(T(x)) are behind it.

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

    second_order = ()

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
                "A consistency penalty compares with an augmentation that is always the same; one "
                f"that adapts itself belongs to the game. Received: augment={augment!r}"
            )

    def check(self, generator, discriminator, sample_shape: tuple) -> None:
        if isinstance(self.augment, augments.Augment):
            self.augment.check(sample_shape)

    def of_context(self, play: StepContext, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return self._distance(play, play.real, play.seed), state

    def _distance(self, play: StepContext, samples, seed):
        changed = play.per_sample(lambda x: self.augment(x, seed), samples)
        difference = play.discriminate(samples) - play.discriminate(changed)
        return _per_sample(ops.square(difference))

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {**super().get_config(), "augment": serialize(self.augment)}


@keras.saving.register_keras_serializable("keras_gan")
class BalancedConsistency(Consistency):
    """Balanced consistency, bCR: |D(x) - D(T(x))|^2 + |D(G(z)) - D(T(G(z)))|^2.

    `Consistency` on real samples alone lets artifacts of T into the generated ones.

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

    def __init__(
        self,
        weight: float | Schedule = 10.0,
        interval: int = 1,
        augment: str | dict | augments.Augment | Callable = "flip_translation",
        real: float = 1.0,
        fake: float = 1.0,
    ):
        super().__init__(weight, interval, augment)
        for name, factor in (("real", real), ("fake", fake)):
            if not 0 <= factor < float("inf"):
                raise UsageError(f"{name} must be a number from 0 up. Received: {name}={factor!r}")
        self.real, self.fake = float(real), float(fake)

    def of_context(self, play: StepContext, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        seeds = [_folded(play.seed, i) for i in range(2)]
        values = self.real * self._distance(play, play.real, seeds[0])
        return values + self.fake * self._distance(play, play.fake, seeds[1]), state

    def get_config(self) -> dict:
        return {**super().get_config(), "real": self.real, "fake": self.fake}


@keras.saving.register_keras_serializable("keras_gan")
class LatentConsistency(Term):
    """Latent consistency, zCR: D the same for near latents, G not.

    The discriminator is held to |D(G(z)) - D(G(z + dz))|^2, and the generator, lest it ignore its
    latents, to -|G(z) - G(z + dz)|^2, the squared norm of all of a sample's values. dz is normal.
    With `BalancedConsistency` beside it, it is the paper's ICR.

    G(z + dz) is one more pass of the generator in training mode, in either player's turn: batch
    statistics of a generator move once more by it.

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

    players = ("discriminator", "generator")
    second_order = ()

    def __init__(
        self,
        weight: float | Schedule = 5.0,
        interval: int = 1,
        generator_weight: float | Schedule = 0.5,
        noise: float = 0.03,
    ):
        super().__init__(weight, interval)
        generator_weight = schedules.get(generator_weight)
        _check_weight("generator_weight", generator_weight)
        _check_positive("noise", noise)
        scheduled = isinstance(generator_weight, Schedule)
        self.generator_weight = generator_weight if scheduled else float(generator_weight)
        self.noise = float(noise)

    def weight_on(self, player: str) -> float | Schedule:
        return self.generator_weight if player == "generator" else self.weight

    def of_context(self, play: StepContext, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        near = play.generate(play.latents + self.noise * _normal(play.latents, play.seed))
        if play.player == "generator":
            return -squared_norm(ops.cast(near - play.fake, _wide(near))), state
        difference = play.discriminate(play.fake) - play.discriminate(ops.stop_gradient(near))
        return _per_sample(ops.square(difference)), state

    def get_config(self) -> dict:
        weight = keras.saving.serialize_keras_object(self.generator_weight)
        return {**super().get_config(), "generator_weight": weight, "noise": self.noise}


@keras.saving.register_keras_serializable("keras_gan")
class PathLength(Term):
    """Path length regularization of StyleGAN2, on the generator: (|J^T y| - a)^2.

    J is the Jacobian of a sample by its latents, y normal noise of the sample's shape divided by
    the square root of its number of positions (pixels), and a the average of |J^T y| over past
    steps, 0 at the start: a step of fixed length in latents shall change samples by a fixed
    amount. Of intermediate latents `(batch, layers, width)`, one for each layer, the mean square
    over the layers counts.

    A generator with a mapping network is differentiated by what that makes of the latents, any
    other by the latents themselves.

    Args:
        weight: 2 in the paper.
        interval: see `Term`; 4 in the paper.
        decay: how far the average moves towards a new value, above 0 and below 1; 0.01 there.
        batch_shrink: the penalty is computed on the first `1 / batch_shrink` of the batch; 2 there.
        layer: name of the generator's layer whose output the intermediate latents are; by default
            the one named "mapping", if there is one. The generator must be Functional for it.

    Raises:
        UsageError: an argument out of range, no such layer, or a generator with a layer that has
            no right second derivative, as batch normalization.

    Reference:
        - [Karras et al., 2020](https://arxiv.org/abs/1912.04958), section 3.2
    """

    players = ("generator",)
    second_order = ("generator",)

    def __init__(
        self,
        weight: float | Schedule = 2.0,
        interval: int = 4,
        decay: float = 0.01,
        batch_shrink: int = 2,
        layer: str | None = None,
    ):
        super().__init__(weight, interval)
        _check_positive("decay", decay, most=1)
        if int(batch_shrink) != batch_shrink or batch_shrink < 1:
            raise UsageError(
                "batch_shrink must be a whole number from 1 up. "
                f"Received: batch_shrink={batch_shrink!r}"
            )
        self.decay = float(decay)
        self.batch_shrink = int(batch_shrink)
        self.layer = layer

    def check(self, generator, discriminator, sample_shape: tuple) -> None:
        self._paths(generator)

    def initial_state(self) -> dict[str, float]:
        return {"mean": 0.0}

    def of_context(self, play: StepContext, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        lengths = self._lengths(play)
        # The average of the steps before, which all replicas share.
        values = ops.square(lengths - ops.cast(state["mean"], lengths.dtype))
        now = ops.cast(ops.stop_gradient(ops.mean(lengths)), "float32")
        return values, {"mean": state["mean"] + self.decay * (now - state["mean"])}

    def _lengths(self, play: StepContext):
        """|J^T y| of each sample, `(count,)`."""
        count = tf.maximum(1, tf.shape(play.latents)[0] // self.batch_shrink)
        # Nothing is learned through a slice, whose gradient XLA cannot make inside a branch.
        latents = tf.stop_gradient(play.latents[:count])
        labels = None if play.labels is None else play.labels[:count]
        with tf.GradientTape() as tape:
            tape.watch(latents)
            path, samples = self._paths(play.generator)(_inputs(latents, labels), latents)
            samples = ops.cast(samples, _wide(samples))
            positions = math.prod(samples.shape[1:-1])
            noise = _normal(samples, play.seed) / math.sqrt(positions)
            projected = ops.sum(samples * noise)
        gradient = tape.gradient(projected, path)
        squares = ops.sum(ops.square(ops.cast(gradient, _wide(gradient))), axis=-1)
        return ops.sqrt(ops.maximum(_per_sample(squares), 1e-12))  # as in `norm`

    def _paths(self, generator) -> Callable[[Any, Any], Any]:
        """From the generator's inputs and the latents to (what to differentiate by, samples)."""
        name = self.layer
        if name is None and any(layer.name == "mapping" for layer in _layers(generator)):
            name = "mapping"
        if name is None:
            return lambda inputs, latents: (latents, generator(inputs, training=True))
        output = _layer(generator, name, "generator").output
        both = keras.Model(generator.inputs, [output, generator.outputs[0]])
        return lambda inputs, latents: both(inputs, training=True)

    def get_config(self) -> dict:
        own = {"decay": self.decay, "batch_shrink": self.batch_shrink, "layer": self.layer}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("keras_gan")
class FeatureMatching(Term):
    """Feature matching, on the generator: |mean f(x) - mean f(G(z))|^2 over the batch.

    f are the features of a hidden layer of the discriminator, means are those of the batch (of
    the replica's batch, under a distribution strategy). One value for the whole batch.

    Args:
        weight: see `Term`.
        interval: see `Term`.
        layer: name of the discriminator's layer whose output the features are; by default what
            goes into its last layer with a kernel, the logits' as a rule. The discriminator must
            be Functional or Sequential.

    Raises:
        UsageError: no such layer, or a subclassed discriminator, whose layers' outputs cannot be
            had.

    Reference:
        - [Salimans et al., 2016](https://arxiv.org/abs/1606.03498), section 3.1
    """

    players = ("generator",)
    second_order = ()

    def __init__(self, weight: float | Schedule = 1.0, interval: int = 1, layer: str | None = None):
        super().__init__(weight, interval)
        self.layer = layer

    def check(self, generator, discriminator, sample_shape: tuple) -> None:
        self._features(discriminator)

    def of_context(self, play: StepContext, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        network = self._features(play.discriminator)

        def mean_features(samples):
            inputs = _inputs(play.augmented(samples), play.labels)
            features = network(inputs, training=True)
            return ops.mean(ops.cast(features, _wide(features)), axis=0)

        difference = mean_features(play.fake) - ops.stop_gradient(mean_features(play.real))
        if self.interval == 1:  # a lazy one is in a branch of the graph, where replicas cannot meet
            difference = replicas.mean(difference)
        return ops.sum(ops.square(difference))[None], state

    def _features(self, discriminator) -> keras.Model:
        """The discriminator as far as the features."""
        if self.layer is not None:
            features = _layer(discriminator, self.layer, "discriminator").output
        else:
            last = next((x for x in reversed(_layers(discriminator)) if _has_kernel(x)), None)
            if last is None:
                raise UsageError(
                    "FeatureMatching looks for the last layer with a kernel in a Functional or "
                    "Sequential discriminator; name the layer of the features. "
                    f"Received: layer=None, a discriminator of type {type(discriminator).__name__}"
                )
            features = last.input
        return keras.Model(discriminator.inputs, features)

    def get_config(self) -> dict:
        return {**super().get_config(), "layer": self.layer}


@keras.saving.register_keras_serializable("keras_gan")
class Orthogonal(Term):
    """Orthogonal regularization of BigGAN: |W^T W * (1 - I)|^2, of every kernel W of a player.

    W has a column for each output channel; the columns are held to be orthogonal to each other,
    whatever their lengths. Biases, scales and embeddings go free. One value for the whole batch.

    Args:
        weight: the paper's beta, 1e-4 there.
        interval: see `Term`.
        player: "generator", as in the paper, where it makes truncation work, "discriminator", or
            "both".

    Raises:
        UsageError: another player.

    Reference:
        - [Brock et al., 2018](https://arxiv.org/abs/1809.11096), equation 3
    """

    second_order = ()

    def __init__(
        self, weight: float | Schedule = 1e-4, interval: int = 1, player: str = "generator"
    ):
        super().__init__(weight, interval)
        if player not in ("generator", "discriminator", "both"):
            raise UsageError(
                f"player must be generator, discriminator or both. Received: player={player!r}"
            )
        self.player = player
        self.players = ("discriminator", "generator") if player == "both" else (player,)

    def of_context(self, play: StepContext, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        network = play.generator if play.player == "generator" else play.discriminator
        total = tf.zeros((1,))
        for matrix in _kernels(network):
            products = ops.matmul(ops.transpose(matrix), matrix)
            off = products * (1 - ops.eye(matrix.shape[-1], dtype=matrix.dtype))
            total = ops.cast(total, matrix.dtype) + ops.sum(ops.square(off))
        return total, state

    def get_config(self) -> dict:
        return {**super().get_config(), "player": self.player}


def _per_sample(values):
    """Means over all axes but the first: `(batch,)`."""
    axes = tuple(range(1, len(values.shape)))
    return ops.mean(values, axis=axes) if axes else values


def _wide(tensor) -> str:
    """The tensor's type, at least float32."""
    return keras.backend.result_type(tensor.dtype, "float32")


def _normal(like, seed):
    """Standard normal numbers of a tensor's shape and type."""
    return random.stateless_normal(tf.shape(like), seed, dtype=like.dtype, alg="philox")


def _folded(seed, number: int):
    """Another seed for each number."""
    return random.experimental.stateless_fold_in(seed, number, alg="philox")


def _inputs(first, labels):
    """What a player is called with: the tensor alone, or with the labels of a conditional game."""
    return first if labels is None else [first, labels]


def _layers(player) -> list[Any]:
    """The layers of a Functional or Sequential player in order; none of another."""
    return list(player.layers) if getattr(player, "inputs", None) else []


def _layer(player, name: str, role: str) -> Any:
    """The layer of that name.

    Raises:
        UsageError: there is none, or the player is subclassed.
    """
    named = {layer.name: layer for layer in _layers(player)}
    if name not in named:
        hint = nearest(name, named) if named else f"It is a {type(player).__name__}, not Functional"
        raise UsageError(f"layer must name a layer of the {role}. Received: layer={name!r}. {hint}")
    return named[name]


def _has_kernel(layer) -> bool:
    return any(_is_kernel(getattr(part, "kernel", None)) for part in layer._flatten_layers())


def _is_kernel(weight: Any) -> bool:
    return isinstance(weight, keras.Variable) and len(weight.shape) > 1 and weight.trainable


_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


def _kernels(player) -> list[Any]:
    """Every trained kernel of a player as a matrix with a column for each output channel."""
    matrices = []
    for layer in player._flatten_layers():
        if _is_kernel(getattr(layer, "kernel", None)):
            kernel = ops.convert_to_tensor(layer.kernel)
            if isinstance(layer, _TRANSPOSED):
                kernel = ops.swapaxes(kernel, -1, -2)
            matrices.append(ops.reshape(kernel, (-1, kernel.shape[-1])))
    return matrices


def rescaled(arguments: Mapping[str, Any], interval: int) -> dict[str, Any]:
    """Arguments of an Adam optimizer for steps that StyleGAN2 would count with a lazy penalty.

    c = k / (k + 1), learning rate times c, beta_1 and beta_2 to the power of c, k being the
    interval. StyleGAN2 takes the lazy penalty in a step of the optimizer of its own, so that k
    steps of the game are k + 1 of the optimizer, and the rescaling makes these come as far as k.
    Here a lazy penalty is added to the loss of the same step: k steps are k steps, and nothing
    needs to be rescaled to come as far as without laziness. It is right where numbers published
    for StyleGAN2's training, whose single steps are the smaller ones, shall be had step by step,
    or where a loop of one's own takes the penalty in a step of its own.

    ```python
    keras.optimizers.Adam(**keras_gan.terms.rescaled(
        {"learning_rate": 2.5e-3, "beta_1": 0.0, "beta_2": 0.99}, interval=16))
    ```

    Args:
        arguments: `learning_rate`, `beta_1`, `beta_2`, numbers or schedules in images seen; what
            is missing is Keras's default. Others are passed through.
        interval: of the lazy penalty, from 1 up; 1 counts as no laziness and changes nothing.

    Returns:
        The arguments, rescaled.

    Raises:
        UsageError: an interval out of range, or a schedule of Keras's.
    """
    if isinstance(interval, bool) or int(interval) != interval or interval < 1:
        raise UsageError(
            f"interval must be a whole number of steps from 1 up. Received: interval={interval!r}"
        )
    if interval == 1:
        return dict(arguments)
    share = interval / (interval + 1)
    given = {"learning_rate": 1e-3, "beta_1": 0.9, "beta_2": 0.999, **arguments}
    given["learning_rate"] = _transformed("learning_rate", given["learning_rate"], share, 1.0)
    for name in ("beta_1", "beta_2"):
        given[name] = _transformed(name, given[name], 1.0, share)
    return given


def _transformed(name: str, number: Any, factor: float, power: float) -> Any:
    if isinstance(number, Schedule):
        return _Rescaled(number, factor, power)
    if not isinstance(number, (int, float)):
        raise UsageError(
            "What is rescaled for a lazy penalty must be a number or a schedule of keras_gan. "
            f"Received: {name}={number!r}"
        )
    return factor * float(number) ** power


@keras.saving.register_keras_serializable("keras_gan")
class _Rescaled(Schedule):
    """Another schedule to a power, times a factor."""

    def __init__(self, schedule: Schedule, factor: float, power: float):
        super().__init__()
        self.schedule, self.factor, self.power = schedule, factor, power

    def at(self, images):
        return self.factor * self.schedule.at(images) ** self.power

    def get_config(self) -> dict:
        schedule = keras.saving.serialize_keras_object(self.schedule)
        return {"schedule": schedule, "factor": self.factor, "power": self.power}

    @classmethod
    def from_config(cls, config: dict) -> _Rescaled:
        schedule: Any = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(**{**config, "schedule": schedule})


def names() -> dict[str, str]:
    """Every penalty's name with the first line of its description."""
    return registered(Term)


def get(penalty: str | dict | Term) -> Term:
    """Gives the penalty of a name, of a `{"name": ..., **arguments}` dictionary, or itself.

    Raises:
        UsageError: no penalty has that name, or it does not take an argument.
    """
    return find(Term, penalty, "penalty")


def name_of(penalty: Term) -> str:
    """The penalty's name in recipes and among the metrics."""
    return snake_case(type(penalty).__name__)
