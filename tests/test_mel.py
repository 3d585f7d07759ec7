"""Tests of the definition of log-mel spectrograms."""

import numpy as np
import pytest

from serving.errors import UsageError
from serving.mel import EPSILON, Mel, multiply


def test_slaneys_scale_is_linear_to_1_khz_and_logarithmic_above():
    mel = Mel(sample_rate=16_000, n_fft=16_000, window=16_000, hop=64, mels=40, high=6400.0)
    peaks = mel.filters.argmax(axis=1)  # Hz, as the DFT has one bin per Hz
    # 1,000 Hz are 15 mels and 6,400 Hz are 42; 40 filters are 42 / 41 mels apart.
    np.testing.assert_allclose(peaks[0], 42 / 41 * 200 / 3, atol=0.5)
    np.testing.assert_allclose(peaks[-1], 1000 * 6.4 ** ((40 * 42 / 41 - 15) / 27), atol=0.5)
    # Triangles of base b and height 2 / b have the area 1.
    np.testing.assert_allclose(mel.filters.sum(axis=1), 1.0, rtol=1e-3)


@pytest.mark.parametrize("samples", [1, 63, 64, 65, 1000])
def test_frames_are_centered_on_their_hops(samples):
    mel = Mel()
    wave = np.random.default_rng(0).uniform(-1, 1, samples)
    values = mel.magnitudes(wave)
    assert values.shape == (-(-samples // 64), 129)
    for frame in {0, len(values) - 1}:
        first = frame * 64 + 32 - 128
        window = [wave[t] if 0 <= t < samples else 0.0 for t in range(first, first + 256)]
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
        direct = np.abs(np.fft.rfft(hann * window))
        np.testing.assert_allclose(values[frame], np.sqrt(direct**2 + EPSILON), atol=1e-9)


def test_kernels_are_the_windowed_transform():
    mel = Mel(window=200, n_fft=256)
    window = np.random.default_rng(0).uniform(-1, 1, 200)
    real, imaginary = np.einsum("t,tcf->cf", window, mel.kernels)
    expected = np.fft.rfft(window * mel.kernels[:, 0, 0], 256)
    np.testing.assert_allclose(real + 1j * imaginary, expected, atol=1e-9)


def test_silence_is_the_logarithm_of_the_floor_and_a_tone_is_in_its_band():
    mel = Mel(floor=1e-2)
    np.testing.assert_allclose(mel(np.zeros((2, 640))), np.log(1e-2), rtol=1e-6)
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)
    loudest = mel(tone)[20:-20].argmax(axis=1)
    assert (loudest == mel.filters[:, 32].argmax()).all()  # bin 32 of 256 is 1 kHz


def test_a_definition_survives_its_meta():
    mel = Mel(sample_rate=16_000, hop=128, low=50.0)
    assert Mel.from_meta(mel.to_meta()) == Mel(sample_rate=16_000, hop=128, low=50.0, high=8000.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"hop": 300},
            "`hop` must be at most `window`, and `window` at most `n_fft`. Received: hop=300",
        ),
        ({"high": 5000.0}, "half of the sampling rate, in order. Received: low=0.0, high=5000.0"),
        ({"floor": 0.0}, "`floor` must be above 0. Received: floor=0.0"),
        ({"floor": 3.0}, "a sine of amplitude 1, 2.212 here. Received: floor=3.0"),
        ({"mels": 200}, "take fewer `mels` or a greater `n_fft`. Received: mels=200, n_fft=256"),
        ({"mels": 2.0}, "`mels` must be a whole number from 1 to 1024. Received: mels=2.0"),
        ({"mels": 1025}, "`mels` must be a whole number from 1 to 1024. Received: mels=1025"),
        ({"n_fft": 10**30}, "`n_fft` must be a whole number from 1 to 65536. Received: n_fft=1000"),
        ({"sample_rate": 768_001}, "from 1 to 768000. Received: sample_rate=768001"),
        ({"high": "4000"}, "`high` must be a number. Received: high='4000'"),
        ({"low": None}, "`low` must be a number. Received: low=None"),
        ({"floor": True}, "`floor` must be a number. Received: floor=True"),
        ({"low": float("nan")}, "in order. Received: low=nan"),
        ({"floor": float("nan")}, "`floor` must be above 0. Received: floor=nan"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError) as error:
        Mel(**options)
    assert message in str(error.value)


def test_unknown_keys_are_named():
    with pytest.raises(UsageError, match="Received: bands"):
        Mel.from_meta({"bands": 40})
    with pytest.raises(UsageError, match=r"must be a mapping. Received: \['hop'\]"):
        Mel.from_meta(["hop"])


def test_the_longest_transform_needs_little_memory():
    mel = Mel(n_fft=65_536, window=65_536, hop=65_536)
    assert mel(np.zeros(100)).shape == (1, 40)  # `kernels` would take 34 GB


@pytest.mark.parametrize("shape", [(0, 129), (1, 129), (200, 129), (3, 50, 129)])
def test_products_in_parts_are_those_of_numpy(shape):
    rng = np.random.default_rng(0)
    rows, matrix = rng.normal(size=shape), rng.normal(size=(129, 40))
    np.testing.assert_allclose(multiply(rows, matrix), rows @ matrix, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("length", [1, 64, 700])
def test_a_part_is_that_of_the_whole(length):
    """Frames beside the clip are those of the clip with zeros around it, then silence."""
    mel = Mel(window=200)
    samples = np.random.default_rng(0).integers(-3000, 3000, length).astype(np.int16)
    around = 10 * mel.hop
    end = mel.frames(length)
    whole = mel(np.pad(samples / 2.0**15, (around, around)))[: end + 20]
    for first, last in ((0, end), (-10, end + 10), (2, 5), (end - 1, end), (-6, -5)):
        found = mel.part(samples, first, last, scale=2.0**15)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, whole[first + 10 : last + 10])
    silent = mel(np.zeros(mel.hop))[0]
    beside = mel.part(samples, -mel.margin - 1, end + mel.margin + 1, scale=2.0**15)
    np.testing.assert_array_equal(beside[[0, -1]], [silent, silent])
