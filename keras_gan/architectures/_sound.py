"""Common parts of networks of sound: checks of the data, labels, parts of the vocoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_gan.architectures import _parts
from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError
from keras_gan.layers import Loudness, VocoderInput
from keras_gan.spec import Spec
from serving.mel import Mel


def check_task(spec: Spec, family: str, conditional: bool, conditions: Sequence[str]) -> Mel:
    """Returns the definition of the spectrograms of which a vocoder makes sound.

    Raises:
        UsageError: samples other than sound of one channel, labels, a condition other than one
            spectrogram with a definition, or lengths that do not fit each other.
    """
    check_mono(spec, family, conditional)
    if len(conditions) != 1 or "mel" not in spec.fields[conditions[0]].modality.meta:
        raise UsageError(
            f"The architecture {family!r} needs one condition, a field of kind 'mel': "
            f"condition: [mel]. Received: condition=[{', '.join(conditions)}]"
        )
    field = spec.fields[conditions[0]]
    if not field.meta.get("mel"):
        raise UsageError(
            f"The field {conditions[0]!r} must state the definition of its spectrograms as `mel`. "
            f"Received: meta={dict(field.meta)}"
        )
    mel = Mel.from_meta(field.meta["mel"])
    _check_lengths(spec, field.shape[0], mel)
    return mel


def check_mono(spec: Spec, family: str, conditional: bool) -> None:
    """Checks that samples are sound of one channel, without labels.

    Raises:
        UsageError: they are not.
    """
    if conditional:
        raise UsageError(
            f"The architecture {family!r} takes no labels. Received: condition=[labels]"
        )
    if "sample_rate" not in spec.modality.meta or spec.shape[-1] != 1:
        raise UsageError(
            f"The architecture {family!r} is for audio of one channel. "
            f"Received: kind={spec.kind!r}, shape={spec.shape}"
        )


def check_sound(spec: Spec, family: str) -> None:
    """Raises a `UsageError` unless samples are sound."""
    if "sample_rate" not in spec.modality.meta:
        raise UsageError(
            f"The architecture {family!r} is for audio only (time, channels). "
            f"Received: kind={spec.kind!r}, shape={spec.shape}"
        )


def sound_and_label(samples, labels, spec: Spec):
    """Appends a channel to the sound: a learned sound of the class."""
    time = spec.shape[0]
    values = _parts.label_embedding(spec, time)(labels)
    channel = layers.Reshape((time, 1), name="label_channel")(values)
    return layers.Concatenate(name="sound_and_label")([samples, channel])


def _check_lengths(spec: Spec, frames: int | None, mel: Mel) -> None:
    rate, time = spec.samples.meta.get("sample_rate", mel.sample_rate), spec.shape[0]
    if rate != mel.sample_rate:
        raise UsageError(
            "The samples and the definition of their spectrograms must have one sampling rate. "
            f"Received: sample_rate={rate} of the samples, {mel.sample_rate} of the definition"
        )
    if frames is not None and time is not None and time != frames * mel.hop:
        raise UsageError(
            f"The samples must have {mel.hop} values for each frame of their spectrogram. "
            f"Received: {time} samples, {frames} frames"
        )


def check_odd(name: str, value: Any) -> None:
    """Raises a `UsageError` unless a value is an odd integer of at least 1."""
    check_integer(name, value)
    if value % 2 == 0:
        raise UsageError(f"`{name}` must be odd. Received: {name}={value}")


def begin(conditions: Sequence[str], mel: Mel, context: int, gain: bool) -> tuple[Any, Any, Any]:
    """Returns the input, its scaled values, and the loudness of the frames, `None` without it."""
    spectrogram = keras.Input((None, mel.mels), name=conditions[0])
    x = VocoderInput(mel.to_meta(), context, name="scale")(spectrogram)
    loudness = Loudness(mel.to_meta(), name="loudness")(spectrogram) if gain else None
    return spectrogram, x, loudness


def convolve(x: Any, channels: int, kernel: int, name: str, dilation: int = 1, **options: Any):
    """Applies a convolution along time with zero padding.

    The padding is a layer of its own, because padding of dilated convolutions is exported to
    arithmetic on shapes.
    """
    edge = dilation * (kernel - 1) // 2
    if edge:
        x = layers.ZeroPadding1D(edge, name=f"{name}_padding")(x)
    conv = layers.Conv1D(channels, kernel, dilation_rate=dilation, name=name, **options)
    return conv(x)


def frames_of(samples: int, hop: int) -> int:
    """Returns the number of hops that a number of samples reaches into."""
    return -(-samples // hop)
