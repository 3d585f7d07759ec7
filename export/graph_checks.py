"""Checks of the traced graph of a network: deterministic, without side effects, float32."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_gan import UsageError

# Ops whose result does not follow from the inputs, or that run only in the Python process that
# traced them; and the remedy for each.
_NOT_A_FUNCTION = re.compile(
    r"Random|Rng|Multinomial|TruncatedNormal|Stateful(?!PartitionedCall)|^Assign.*Variable|PyFunc"
    r"|PyFuncStateless"
)
_REMEDIES = {
    r"Random|Rng|Multinomial|TruncatedNormal|Stateful": "take the noise as an input of the model, "
    "keras.Input(shape, name='noise')",
    r"Assign": "change variables only where training is true",
    r"PyFunc": "write it with keras.ops",
}


def check_is_function(model: keras.Model, graph: tf.types.experimental.GenericFunction) -> None:
    """Checks that a traced model is a function of its inputs alone and computes in float32.

    Args:
        model: the model, whose layers an error names.
        graph: the traced function.

    Raises:
        UsageError: an op draws random numbers, changes a variable, calls Python or casts to
            bfloat16; the error names the Keras layer and the op.
    """
    concrete: Any = graph.get_concrete_function()
    definition = concrete.graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    for node in nodes:
        if _NOT_A_FUNCTION.search(node.op):
            raise UsageError(
                "A network must be a function of its inputs alone: with training=False no layer "
                "may draw random numbers, change a variable or call Python. "
                f"Received: {describe_op(model, node.name, node.op)}; {_remedy(node.op)}"
            )
        if node.op == "Cast" and node.attr["DstT"].type == tf.bfloat16.as_datatype_enum:
            raise UsageError(
                "A network is exported in float32, and no layer may cast to bfloat16 by itself. "
                f"Received: {describe_op(model, node.name, node.op)}; cast to the layer's "
                "compute_dtype, which follows the policy"
            )


def _remedy(op_type: str) -> str:
    return next(text for pattern, text in _REMEDIES.items() if re.search(pattern, op_type))


def describe_op(model: keras.Model, op_name: str, op_type: str) -> str:
    """Describes an op by the path of the Keras layer that created it."""
    found = _find_layer(model, op_name)
    if found is None:
        return f"op {op_type} ({op_name}) of model {model.name!r}"
    path, layer = found
    return f"op {op_type} in layer {path!r} ({type(layer).__name__})"


def _find_layer(model: keras.Model, op_name: str) -> tuple[str, keras.layers.Layer] | None:
    """Finds the innermost Keras layer whose scope contains an op, and its path."""
    scopes = op_name.split("/")
    layers = list(_layer_paths(model))
    for scope in reversed(scopes):
        # A scope that is entered again gets a number: "dense" becomes "dense_1".
        for name in (scope, re.sub(r"_\d+$", "", scope)):
            found = [(path, layer) for path, layer in layers if layer.name == name]
            if found:  # layers of several nested models may share a name
                return max(found, key=lambda x: sum(n in scopes for n in x[0].split("/")))
    return None


def _layer_paths(model: keras.layers.Layer, above: str = "") -> Iterator[tuple[str, Any]]:
    for layer in model._flatten_layers(include_self=False, recursive=False):
        yield above + layer.name, layer
        yield from _layer_paths(layer, f"{above}{layer.name}/")
