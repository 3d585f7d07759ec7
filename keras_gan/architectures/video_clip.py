"""Clips of a fixed length by (2+1)-D convolutions, from one latent vector.

As in VGAN, all frames of a clip are made together, from a few coarse ones. Each stage doubles the
height and the width, and the first ones the number of frames, too. A convolution of each frame and
one along time take the place of a convolution in three dimensions. Unlike the generator of `video`,
content and motion are not apart, and other lengths cannot be made.

The discriminator is that of `video`.

Reference:
    - [Vondrick et al., 2016](https://arxiv.org/abs/1609.02612), section 3.1
    - [Tran et al., 2017](https://arxiv.org/abs/1711.11248), section 3.5
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_gan.architectures import _parts, _video
from keras_gan.architectures.video import MAX_WIDTH, discriminator
from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError
from keras_gan.layers import Conv2D, FoldFrames, RepeatFrames, TemporalConv, UnfoldFrames, UpConv2D
from keras_gan.spec import Spec

__all__ = ["discriminator", "generator"]

also_called = ("vgan", "r2plus1d")


def generator(
    spec: Spec,
    conditional: bool = False,
    latent_dim: int = 64,
    width: int | None = None,
    widths: Sequence[int] | None = None,
    depth: int | None = None,
    frame_doublings: int | None = None,
    kernel_frames: int = 3,
    norm: str = "batch",
) -> keras.Model:
    """Builds a generator from latents `(batch, latent_dim)` [and labels] to videos in [-1, 1].

    Args:
        spec: videos `(frames, height, width, channels)`, whose height and width are divisible by
            `2**depth`, and whose frames by `2**frame_doublings`.
        conditional: if True, takes labels `(batch,)`; their embedding is concatenated to the
            latents.
        latent_dim: length of a latent vector.
        width: channels of the last stage, as of `dcgan.generator`.
        widths: channels of each stage, from the lowest resolution up, in place of `width`, `depth`.
        depth: number of resolution doublings; by default, down to 4 to 7 pixels.
        frame_doublings: number of those stages that double the number of frames as well, at most
            `depth`; by default as many as the number of frames allows.
        kernel_frames: frames of the convolutions along time, at least 1.
        norm: normalization of each stage, "batch", "layer" or "none"; of all frames.

    Raises:
        UsageError: data of another kind or size, or an option out of range.
    """
    pictures = _video.pictures_of(spec, "video_clip")
    _parts.check_norm(norm)
    check_integer("kernel_frames", kernel_frames)
    widths = _parts.stage_widths(pictures, width, widths, depth, MAX_WIDTH)
    doublings = _frame_doublings(spec.shape[0], len(widths) - 1, frame_doublings)

    latents = _parts.latents_input(latent_dim)
    labels = _parts.labels_input() if conditional else None
    x: Any = latents
    if conditional:
        x = _parts.latents_and_label(latents, labels, spec, latent_dim)
    base = (spec.shape[0] // 2**doublings, *_parts.base_shape(pictures, len(widths) - 1, widths[0]))
    size = base[0] * base[1] * base[2] * base[3]
    x = layers.Dense(size, use_bias=norm == "none", name="project")(x)
    x = layers.Reshape(base, name="reshape")(x)
    x = _finish(x, norm, "stage_0")
    for i, channels in enumerate(widths[1:], start=1):
        if i <= doublings:
            x = RepeatFrames(2, name=f"stage_{i}_frames")(x)
        x = _stage(x, channels, kernel_frames, norm, f"stage_{i}")
    # Samples are float32 under every policy, so that they have full precision.
    frames = FoldFrames(dtype="float32", name="fold_frames")(x)
    frames = Conv2D(spec.shape[-1], 3, padding="same", dtype="float32", name="to_pixels")(frames)
    frames = layers.Activation("tanh", dtype="float32", name="frames")(frames)
    samples = UnfoldFrames(name="samples", dtype="float32")([frames, x])
    return keras.Model([latents, labels] if conditional else latents, samples, name="generator")


def _frame_doublings(frames: int, depth: int, given: int | None) -> int:
    """Returns the number of stages that double the number of frames."""
    if given is not None:
        check_integer("frame_doublings", given, 0)
        if given > depth or frames % 2**given:
            raise UsageError(
                "`frame_doublings` must be at most `depth`, and the number of frames divisible by "
                f"2**frame_doublings. Received: frame_doublings={given}, depth={depth}, "
                f"{frames} frames"
            )
        return int(given)
    found = 0
    while found < depth and frames % 2 ** (found + 1) == 0 and frames > 2 ** (found + 1):
        found += 1
    return found


def _stage(x, channels: int, kernel_frames: int, norm: str, name: str):
    """Doubles the height and the width, and convolves each frame and then along time."""
    like, plain = x, norm == "none"
    x = FoldFrames(name=f"{name}_fold")(x)
    x = UpConv2D(channels, use_bias=plain, name=f"{name}_up")(x)
    x = layers.ReLU(name=f"{name}_up_activation")(_parts.normalize(x, norm, f"{name}_up_norm"))
    x = UnfoldFrames(name=f"{name}_unfold")([x, like])
    x = TemporalConv(channels, kernel_frames, name=f"{name}_time")(x)
    return _finish(x, norm, name)


def _finish(x, norm: str, name: str):
    """Normalizes all frames of all videos alike, and activates them."""
    like = x
    x = FoldFrames(name=f"{name}_fold_to_norm")(x)
    x = layers.ReLU(name=f"{name}_activation")(_parts.normalize(x, norm, f"{name}_norm"))
    return UnfoldFrames(name=f"{name}_unfold_from_norm")([x, like])
