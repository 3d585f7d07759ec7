"""Random crops, flips and rotations of training pictures, the same for all fields of an example."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_gan import random_numbers
from keras_gan.arguments import is_integer
from keras_gan.errors import UsageError

_PURPOSE = 0x7472616E  # separates these draws from those of the order, which has the same seed
_DRAWS = 4  # numbers drawn for each example: top, left, flip, rotation


@dataclasses.dataclass(frozen=True)
class Transform:
    """A random crop, flip and rotation of the pictures of an example.

    The numbers that are drawn for an example are a function of the seed, the number of the batch
    and the row in it, so that any part of the stream can be made again.

    Args:
        scales: by the name of each field that is transformed, the factor by which its pictures are
            larger than those of the smallest field. Crops are at corresponding places.
        crop: height and width of the crops of the smallest field; `None` to keep whole pictures.
        flip: whether half of the examples are flipped left to right.
        rotate: whether the examples are rotated by 0, 90, 180 or 270 degrees.
    """

    scales: Mapping[str, int]
    crop: tuple[int, int] | None = None
    flip: bool = False
    rotate: bool = False

    @property
    def is_identity(self) -> bool:
        """True if pictures stay as they are."""
        return self.crop is None and not self.flip and not self.rotate

    def draw(self, seed: int, batch: tf.Tensor, size: int, group: int = 0) -> tf.Tensor:
        """Returns the numbers of the examples of a batch, from 0 up and below 1.

        Args:
            seed: seed of the stream.
            batch: number of the batch, int64.
            size: number of examples in it.
            group: 0 for the samples and the fields that belong to them; another integer for each
                field that is drawn on its own.

        Returns:
            float32, `(size, 4)`.
        """
        key = tf.constant([seed, _PURPOSE + group], tf.int64)
        return random_numbers.uniform((size, _DRAWS), random_numbers.fold_in(key, batch))

    def apply(self, pictures: Any, numbers: Any, name: str) -> Any:
        """Transforms the pictures of one field.

        Args:
            pictures: `(count, height, width, channels)`, of any dtype.
            numbers: the examples' numbers, as `draw` returned them, `(count, 4)`.
            name: name of the field.
        """
        scale = self.scales[name]
        _, height, width, _ = pictures.shape
        crop_height, crop_width = self.crop or (height // scale, width // scale)
        turns: Any = tf.cast(numbers[:, 3] * 4, tf.int32) if self.rotate else None
        mirrored = numbers[:, 2] < 0.5 if self.flip else None
        # A rotation is a reversal of axes and, by 90 and 270 degrees, their exchange.
        up = None if turns is None else turns >= 2
        across = mirrored
        if turns is not None:
            back = (turns == 1) | (turns == 2)
            across = back if mirrored is None else mirrored ^ back
        rows = _places(numbers[:, 0], height, crop_height, scale, up)
        columns = _places(numbers[:, 1], width, crop_width, scale, across)
        cut = tf.gather(pictures, rows, axis=1, batch_dims=1)
        cut = tf.gather(cut, columns, axis=2, batch_dims=1)
        if turns is None:
            return cut
        exchanged = (turns % 2 == 1)[:, tf.newaxis, tf.newaxis, tf.newaxis]
        return tf.where(exchanged, tf.transpose(cut, (0, 2, 1, 3)), cut)


def _places(numbers: Any, length: int, crop: int, scale: int, reverse: Any) -> Any:
    """Returns the pixels of an axis that each crop takes, int32, `(count, scale * crop)`.

    Args:
        numbers: a number of each example, from 0 up and below 1.
        length: pixels of the axis.
        crop: pixels of the crop in the smallest field.
        scale: factor by which the field is larger than that.
        reverse: whether each example's axis is reversed; `None` for no example.
    """
    first = tf.cast(numbers * tf.cast(length // scale - crop + 1, tf.float32), tf.int32)
    places = tf.range(scale * crop)[tf.newaxis, :]
    if reverse is not None:
        places = tf.where(reverse[:, tf.newaxis], places[:, ::-1], places)
    return first[:, tf.newaxis] * scale + places


def make(
    sizes: Mapping[str, tuple[int, int]], crop: Any, flip: bool, rotate: bool, of: str = "samples"
) -> Transform | None:
    """Returns the transformation that options ask for; `None` if pictures stay as they are.

    Args:
        sizes: stored height and width of each field. The sizes are whole multiples of the
            smallest field's.
        crop: the option: height and width in pixels, an integer or two; `None` for no crop.
        flip: the option.
        rotate: the option.
        of: the field whose pixels `crop` counts.

    Raises:
        UsageError: a crop that is larger than the pictures or no multiple of the scale, or
            rotations of pictures that are not square.
    """
    least = min(size[0] for size in sizes.values())
    scales = {name: size[0] // least for name, size in sizes.items()}
    height, width = sizes[of]
    wanted = None if crop is None else _check_crop(crop, (height, width), scales[of])
    if rotate and len({*(wanted or (height, width))}) > 1:
        raise UsageError(
            "`rotate` needs square pictures or square crops, as a rotation by 90 degrees "
            f"exchanges height and width. Received: rotate={rotate}, crop={crop!r} of pictures of "
            f"{height}x{width}"
        )
    small = None if wanted is None else (wanted[0] // scales[of], wanted[1] // scales[of])
    found = Transform(scales, small, bool(flip), bool(rotate))
    return None if found.is_identity else found


def _check_crop(crop: Any, size: tuple[int, int], scale: int) -> tuple[int, int] | None:
    """Returns height and width of the crop; `None` if it is the whole picture."""
    pair = tuple(crop) if isinstance(crop, list | tuple) else (crop, crop)
    if len(pair) != 2 or not all(is_integer(x, 1) for x in pair):
        raise UsageError(
            "`crop` must be a positive integer or [height, width], in pixels. "
            f"Received: crop={crop!r}"
        )
    if any(x > most for x, most in zip(pair, size, strict=True)):
        raise UsageError(
            f"`crop` must be at most the size of the pictures, {size[0]}x{size[1]}. "
            f"Received: crop={crop!r}"
        )
    if any(x % scale for x in pair):
        raise UsageError(
            f"`crop` must be a multiple of the scale, {scale}, so that crops of both pictures are "
            f"at corresponding places. Received: crop={crop!r}"
        )
    return None if pair == size else (int(pair[0]), int(pair[1]))
