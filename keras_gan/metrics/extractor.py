"""Feature extractor: a network with the image conversions in front of it."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics.images import resize, to_bytes, to_channels

BICUBIC = "antialiased bicubic"
NO_RESIZE = "none"
_BATCH = 256  # samples per call of the network

Outputs = tuple[np.ndarray, np.ndarray | None]


@dataclasses.dataclass(frozen=True)
class Extractor:
    """A network that maps samples to features, and to class probabilities if it has classes.

    Images are first rounded to 8 bits, as a picture file holds them. A run, a bundle and a folder
    of PNG files with the same samples therefore have the same features.

    Args:
        name: its name in results.
        run: function from float32 samples `(count, ...)`, in the range and size of the network,
            to features `(count, dim)` and probabilities `(count, classes)` or `None`.
        sha256: hash of the network's file or weights; `None` if it cannot be known.
        shape: height, width and channels that the network takes; `None` where any value fits.
        value_range: input values of black and white.
        resize: name of the filter that resizes images for the network.
        dim: number of features.
        classes: number of classes, 0 without classes.
        class_names: their names, in the order of the ids, if known.
        standard: whether this is the network of the FID's definition.
        uniform: whether its classes are equally likely in its data by definition.
        runtime: name and version of the library that computes it, with the provider for
            onnxruntime; `None` if it cannot be known.
        kept: whether the hash covers everything that the features depend on, so that they may be
            cached, and whether that is worth it. Custom layers are code, which a file of weights
            does not contain; resizing an image again is faster than reading its moments.
        in_bytes: whether samples of rank 3 are images, which are rounded to 8 bits.
        trained_on: name of the data set that its network classifies; empty if it may be any.
        still: function from single frames of videos `(count, height, width, channels)` in [-1, 1]
            to features and class probabilities of what they show; `None` if it takes none.
        factors: names of the known factors whose levels are the features; empty for any other.
    """

    name: str
    run: Callable[[np.ndarray], Outputs]
    sha256: str | None = None
    shape: tuple[int | None, int | None, int | None] = (None, None, None)
    value_range: tuple[float, float] = (-1.0, 1.0)
    resize: str = NO_RESIZE
    dim: int = 0
    classes: int = 0
    class_names: tuple[str, ...] = ()
    standard: bool = False
    uniform: bool = False
    runtime: str | None = None
    kept: bool = True
    in_bytes: bool = True
    trained_on: str = ""
    factors: tuple[str, ...] = ()
    still: Callable[[np.ndarray], Outputs] | None = None

    @property
    def of_values(self) -> bool:
        """True if the features are the samples' own values, resized or not."""
        return self.run is flatten

    def __call__(self, samples: np.ndarray) -> Outputs:
        """Returns features, float32 `(count, dim)`, and probabilities, float32, or `None`.

        Args:
            samples: `(count, ...)`: images as uint8, or floating point in [-1, 1]; or points.

        Raises:
            UsageError: the network does not return one row of real numbers per sample, or its
                probabilities are not finite.
        """
        features, probabilities = [], []
        for start in range(0, len(samples), _BATCH):
            batch = samples[start : start + _BATCH]
            batch_features, batch_probabilities = self.run(self._prepare(batch))
            features.append(self._checked("features", batch_features, len(batch)))
            if batch_probabilities is not None:
                probabilities.append(
                    self._checked("probabilities", batch_probabilities, len(batch))
                )
        return (
            np.concatenate(features).astype(np.float32, copy=False),
            np.concatenate(probabilities).astype(np.float32, copy=False) if probabilities else None,
        )

    def _checked(self, what: str, array: np.ndarray, count: int) -> np.ndarray:
        if array.ndim != 2 or len(array) != count or np.iscomplexobj(array):
            kind = " complex numbers" if np.iscomplexobj(array) else ""
            raise UsageError(
                f"An extractor must return {what} of shape (count, number). "
                f"Received: {array.shape}{kind} for {count} samples, from {self.name!r}"
            )
        if what == "probabilities" and not np.isfinite(array).all():
            raise UsageError(
                "Probabilities must be finite numbers. "
                f"Received: NaN or infinity from {self.name!r}"
            )
        return array

    def _prepare(self, samples: np.ndarray) -> np.ndarray:
        if samples.ndim != 4 or not self.in_bytes:
            return np.asarray(samples, np.float32)
        height, width, channels = self.shape
        pixels = to_channels(to_bytes(samples).astype(np.float32), channels)
        if self.resize == BICUBIC:
            pixels = resize(pixels, (height or pixels.shape[1], width or pixels.shape[2]))
        low, high = self.value_range
        return pixels * np.float32((high - low) / 255) + np.float32(low)

    @property
    def identity(self) -> str | None:
        """A key that identifies the extractor in a cache; `None` for code that may change."""
        if self.of_values:
            return "pixels" if self.kept else None
        if self.sha256 is None or not self.kept:
            return None
        return f"{self.name} {self.sha256} {self.runtime}"

    @property
    def protocol(self) -> dict[str, Any]:
        """The entries of a result's protocol that describe the extractor."""
        height, width, channels = self.shape
        return {
            "extractor": self.name,
            "extractor_sha256": self.sha256,
            "features": self.dim,
            "classes": self.classes,
            "input": [height, width, channels],
            "resize": self.resize,
            "runtime": self.runtime,
        }


def flatten(samples: np.ndarray) -> Outputs:
    """Returns the samples' own values as features."""
    return samples.reshape(len(samples), -1), None


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the probabilities of logits `(count, classes)`."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def file_sha256(file: pathlib.Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
