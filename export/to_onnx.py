"""Conversion of a network to an optimized ONNX model with the ports of its manifest."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf

from export import convert, substitutions
from export.canonical import canonicalize, restore_ranks
from export.errors import one_line
from export.graph_checks import check_is_function, describe_op
from export.network import Network
from export.passes import optimize
from keras_gan import UsageError, __version__

OPSET = 17  # the first with every operation that our architectures need in one node
IR_VERSION = 8  # required by opset 15 to 18; every onnxruntime since 1.10 reads it
MAX_FILE = 2**31 - 2**24  # a protobuf message holds 2 GB; larger weights go to a second file
DATA_SUFFIX = ".data"  # model.onnx.data


def to_onnx(network: Network, opset: int = OPSET, without: Collection[str] = ()) -> onnx.ModelProto:
    """Converts a network to ONNX, optimizes the graph, and loads the result to validate it.

    Args:
        network: network to convert.
        opset: ONNX operator set, 13 to 18.
        without: names of `export.passes.PASSES` to leave out.

    Raises:
        UsageError: an operation that ONNX cannot express; the error names the Keras layer and
            the op.
    """
    opsets = convert.OPSETS
    if opset not in opsets:
        raise UsageError(
            f"opset must be {opsets.start} to {opsets.stop - 1}. Received: opset={opset!r}"
        )
    function = as_function(network)
    check_is_function(network.model, function)
    model = _convert(network, function, opset)
    restore_ranks(model, {port.name: len(port.shape) + 1 for port in network.outputs})
    _name_ports(model, network)
    canonicalize(model)
    if _is_large(model):  # the passes copy weights; export/verify.py checks the files instead
        return model
    optimize(model, without)
    canonicalize(model)  # again, for the names and the order that the passes leave
    _check(model, network)
    return model


def save_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Writes a model and, beyond 2 GB, its weights to a second file; consumes the model."""
    if not _is_large(model):
        onnx.save_model(model, path)
        return
    onnx.save_model(
        model,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=path.name + DATA_SUFFIX,
        size_threshold=1024,
    )


def _is_large(model: onnx.ModelProto) -> bool:
    return sum(tensor.ByteSize() for tensor in model.graph.initializer) > MAX_FILE


def as_function(network: Network) -> tf.types.experimental.GenericFunction:
    """Traces the function that both formats export: from inputs to a dict of outputs."""
    specs = network.input_specs()

    def samples(*inputs):
        return network.run({spec.name: x for spec, x in zip(specs, inputs, strict=True)})

    return tf.function(samples, input_signature=specs, autograph=False)


def _convert(
    network: Network, function: tf.types.experimental.GenericFunction, opset: int
) -> onnx.ModelProto:
    specs, weights = network.input_specs(), _external_weights(network)
    if weights:
        function, specs = _with_weights_as_inputs(network, weights)
    try:
        model = convert.convert(function, specs, opset)
    except convert.Unsupported as error:
        raise UsageError(
            "Every operation of a network must exist in ONNX. Received: "
            f"{describe_op(network.model, error.op_name, error.op_type)}; {error.remedy}"
        ) from error
    except Exception as error:  # the converter raises anything
        raise UsageError(_conversion_error(network, one_line(error))) from error
    substitutions.output_padding(model)
    traced: Any = function.get_concrete_function()
    for outer, inner in traced.graph.captures:
        if outer.dtype != tf.resource:  # a constant tensor that a model was built with
            _embed(model, inner.name, outer.numpy())
    for spec, weight in zip(specs[len(network.input_specs()) :], weights, strict=True):
        _embed(model, str(spec.name), weight.numpy())
    return model


# A graph that contains its weights is one protobuf message of at most 2 GB. For larger models, the
# largest weights are inputs during the conversion, and become constants again afterward.


