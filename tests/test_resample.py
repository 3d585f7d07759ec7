"""Tests of resampling."""

import numpy as np
import pytest

from serving.errors import UsageError
from serving.resample import resample, resampled_blocks


def sine(frequency, rate, count):
    return np.sin(2 * np.pi * frequency * np.arange(count) / rate)


def decibels(error):
    middle = error[len(error) // 4 : -len(error) // 4]  # a sine that begins is not one frequency
    return 20 * np.log10(np.sqrt(2 * np.mean(middle**2)) + 1e-12)


@pytest.mark.parametrize("rate", [44_100, 48_000, 11_025, 22_050, 16_000])
def test_sines_are_kept_or_vanish(rate):
    """Steady sines, to 8 kHz; soxr HQ errs by -133 and -64 dB, and leaves -145 dB of 5 kHz."""
    for frequency in (440, 1000, 3600):
        made = resample(sine(frequency, rate, 2 * rate)[:, None], rate, 8000)[:, 0]
        assert len(made) == 16_000
        assert decibels(made - sine(frequency, 8000, 16_000)) < -150
    assert decibels(resample(sine(5000, rate, 2 * rate)[:, None], rate, 8000)[:, 0]) < -150


@pytest.mark.parametrize(("rate", "to"), [(8000, 44_100), (8000, 16_000), (16_000, 22_050)])
def test_sines_are_kept_at_a_higher_rate(rate, to):
    made = resample(sine(1000, rate, 2 * rate)[:, None], rate, to)[:, 0]
    assert decibels(made - sine(1000, to, 2 * to)) < -150


@pytest.mark.parametrize(
    ("rate", "to"), [(44_100, 8000), (8000, 16_000), (16_000, 44_100), (44_056, 16_000), (8, 8)]
)
def test_blocks_are_those_of_the_whole(rate, to):
    signal = np.random.default_rng(0).uniform(-1, 1, (150_001, 2))
    whole = resample(signal, rate, to)
    most = []

    def read(first, last):
        most.append(last - first)
        return signal[first:last]

    blocks = list(resampled_blocks(read, len(signal), rate, to, block=10_000))
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)
    assert len(whole) == -(-150_001 * to // rate)
    assert max(most) < 40_000  # of the input that is in memory together
    assert len(blocks) > 10


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_short_signals(count):
    made = resample(np.ones((count, 1)), 44_100, 8000)
    assert made.shape == (-(-count * 8000 // 44_100), 1)
    assert np.isfinite(made).all()


def test_the_start_stays_where_it_was():
    click = np.zeros((44_100, 1))
    click[22_050] = 1.0
    assert resample(click, 44_100, 16_000).argmax() == 8000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((9, 1)), 0, 8000), "`from_rate` must be .*Received: from_rate=0"),
        ((np.zeros((9, 1)), 8000, 8e9), "`to_rate` must be .*Received: to_rate=8000000000.0"),
        ((np.zeros((9, 1)), 8000.5, 8000), "`from_rate` must be a whole number"),
        ((np.zeros(9), 8000, 16_000), r"axes \(time, channels\). Received: shape=\(9,\)"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UsageError, match=message):
        resample(*arguments)
