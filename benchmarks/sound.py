"""Metrics of sound on Debian's spoken sentences: the real files, Griffin-Lim, WORLD and noise.

    apt-get install asterisk-core-sounds-en-wav
    pip install 'keras-gan[sound-metrics]' pyworld 'setuptools<81'  # both optional
    taskset -c 0 python benchmarks/sound.py

The test files are the 28 of the sentences of at least half a second whose names have the smallest
SHA-256. A file without its last part of a hop is one clip. Each row is the mean over the files; the
real-time factor is processor time over duration. WORLD runs at 16 kHz: its aperiodicity has no band
below 8 kHz.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import sentences
from scipy import signal

from keras_gan import metrics
from keras_gan.metrics.pesq import is_installed
from serving.griffin_lim import griffin_lim
from serving.mel import Mel

MEL = Mel()
NAMES = ("log_mel_l1", "mr_stft", "pesq", "stoi", "mcd", "f0_error", "voicing_error", "level_bias")

Resynthesis = Callable[[np.ndarray], np.ndarray]


def clips(count: int) -> list[np.ndarray]:
    """Returns the test files, each without its last part of a hop."""
    found = sentences.read(MEL.sample_rate)
    whole = [wave[: len(wave) // MEL.hop * MEL.hop] for wave in found]
    return [wave for wave in whole if len(wave) >= MEL.sample_rate // 2][:count]


def world(wave: np.ndarray) -> np.ndarray:
    """Returns a clip that WORLD has analyzed and synthesized, at 16 kHz."""
    pyworld: Any = importlib.import_module("pyworld")
    wide = signal.resample_poly(wave, 2, 1)
    pitch, times = pyworld.harvest(wide, 16_000)
    envelope = pyworld.cheaptrick(wide, pitch, times, 16_000)
    noise = pyworld.d4c(wide, pitch, times, 16_000)
    made = pyworld.synthesize(pitch, envelope, noise, 16_000)
    return signal.resample_poly(made, 1, 2)[: len(wave)]


def measure(real: np.ndarray, made: np.ndarray) -> list[float]:
    """Returns the metrics of a clip, in the order of `NAMES`."""
    pair = real[np.newaxis], made[np.newaxis]
    rate = MEL.sample_rate
    pitch = metrics.f0_error(*pair, rate)
    return [
        metrics.log_mel_l1(*pair, rate),
        metrics.mr_stft(*pair, rate),
        metrics.pesq(*pair, rate) if is_installed() else math.nan,
        metrics.stoi(*pair, rate),
        metrics.mcd(*pair, rate),
        pitch.cents,
        pitch.voicing,
        metrics.level_error(*pair, rate).bias,
    ]


def main() -> None:
    """Prints a table of the metrics."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=28, help="number of files")
    waves = clips(parser.parse_args().count)
    seconds = sum(map(len, waves)) / MEL.sample_rate
    rng = np.random.default_rng(0)
    rows: dict[str, Resynthesis] = {
        "the file itself": lambda wave: wave,
        "Griffin-Lim 32 from the mel": lambda wave: griffin_lim(MEL(wave), MEL, 32),
        "Griffin-Lim 60 from the mel": lambda wave: griffin_lim(MEL(wave), MEL, 60),
        "the file and white noise of 0.01": lambda wave: wave + rng.normal(0, 0.01, len(wave)),
    }
    if importlib.util.find_spec("pyworld"):
        rows["WORLD at 16 kHz"] = world
    else:
        print("WORLD is left out: pyworld is not installed")
    if not is_installed():
        print("PESQ is left out: pesq is not installed")
    print(f"{len(waves)} files, {seconds:.0f} s")
    print(f"| | {' | '.join(NAMES)} | real-time factor |")
    print("|---" * (len(NAMES) + 2) + "|")
    for name, resynthesize in rows.items():
        start = time.process_time()
        made = [np.asarray(resynthesize(wave), np.float64) for wave in waves]
        factor = (time.process_time() - start) / seconds
        values = np.nanmean([measure(*pair) for pair in zip(waves, made, strict=True)], axis=0)
        cells = " | ".join(f"{value:.4g}" for value in values)
        print(f"| {name} | {cells} | {factor:.4f} |", flush=True)


if __name__ == "__main__":
    main()
