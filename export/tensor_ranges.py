"""Calibration: the range of every tensor of a model over fixed samples."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import quantization

from export.passes.graph import has_subgraph
from keras_gan import UsageError

Feeds = dict[str, np.ndarray]
Ranges = dict[str, tuple[float, float]]
FIRST_SEED = 2**40  # of calibration, far from the seeds that comparisons and users take
SAMPLES = 256
_BATCH = 16


def calibration_feeds(inputs: Callable[[Iterable[int]], Feeds]) -> Iterator[Feeds]:
    """Yields the inputs of the calibration in batches; they are the same in every export."""
    for start in range(FIRST_SEED, FIRST_SEED + SAMPLES, _BATCH):
        yield inputs(range(start, start + _BATCH))


def tensor_ranges(model: onnx.ModelProto, feeds: Iterable[Feeds]) -> Ranges:
    """Returns the smallest and the largest value of every float tensor in the graph.

    Args:
        model: float32 model.
        feeds: batches of inputs.

    Raises:
        UsageError: the model has a loop. onnxruntime's calibrator, quantizer and converter skip the
            body of a loop, with results that do not load or that crash the process.
    """
    for node in model.graph.node:
        if has_subgraph(node):
            raise UsageError(
                "A network with a loop, as of a GRU or SimpleRNN, is exported only in float32. "
                f"Received: {node.name}"
            )
    with tempfile.TemporaryDirectory() as folder:
        plain, augmented = (Path(folder, name) for name in ("model.onnx", "augmented.onnx"))
        onnx.save(model, plain)
        calibrator = quantization.create_calibrator(plain, augmented_model_path=str(augmented))
        calibrator.collect_data(_Reader(feeds))
        found = calibrator.compute_data()
        del calibrator.infer_session  # it keeps the file open on Windows
    return {
        name: (float(np.min(data.range_value[0])), float(np.max(data.range_value[1])))
        for name, data in found.items()
    }


class _Reader(quantization.CalibrationDataReader):
    """Reader of at least one batch for onnxruntime's calibrator."""

    def __init__(self, feeds: Iterable[Feeds]):
        feeds = iter(feeds)
        self._feeds = itertools.chain([next(feeds)], feeds)

    def get_next(self) -> Feeds | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return next(self._feeds, None)
