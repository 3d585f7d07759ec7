"""Convolutions of stride 1 as transposed ones and back, whichever onnxruntime computes faster.

The two are the same function: a kernel flipped in height and width, its inputs and outputs
exchanged, pads k - 1 - p. onnxruntime pads the output channels of a Conv to a vector of 16, which
for an image's 1 or 3 is most of the work; a ConvTranspose is one product of matrices with
outputs x k x k rows. With many outputs it is the other way round.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from export.passes import convolution
from export.passes.convolution import Convolution
from export.passes.graph import Graph

# Measured, figures in docs/export.md: up to so many output channels ConvTranspose is faster, and
# from so many on, if all channels divide by it, Conv is.
FEW = 8
MANY = 16


def exchange(model: onnx.ModelProto) -> int:
    """Writes convolutions to few channels as ConvTranspose, and ConvTranspose to many as Conv.

    Args:
        model: changed in place.

    Returns:
        How many were rewritten.
    """
    return _rewrite(model, _is_slow)


def as_convolutions(model: onnx.ModelProto) -> int:
    """Writes every ConvTranspose of stride 1 as Conv, the only form that has int8 kernels.

    Args:
        model: changed in place.

    Returns:
        How many were rewritten.
    """
    return _rewrite(model, lambda conv: conv.transposed and _has_other(conv))


def _rewrite(model: onnx.ModelProto, wanted: Callable[[Convolution], bool]) -> int:
    graph = Graph(model)
    changed = 0
    for node in list(graph.nodes):
        conv = convolution.read(graph, node)
        if conv is not None and wanted(conv):
            graph.replace([node], [_other(graph, conv)])
            changed += 1
    graph.write()
    return changed


def _has_other(conv: Convolution) -> bool:
    if conv.strides != (1, 1) or any(convolution.output_padding(conv)):
        return False
    pads = (*conv.begin, *conv.end)
    return all(p <= k - 1 for p, k in zip(pads, (*conv.size, *conv.size), strict=True))


def _is_slow(conv: Convolution) -> bool:
    if not _has_other(conv):
        return False
    if conv.transposed:
        return conv.outputs >= MANY and conv.outputs % MANY == 0 and conv.inputs % MANY == 0
    return conv.outputs <= FEW and max(conv.size) > 1


def _other(graph: Graph, conv: Convolution) -> onnx.NodeProto:
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
    """A kernel of Conv as that of ConvTranspose, and the other way round."""
    return np.ascontiguousarray(kernel.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])
