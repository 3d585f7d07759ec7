"""Outputs of the single layers of a network, to find the layer at which two runtimes differ."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from export.network import Network, Values
from serving.inputs import Port

Key = tuple[str, int, int]  # path of a layer, number of its call, number of the output


@dataclasses.dataclass
class LayerCalls:
    """Outputs of the layers of a model, in the order in which they finished.

    Args:
        tensors: tensors of floats, by the path of the layer, the call and the output.
        types: name of the class of each layer, by its path.
        failed: path of the innermost layer that raised an error.
        keep: keep the outputs.
    """

    tensors: dict[Key, Any] = dataclasses.field(default_factory=dict)
    types: dict[str, str] = dataclasses.field(default_factory=dict)
    failed: str | None = None
    keep: bool = True

    def describe(self, path: str) -> str:
        """Describes a layer by its path and its class."""
        return f"layer {path!r} ({self.types[path]})"


def layer_paths(model: keras.layers.Layer, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every layer within a model with its path, outer layers first.

    An operation of keras.ops in a functional model counts as a layer.
    """
    for layer in model._flatten_layers(include_self=False, recursive=False):
        yield above + layer.name, layer
        yield from layer_paths(layer, f"{above}{layer.name}/")
    for operation in getattr(model, "operations", ()):
        if not isinstance(operation, keras.layers.Layer):
            yield above + operation.name, operation


@contextlib.contextmanager
def recorded_layers(model: keras.Model, keep: bool = True) -> Iterator[LayerCalls]:
    """Records the calls of every layer of a model while the context is open.

    Args:
        model: the model.
        keep: keep the outputs too, which takes their memory.
    """
    calls, paths = LayerCalls(keep=keep), {}
    for path, layer in layer_paths(model):
        paths.setdefault(id(layer), (path, layer))
    with contextlib.ExitStack() as undo:
        for path, layer in paths.values():
            calls.types[path] = type(layer).__name__
            undo.enter_context(_recorded(layer, path, calls))
        yield calls


@contextlib.contextmanager
def _recorded(layer: Any, path: str, calls: LayerCalls) -> Iterator[None]:
    """Replaces the method `call` of one layer by one that records its outputs."""
    own, count = layer.call, 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        try:
            result = own(*args, **kwargs)
        except BaseException:
            calls.failed = calls.failed or path
            raise
        if not calls.keep:
            return result
        for number, tensor in enumerate(keras.tree.flatten(result)):
            if tf.is_tensor(tensor) and tensor.dtype.is_floating:
                calls.tensors[path, count, number] = tensor
        count += 1
        return result

    # Past Keras's tracking of attributes, so that the layer is afterward what it was.
    object.__setattr__(layer, "call", call)
    try:
        yield
    finally:
        object.__delattr__(layer, "call")


class LayerNetwork(Network):
    """A network that returns the outputs of its layers beside its own."""

    def run(self, values: Values) -> dict[str, tf.Tensor]:
        """Returns the output of every layer that `outputs` lists, then those of the network."""
        with recorded_layers(self.model) as calls:
            own = super().run(values)
        named = {_name(key): tf.cast(x, tf.float32) for key, x in calls.tensors.items()}
        listed = [port.name for port in self.outputs]
        return {name: named[name] for name in listed if name in named} | own


def _name(key: Key) -> str:
    """Returns a name for an output that ONNX, TensorFlow and LiteRT accept."""
    path, call, number = key
    return "layer_" + "_".join((path.encode().hex(), str(call), str(number)))


def with_layers(network: Network) -> tuple[LayerNetwork, dict[str, str]]:
    """Returns a network with the outputs of its layers, and the layer of each by its name.

    Layers are left out that run within a loop or a branch, and outputs without a batch.
    """
    found: dict[str, str] = {}
    ports: list[Port] = []
    specs = network.input_specs()

    def trace(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        graph = tf.compat.v1.get_default_graph()
        with recorded_layers(network.model) as calls:
            own = network.run({spec.name: x for spec, x in zip(specs, inputs, strict=True)})
        for key, tensor in calls.tensors.items():
            shape = tensor.shape
            if getattr(tensor, "graph", None) is graph and shape.rank and shape[0] is None:
                found[_name(key)] = calls.describe(key[0])
                sizes = [f"free_{i}" if n is None else n for i, n in enumerate(shape[1:])]
                ports.append(Port(_name(key), "float32", tuple(sizes), "array", {}))
        return own

    tf.function(trace, input_signature=specs, autograph=False).get_concrete_function()
    fields: dict[str, Any] = {f.name: getattr(network, f.name) for f in dataclasses.fields(network)}
    fields["outputs"] = (*ports, *network.outputs)
    return LayerNetwork(**fields), found
