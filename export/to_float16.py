"""A model in float16, for GPUs: half the size, float32 at its inputs and outputs."""

from __future__ import annotations

import sys
from types import ModuleType

import onnx

from export.canonical import canonicalize
from export.generator import one_line
from export.passes.graph import BINARY, UNARY, Graph
from export.tensor_ranges import Ranges
from keras_gan import UsageError

LARGEST = 65504.0  # of float16
HEADROOM = 2.0  # other latents reach further than those that were tried
MOST_DIFFERENCE = 0.05  # from Keras, of the output range

# What stays in float32, and what would happen otherwise.
KEPT = {
    "sums over many values: they pass 65504, or lose what is small beside them": (
        *("ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum"),
        *("ReduceLogSumExp", "GlobalAveragePool", "CumSum", "LpNormalization"),
    ),
    "normalizations: they are such sums, and a root of a small variance": (
        *("BatchNormalization", "InstanceNormalization", "LayerNormalization"),
        *("MeanVarianceNormalization", "GroupNormalization"),
    ),
    "functions that make large numbers of small ones, or the other way round": (
        *("Exp", "Log", "Pow", "Sqrt", "Reciprocal", "Softmax", "LogSoftmax", "Softplus"),
    ),
    "onnxruntime has no float16 kernels for them everywhere": (
        *("Erf", "Einsum"),  # and the library's own list
    ),
}
_RECURRENT = frozenset(("LSTM", "GRU", "RNN"))  # the library writes casts of outputs they lack


def to_float16(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    """Makes a copy of a model that computes in float16, between casts at its inputs and outputs.

    Operations of `KEPT` stay in float32, and what is computed of their results alone, such as the
    root of a variance and the epsilon below it.

    Args:
        model: float32; stays as it is.
        ranges: smallest and largest value of its tensors.

    Raises:
        UsageError: a value beyond what float16 holds, or a recurrent layer; names the operation.
    """
    library = _library()
    graph = Graph(model)
    operations = {op for ops in KEPT.values() for op in ops} | {*library.DEFAULT_OP_BLOCK_LIST}
    kept = _kept(graph, operations)
    _check_values(graph, kept, ranges)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        made = library.convert_float_to_float16(
            copy,
            keep_io_types=True,
            op_block_list=sorted(operations),
            node_block_list=sorted(kept),
        )
    except Exception as error:  # of the library, of any class
        raise UsageError(
            f"onnxruntime must be able to convert the model to float16. Received: {one_line(error)}"
        ) from error
    canonicalize(made)
    return made


def _library() -> ModuleType:
    """onnxruntime's converter, whose package adds its folder of programs to where Python looks."""
    before = list(sys.path)
    try:
        from onnxruntime.transformers import float16
    finally:
        sys.path[:] = before
    return float16


def _kept(graph: Graph, operations: set[str]) -> set[str]:
    kept: set[str] = set()
    for node in graph.nodes:
        makers = [graph.producer(n) for n in node.input if n and graph.constant(n) is None]
        follows = bool(makers) and all(maker and maker.name in kept for maker in makers)
        if node.op_type in operations or (follows and node.op_type in UNARY | BINARY):
            kept.add(node.name)
    return kept


def _check_values(graph: Graph, kept: set[str], ranges: Ranges) -> None:
    """Refuses by name what passes the largest float16.

    A CPU has no float16 arithmetic and computes in float32, so that a comparison of samples there
    would not show what overflows on a GPU.
    """
    limit = LARGEST / HEADROOM
    for node in graph.nodes:
        if node.op_type in _RECURRENT:
            raise UsageError(
                "A recurrent layer has no float16 in onnxruntime's converter. "
                f"Received: {node.name}"
            )
        for name in node.output:
            readers = graph.readers(name)
            within = node.name in kept and all(reader.name in kept for reader in readers)
            reached = max(map(abs, ranges.get(name, (0.0, 0.0))))
            if reached > limit and not within:
                _refuse(f"the output of {node.name}", reached)
        for name in node.input if node.name not in kept else ():
            weights = graph.constant(name)
            if weights is None or weights.dtype != "float32" or not weights.size:
                continue
            if (reached := float(abs(weights).max())) > LARGEST:
                _refuse(f"a weight of {node.name}", reached)


def _refuse(what: str, reached: float) -> None:
    raise UsageError(
        f"float16 holds numbers up to {LARGEST:.0f}, and a model must stay below half of that. "
        f"Received: {what}, which reaches {reached:.3g}"
    )
