"""Placement of activations directly after the layer with which onnxruntime fuses them."""

from __future__ import annotations

import onnx

from export.passes.graph import UNARY, Graph

_MOVES = frozenset(("Reshape", "Transpose", "DepthToSpace", "Squeeze", "Unsqueeze"))
_LAYERS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))


def advance(model: onnx.ModelProto) -> int:
    """Rewrites max(x, a x) as LeakyRelu, and moves activations in front of reshapes.

    Args:
        model: model, changed in place.

    Returns:
        The number of rewritten or moved activations.
    """
    graph = Graph(model)
    changed = sum(_as_leaky_relu(graph, node) for node in list(graph.nodes))
    changed += sum(_move_up(graph, node) for node in list(graph.nodes))
    graph.write()
    return changed


def _as_leaky_relu(graph: Graph, node: onnx.NodeProto) -> bool:
    """Rewrites Max(x, Mul(x, a)) with a constant scalar 0 < a < 1."""
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
        activation = graph.node("LeakyRelu", [x], node.output[0], alpha=float(slope.item()))
        graph.replace([mul, node], [activation], at=node)
        return True
    return False


def _move_up(graph: Graph, node: onnx.NodeProto) -> bool:
    """Moves an activation in front of the reshapes and transposes between it and its layer."""
    if node.op_type not in UNARY:
        return False
    moves = []
    name = node.input[0]
    producer = graph.producer(name)
    while producer is not None and producer.op_type in _MOVES and graph.private(name):
        moves.append(producer)
        name = producer.input[0]
        producer = graph.producer(name)
    if not moves or producer is None or producer.op_type not in _LAYERS or not graph.private(name):
        return False
    first = moves[-1]
    activation = graph.node(node.op_type, [name])
    activation.attribute.extend(node.attribute)
    first.input[0] = activation.output[0]
    result = node.output[0]
    graph.replace([node])
    moves[0].output[0] = result
    graph.nodes.insert(graph.nodes.index(first), activation)
    graph.changed()
    return True
