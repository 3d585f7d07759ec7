"""Ranges of a network's outputs, by interval arithmetic on its last operations.

A Keras graph is followed from an output backward, as far as the range depends on it: the range of
tanh is known whatever comes before. Each operation is traced by itself, and the interval is that
of its TensorFlow operations, so that activations, `keras.ops`, wrappers, Lambda and layers of a
user's own follow the same rules. A subclassed model is traced as a whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_gan import layer_ranges
from keras_gan.intervals import FREE, Interval, of_operation, source_of
from keras_gan.layers import ConditionalBatchNormalization

# Keras is not annotated, and what a type checker infers of it is wrong.
tree: Any = keras.tree

Sources = Sequence[Callable[[], Interval]]  # of the tensors that an operation gets, when needed


@dataclasses.dataclass(frozen=True)
class Lookup:
    """A table in which a network looks ids up: an embedding or a one-hot encoding.

    Args:
        layer: name of the layer.
        size: number of rows.
        ids: range of the ids.
    """

    layer: str
    size: int
    ids: Interval


def output_intervals(model: keras.Model, specs: Any = None) -> Any:
    """Returns the range of each output in inference mode, nested as the model returns them.

    Args:
        model: a built model.
        specs: inputs of a subclassed model as TensorSpecs, nested as the model takes them; by
            default those that it was built with, if Keras knows them.
    """
    if is_graph(model):
        finder = _Finder()
        return tree.map_structure(lambda x: finder.interval(x, {}), _outputs(model))
    traced = _trace_model(model, _built_specs(model) if specs is None else specs)
    return None if traced is None else traced.structured({})


def lookups(model: keras.Model, specs: Any, given: Sequence[Interval]) -> list[Lookup]:
    """Returns the tables in which a network looks up inputs of a known range.

    Args:
        model: a built model.
        specs: its inputs as TensorSpecs, nested as the model takes them.
        given: ranges of its inputs in their order.
    """
    if not is_graph(model):
        traced = _trace_model(model, specs)
        return [] if traced is None else traced.lookups([lambda x=x: x for x in given])
    bound = {id(x): lambda i=i: i for x, i in zip(model.inputs, given, strict=True)}
    return list(_Finder().lookups(model, bound))


def is_graph(model: Any) -> bool:
    """Returns True for a Functional or Sequential model that calls its layers as Keras does."""
    return bool(getattr(model, "inputs", None)) and _is_of_keras(type(model), "call")


def _is_of_keras(cls: type, method: str) -> bool:
    owner = next((c for c in cls.__mro__ if method in vars(c)), cls)
    return owner.__module__.split(".")[0] == "keras"


def _outputs(model: Any) -> Any:
    """Returns the symbolic outputs of a graph, nested as the model returns them."""
    if isinstance(model, keras.Sequential):
        return model.outputs[0]
    return model._outputs_struct


# ------------------------------------------------------------------------ graphs of Keras

# Frequent last layers whose range is known without a trace, which takes some milliseconds.
_LINEAR = (
    *(keras.layers.Dense, keras.layers.EinsumDense),
    *(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D),
    *(keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose),
)
_SHAPES = (keras.layers.Reshape, keras.layers.Flatten, keras.layers.Permute, keras.layers.Dropout)


def _is_like(operation: Any, classes: tuple[type, ...]) -> bool:
    """Returns True for a layer that computes what one of these classes of Keras does."""
    return isinstance(operation, classes) and _is_of_keras(type(operation), "call")


def _of_layer(layer: Any) -> Interval | None:
    if not isinstance(layer, keras.layers.Layer) or not _is_of_keras(type(layer), "call"):
        return None
    return layer_ranges.of_layer(layer, _of_activation)


def _of_activation(activation: Any) -> Interval:
    """Returns the range of an activation for any input."""
    known = layer_ranges.of_activation(activation)
    layer = keras.layers.Activation(activation)
    traced = None if known else _trace(layer, [tf.TensorSpec((2, 2), "float32")], layer)
    return known or (FREE if traced is None else traced.interval(0, [lambda: FREE]))


class _Finder:
    """Ranges of symbolic tensors; each operation is traced once."""

    def __init__(self):
        self._traced: dict[int, _Traced | None] = {}

    def interval(self, tensor: Any, bound: Mapping[int, Callable[[], Interval]]) -> Interval:
        """Returns the range of a tensor of a graph.

        Args:
            tensor: the symbolic tensor.
            bound: ranges of the graph's inputs, where they are known, by the tensors' ids.
        """
        if id(tensor) in bound:
            return bound[id(tensor)]()
        operation, node_index, index = tensor._keras_history
        node = operation._inbound_nodes[node_index]
        if node.is_input:
            return FREE
        sources = [lambda x=x: self.interval(x, bound) for x in node.input_tensors]
        if is_graph(operation):
            inner = {id(x): source for x, source in zip(operation.inputs, sources, strict=True)}
            return self.interval(operation.outputs[index], inner)
        if _is_like(operation, _LINEAR) and operation.activation is keras.activations.linear:
            return FREE
        if _is_like(operation, _SHAPES):
            return sources[0]()
        known = self._known(operation, node) if index == 0 else None
        if known is not None:
            return known
        traced = self._trace(operation, node)
        return FREE if traced is None else traced.interval(index, sources)

    def _known(self, operation: Any, node: Any) -> Interval | None:
        """Returns the range that a layer of Keras has by its definition."""
        if _is_like(operation, (*_LINEAR, keras.layers.Activation)):
            known = layer_ranges.of_activation(operation.activation)
            return known and dataclasses.replace(known, by=operation.name)
        if len(node.input_tensors) > 1:  # an initial state of any range
            return None
        return _of_layer(operation)

    def lookups(self, model: Any, bound: Mapping[int, Callable[[], Interval]]) -> Iterator[Lookup]:
        """Yields the tables in which the layers of a graph look up values of a known range."""
        for node in _nodes(model):
            operation = node.operation
            sources = [lambda x=x: self.interval(x, bound) for x in node.input_tensors]
            if is_graph(operation):
                inner = {id(x): source for x, source in zip(operation.inputs, sources, strict=True)}
                yield from self.lookups(operation, inner)
            elif size := _rows(operation):
                ids = sources[-1]()
                if ids.is_finite:
                    yield Lookup(operation.name, size, ids)
            elif any(map(_may_be_ids, node.input_tensors, sources)):
                traced = self._trace(operation, node)
                yield from [] if traced is None else traced.lookups(sources)

    def _trace(self, operation: Any, node: Any) -> _Traced | None:
        if id(node) not in self._traced:
            arguments = node.arguments
            ids = [id(x) for x in node.input_tensors]

            def call(*tensors: Any) -> Any:
                values = dict(zip(ids, tensors, strict=True))
                args, kwargs = tree.map_structure(
                    lambda x: values[id(x)] if isinstance(x, keras.KerasTensor) else x,
                    (arguments.args, arguments.kwargs),
                )
                return operation(*args, **kwargs)

            specs = [_spec(x.shape, x.dtype) for x in node.input_tensors]
            self._traced[id(node)] = _trace(call, specs, operation)
        return self._traced[id(node)]


def _nodes(model: Any) -> list[Any]:
    """Returns the nodes of a graph, without those of its inputs."""
    functional = getattr(model, "_functional", model)  # that of a Sequential model
    nodes = (node for depth in functional._nodes_by_depth.values() for node in depth)
    return [node for node in nodes if not node.is_input]


def _rows(operation: Any) -> int | None:
    """Returns the number of rows of a layer that does nothing but look up its last input."""
    if _is_like(operation, (keras.layers.Embedding,)):
        return operation.input_dim
    if _is_like(operation, (keras.layers.CategoryEncoding,)):
        return operation.num_tokens
    return operation.num_classes if isinstance(operation, ConditionalBatchNormalization) else None


def _may_be_ids(tensor: Any, interval: Callable[[], Interval]) -> bool:
    """Returns True for one number of each example, of a known range."""
    return math.prod(n or 1 for n in tensor.shape[1:]) == 1 and interval().is_finite


# ------------------------------------------------------------------------ traces


def table_of(operation: Any) -> tuple[int, tf.Tensor] | None:
    """Returns the number of rows among which an operation of TensorFlow chooses, and the ids.

    Returns None for operations of other types, and where the number of rows is not known.
    """
    if operation.type == "OneHot":
        depth = tf.get_static_value(operation.inputs[1])
        return None if depth is None else (int(depth), operation.inputs[0])
    if operation.type == "GatherV2" and operation.get_attr("batch_dims") == 0:
        axis, shape = tf.get_static_value(operation.inputs[2]), operation.inputs[0].shape
        if axis == 0 and shape.rank and shape[0] is not None:
            return int(shape[0]), operation.inputs[1]
    return None


# Loops, and what stacks the outputs of their steps.
_LOOPS = ("While", "StatelessWhile", "TensorListStack")


class _Traced:
    """The TensorFlow graph of one operation or model.

    Args:
        function: the concrete function.
        traced: the operation or model, for the names of its layers.
        structure: what it has returned, nested.
    """

    def __init__(self, function: Any, traced: Any, structure: Any):
        self.graph, self.name, self.structure = function.graph, traced.name, structure
        flattened = getattr(traced, "_flatten_layers", list)()
        self._layers = {layer.name: layer for layer in flattened}
        captured = [(id(inner), outer) for outer, inner in self.graph.captures]
        self._captures = dict(captured)
        count = len(self.graph.inputs) - len(captured)
        self._inputs = {id(x): i for i, x in enumerate(self.graph.inputs[:count])}

    def interval(self, index: int, sources: Sources) -> Interval:
        """Returns the range of an output, given those of the inputs."""
        return self._interval(tree.flatten(self.structure)[index], sources, {})

    def structured(self, known: dict) -> Any:
        """Returns the ranges of all outputs for any inputs, nested as they are returned."""
        return tree.map_structure(lambda x: self._interval(x, (), known), self.structure)

    def lookups(self, sources: Sources) -> list[Lookup]:
        """Returns the tables in which ids of a known range are looked up."""
        found, known = [], {}
        for operation in self.graph.get_operations():
            table = table_of(operation)
            if table is None:
                continue
            if operation.type != "OneHot" and not self._is_weight(operation.inputs[0]):
                continue
            interval = self._interval(table[1], sources, known)
            if interval.is_finite:
                found.append(Lookup(self._layer(operation), table[0], interval))
        return found

    def _is_weight(self, tensor: Any) -> bool:
        return source_of(tensor).op.type == "ReadVariableOp"

    def _interval(self, tensor: Any, sources: Sources, known: dict) -> Interval:
        if id(tensor) not in known:
            known[id(tensor)] = FREE  # also ends a loop of the graph
            known[id(tensor)] = self._find(tensor, sources, known)
        return known[id(tensor)]

    def _find(self, tensor: Any, sources: Sources, known: dict) -> Interval:
        if id(tensor) in self._inputs:
            return sources[self._inputs[id(tensor)]]() if sources else FREE
        if id(tensor) in self._captures:
            value = self._captures[id(tensor)]
            numeric = value.dtype.is_floating or value.dtype.is_integer
            return Interval.of(value.numpy()) if numeric and hasattr(value, "numpy") else FREE
        operation = tensor.op
        if operation.type in _LOOPS:
            # Of a recurrent layer within another one, such as Bidirectional, or a subclassed model.
            found = self._of_loop(operation)
            return FREE if found is None else found
        found = of_operation(
            operation, tensor.value_index, lambda x: self._interval(x, sources, known)
        )
        return found if found.by else dataclasses.replace(found, by=self._layer(operation))

    def _of_loop(self, operation: Any) -> Interval | None:
        layer = self._layers.get(self._layer(operation))
        return None if layer is None or getattr(layer, "return_state", False) else _of_layer(layer)

    def _layer(self, operation: Any) -> str:
        """Returns the name of the layer that an operation belongs to."""
        for scope in reversed(operation.name.split("/")[:-1]):
            for name in (scope, re.sub(r"_\d+$", "", scope)):  # a scope's name is made unique
                if name in self._layers:
                    return name
        return self.name


def _trace_model(model: keras.Model, specs: Any) -> _Traced | None:
    if specs is None:
        return None
    flat = tree.flatten(specs)

    def call(*tensors: Any) -> Any:
        return model(tree.pack_sequence_as(specs, list(tensors)), training=False)

    return _trace(call, flat, model)


def _trace(call: Callable, specs: Sequence[tf.TensorSpec], of: Any) -> _Traced | None:
    """Traces a function of tensors; None of one that cannot be traced by itself."""
    structure: list[Any] = []

    def function(*tensors: Any) -> Any:
        with keras.StatelessScope():  # layers keep neither states nor losses of the trace
            structure[:] = [call(*tensors)]
        return tree.flatten(structure[0])

    with _inlined(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # training gives the same ones
        try:
            traced = tf.function(function, autograph=False).get_concrete_function(*specs)
        except Exception:  # layers raise anything; where it is called, the error is that of a user
            return None
    return _Traced(traced, of, structure[0])


@contextlib.contextmanager
def _inlined() -> Iterator[None]:
    """Lets functions within a trace add their own operations to its graph."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _spec(shape: Sequence[int | None], dtype: Any) -> tf.TensorSpec:
    """Returns a spec of two examples."""
    return tf.TensorSpec((2, *shape[1:]), keras.backend.standardize_dtype(dtype))


def _built_specs(model: keras.Model) -> Any:
    """Returns the inputs that a subclassed model was built with; None if Keras does not know."""
    config = model.get_build_config() or {}
    shapes = config.get("input_shape")
    if not shapes:
        return None
    if all(n is None or isinstance(n, int) for n in shapes):
        return _spec(shapes, "float32")
    if isinstance(shapes, (list, tuple)) and all(isinstance(s, (list, tuple)) for s in shapes):
        return [_spec(shape, "float32") for shape in shapes]
    return None
