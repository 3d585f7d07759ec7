"""How many times as fast one model is as another, on a machine that others use too."""

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
_TURN = 0.03  # seconds of one turn, so that the clock's steps do not count
_MOST = 20.0  # seconds of processor time for all, unless the fewest rounds take longer


def times_as_fast(
    model: onnx.ModelProto, base: onnx.ModelProto, feeds: dict[str, np.ndarray]
) -> float:
    """Compares two models on one thread of the CPU.

    It is processor time, which waiting for others does not count, the two take turns, and the
    result is the median over the rounds: what disturbs one of them for a while disturbs both.

    Args:
        model: what is measured.
        base: what it is compared with.
        feeds: the inputs of both.
    """
    runs = [_runner(each, feeds) for each in (base, model)]
    counts = [max(1, math.ceil(_TURN / max(_seconds(run, 1), 1e-6))) for run in runs]
    ratios: list[float] = []
    spent = 0.0
    while len(ratios) < _FEWEST or (len(ratios) < _ROUNDS and spent < _MOST):
        base_time, time_ = (_seconds(run, n) for run, n in zip(runs, counts, strict=True))
        spent += base_time * counts[0] + time_ * counts[1]
        ratios.append(base_time / time_)
    return statistics.median(ratios)


def _runner(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> Callable[[], object]:
    session = open_session(model.SerializeToString(), threads=1)
    session.run(None, feeds)  # the first plans and allocates
    return lambda: session.run(None, feeds)


def _seconds(run: Callable[[], object], count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        run()
    return max(time.process_time() - began, 1e-9) / count