def _external_weights(network: Network) -> list[Any]:
    weights = sorted(network.model.weights, key=lambda weight: -math.prod(weight.shape))
    sizes = [4 * math.prod(weight.shape) for weight in weights]
    if sum(sizes) <= MAX_FILE:
        return []
    return [w for i, w in enumerate(weights) if sum(sizes[i:]) > MAX_FILE // 64]


def _with_weights_as_inputs(network: Network, weights: list[Any]) -> tuple[Any, list]:
    inputs = network.input_specs()
    specs = [
        tf.TensorSpec(weight.shape, weight.dtype, name=f"weight_{i}")
        for i, weight in enumerate(weights)
    ]

    def samples(*values):
        given, constants = values[: len(inputs)], values[len(inputs) :]
        with keras.StatelessScope(state_mapping=list(zip(weights, constants, strict=True))):
            return network.run({x.name: value for x, value in zip(inputs, given, strict=True)})

    specs = [*inputs, *specs]
    return tf.function(samples, input_signature=specs, autograph=False), specs


def _embed(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    """Replaces an input by a constant, in the order of dimensions in which it is used."""
    graph = model.graph
    readers = [node for node in graph.node if name in node.input]
    for node in [node for node in readers if node.op_type == "Transpose"]:
        (order,) = (attribute.ints for attribute in node.attribute if attribute.name == "perm")
        _add_constant(graph, node.output[0], value.transpose(order))
        graph.node.remove(node)
    if any(node.op_type != "Transpose" for node in readers):
        _add_constant(graph, name, value)


def _add_constant(graph: onnx.GraphProto, name: str, value: np.ndarray) -> None:
    tensor = graph.initializer.add(
        name=name, dims=value.shape
    )  # in place, because it may take gigabytes
    tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    tensor.raw_data = value.tobytes()


def _name_ports(model: onnx.ModelProto, network: Network) -> None:
    """Declares the ports of the manifest: names, order, a free batch, named sizes."""
    for values, ports in (
        (model.graph.input, network.inputs),
        (model.graph.output, network.outputs),
    ):
        del values[:]
        for port in ports:
            dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype))
            shape = ["batch", *port.shape]
            values.append(onnx.helper.make_tensor_value_info(port.name, dtype, shape))
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "keras_gan", __version__


def _check(model: onnx.ModelProto, network: Network) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
        open_session(model.SerializeToString())
    except Exception as error:  # onnx and onnxruntime raise a class for each failure
        raise UsageError(_conversion_error(network, one_line(error))) from error


def open_session(model: bytes | str, threads: int = 0) -> onnxruntime.InferenceSession:
    """Opens a session on the CPU, where results are compared; 0 threads means all of them."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # Without it, CPUs with AVX2 but no VNNI saturate the sum of two int8 products to 16 bits.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _conversion_error(network: Network, reason: str) -> str:
    """Returns the error text for a failed conversion, with the first layer that fails."""
    where = _first_failing_layer(network) or f"model {network.model.name!r}"
    return f"A network must be convertible to ONNX. Received: {where} ({reason})"


def _first_failing_layer(network: Network) -> str | None:
    """Bisects a sequence of layers for the first one that does not convert."""
    layers = [layer for layer in network.model.layers if _has_one_output(layer)]
    if not getattr(network.model, "inputs", None) or not layers:
        return None
    low, high = 0, len(layers) - 1
    while low < high:
        middle = (low + high) // 2
        if _converts(network, layers[middle]):
            low = middle + 1
        else:
            high = middle
    return f"layer {layers[low].name!r} ({type(layers[low]).__name__})"


def _has_one_output(layer: keras.layers.Layer) -> bool:
    try:
        return isinstance(layer.output, keras.KerasTensor) and not isinstance(
            layer, keras.layers.InputLayer
        )
    except (AttributeError, ValueError):
        return False


def _converts(network: Network, layer: keras.layers.Layer) -> bool:
    model = network.model
    try:
        part = keras.Model(model.inputs, layer.output)
        specs = [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in model.inputs]
        function = tf.function(lambda *x: part(list(x), training=False), autograph=False)
        converted = convert.convert(function, specs, OPSET)
        substitutions.output_padding(converted)
        open_session(converted.SerializeToString())
    except Exception:  # any failure counts
        return False
    return True
