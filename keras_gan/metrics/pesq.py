"""Perceptual evaluation of speech quality, by the package of that name."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from typing import Any

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics._needs import MetricContext, Missing
from keras_gan.metrics.waves import check_waves
from keras_gan.spec import Spec
from serving.kinds.audio import rate_of

MODES = {8_000: "nb", 16_000: "wb"}  # by sampling rate: narrow band, wide band
LEAST = 0.25  # seconds
WORST = 1.0  # quality of silence in place of speech
_PACKAGE = "the package pesq, of the extra sound-metrics: pip install 'keras-gan[sound-metrics]'"
_RATES = "samples of kind audio at 8,000 Hz (narrow band) or 16,000 Hz (wide band)"


class Pesq(Metric):
    """Perceptual evaluation of speech quality (ITU-T P.862), mean over the clips with speech.

    It is left out where the package is not installed.
    """

    title = "Perceptual evaluation of speech quality"
    better = "higher"
    least = 1
    kinds = ("audio",)
    needs = ("pairs",)
    order = 34

    def of(self, inputs: EvaluationInputs) -> float:
        pairs = inputs.paired
        return pesq(pairs.real, pairs.generated, inputs.sample_rate)

    def missing(self, context: MetricContext) -> Missing | None:
        missing = super().missing(context)
        if missing is None and not is_installed():
            return Missing(_PACKAGE, "no such package")
        return missing

    def unfit(self, spec: Spec) -> Missing | None:
        unfit = super().unfit(spec)
        if unfit is not None:
            return unfit
        rate, time = rate_of(spec.samples.meta), spec.shape[0]
        if rate not in MODES:
            return Missing(_RATES, f"{rate:g} Hz")
        if time is not None and time < LEAST * rate:
            return Missing(f"clips of at least {LEAST} s", f"{time} samples at {rate:g} Hz")
        return None

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        mode = MODES[round(inputs.sample_rate)]
        version = importlib.metadata.version("pesq")
        return {"pairs": len(inputs.paired.real), "mode": mode, "package": f"pesq {version}"}


def is_installed() -> bool:
    """Returns whether the package pesq is installed."""
    return importlib.util.find_spec("pesq") is not None


def pesq(real: np.ndarray, generated: np.ndarray, sample_rate: float) -> float:
    """Returns the mean over clips of the perceptual evaluation of speech quality.

    Needs the package pesq (the extra sound-metrics). Clips in which it finds no speech are left
    out; silence in place of speech counts 1.

    Args:
        real: clips `(count, time)` or `(count, time, channels)`, values in [-1, 1], of at least
            0.25 s.
        generated: their partners, row by row, of the same shape.
        sample_rate: 8,000 Hz (narrow band, P.862.1) or 16,000 Hz (wide band, P.862.2).

    Returns:
        The quality, from about 1 to 4.55 (8 kHz) or 4.64 (16 kHz); NaN if no clip has speech.

    Raises:
        UsageError: no package, another sampling rate, or clips of different shapes, none, too
            short or not finite floats.
    """
    if sample_rate not in MODES:
        raise UsageError(f"pesq needs {_RATES}. Received: sample_rate={sample_rate}")
    x, y = check_waves(real, generated, sample_rate, LEAST)
    if not is_installed():
        raise UsageError(f"pesq needs {_PACKAGE}. Received: no such package")
    package: Any = importlib.import_module("pesq")
    rate, mode = round(sample_rate), MODES[round(sample_rate)]
    values = [_of_clip(package, rate, mode, *pair) for pair in zip(x, y, strict=True)]
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else float("nan")


def _of_clip(
    package: Any, rate: int, mode: str, real: np.ndarray, generated: np.ndarray
) -> float | None:
    """Returns the quality of one clip, or `None` if there is no speech in it."""
    if not real.any():  # the package divides by the level
        return None
    if not generated.any():
        return WORST
    clips = (clip.astype(np.float32) for clip in (real, generated))
    try:
        return float(package.pesq(rate, *clips, mode))
    except package.NoUtterancesError:
        return None
