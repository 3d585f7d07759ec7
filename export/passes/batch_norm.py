"""Folding of scales and shifts of channels into the preceding weights.

tf2onnx converts batch normalization to Mul and Add, or to BatchNormalization. onnxruntime folds it
into Conv, but not into ConvTranspose and MatMul (onnxruntime issue 14270).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx

from export.passes.convolution import has_bias
from export.passes.graph import BINARY, Graph, attribute, weights_like


class _Affine(NamedTuple):
    """The map y = scale x + shift, with constant scale and shift."""

    scale: np.ndarray
    shift: np.ndarray


def fold(model: onnx.ModelProto) -> int:
    """Folds constant scales and shifts of channels into Conv, ConvTranspose and dense layers.

    A scale that depends on the sample, such as that of conditional batch normalization, stays.

    Args:
        model: model, changed in place.

    Returns:
        The number of folded nodes.
    """
    graph = Graph(model)
    changed = 0
    while any(_fold(graph, node) for node in graph.nodes):
        changed += 1
    graph.write()
    return changed


def _fold(graph: Graph, node: onnx.NodeProto) -> bool:
    found = _affine(graph, node)
    if found is None:
        return False
    source, affine = found
    if not graph.private(source):
        return False
    producer = graph.producer(source)
    if producer is None:
        return False
    if producer.op_type in ("Conv", "ConvTranspose"):
        return _fold_into_convolution(graph, producer, node, affine)
    if producer.op_type == "Reshape":
        dense = graph.producer(producer.input[0])
        if dense is None or not graph.private(producer.input[0]):
            return False
        return _fold_into_dense(graph, dense, producer, node, affine)
    return _fold_into_dense(graph, producer, None, node, affine)


def _affine(graph: Graph, node: onnx.NodeProto) -> tuple[str, _Affine] | None:
    """Reads a node as a scale and a shift of the tensor that is not constant."""
    if node.op_type == "BatchNormalization" and not attribute(node, "training_mode", 0):
        return _normalization(graph, node)
    if node.op_type not in BINARY:
        return None
    left, right = (graph.constant(name) for name in node.input)
    if (left is None) == (right is None):
        return None
    constant: Any = right if left is None else left
    source = node.input[0 if left is None else 1]
    if not np.issubdtype(constant.dtype, np.floating):
        return None
    value = constant.astype(np.float64)
    zero, one = np.zeros_like(value), np.ones_like(value)
    with np.errstate(divide="ignore"):
        affine = {
            "Add": _Affine(one, value),
            "Sub": _Affine(one, -value) if left is None else _Affine(-one, value),
            "Mul": _Affine(value, zero),
            "Div": _Affine(1 / value, zero) if left is None else None,
        }[node.op_type]
    if affine is None or not np.isfinite(affine.scale).all():
        return None
    return source, affine


def _normalization(graph: Graph, node: onnx.NodeProto) -> tuple[str, _Affine] | None:
    read = [graph.constant(name) for name in node.input[1:5]]
    shape = graph.shape(node.output[0])
    if any(array is None for array in read) or shape is None or any(node.output[1:]):
        return None
    gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in read)
    scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    by_channel = (-1, *[1] * (len(shape) - 2))
    return node.input[0], _Affine(
        scale.reshape(by_channel), (beta - mean * scale).reshape(by_channel)
    )


def _channel_values(value: np.ndarray, rank: int, channels: int) -> np.ndarray | None:
    """Returns a constant as one value for each channel (axis 1); `None` if it is not one."""
    if value.ndim > rank:
        return None
    shape = (*[1] * (rank - value.ndim), *value.shape)
    if any(size != 1 for axis, size in enumerate(shape) if axis != 1):
        return None
    if shape[1] not in (1, channels):
        return None
    return np.broadcast_to(value.reshape(shape[1]), channels)


def _fold_into_convolution(
    graph: Graph, node: onnx.NodeProto, affine_node: onnx.NodeProto, affine: _Affine
) -> bool:
    kernel = graph.constant(node.input[1])
    bias = graph.constant(node.input[2]) if has_bias(node) else None
    if kernel is None or (has_bias(node) and bias is None):
        return False
    groups = attribute(node, "group", 1)
    transposed = node.op_type == "ConvTranspose"
    channels = kernel.shape[1] * groups if transposed else kernel.shape[0]
    scale = _channel_values(affine.scale, kernel.ndim, channels)
    shift = _channel_values(affine.shift, kernel.ndim, channels)
    if scale is None or shift is None:
        return False
    wide = kernel.astype(np.float64)
    if transposed:  # (inputs of all groups, outputs of one group, ...)
        by_group = wide.reshape(groups, -1, *kernel.shape[1:])
        factors = scale.reshape(groups, 1, -1, *[1] * (kernel.ndim - 2))
        wide = (by_group * factors).reshape(kernel.shape)
    else:
        wide = wide * scale.reshape(-1, *[1] * (kernel.ndim - 1))
    shifted = shift + (0 if bias is None else bias.astype(np.float64) * scale)
    node.input[1] = graph.add_constant("kernel", weights_like(wide, kernel))
    del node.input[2:]
    node.input.append(graph.add_constant("bias", weights_like(shifted, kernel)))
    _bypass(graph, affine_node, node.output[0])
    return True


def _fold_into_dense(
    graph: Graph,
    dense: onnx.NodeProto,
    reshape: onnx.NodeProto | None,
    affine_node: onnx.NodeProto,
    affine: _Affine,
) -> bool:
    """Folds into MatMul or Gemm, also where a Reshape arranges their units as an image."""
    layer = read_dense(graph, dense)
    if layer is None:
        return False
    weights, bias = layer
    units = weights.shape[1]
    shape = (None, units)
    if reshape is not None:
        shape = reshaped_rows(graph, reshape, units)
        if shape is None:
            return False
    if affine.scale.ndim > len(shape):
        return False
    try:
        one = np.ones((1, *shape[1:]))
        scale = (one * affine.scale).reshape(1, units)[0]
        shift = (one * affine.shift).reshape(1, units)[0]
    except ValueError:  # a constant that does not broadcast to a sample
        return False
    wide = weights.astype(np.float64) * scale
    shifted = shift + (0 if bias is None else bias.astype(np.float64) * scale)
    write_dense(graph, dense, weights_like(wide, weights), weights_like(shifted, weights))
    _bypass(graph, affine_node, (dense if reshape is None else reshape).output[0])
    return True


def read_dense(graph: Graph, node: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Returns weights (inputs, units) and bias of a dense layer; `None` for any other node."""
    if node.op_type not in ("MatMul", "Gemm"):
        return None
    weights = graph.constant(node.input[1])
    shape = graph.shape(node.input[0])
    if weights is None or weights.ndim != 2 or shape is None or len(shape) != 2:
        return None
    if node.op_type == "MatMul":
        return weights, None
    if attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1.0:
        return None
    if attribute(node, "transB", 0):
        weights = weights.T
    if not has_bias(node):
        return weights, None
    bias = graph.constant(node.input[2])
    if bias is None or bias.ndim > 2 or (bias.ndim == 2 and bias.shape[0] != 1):
        return None
    bias = bias.astype(np.float64) * attribute(node, "beta", 1.0)
    return weights, weights_like(np.broadcast_to(bias.reshape(-1), weights.shape[1]), weights)


def write_dense(
    graph: Graph, node: onnx.NodeProto, weights: np.ndarray, bias: np.ndarray | None
) -> None:
    """Turns a node into the Gemm of these weights; its name and output stay."""
    inputs = [node.input[0], graph.add_constant("weights", weights)]
    if bias is not None:
        inputs.append(graph.add_constant("bias", bias))
    node.op_type = "Gemm"
    del node.attribute[:], node.input[:]
    node.input.extend(inputs)
    graph.changed()


def reshaped_rows(graph: Graph, reshape: onnx.NodeProto, units: int) -> tuple | None:
    """Returns the shape of rows of `units` values after a Reshape; `None` if it mixes rows."""
    target = graph.constant(reshape.input[1])
    if target is None or len(target) < 2 or target[0] not in (-1, 0) or (target[1:] <= 0).any():
        return None
    if attribute(reshape, "allowzero", 0):
        return None
    if int(np.prod(target[1:])) != units:
        return None
    return (None, *(int(size) for size in target[1:]))


def _bypass(graph: Graph, node: onnx.NodeProto, source: str) -> None:
    """Removes a node and makes its readers read `source`."""
    identity = graph.node("Identity", [source], node.output[0])
    graph.replace([node], [identity])
    graph.remove(identity)
