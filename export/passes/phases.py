"""Decomposition of transposed convolutions of stride 2 into four plain convolutions.

Every second row and column of the output, a phase, is a plain convolution of the input with every
second tap of the kernel. onnxruntime computes plain convolutions in its fastest layout and fuses
the activation; it computes a ConvTranspose as a matrix product whose columns it then adds one by
one.

Three passes: `phases` writes the convolutions and a DepthToSpace; `picture` makes a final
convolution to few channels read the four phases directly; `interleave` rewrites the remaining
DepthToSpace in the form that onnxruntime copies fastest.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import onnx

from export.passes import convolution
from export.passes.convolution import Convolution
from export.passes.graph import UNARY, Graph, attribute
from export.passes.stride_one import FEW, flipped

BLOCK = 16  # channels per block; other numbers of channels stay in the slow layout
_PHASES = tuple(itertools.product((0, 1), repeat=2))


def fits_phases(inputs: int, outputs: int) -> bool:
    """Checks whether four convolutions are faster than one transposed convolution."""
    return inputs % BLOCK == 0 and outputs % BLOCK == 0


# ------------------------------------------------------------------------ four convolutions


def divide(model: onnx.ModelProto, any_channels: bool = False) -> int:
    """Rewrites each ConvTranspose that doubles an image as four Conv and a DepthToSpace.

    Args:
        model: model, changed in place.
        any_channels: also where that is slower in float32; only Conv has int8 kernels.

    Returns:
        The number of rewritten convolutions.
    """
    graph = Graph(model)
    changed = sum(_divide(graph, node, any_channels) for node in list(graph.nodes))
    graph.write()
    return changed


class _Taps(NamedTuple):
    """The taps of a kernel that contribute to one phase of the output, along one axis.

    Args:
        taps: positions in the kernel, in the order of the input pixels; `None` for a zero tap.
        begin: padding before the image.
        end: padding after the image.
    """

    taps: list[int | None]
    begin: int
    end: int


def _divide(graph: Graph, node: onnx.NodeProto, any_channels: bool) -> bool:
    conv = convolution.read(graph, node)
    if conv is None or not conv.transposed or conv.strides != (2, 2) or not _doubles(conv):
        return False
    if not any_channels and not fits_phases(conv.inputs, conv.outputs):
        return False
    axes = [[_taps(conv, axis, phase) for phase in (0, 1)] for axis in (0, 1)]
    last, activation = _activation(graph, node)
    nodes, results = [], []
    for row, column in _PHASES:
        phase = [_phase(graph, conv, axes[0][row], axes[1][column])]
        if activation is not None:
            phase.append(graph.node(activation.op_type, [phase[-1].output[0]]))
            phase[-1].attribute.extend(activation.attribute)
        nodes += phase
        results.append(phase[-1].output[0])
    joined = graph.node("Concat", results, axis=1)
    result = graph.node("DepthToSpace", [joined.output[0]], last.output[0], blocksize=2, mode="DCR")
    old = [node] if activation is None else [node, activation]
    graph.replace(old, [*nodes, joined, result], at=last)
    return True


def _doubles(conv: Convolution) -> bool:
    """Checks that the output has exactly twice the height and the width of the input."""
    padding = convolution.output_padding(conv)
    sums = zip(conv.size, conv.begin, conv.end, padding, strict=True)
    return all(k - 2 - b - e + p == 0 and k >= 2 for k, b, e, p in sums)


def _taps(conv: Convolution, axis: int, phase: int) -> _Taps:
    """Solves y[2i + phase] = sum of w[tap] x[i + offset] for tap = phase + begin - 2 offset."""
    size, begin = conv.size[axis], conv.begin[axis]
    taps = {(phase + begin - t) // 2: t for t in range(size) if (phase + begin - t) % 2 == 0}
    first, last = min(0, *taps), max(0, *taps)
    return _Taps([taps.get(offset) for offset in range(first, last + 1)], -first, last)


def _phase(graph: Graph, conv: Convolution, rows: _Taps, columns: _Taps) -> onnx.NodeProto:
    """Creates the plain convolution that computes one phase of the output."""
    kernel = np.zeros(
        (conv.outputs, conv.inputs, len(rows.taps), len(columns.taps)), conv.kernel.dtype
    )
    for (i, row), (j, column) in itertools.product(enumerate(rows.taps), enumerate(columns.taps)):
        if row is not None and column is not None:
            kernel[:, :, i, j] = conv.kernel[:, :, row, column].T
    return graph.node(
        "Conv",
        [conv.node.input[0], graph.add_constant("kernel", kernel), *conv.node.input[2:]],
        kernel_shape=kernel.shape[2:],
        strides=[1, 1],
        pads=[rows.begin, columns.begin, rows.end, columns.end],
    )


def _activation(graph: Graph, node: onnx.NodeProto) -> tuple[onnx.NodeProto, onnx.NodeProto | None]:
    """Returns the last node of a convolution and its activation, and the activation or `None`."""
    reader = graph.only_reader(node.output[0])
    if reader is None or reader.op_type not in UNARY:
        return node, None
    return reader, reader


# ------------------------------------------------------------------------ the final convolution


def read_phases(model: onnx.ModelProto) -> int:
    """Rewrites a convolution to few channels to map the four phases of an image to four phases.

    A convolution of an image equals a convolution of its phases, with each tap assigned to the
    phase that it reads. The image of many channels is then never interleaved, only the result.

    Args:
        model: model, changed in place.

    Returns:
        The number of rewritten convolutions.
    """
    graph = Graph(model)
    changed = sum(_read_phases(graph, node) for node in list(graph.nodes))
    graph.write()
    return changed


def _read_phases(graph: Graph, node: onnx.NodeProto) -> bool:
    if not _is_interleave(node):
        return False
    reader = graph.only_reader(node.output[0])
    conv = reader and convolution.read(graph, reader)
    if not conv or conv.strides != (1, 1) or conv.outputs > FEW or max(conv.size) < 2:
        return False
    if conv.transposed and any(convolution.output_padding(conv)):
        return False
    kernel, begin, end = conv.kernel, conv.begin, conv.end
    if conv.transposed:
        kernel = flipped(kernel)
        begin = tuple(k - 1 - b for k, b in zip(conv.size, begin, strict=True))
        end = tuple(k - 1 - e for k, e in zip(conv.size, end, strict=True))
    if any(b + e != k - 1 or min(b, e) < 0 for b, e, k in zip(begin, end, conv.size, strict=True)):
        return False
    wide, first, last = _between_phases(kernel, begin)
    size = wide.shape[2:]
    inputs = [node.input[0], graph.add_constant("kernel", flipped(wide))]
    if conv.bias is not None:
        inputs.append(graph.add_constant("bias", np.tile(conv.bias, 4)))
    between = graph.node(
        "ConvTranspose",
        inputs,
        kernel_shape=size,
        strides=[1, 1],
        pads=[k - 1 - p for k, p in zip(size * 2, (*first, *last), strict=True)],
    )
    result = graph.node(
        "DepthToSpace", [between.output[0]], conv.node.output[0], blocksize=2, mode="DCR"
    )
    graph.replace([node, conv.node], [between, result], at=conv.node)
    return True


def _between_phases(
    kernel: np.ndarray, begin: tuple[int, ...]
) -> tuple[np.ndarray, list[int], list[int]]:
    """Converts a kernel (outputs, inputs, h, w) to one between phases, with its pads.

    Phase a of the output at i is row 2i + a; tap d reads row 2i + a + d - begin, which is phase
    (a + d - begin) mod 2 at i + floor((a + d - begin) / 2).
    """
    outputs, inputs, height, width = kernel.shape
    first = [b // 2 + b % 2 for b in begin]  # -floor(-begin / 2)
    last = [(k - b) // 2 for k, b in zip((height, width), begin, strict=True)]
    size = [f + t + 1 for f, t in zip(first, last, strict=True)]
    wide = np.zeros((2, 2, outputs, 2, 2, inputs, *size), kernel.dtype)
    for (row, column), i, j in itertools.product(_PHASES, range(height), range(width)):
        down, right = row + i - begin[0], column + j - begin[1]
        at = down // 2 + first[0], right // 2 + first[1]
        wide[row, column, :, down % 2, right % 2, :, at[0], at[1]] = kernel[:, :, i, j]
    return wide.reshape(4 * outputs, 4 * inputs, *size), first, last


# ------------------------------------------------------------------------ interleaving


def interleave(model: onnx.ModelProto) -> int:
    """Rewrites each DepthToSpace of factor 2 as a transpose of whole rows of channels.

    onnxruntime's DepthToSpace moves single values on one thread. With channels last, the channels
    of a pixel move together, and the two outer Transposes merge with the reordering that
    onnxruntime does at a convolution anyway.

    Args:
        model: model, changed in place.

    Returns:
        The number of rewritten nodes.
    """
    graph = Graph(model)
    changed = sum(_interleave(graph, node) for node in list(graph.nodes))
    graph.write()
    return changed


def _is_interleave(node: onnx.NodeProto) -> bool:
    return (
        node.op_type == "DepthToSpace"
        and attribute(node, "blocksize") == 2
        and attribute(node, "mode", b"DCR") == b"DCR"
    )


def _interleave(graph: Graph, node: onnx.NodeProto) -> bool:
    shape = graph.shape(node.input[0])
    if not _is_interleave(node) or shape is None or len(shape) != 4 or None in shape[1:]:
        return False
    _, channels, height, width = (size or 0 for size in shape)
    apart = np.array([-1, height, width, 2, channels // 2], np.int64)
    together = np.array([-1, 2 * height, 2 * width, channels // 4], np.int64)
    last = graph.node("Transpose", [node.input[0]], perm=[0, 2, 3, 1])
    rows = graph.node("Reshape", [last.output[0], graph.add_constant("shape", apart)])
    moved = graph.node("Transpose", [rows.output[0]], perm=[0, 1, 3, 2, 4])
    image = graph.node("Reshape", [moved.output[0], graph.add_constant("shape", together)])
    first = graph.node("Transpose", [image.output[0]], node.output[0], perm=[0, 3, 1, 2])
    graph.replace([node], [last, rows, moved, image, first])
    return True
