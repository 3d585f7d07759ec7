"""Limits of a training: steps, time, signals."""

from __future__ import annotations

import math
import signal
import time
from typing import Any

import keras


class Limits(keras.callbacks.Callback):
    """Limits of the training: a number of steps, a time, SIGINT and SIGTERM.

    On Ctrl-C or SIGTERM the training ends in order after the current step. A second Ctrl-C raises
    KeyboardInterrupt.

    Args:
        steps: number of the last step, counted over all resumes.
        minutes: time limit in minutes, or `None`.
        hold: keep the signal handlers after the end of the training, until `close`, so that no
            signal ends the program while other callbacks write.
    """

    def __init__(self, steps: int, minutes: float | None = None, hold: bool = False):
        super().__init__()
        self.steps = steps
        self.minutes = minutes
        self.hold = hold
        self.interrupted: signal.Signals | None = None
        self.out_of_time = False
        self._handlers: dict[signal.Signals, Any] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        self._end = time.monotonic() + 60 * self.minutes if self.minutes else math.inf
        self.interrupted, self.out_of_time = None, False
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._handlers[number] = signal.signal(number, self._on_signal)
            except ValueError:  # only the main thread can handle signals
                break

    def _on_signal(self, number: int, frame: Any) -> None:
        if self.interrupted and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.interrupted = signal.Signals(number)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        gan: Any = self.model
        self.out_of_time = time.monotonic() >= self._end
        if self.interrupted or self.out_of_time or gan.count("iteration") >= self.steps:
            gan.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        if not self.hold:
            self.close()

    def close(self) -> None:
        """Restores the signal handlers, also after an error."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())
