"""Conversion of a model to float16 for GPUs, with float32 inputs and outputs."""

from __future__ import annotations

import sys
from types import ModuleType

import onnx
from onnx import helper

from export.canonical import canonicalize
from export.errors import one_line
from export.passes.graph import BINARY, UNARY, Graph
from export.tensor_ranges import Ranges
from keras_gan import UsageError

LARGEST = 65504.0  # largest float16
HEADROOM = 2.0  # other latents reach larger values than those that were tried
MOST_DIFFERENCE = 0.05  # from Keras, of the output range

# Operations that stay in float32, by the reason.
KEPT = {
    "sums over many values: they exceed 65504, or lose small addends": (
        *("ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum"),
        *("ReduceLogSumExp", "GlobalAveragePool", "CumSum", "LpNormalization"),
    ),
    "normalizations: such sums, and the root of a small variance": (
        *("BatchNormalization", "InstanceNormalization", "LayerNormalization"),
        *("MeanVarianceNormalization", "GroupNormalization"),
    ),
    "functions that map small values to large ones, or large to small": (
        *("Exp", "Log", "Pow", "Sqrt", "Reciprocal", "Softmax", "LogSoftmax", "Softplus"),
    ),
    "not every execution provider of onnxruntime has a float16 kernel": (
        *("Erf", "Einsum"),  # in addition to the library's own list
    ),
    "choices of the largest: rounding can make two values equal, and so change the choice": (
        *("ArgMax", "ArgMin"),
    ),
}
_CHOICES = frozenset(("ArgMax", "ArgMin"))
_MOVES = frozenset(  # operations that change no value
    (
        *("Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze"),
        *("Transpose", "Unsqueeze"),
    )
)
_RECURRENT = frozenset(("LSTM", "GRU", "RNN"))  # the library casts outputs that they do not have


def to_float16(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    """Returns a copy of a model that computes in float16, with casts at its inputs and outputs.

    Operations of `KEPT` stay in float32, and so does what is computed only from their results, such
    as the root of a variance and its epsilon, and the parts of the inputs that a choice compares.

    Args:
        model: float32 model, not changed.
        ranges: smallest and largest value of each tensor.

    Raises:
        UsageError: a value beyond the range of float16, or a recurrent layer; the error names
            the operation.
    """
    library = _library()
    graph = Graph(model)
    operations = {op for ops in KEPT.values() for op in ops} | {*library.DEFAULT_OP_BLOCK_LIST}
    kept = _float32_nodes(graph, operations)
    _check_values(graph, kept, ranges)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        converted = library.convert_float_to_float16(
            copy,
            keep_io_types=True,
            op_block_list=sorted(operations),
            node_block_list=sorted(kept),
        )
    except Exception as error:  # the library raises anything
        raise UsageError(
            f"onnxruntime must be able to convert the model to float16. Received: {one_line(error)}"
        ) from error
    _skip_rounding(converted)
    canonicalize(converted)
    return converted


def _library() -> ModuleType:
    """Imports onnxruntime's converter and undoes its change of `sys.path`."""
    before = list(sys.path)
    try:
        from onnxruntime.transformers import float16
    finally:
        sys.path[:] = before
    return float16


def _float32_nodes(graph: Graph, operations: set[str]) -> set[str]:
    kept: set[str] = set()
    for node in graph.nodes:
        makers = [graph.producer(n) for n in node.input if n and graph.constant(n) is None]
        follows = bool(makers) and all(maker and maker.name in kept for maker in makers)
        if node.op_type in operations or (follows and node.op_type in UNARY | BINARY):
            kept.add(node.name)
    for node in graph.nodes:
        if node.op_type in _CHOICES:
            kept |= _moves_before(graph, node)
    return kept


def _moves_before(graph: Graph, node: onnx.NodeProto) -> set[str]:
    """Returns the names of the operations without arithmetic that make the inputs of a node."""
    found: set[str] = set()
    for name in node.input:
        maker = graph.producer(name)
        if maker is not None and maker.op_type in _MOVES:
            found |= {maker.name} | _moves_before(graph, maker)
    return found


def _skip_rounding(model: onnx.ModelProto) -> None:
    """Passes float32 values on unrounded between two operations in float32.

    The library casts every input of the graph and every output of an operation in float32 to
    float16, and back to float32 for the next one.
    """
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.input, *inferred.value_info)
    float32 = {v.name for v in values if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    outputs = {value.name for value in model.graph.output}
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    rounded = {n.output[0]: n.input[0] for n in casts if _casts_to(n, "FLOAT16")}
    rounded = {name: source for name, source in rounded.items() if source in float32}
    back = [n for n in casts if _casts_to(n, "FLOAT") and n.input[0] in rounded]
    whole = {n.output[0]: rounded[n.input[0]] for n in back if n.output[0] not in outputs}
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = whole.get(name, name)
    used = {name for node in model.graph.node for name in node.input} | outputs
    for node in casts:
        if node.output[0] not in used:
            model.graph.node.remove(node)


def _casts_to(node: onnx.NodeProto, name: str) -> bool:
    return helper.get_node_attr_value(node, "to") == onnx.TensorProto.DataType.Value(name)


def _check_values(graph: Graph, kept: set[str], ranges: Ranges) -> None:
    """Checks every value and weight against the largest float16.

    A CPU computes float16 models in float32, so a comparison of samples there would not show an
    overflow on a GPU.
    """
    limit = LARGEST / HEADROOM
    for node in graph.nodes:
        if node.op_type in _RECURRENT:
            raise UsageError(
                f"onnxruntime cannot convert recurrent layers to float16. Received: {node.name}"
            )
        for name in node.output:
            readers = graph.readers(name)
            within = node.name in kept and all(reader.name in kept for reader in readers)
            reached = max(map(abs, ranges.get(name, (0.0, 0.0))))
            if reached > limit and not within:
                _raise_overflow(f"the output of {node.name}", reached)
        for name in node.input if node.name not in kept else ():
            weights = graph.constant(name)
            if weights is None or weights.dtype != "float32" or not weights.size:
                continue
            if (reached := float(abs(weights).max())) > LARGEST:
                _raise_overflow(f"a weight of {node.name}", reached)


def _raise_overflow(tensor: str, reached: float) -> None:
    raise UsageError(
        f"float16 holds numbers up to {LARGEST:.0f}, and a model must stay below half of that. "
        f"Received: {tensor}, which reaches {reached:.3g}"
    )
