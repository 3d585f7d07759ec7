"""Waveforms from log-mel spectrograms without a network: the fast Griffin-Lim algorithm."""

from __future__ import annotations

import numpy as np

from serving.errors import UsageError
from serving.mel import Mel

ITERATIONS, MOMENTUM, SEED = 32, 0.99, 0
_FITTING = 100  # updates of the magnitudes that the mel filters are inverted to
_SMALLEST = 1e-8  # divisors and magnitudes
_HIGHEST = 10.0  # of a value; larger ones, of a network that fails, would overflow


def griffin_lim(
    mel: np.ndarray,
    definition: Mel,
    iterations: int = ITERATIONS,
    momentum: float = MOMENTUM,
    seed: int = SEED,
) -> np.ndarray:
    """Returns waveforms whose log-mel spectrograms are nearly the given ones.

    The magnitudes of the DFT are the least-squares ones of at least 0 (`magnitudes_of`). Phases
    begin at random and are those of the nearest waveform after each iteration. The result is the
    same for the same arguments.

    Args:
        mel: log-mel spectrograms `(..., frames, mels)`.
        definition: their definition.
        iterations: number of iterations, from 1.
        momentum: extrapolation of each iteration, from 0 (the original algorithm) up to 1.
        seed: seed of the first phases.

    Returns:
        float32 array `(..., frames * hop)`.

    Raises:
        UsageError: another number of mels, no frames, NaN or infinity, or a value out of range.

    Reference:
        - [Griffin and Lim, 1984](https://doi.org/10.1109/TASSP.1984.1164317)
        - [Perraudin et al., 2013](https://doi.org/10.1109/WASPAA.2013.6701851), algorithm 2
    """
    mel = np.asarray(mel)
    _check(mel, definition, iterations, momentum)
    magnitudes = magnitudes_of(mel, definition)
    turns = np.random.default_rng(seed).random(magnitudes.shape[-2:], np.float32)
    phases = np.exp(np.complex64(2j * np.pi) * turns)
    last = np.zeros(magnitudes.shape, np.complex64)
    for _ in range(iterations):
        # Projection on the spectra of waveforms, then on those of the given magnitudes.
        spectrum = _spectrum(_wave(magnitudes * phases, definition), definition)
        ahead = spectrum + np.float32(momentum) * (spectrum - last)
        phases, last = ahead / np.maximum(np.abs(ahead), np.float32(_SMALLEST)), spectrum
    return _wave(magnitudes * phases, definition)


def magnitudes_of(mel: np.ndarray, definition: Mel) -> np.ndarray:
    """Returns magnitudes of the DFT whose mel spectrograms are nearest to the given ones.

    The filters' pseudo-inverse has negative values. They are cut off, and the rest is fitted to
    the least squares by multiplicative updates.

    Args:
        mel: log-mel spectrograms `(..., frames, mels)`.
        definition: their definition.

    Returns:
        float32 array `(..., frames, n_fft // 2 + 1)`, values from 0.

    Reference: [Lee and Seung, 2001](https://papers.nips.cc/paper/1861), equation 4.
    """
    filters = definition.filters.astype(np.float32)
    # A value at the floor stands for silence: its power is taken from all values.
    floor = np.float32(definition.floor)
    logs = np.minimum(np.asarray(mel, np.float32), np.float32(_HIGHEST))
    energies = np.sqrt(np.maximum(np.exp(2.0 * logs) - floor**2, 0.0))
    found = np.maximum(energies @ np.linalg.pinv(filters).T, np.float32(_SMALLEST))
    wanted = energies @ filters
    for _ in range(_FITTING):
        found *= wanted / np.maximum((found @ filters.T) @ filters, np.float32(_SMALLEST**2))
    return found


def _wave(spectrum: np.ndarray, definition: Mel) -> np.ndarray:
    """Returns the waveforms whose spectra are nearest to the given ones, by least squares."""
    window = definition.kernels[:, 0, 0].astype(np.float32)
    pieces = np.fft.irfft(spectrum, definition.n_fft)[..., : definition.window] * window
    frames = pieces.shape[-2]
    weights = _overlap_add(np.broadcast_to(window**2, (frames, len(window))), definition)
    return _overlap_add(pieces, definition) / np.maximum(weights, np.float32(_SMALLEST))


def _overlap_add(pieces: np.ndarray, definition: Mel) -> np.ndarray:
    """Returns the sum of windows `(..., frames, window)`, without what lies outside the clip."""
    hop, (*batch, frames, window) = definition.hop, pieces.shape
    parts = -(-window // hop)
    pieces = np.pad(pieces, [(0, 0)] * (len(batch) + 1) + [(0, parts * hop - window)])
    total = np.zeros((*batch, frames + parts - 1, hop), pieces.dtype)
    for part in range(parts):
        total[..., part : part + frames, :] += pieces[..., part * hop : (part + 1) * hop]
    before = definition.padding(frames * hop)[0]
    return total.reshape(*batch, -1)[..., before : before + frames * hop]


def _spectrum(wave: np.ndarray, definition: Mel) -> np.ndarray:
    """Returns the DFT of each frame of waveforms, as `Mel` frames them."""
    around = [(0, 0)] * (wave.ndim - 1) + [definition.padding(wave.shape[-1])]
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(wave, around), definition.window, axis=-1
    )[..., :: definition.hop, :]
    hann = definition.kernels[:, 0, 0].astype(np.float32)
    return np.fft.rfft(windows * hann, definition.n_fft)


def _check(mel: np.ndarray, definition: Mel, iterations: int, momentum: float) -> None:
    if mel.ndim < 2 or mel.shape[-1] != definition.mels or not mel.size:
        raise UsageError(
            f"`mel` must be log-mel spectrograms (..., frames, {definition.mels}) of at least 1 "
            f"frame. Received: shape={mel.shape}"
        )
    if not np.isfinite(mel).all():
        raise UsageError("`mel` must be finite numbers. Received: NaN or infinity")
    if iterations < 1 or not 0 <= momentum <= 1:
        raise UsageError(
            "`iterations` must be at least 1 and `momentum` from 0 to 1. "
            f"Received: iterations={iterations}, momentum={momentum}"
        )
