"""Exchange of convolutions and transposed convolutions of stride 1, whichever form is faster.

Both are the same function: the kernel is flipped in height and width, its input and output channels
are exchanged, and the pads are k - 1 - p. onnxruntime pads the output channels of a Conv to a
vector of 16, which for the 1 or 3 channels of an image is most of the work; a ConvTranspose is one
matrix product with outputs x k x k rows. With many output channels, Conv is faster.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from export.passes import convolution
from export.passes.convolution import Convolution
from export.passes.graph import Graph

# Measured, see docs/export.md: ConvTranspose is faster up to FEW output channels, and Conv from
# MANY on where both numbers of channels are multiples of MANY.
FEW = 8
MANY = 16


def exchange(model: onnx.ModelProto) -> int:
    """Rewrites Conv to few channels as ConvTranspose, and ConvTranspose to many channels as Conv.

    Args:
        model: model, changed in place.

    Returns:
        The number of rewritten convolutions.
    """
    return _rewrite(model, _is_slow)


def as_convolutions(model: onnx.ModelProto) -> int:
    """Rewrites every ConvTranspose of stride 1 as Conv, the only form with int8 kernels.

    Args:
        model: model, changed in place.

    Returns:
        The number of rewritten convolutions.
    """
    return _rewrite(model, lambda conv: conv.transposed and _is_exchangeable(conv))


def _rewrite(model: onnx.ModelProto, wanted: Callable[[Convolution], bool]) -> int:
    graph = Graph(model)
    changed = 0
    for node in list(graph.nodes):
        conv = convolution.read(graph, node)
        if conv is not None and wanted(conv):
            graph.replace([node], [_exchanged(graph, conv)])
            changed += 1
    graph.write()
    return changed


def _is_exchangeable(conv: Convolution) -> bool:
    if conv.strides != (1, 1) or any(convolution.output_padding(conv)):
        return False
    pads = (*conv.begin, *conv.end)
    return all(p <= k - 1 for p, k in zip(pads, (*conv.size, *conv.size), strict=True))


def _is_slow(conv: Convolution) -> bool:
    if not _is_exchangeable(conv):
        return False
    if conv.transposed:
        return conv.outputs >= MANY and conv.outputs % MANY == 0 and conv.inputs % MANY == 0
    return conv.outputs <= FEW and max(conv.size) > 1


def _exchanged(graph: Graph, conv: Convolution) -> onnx.NodeProto:
    inputs = [conv.node.input[0], graph.add_constant("kernel", flipped(conv.kernel))]
    pads = [k - 1 - p for k, p in zip(conv.size * 2, (*conv.begin, *conv.end), strict=True)]
    return graph.node(
        "Conv" if conv.transposed else "ConvTranspose",
        [*inputs, *conv.node.input[2:]],
        conv.node.output[0],
        kernel_shape=conv.size,
        strides=[1, 1],
        pads=pads,
    )


def flipped(kernel: np.ndarray) -> np.ndarray:
    """Converts the kernel of a Conv to that of a ConvTranspose, and back."""
    return np.ascontiguousarray(kernel.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])
