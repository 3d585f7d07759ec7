"""Constant folding, static target shapes, and removal of dead nodes and weights.

onnxruntime folds constants when it loads a model, but not the shape arithmetic of tf2onnx's Reshape
nodes, whose only unknown is the batch; and the other passes need constants. onnxslim 0.1.98 does
the same arithmetic, and nothing else on these generators that the passes do not do
(docs/export.md), at the cost of three more packages.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from export.passes.graph import Graph, attribute, has_subgraph

_RANDOM = ("Random", "Multinomial", "Bernoulli", "Dropout")
_MAX_ADDED = 2**16  # bytes that folding a node may add to the file


def fold(model: onnx.ModelProto) -> int:
    """Folds nodes that depend on no input, and removes nodes on which no output depends.

    Args:
        model: model, changed in place.

    Returns:
        The number of removed nodes plus that of target shapes that became constants.
    """
    graph = Graph(model)
    before = len(graph.nodes)
    fixed = _fix_shapes(graph) + sum(_skip_reshape(graph, node) for node in graph.nodes)
    for node in list(graph.nodes):
        _fold(graph, node)
    for node in list(graph.nodes):
        if node.op_type == "Identity":
            graph.remove(node)
    graph.write()
    return fixed + before - len(model.graph.node)


def _fix_shapes(graph: Graph) -> int:
    """Sets a constant target for each Reshape, if at most one of its sizes is free."""
    changed = 0
    for node in list(graph.nodes):
        if node.op_type != "Reshape" or graph.constant(node.input[1]) is not None:
            continue
        shape = graph.shape(node.output[0])
        if shape is None or shape.count(None) > 1 or 0 in shape:
            continue
        target = np.array([-1 if size is None else size for size in shape], np.int64)
        node.input[1] = graph.add_constant("shape", target)
        if attribute(node, "allowzero", 0):
            node.ClearField("attribute")
        graph.changed()
        changed += 1
    return changed


def _skip_reshape(graph: Graph, node: onnx.NodeProto) -> bool:
    """Makes the second of two Reshapes read the input of the first."""
    if node.op_type != "Reshape" or not graph.private(node.input[0]):
        return False
    first, target = graph.producer(node.input[0]), graph.constant(node.input[1])
    if first is None or first.op_type != "Reshape" or target is None or 0 in target:
        return False
    node.input[0] = first.input[0]
    graph.changed()
    return True


def _fold(graph: Graph, node: onnx.NodeProto) -> None:
    if node.op_type == "Constant":
        value = attribute(node, "value")
        if value is None:
            return
        _replace_by(graph, node, [numpy_helper.to_array(value)])
        return
    if not node.output or node.op_type.startswith(_RANDOM) or has_subgraph(node):
        return
    values = {name: graph.constant(name) for name in node.input if name}
    if not values or any(value is None for value in values.values()):
        return
    results = _run(graph, node, values)
    added = sum(r.nbytes for r in results) - sum(v.nbytes for v in values.values() if v is not None)
    if added <= _MAX_ADDED:
        _replace_by(graph, node, results)


def _run(graph: Graph, node: onnx.NodeProto, values: dict) -> list[np.ndarray]:
    """Computes one node with onnxruntime, which would otherwise do so at every start."""
    outputs = [name for name in node.output if name]
    holder = helper.make_graph(
        [node],
        "constant",
        [],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(
        holder, opset_imports=graph.model.opset_import, ir_version=graph.model.ir_version
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [np.asarray(result) for result in session.run(outputs, {})]


def _replace_by(graph: Graph, node: onnx.NodeProto, results: list[np.ndarray]) -> None:
    """Replaces a node by constants; an output of the graph becomes an Identity of one."""
    kept = []
    outputs = [name for name in node.output if name]
    for name, result in zip(outputs, results, strict=True):
        constant = graph.add_constant("constant", result)
        graph.rename_reads(name, constant)
        if name in graph.kept:
            kept.append(graph.node("Identity", [constant], name))
    graph.replace([node], kept)
