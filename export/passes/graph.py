"""An ONNX graph as the passes see it: who makes and who reads a tensor, constants, shapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

# Elementwise on one tensor: the same whatever the order of the elements.
UNARY = frozenset(
    (
        *("Abs", "Ceil", "Celu", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid"),
        *("HardSwish", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu"),
        *("Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Tanh"),
    )
)
BINARY = frozenset(("Add", "Sub", "Mul", "Div"))
_HELD_OUT = 1024  # constants of more values than this have no part in the inference of shapes


class Graph:
    """Nodes of a model with the look-ups that rewriting needs; `write` puts them back.

    Every look-up is of the graph as it is now. Graphs of generators have hundreds of nodes, so
    that nothing is gained by keeping the look-ups up to date instead of making them anew.

    Args:
        model: changed in place by `write`.
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
        self._made = 0
        self._index()

    # ------------------------------------------------------------------------ looking

    def _index(self) -> None:
        self._producers = {name: node for node in self.nodes for name in node.output if name}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._names = {*self._producers, *self._constants, *self.inputs}
        self._names |= {node.name for node in self.nodes}
        # What the body of a Loop or If reads is kept under its name, as an output is.
        within = {name for node in self.nodes for name in _reads_within(node)}
        self._names |= within
        self.kept = {*self.outputs, *within}

    def producer(self, name: str) -> onnx.NodeProto | None:
        return self._producers.get(name)

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a tensor, one twice if it reads it twice."""
        return self._readers.get(name, [])

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The node that alone reads a tensor, once; nothing outside the graph sees it either."""
        readers = self.readers(name)
        return readers[0] if len(readers) == 1 and name not in self.kept else None

    def private(self, name: str) -> bool:
        """Whether a single node reads the tensor, so that it may become another one."""
        return self.only_reader(name) is not None

    def constant(self, name: str) -> np.ndarray | None:
        if name not in self._constants or name in self.inputs:  # an input may be overridden
            return None
        if name not in self._arrays:
            self._arrays[name] = numpy_helper.to_array(self._constants[name])
        return self._arrays[name]

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """Sizes, None where they are free; None if not even their number is known."""
        array = self.constant(name)
        if array is not None:
            return array.shape
        if self._shapes is None:
            self._shapes = self._infer()
        return self._shapes.get(name)

    def _infer(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes by ONNX's own inference, on a copy without weights, as none depends on them."""
        light = onnx.ModelProto(ir_version=self.model.ir_version)
        light.opset_import.extend(self.model.opset_import)
        light.graph.name = "shapes"
        light.graph.node.extend(self.nodes)
        light.graph.input.extend(self.model.graph.input)
        # tf2onnx leaves the names of sizes open; equal names would be taken for equal sizes.
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

    # ------------------------------------------------------------------------ changing

    def name(self, hint: str) -> str:
        """A name that is not in the graph yet; the same for the same graph and passes."""
        while True:
            self._made += 1
            name = f"{hint}_{self._made}"
            if name not in self._names:
                self._names.add(name)
                return name

    def add_constant(self, hint: str, array: Any) -> str:
        name = self.name(hint)
        array = np.asarray(array, order="C")  # ascontiguousarray makes vectors of scalars
        self._constants[name] = numpy_helper.from_array(array, name)
        self._arrays[name] = array
        return name

    def node(self, op: str, inputs: Sequence[str], output: str = "", **attributes) -> Any:
        """Makes a node, not yet part of the graph, with one output."""
        name = self.name(op)
        return helper.make_node(op, list(inputs), [output or name], name=name, **attributes)

    def replace(
        self, old: Iterable[onnx.NodeProto], new: Sequence[onnx.NodeProto] = (), at: Any = None
    ) -> None:
        """Puts nodes in the place of others: of `at`, by default of the last of them."""
        gone = [id(node) for node in old]
        place = id(at) if at is not None else gone[-1]
        nodes = []
        for node in self.nodes:
            if id(node) == place:
                nodes.extend(new)
            if id(node) not in gone:
                nodes.append(node)
        self.nodes = nodes
        self.changed()

    def rename_reads(self, old: str, new: str) -> None:
        """Lets every node that reads one tensor read another."""
        for node in self.readers(old):
            for i, name in enumerate(node.input):
                if name == old:
                    node.input[i] = new
        self.changed()

    def remove(self, node: onnx.NodeProto) -> None:
        """Takes a node out whose output is its first input, under the name of either."""
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
        """Puts every node after those that it reads, and cuts what no output needs."""
        self._index()
        self.nodes = self._ordered()
        self.changed()

    def changed(self) -> None:
        """To be called after nodes were changed by hand."""
        self._shapes = None
        self._index()

    def write(self) -> None:
        """Writes the graph back, as far as an output needs it, in the order that it has."""
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
    for found in node.attribute:
        if found.name == name:
            return helper.get_attribute_value(found)
    return default


def has_subgraph(node: onnx.NodeProto) -> bool:
    return any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute)


def weights_like(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    """What was computed in float64 in the number format of the weights that it came from."""
    return np.asarray(array, dtype=like.dtype, order="C")


def _reads(node: onnx.NodeProto) -> list[str]:
    return [*node.input, *_reads_within(node)]


def _reads_within(node: onnx.NodeProto) -> list[str]:
    """What the graphs read that are attributes of a node."""
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
