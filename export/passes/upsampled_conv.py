"""Fusion of nearest-neighbor upsampling and the following convolution into a transposed one.

Repeating each pixel s times and convolving with a kernel of size k equals a transposed convolution
of stride s. Its kernel of size k + s - 1 contains the sums of the taps that read the same pixel:
for s = 2 and k = 3, 16 products for each pixel instead of 36.
"""

from __future__ import annotations

import numpy as np
import onnx

from export.passes import convolution
from export.passes.convolution import Convolution
from export.passes.graph import Graph, weights_like
from export.passes.movement import whole_scales
from export.passes.phases import fits_phases


def fuse(model: onnx.ModelProto) -> int:
    """Fuses each nearest-neighbor upsampling by 2 with the convolution that is its only reader.

    Args:
        model: model, changed in place.

    Returns:
        The number of fused pairs.
    """
    graph = Graph(model)
    changed = sum(_fuse(graph, node) for node in list(graph.nodes))
    graph.write()
    return changed


def _fuse(graph: Graph, node: onnx.NodeProto) -> bool:
    if whole_scales(graph, node) != [1, 1, 2, 2]:
        return False
    reader = graph.only_reader(node.output[0])
    conv = reader and convolution.read(graph, reader)
    if not conv or conv.transposed or conv.node.input[0] != node.output[0]:
        return False
    same = all(b + e == k - 1 for b, e, k in zip(conv.begin, conv.end, conv.size, strict=True))
    # Few channels gain nothing: interleaving the phases costs what the fusion saves.
    if conv.strides != (1, 1) or not same or not fits_phases(conv.inputs, conv.outputs):
        return False
    kernel, begin, end = _transposed(conv)
    inputs = [node.input[0], graph.add_constant("kernel", kernel), *conv.node.input[2:]]
    fused = graph.node(
        "ConvTranspose",
        inputs,
        conv.node.output[0],
        kernel_shape=kernel.shape[2:],
        strides=[2, 2],
        pads=[*begin, *end],
    )
    graph.replace([node, conv.node], [fused], at=conv.node)
    return True


def _transposed(conv: Convolution) -> tuple[np.ndarray, list[int], list[int]]:
    """Returns the kernel (inputs, outputs, k + 1, k + 1) of the fused convolution, and its pads."""
    flipped = conv.kernel[:, :, ::-1, ::-1].astype(np.float64).transpose(1, 0, 2, 3)
    height, width = conv.size
    kernel = np.zeros((*flipped.shape[:2], height + 1, width + 1))
    for i in (0, 1):
        for j in (0, 1):
            kernel[:, :, i : i + height, j : j + width] += flipped
    begin = [k - 1 - b for k, b in zip(conv.size, conv.begin, strict=True)]
    end = [k - 1 - e for k, e in zip(conv.size, conv.end, strict=True)]
    return weights_like(kernel, conv.kernel), begin, end
