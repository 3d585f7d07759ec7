"""Vocoder at frame rate: ConvNeXt blocks and an overlap-add head, from mel spectrograms to sound.

All convolutions are at the rate of the frames, and a linear layer makes a window of samples of
each frame, which are overlapped and added. The samples are multiplied by the loudness of their
frame, so that the network need not learn the range of levels, and silence stays silent.

Reference:
    - [Liu et al., 2022](https://arxiv.org/abs/2201.03545), for the blocks
    - [Siuzdak, 2023](https://arxiv.org/abs/2306.00814), for ConvNeXt blocks at frame rate
    - [Okamoto et al., 2023](https://doi.org/10.1109/ASRU57964.2023.10389765), for the linear head
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_gan.architectures import _sound
from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError
from keras_gan.layers import ChannelScale, DepthwiseConv1D, OverlapAdd
from keras_gan.spec import Spec

_HEAD = 0.8  # standard deviation of the initial samples, over the loudness of their frame
_START = 0.25  # initial factor of the residual branches


def generator(
    spec: Spec,
    conditional: bool = False,
    conditions: Sequence[str] = (),
    width: int = 128,
    blocks: int = 4,
    kernel: int = 7,
    expansion: int = 3,
    window: int | None = None,
    gain: bool = True,
) -> keras.Model:
    """Builds a generator from log-mels `(batch, frames, mels)` to sound `(batch, time, 1)`.

    It takes any number of frames, and returns `hop` samples for each.

    Args:
        spec: audio `samples` of one channel, and the spectrogram that `conditions` names.
        conditional: must be False: labels are not supported.
        conditions: name of the field of kind "mel".
        width: channels.
        blocks: number of residual blocks.
        kernel: taps of the depthwise convolutions, odd. Each block adds half of them, rounded
            down, to the context that a frame needs on each side.
        expansion: hidden channels of a block, over `width`.
        window: samples that each frame adds to the sum, from the hop up; by default the window of
            the spectrograms.
        gain: multiply the samples by the loudness of their frame.

    Raises:
        UsageError: data of another kind, or an option out of range.
    """
    mel = _sound.check_task(spec, "vocoder", conditional, conditions)
    for name, value in (("width", width), ("blocks", blocks), ("expansion", expansion)):
        check_integer(name, value)
    _sound.check_odd("kernel", kernel)
    window = mel.window if window is None else window
    check_integer("window", window)
    if window < mel.hop:
        raise UsageError(
            f"`window` must be at least the hop of {mel.hop} samples. Received: window={window}"
        )
    reach = (blocks + 1) * (kernel // 2) + _overlap(window, mel.hop)
    spectrogram, x, loudness = _sound.begin(conditions, mel, reach, gain)
    x = _sound.convolve(x, width, kernel, "conv")
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    for i in range(1, blocks + 1):
        x = _block(x, width * expansion, kernel, f"block_{i}")
    x = layers.LayerNormalization(epsilon=1e-6, name="last_norm")(x)
    start: Any = keras.initializers.RandomNormal(stddev=_HEAD * width**-0.5)
    x = layers.Dense(window, kernel_initializer=start, dtype="float32", name="head")(x)
    if loudness is not None:
        x = layers.Multiply(dtype="float32", name="gain")([x, loudness])
    x = OverlapAdd(mel.hop, name="overlap_add")(x)
    samples = layers.Activation("tanh", dtype="float32", name="samples")(x)
    return keras.Model(spectrogram, samples, name="generator")


def _block(x, hidden: int, kernel: int, name: str):
    """Applies a depthwise convolution and two layers at each frame, beside a shortcut."""
    width = x.shape[-1]
    y = DepthwiseConv1D(kernel, name=f"{name}_depthwise")(x)
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(y)
    y = layers.Dense(hidden, name=f"{name}_expand")(y)
    y = layers.Activation("silu", name=f"{name}_activation")(y)
    y = layers.Dense(width, name=f"{name}_project")(y)
    y = ChannelScale(_START, name=f"{name}_scale")(y)
    return layers.Add(name=name)([x, y])


def _overlap(window: int, hop: int) -> int:
    """Returns the distance in frames of the farthest window that reaches into a hop."""
    before = (window - hop) // 2
    return max(_sound.frames_of(before, hop), _sound.frames_of(window - hop - before, hop))
