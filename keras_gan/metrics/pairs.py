"""Pairs of answers and real samples, their conditions, and the controls beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import PIL.Image

from keras_gan.errors import UsageError
from keras_gan.metrics.images import luma, to_bytes, to_channels
from keras_gan.spec import Field, Shape, Spec
from serving.griffin_lim import ITERATIONS, MOMENTUM, griffin_lim
from serving.mel import Mel

CONDITION = "condition"  # name of the field whose pictures are answered
PAIRS = 10_000  # most pairs that are compared
IDENTITY, BICUBIC = "identity", "bicubic"  # names of the controls of pictures
GRIFFIN_LIM, REAL = "griffin-lim", "real"  # names of the controls of sounds

# Function from conditions, and one that returns the real samples of the same rows, to answers.
Answer = Callable[[np.ndarray, Callable[[], np.ndarray]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Real samples, answers and conditions: row i of each belongs to one example.

    Args:
        real: real pictures, uint8 `(count, height, width, channels)`; other samples as they are in
            a batch.
        generated: the answers, of the same shape.
        conditions: what was answered: pictures, uint8, of any size and channels; or the values of
            another field.
        inverse: function from answers in [-1, 1] to pictures of the conditions' domain, of a game
            with a network for the way back; otherwise `None`.
        luma: the metrics of signals compare the luma of color pictures.
        shave: pixels at each border that the metrics of signals leave out, from 0 up.
        paired: whether the real picture of a row is the right answer.
    """

    real: np.ndarray
    generated: np.ndarray
    conditions: np.ndarray
    inverse: Callable[[np.ndarray], np.ndarray] | None = None
    luma: bool = False
    shave: int = 0
    paired: bool = True

    @property
    def signals(self) -> tuple[np.ndarray, np.ndarray]:
        """Real pictures and answers as PSNR and SSIM compare them: by their luma, shaved."""
        real, generated = (prepared(x, self.luma, self.shave) for x in (self.real, self.generated))
        return real, generated

    @property
    def settings(self) -> dict[str, int | bool | str]:
        """Entries of the protocol of a metric that compares `signals`."""
        channels = "luma, ITU-R BT.601" if self.luma else "all"
        return {"pairs": len(self.real), "channels": channels, "shave": self.shave}


@dataclasses.dataclass(frozen=True)
class Answers:
    """Held-out pictures, or values of another field, that a generator is to answer.

    Args:
        conditions: the pictures, in [-1, 1], one for each held-out sample; or those values.
        paired: whether the held-out sample of the same row is the right answer.
        invertible: whether the game has a network for the way back.
        name: name of the field.
    """

    conditions: np.ndarray
    paired: bool = True
    invertible: bool = False
    name: str = CONDITION


def answered_field(spec: Spec) -> str | None:
    """Returns the name of the field that a generator of the samples may answer, or `None`.

    Pictures answer the picture `condition`, sounds the log-mel spectrogram `mel`.
    """
    fields = {name: field.modality for name, field in spec.fields.items() if name != "samples"}
    return next((name for name, kind in fields.items() if spec.modality.answers(name, kind)), None)


def as_compared(values: np.ndarray, field: Field) -> np.ndarray:
    """Returns values of a field as metrics compare them: pictures in 8 bits, others in range."""
    if field.modality.has_pixels:
        return to_bytes(values)
    return values if field.kind_range is None else np.clip(values, *field.kind_range)


def check_pair(real: np.ndarray, generated: np.ndarray, least: int = 1) -> None:
    """Checks that pictures are pairs of bytes.

    Args:
        real: pictures.
        generated: their partners.
        least: fewest pixels of height and width.

    Raises:
        UsageError: pictures of different shapes, too small, none, or not uint8.
    """
    fits = real.shape == generated.shape and real.ndim == 4 and len(real)
    if not fits or min(real.shape[1:3]) < least or {real.dtype, generated.dtype} != {BYTES}:
        raise UsageError(
            "`real` and `generated` must be as many pictures of the same shape, uint8 "
            f"(count, height, width, channels) with height and width from {least}. "
            f"Received: {real.shape} {real.dtype} and {generated.shape} {generated.dtype}"
        )


BYTES = np.dtype(np.uint8)


def prepared(pictures: np.ndarray, by_luma: bool, shave: int) -> np.ndarray:
    """Returns pictures without their borders, and color pictures as their luma, not rounded.

    Raises:
        UsageError: nothing is left of the pictures.
    """
    height, width, channels = pictures.shape[1:]
    if min(height, width) <= 2 * shave:
        raise UsageError(
            "`shave` must be less than half of a picture's height and width, "
            f"{height}x{width}. Received: shave={shave}"
        )
    shaved = pictures[:, shave : height - shave, shave : width - shave]
    return luma(shaved) if by_luma and channels > 1 else shaved


