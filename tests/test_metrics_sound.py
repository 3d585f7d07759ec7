"""Tests of the metrics of sounds and their real partners, with values worked out by hand."""

import importlib.util

import numpy as np
import pytest

from keras_gan import metrics
from keras_gan.errors import UsageError
from keras_gan.metrics import waves
from keras_gan.metrics.pesq import is_installed
from serving.mel import Mel

RATE = 8_000
TIMES = np.arange(RATE) / RATE
PAIRS = {
    "log_mel_l1": metrics.log_mel_l1,
    "mr_stft": metrics.mr_stft,
    "mcd": metrics.mcd,
    "f0_error": metrics.f0_error,
    "level_error": metrics.level_error,
    "stoi": metrics.stoi,
}


def voice(frequency=150.0, seconds=1.0, rate=RATE):
    """Returns one clip of harmonics under an envelope of syllables, `(1, time)`."""
    times = np.arange(round(seconds * rate)) / rate
    below = range(1, int(rate / 2 / frequency))
    harmonics = sum(np.sin(2 * np.pi * frequency * k * times) / k for k in below)
    return (0.2 * harmonics * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * times)))[np.newaxis]


def noise(scale, seconds=1.0, seed=0):
    return scale * np.random.default_rng(seed).standard_normal((1, round(seconds * RATE)))


@pytest.mark.parametrize("name", PAIRS)
def test_equal_clips(name):
    clips = np.concatenate([voice(), noise(0.1)])
    best = {"stoi": pytest.approx(1.0)}.get(name, 0.0)
    assert float(PAIRS[name](clips, clips, RATE)) == best


def test_a_gain_of_6_db():
    clip = noise(0.1)  # all frequencies are above the floor
    half = clip / 2
    assert metrics.log_mel_l1(clip, half, RATE) == pytest.approx(np.log(2), abs=1e-3)
    assert metrics.mcd(clip, half, RATE) == pytest.approx(0.0, abs=1e-3)  # c_0 is left out
    # Spectral convergence |X - X / 2| / |X| = 1/2, and ln 2 of the logarithms.
    assert metrics.mr_stft(clip, half, RATE) == pytest.approx(0.5 + np.log(2), abs=5e-3)
    found = metrics.level_error(clip, half, RATE)
    assert found == pytest.approx((6.0206, -6.0206), abs=1e-4)
    assert metrics.stoi(clip, half, RATE) == pytest.approx(1.0)
    clip = voice()
    assert metrics.f0_error(clip, clip / 2, RATE)[:2] == pytest.approx((0.0, 0.0), abs=1e-6)


def test_level_errors_do_not_cancel_in_the_mean():
    clips = np.repeat(noise(0.1), 2, axis=0)
    found = metrics.level_error(clips, clips * [[2.0], [0.5]], RATE)
    assert found == pytest.approx((6.0206, 0.0), abs=1e-4)


def test_silence():
    clip, silence = noise(0.1), np.zeros((1, RATE))
    level = 10 * np.log10(np.square(clip).mean())
    assert metrics.level_error(clip, silence, RATE) == pytest.approx((100 + level, -100 - level))
    assert np.isnan(metrics.mcd(silence, clip, RATE))  # of no frame
    assert 2 < metrics.log_mel_l1(silence, clip, RATE) < 20
    assert np.isnan(metrics.mr_stft(silence, clip, RATE))
    both = np.concatenate([silence, clip]), np.concatenate([clip, clip / 2])
    assert metrics.mr_stft(*both, RATE) == metrics.mr_stft(clip, clip / 2, RATE)
    assert np.isnan(metrics.stoi(silence, clip, RATE))
    assert metrics.stoi(clip, silence, RATE) == pytest.approx(0.0)
    found = metrics.f0_error(silence, voice(), RATE)
    assert np.isnan(found.cents)
    assert found.voicing > 0.9
    assert found.frames == 0
    for name in ("log_mel_l1", "level_error"):
        assert float(PAIRS[name](silence, silence, RATE)) == 0.0


def test_a_delay_counts_more_the_longer_it_is():
    clip = speech()  # without repetition
    for name in ("log_mel_l1", "mr_stft", "mcd"):
        values = [float(PAIRS[name](clip, np.roll(clip, n), RATE)) for n in (0, 80, 1200)]
        assert values[0] == 0 < values[1] < values[2], name
    values = [metrics.stoi(clip, np.roll(clip, n), RATE) for n in (0, 80, 1200)]
    assert values[0] > values[1] > values[2]


