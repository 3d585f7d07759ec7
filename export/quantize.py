"""Static quantization of a model to int8 for CPUs, layer by layer within a bound on fidelity.

The ranges of activations are measured once, on latents of fixed seeds. Weights are int8 with a
scale for each output channel; activations are uint8 with one scale, which CPUs with VNNI or AMX
multiply fastest. onnxruntime has int8 kernels for Conv and none for ConvTranspose, so
transposed convolutions become convolutions first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnxruntime import quantization
from onnxruntime.quantization.calibrate import TensorData, TensorsData

from export.canonical import canonicalize
from export.errors import one_line
from export.passes import phases, stride_one
from export.passes.graph import UNARY, Graph, attribute
from export.tensor_ranges import Feeds, Ranges, tensor_ranges
from export.to_onnx import open_session
from keras_gan import UsageError

LEAST_SPEEDUP = 1.8  # over our float32 model, batch 64, one thread
MOST_CHANGE = 0.05  # of the Frechet distance, relative
_SENSITIVITY_SAMPLES = 64

# Inputs beyond which a squashing function is within half a level of 255 of its limit, so that the
# 8 bits of its output show no difference. Levels spent beyond would be missing where they matter:
# of all changes that were tried, this one lowers the Frechet distance most, from 63 % worse to
# 0.7 %.
_SATURATED = {"Tanh": math.atanh(1 - 1 / 255), "Sigmoid": math.log(2 * 255 - 1)}
# Operations that run in int8 between layers that do.
_FOLLOWING = frozenset(
    (
        *("Relu", "LeakyRelu", "Concat", "Reshape", "Transpose", "Add", "DepthToSpace", "Resize"),
        *("Squeeze", "Unsqueeze", "Slice", "Flatten"),
    )
)
_MOVES = frozenset(("Reshape", "Transpose", "DepthToSpace", "Squeeze", "Unsqueeze", "Flatten"))


@dataclasses.dataclass(frozen=True)
class Layer:
    """A unit of quantization: a layer, or all phases of a transposed convolution.

    Args:
        nodes: names of its nodes.
        text: description for people.
    """

    nodes: tuple[str, ...]
    text: str


@dataclasses.dataclass(frozen=True)
class Quantized:
    """A model in int8.

    Args:
        model: the model.
        int8: layers that compute in int8.
        float32: layers that stayed in float32.
        change: relative change of the Frechet distance.
        speedup: speed divided by that of the float32 model.
    """

    model: onnx.ModelProto
    int8: tuple[str, ...]
    float32: tuple[str, ...]
    change: float
    speedup: float


def to_int8(
    model: onnx.ModelProto,
    feeds: Sequence[Feeds],
    change: Callable[[onnx.ModelProto], float],
    speedup: Callable[[onnx.ModelProto], float],
    progress: Callable[[str], None] = lambda line: None,
) -> Quantized:
    """Quantizes as many layers of a model as the Frechet distance allows.

    Args:
        model: float32 model, not changed.
        feeds: batches of inputs that calibrate it.
        change: returns the relative change of the Frechet distance by a model.
        speedup: returns the speed of a model divided by that of the float32 model.
        progress: called with a line of text before each long step.

    Raises:
        UsageError: no layer can be quantized, or the result is not fast or not faithful enough.
    """
    plain = as_quantizable(model)
    layers, others = find_layers(plain)
    if not layers:
        raise UsageError(
            "int8 is for convolutions and dense layers with constant weights. "
            f"Received: a generator without such a layer, layers: {', '.join(others) or 'none'}"
        )
    ranges = saturated(plain, tensor_ranges(plain, feeds))
    progress("Quantizing all layers")
    candidate = quantized(plain, ranges, layers)
    measured_speedup = speedup(candidate)
    if measured_speedup < LEAST_SPEEDUP:
        raise UsageError(_rejection(measured_speedup, None, len(layers), layers, others))
    measured_change = change(candidate)
    chosen = layers
    if measured_change > MOST_CHANGE:
        progress("Searching for the layers that must stay in float32")
        chosen = choose(plain, ranges, layers, feeds, change)
        candidate = quantized(plain, ranges, chosen)
        measured_change = change(candidate)
        measured_speedup = speedup(candidate)
    if measured_speedup < LEAST_SPEEDUP or measured_change > MOST_CHANGE:
        count = len(chosen)
        raise UsageError(_rejection(measured_speedup, measured_change, count, layers, others))
    kept = [layer.text for layer in layers if layer not in chosen]
    return Quantized(
        model=candidate,
        int8=tuple(layer.text for layer in chosen),
        float32=(*kept, *others),
        change=measured_change,
        speedup=measured_speedup,
    )


def _rejection(
    speedup: float, change: float | None, count: int, layers: list[Layer], others: list[str]
) -> str:
    worse = "" if change is None else f" and a Frechet distance {change:+.1%}"
    slow = [text for text in others if "groups" in text]
    why = f"; onnxruntime has no fast int8 kernel for {slow[0]}" if slow else ""
    return (
        f"int8 is offered where it is at least {LEAST_SPEEDUP} times as fast as float32 at batch "
        f"64, on the CPU that exports, with a Frechet distance at most {MOST_CHANGE:.0%} worse. "
        f"Received: {speedup:.2f} times as fast{worse}, with {count} of "
        f"{len(layers) + len(others)} layers in int8{why}"
    )


# ------------------------------------------------------------------------ layers


def as_quantizable(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy with plain convolutions in place of transposed ones, where possible."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    phases.divide(copy, any_channels=True)
    stride_one.as_convolutions(copy)
    canonicalize(copy)
    return copy


def find_layers(model: onnx.ModelProto) -> tuple[list[Layer], list[str]]:
    """Returns the layers that onnxruntime computes faster in int8, and describes all others."""
    graph = Graph(model)
    groups: dict[str, list[onnx.NodeProto]] = {}
    others = []
    for node in graph.nodes:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU"):
            continue
        if _is_quantizable(graph, node):
            groups.setdefault(_joined_at(graph, node), []).append(node)
        else:
            others.append(_describe(graph, node))
    layers = []
    for nodes in groups.values():
        text = _describe(graph, nodes[0])
        text += f", {len(nodes)} phases" if len(nodes) > 1 else ""
        layers.append(Layer(tuple(node.name for node in nodes), text))
    return layers, others


def _is_quantizable(graph: Graph, node: onnx.NodeProto) -> bool:
    kernel = graph.constant(node.input[1]) if len(node.input) > 1 else None
    if kernel is None or kernel.dtype != np.float32 or graph.constant(node.input[0]) is not None:
        return False
    if node.op_type == "Conv":
        return attribute(node, "group", 1) == 1
    if node.op_type == "Gemm":
        scales = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
        return scales == (1.0, 1.0) and not attribute(node, "transA", 0)
    return node.op_type == "MatMul" and kernel.ndim == 2


def _joined_at(graph: Graph, node: onnx.NodeProto) -> str:
    """Returns the Concat that joins a node with others after its activation, or the node itself.

    The phases of a transposed convolution are one layer: quantized one by one, they would have
    different scales, and the image would show a grid.
    """
    reader = graph.only_reader(node.output[0])
    if reader is not None and reader.op_type in UNARY:
        reader = graph.only_reader(reader.output[0])
    return reader.name if reader is not None and reader.op_type == "Concat" else node.name


def _describe(graph: Graph, node: onnx.NodeProto) -> str:
    kernel = graph.constant(node.input[1]) if len(node.input) > 1 else None
    if kernel is None or kernel.ndim < 2:
        return node.name
    groups = attribute(node, "group", 1)
    inputs, outputs = kernel.shape[:2]
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)):
        inputs, outputs = outputs * groups, inputs
    size = f", kernel {'x'.join(map(str, kernel.shape[2:]))}" if kernel.ndim > 2 else ""
    return f"{node.name} ({inputs} to {outputs}{size}{f', {groups} groups' * (groups > 1)})"


def _nodes(graph: Graph, layers: Sequence[Layer]) -> list[str]:
    """Returns the nodes of layers, and those that compute only with outputs of these layers."""
    chosen = {name for layer in layers for name in layer.nodes}
    names = []
    inside: set[str] = set()
    for node in graph.nodes:
        variable = [name for name in node.input if name and graph.constant(name) is None]
        follows = node.op_type in _FOLLOWING and all(name in inside for name in variable)
        if node.name in chosen or (follows and variable):
            names.append(node.name)
            inside.update(node.output)
    return names


# ------------------------------------------------------------------------ quantizing


def saturated(model: onnx.ModelProto, ranges: Ranges) -> Ranges:
    """Clips the input range of squashing functions to where their output still changes."""
    graph = Graph(model)
    ranges = dict(ranges)
    for node in graph.nodes:
        limit = _SATURATED.get(node.op_type)
        name = node.input[0] if node.input else ""
        while limit is not None and name in ranges:
            low, high = ranges[name]
            ranges[name] = max(low, -limit), min(high, limit)
            maker = graph.producer(name)
            if maker is None or maker.op_type not in _MOVES or not graph.private(name):
                break
            name = maker.input[0]
    return ranges


def quantized(model: onnx.ModelProto, ranges: Ranges, layers: Sequence[Layer]) -> onnx.ModelProto:
    """Returns a copy of a model with some layers in int8.

    Args:
        model: float32 model, not changed.
        ranges: smallest and largest value of each tensor.
        layers: layers of `find_layers` to quantize, at least one.
    """
    copy = onnx.shape_inference.infer_shapes(model, data_prop=True)
    values: dict[str, Any] = {
        n: TensorData(lowest=np.float32(a), highest=np.float32(b)) for n, (a, b) in ranges.items()
    }
    names = _nodes(Graph(model), layers)
    types = sorted({node.op_type for node in model.graph.node if node.name in names})
    try:
        with _quiet():
            quantizer = quantization.QDQQuantizer(
                copy,
                True,  # a scale for each channel
                False,  # all 8 bits of the weights
                quantization.QuantType.QInt8,
                quantization.QuantType.QUInt8,
                TensorsData(quantization.CalibrationMethod.MinMax, values),
                names,
                [],
                types,
                {},
            )
            quantizer.quantize_model()
    except Exception as error:  # the library raises anything
        raise UsageError(
            f"onnxruntime must be able to quantize the model. Received: {one_line(error)}"
        ) from error
    result = quantizer.model.model
    result.producer_name, result.producer_version = model.producer_name, model.producer_version
    stride_one.exchange(result)  # restores the fastest form of layers that stay in float32
    canonicalize(result)
    return result


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Disables logging up to the level of warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


# ------------------------------------------------------------------------ searching


def choose(
    model: onnx.ModelProto,
    ranges: Ranges,
    layers: list[Layer],
    feeds: Sequence[Feeds],
    change: Callable[[onnx.ModelProto], float],
) -> list[Layer]:
    """Returns the most layers, least harmful first, whose quantization is faithful enough.

    Each layer is quantized alone, and its harm is the mean squared change of the samples. Bisection
    then finds the number of layers, so that a generator of n layers takes n short runs and log2(n)
    Frechet distances on any machine.

    Raises:
        UsageError: no single layer can be quantized.
    """
    batches = list(feeds)[: math.ceil(_SENSITIVITY_SAMPLES / len(next(iter(feeds[0].values()))))]
    expected = _run(model, batches)
    harm = [
        float(np.mean((_run(quantized(model, ranges, [layer]), batches) - expected) ** 2))
        for layer in layers
    ]
    order = [layers[i] for i in np.argsort(harm, kind="stable")]
    good, bad = 0, len(order)  # all layers together are known to be too many
    while bad - good > 1:
        middle = (good + bad) // 2
        if change(quantized(model, ranges, order[:middle])) <= MOST_CHANGE:
            good = middle
        else:
            bad = middle
    if good == 0:
        raise UsageError(
            f"int8 is offered where the Frechet distance gets at most {MOST_CHANGE:.0%} worse. "
            f"Received: a larger change by any of the {len(layers)} layers alone"
        )
    return [layer for layer in layers if layer in order[:good]]


def _run(model: onnx.ModelProto, feeds: Sequence[Feeds]) -> np.ndarray:
    session = open_session(model.SerializeToString())
    first = session.get_outputs()[0].name
    return np.concatenate([np.asarray(session.run([first], batch)[0]) for batch in feeds])