def with_sizes(spec: Spec, arrays: Mapping[str, np.ndarray]) -> Spec:
    """Returns a spec whose free axes have the sizes of arrays, `(count, ...)` by field.

    The free height and width of a training split of random crops say nothing of the pictures
    that are compared.
    """
    fields = {name: _with_sizes(field, arrays.get(name)) for name, field in spec.fields.items()}
    return spec if fields == spec.fields else Spec(fields=fields)


def _with_sizes(field: Field, array: np.ndarray | None) -> Field:
    if array is None or None not in field.shape or array.ndim != 1 + len(field.shape):
        return field
    known = zip(field.shape, array.shape[1:], strict=True)
    shape = tuple(size if wanted is None else wanted for wanted, size in known)
    return dataclasses.replace(field, shape=shape)


def controls_of(spec: Spec, name: str) -> dict[str, tuple[Answer, dict[str, Any]]]:
    """Returns the controls of answers by name, each with the entries of a protocol.

    For pictures the control is the condition, resized if need be; for sounds it is the waveform
    of the spectrogram by the Griffin-Lim algorithm, and the real sample itself.

    Args:
        spec: description of the samples and of the field that they answer, with their sizes.
        name: name of that field.
    """
    field, shape = spec.fields[name], spec.shape
    if spec.modality.has_pixels:

        def resized(conditions: np.ndarray, real: Callable[[], np.ndarray]) -> np.ndarray:
            return control(conditions, shape)

        return {control_name(field.shape, shape): (resized, {"source": "the conditions"})}
    to_real: Answer = lambda conditions, real: real()  # noqa: E731
    found = {REAL: (to_real, {"source": "the real samples"})}
    if "mel" not in field.meta:  # a spectrogram whose definition is not known
        return found
    definition = Mel.from_meta(field.meta["mel"])

    def invert(conditions: np.ndarray, real: Callable[[], np.ndarray]) -> np.ndarray:
        waves = griffin_lim(conditions, definition)[:, : shape[0], np.newaxis]
        return np.clip(waves, -1.0, 1.0)

    settings = {"iterations": ITERATIONS, "momentum": MOMENTUM}
    return {GRIFFIN_LIM: (invert, {"source": "the conditions", **settings}), **found}


def control_name(conditions: Shape, samples: Shape) -> str:
    """Returns the name of the control for conditions and samples `(height, width, channels)`."""
    return IDENTITY if conditions[:2] == samples[:2] else BICUBIC


def control(conditions: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the answers of the control, uint8: the conditions themselves, resized if need be.

    Gray is repeated, color becomes luma; pictures of another size are resized by Pillow's
    antialiased bicubic filter.

    Args:
        conditions: uint8 `(count, height, width, channels)`.
        shape: height, width and channels of the answers.
    """
    height, width, channels = shape
    if conditions.shape[1:3] != (height, width):
        conditions = resize_bytes(conditions, (height, width))
    if conditions.shape[3] == channels:
        return conditions
    pixels = to_channels(conditions.astype(np.float32), channels)
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def resize_bytes(pictures: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes pictures in 8 bits by Pillow's bicubic filter, which antialiases when it reduces.

    Args:
        pictures: uint8 `(count, height, width, channels)`.
        size: the new height and width.
    """
    height, width = size
    resized = np.empty((len(pictures), height, width, pictures.shape[3]), np.uint8)
    for row, picture in enumerate(pictures):
        for channel in range(picture.shape[-1]):
            plane = PIL.Image.fromarray(np.ascontiguousarray(picture[..., channel]))
            plane = plane.resize((width, height), PIL.Image.Resampling.BICUBIC)
            resized[row, ..., channel] = np.asarray(plane)
    return resized


def to_range(pictures: np.ndarray) -> np.ndarray:
    """Returns pictures in 8 bits as float32 in [-1, 1]."""
    return pictures.astype(np.float32) / np.float32(127.5) - np.float32(1)


def back(pairs: Pairs) -> np.ndarray:
    """Returns the answers translated back to the domain of the conditions, uint8.

    Raises:
        UsageError: there is no network for the way back.
    """
    if pairs.inverse is None:
        raise UsageError("The metric needs a game with a way back. Received: no inverse")
    return to_bytes(pairs.inverse(to_range(pairs.generated)))
