"""Games, terms and callbacks of the ideas that `trials.py` compares.

All of them use the library's extension points. Importing this module makes the games
and the terms known to recipes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_gan import GAN, terms

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops
registered: Any = keras.saving.register_keras_serializable


# ------------------------------------------------------------------------ weight normalization


@dataclasses.dataclass(frozen=True)
class KernelRule:
    """Normalization of one kernel.

    A kernel w is kept at g (w - mean w) / (rms(w - mean w) sqrt(n)) over the n inputs of each
    output channel, so that the activations keep their variance. Steps of the optimizer are
    multiplied by g / sqrt(n), which is the rate of a kernel of rms 1 that is scaled where it is
    used.

    Args:
        kernel: the variable.
        axes: axes of the inputs of an output channel.
        inputs: n, the number of products in one value of the output.
        gain: g.
        forced: False to scale the steps only.
        centered: True to subtract the mean.
    """

    kernel: Any
    axes: tuple[int, ...]
    inputs: float
    gain: float = 1.0
    forced: bool = True
    centered: bool = True

    @property
    def scale(self) -> float:
        """The rms of the normalized kernel, and the factor of its steps."""
        return self.gain / math.sqrt(self.inputs)

    def normalized(self, value: Any) -> Any:
        """Returns a value of the kernel as it is kept."""
        if not self.forced:
            return value
        if self.centered:
            value = value - ops.mean(value, self.axes, keepdims=True)
        rms = ops.sqrt(ops.mean(ops.square(value), self.axes, keepdims=True))
        return value * (self.scale / ops.maximum(rms, 1e-8))

    def moved(self, old: Any, new: Any) -> Any:
        """Returns the kernel after a step of the optimizer from `old` to `new`."""
        return self.normalized(old + self.scale * (new - old))


def gain_of(slope: float) -> float:
    """Returns the gain after a leaky ReLU, whose output of N(0, 1) then has a variance of 1.

    The mean of the output does not count, as a centered kernel ignores it.

    Args:
        slope: slope for negative inputs; 0 for a ReLU.
    """
    return 1 / math.sqrt((1 + slope**2 - (1 - slope) ** 2 / math.pi) / 2)


def kernel_rules(network: keras.Model, role: str) -> list[KernelRule]:
    """Returns the rules of all kernels of a `dcgan` or `resnet` network.

    The last layer is not normalized, since it sets the range of the output. The discriminator's
    first layer is not centered, since it would not see the brightness.

    Args:
        network: the generator or the discriminator.
        role: "generator" or "discriminator".
    """
    layers = [x for x in network.layers if isinstance(getattr(x, "kernel", None), keras.Variable)]
    after_activation = gain_of(0.2 if role == "discriminator" else 0.0)
    rules = []
    for layer in layers:
        kernel, first, last = layer.kernel, layer is layers[0], _is_last(layer, layers)
        transposed = isinstance(layer, keras.layers.Conv2DTranspose)
        output = len(kernel.shape) - (2 if transposed else 1)
        axes = tuple(axis for axis in range(len(kernel.shape)) if axis != output)
        inputs = math.prod(kernel.shape[axis] for axis in axes)
        if transposed:  # a pixel of the output meets one weight in so many
            inputs /= math.prod(layer.strides)
        plain = first or last or layer.name.endswith("_short")
        gain = 1.0 if plain else after_activation
        if layer.name.startswith("block_") and layer.name.endswith(("_conv_2", "_short")):
            gain *= math.sqrt(0.5)  # the variances of the two branches of a block add up
        centered = not (first and role == "discriminator")
        rules.append(KernelRule(kernel, axes, inputs, gain, not last, centered))
    return rules


def _is_last(layer: Any, layers: Sequence[Any]) -> bool:
    """Returns True for the layer of the samples, and for those of the logits and the classes."""
    return layer is layers[-1] or layer.name in ("logits", "classes")


@registered("trials")
class ForcedWeightNorm(GAN):
    """A GAN whose kernels are replaced by their normalized values after each optimizer step."""

    def __init__(self, generator: keras.Model, discriminator: keras.Model, **kwargs: Any):
        networks = {"generator": generator, "discriminator": discriminator}
        rules = {role: kernel_rules(network, role) for role, network in networks.items()}
        for rule in rules["generator"] + rules["discriminator"]:
            rule.kernel.assign(rule.normalized(rule.kernel.value))  # before the average is copied
        super().__init__(generator, discriminator, **kwargs)
        self._rules = rules

    def minimize(self, player: str, loss: Any, tape: tf.GradientTape) -> None:
        rules = self._rules[player]
        before = [tf.identity(rule.kernel.value) for rule in rules]
        super().minimize(player, loss, tape)
        for rule, old in zip(rules, before, strict=True):
            rule.kernel.assign(rule.moved(old, rule.kernel.value))


# ------------------------------------------------------------------------ adversarial flow models


@registered("trials")
class GradientNormalization(keras.layers.Layer):
    """Identity whose gradient is divided by a moving average of its norm.

    The average is that of the last steps, in which each weighs `decay` times as much as the next,
    without bias to its start: the norm of the first gradient becomes 1.

    Args:
        decay: from 0 up to, but not including, 1.
    """

    def __init__(self, decay: float = 0.9, **kwargs: Any):
        super().__init__(**kwargs)
        self.decay = float(decay)
        initial = {"shape": (), "initializer": "zeros", "trainable": False, "dtype": "float32"}
        self.sum_of_norms: Any = self.add_weight(name="sum_of_norms", **initial)
        self.sum_of_weights: Any = self.add_weight(name="sum_of_weights", **initial)

    def call(self, inputs, training: bool = False):  # pyright: ignore
        return self._with_gradient(inputs) if training else inputs

    def _with_gradient(self, inputs):
        @tf.custom_gradient
        def identity(x):
            return tf.identity(x), self._normalized

        return identity(inputs)

    def _normalized(self, gradient):
        norm, new = tf.cast(tf.norm(gradient), "float32"), 1 - self.decay
        self.sum_of_norms.assign(self.decay * self.sum_of_norms + new * norm)
        self.sum_of_weights.assign(self.decay * self.sum_of_weights + new)
        average = self.sum_of_norms.value / self.sum_of_weights.value
        return gradient / tf.cast(tf.maximum(average, 1e-12), gradient.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay": self.decay}


@registered("trials")
class NormalizedGradient(GAN):
    """A GAN whose generator learns from the normalized gradient of its samples."""

    def __init__(self, generator: keras.Model, discriminator: keras.Model, **kwargs: Any):
        network: Any = generator
        samples = GradientNormalization(name="gradient_normalization")(network.output)
        normalized: Any = keras.Model(network.input, samples, name=network.name)
        super().__init__(normalized, discriminator, **kwargs)


@registered("trials")
class LogitCentering(terms.Term):
    """Penalty (D(x) + D(G(z)))^2 of the discriminator, which keeps the logits around 0."""

    def values(self, context: terms.StepContext) -> Any:
        total = context.logits(context.real) + context.logits(context.fake)
        return ops.mean(ops.square(total), axis=tuple(range(1, len(total.shape))))


# ------------------------------------------------------------------------ the other trials


@registered("trials")
class FreshReals(GAN):
    """A GAN whose generator is compared with other real samples than the discriminator learned.

    The first half of a batch is for the discriminator, the second one for the generator.
    """

    def step(self, batch: dict[str, Any]) -> None:
        halves = {name: tf.split(field, 2) for name, field in batch.items()}
        # A function keeps Keras from tracking the tensors.
        self._for_discriminator = lambda: {name: half[0] for name, half in halves.items()}
        super().step({name: half[1] for name, half in halves.items()})

    def _train_discriminator(self, batch, latents, fake, index: int) -> None:
        super()._train_discriminator(self._for_discriminator(), latents, fake, index)


class Lookahead(keras.callbacks.Callback):
    """Moves both networks to the mean of themselves and their slow copy, which they then are.

    Args:
        steps: training steps between two such moves.
        share: share of the fast weights in the mean.
    """

    def __init__(self, steps: int = 50, share: float = 0.5):
        super().__init__()
        self.steps, self.share = steps, share

    def _weights(self) -> list[Any]:
        game: Any = self.model
        return [weight for player in game.players for weight in game.weights_of(player)]

    def on_train_begin(self, logs: Any = None) -> None:
        self.done = 0
        self.slow = [weight.numpy().copy() for weight in self._weights()]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.done += 1
        if self.done % self.steps:
            return
        for index, weight in enumerate(self._weights()):
            self.slow[index] += self.share * (weight.numpy().copy() - self.slow[index])
            weight.assign(self.slow[index])
