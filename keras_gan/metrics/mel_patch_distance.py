"""Distance of the patches of log-mel spectrograms of real and of generated sounds."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics._needs import Missing
from keras_gan.metrics.patch_distance import (
    DIRECTIONS,
    LEAST_SIZE,
    PATCHES,
    SEED,
    PatchDistanceResult,
    patch_distance,
)
from keras_gan.metrics.waves import check_waves, standard_mel
from keras_gan.spec import Spec
from serving.kinds.audio import rate_of


class MelPatchDistance(Metric):
    """Patch distance of log-mel spectrograms: sounds of as many real as generated clips.

    Waveforms themselves differ wherever their phases do, which is not heard. The distance is that
    of pictures, `patch_distance`, of the spectrograms of `standard_mel`: its finest level shows
    harmonics and noise, its coarsest the order of sounds in time. Samples that are spectrograms
    themselves are compared as they are.
    """

    title = "Patch distance of log-mel spectrograms (x 1,000)"
    better = "lower"
    least = 1
    kinds = ("audio", "mel")
    needs = ("images",)
    in_training = True
    order = 35

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        if _are_mels(inputs.spec):
            real, generated = inputs.pixels
            found = patch_distance(real[..., np.newaxis], generated[..., np.newaxis])
        else:
            found = mel_patch_distance(*inputs.pixels, inputs.sample_rate)
        of_levels = {f"{self.name}_{size}": value for size, value in found.levels.items()}
        return {self.name: found.mean, **of_levels}

    def unfit(self, spec: Spec) -> Missing | None:
        unfit, time = super().unfit(spec), spec.shape[0]
        if unfit is not None or time is None:
            return unfit
        if _are_mels(spec):
            if min(spec.shape) >= LEAST_SIZE:
                return None
            least = f"at least {LEAST_SIZE} frames and mels"
            return Missing(least, f"{spec.shape[0]} frames and {spec.shape[1]} mels")
        rate = rate_of(spec.samples.meta)
        mel = standard_mel(rate)
        if mel.mels < LEAST_SIZE:
            return Missing("a higher sampling rate, at least 1,500 Hz", f"{rate:g} Hz")
        if mel.frames(time) >= LEAST_SIZE:
            return None
        least = (LEAST_SIZE - 1) * mel.hop + 1
        return Missing(f"clips of at least {least} samples", f"{time} samples at {rate:g} Hz")

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        if _are_mels(inputs.spec):
            mels = inputs.spec.samples.meta["mel"]
        else:
            mels = standard_mel(inputs.sample_rate).to_meta()
        return {
            "clips": len(inputs.pixels[0]),
            "patches_per_clip": PATCHES,
            "directions": DIRECTIONS,
            "seed": SEED,
            "factor": 1000,
            **mels,
        }


def _are_mels(spec: Spec) -> bool:
    return "mel" in spec.modality.meta


def mel_patch_distance(
    real: np.ndarray, generated: np.ndarray, sample_rate: float
) -> PatchDistanceResult:
    """Returns the patch distance of the log-mel spectrograms of clips, multiplied by 1,000.

    See `patch_distance`: it normalizes the patches, so that a level that is wrong in all clips
    alike is hidden, and its values depend on the number of clips.

    Args:
        real: clips `(count, time)` or `(count, time, channels)`, values in [-1, 1].
        generated: as many clips of the same shape.
        sample_rate: sampling rate in Hz, from 1,000.

    Raises:
        UsageError: sets of different shapes, clips that are too short, or not finite floats.
    """
    mel = standard_mel(sample_rate)
    least = ((LEAST_SIZE - 1) * mel.hop + 1) / sample_rate
    first, second = check_waves(real, generated, sample_rate, least)
    return patch_distance(mel(first)[..., np.newaxis], mel(second)[..., np.newaxis])
