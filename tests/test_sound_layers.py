"""Layers for sound: spectrograms, overlap-add, interpolation, depthwise convolutions."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sounds import MEL, decibels, silence

from keras_gan import UsageError
from keras_gan.layers import (
    ChannelScale,
    Columns,
    DepthwiseConv1D,
    FramesToSamples,
    LogMel,
    Loudness,
    Magnitudes,
    OverlapAdd,
    VocoderInput,
)
from serving.mel import Mel

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("samples", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize("options", [{}, {"window": 200, "hop": 80, "mels": 20, "floor": 1e-3}])
def test_log_mels_are_those_of_the_definition(samples, options):
    waves = RNG.uniform(-1, 1, (2, samples)).astype("float32")
    layer, mel = LogMel(**options), Mel(**options)
    found = layer(waves).numpy()
    np.testing.assert_allclose(found, mel(waves), atol=1e-4)
    np.testing.assert_array_equal(layer(waves[..., None]), found)
    assert layer.compute_output_shape((2, samples)) == found.shape
    assert layer.compute_output_shape((None, None, 1)) == (None, None, mel.mels)


def test_log_mels_beside_a_loud_tone_differ_by_the_rounding_of_float32():
    tone = (0.9 * np.sin(0.3 * np.arange(4000)))[None].astype("float32")
    difference = np.abs(LogMel()(tone).numpy() - MEL(tone))
    assert np.median(difference) < 1e-5
    assert difference.max() < 2e-3


def test_gradients_of_log_mels_are_finite_at_silence():
    layer = LogMel()
    waves = tf.Variable(tf.zeros((1, 500)))
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer(waves))
    gradient = tape.gradient(value, waves).numpy()
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(layer(waves), silence(8), rtol=1e-6)


@pytest.mark.parametrize(("hop", "window"), [(64, 256), (64, 200), (64, 64), (80, 161)])
@pytest.mark.parametrize("frames", [1, 5])
def test_overlap_add(hop, window, frames):
    windows = RNG.normal(size=(2, frames, window)).astype("float32")
    before = (window - hop) // 2
    expected = np.zeros((2, frames * hop + 2 * window))
    for f in range(frames):
        expected[:, window + f * hop - before :][:, :window] += windows[:, f]
    layer = OverlapAdd(hop)
    found = layer(windows).numpy()
    np.testing.assert_allclose(found[..., 0], expected[:, window:][:, : frames * hop], atol=1e-5)
    free = keras.Input((None, window))
    model = keras.Model(free, layer(free))
    np.testing.assert_array_equal(model(windows), found)
    with pytest.raises(UsageError, match=r"`hop` must be at most .* Received: hop=64, .* of 32"):
        OverlapAdd(64)(np.zeros((1, 2, 32), "float32"))


def test_frames_are_interpolated_between_their_centers():
    values = np.array([1.0, 3.0, 2.0], "float32")
    found = FramesToSamples(8)(values[None, :, None]).numpy()[0, :, 0]
    centers = np.arange(3) * 8 + 3.5
    times = np.arange(24)
    inner = (times > centers[0]) & (times < centers[-1])
    expected = np.interp(times, centers, values)
    np.testing.assert_allclose(found[inner], expected[inner], rtol=1e-6)
    assert found[0] == pytest.approx(values[0] * 0.5625)  # falls toward half at the end


@pytest.mark.parametrize("kernel_size", [1, 7])
def test_depthwise_convolutions(kernel_size):
    layer, values = DepthwiseConv1D(kernel_size), RNG.normal(size=(2, 11, 3)).astype("float32")
    layer.build(values.shape)
    layer.bias.assign([1.0, 2.0, 3.0])
    kernel, edge = layer.kernel.numpy(), kernel_size // 2
    padded = np.pad(values, [(0, 0), (edge, edge), (0, 0)])
    expected = sum(padded[:, i : i + 11] * kernel[i] for i in range(kernel_size))
    np.testing.assert_allclose(layer(values), expected + np.array([1.0, 2.0, 3.0]), atol=1e-5)
    with pytest.raises(UsageError, match=r"`kernel_size` must be odd. Received: kernel_size=4"):
        DepthwiseConv1D(4)


def test_loudness_is_proportional_to_the_amplitude():
    noise = RNG.normal(0, 0.1, 16_000)
    layer = Loudness(MEL.to_meta())
    found = layer(MEL(noise)[None]).numpy().mean()
    assert 0.077 < found < 0.09  # 0.77 of the amplitude, and the variance of the magnitudes
    assert layer(MEL(0.5 * noise)[None]).numpy().mean() == pytest.approx(0.5 * found, rel=1e-2)
    other = Mel(sample_rate=16_000, n_fft=1024, window=1024, hop=256, mels=80)
    found = Loudness(other.to_meta())(other(noise)[None]).numpy().mean()
    assert 0.077 < found < 0.09
    assert decibels(layer(silence(5))) < -85


def test_columns_hold_samples_a_period_apart():
    samples = np.arange(1.0, 9.0, dtype="float32")[None, :, None]
    found = Columns(3)(samples).numpy()[0, :, :, 0]
    np.testing.assert_array_equal(found, [[1, 2, 3], [4, 5, 6], [7, 8, 7]])


def test_magnitudes():
    waves = RNG.normal(size=(2, 100, 1)).astype("float32")
    found = Magnitudes(32, 8)(waves).numpy()[..., 0]
    mel = Mel(hop=8, window=32, n_fft=32, mels=2)
    np.testing.assert_allclose(found, mel.magnitudes(waves[..., 0]), atol=1e-4)
    with pytest.raises(UsageError, match=r"`hop` must be at most `window`"):
        Magnitudes(32, 33)


@pytest.mark.parametrize(
    "layer",
    [
        LogMel(mels=20, hop=32),
        VocoderInput(MEL.to_meta(), 3),
        Loudness(MEL.to_meta()),
        OverlapAdd(32),
        FramesToSamples(32),
        DepthwiseConv1D(5),
        ChannelScale(0.5),
        Columns(5),
        Magnitudes(64, 16),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_are_saved(layer):
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
