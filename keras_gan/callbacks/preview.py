"""Previews: generated samples of fixed seeds, drawn again while the generator learns."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import keras

from keras_gan import pictures, precision
from keras_gan.files import write_atomically, write_errors


class Preview(keras.callbacks.Callback):
    """A picture of the samples of fixed seeds, drawn at intervals, at the start and at the end.

    Args:
        folder: folder of the pictures, `examples-NNNNNNNNN.png` after so many examples.
        seeds: the seeds to draw.
        labels: class ids, one for each seed, of a conditional game; by default the seeds modulo
            the number of classes.
        every_seconds: time between two pictures, in seconds, above 0.

    Raises:
        UsageError: a folder that cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        seeds: Sequence[int] = range(64),
        labels: Sequence[int] | None = None,
        every_seconds: float = 30.0,
    ):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.seeds = list(seeds)
        self.labels = labels
        self.every_seconds = every_seconds

    def on_train_begin(self, logs: Any = None) -> None:
        with write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._draw()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if time.monotonic() >= self._next:
            self._draw()

    def on_train_end(self, logs: Any = None) -> None:
        self._draw()

    def _draw(self) -> None:
        gan: Any = self.model
        with precision.graphs("float32"):  # a seed names the same picture at any precision
            samples = gan.generate(self.seeds, labels=self.labels)
        path = self.folder / f"examples-{gan.count('examples_seen'):09d}.png"
        write_atomically(path, pictures.png(pictures.grid(samples)))
        self._next = time.monotonic() + self.every_seconds
