"""Tests of waveforms from log-mel spectrograms without a network."""

import numpy as np
import pytest

from serving.errors import UsageError
from serving.griffin_lim import griffin_lim, magnitudes_of
from serving.mel import Mel

MEL = Mel()


def speech_like(samples=8000, pitch=120.0):
    """Returns harmonics of a pitch under an envelope of syllables."""
    times = np.arange(samples) / 8000
    harmonics = sum(np.sin(2 * np.pi * pitch * k * times) / k for k in range(1, 20))
    return 0.2 * harmonics * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * times))


def test_the_spectrogram_of_the_waveform_is_the_given_one():
    wave = speech_like()
    given = MEL(wave)
    made = griffin_lim(given, MEL)
    assert made.shape == (8000,)
    assert made.dtype == np.float32
    errors = [np.abs(MEL(griffin_lim(given, MEL, n)) - given).mean() for n in (1, 8, 32)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.2
    # Magnitudes alone, without phases that fit, are nearer still.
    fitted = np.log(np.maximum(MEL.floor, magnitudes_of(given, MEL) @ MEL.filters.T))
    assert np.abs(fitted - given).mean() < 0.05


def test_a_tone_keeps_its_frequency_and_level():
    tone = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)
    made = griffin_lim(MEL(tone), MEL)[1000:-1000]
    spectrum = np.abs(np.fft.rfft(made * np.hanning(len(made))))
    assert abs(spectrum.argmax() * 8000 / len(made) - 1000) < 40  # the width of a mel
    assert 20 * np.log10(made.std() / tone.std()) == pytest.approx(0.0, abs=1.5)


def test_silence_stays_silent():
    made = griffin_lim(np.full((50, 40), np.log(MEL.floor), np.float32), MEL)
    assert np.abs(made).max() < 1e-3  # -60 dB


@pytest.mark.parametrize(
    "mel", [Mel(hop=80, window=200, n_fft=256), Mel(hop=100, window=256), Mel(hop=256)]
)
def test_any_hop_and_window(mel):
    wave = speech_like(4000)
    made = griffin_lim(mel(wave), mel)
    assert made.shape == (mel.frames(4000) * mel.hop,)
    assert np.isfinite(made).all()
    assert np.abs(mel(made) - mel(np.pad(wave, (0, len(made) - 4000)))).mean() < 0.4


def test_the_result_is_the_same_each_time_and_for_each_clip_of_a_batch():
    clips = np.stack([MEL(speech_like(1600, pitch)) for pitch in (100.0, 150.0)])
    together = griffin_lim(clips, MEL, 4)
    np.testing.assert_array_equal(together, griffin_lim(clips, MEL, 4))
    np.testing.assert_allclose(together[1], griffin_lim(clips[1], MEL, 4), atol=1e-5)
    assert np.abs(together - griffin_lim(clips, MEL, 4, seed=1)).max() > 1e-3


def test_one_frame():
    assert griffin_lim(np.zeros((1, 40)), MEL).shape == (64,)


@pytest.mark.parametrize(
    ("mel", "options", "message"),
    [
        (np.zeros((5, 39)), {}, "(..., frames, 40) of at least 1 frame. Received: shape=(5, 39)"),
        (np.zeros((0, 40)), {}, "Received: shape=(0, 40)"),
        (np.full((5, 40), np.nan), {}, "`mel` must be finite numbers. Received: NaN or infinity"),
        (np.zeros((5, 40)), {"iterations": 0}, "Received: iterations=0, momentum=0.99"),
        (np.zeros((5, 40)), {"momentum": 1.5}, "Received: iterations=32, momentum=1.5"),
    ],
)
def test_bad_inputs(mel, options, message):
    with pytest.raises(UsageError) as error:
        griffin_lim(mel, MEL, **options)
    assert message in str(error.value)
