"""Log-mel spectrograms: `(frames, mels)`, natural logarithms, with the definition as `mel`.

They are heard by the Griffin-Lim algorithm, so that samples of a network for spectrograms have a
sound before there is a vocoder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from serving import pictures
from serving.errors import UsageError
from serving.griffin_lim import griffin_lim
from serving.kinds import _heat
from serving.kinds._formats import Format, Meta
from serving.kinds._kind import Kind
from serving.mel import Mel as Definition
from serving.wav import to_pcm16, write_wav

HIGHEST = 5.0  # above it, a wave would have to exceed [-1, 1] by far
_MARGIN = 0.1  # by which values may be below the logarithm of the floor
_LIKE_LOG10 = 1e-4  # distance within which the least value is the base 10 logarithm of the floor
_SHOWN = (math.log(1e-5), 1.0)  # black and white of the preview
_WIDEST = 256  # frames that a preview shows
_ENLARGED = 2  # pixels for each mel and frame


def definition_of(meta: Meta) -> Definition | None:
    """Returns the definition of a field's spectrograms, `None` where the field has none."""
    return Definition.from_meta(meta["mel"]) if meta.get("mel") else None


def _to_wav(sample: np.ndarray, meta: Meta, texts: Mapping[str, str]) -> bytes:
    rate = _needed(meta).sample_rate
    wave = KIND.to_sound(sample[np.newaxis], meta)[0]
    return write_wav(to_pcm16(wave)[0], rate, texts)


def _needed(meta: Meta | None) -> Definition:
    """Returns the definition of a field's spectrograms.

    Raises:
        UsageError: the field has none.
    """
    found = definition_of(meta or {})
    if found is None:
        raise UsageError(
            "Spectrograms need their definition `mel` to become sound. Received: a field without it"
        )
    return found


class Mel(Kind):
    """Log-mel spectrograms of sound."""

    axes = ("frames", "mels")
    meta = ("mel",)
    plural = "mel spectrograms"
    training_metrics = ("mel_patch_distance", "sliced_wasserstein")
    needed = ("mel",)
    previews = ("wav",)
    formats = (Format("wav", "audio/wav", _to_wav, None),)

    def check(self, shape: Sequence[int | None], meta: Meta | None = None) -> None:
        super().check(shape, meta)
        definition = definition_of(meta or {})
        if definition is not None and shape[-1] not in (None, definition.mels):
            raise UsageError(
                f"A field of kind 'mel' must have the {definition.mels} mels of its definition. "
                f"Received: shape={tuple(shape)}"
            )

    def as_image(
        self, shape: Sequence[int | None], meta: Meta | None = None
    ) -> tuple[tuple[int | None, ...], tuple[float, float]] | None:
        definition = definition_of(meta or {}) or Definition()
        return (*shape, 1), (math.log(definition.floor), definition.loudest)

    def as_sound(
        self, shape: Sequence[int | None], meta: Meta | None = None
    ) -> tuple[int | None, int | None, float] | None:
        mel = definition_of(meta or {})
        if mel is None:
            return None
        return None if shape[0] is None else shape[0] * mel.hop, 1, mel.sample_rate

    def to_sound(self, samples: np.ndarray, meta: Meta | None = None) -> np.ndarray:
        return griffin_lim(samples, _needed(meta))[..., np.newaxis]

    def check_given(self, array: np.ndarray, meta: Meta, name: str) -> None:
        definition = definition_of(meta)
        floor = definition.floor if definition else Definition.floor
        if not array.size:
            return
        low, high = float(array.min()), float(array.max())
        least = math.log(floor)
        rule = (
            f"`{name}` must be natural logarithms of mel magnitudes, from {least:.4g} "
            f"(the floor {floor:g}) to {HIGHEST:g}"
        )
        if low < least - _MARGIN or high > HIGHEST:
            raise UsageError(
                f"{rule}; multiply log10 by 2.3026 and decibels by 0.11513. "
                f"Received: values from {low:.4g} to {high:.4g}"
            )
        # Silence is the floor itself, and its least value then shows the base of the logarithm.
        # Other values have a least one as well, which occurs once.
        if abs(low - math.log10(floor)) < _LIKE_LOG10 and np.count_nonzero(array == low) > 1:
            raise UsageError(
                f"{rule}; these look like log10: multiply them by 2.3026. "
                f"Received: values from {low:.4g} to {high:.4g}"
            )

    def examples(
        self, rng: np.random.Generator, shape: tuple[int, ...], meta: Meta
    ) -> np.ndarray | None:
        definition = definition_of(meta)
        floor = definition.floor if definition else Definition.floor
        return rng.uniform(math.log(floor), -2.0, shape)  # as loud as speech

    def sheet(
        self, samples: np.ndarray, meta: Meta | None = None, columns: int | None = None
    ) -> np.ndarray:
        return pictures.grid(np.stack([_drawn(np.asarray(x)) for x in samples]), columns)


def _drawn(sample: np.ndarray) -> np.ndarray:
    """Returns a spectrogram as a picture, low frequencies at the bottom."""
    low, high = _SHOWN
    values = np.nan_to_num(sample[:_WIDEST].astype(np.float64), nan=low)
    picture = _heat.colored(values, low, high)
    return picture.repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)


KIND = Mel()
