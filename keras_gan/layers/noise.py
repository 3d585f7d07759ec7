"""Layers with random numbers of the training step: phase shuffle."""

from __future__ import annotations

import contextlib
import contextvars
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_gan import random_numbers
from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops

_SEED: contextvars.ContextVar[Callable[[], Any] | None] = contextvars.ContextVar(
    "layer_noise", default=None
)


@contextlib.contextmanager
def layer_noise(seed: Callable[[], Any]) -> Iterator[None]:
    """Sets the seed of the noise of layers that are called within the context in training mode.

    A game sets it in each training step. So the noise is a function of the game's seed and of the
    step, and layers have no states that need saving.

    Args:
        seed: callable that returns two integers for stateless random operations, which is called
            only if a layer draws.
    """
    token = _SEED.set(seed)
    try:
        yield
    finally:
        _SEED.reset(token)


def layer_seed(name: str) -> Any:
    """Returns two integers from which a layer draws its noise; None outside of `layer_noise`.

    Args:
        name: name of the layer; layers with different names get different numbers.
    """
    seed = _SEED.get()
    if seed is None:
        return None
    number = tf.constant(zlib.crc32(name.encode()), tf.int64)
    return random_numbers.fold_in(tf.cast(seed(), tf.int64), number)


@keras.saving.register_keras_serializable("keras_gan")
class PhaseShuffle(keras.layers.Layer):
    """Layer that shifts the features of each sample along time by a random number of positions.

    A discriminator of sound behind it cannot tell generated samples by the phase at which the
    artifacts of transposed convolutions occur. Features that leave at one end are lost, and the
    other end is filled with the reflection of the features beside it.

    It shifts in training mode within `layer_noise`, as in the training step of a game; elsewhere
    it returns its inputs. In one step, the real, the generated and all other samples at the same
    place of a batch are shifted alike, as by an augmentation, so that a gradient penalty is that
    of the discriminator that the step trains.

    Args:
        radius: largest shift in both directions, from 0 up; 0 for none.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`. Layers with different
            names shift independently.

    Input shape and output shape: `(batch, time, channels)`, a known time above the radius.

    Raises:
        UsageError: `radius` is out of range, or the time is not above it.

    Reference:
        - [Donahue et al., 2018](https://arxiv.org/abs/1802.04208), section 3.3
    """

    def __init__(self, radius: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        check_integer("radius", radius, 0)
        self.radius = int(radius)

    def build(self, input_shape):
        time = input_shape[1]
        if time is None or time <= self.radius:
            raise UsageError(
                "`radius` must be below the length of the features, which must be known. "
                f"Received: radius={self.radius}, features of shape {tuple(input_shape)}"
            )
        self.built = True

    def call(self, inputs, training=False):
        seed = layer_seed(self.name) if training and self.radius else None
        if seed is None:
            return inputs
        count = 2 * self.radius + 1
        drawn = random_numbers.integers((tf.shape(inputs)[0],), seed, count)
        return shift_time(inputs, drawn - self.radius)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "radius": self.radius}


@tf.custom_gradient
def shift_time(features, shifts):
    """Shifts features along time, with reflection at the ends.

    Position t of the result is position t - shift of the features. The derivatives of all orders
    by the features are gathers, too: TensorFlow's own of a gather scatters, and cannot be compiled
    by XLA within a branch, such as that of a lazy gradient penalty.

    Args:
        features: `(batch, time, channels)`, a known time.
        shifts: int32 `(batch,)`, each in -(time - 1)..time - 1.
    """
    last = features.shape[1] - 1
    positions = tf.abs(tf.range(last + 1)[None] - shifts[:, None])
    positions = last - tf.abs(last - positions)
    found = tf.gather(features, positions, batch_dims=1)
    return found, lambda gradient: (_unshift_time(gradient, shifts), None)


@tf.custom_gradient
def _unshift_time(gradient, shifts):
    """Returns the sum of the gradients of all places that a position is shifted to."""
    last = gradient.shape[1] - 1
    here, shifts_ = tf.range(last + 1)[None], shifts[:, None]
    # The place of position j, and that of its reflection at the start and at the end.
    places = (shifts_ + here, shifts_ - here, shifts_ + 2 * last - here)
    reflected = (here >= 0, here > 0, here < last)  # the ends are not reflected
    total = tf.zeros_like(gradient)
    for place, exists in zip(places, reflected, strict=True):
        within = exists & (place >= 0) & (place <= last)
        found = tf.gather(gradient, tf.clip_by_value(place, 0, last), batch_dims=1)
        total += tf.where(within[:, :, None], found, tf.zeros_like(found))
    return total, lambda second: (shift_time(second, shifts), None)
