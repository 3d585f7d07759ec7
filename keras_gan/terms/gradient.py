"""Terms on gradients by the inputs: gradient penalties, path length regularization."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_gan import random_numbers
from keras_gan.arguments import check_integer, check_number
from keras_gan.networks import mean_over_outputs, mean_per_sample
from keras_gan.schedules import Schedule
from keras_gan.terms import _layers
from keras_gan.terms._term import (
    GameSpec,
    StepContext,
    Term,
    normal,
    widened,
)

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


def squared_norm(gradient):
    """Returns the sum of squares over all axes but the first, `(batch,)`."""
    return ops.sum(ops.square(gradient), axis=tuple(range(1, len(gradient.shape))))


def norm(gradient):
    """Returns the Euclidean norm over all axes but the first, `(batch,)`, with a finite slope."""
    # The square root has an infinite slope at 0; below the epsilon the norm counts as its root.
    return ops.sqrt(ops.maximum(squared_norm(gradient), 1e-12))


def between(real, fake, seed):
    """Returns a x + (1 - a) G(z), with one a per sample, uniform in [0, 1]."""
    shape = (tf.shape(real)[0],) + (1,) * (len(real.shape) - 1)
    mix = random_numbers.uniform(shape, seed, real.dtype)
    return mix * real + (1 - mix) * fake


@keras.saving.register_keras_serializable("keras_gan")
class R1(Term):
    """Zero-centered gradient penalty on real samples: 1/2 |grad D(x)|^2, gamma being the weight.

    Args:
        weight: the papers' gamma.
        interval: see `Term`.

    Reference:
        - [Mescheder et al., 2018](https://arxiv.org/abs/1801.04406), equation 9
    """

    second_order = ("discriminator",)

    def values(self, context: StepContext):
        gradient = context.input_gradient(context.real)
        return mean_over_outputs(squared_norm, gradient) / 2


@keras.saving.register_keras_serializable("keras_gan")
class R2(Term):
    """Zero-centered gradient penalty on generated samples: 1/2 |grad D(G(z))|^2.

    Args:
        weight: the papers' gamma.
        interval: see `Term`.

    Reference:
        - [Mescheder et al., 2018](https://arxiv.org/abs/1801.04406), equation 10
    """

    second_order = ("discriminator",)

    def values(self, context: StepContext):
        gradient = context.input_gradient(context.fake)
        return mean_over_outputs(squared_norm, gradient) / 2


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

    also_called = ("gp", "wgangp")

    second_order = ("discriminator",)

    def __init__(self, weight: float | Schedule = 10.0, interval: int = 1):
        super().__init__(weight, interval)

    def values(self, context: StepContext):
        gradient = context.input_gradient(between(context.real, context.fake, context.seed))
        return mean_over_outputs(lambda g: ops.square(norm(g) - 1), gradient)


@keras.saving.register_keras_serializable("keras_gan")
class LipschitzPenalty(GradientPenalty):
    """The one-sided penalty of WGAN-LP: max(0, |grad D(x')| - 1)^2, x' as in `GradientPenalty`.

    The slope of a critic of the Wasserstein distance must not exceed 1; it may be smaller.

    Args:
        weight: the paper's lambda, 10 by default.
        interval: see `Term`.

    Reference:
        - [Petzka et al., 2017](https://arxiv.org/abs/1709.08894)
    """

    also_called = ("lp", "wganlp")

    def values(self, context: StepContext):
        gradient = context.input_gradient(between(context.real, context.fake, context.seed))
        return mean_over_outputs(lambda g: ops.square(ops.maximum(norm(g) - 1, 0)), gradient)


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

    second_order = ("discriminator",)

    def __init__(self, weight: float | Schedule = 10.0, interval: int = 1):
        super().__init__(weight, interval)

    def values(self, context: StepContext):
        real = context.real
        noise = random_numbers.uniform(tf.shape(real), context.seed, real.dtype)
        around = real + 0.5 * ops.std(real) * noise
        gradient = context.input_gradient(around)
        return mean_over_outputs(lambda g: ops.square(norm(g) - 1), gradient)


@keras.saving.register_keras_serializable("keras_gan")
class PathLength(Term):
    """Path length regularization of StyleGAN2, on the generator: (|J^T y| - a)^2.

    J is the Jacobian of a sample by its latents, y is normal noise of the sample's shape divided
    by the square root of its number of positions (pixels), and a is the moving average of |J^T y|,
    0 at the start: a step of fixed length in the latents should change samples by a fixed amount.
    For intermediate latents `(batch, layers, width)`, one for each layer, |J^T y|^2 is the mean
    over the layers.

    A generator with a mapping network is differentiated by the output of that network, any other
    by the latents.

    Args:
        weight: 2 in the paper.
        interval: see `Term`; 4 in the paper.
        decay: step of the moving average toward a new value, above 0 and below 1; 0.01 there.
        batch_shrink: the term is computed on the first `1 / batch_shrink` of the batch; 2 there.
        layer: name of the generator's layer whose output the intermediate latents are; by default
            the one named "mapping", if there is one. The generator must then be Functional.

    Raises:
        UsageError: an argument out of range, no such layer, or a generator with a layer whose
            second derivative is wrong, such as batch normalization.

    Reference:
        - [Karras et al., 2020](https://arxiv.org/abs/1912.04958), section 3.2
    """

    also_called = ("pl", "ppl")

    players = ("generator",)
    outputs = {"generator": ("samples",)}
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
        check_number("decay", decay, above=0, below=1)
        check_integer("batch_shrink", batch_shrink)
        self.decay = float(decay)
        self.batch_shrink = int(batch_shrink)
        self.layer = layer

    def check(self, game: GameSpec) -> None:
        self._paths(game.networks["generator"])

    def initial_state(self) -> dict[str, Any]:
        return {"mean": 0.0}

    def __call__(self, context: StepContext, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        lengths = self._lengths(context)
        # The average of the steps before, which all replicas share.
        values = ops.square(lengths - ops.cast(state["mean"], lengths.dtype))
        now = ops.cast(ops.stop_gradient(ops.mean(lengths)), "float32")
        return values, {"mean": state["mean"] + self.decay * (now - state["mean"])}

    def _lengths(self, context: StepContext):
        """Returns |J^T y| of each sample, `(count,)`."""
        count = tf.maximum(1, tf.shape(context.latents)[0] // self.batch_shrink)
        # Nothing is learned through a slice, whose gradient XLA cannot make inside a branch.
        latents = tf.stop_gradient(context.latents[:count])
        fields = {name: field[:count] for name, field in context.fields.items()}
        with tf.GradientTape() as tape:
            tape.watch(latents)
            path, samples = self._paths(context.networks["generator"])(
                context.inputs("generator", **fields, latents=latents), latents
            )
            samples = widened(samples)
            positions = math.prod(samples.shape[1:-1])
            noise = normal(samples, context.seed) / math.sqrt(positions)
            projected = ops.sum(samples * noise)
        gradient = tape.gradient(projected, path)
        squares = ops.sum(ops.square(widened(gradient)), axis=-1)
        return ops.sqrt(ops.maximum(mean_per_sample(squares), 1e-12))  # as in `norm`

    def _paths(self, network) -> Callable[[Any, Any], Any]:
        """Returns a callable from inputs and latents to (what to differentiate by, samples)."""
        generator = network.model
        name = self.layer
        if name is None and any(layer.name == "mapping" for layer in _layers.layers_of(generator)):
            name = "mapping"
        if name is None:
            return lambda inputs, latents: (
                latents,
                network.outputs(generator(inputs, training=True))["samples"],
            )
        output = _layers.layer_of(generator, name, "generator").output
        named = getattr(generator, "output", None)
        samples = named["samples"] if isinstance(named, dict) else generator.outputs[0]
        both = keras.Model(generator.inputs, [output, samples])
        return lambda inputs, latents: both(inputs, training=True)

    def get_config(self) -> dict:
        own = {"decay": self.decay, "batch_shrink": self.batch_shrink, "layer": self.layer}
        return {**super().get_config(), **own}
