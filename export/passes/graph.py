"""ONNX graph with the queries that passes need: producers, readers, constants, shapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

# Elementwise on one tensor, so independent of the order of the elements.
UNARY = frozenset(
    (
        *("Abs", "Ceil", "Celu", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid"),
        *("HardSwish", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu"),
        *("Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Tanh"),
    )
)
BINARY = frozenset(("Add", "Sub", "Mul", "Div"))
_HELD_OUT = 1024  # larger constants are left out of shape inference


class Graph:
    """Nodes of a model with indices for rewriting; `write` stores them in the model.

    Indices always describe the current graph. They are rebuilt after each change: graphs of
    generators have hundreds of nodes, so that incremental updates would gain nothing.

    Args:
        model: model that `write` changes in place.
    """

    def __init__(self, model: onnx.ModelProto):
        self.model = model
        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        self.inputs = [value.name for value in model.graph.input]
        self.outputs = [value.name for value in model.graph.output]
        self.kept: set[str] = set()
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._arrays: dict[str, np.ndarray] = {}
        self._shapes: dict[str, tuple[int | None, ...]] | None = None
        self._counter = 0
        self._index()

    # ------------------------------------------------------------------------ queries

    def _index(self) -> None:
        self._producers = {name: node for node in self.nodes for name in node.output if name}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._names = {*self._producers, *self._constants, *self.inputs}
        self._names |= {node.name for node in self.nodes}
        # Tensors that the body of a Loop or If reads keep their names, as outputs do.
        within = {name for node in self.nodes for name in _reads_within(node)}
        self._names |= within
        self.kept = {*self.outputs, *within}

    def producer(self, name: str) -> onnx.NodeProto | None:
        """Returns the node that writes a tensor, `None` for inputs and constants."""
        return self._producers.get(name)

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """Returns the nodes that read a tensor, once for each time that they read it."""
        return self._readers.get(name, [])

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """Returns the only reader of a tensor that is not an output, otherwise `None`."""
        readers = self.readers(name)
        return readers[0] if len(readers) == 1 and name not in self.kept else None

    def private(self, name: str) -> bool:
        """Checks that only one node reads a tensor, so that its content may change."""
        return self.only_reader(name) is not None

    def constant(self, name: str) -> np.ndarray | None:
        """Returns the value of a constant, `None` for any other tensor."""
        if name not in self._constants or name in self.inputs:  # an input may be overridden
            return None
        if name not in self._arrays:
            self._arrays[name] = numpy_helper.to_array(self._constants[name])
        return self._arrays[name]

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """Returns the sizes of a tensor, `None` where free; `None` if the rank is unknown."""
        array = self.constant(name)
        if array is not None:
            return array.shape
        if self._shapes is None:
            self._shapes = self._infer()
        return self._shapes.get(name)

    def _infer(self) -> dict[str, tuple[int | None, ...]]:
        """Infers shapes with ONNX, on a copy without weights, on which no shape depends."""
        light = onnx.ModelProto(ir_version=self.model.ir_version)
        light.opset_import.extend(self.model.opset_import)
        light.graph.name = "shapes"
        light.graph.node.extend(self.nodes)
        light.graph.input.extend(self.model.graph.input)
        # Names of sizes are dropped: those of tf2onnx may be equal for different sizes.
        for value in self.model.graph.output:
            light.graph.output.add().CopyFrom(
                helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, None)
            )
        for name, tensor in self._constants.items():
            if int(np.prod(tensor.dims)) <= _HELD_OUT:
                light.graph.initializer.append(tensor)
            elif name not in self.inputs:
                light.graph.input.append(
                    helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
                )
        inferred = shape_inference.infer_shapes(light, data_prop=True).graph
        values = (*inferred.value_info, *inferred.input, *inferred.output)
        return {v.name: _sizes(v) for v in values if v.type.tensor_type.HasField("shape")}

    # ------------------------------------------------------------------------ changes

    def name(self, hint: str) -> str:
        """Returns a name that is not in the graph yet, by a deterministic counter."""
        while True:
            self._counter += 1
            name = f"{hint}_{self._counter}"
            if name not in self._names:
                self._names.add(name)
                return name

    def add_constant(self, hint: str, array: Any) -> str:
        """Adds a constant and returns its name."""
        name = self.name(hint)
        array = np.asarray(array, order="C")  # ascontiguousarray would turn scalars into vectors
        self._constants[name] = numpy_helper.from_array(array, name)
        self._arrays[name] = array
        return name

    def node(self, op: str, inputs: Sequence[str], output: str = "", **attributes) -> Any:
        """Creates a node with one output that is not yet part of the graph."""
        name = self.name(op)
        return helper.make_node(op, list(inputs), [output or name], name=name, **attributes)

    def replace(
        self, old: Iterable[onnx.NodeProto], new: Sequence[onnx.NodeProto] = (), at: Any = None
    ) -> None:
        """Replaces nodes; new ones take the position of `at`, by default of the last old one."""
        removed = [id(node) for node in old]
        position = id(at) if at is not None else removed[-1]
        nodes = []
        for node in self.nodes:
            if id(node) == position:
                nodes.extend(new)
            if id(node) not in removed:
                nodes.append(node)
        self.nodes = nodes
        self.changed()

    def rename_reads(self, old: str, new: str) -> None:
        """Makes every reader of one tensor read another."""
        for node in self.readers(old):
            for i, name in enumerate(node.input):
                if name == old:
                    node.input[i] = new
        self.changed()

    def remove(self, node: onnx.NodeProto) -> None:
        """Removes a node whose output equals its first input."""
        source, result = node.input[0], node.output[0]
        if result not in self.kept:
            self.replace([node])
            self.rename_reads(result, source)
            return
        producer = self.producer(source)
        if producer is None or source in self.kept:
            return  # an input or constant that is itself an output keeps its Identity
        self.replace([node])
        self.rename_reads(source, result)
        for i, name in enumerate(producer.output):
            if name == source:
                producer.output[i] = result
        self.changed()

    def sort(self) -> None:
        """Sorts the nodes topologically and removes those that no output needs."""
        self._index()
        self.nodes = self._ordered()
        self.changed()

    def changed(self) -> None:
        """Updates the indices after nodes were changed directly."""
        self._shapes = None
        self._index()

    def write(self) -> None:
        """Stores the nodes that an output needs in the model, in their current order."""
        needed = {id(node) for node in self._ordered()}
        nodes = [node for node in self.nodes if id(node) in needed]
        needed = {name for node in nodes for name in _reads(node)} | set(self.outputs)
        graph = self.model.graph
        inputs = set(self.inputs)
        constants = [
            tensor for name, tensor in self._constants.items() if name in needed or name in inputs
        ]
        nodes = [_copy(node) for node in nodes]
        constants = [_copy(tensor) for tensor in constants]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(nodes)
        graph.initializer.extend(constants)

    def _ordered(self) -> list[onnx.NodeProto]:
        placed: list[onnx.NodeProto] = []
        seen: set[int] = set()
        stack = [(node, False) for node in reversed([self.producer(o) for o in self.outputs])]
        while stack:
            node, read = stack.pop()
            if node is None or (id(node) in seen and not read):
                continue
            if read:
                placed.append(node)
                continue
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((self.producer(name), False) for name in reversed(_reads(node)))
        return placed


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Returns the value of an attribute of a node."""
    for found in node.attribute:
        if found.name == name:
            return helper.get_attribute_value(found)
    return default


def has_subgraph(node: onnx.NodeProto) -> bool:
    """Checks for a body, such as that of a loop or a branch."""
    return any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute)


def weights_like(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Casts an array that was computed in float64 to the dtype of its original weights."""
    return np.asarray(array, dtype=like.dtype, order="C")


def _reads(node: onnx.NodeProto) -> list[str]:
    return [*node.input, *_reads_within(node)]


def _reads_within(node: onnx.NodeProto) -> list[str]:
    """Returns the tensors that the bodies of a node read."""
    graphs = [a.g for a in node.attribute if a.type == a.GRAPH]
    graphs += [graph for a in node.attribute for graph in a.graphs]
    return [name for graph in graphs for inner in graph.node for name in _reads(inner)]


def _copy(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _sizes(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)
