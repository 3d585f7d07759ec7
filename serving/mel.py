"""Log-mel spectrograms: their definition, and numpy's side of it.

One definition serves the data, the metrics, `keras_gan.layers.LogMel` and the bundle, so a vocoder
always receives the spectrogram that it was trained on.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.errors import UsageError
from serving.resample import HIGHEST_RATE

LINEAR_STEP = 200.0 / 3.0  # Hz per mel below 1 kHz
LOG_FROM = 1000.0  # Hz
LOG_STEP = np.log(6.4) / 27.0  # mels above 1 kHz, in ln(Hz)
ONE_THREAD = 200_000  # multiplications of a product that OpenBLAS computes in one thread
_LONGEST_FFT, _MOST_MELS = 65_536, 1_024
EPSILON = 1e-9  # under the root of the power, so that its gradient is finite at silence


@dataclasses.dataclass(frozen=True)
class Mel:
    """Definition of a log-mel spectrogram.

    Frame `f` is the Hann window of `window` samples around sample `(f + 1/2) * hop`. `n` samples
    have `ceil(n / hop)` frames; outside of the clip the signal is 0. The values are
    `ln(max(floor, filters @ |DFT|))`, with triangular filters of equal area on Slaney's mel scale.

    Args:
        sample_rate: sampling rate in Hz, at most 768,000.
        hop: samples from frame to frame.
        window: samples of the Hann window, at least `hop`.
        n_fft: length of the DFT in samples, at least `window` and at most 65,536.
        mels: number of filters, at most 1,024.
        low: lowest frequency in Hz.
        high: highest frequency in Hz, at most half of the sampling rate, which is the default.
        floor: least magnitude, above 0 and below that of a sine of amplitude 1.

    Raises:
        UsageError: a value out of range, or filters so narrow that one holds no frequency.

    Reference: Slaney, 1998, Auditory Toolbox, version 2.
    """

    sample_rate: int = 8_000
    hop: int = 64
    window: int = 256
    n_fft: int = 256
    mels: int = 40
    low: float = 0.0
    high: float | None = None
    floor: float = 1e-5

    def __post_init__(self) -> None:
        self._check_numbers()
        if not self.hop <= self.window <= self.n_fft:
            raise UsageError(
                "`hop` must be at most `window`, and `window` at most `n_fft`. Received: "
                f"hop={self.hop}, window={self.window}, n_fft={self.n_fft}"
            )
        if not 0.0 <= self.low < self.top <= self.sample_rate / 2:
            raise UsageError(
                "`low` and `high` must be frequencies of 0 to half of the sampling rate, in order. "
                f"Received: low={self.low}, high={self.high}, sample_rate={self.sample_rate}"
            )
        if not 0.0 < self.floor < np.inf:
            raise UsageError(f"`floor` must be above 0. Received: floor={self.floor}")
        if not self.filters.any(axis=1).all():
            raise UsageError(
                "Every mel filter must hold a frequency of the DFT; take fewer `mels` or a greater "
                f"`n_fft`. Received: mels={self.mels}, n_fft={self.n_fft}"
            )
        if self.floor >= self._largest:
            raise UsageError(
                "`floor` must be below the largest magnitude of a sine of amplitude 1, "
                f"{self._largest:.4g} here. Received: floor={self.floor}"
            )

    def _check_numbers(self) -> None:
        """Checks each value alone, so that the rules between them compare numbers."""
        lengths = dict.fromkeys(("hop", "window", "n_fft"), _LONGEST_FFT)
        for name, most in {"sample_rate": HIGHEST_RATE, **lengths, "mels": _MOST_MELS}.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise UsageError(
                    f"`{name}` must be a whole number from 1 to {most}. Received: {name}={value!r}"
                )
        for name in ("low", "high", "floor"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number and not (name == "high" and value is None):
                raise UsageError(f"`{name}` must be a number. Received: {name}={value!r}")

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> Mel:
        """Returns the definition that `to_meta` wrote.

        Raises:
            UsageError: no mapping, an unknown key, or a value out of range.
        """
        if not isinstance(meta, Mapping):
            raise UsageError(f"A mel definition must be a mapping. Received: {meta!r}")
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(meta) - known)
        if unknown:
            raise UsageError(
                f"A mel definition must have the keys {', '.join(sorted(known))}. "
                f"Received: {', '.join(unknown)}"
            )
        return cls(**meta)

    def to_meta(self) -> dict[str, Any]:
        """Returns the definition as plain values, `high` as a number."""
        return dataclasses.asdict(self) | {"high": self.top}

    @property
    def top(self) -> float:
        """Highest frequency in Hz."""
        return self.sample_rate / 2 if self.high is None else self.high

    @functools.cached_property
    def loudest(self) -> float:
        """Upper end of the values in practice: that of a sine of amplitude 1, where it is largest.

        The main lobe of the window has the sum of its samples as the sum of its magnitudes. Speech
        whose peaks are at 0.95 comes to 60 % of it.
        """
        return float(np.log(self._largest))

    @property
    def _largest(self) -> float:
        return float(self.filters.max() * self.hann.sum())

    @functools.cached_property
    def filters(self) -> np.ndarray:
        """Triangular filters, float64 `(mels, n_fft // 2 + 1)`; each integral over Hz is 1."""
        frequencies = np.arange(self.n_fft // 2 + 1) * self.sample_rate / self.n_fft
        low, high = _to_mel(np.array([self.low, self.top]))
        edges = _to_hz(np.linspace(low, high, self.mels + 2))[:, None]
        rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
        falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
        triangles = np.maximum(0.0, np.minimum(rising, falling))
        return triangles * 2.0 / (edges[2:] - edges[:-2])

    @functools.cached_property
    def hann(self) -> np.ndarray:
        """Periodic Hann window, float64 `(window,)`."""
        return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(self.window) / self.window)

    @functools.cached_property
    def kernels(self) -> np.ndarray:
        """Windowed DFT, float64 `(window, 2, n_fft // 2 + 1)`: cosines, then negative sines."""
        times = np.arange(self.window)
        angles = 2.0 * np.pi * np.outer(times, np.arange(self.n_fft // 2 + 1)) / self.n_fft
        return self.hann[:, None, None] * np.stack([np.cos(angles), -np.sin(angles)], axis=1)

    def frames(self, samples: int) -> int:
        """Returns the number of frames of a number of samples."""
        return -(-samples // self.hop)

    def padding(self, samples: int) -> tuple[int, int]:
        """Returns the zeros before and after a clip of a number of samples."""
        before = (self.window - self.hop) // 2
        whole = (self.frames(samples) - 1) * self.hop + self.window
        return before, max(0, whole - before - samples)

    def magnitudes(self, samples: np.ndarray) -> np.ndarray:
        """Returns the magnitudes of the DFT of each frame.

        Args:
            samples: array `(..., time)`.

        Returns:
            float64 array `(..., frames, n_fft // 2 + 1)`.
        """
        samples = np.asarray(samples, np.float64)
        around = [(0, 0)] * (samples.ndim - 1) + [self.padding(samples.shape[-1])]
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(samples, around), self.window, axis=-1
        )[..., :: self.hop, :]
        # An FFT is faster than the product with `kernels`, and needs less memory.
        spectrum = np.fft.rfft(windows * self.hann, self.n_fft)
        return np.sqrt(spectrum.real**2 + spectrum.imag**2 + EPSILON)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Returns the log-mel spectrogram of clips.

        Args:
            samples: array `(..., time)` with values in [-1, 1].

        Returns:
            float32 array `(..., frames, mels)`, values from `ln(floor)`.
        """
        mels = multiply(self.magnitudes(samples), self.filters.T)
        return np.log(np.maximum(self.floor, mels)).astype(np.float32)

    @property
    def margin(self) -> int:
        """Number of frames beside a clip whose windows still reach its ends."""
        return -(-self.window // self.hop)

    def part(self, samples: np.ndarray, first: int, last: int, scale: float = 1.0) -> np.ndarray:
        """Returns frames of the spectrogram of a clip, computed from the samples around them alone.

        Args:
            samples: array `(time,)`, the clip, or a map of its file.
            first: first frame; frames before 0 and after the clip are beside it.
            last: frame after the last one.
            scale: value of a full-scale sample, by which the samples are divided, default 1.

        Returns:
            float32 array `(last - first, mels)`.
        """
        begin, stop = (first - self.margin) * self.hop, (last + self.margin) * self.hop
        low, high = (min(max(0, at), len(samples)) for at in (begin, stop))
        padded = np.zeros(stop - begin)
        padded[low - begin : high - begin] = samples[low:high] / scale
        return self(padded)[self.margin : self.margin + last - first]


def multiply(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Returns `rows @ matrix`, computed by one thread.

    OpenBLAS divides a larger product among threads, which wait for each other: on a busy machine
    the spectrogram of a second took 32 ms instead of 0.2 ms.

    Args:
        rows: float array `(..., inner)`.
        matrix: float array `(inner, columns)`.
    """
    flat = rows.reshape(-1, rows.shape[-1])
    found = np.empty((len(flat), matrix.shape[1]), np.result_type(rows, matrix))
    step = max(1, ONE_THREAD // matrix.size)
    for first in range(0, len(flat), step):
        np.matmul(flat[first : first + step], matrix, out=found[first : first + step])
    return found.reshape(*rows.shape[:-1], matrix.shape[1])


def _to_mel(frequencies: np.ndarray) -> np.ndarray:
    logs = LOG_FROM / LINEAR_STEP + np.log(np.maximum(frequencies, 1.0) / LOG_FROM) / LOG_STEP
    return np.where(frequencies < LOG_FROM, frequencies / LINEAR_STEP, logs)


def _to_hz(mels: np.ndarray) -> np.ndarray:
    first = LOG_FROM / LINEAR_STEP
    return np.where(mels < first, mels * LINEAR_STEP, LOG_FROM * np.exp(LOG_STEP * (mels - first)))
