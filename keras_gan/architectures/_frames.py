"""Decoders of the frames of a video: from its content and the motion of each frame to pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from keras import layers

from keras_gan.architectures import _parts
from keras_gan.layers import (
    Conv2D,
    DepthToSpace2D,
    FoldFrames,
    Modulation2D,
    PlaceSprites,
    RepeatForFrames,
    SpritePlaces,
    UpConv2D,
)
from keras_gan.spec import Spec

_PER_SPRITE, _REFINED = 4, 8  # channels


@dataclasses.dataclass(frozen=True)
class PictureDecoder:
    """Draws each frame from the content and its motion.

    Args:
        spec: the pictures, in positions of the last stage.
        widths: channels of each stage, from the lowest resolution up.
        norm: normalization of each stage.
        patch: height and width in pixels of the square that each position becomes.
    """

    spec: Spec
    widths: Sequence[int]
    norm: str
    patch: int

    def draw(self, content, motion):
        """Returns the pictures `(batch * frames, height, width, channels)`.

        Args:
            content: `(batch, size)`.
            motion: `(batch, frames, units)`.
        """
        moved = FoldFrames(name="fold_motion")(motion)
        kept = RepeatForFrames(name="content_of_frames")([content, motion])
        x = layers.Concatenate(name="content_and_motion")([kept, moved])

        def modulate(x, name: str):
            """Lets the content scale and shift each channel, alike in all frames."""
            factors = layers.Dense(2 * x.shape[-1], name=f"{name}_factors")(content)
            factors = RepeatForFrames(name=f"{name}_factors_of_frames")([factors, motion])
            return Modulation2D(name=f"{name}_modulation")([x, factors])

        x = _stages(x, self.spec, self.widths, self.norm, modulate)
        # Samples are float32 under every policy, so that they have full precision.
        count = self.spec.shape[-1] * self.patch**2
        x = Conv2D(count, 3, padding="same", dtype="float32", name="to_pixels")(x)
        x = DepthToSpace2D(self.patch, dtype="float32", name="pixels")(x)
        return layers.Activation("tanh", dtype="float32", name="frames")(x)


@dataclasses.dataclass(frozen=True)
class SpriteDecoder:
    """Draws sprites once from the content, and puts them where the motion of each frame says.

    Args:
        spec: the pictures.
        size: height and width of a sprite in pixels.
        count: number of sprites.
        widths: channels of each stage of the sprites, from the lowest resolution up.
        norm: normalization of each stage.
    """

    spec: Spec
    size: int
    count: int
    widths: Sequence[int]
    norm: str

    def draw(self, content, motion):
        """Returns the pictures; takes the arguments of `PictureDecoder.draw`."""
        height, width, channels = self.spec.shape
        small = _parts.resized(self.spec, self.size)
        x = _stages(content, small, self.widths, self.norm, lambda x, name: x)
        x = Conv2D(_PER_SPRITE * self.count, 3, padding="same", name="to_sprites")(x)
        places = layers.Dense(2 * self.count, dtype="float32", name="to_places")(motion)
        rooms, sizes = (height - self.size, width - self.size), (self.size, self.size)
        places = SpritePlaces(rooms, sizes, name="places")(places)
        x = PlaceSprites(self.count, height, width, name="placed")([x, places])
        # The motion changes the look of a sprite, too.
        x = Conv2D(_REFINED, 3, padding="same", name="refine")(x)
        moved = FoldFrames(name="fold_motion")(motion)
        factors = layers.Dense(2 * _REFINED, name="refine_factors")(moved)
        x = Modulation2D(name="refine_modulation")([x, factors])
        x = layers.ReLU(name="refine_activation")(x)
        x = Conv2D(channels, 3, padding="same", dtype="float32", name="to_pixels")(x)
        return layers.Activation("tanh", dtype="float32", name="frames")(x)


def decoder_of(
    spec: Spec, size: int | None, sprites: int, widths: Sequence[int], norm: str, patch: int
) -> PictureDecoder | SpriteDecoder:
    """Returns the decoder of sprites of a size, or without a size that of whole pictures."""
    if size is None:
        return PictureDecoder(spec, widths, norm, patch)
    return SpriteDecoder(spec, size, sprites, widths, norm)


def _stages(x, spec: Spec, widths: Sequence[int], norm: str, modulate: Any):
    """Maps vectors to features at the lowest resolution, and doubles it in each further stage."""
    base, plain = _parts.base_shape(spec, len(widths) - 1, widths[0]), norm == "none"
    x = layers.Dense(base[0] * base[1] * base[2], use_bias=plain, name="project")(x)
    x = layers.Reshape(base, name="reshape")(x)
    for i, channels in enumerate(widths):
        if i:
            x = UpConv2D(channels, use_bias=plain, name=f"stage_{i}_up")(x)
        x = modulate(_parts.normalize(x, norm, f"stage_{i}_norm"), f"stage_{i}")
        x = layers.ReLU(name=f"stage_{i}_activation")(x)
    return x
