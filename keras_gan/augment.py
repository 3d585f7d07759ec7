"""Augmentations of what the discriminator sees: one small class each, found by name.

An augmentation is called with samples and a seed and gives samples of the same shape, real and
generated ones alike. It is differentiable, so that the generator learns through it and penalties
hold before it: a discriminator that sees no sample twice cannot learn few samples by heart, and
a generator that is judged behind the augmentation does not learn to augment.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_gan import schedules
from keras_gan.errors import UsageError
from keras_gan.registry import find, nearest, registered
from keras_gan.schedules import Schedule

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
            state: float32 scalars by the names of `initial_state`, and `examples_seen`.

        Returns:
            Samples of the same shape and type.
        """
        return self(samples, seed)

    def mix(self, real, fake, seed, state: dict[str, Any]):
        """What the discriminator is shown as real, before it is augmented: the reals."""
        return real

    def observe(self, real_margins, state: dict[str, Any]) -> dict[str, Any]:
        """The new state, after a step of the discriminator.

        Args:
            real_margins: its logits on what it was shown as real, `(batch, ...)`, float32, minus
                the loss's `boundary`: positive where it says "real".
            state: as in `apply`.

        Returns:
            The new state; under several replicas the mean of what each of them returns counts.
        """
        return state

    def measures(self, state: dict[str, Any]) -> dict[str, Any]:
        """Numbers by name for the metrics of the training, which call them `augment_NAME`."""
        return {}

    def check(self, sample_shape: tuple) -> None:
        """Refuses, with a `UsageError`, samples that it cannot augment."""

    def get_config(self) -> dict:
        return {}

    @classmethod
    def from_config(cls, config: dict) -> Augment:
        deserialize = keras.saving.deserialize_keras_object
        return cls(**{name: deserialize(value) for name, value in config.items()})


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
        probability: how likely an image is changed at all, 0 to 1, or a schedule of it.

    Raises:
        UsageError: an unknown name in the policy, a probability out of range, or samples that are
            no images.

    Reference:
        - [Zhao et al., 2020](https://arxiv.org/abs/2006.10738), section 3
    """

    def __init__(
        self, policy: str = "color,translation,cutout", probability: float | Schedule = 1.0
    ):
        parts = [part.strip() for part in policy.split(",")]
        for part in parts:
            if part not in _OPERATIONS:
                raise UsageError(
                    f"policy must name {', '.join(_OPERATIONS)}, separated by commas. "
                    f"Received: {part!r}. {nearest(part, _OPERATIONS)}"
                )
        self.policy = ",".join(parts)
        self.probability = _probability(probability)

    def __call__(self, samples, seed):
        return self.apply(samples, seed, {"examples_seen": 0.0})

    def apply(self, samples, seed, state: dict[str, Any]):
        operations = [f for part in self.policy.split(",") for f in _OPERATIONS[part]]
        changed = samples
        for i, operation in enumerate(operations):
            # Numbers of its own for each operation, of its place in the policy.
            changed = operation(changed, _folded(seed, i))
        if self.probability == 1.0:
            return changed
        probability = schedules.now(self.probability, state["examples_seen"])
        drawn = _draws(samples, _folded(seed, len(operations)), 1)[:, 0] < probability
        return ops.where(drawn[:, None, None, None], changed, samples)

    def measures(self, state: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(self.probability, Schedule):
            return {}
        return {"probability": schedules.now(self.probability, state["examples_seen"])}

    def check(self, sample_shape: tuple) -> None:
        _check_images(self, sample_shape)

    def get_config(self) -> dict:
        probability = keras.saving.serialize_keras_object(self.probability)
        return {"policy": self.policy, "probability": probability}


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


def _draws(images, seed, count: int):
    """`count` numbers of [0, 1) for each image, `(batch, count)`, float32."""
    shape = (tf.shape(images)[0], count)
    # As in `_uniform`: of whole numbers, so that XLA draws the same.
    drawn = random.stateless_uniform(shape, seed, 0, 2**24, tf.int32, alg="philox")
    return tf.cast(drawn, tf.float32) / 2**24


def _check_images(augment: Augment, sample_shape: tuple) -> None:
    if len(sample_shape) != 3:
        raise UsageError(
            f"{type(augment).__name__} takes images (height, width, channels). "
            f"Received: samples of shape {tuple(sample_shape)}"
        )


def _probability(given: Any, name: str = "probability") -> Any:
    given = schedules.get(given)
    for value in schedules.bounds(given):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value <= 1:
            raise UsageError(f"{name} must be a number from 0 to 1. Received: {name}={given!r}")
    return given if isinstance(given, Schedule) else float(given)


# ------------------------------------------------------------------------ the pipeline of ADA


@keras.saving.register_keras_serializable("keras_gan")
class Pipeline(Augment):
    """Geometry and color as in StyleGAN2-ADA, each operation with a probability for each image.

    In this order, each image drawing its own numbers, and whether each operation is applied:

    - blit: mirrored left to right, every other time; turned by 0, 90, 180 or 270 degrees; moved
      by whole pixels, U(-1/8, 1/8) of each side, rounded.
    - geometry: scaled by a lognormal factor of deviation 0.2 (in powers of 2); turned by any angle;
      one side scaled by such a factor and the other by its inverse; turned by any angle again;
      moved by N(0, 1/8) of each side. Either turn has the probability 1 - sqrt(1 - p), both
      together the probability p.
    - color, in units in which black is -1 and white 1: brightness shifted by N(0, 0.2); contrast,
      a lognormal factor of deviation 0.5 on all values; luma inverted, every other time; hue
      turned by any angle around the gray axis; saturation, a lognormal factor of deviation 1 on
      the distance from the gray axis. Hue is for 3 channels, saturation for more than one.
    - cutout: a rectangle of half the sides, its center anywhere in the image, becomes 0.

    Blit and geometry together are one bilinear resampling, without the paper's twofold
    oversampling; what lies beyond the border is the image mirrored there. An image to which no
    operation is applied stays as it is, exactly. As long as the probability is below 1, what is
    generated can be told from its augmented images, and the augmentations do not leak.

    Args:
        probability: of each operation, 0 to 1, or a schedule of it.
        blit: factor of the probability for the operations of this group, 0 to 1.
        geometry: likewise.
        color: likewise.
        cutout: likewise; 0 by default.

    Raises:
        UsageError: a number out of range, or samples that are no images.

    Reference:
        - [Karras et al., 2020](https://arxiv.org/abs/2006.06676), appendix B
    """

    def __init__(
        self,
        probability: float | Schedule = 1.0,
        blit: float = 1.0,
        geometry: float = 1.0,
        color: float = 1.0,
        cutout: float = 0.0,
    ):
        self.probability = _probability(probability)
        self.blit = _probability(blit, "blit")
        self.geometry = _probability(geometry, "geometry")
        self.color = _probability(color, "color")
        self.cutout = _probability(cutout, "cutout")

    def __call__(self, samples, seed):
        return self.transform(samples, seed, schedules.now(self.probability, 0.0))

    def apply(self, samples, seed, state: dict[str, Any]):
        probability = schedules.now(self.probability, state["examples_seen"])
        return self.transform(samples, seed, probability)

    def transform(self, samples, seed, probability):
        """Augments a batch, each operation with this probability times its group's factor."""
        numbers = _Numbers(samples, seed)
        # At least float32: places of pixels and sums of channels are too much for half precision.
        images = ops.cast(samples, keras.backend.result_type(samples.dtype, "float32"))
        _, height, width, channels = samples.shape
        inverses = []
        if self.blit:
            inverses.append(_blit(numbers, probability * self.blit, height, width))
        if self.geometry:
            inverses.append(_geometry(numbers, probability * self.geometry, height, width))
        if inverses:
            images = resample(images, functools.reduce(tf.matmul, inverses))
        if self.color:
            images = _recolored(images, *_color(numbers, probability * self.color, channels))
        if self.cutout:
            images = images * _kept(images, numbers, probability * self.cutout)
        return ops.cast(images, samples.dtype)

    def measures(self, state: dict[str, Any]) -> dict[str, Any]:
        return {"probability": schedules.now(self.probability, state["examples_seen"])}

    def check(self, sample_shape: tuple) -> None:
        _check_images(self, sample_shape)

    def get_config(self) -> dict:
        config = {name: getattr(self, name) for name in ("blit", "geometry", "color", "cutout")}
        return {"probability": keras.saving.serialize_keras_object(self.probability), **config}


class _Numbers:
    """Random numbers of one batch, `(batch,)` each, dealt out in the order they are asked for."""

    count = 39  # of all operations together

    def __init__(self, samples, seed):
        self._drawn = iter(tf.unstack(_draws(samples, seed, self.count), axis=1))

    def uniform(self, low: float = 0.0, high: float = 1.0):
        return low + (high - low) * next(self._drawn)

    def whole(self, count: int):
        """One of 0..count-1, as a float."""
        return tf.floor(self.uniform(0.0, count))

    def normal(self, deviation: float):
        # Box and Muller's; 1 - u is never 0.
        radius = tf.sqrt(-2 * tf.math.log(1 - self.uniform()))
        return deviation * radius * tf.cos(self.uniform(0.0, 2 * math.pi))

    def lognormal(self, deviation: float):
        """2 to the power of N(0, deviation)."""
        return tf.exp(self.normal(deviation * math.log(2.0)))

    def sometimes(self, probability, value, otherwise: float):
        """The value with a probability, or else what changes nothing."""
        return tf.where(self.uniform() < probability, value, otherwise)


def _matrix(*rows):
    """Matrices `(batch, n, n)` of rows of numbers and tensors `(batch,)`."""
    entries = [x for row in rows for x in row]
    like = next(x for x in entries if not isinstance(x, float))
    numbers = {x: tf.fill(tf.shape(like), x) for x in entries if isinstance(x, float)}
    flat = tf.stack([numbers[x] if isinstance(x, float) else x for x in entries], axis=-1)
    return tf.reshape(flat, (-1, len(rows), len(rows)))


def _moved(right, down):
    """From places in the moved image to places in the one before: the inverse, as all of these."""
    return _matrix((1.0, 0.0, -right), (0.0, 1.0, -down), (0.0, 0.0, 1.0))


def _scaled(x, y):
    return _matrix((1 / x, 0.0, 0.0), (0.0, 1 / y, 0.0), (0.0, 0.0, 1.0))


def _turned(cos, sin):
    return _matrix((cos, sin, 0.0), (-sin, cos, 0.0), (0.0, 0.0, 1.0))


def _blit(n: _Numbers, p, height: int, width: int):
    """Inverse of what maps pixels to pixels."""
    mirrored = n.sometimes(p, 1 - 2 * n.whole(2), 1.0)
    quarters = n.sometimes(p, n.whole(4), 0.0)
    # Their cosines and sines, exactly: a turned image has no value that it had not before.
    cos, sin = tf.abs(quarters - 2) - 1, 1 - tf.abs(quarters - 1)
    right = n.sometimes(p, tf.round(n.uniform(-0.125, 0.125) * width), 0.0)
    down = n.sometimes(p, tf.round(n.uniform(-0.125, 0.125) * height), 0.0)
    return _scaled(mirrored, tf.ones_like(mirrored)) @ _turned(cos, sin) @ _moved(right, down)


def _geometry(n: _Numbers, p, height: int, width: int):
    """Inverse of what takes interpolation."""
    scale = n.sometimes(p, n.lognormal(0.2), 1.0)
    inverse = _scaled(scale, scale)
    # Two turns without a stretch between them are one turn: p is their probability together.
    turn = 1 - tf.sqrt(1 - p)
    angle = n.sometimes(turn, n.uniform(-math.pi, math.pi), 0.0)
    inverse = inverse @ _turned(tf.cos(angle), tf.sin(angle))
    stretch = n.sometimes(p, n.lognormal(0.2), 1.0)
    inverse = inverse @ _scaled(stretch, 1 / stretch)
    angle = n.sometimes(turn, n.uniform(-math.pi, math.pi), 0.0)
    inverse = inverse @ _turned(tf.cos(angle), tf.sin(angle))
    moved = n.uniform() < p
    right = tf.where(moved, n.normal(0.125) * width, 0.0)
    down = tf.where(moved, n.normal(0.125) * height, 0.0)
    return inverse @ _moved(right, down)


def _color(n: _Numbers, p, channels: int):
    """Offset `(batch, 1)` and matrix `(batch, channels, channels)`, the offset coming first."""
    offset = n.sometimes(p, n.normal(0.2), 0.0)[:, None]
    contrast = n.sometimes(p, n.lognormal(0.5), 1.0)[:, None, None]
    gray = tf.fill((channels, channels), 1 / channels)  # projection on the gray axis
    identity = tf.eye(channels)
    flipped = n.sometimes(p, n.whole(2), 0.0)[:, None, None]
    matrix = contrast * (identity - 2 * flipped * gray)
    angle = n.sometimes(p, n.uniform(-math.pi, math.pi), 0.0)[:, None, None]
    saturation = n.sometimes(p, n.lognormal(1.0), 1.0)[:, None, None]
    if channels == 3:  # Rodrigues' rotation around the gray axis
        axis = tf.constant([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
        around = tf.cos(angle) * identity + (1 - tf.cos(angle)) * gray + tf.sin(angle) * axis
        matrix = around @ matrix
    if channels > 1:
        matrix = (saturation * identity + (1 - saturation) * gray) @ matrix
    return offset, matrix


def _recolored(images, offset, matrix):
    _, height, width, channels = images.shape
    pixels = tf.reshape(images, (-1, height * width, channels))
    offset, matrix = ops.cast(offset, images.dtype), ops.cast(matrix, images.dtype)
    pixels = (pixels + offset[:, None]) @ tf.transpose(matrix, (0, 2, 1))
    return tf.reshape(pixels, tf.shape(images))


def _kept(images, n: _Numbers, p):
    """1, and 0 in a rectangle of half the sides."""
    applied = n.uniform() < p
    inside = []
    for axis in (1, 2):
        side = images.shape[axis]
        place = (tf.range(side, dtype=tf.float32) + 0.5) / side
        inside.append(tf.abs(place[None] - n.uniform()[:, None]) < 0.25)
    hole = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    return ops.cast(~(hole & applied[:, None, None, None]), images.dtype)


def resample(images, inverse):
    """Bilinear resampling, by a matrix for each image.

    Args:
        images: `(batch, height, width, channels)`, float32 or float64.
        inverse: `(batch, 3, 3)`, from (x, y, 1) in the new image to (x, y, 1) in the old one, in
            pixels from the center, x to the right and y down. What lies beyond the border is
            the image mirrored at its outermost pixels.

    Returns:
        Images of the same shape; differentiable by `images`, as often as needed.
    """
    _, height, width, channels = images.shape
    y, x = tf.meshgrid(_centered(height), _centered(width), indexing="ij")
    x, y = tf.reshape(x, (1, -1)), tf.reshape(y, (1, -1))
    rows = inverse[:, :2, :, None]
    places = rows[:, :, 0] * x[:, None] + rows[:, :, 1] * y[:, None] + rows[:, :, 2]
    first_x, next_x, part_x = _neighbors(places[:, 0], width)
    first_y, next_y, part_y = _neighbors(places[:, 1], height)
    begin = tf.range(tf.shape(images)[0])[:, None] * (height * width)
    # The gradient of this gather adds up in a fixed order on a CPU: a resume is exact.
    pixels = tf.reshape(images, (-1, channels))
    made = 0.0
    for row, by_y in ((first_y, 1 - part_y), (next_y, part_y)):
        for column, by_x in ((first_x, 1 - part_x), (next_x, part_x)):
            share = ops.cast(by_y * by_x, images.dtype)[..., None]
            made += share * tf.gather(pixels, begin + row * width + column)
    return tf.reshape(made, tf.shape(images))


def _centered(side: int):
    return tf.range(side, dtype=tf.float32) - (side - 1) / 2


def _neighbors(places, side: int):
    """Two neighboring pixels of each place, and how far it is on the way from one to the other."""
    last = side - 1
    folded = tf.math.floormod(places + last / 2, max(2.0 * last, 1.0))
    folded = tf.clip_by_value(last - tf.abs(folded - last), 0.0, last)
    first = tf.floor(folded)
    index = tf.cast(first, tf.int32)
    return index, tf.minimum(index + 1, last), folded - first


# ------------------------------------------------------------------------ adaptive


class _Adapting(Augment):
    """A probability that follows the discriminator's overfitting.

    r = E[sign(D(x))] over `interval` steps of the discriminator; where it is above the target the
    probability rises, below it falls, by 1 in `examples` examples.
    """

    target: float
    interval: int
    examples: float
    probability: Any

    def _adapt(self, target: Any, interval: Any, examples: Any, probability: Any) -> None:
        number = isinstance(target, (int, float)) and not isinstance(target, bool)
        if not number or not -1 < target < 1:
            raise UsageError(
                f"target must be a number between -1 and 1. Received: target={target!r}"
            )
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise UsageError(
                f"interval must be a whole number from 1 up. Received: interval={interval!r}"
            )
        number = isinstance(examples, (int, float)) and not isinstance(examples, bool)
        if not number or not 0 < examples < float("inf"):
            raise UsageError(f"examples must be a number above 0. Received: examples={examples!r}")
        self.target, self.interval, self.examples = float(target), interval, float(examples)
        self.probability = _probability(probability)

    def initial_state(self) -> dict[str, float]:
        start = {"probability": self.probability, "overfitting": 0.0}
        return {**start, "signs": 0.0, "steps": 0.0, "adapted_at": 0.0}

    def observe(self, real_margins, state: dict[str, Any]) -> dict[str, Any]:
        # Signs are taken up in one step and used in a later one: in between, the state has become
        # the mean over the replicas, and all of them decide by the same number.
        full = state["steps"] > self.interval - 0.5  # a mean over replicas may be rounded
        overfitting = state["signs"] / tf.maximum(state["steps"], 1.0)
        moved = tf.sign(overfitting - self.target)
        moved *= (state["examples_seen"] - state["adapted_at"]) / self.examples
        probability = tf.clip_by_value(state["probability"] + moved, 0.0, 1.0)
        new = {
            "probability": tf.where(full, probability, state["probability"]),
            "overfitting": tf.where(full, overfitting, state["overfitting"]),
            "adapted_at": tf.where(full, state["examples_seen"], state["adapted_at"]),
            "signs": tf.where(full, 0.0, state["signs"]) + tf.reduce_mean(tf.sign(real_margins)),
            "steps": tf.where(full, 0.0, state["steps"]) + 1.0,
        }
        return {**state, **new}

    def measures(self, state: dict[str, Any]) -> dict[str, Any]:
        return {name: state[name] for name in ("probability", "overfitting")}

    def get_config(self) -> dict:
        names = ("target", "interval", "examples", "probability")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("keras_gan")
class Adaptive(_Adapting, Pipeline):
    """ADA: the operations of `Pipeline`, as probable as the discriminator overfits.

    r = E[sign(D(x))], the mean over `interval` steps of the discriminator, is near 0 where it
    cannot tell the real images of the training any more and 1 where it knows all of them. Above
    the target the probability rises, below it falls, at such a speed that `examples` examples
    take it from 0 to 1. Where a loss leaves the origin of the logits free, as relativistic ones and
    Wasserstein's do, the sign is taken from the middle between the mean logits of the real and
    the generated batch (of the replica's batch, under a distribution strategy): r is then
    2 `real_accuracy` - 1. The probability and r are among the metrics, as `augment_probability`
    and `augment_overfitting`, and in every checkpoint.

    Args:
        target: of r, between -1 and 1.
        interval: steps of the discriminator between two adjustments, from 1 up.
        examples: how many examples the probability takes from 0 to 1, above 0.
        probability: where it begins, 0 to 1.
        blit: factor of the probability for the operations of this group, 0 to 1; see `Pipeline`.
        geometry: likewise.
        color: likewise.
        cutout: likewise; 0 by default.

    Raises:
        UsageError: a number out of range, or samples that are no images.

    Reference:
        - [Karras et al., 2020](https://arxiv.org/abs/2006.06676), section 3
    """

    def __init__(
        self,
        target: float = 0.6,
        interval: int = 4,
        examples: float = 500_000,
        probability: float = 0.0,
        blit: float = 1.0,
        geometry: float = 1.0,
        color: float = 1.0,
        cutout: float = 0.0,
    ):
        Pipeline.__init__(self, 0.0, blit, geometry, color, cutout)
        self._adapt(target, interval, examples, probability)

    def apply(self, samples, seed, state: dict[str, Any]):
        return self.transform(samples, seed, state["probability"])

    def get_config(self) -> dict:
        return Pipeline.get_config(self) | _Adapting.get_config(self)


@keras.saving.register_keras_serializable("keras_gan")
class Apa(_Adapting):
    """APA: generated samples shown as real ones, as often as the discriminator overfits.

    What the discriminator is shown as real is, each sample with the probability, a generated one of
    the same batch: the next one, or in a conditional game the one of the same place, whose class is
    that of the real one. The probability follows r = E[sign(D(x))] as in `Adaptive`, x being what
    is shown as real; it is among the metrics, as `augment_probability`, and r is as
    `augment_overfitting`. It is for data of any kind.

    Args:
        augment: `None`, or another augmentation of all that the discriminator sees, its name or
            dictionary.
        target: of r, between -1 and 1.
        interval: steps of the discriminator between two adjustments, from 1 up.
        examples: how many examples the probability takes from 0 to 1, above 0.
        probability: where it begins, 0 to 1.

    Raises:
        UsageError: a number out of range, or an augmentation that there is not.

    Reference:
        - [Jiang et al., 2021](https://arxiv.org/abs/2111.06849), section 3.2
    """

    def __init__(
        self,
        augment: str | dict[str, Any] | Augment | None = None,
        target: float = 0.6,
        interval: int = 4,
        examples: float = 500_000,
        probability: float = 0.0,
    ):
        self.augment = get(augment)
        if self.augment is not None and not isinstance(self.augment, Augment):
            raise UsageError(
                f"augment must be one of {', '.join(names())}. Received: augment={augment!r}"
            )
        self._adapt(target, interval, examples, probability)

    def __call__(self, samples, seed):
        return samples if self.augment is None else self.augment(samples, seed)

    def initial_state(self) -> dict[str, float]:
        inner = self.augment.initial_state() if self.augment is not None else {}
        return super().initial_state() | {f"inner_{name}": value for name, value in inner.items()}

    def apply(self, samples, seed, state: dict[str, Any]):
        if self.augment is None:
            return samples
        return self.augment.apply(samples, seed, self._inner(state))

    def mix(self, real, fake, seed, state: dict[str, Any]):
        replaced = _draws(real, seed, 1)[:, 0] < state["probability"]
        shape = (-1,) + (1,) * (len(real.shape) - 1)
        return tf.where(tf.reshape(replaced, shape), fake, real)

    def observe(self, real_margins, state: dict[str, Any]) -> dict[str, Any]:
        new = super().observe(real_margins, state)
        if self.augment is None:
            return new
        inner = self.augment.observe(real_margins, self._inner(state))
        return new | {f"inner_{name}": inner[name] for name in self.augment.initial_state()}

    def measures(self, state: dict[str, Any]) -> dict[str, Any]:
        inner = self.augment.measures(self._inner(state)) if self.augment is not None else {}
        return super().measures(state) | {f"inner_{name}": v for name, v in inner.items()}

    def _inner(self, state: dict[str, Any]) -> dict[str, Any]:
        names = {name.removeprefix("inner_"): name for name in state if name.startswith("inner_")}
        inner = {name: state[prefixed] for name, prefixed in names.items()}
        return inner | {"examples_seen": state["examples_seen"]}

    def check(self, sample_shape: tuple) -> None:
        if self.augment is not None:
            self.augment.check(sample_shape)

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        augment = None if self.augment is None else serialize(self.augment)
        return {"augment": augment, **super().get_config()}


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
