"""Augmentations of what the discriminator sees: one small class each, found by name.

An augmentation is called with samples and a seed and gives samples of the same shape, real and
generated ones alike. It is differentiable, so that the generator learns through it and penalties
hold before it: a discriminator that sees no sample twice cannot learn few samples by heart, and
a generator that is judged behind the augmentation does not learn to augment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_gan.errors import UsageError
from keras_gan.registry import find, nearest, registered

# Keras and TensorFlow are not annotated, and what a type checker infers of them is wrong.
ops: Any = keras.ops
random: Any = tf.random


class Augment:
    """Base class of the augmentations.

    A subclass gives `__call__`; its name in recipes is the class name in snake case. Arguments of
    its constructor must be attributes of the same name, and in `get_config`.
    """

    def __call__(self, samples, seed):
        """Augments a batch.

        Args:
            samples: `(batch, ...)`, any float type.
            seed: int32 or int64 tensor of 2 numbers: all that is random is a function of it.

        Returns:
            Samples of the same shape and type.
        """
        raise NotImplementedError

    def initial_state(self) -> dict[str, float]:
        """What it remembers from step to step: numbers by name, as they are at the start."""
        return {}

    def apply(self, samples, seed, state: dict[str, Any]):
        """Augments a batch as it is to be now.

        Args:
            samples: as in `__call__`.
            seed: as in `__call__`.
            state: float32 scalars by the names of `initial_state`, and `images_seen`.

        Returns:
            Samples of the same shape and type.
        """
        return self(samples, seed)

    def mix(self, real, fake, seed, state: dict[str, Any]):
        """What the discriminator is shown as real, before it is augmented: the reals."""
        return real

    def observe(self, real_logits, state: dict[str, Any]) -> dict[str, Any]:
        """The new state, after a step of the discriminator.

        Args:
            real_logits: its logits on what it was shown as real, `(batch, ...)`, float32.
            state: as in `apply`.

        Returns:
            The new state; under several replicas the mean of what each of them returns counts.
        """
        return state

    def check(self, sample_shape: tuple) -> None:
        """Refuses, with a `UsageError`, samples that it cannot augment."""

    def get_config(self) -> dict:
        return {}

    @classmethod
    def from_config(cls, config: dict) -> Augment:
        return cls(**config)


@keras.saving.register_keras_serializable("keras_gan")
class DiffAugment(Augment):
    """Differentiable augmentation: color, translation and cutout, for training on few images.

    Each image draws its own numbers:

    - color: brightness is shifted by U(-0.5, 0.5), in units in which black is -1 and white 1;
      then the distance of every channel from the pixel's mean is multiplied by U(0, 2)
      (saturation; nothing happens to a single channel); then the distance of every value from
      the image's mean by U(0.5, 1.5) (contrast).
    - translation: by up to 1/8 of each side either way, whole pixels; zeros come in.
    - cutout: a square of half the sides (a rectangle, if they differ) becomes 0; its center is
      anywhere in the image, and what lies beyond the border is cut off.

    Args:
        policy: any of the three, separated by commas, in the order of their application.

    Raises:
        UsageError: an unknown name in the policy, or samples that are no images.

    Reference:
        - [Zhao et al., 2020](https://arxiv.org/abs/2006.10738), section 3
    """

    def __init__(self, policy: str = "color,translation,cutout"):
        parts = [part.strip() for part in policy.split(",")]
        for part in parts:
            if part not in _OPERATIONS:
                raise UsageError(
                    f"policy must name {', '.join(_OPERATIONS)}, separated by commas. "
                    f"Received: {part!r}. {nearest(part, _OPERATIONS)}"
                )
        self.policy = ",".join(parts)

    def __call__(self, samples, seed):
        operations = [f for part in self.policy.split(",") for f in _OPERATIONS[part]]
        for i, operation in enumerate(operations):
            # Numbers of its own for each operation, of its place in the policy.
            samples = operation(samples, _folded(seed, i))
        return samples

    def check(self, sample_shape: tuple) -> None:
        if len(sample_shape) != 3:
            raise UsageError(
                "DiffAugment takes images (height, width, channels). "
                f"Received: samples of shape {tuple(sample_shape)}"
            )

    def get_config(self) -> dict:
        return {"policy": self.policy}


@keras.saving.register_keras_serializable("keras_gan")
class FlipTranslation(Augment):
    """Mirrors half of the images left to right, then moves each by whole pixels.

    Up to 1/8 of each side either way, and zeros come in: the transformation that consistency
    penalties compare with, 4 pixels at 32x32. Each image draws its own numbers.

    Raises:
        UsageError: samples that are no images.

    Reference:
        - [Zhang et al., 2020](https://arxiv.org/abs/1910.12027), section 3
    """

    def __call__(self, samples, seed):
        return translation(flip(samples, _folded(seed, 0)), _folded(seed, 1))

    def check(self, sample_shape: tuple) -> None:
        if len(sample_shape) != 3:
            raise UsageError(
                "FlipTranslation takes images (height, width, channels). "
                f"Received: samples of shape {tuple(sample_shape)}"
            )


def flip(images, seed):
    """Mirrors each image left to right, or not, with even chances."""
    mirrored = tf.cast(_integers(images, seed, 2), tf.bool)[:, None, None, None]
    return tf.where(mirrored, tf.reverse(images, axis=[2]), images)


def brightness(images, seed):
    """Adds one number of U(-0.5, 0.5) to each image."""
    return images + _uniform(images, seed, -0.5, 0.5)


def saturation(images, seed):
    """Multiplies each pixel's distance from the mean of its channels by U(0, 2)."""
    gray = ops.mean(images, axis=3, keepdims=True)
    return gray + (images - gray) * _uniform(images, seed, 0.0, 2.0)


def contrast(images, seed):
    """Multiplies each value's distance from the mean of its image by U(0.5, 1.5)."""
    # In float32: the sum of an image's values is too much for half precision.
    wide = ops.cast(images, keras.backend.result_type(images.dtype, "float32"))
    mean = ops.cast(ops.mean(wide, axis=(1, 2, 3), keepdims=True), images.dtype)
    return mean + (images - mean) * _uniform(images, seed, 0.5, 1.5)


def translation(images, seed, ratio: float = 1 / 8):
    """Moves each image by whole pixels, up to `ratio` of each side either way; zeros come in."""
    for axis in (1, 2):
        side = images.shape[axis]
        most = int(side * ratio + 0.5)
        shift = _integers(images, _folded(seed, axis), 2 * most + 1) - most
        sides = [(0, 0)] * 4
        sides[axis] = (most, most)
        # Every index at most once: the gradient adds nothing up, in whatever order.
        index = tf.range(side)[None] + most - shift[:, None]
        images = tf.gather(ops.pad(images, sides), index, axis=axis, batch_dims=1)
    return images


def cutout(images, seed, ratio: float = 1 / 2):
    """Sets a rectangle of `ratio` of each side to 0, its center anywhere in the image."""
    inside = []
    for axis in (1, 2):
        side = images.shape[axis]
        size = int(side * ratio + 0.5)
        # The centers of a rectangle of even size are between the pixels, one more than these.
        first = _integers(images, _folded(seed, axis), side + 1 - size % 2) - size // 2
        place = tf.range(side)[None] - first[:, None]
        inside.append((place >= 0) & (place < size))
    hole = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    return images * ops.cast(~hole, images.dtype)


_OPERATIONS: dict[str, tuple[Callable, ...]] = {
    "color": (brightness, saturation, contrast),
    "translation": (translation,),
    "cutout": (cutout,),
}


def _uniform(images, seed, low: float, high: float):
    """One number for each image, `(batch, 1, 1, 1)`."""
    # Made of whole numbers, as XLA draws other floats of a seed, and in float32, so that neither
    # the compiler nor the precision chooses them.
    drawn = tf.cast(_integers(images, seed, 2**24), tf.float32) / 2**24
    return ops.cast(low + (high - low) * drawn, images.dtype)[:, None, None, None]


def _integers(images, seed, count: int):
    """One number of 0..count-1 for each image, `(batch,)`."""
    batch = (tf.shape(images)[0],)
    return random.stateless_uniform(batch, seed, 0, count, tf.int32, alg="philox")


def _folded(seed, number: int):
    """Another seed for each number."""
    return random.experimental.stateless_fold_in(seed, number, "philox")


def names() -> dict[str, str]:
    """Every augmentation's name with the first line of its description."""
    return registered(Augment)


def get(augment: str | dict | Augment | Callable | None) -> Any:
    """Gives the augmentation of a name, of a `{"name": ..., **arguments}` dictionary, or itself.

    A callable `augment(samples, seed)` of any other kind is passed through, and so is `None`.

    Raises:
        UsageError: no augmentation has that name, or it does not take an argument.
    """
    if augment is None or callable(augment):
        return augment
    return find(Augment, augment, "augmentation")
