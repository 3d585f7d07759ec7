"""Layers for sound: log-mel spectrograms, overlap-add, depthwise convolutions along time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan.arguments import check_integer, check_number
from keras_gan.errors import UsageError
from keras_gan.spec import Field
from serving.mel import EPSILON, Mel

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops

# RMS of speech over that of noise with the same mean power of its mels: speech has more of its
# power where the filters are narrow.
_SPEECH = 0.772
_LEAST_POWER = 1e-14


def magnitudes(samples, kernels: np.ndarray, hop: int):
    """Returns the magnitudes of the short-time Fourier transform, by a convolution.

    Frame `f` is centered at sample `(f + 1/2) * hop`, as in `Mel`. A convolution runs, and is
    exported, where Fourier transforms are not supported.

    Args:
        samples: float32 `(batch, time)` or `(batch, time, 1)`, any time.
        kernels: windowed cosines and sines, `(window, 2, frequencies)`, see `Mel.kernels`.
        hop: samples from frame to frame.

    Returns:
        float32 `(batch, ceil(time / hop), frequencies)`.
    """
    window, _, frequencies = kernels.shape
    taps = -(-window // hop)
    whole = np.zeros((taps * hop, 2 * frequencies), np.float32)
    whole[:window] = kernels.reshape(window, -1)
    # Samples of one hop are the channels of one step, so that the convolution has no strides.
    blocks = _blocks(samples, hop, (window - hop) // 2, taps)
    filters = ops.convert_to_tensor(whole.reshape(taps, hop, 2 * frequencies))
    both = ops.conv(blocks, filters, padding="valid")
    real, imaginary = both[..., :frequencies], both[..., frequencies:]
    return ops.sqrt(ops.square(real) + ops.square(imaginary) + EPSILON)


def _blocks(samples, hop: int, before: int, taps: int):
    """Returns zero-padded samples as `(batch, frames + taps - 1, hop)`."""
    time = samples.shape[1]
    if time is None:
        time = ops.shape(samples)[1]
    frames = (time + hop - 1) // hop
    after = (frames + taps - 1) * hop - time - before
    ends = [[0, 0], [before, after], *([0, 0] for _ in samples.shape[2:])]
    return tf.reshape(tf.pad(samples, ends), (-1, frames + taps - 1, hop))


@keras.saving.register_keras_serializable("keras_gan")
class LogMel(keras.layers.Layer):
    """Log-mel spectrograms, equal to `serving.mel.Mel` up to the rounding of float32.

    The Fourier transform is a convolution, so that the layer is exported to ONNX and takes clips
    of any length. Its gradient is finite at silence.

    Args:
        sample_rate: sampling rate in Hz.
        hop: samples from frame to frame.
        window: samples of the Hann window, at least `hop`.
        n_fft: length of the Fourier transform in samples, at least `window`.
        mels: number of filters.
        low: lowest frequency in Hz.
        high: highest frequency in Hz; by default half of the sampling rate.
        floor: least magnitude, above 0.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`; it computes in float32.

    Input shape: `(batch, time)` or `(batch, time, 1)`, values in [-1, 1]. Output shape:
    `(batch, ceil(time / hop), mels)`, natural logarithms from `ln(floor)`.

    Raises:
        UsageError: an argument out of range, see `Mel`.

    Reference:
        - Slaney, 1998, Auditory Toolbox, version 2
    """

    def __init__(
        self,
        sample_rate: int = 8_000,
        hop: int = 64,
        window: int = 256,
        n_fft: int = 256,
        mels: int = 40,
        low: float = 0.0,
        high: float | None = None,
        floor: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.mel = Mel(sample_rate, hop, window, n_fft, mels, low, high, floor)

    def call(self, inputs):
        found = magnitudes(inputs, self.mel.kernels, self.mel.hop)
        filters = ops.convert_to_tensor(self.mel.filters.T.astype(np.float32))
        return ops.log(ops.maximum(self.mel.floor, ops.matmul(found, filters)))

    def compute_output_shape(self, input_shape):
        time = input_shape[1]
        return (input_shape[0], None if time is None else self.mel.frames(time), self.mel.mels)

    def get_config(self) -> dict[str, Any]:
        config = {name: value for name, value in super().get_config().items() if name != "dtype"}
        return {**config, **self.mel.to_meta()}


@keras.saving.register_keras_serializable("keras_gan")
class VocoderInput(keras.layers.Layer):
    """First layer of a vocoder: scales log-mels to about [-2, 2], and keeps their definition.

    Args:
        mel: definition of the spectrograms, as `Mel.to_meta` returns it.
        context: frames on each side of a frame that its samples depend on, from 0 up.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Raises:
        UsageError: an invalid definition, or `context` out of range.
    """

    def __init__(self, mel: Mapping[str, Any], context: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_integer("context", context, 0)
        self.mel, self.context = Mel.from_meta(mel), int(context)

    @property
    def field(self) -> Field:
        """The spectrograms as a field of the data, of any number of frames."""
        return Field("mel", (None, self.mel.mels), meta={"mel": self.mel.to_meta()})

    def call(self, inputs):
        return (inputs + 5.0) / 3.0

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mel": self.mel.to_meta(), "context": self.context}


@keras.saving.register_keras_serializable("keras_gan")
class Loudness(keras.layers.Layer):
    """Approximate RMS amplitude of each frame, from its log-mels.

    For white noise of RMS amplitude s, the expected magnitude of a frequency is
    `s * sqrt(pi / 4 * sum(hann^2))`, and a filter of unit area multiplies it by
    `n_fft / sample_rate`. The root of the mean of the squared mels is divided by both, and
    multiplied by 0.77, which was measured on speech. A network whose samples are multiplied by it
    need not learn a range of 60 dB, and returns silence for the spectrogram of silence: the power
    of the floor, which stands for silence, is taken from each mel.

    Args:
        mel: definition of the spectrograms, as `Mel.to_meta` returns it.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`; it computes in float32.

    Input shape: `(batch, frames, mels)`. Output shape: `(batch, frames, 1)`.

    Raises:
        UsageError: an invalid definition.
    """

    def __init__(self, mel: Mapping[str, Any], **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.mel = Mel.from_meta(mel)
        energy = float(np.square(self.mel.kernels[:, 0, 0]).sum())
        noise = math.sqrt(math.pi / 4 * energy) * self.mel.n_fft / self.mel.sample_rate
        self.factor = _SPEECH / noise

    def call(self, inputs):
        power = ops.maximum(ops.exp(2.0 * inputs) - self.mel.floor**2, 0.0)
        # The root of 0 has no finite gradient.
        return self.factor * ops.sqrt(ops.mean(power, axis=-1, keepdims=True) + _LEAST_POWER)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 1)

    def get_config(self) -> dict[str, Any]:
        config = {name: value for name, value in super().get_config().items() if name != "dtype"}
        return {**config, "mel": self.mel.to_meta()}


@keras.saving.register_keras_serializable("keras_gan")
class OverlapAdd(keras.layers.Layer):
    """Sums windows of samples that begin `hop` samples apart.

    Window `f` is centered at sample `(f + 1/2) * hop`, as in `Mel`; what lies before the first or
    behind the last hop is cut. It is made of paddings and additions, so that it is exported to
    ONNX for any number of frames.

    Args:
        hop: samples from window to window, at least 1 and at most the length of a window.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`; it computes in float32.

    Input shape: `(batch, frames, window)`. Output shape: `(batch, frames * hop, 1)`.

    Raises:
        UsageError: `hop` is out of range.
    """

    def __init__(self, hop: int, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        check_integer("hop", hop)
        self.hop = int(hop)

    def build(self, input_shape):
        if input_shape[-1] < self.hop:
            raise UsageError(
                "`hop` must be at most the length of a window. "
                f"Received: hop={self.hop}, a window of {input_shape[-1]}"
            )
        self.built = True

    def call(self, inputs):
        return _overlap_add(inputs, self.hop)

    def compute_output_shape(self, input_shape):
        batch, frames, _ = input_shape
        return (batch, None if frames is None else frames * self.hop, 1)

    def get_config(self) -> dict[str, Any]:
        config = {name: value for name, value in super().get_config().items() if name != "dtype"}
        return {**config, "hop": self.hop}


def _overlap_add(windows, hop: int):
    """Returns the sum `(batch, frames * hop, 1)` of windows `(batch, frames, window)`."""
    frames, window = windows.shape[1:]
    parts, before = -(-window // hop), (window - hop) // 2
    if parts * hop > window:
        windows = tf.pad(windows, [[0, 0], [0, 0], [0, parts * hop - window]])
    # Part p of window f is in hop f + p.
    shifted = [
        tf.pad(windows[:, :, p * hop : (p + 1) * hop], [[0, 0], [p, parts - 1 - p], [0, 0]])
        for p in range(parts)
    ]
    length = -1 if frames is None else (frames + parts - 1) * hop
    batch = tf.shape(windows)[0] if frames is None else -1
    samples = tf.reshape(sum(shifted[1:], shifted[0]), (batch, length, 1))
    after = (parts - 1) * hop - before
    return samples[:, before:-after] if after else samples[:, before:]


@keras.saving.register_keras_serializable("keras_gan")
class FramesToSamples(OverlapAdd):
    """Linear interpolation of one value for each frame to the samples.

    The value of a frame holds at its center; before the first and behind the last center, it
    falls to half of it at the end of the clip.

    Args:
        hop: samples of each frame.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`; it computes in float32.

    Input shape: `(batch, frames, 1)`. Output shape: `(batch, frames * hop, 1)`.
    """

    def build(self, input_shape):
        self.built = True

    def call(self, inputs):
        rising = (np.arange(self.hop) + 0.5) / self.hop
        triangle = np.concatenate([rising, rising[::-1]]).astype(np.float32)
        return _overlap_add(inputs * triangle, self.hop)


@keras.saving.register_keras_serializable("keras_gan")
class DepthwiseConv1D(keras.layers.Layer):
    """Convolution of each channel by itself along time, with zero padding, stride 1 and a bias.

    It pads explicitly, unlike Keras's layer, so that the export is one grouped convolution for any
    length.

    Args:
        kernel_size: number of taps, odd.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Input shape and output shape: `(batch, time, channels)`.

    Raises:
        UsageError: `kernel_size` is not odd.
    """

    def __init__(self, kernel_size: int = 7, **kwargs: Any):
        super().__init__(**kwargs)
        check_integer("kernel_size", kernel_size)
        if kernel_size % 2 == 0:
            raise UsageError(f"`kernel_size` must be odd. Received: kernel_size={kernel_size}")
        self.kernel_size = int(kernel_size)

    def build(self, input_shape):
        channels = input_shape[-1]
        scale = keras.initializers.RandomNormal(stddev=self.kernel_size**-0.5)
        self.kernel = self.add_weight(
            name="kernel", shape=(self.kernel_size, channels), initializer=scale
        )
        self.bias = self.add_weight(name="bias", shape=(channels,), initializer="zeros")
        self.built = True

    def call(self, inputs):
        edge = self.kernel_size // 2
        padded = tf.pad(inputs, [[0, 0], [edge, edge], [0, 0]])
        filters = ops.cast(self.kernel, inputs.dtype)[None, :, :, None]
        found = tf.nn.depthwise_conv2d(padded[:, None], filters, [1, 1, 1, 1], "VALID")[:, 0]
        return found + ops.cast(self.bias, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel_size": self.kernel_size}


@keras.saving.register_keras_serializable("keras_gan")
class ChannelScale(keras.layers.Layer):
    """A trained factor for each channel, such as that of a residual branch.

    Args:
        start: initial factor.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Reference:
        - [Touvron et al., 2021](https://arxiv.org/abs/2103.17239), section 3
    """

    def __init__(self, start: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        check_number("start", start)
        self.start = float(start)

    def build(self, input_shape):
        start = keras.initializers.Constant(self.start)
        self.scale = self.add_weight(name="scale", shape=(input_shape[-1],), initializer=start)
        self.built = True

    def call(self, inputs):
        return inputs * ops.cast(self.scale, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "start": self.start}


@keras.saving.register_keras_serializable("keras_gan")
class Columns(keras.layers.Layer):
    """Arranges samples in rows of a period, so that a column holds samples one period apart.

    The last row is filled with the reflection of the samples before it.

    Args:
        period: samples of a row, at least 1.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, time, 1)`, a known time above the period. Output shape:
    `(batch, ceil(time / period), period, 1)`.

    Raises:
        UsageError: `period` is out of range.

    Reference:
        - [Kong et al., 2020](https://arxiv.org/abs/2010.05646), section 2.3
    """

    def __init__(self, period: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_integer("period", period)
        self.period = int(period)

    def call(self, inputs):
        period, time = self.period, inputs.shape[1]
        if time is None:
            time = ops.shape(inputs)[1]
        rows = (time + period - 1) // period
        padded = tf.pad(inputs, [[0, 0], [0, rows * period - time], [0, 0]], mode="REFLECT")
        return tf.reshape(padded, (-1, rows, period, 1))

    def compute_output_shape(self, input_shape):
        batch, time, _ = input_shape
        return (batch, None if time is None else -(-time // self.period), self.period, 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "period": self.period}


@keras.saving.register_keras_serializable("keras_gan")
class Magnitudes(keras.layers.Layer):
    """Magnitudes of a short-time Fourier transform with a Hann window, as a picture of one channel.

    Args:
        window: samples of the window and of the transform.
        hop: samples from frame to frame, at most the window.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`; it computes in float32.

    Input shape: `(batch, time, 1)`. Output shape:
    `(batch, ceil(time / hop), window // 2 + 1, 1)`.

    Raises:
        UsageError: an argument out of range.
    """

    def __init__(self, window: int, hop: int, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        check_integer("window", window, 2)
        check_integer("hop", hop)
        if hop > window:
            raise UsageError(
                f"`hop` must be at most `window`. Received: hop={hop}, window={window}"
            )
        self.window, self.hop = int(window), int(hop)

    def call(self, inputs):
        kernels = fourier_kernels(self.window)
        return magnitudes(inputs, kernels, self.hop)[..., None]

    def compute_output_shape(self, input_shape):
        batch, time, _ = input_shape
        frames = None if time is None else -(-time // self.hop)
        return (batch, frames, self.window // 2 + 1, 1)

    def get_config(self) -> dict[str, Any]:
        config = {name: value for name, value in super().get_config().items() if name != "dtype"}
        return {**config, "window": self.window, "hop": self.hop}


def fourier_kernels(window: int) -> np.ndarray:
    """Returns cosines and negative sines with a Hann window, `(window, 2, window // 2 + 1)`."""
    return Mel(window=window, n_fft=window, hop=1, mels=1).kernels
