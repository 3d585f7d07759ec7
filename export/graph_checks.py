"""Checks of the traced graph of a network: deterministic, without side effects, float32."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from export.layer_outputs import layer_paths, recorded_layers
from keras_gan import UsageError
from keras_gan.errors import one_line

# Ops whose result does not follow from the inputs, or that run only in the Python process that
# traced them. Random numbers first: a generator of them also changes a variable, its state.
_RANDOM = re.compile(
    r"^(?!StatelessRandomGet).*"  # which only prepares a draw
    r"(Random|Rng|Multinomial|TruncatedNormal|Stateful(?!PartitionedCall))"
)
_PYTHON = re.compile(r"PyFunc|PyFuncStateless")
_NOT_A_FUNCTION = {
    _RANDOM: "draw random numbers",
    re.compile(r"^Assign.*Variable"): "change a variable",
    _PYTHON: "call Python",
}
_RULE = (
    "A network must be a function of its inputs alone: with training=False no layer may draw "
    "random numbers, change a variable or call Python."
)
_ANY_BATCH = "A network must run in a graph, on a batch of any size."
_REMEDIES = {
    "change a variable": "change variables only where training is true",
    "call Python": "write it with keras.ops, as no other process has the function",
}


class _Op(NamedTuple):
    """An op of a graph, or of a function that it calls; then its name begins with the caller's."""

    name: str
    node: Any


def check_is_function(model: keras.Model, graph: tf.types.experimental.GenericFunction) -> None:
    """Checks that a traced model is a function of its inputs alone and computes in float32.

    Args:
        model: the model, whose layers an error names.
        graph: the traced function.

    Raises:
        UsageError: an op draws random numbers, changes a variable, calls Python or casts to
            bfloat16, or the trace fails; the error names the Keras layer and the op.
    """
    concrete = _traced(model, graph)
    ops = list(_all_ops(concrete.graph.as_graph_def()))
    for pattern, action in _NOT_A_FUNCTION.items():
        for op in ops:
            if pattern.search(op.node.op):
                remedy = _REMEDIES.get(action) or _noise_remedy(model, op, concrete.graph)
                raise UsageError(
                    f"{_RULE} Received: {describe_op(model, op.name, op.node.op)}; {remedy}"
                )
    for op in ops:
        if op.node.op == "Cast" and op.node.attr["DstT"].type == tf.bfloat16.as_datatype_enum:
            raise UsageError(
                "A network is exported in float32, and no layer may cast to bfloat16 by itself. "
                f"Received: {describe_op(model, op.name, op.node.op)}; cast to the layer's "
                "compute_dtype, which follows the policy"
            )


def _traced(model: keras.Model, function: tf.types.experimental.GenericFunction) -> Any:
    """Returns the concrete function of a model, traced for a batch of any size.

    Raises:
        UsageError: a layer fails, or an op before it calls Python, whose results have no shape.
    """
    try:
        return function.get_concrete_function()
    except UsageError:
        raise
    except Exception as error:  # layers may raise anything
        raise UsageError(f"{_cause(model, function)} ({one_line(error)})") from error


def _cause(model: keras.Model, function: Any) -> str:
    """Traces a function that fails once more and returns the cause."""
    found = f"{_ANY_BATCH} Received: model {model.name!r}"

    def again(*inputs: Any) -> Any:
        nonlocal found
        with recorded_layers(model, keep=False) as calls:
            try:
                return function.python_function(*inputs)
            except Exception:
                operations: Any = tf.compat.v1.get_default_graph().get_operations()
                python = [op for op in operations if _PYTHON.search(op.type)]
                if python:
                    where = describe_op(model, python[0].name, python[0].type)
                    found = f"{_RULE} Received: {where}; {_REMEDIES['call Python']}"
                elif calls.failed:
                    found = f"{_ANY_BATCH} Received: {calls.describe(calls.failed)}"
                raise

    with contextlib.suppress(Exception):
        signature = function.input_signature
        tf.function(again, input_signature=signature, autograph=False).get_concrete_function()
    return found


def _all_ops(definition: Any) -> Iterator[_Op]:
    """Yields the ops of a graph and of the functions that it calls, each under its caller."""
    bodies = {f.signature.name: f.node_def for f in definition.library.function}
    pending = [("", definition.node)]
    while pending:
        above, nodes = pending.pop(0)
        for node in nodes:
            yield _Op(above + node.name, node)
            called = [value.func.name for value in node.attr.values() if value.func.name]
            called += [f.name for value in node.attr.values() for f in value.list.func]
            # A function that has been read is removed: each is listed once, also a recursive one.
            found = [bodies.pop(name) for name in dict.fromkeys(called) if name in bodies]
            pending += [(f"{above}{node.name}/", body) for body in found]
    for name, body in bodies.items():
        yield from (_Op(f"{name}/{node.name}", node) for node in body)


def _noise_remedy(model: keras.Model, op: _Op, graph: Any) -> str:
    """Returns how to make an input of the numbers that an op draws."""
    uniform = "Uniform" in op.node.op
    found = find_layer(model, op.name)
    owner = found[1] if found else None
    off = ""
    if owner is not None and "training" in inspect.signature(owner.call).parameters:
        off = "call that layer with the `training` of the model, which turns it off here, or "
    declared = ", declared by inputs={'noise': {'fill': 'uniform'}}" if uniform else ""
    drawn = "uniform" if uniform else "normal"
    return (
        f"{off}take the noise as an input of the model, keras.Input({_noise_shape(op, graph)}, "
        f"name='noise'){declared}: a bundle fills it with {drawn} numbers from the seed "
        "(docs/export.md, Noise)"
    )


def _noise_shape(op: _Op, graph: Any) -> str:
    """Returns the shape of a sample of drawn numbers as text, `shape` where it is not known."""
    if op.name != op.node.name:  # within a function
        return "shape"
    shape = graph.get_operation_by_name(op.name).outputs[0].shape
    known = shape.rank and shape.rank > 1 and shape[1:].is_fully_defined()
    return str(tuple(shape[1:])) if known else "shape"


def describe_op(model: keras.Model, op_name: str, op_type: str) -> str:
    """Describes an op by the path of the Keras layer that created it."""
    found = find_layer(model, op_name)
    if found is None:
        return f"op {op_type} ({op_name}) of model {model.name!r}"
    path, layer = found
    return f"op {op_type} in layer {path!r} ({type(layer).__name__})"


def find_layer(model: keras.Model, op_name: str) -> tuple[str, Any] | None:
    """Finds the innermost Keras layer whose scope contains an op, and its path."""
    scopes = op_name.split("/")
    layers = list(layer_paths(model))
    for scope in reversed(scopes):
        # A scope that is entered again gets a number: "dense" becomes "dense_1".
        for name in (scope, re.sub(r"_\d+$", "", scope)):
            found = [(path, layer) for path, layer in layers if layer.name == name]
            if found:  # layers of several nested models may share a name
                return max(found, key=lambda x: sum(n in scopes for n in x[0].split("/")))
    return None
