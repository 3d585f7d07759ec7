"""Layer normalization as one ONNX node, found among the operations of TensorFlow.

The converter would write a dozen nodes, and then move the transposes of convolutions into them,
after which they have many forms.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx

OPSET = 17  # the first with LayerNormalization


class _MismatchError(Exception):
    """A node that is not the one of the pattern."""


@dataclasses.dataclass
class _Pattern:
    """Layer normalization over the last axis as Keras computes it, read from its end.

    y = x f + (b - m f) with f = g / sqrt(v + epsilon), mean m and variance v of the last axis; g
    and b may be missing.

    Args:
        last: the addition.
        nodes: the others read so far.
    """

    last: Any
    nodes: list[Any] = dataclasses.field(default_factory=list)
    source: str = ""  # x
    gamma: np.ndarray | None = None
    beta: np.ndarray | None = None
    epsilon: float = 0.0

    def take(self, node: Any, *types: str) -> list[Any]:
        """Returns the operands of a node of one of these types, which belongs to the pattern."""
        if node is None or node.type not in types:
            raise _MismatchError
        self.nodes.append(node)
        return node.inputs

    def take_constant(self, node: Any, op: str) -> tuple[Any, np.ndarray]:
        """Returns the operands of a node of which the second is a constant of float32."""
        source, constant = self.take(node, op)
        value = constant.get_tensor_value(as_list=False) if constant.is_const() else None
        if value is None or value.dtype != np.float32:
            raise _MismatchError
        return source, value

    def take_mean(self, graph: Any, node: Any) -> tuple[Any, str]:
        """Returns the operand of a mean of the last axis, as a node and as a tensor."""
        source, axis = self.take(node, "Mean")
        axes = np.ravel(axis.get_tensor_value(as_list=False)).tolist() if axis.is_const() else []
        rank = len(graph.get_shape(node.input[0]) or ())
        keeps = node.get_attr_value("keep_dims", False)
        if not rank or axes not in ([-1], [rank - 1]) or not keeps:
            raise _MismatchError
        return source, node.input[0]


def rewrite(graph: Any, nodes: list[Any]) -> list[Any]:
    """Replaces each layer normalization over the last axis in a graph of tf2onnx.

    Args:
        graph: the graph, whose nodes are TensorFlow's; left as it is below opset 17.
        nodes: its nodes.

    Returns:
        The nodes that there are now.
    """
    if graph.opset < OPSET:
        return nodes
    for last in nodes:
        if last.type == "AddV2":
            pattern = _find(graph, last)
            if pattern is not None:
                _replace(graph, pattern)
    return graph.get_nodes()


def _find(graph: Any, last: Any) -> _Pattern | None:
    """Returns the layer normalization that ends in a node; `None` if there is none."""
    pattern = _Pattern(last)
    try:
        _read(graph, pattern)
    except _MismatchError:
        return None
    shape, within = graph.get_shape(pattern.source), {node.name for node in pattern.nodes}
    within.add(last.name)
    for node in pattern.nodes:
        (output,) = node.output
        readers = {reader.name for reader in graph.find_output_consumers(output)}
        if output in graph.outputs or not readers <= within:
            return None
    is_float = graph.get_dtype(pattern.source) == onnx.TensorProto.FLOAT
    return pattern if is_float and _fits(pattern, shape) else None


def _fits(pattern: _Pattern, shape: list[int]) -> bool:
    """Returns whether scale and shift have one value for each channel of the last axis."""
    if shape[-1] < 1:
        return False
    wanted = (*[1] * (len(shape) - 1), shape[-1])
    return all(x is None or x.shape == wanted for x in (pattern.gamma, pattern.beta))


def _read(graph: Any, pattern: _Pattern) -> None:
    """Reads the nodes from the last one; raises `_MismatchError` where one differs."""
    scaled, shift = pattern.last.inputs
    if shift.type == "AddV2":
        shift, pattern.beta = pattern.take_constant(shift, "AddV2")
    # x f and -m f
    _, factor = pattern.take(scaled, "Mul")
    negative, same = pattern.take(shift, "Mul")
    (mean,) = pattern.take(negative, "Neg")
    _, pattern.source = pattern.take_mean(graph, mean)
    if same is not factor or scaled.input[0] != pattern.source:
        raise _MismatchError
    # f = g / sqrt(v + epsilon)
    if factor.type == "Mul":
        factor, pattern.gamma = pattern.take_constant(factor, "Mul")
    (total,) = pattern.take(factor, "Rsqrt")
    variance, epsilon = pattern.take_constant(total, "AddV2")
    # v, whose gradient stops at the mean
    square, _ = pattern.take_mean(graph, variance)
    _, center = pattern.take(square, "SquaredDifference")
    (other,) = pattern.take(center, "StopGradient")
    if square.input[0] != pattern.source or other is not mean or epsilon.size != 1:
        raise _MismatchError
    pattern.epsilon = epsilon.item()


def _replace(graph: Any, pattern: _Pattern) -> None:
    last = pattern.last
    (output,) = last.output
    shape, dtype = graph.get_shape(output), graph.get_dtype(output)
    gamma = np.ones(shape[-1], np.float32) if pattern.gamma is None else pattern.gamma.ravel()
    operands = [gamma] if pattern.beta is None else [gamma, pattern.beta.ravel()]
    names = [
        graph.make_const(f"{last.name}/normalization_{number}", value).output[0]
        for number, value in enumerate(operands)
    ]
    for node in (last, *pattern.nodes):
        graph.remove_node(node.name)
    graph.make_node(
        "LayerNormalization",
        [pattern.source, *names],
        attr={"axis": -1, "epsilon": pattern.epsilon},
        name=f"{last.name}/normalization",
        outputs=[output],
        shapes=[shape],
        dtypes=[dtype],
        skip_conversion=True,
    )