def test_mcd_of_an_envelope_that_differs_by_a_cosine():
    """A ripple of 6 dB over the mel bands has the root mean square 6 / sqrt(2) dB."""
    mel = waves.standard_mel(RATE)
    rng, shift = np.random.default_rng(0), 20 * np.log10(2)
    clip = rng.standard_normal((1, 4 * RATE)) * 0.1
    centers = mel.filters @ np.arange(129) / mel.filters.sum(axis=1) * RATE / 256
    ripple = shift * np.cos(np.pi * 2 * (np.arange(40) + 0.5) / 40)
    frequencies = np.fft.rfftfreq(clip.shape[1], 1 / RATE)
    gains = 10 ** (np.interp(frequencies, centers, ripple) / 20)
    other = np.fft.irfft(np.fft.rfft(clip) * gains, clip.shape[1])
    assert metrics.mcd(clip, other, RATE) == pytest.approx(shift / np.sqrt(2), rel=0.03)


def test_the_standard_definition_follows_the_sampling_rate():
    assert waves.standard_mel(8_000) == Mel()
    expected = Mel(16_000, hop=128, window=512, n_fft=512, mels=80)
    assert waves.standard_mel(16_000) == expected
    for rate in (1_000, 4_000, 11_025, 22_050, 24_000, 44_100, 48_000, 96_000):
        mel = waves.standard_mel(rate)
        assert 0.022 < mel.window / rate < 0.046
    with pytest.raises(UsageError, match=r"at least 1,000 Hz for a metric of sound\. Received: "):
        waves.standard_mel(999)


def test_a_channel_is_a_clip():
    two = np.stack([voice()[0], noise(0.1)[0]])
    half = two * [[1.0], [0.5]]
    for name, metric in PAIRS.items():
        expected = float(metric(two, half, RATE))
        stereo = [x.T[np.newaxis] for x in (two, half)]
        assert float(metric(*stereo, RATE)) == pytest.approx(expected), name


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050])
@pytest.mark.parametrize("frequency", [61.0, 100.0, 220.0, 440.0, 495.0])
def test_the_pitch_of_tones(rate, frequency):
    tone = 0.3 * np.sin(2 * np.pi * frequency * np.arange(rate) / rate)
    for clip in (tone, voice(frequency, rate=rate)[0]):
        found = metrics.track_pitch(clip, rate)
        assert len(found) == 100
        inner = found[5:-5]
        assert (inner > 0).all()
        assert np.abs(1200 * np.log2(inner / frequency)).max() < 5  # cents


def test_the_pitch_of_a_glide_noise_and_silence():
    frequency = 150 * 2**TIMES
    phase = 2 * np.pi * np.cumsum(frequency) / RATE
    glide = 0.2 * sum(np.sin(k * phase) / k for k in range(1, 8))
    found = metrics.track_pitch(glide, RATE)[5:-5]
    expected = 150 * 2 ** (np.arange(5, 95) * 0.01)
    assert np.abs(1200 * np.log2(found / expected)).max() < 15
    assert not metrics.track_pitch(noise(0.1)[0], RATE).any()
    assert not metrics.track_pitch(np.zeros(RATE), RATE).any()
    assert not metrics.track_pitch(0.5 * np.ones(RATE), RATE)[5:-5].any()
    assert len(metrics.track_pitch(np.zeros(1), RATE)) == 1


def test_the_error_of_a_semitone_and_of_an_octave():
    clip = voice(150.0)
    found = metrics.f0_error(clip, voice(150.0 * 2 ** (1 / 12)), RATE)
    assert found.cents == pytest.approx(100, abs=3)
    assert found.voicing < 0.05
    assert metrics.f0_error(clip, voice(300.0), RATE).cents == pytest.approx(1200, abs=10)
    mixed = np.concatenate([clip[:, :4000], noise(0.1)[:, 4000:]], axis=1)
    assert metrics.f0_error(clip, mixed, RATE).voicing == pytest.approx(0.5, abs=0.06)


# Of pystoi 0.4.1, for `speech()` below with white noise of these scales.
STOI = {0.003: 0.98975, 0.03: 0.81601, 0.3: 0.25799}


