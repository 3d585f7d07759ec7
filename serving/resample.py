"""Resampling of sound by its spectrum: numpy alone, long signals in bounded memory."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator

import numpy as np

from serving.errors import UsageError

HIGHEST_RATE = 768_000  # Hz
PASS = 0.93  # of the lower Nyquist frequency; up to there the gain is 1
_BLOCK = 2**18  # samples of the input that are transformed together
# A transition of width w Hz, the integral of a Kaiser window, has an impulse response that is below
# -150 dB of its peak beyond 8 / w seconds [measured: the blocks equal the whole to 1e-8].
_BETA, _REACH = 16.0, 8.0


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Returns sound at another sampling rate.

    The spectrum is cut off at the lower of the two Nyquist frequencies, with a smooth transition
    from 93 % of it; below that the result is exact to rounding. Sample 0 stays at time 0. Outside
    of the signal there are zeros.

    Args:
        samples: array `(time, channels)`.
        from_rate: its sampling rate in Hz, 1 to 768,000.
        to_rate: the wanted sampling rate in Hz, in the same range.

    Returns:
        float64 array `(ceil(time * to_rate / from_rate), channels)`.

    Raises:
        UsageError: a rate out of range.
    """
    samples = np.asarray(samples, np.float64)
    if samples.ndim != 2:
        raise UsageError(
            "Samples to resample must have the axes (time, channels). "
            f"Received: shape={samples.shape}"
        )
    blocks = resampled_blocks(lambda a, b: samples[a:b], len(samples), from_rate, to_rate)
    return np.concatenate([np.empty((0, samples.shape[1])), *blocks])


def resampled_blocks(
    read: Callable[[int, int], np.ndarray],
    count: int,
    from_rate: int,
    to_rate: int,
    block: int = _BLOCK,
) -> Iterator[np.ndarray]:
    """Yields a signal at another sampling rate block by block, see `resample`.

    Args:
        read: function from the first and the last position, exclusive, to samples
            `(time, channels)`.
        count: number of samples of the signal.
        from_rate: its sampling rate in Hz.
        to_rate: the wanted one.
        block: samples of the signal that are transformed together, beside their surroundings.
    """
    _check_rate("from_rate", from_rate)
    _check_rate("to_rate", to_rate)
    divisor = math.gcd(from_rate, to_rate)
    up, down = to_rate // divisor, from_rate // divisor
    if up == down:
        for first in range(0, count, block):
            yield np.asarray(read(first, min(count, first + block)), np.float64)
        return
    # Blocks begin and end where a sample of the input and one of the output are at the same time.
    step = down * max(1, block // down)
    width = (1.0 - PASS) * min(from_rate, to_rate) / 2.0
    reach = down * math.ceil(_REACH / width * from_rate / down)
    total = -(-count * up // down)
    for first in range(0, count, step):
        last = min(count, first + step)
        begin, end = max(0, first - reach), min(count, last + reach)
        found = _transformed(read(begin, end), first - reach - begin, reach, up, down)
        offset = reach // down * up
        size = min(step // down * up, total - first // down * up)
        yield found[offset : offset + size]


def _transformed(samples: np.ndarray, first: int, reach: int, up: int, down: int) -> np.ndarray:
    """Returns samples at the rate `up / down`, from the position `first`, at most 0, on."""
    used = len(samples) - first + reach  # zeros after the end keep it from reaching the start
    length = down * _smooth(-(-used // down))
    padded = np.zeros((length, samples.shape[1]))
    padded[-first : len(samples) - first] = samples
    made = length // down * up
    spectrum = np.fft.rfft(padded, axis=0)[: min(length, made) // 2 + 1]
    spectrum *= _gains(len(spectrum), min(length, made))[:, np.newaxis]
    return np.fft.irfft(spectrum, made, axis=0) * (made / length)


@functools.lru_cache(maxsize=8)
def _gains(count: int, length: int) -> np.ndarray:
    """Returns the gain of each frequency of a DFT of a length: 1, and 0 at the Nyquist frequency.

    Between them it is the integral of a Kaiser window, whose spectrum decays quickly.
    """
    knots = np.linspace(0.0, 1.0, 4097)
    falling = 1.0 - np.cumsum(np.kaiser(4097, _BETA)) / np.kaiser(4097, _BETA).sum()
    at = (2.0 * np.arange(count) / length - PASS) / (1.0 - PASS)
    return np.interp(at, knots, falling, left=1.0, right=0.0)


def _smooth(least: int) -> int:
    """Returns the smallest product of twos, threes and fives of at least a number, for the FFT."""
    best = 1 << (least - 1).bit_length()
    for fives in range(1 + int(math.log(best, 5))):
        for threes in range(1 + int(math.log(best, 3))):
            rest = 3**threes * 5**fives
            twos = max(0, (-(-least // rest) - 1).bit_length())
            best = min(best, rest << twos)
    return best


def _check_rate(name: str, rate: int) -> None:
    if isinstance(rate, bool) or int(rate) != rate or not 1 <= rate <= HIGHEST_RATE:
        raise UsageError(
            f"`{name}` must be a whole number of Hz from 1 to {HIGHEST_RATE}. "
            f"Received: {name}={rate!r}"
        )
