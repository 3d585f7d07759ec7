"""Relative speed of two models, measured on a machine under other load."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import onnx

from export.to_onnx import open_session

BATCH = 64
_ROUNDS = 11
_FEWEST = 5
_MEASUREMENT = 0.03  # seconds of one measurement, far above the resolution of the clock
_MOST = 20.0  # seconds of processor time in total, unless the fewest rounds take longer


def times_as_fast(
    model: onnx.ModelProto, base: onnx.ModelProto, feeds: dict[str, np.ndarray]
) -> float:
    """Compares two models on one thread of the CPU.

    It measures processor time, which excludes waiting for other processes, alternates between the
    models, and takes the median over the rounds: a temporary disturbance affects both models.

    Args:
        model: model to measure.
        base: model to compare it with.
        feeds: inputs of both.

    Returns:
        The speed of `model` divided by that of `base`.
    """
    runs = [_runner(each, feeds) for each in (base, model)]
    counts = [max(1, math.ceil(_MEASUREMENT / max(_seconds(run, 1), 1e-6))) for run in runs]
    ratios: list[float] = []
    spent = 0.0
    while len(ratios) < _FEWEST or (len(ratios) < _ROUNDS and spent < _MOST):
        base_seconds, seconds = (_seconds(run, n) for run, n in zip(runs, counts, strict=True))
        spent += base_seconds * counts[0] + seconds * counts[1]
        ratios.append(base_seconds / seconds)
    return statistics.median(ratios)


def _runner(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> Callable[[], object]:
    session = open_session(model.SerializeToString(), threads=1)
    session.run(None, feeds)  # the first run plans and allocates
    return lambda: session.run(None, feeds)


def _seconds(run: Callable[[], object], count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        run()
    return max(time.process_time() - began, 1e-9) / count
