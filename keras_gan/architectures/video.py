"""Video after MoCoGAN: content and motion apart; discriminators of frames and of clips.

The generator draws the content of a video once and the noise of its motion for each frame. A
recurrent network (GRU) turns the noise into the motion of each frame, and a decoder draws the frame
of a content and a motion: as a whole, as in MoCoGAN, or from sprites, which are drawn once and put
where the motion says. So a video of any length can be made frame by frame in constant memory.

The discriminator has two parts: one judges single frames, the other one clips, by convolutions of
each frame and along time (2+1-D).

Reference:
    - [Tulyakov et al., 2017](https://arxiv.org/abs/1707.04993)
    - [Gregor et al., 2015](https://arxiv.org/abs/1502.04623), for sprites at places
    - [Clark et al., 2019](https://arxiv.org/abs/1907.06571), for frames that are picked at random
    - [Tran et al., 2017](https://arxiv.org/abs/1711.11248), for (2+1)-D convolutions
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_gan.architectures import _frames, _parts, _video
from keras_gan.arguments import check_integer
from keras_gan.endless import FIRST_STATE
from keras_gan.layers import (
    Conv2D,
    FoldFrames,
    PickFrames,
    TemporalConv,
    UnfoldFrames,
    VideoLatents,
)
from keras_gan.spec import Spec

also_called = ("mocogan",)

MAX_WIDTH = 512


def generator(
    spec: Spec,
    conditional: bool = False,
    content_dim: int = 32,
    start_dim: int = 16,
    motion_dim: int = 4,
    units: int = 64,
    width: int | None = None,
    widths: Sequence[int] | None = None,
    depth: int | None = None,
    patch: int = 1,
    sprites: int = 0,
    sprite_size: int | None = None,
    norm: str = "batch",
) -> keras.Model:
    """Builds a generator from latents [and labels] to videos in [-1, 1].

    The latents are `[content | start | frame 1 | ...]`, see `keras_gan.layers.VideoLatents`.

    Args:
        spec: videos whose height and width are divisible by `patch * 2**depth`.
        conditional: if True, takes labels `(batch,)`; their embedding is part of the content.
        content_dim: latents of the content.
        start_dim: latents of the start, the recurrent network's first state.
        motion_dim: latents of each frame.
        units: length of the recurrent network's state.
        width: channels of the decoder's last stage, as of `dcgan.generator`.
        widths: channels of each stage, from the lowest resolution up, in place of `width`, `depth`.
        depth: number of resolution doublings; by default, down to 4 to 7 pixels.
        patch: pixels in height and width of each position of the last stage.
        sprites: number of pictures that are drawn once for a video and put at a place of each
            frame (`keras_gan.layers.PlaceSprites`); 0 for a decoder of whole frames. `width`,
            `widths` and `depth` are then those of the sprites.
        sprite_size: height and width of a sprite in pixels, by default half of a frame's.
        norm: normalization of each stage, "batch", "layer" or "none". The statistics of "batch"
            are of all frames, and outside of training they are fixed, as a stream needs it.

    Raises:
        UsageError: data of another kind or size, or an option out of range.
    """
    pictures = _video.pictures_of(spec, "video", patch)
    size = _video.check_sprites(pictures, sprites, sprite_size, patch)
    check_integer("units", units)
    _parts.check_norm(norm)
    drawn = pictures if size is None else _parts.resized(pictures, size)
    widths = _parts.stage_widths(drawn, width, widths, depth, MAX_WIDTH)
    decoder = _frames.decoder_of(pictures, size, sprites, widths, norm, patch)

    split = VideoLatents(content_dim, start_dim, motion_dim, name="split")
    latents = keras.Input((split.length(spec.shape[0]),), name="latents")
    labels = _parts.labels_input() if conditional else None
    content, start, noise = split(latents)
    if conditional:
        content = _parts.latents_and_label(content, labels, spec, content_dim)
    # The recurrent network is float32 under every policy: rounding would add up over the frames.
    state = layers.Dense(units, "tanh", dtype="float32", name=FIRST_STATE)(start)
    motion, _ = _video.recurrent(units)(noise, initial_state=state)
    frames = decoder.draw(content, motion)
    samples = UnfoldFrames(name="samples", dtype="float32")([frames, motion])
    return keras.Model([latents, labels] if conditional else latents, samples, name="generator")


def discriminator(
    spec: Spec,
    conditional: bool = False,
    width: int = 32,
    clip_width: int = 24,
    depth: int | None = None,
    picked: int = 4,
    auxiliary_classes: bool | str = False,
) -> keras.Model:
    """Builds a discriminator from videos in [-1, 1] [and labels] to logits of frames and of clips.

    Its output is a list: a logit for each picked frame, `(batch, picked, 1)`, and one for the whole
    clip, `(batch, 1)`. A loss averages them. Labels are used by projection (Miyato and Koyama,
    2018, https://arxiv.org/abs/1802.05637).

    Args:
        spec: videos `(frames, height, width, channels)`, whose height and width are divisible by
            `2**depth`.
        conditional: if True, takes labels `(batch,)`.
        width: channels of the first stage of the part that judges frames; each later stage, at
            half of the resolution, has twice as many, up to 512.
        clip_width: the same of the part that judges clips. Its stages from the second on have a
            convolution along time, which halves the number of frames.
        depth: number of stages; by default, until the smaller of height and width is 4 to 7.
        picked: number of frames that are judged, which divides that of the video, see
            `keras_gan.layers.PickFrames`.
        auxiliary_classes: True or a name, for outputs of classes, as of `dcgan.discriminator`; of
            the mean features of the picked frames and those of the clip.

    Raises:
        UsageError: data of another kind, a height or width that is not divisible, or an option out
            of range.
    """
    pictures = _video.pictures_of(spec, "video")
    check_integer("width", width)
    check_integer("clip_width", clip_width)
    depth = _parts.choose_depth(None, depth, pictures)
    check_integer("picked", picked)
    _video.check_picked(spec, picked)
    samples = keras.Input(spec.shape, name="samples")
    labels = _parts.labels_input() if conditional else None

    frames = PickFrames(picked, name="picked")(samples)
    of_frames = _frame_features(frames, [min(width * 2**i, MAX_WIDTH) for i in range(depth)])
    of_clip = _clip_features(samples, [min(clip_width * 2**i, MAX_WIDTH) for i in range(depth)])
    logits = [
        _video.frame_logits(of_frames, frames, labels, spec),
        _video.clip_logits(of_clip, labels, spec),
    ]
    outputs: Any = logits
    if auxiliary_classes is not False:
        mean = layers.GlobalAveragePooling1D(name="mean_of_frames")(
            UnfoldFrames(name="features_by_frame")([of_frames, frames])
        )
        features = layers.Concatenate(name="features")([mean, of_clip])
        outputs = _parts.outputs_with_classes(features, logits, spec, auxiliary_classes)
    return keras.Model([samples, labels] if conditional else samples, outputs, name="discriminator")


def _frame_features(frames, widths: Sequence[int]):
    """Returns the features of each picked frame, `(batch * picked, size)`."""
    x = FoldFrames(name="fold_picked")(frames)
    for i, channels in enumerate(widths, start=1):
        x = Conv2D(channels, 4, 2, "same", name=f"frame_{i}_down")(x)
        x = layers.LeakyReLU(0.2, name=f"frame_{i}_activation")(x)
    return layers.Flatten(name="frame_features")(x)


def _clip_features(samples, widths: Sequence[int]):
    """Returns the features of each clip, `(batch, size)`."""
    x = samples
    for i, channels in enumerate(widths, start=1):
        like = x
        x = FoldFrames(name=f"clip_{i}_fold")(x)
        x = Conv2D(channels, 4, 2, "same", name=f"clip_{i}_down")(x)
        x = UnfoldFrames(name=f"clip_{i}_unfold")([x, like])
        x = layers.LeakyReLU(0.2, name=f"clip_{i}_activation")(x)
        if i > 1:  # at the highest resolution it would cost as much as all the rest
            x = TemporalConv(channels, 3, 2, name=f"clip_{i}_time")(x)
            x = layers.LeakyReLU(0.2, name=f"clip_{i}_time_activation")(x)
    return layers.Flatten(name="clip_features")(x)
