"""Parsing of Conv and ConvTranspose nodes that the passes can rewrite."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
from onnx import helper

from export.passes.graph import Graph, attribute


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A plain two-dimensional convolution: one group, no dilation, constant weights.

    Args:
        node: the node.
        kernel: (outputs, inputs, height, width) of a Conv, (inputs, outputs, height, width) of a
            ConvTranspose.
        bias: one value for each output channel, or None.
        strides: strides in height and width.
        begin: padding above and left of the image; of a ConvTranspose, cropping.
        end: the same below and right of the image.
    """

    node: onnx.NodeProto
    kernel: np.ndarray
    bias: np.ndarray | None
    strides: tuple[int, int]
    begin: tuple[int, int]
    end: tuple[int, int]

    @property
    def transposed(self) -> bool:
        return self.node.op_type == "ConvTranspose"

    @property
    def inputs(self) -> int:
        return self.kernel.shape[0 if self.transposed else 1]

    @property
    def outputs(self) -> int:
        return self.kernel.shape[1 if self.transposed else 0]

    @property
    def size(self) -> tuple[int, ...]:
        return self.kernel.shape[2:]


def state_pads(model: onnx.ModelProto) -> int:
    """Writes the padding of convolutions as numbers, where it does not depend on the size.

    tf2onnx leaves it to the runtime for pictures of any size, in a form that no other pass reads.
    For a stride of 1 and an odd kernel of size k, SAME adds (k - 1) / 2 pixels on each side.

    Args:
        model: model, changed in place.

    Returns:
        The number of changed convolutions.
    """
    graph = Graph(model)
    changed = 0
    for node in graph.nodes:
        if node.op_type != "Conv" or not attribute(node, "auto_pad", b"").startswith(b"SAME"):
            continue
        kernel = graph.constant(node.input[1])
        plain = [attribute(node, name, [1, 1]) for name in ("strides", "dilations")]
        if kernel is None or any(n != 1 for each in plain for n in each):
            continue
        if kernel.ndim != 4 or any(n % 2 == 0 for n in kernel.shape[2:]):
            continue
        kept = [each for each in node.attribute if each.name not in ("auto_pad", "pads")]
        del node.attribute[:]
        half = [n // 2 for n in kernel.shape[2:]]
        node.attribute.extend([*kept, helper.make_attribute("pads", [*half, *half])])
        changed += 1
    graph.changed()
    graph.write()
    return changed


def read(graph: Graph, node: onnx.NodeProto) -> Convolution | None:
    """Parses a node; returns `None` for any other op, and with groups, dilation or auto_pad."""
    if node.op_type not in ("Conv", "ConvTranspose"):
        return None
    kernel = graph.constant(node.input[1])
    bias = graph.constant(node.input[2]) if has_bias(node) else None
    if kernel is None or kernel.ndim != 4 or (has_bias(node) and bias is None):
        return None
    strides = attribute(node, "strides", [1, 1])
    pads = attribute(node, "pads", [0, 0, 0, 0])
    if (
        attribute(node, "group", 1) != 1
        or attribute(node, "auto_pad", b"NOTSET") != b"NOTSET"
        or any(d != 1 for d in attribute(node, "dilations", [1, 1]))
        or any(p < 0 for p in pads)
        or attribute(node, "output_shape")
    ):
        return None
    return Convolution(node, kernel, bias, tuple(strides), tuple(pads[:2]), tuple(pads[2:]))


def has_bias(node: onnx.NodeProto) -> bool:
    """Checks whether a node has a third input, the bias."""
    return len(node.input) > 2 and bool(node.input[2])


def output_padding(conv: Convolution) -> tuple[int, int]:
    """Returns the rows and columns that a ConvTranspose adds at the end; 0 for a Conv."""
    return tuple(attribute(conv.node, "output_padding", [0, 0]))
