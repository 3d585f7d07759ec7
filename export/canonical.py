"""Canonical form of an ONNX graph: the same network yields the same bytes in any process.

The names that a converter creates contain counters of the process: of functions, of layers, of the
converter. In canonical form, nodes are in the order in which the outputs need them, and are named
by their operation.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper


def canonicalize(model: onnx.ModelProto) -> None:
    """Orders and names the nodes and constants of a model, and removes what no output needs.

    The names of inputs and outputs stay.
    """
    graph = model.graph
    graph.name = "generator"
    fixed = {port.name: port.name for port in (*graph.input, *graph.output)}
    _rename(graph, fixed, collections.Counter())
    used = {node.domain for node in _all_nodes(graph)}
    for opset in [opset for opset in model.opset_import if opset.domain not in used | {""}]:
        model.opset_import.remove(opset)


def restore_ranks(model: onnx.ModelProto, ranks: Mapping[str, int]) -> None:
    """Squeezes the outputs to which a converter gave leading dimensions of 1.

    tf2onnx 1.17 writes some transposes of one channel as a Reshape to more dimensions and a
    Squeeze. Where the output's Identity was removed before, which depends on an order that differs
    from process to process, it loses the Squeeze.

    Args:
        model: converted model, changed in place.
        ranks: number of dimensions of each output, with the batch, by name.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in list(graph.node):
        rank = ranks.get(node.output[0], 0)
        if node.op_type != "Reshape" or not rank or node.input[1] not in constants:
            continue
        sizes = numpy_helper.to_array(constants[node.input[1]]).tolist()
        extra = len(sizes) - rank
        if extra > 0 and sizes[:extra] == [1] * extra:
            name = node.output[0]
            node.output[0], axes = f"{name}/reshaped", f"{name}/axes"
            graph.initializer.append(numpy_helper.from_array(np.arange(extra), axes))
            graph.node.append(helper.make_node("Squeeze", [node.output[0], axes], [name]))


def _rename(graph: onnx.GraphProto, names: dict[str, str], counts: collections.Counter) -> None:
    """Renames a graph, given the new names of the graphs around it."""
    order = _needed(graph)
    rank = {name: i for i, node in enumerate(order) for name in node.output if name}
    initializers = {tensor.name for tensor in graph.initializer}
    constants: dict[str, int] = {}  # in the order of their first use

    for node in order:
        for name in (*node.input, *_outer_names(node)):
            if name in initializers and name not in constants:
                constants[name] = len(constants)
                names[name] = _new("constant", counts)
        node.name = _new(node.op_type, counts)
        for field in ("doc_string", "domain", "overload"):  # an empty field equals an absent one
            if field == "doc_string" or not getattr(node, field):
                node.ClearField(field)
        node.attribute.sort(key=lambda attribute: attribute.name)
        for i, name in enumerate(node.output):
            if name and name not in names:
                names[name] = f"{node.name}:{i}" if i else node.name
        for subgraph in _subgraphs(node):
            _order_copies(subgraph)
            subgraph.name = f"{node.name}/body"
            for port in (*subgraph.input, *subgraph.output):
                for dimension in port.type.tensor_type.shape.dim:
                    dimension.ClearField("dim_param")  # contains a counter of the process
            own = {port.name: f"{node.name}/input_{i}" for i, port in enumerate(subgraph.input)}
            _rename(subgraph, names | own, counts)

    for name in [port.name for port in graph.output if port.name in initializers]:
        constants.setdefault(name, len(constants))
        names.setdefault(name, _new("constant", counts))
    _keep(graph.node, lambda node: rank.get(next(filter(None, node.output), ""), -1))
    _keep(graph.initializer, lambda tensor: constants.get(tensor.name, -1))
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for item in (*graph.initializer, *graph.input, *graph.output):
        item.name = names.get(item.name, item.name)
        item.ClearField("doc_string")
    graph.ClearField("doc_string")
    del graph.value_info[:]


def _order_copies(graph: onnx.GraphProto) -> None:
    """Makes repeated outputs of a body copies of the first.

    A loop often collects its state as well; tf2onnx copies either of them.
    """
    copied = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Identity"}
    groups: dict[str, list[onnx.ValueInfoProto]] = {}
    for port in graph.output:
        groups.setdefault(copied.get(port.name, port.name), []).append(port)
    for value, ports in groups.items():
        names = sorted((port.name for port in ports), key=lambda name: name != value)
        for port, name in zip(ports, names, strict=True):
            port.name = name


def _needed(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Lists the nodes that the outputs need, each after its own inputs."""
    makers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    order: list[int] = []
    seen: set[int] = set()
    for output in graph.output:
        stack = [(makers[output.name], False)] if output.name in makers else []
        while stack:  # not recursive: networks are deep
            i, inputs_done = stack.pop()
            if inputs_done:
                order.append(i)
            elif i not in seen:
                seen.add(i)
                node = graph.node[i]
                needed = [n for n in (*node.input, *_outer_names(node)) if n in makers]
                stack.append((i, True))
                stack += [(makers[name], False) for name in reversed(needed)]
    return [graph.node[i] for i in order]


def _outer_names(node: onnx.NodeProto) -> dict[str, None]:
    """Lists the tensors that the bodies of a node read from the graphs around them, in order."""
    found: dict[str, None] = {}
    for graph in _subgraphs(node):
        own = {port.name for port in graph.input} | {tensor.name for tensor in graph.initializer}
        own |= {name for inner in graph.node for name in inner.output}
        for inner in graph.node:
            found |= {n: None for n in (*inner.input, *_outer_names(inner)) if n and n not in own}
        found |= {port.name: None for port in graph.output if port.name not in own}
    return found


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for subgraph in _subgraphs(node):
            yield from _all_nodes(subgraph)


def _new(kind: str, counts: collections.Counter) -> str:
    counts[kind] += 1
    return f"{kind}/{counts[kind] - 1}"  # names of inputs and outputs contain no slash


def _keep(values, rank) -> None:
    """Sorts a repeated field in place, without copying weights; removes items of negative rank."""
    unneeded = sum(rank(value) < 0 for value in values)
    values.sort(key=rank)
    del values[:unneeded]
