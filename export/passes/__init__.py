"""Passes on an ONNX graph: each leaves its function as it is and makes onnxruntime faster.

A pass is a function that changes a model in place and says in how many places. `optimize` runs all
of them; `PASSES` names them, so that each can be left out and measured (benchmarks/inference.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import onnx

from export.passes.activations import activations
from export.passes.batch_norm import batch_norm
from export.passes.constants import constants
from export.passes.layout import layout
from export.passes.movement import movement
from export.passes.phases import interleave, phases, picture
from export.passes.stride_one import stride_one
from export.passes.upsampled_conv import upsampled_conv
from keras_gan import UsageError

__all__ = ["PASSES", "optimize"]

Pass = Callable[[onnx.ModelProto], int]

# Those that simplify the graph, until nothing changes; then those that choose a form.
_SIMPLIFY: tuple[Pass, ...] = (constants, movement, batch_norm, layout, activations)
_CHOOSE: tuple[Pass, ...] = (upsampled_conv, phases, stride_one, picture, interleave)
PASSES: dict[str, Pass] = {each.__name__: each for each in (*_SIMPLIFY, *_CHOOSE)}
_MOST_ROUNDS = 10


def optimize(model: onnx.ModelProto, without: Collection[str] = ()) -> dict[str, int]:
    """Makes a model faster in onnxruntime; inputs, outputs and the free batch stay.

    The same model becomes the same bytes. Samples differ by the rounding of float32.

    Args:
        model: changed in place; opset 13 to 18.
        without: names of passes to leave out.

    Returns:
        How many places each pass has changed.

    Raises:
        UsageError: there is no such pass.
    """
    unknown = sorted(set(without) - set(PASSES))
    if unknown:
        raise UsageError(
            f"without must name passes: {', '.join(PASSES)}. Received: {', '.join(unknown)}"
        )
    changed = dict.fromkeys(PASSES, 0)
    for group in (_SIMPLIFY, _CHOOSE, _SIMPLIFY):
        for _ in range(_MOST_ROUNDS if group is _SIMPLIFY else 1):
            counts = {
                each.__name__: each(model) for each in group if each.__name__ not in without
            }
            for name, count in counts.items():
                changed[name] += count
            if not any(counts.values()):
                break
    return changed
