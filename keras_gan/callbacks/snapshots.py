"""Snapshots of the power-function averages during training."""

from __future__ import annotations

from typing import Any

import keras

from keras_gan.averages import SnapshotFolder
from keras_gan.callbacks.collapse import CollapseGuard
from keras_gan.run import Run


class AverageSnapshots(keras.callbacks.Callback):
    """Callback that writes snapshots of a game's power-function averages into its run folder.

    They are taken at the end of epochs, at intervals that double as the training goes on, and at
    the end of the training. A game without such averages has none.

    Args:
        run: the run folder.
        every_examples: number of examples of an epoch, the smallest interval.
        guard: the guard of this training. A state that it rejects gets no snapshot.
    """

    def __init__(self, run: Run, every_examples: int, guard: CollapseGuard | None = None):
        super().__init__()
        self.folder, self.guard = SnapshotFolder(run.averages, every_examples), guard

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._drop()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seen = self.model.count("examples_seen")  # pyright: ignore
        if self.folder.is_due(seen) and not (self.guard and self.guard.problem):
            self._save(seen)

    def on_train_end(self, logs: Any = None) -> None:
        self._drop()
        self._save(self.model.count("examples_seen"))  # pyright: ignore

    def _drop(self) -> None:
        # A resume or a roll back discards what came after the state that it goes on from.
        self.folder.drop_after(self.model.count("examples_seen"))  # pyright: ignore

    def _save(self, seen: int) -> None:
        gan: Any = self.model
        if seen and gan.average_deviations:
            self.folder.save(seen, gan.average_deviations, gan.power_averages.values())
