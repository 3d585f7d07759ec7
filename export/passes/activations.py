"""Activations directly behind the convolution or dense layer that onnxruntime fuses them with."""

from __future__ import annotations

import onnx

from export.passes.graph import UNARY, Graph

_MOVES = frozenset(("Reshape", "Transpose", "DepthToSpace", "Squeeze", "Unsqueeze"))
_MAKERS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))


def advance(model: onnx.ModelProto) -> int:
    """Writes max(x, a x) as LeakyReLU, and activations before the moves behind a layer.

    Args:
        model: changed in place.

    Returns:
        How many activations were rewritten or moved.
    """
    graph = Graph(model)
    changed = sum(_as_leaky_relu(graph, node) for node in list(graph.nodes))
    changed += sum(_move_up(graph, node) for node in list(graph.nodes))
    graph.write()
    return changed


def _as_leaky_relu(graph: Graph, node: onnx.NodeProto) -> bool:
    """Finds Max(x, Mul(x, a)) with a constant 0 < a < 1, one number for all of x."""
    if node.op_type != "Max" or len(node.input) != 2:
        return False
    for x, other in (node.input, node.input[::-1]):
        mul = graph.producer(other)
        if mul is None or mul.op_type != "Mul" or x not in mul.input:
            continue
        slope = graph.constant(mul.input[1] if mul.input[0] == x else mul.input[0])
        rank = graph.shape(x)
        if slope is None or slope.size != 1 or rank is None or slope.ndim > len(rank):
            continue
        if not 0 < slope.item() < 1 or not graph.private(other):
            continue
        made = graph.node("LeakyRelu", [x], node.output[0], alpha=float(slope.item()))
        graph.replace([mul, node], [made], at=node)
        return True
    return False


def _move_up(graph: Graph, node: onnx.NodeProto) -> bool:
    if node.op_type not in UNARY:
        return False
    moves = []
    name = node.input[0]
    producer = graph.producer(name)
    while producer is not None and producer.op_type in _MOVES and graph.private(name):
        moves.append(producer)
        name = producer.input[0]
        producer = graph.producer(name)
    if not moves or producer is None or producer.op_type not in _MAKERS or not graph.private(name):
        return False
    first = moves[-1]
    made = graph.node(node.op_type, [name])
    made.attribute.extend(node.attribute)
    first.input[0] = made.output[0]
    result = node.output[0]
    graph.replace([node])
    moves[0].output[0] = result
    graph.nodes.insert(graph.nodes.index(first), made)
    graph.changed()
    return True