def speech(rate=RATE):
    """Returns 2 s of bands of noise under random envelopes, which no package needs to make."""
    rng, count = np.random.default_rng(0), 2 * rate
    total = np.zeros(count)
    frequencies = np.fft.rfftfreq(count, 1 / rate)
    for low in (100, 300, 700, 1500, 2500):
        band = np.fft.rfft(rng.standard_normal(count))
        band[(frequencies < low) | (frequencies > 1.6 * low)] = 0
        knots = rng.uniform(0, 1, 17) ** 2
        total += np.fft.irfft(band, count) * np.interp(
            np.arange(count), np.linspace(0, count, 17), knots
        )
    return (0.3 * total / total.std() * 0.3)[np.newaxis]


@pytest.mark.parametrize("scale", STOI)
def test_stoi_is_that_of_pystoi(scale):
    clip = speech()
    noisy = clip + noise(scale, 2.0, seed=1)
    found = metrics.stoi(clip, noisy, RATE)
    assert found == pytest.approx(STOI[scale], abs=2e-3)
    if importlib.util.find_spec("pystoi"):
        package = importlib.import_module("pystoi")
        assert found == pytest.approx(package.stoi(clip[0], noisy[0], RATE), abs=2e-3)


def test_pesq_names_its_extra_and_its_rates():
    clip = voice()
    with pytest.raises(UsageError, match=r"8,000 Hz \(narrow band\) or 16,000 Hz \(wide band\)"):
        metrics.pesq(clip, clip, 22_050)
    if is_installed():
        assert metrics.pesq(clip, clip, RATE) == pytest.approx(4.5486, abs=1e-3)
        worse = metrics.pesq(clip, clip + noise(0.05), RATE)
        assert 1 < worse < 3
        assert metrics.pesq(clip, 0 * clip, RATE) == 1.0
        assert np.isnan(metrics.pesq(0 * clip, clip, RATE))
    else:
        with pytest.raises(UsageError, match=r"pip install 'keras-gan\[sound-metrics\]'\. Receiv"):
            metrics.pesq(clip, clip, RATE)


@pytest.mark.parametrize(
    ("real", "generated", "message"),
    [
        (np.zeros((2, 800)), np.zeros((2, 801)), "Received: (2, 800) and (2, 801)"),
        (np.zeros(800), np.zeros(800), "Received: (800,) and (800,)"),
        (np.zeros((0, 800)), np.zeros((0, 800)), "Received: (0, 800) and (0, 800)"),
        (
            np.zeros((1, 800), int),
            np.zeros((1, 800)),
            "`real` must be finite floats in [-1, 1]. Re",
        ),
        (np.zeros((1, 800)), np.full((1, 800), np.inf), "`generated` must be finite floats in "),
    ],
)
@pytest.mark.parametrize("name", PAIRS)
def test_bad_clips(name, real, generated, message):
    with pytest.raises(UsageError) as error:
        PAIRS[name](real, generated, RATE)
    assert message in str(error.value)


def test_clips_that_are_too_short_for_a_metric():
    short = np.zeros((1, 800))
    with pytest.raises(UsageError, match=r"at least 0.3968 s .* Received: 800 samples at 8000 Hz"):
        metrics.stoi(short, short, RATE)
    with pytest.raises(UsageError, match=r"for this metric\. Received: 400 samples at 8000 Hz"):
        metrics.mel_patch_distance(np.zeros((2, 400)), np.zeros((2, 400)), RATE)


def test_the_patch_distance_of_spectrograms_does_not_hear_phases():
    rng = np.random.default_rng(0)

    def clips(low, high, count=32):
        phases, pitches = rng.uniform(0, 6, (count, 1)), rng.uniform(low, high, (count, 1))
        times = np.arange(2048) / RATE
        harmonics = sum(np.sin(2 * np.pi * pitches * k * times + phases * k) for k in range(1, 8))
        return 0.1 * harmonics + rng.normal(0, 1e-3, harmonics.shape)

    real, same, others = clips(100, 200), clips(100, 200), clips(300, 400)
    hiss = rng.normal(0, 0.1, real.shape)
    distances = [metrics.mel_patch_distance(real, x, RATE).mean for x in (same, others, hiss)]
    assert distances[1] > 1.5 * distances[0]
    assert distances[2] > 1.5 * distances[0]
