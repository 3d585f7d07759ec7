"""Passes on an ONNX graph: equivalent rewrites that onnxruntime runs faster.

A pass is a function that changes a model in place and returns the number of changes. `optimize`
runs all of them; `PASSES` names them, so that each can be left out and measured
(benchmarks/inference.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import onnx

from export.passes import (
    activations,
    batch_norm,
    constants,
    convolution,
    layout,
    movement,
    phases,
    stride_one,
    upsampled_conv,
)
from keras_gan import UsageError

__all__ = ["PASSES", "optimize"]

Pass = Callable[[onnx.ModelProto], int]

# These simplify the graph, and run until nothing changes.
_SIMPLIFY: dict[str, Pass] = {
    "constants": constants.fold,
    "pads": convolution.state_pads,
    "movement": movement.shorten,
    "batch_norm": batch_norm.fold,
    "layout": layout.reorder,
    "activations": activations.advance,
}
# These choose the form of a function that onnxruntime computes fastest.
_CHOOSE: dict[str, Pass] = {
    "upsampled_conv": upsampled_conv.fuse,
    "phases": phases.divide,
    "stride_one": stride_one.exchange,
    "picture": phases.read_phases,
    "interleave": phases.interleave,
}
PASSES: dict[str, Pass] = _SIMPLIFY | _CHOOSE
_MOST_ROUNDS = 10


def optimize(model: onnx.ModelProto, without: Collection[str] = ()) -> dict[str, int]:
    """Rewrites a model for speed in onnxruntime; inputs, outputs and the free batch stay.

    The result is deterministic, byte for byte. Samples differ by the rounding of float32.

    Args:
        model: model of opset 13 to 18, changed in place.
        without: names of passes to leave out.

    Returns:
        The number of changes by each pass.

    Raises:
        UsageError: an unknown pass.
    """
    unknown = sorted(set(without) - set(PASSES))
    if unknown:
        raise UsageError(
            f"without must name passes: {', '.join(PASSES)}. Received: {', '.join(unknown)}"
        )
    changed = dict.fromkeys(PASSES, 0)
    for group in (_SIMPLIFY, _CHOOSE, _SIMPLIFY):
        for _ in range(_MOST_ROUNDS if group is _SIMPLIFY else 1):
            counts = {name: group[name](model) for name in group if name not in without}
            for name, count in counts.items():
                changed[name] += count
            if not any(counts.values()):
                break
    return changed
