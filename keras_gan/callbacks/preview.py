"""Previews: generated samples of fixed seeds, drawn again while the generator learns."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_gan import network_checks, precision
from keras_gan.errors import UsageError
from keras_gan.files import write_atomically, write_errors
from keras_gan.spec import Field, infer_spec
from serving import pictures

FILES = 16  # samples that are also written as files, of a kind that a picture does not show


class Preview(keras.callbacks.Callback):
    """A picture of the samples of fixed seeds, drawn at intervals, at the start and at the end.

    Samples that a picture does not show, such as sounds, are also written as files of their kind:
    the newest ones as `000.wav`, `001.wav`, .... Texts are also written beside each picture, as a
    file of the same name that ends in `.txt`, with a line for each sample.

    Args:
        folder: folder of the pictures, `examples-NNNNNNNNN.png` after so many examples.
        seeds: the seeds to draw.
        labels: class ids, one for each seed, of a conditional game; by default the seeds modulo
            the number of classes.
        every_seconds: time between two pictures, in seconds, above 0.
        field: field of the samples, whose kind draws them. By default images, points or arrays,
            by the shape of the samples, in the range of the data or of the generator's last layers.
        given: other fields that the generator asks for, by name, one row for each seed.

    Raises:
        UsageError: a folder that cannot be written, or a field of another range than the
            generator's.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        seeds: Sequence[int] = range(64),
        labels: Sequence[int] | None = None,
        every_seconds: float = 30.0,
        field: Field | None = None,
        given: Mapping[str, np.ndarray] | None = None,
    ):
        super().__init__()
        self.field, self.given = field, dict(given or {})
        self.folder = pathlib.Path(folder)
        self.seeds = list(seeds)
        self.labels = labels
        self.every_seconds = every_seconds

    def on_train_begin(self, logs: Any = None) -> None:
        self._check_field()
        with write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._draw()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if time.monotonic() >= self._next:
            self._draw()

    def on_train_end(self, logs: Any = None) -> None:
        self._draw()

    def _check_field(self) -> None:
        """Checks that the range of a given field is that of the generator."""
        gan, field = self.model, self.field
        if field is not None and field.modality.range_for(field.shape) is not None:
            own = gan.networks[gan.sampled].output_range()  # pyright: ignore
            stated = field.modality.range_of(field.meta)
            network_checks.value_range(own, stated, "the preview's field")

    def _describe(self) -> Field:
        """Returns the field of the samples; without a given one, in the range known by now."""
        gan: Any = self.model
        shape = tuple(gan.sample_shape)
        return self.field or infer_spec(shape, value_range=gan.samples_range).samples

    def _draw(self) -> None:
        gan: Any = self.model
        with precision.graphs("float32"):  # a seed names the same picture at any precision
            samples = gan.generate(self.seeds, labels=self.labels, **self.given)
        path = self.folder / f"examples-{gan.count('examples_seen'):09d}.png"
        field = self._describe()
        write_atomically(path, pictures.to_png(_sheet(field, samples)))
        lines = field.modality.lines(samples, field.meta)
        if lines is not None:
            text = "".join(f"{line}\n" for line in lines)
            write_atomically(path.with_suffix(".txt"), text.encode("utf-8", "backslashreplace"))
        for form in field.modality.previews:
            for number, sample in enumerate(samples[:FILES]):
                finite = np.nan_to_num(sample, posinf=0.0, neginf=0.0)
                content = field.modality.encode(finite, form, field.meta)
                write_atomically(self.folder / f"{number:03d}.{form}", content)
        self._next = time.monotonic() + self.every_seconds


def _sheet(field: Field, samples: np.ndarray) -> np.ndarray:
    """Draws samples in one picture, or as many of the first ones as fit into one."""
    while True:
        try:
            return field.modality.sheet(samples, field.meta)
        except UsageError:
            if len(samples) == 1:
                raise
            samples = samples[: len(samples) // 2]
