"""Substitutions for operations that ONNX lacks or that the converter converts wrongly.

Each is a function by name, exact up to rounding, and independent of the converter.
`export/resizing.py` holds those of images.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import onnx

Operand = str | np.ndarray  # name of a tensor, or a constant

SIGN = np.iinfo(np.int32).min  # the sign's bit alone


class Writer(Protocol):
    """Adds nodes to an ONNX graph, whichever library holds it."""

    def __call__(self, op_type: str, *operands: Operand, **attributes: Any) -> str:
        """Adds a node with one output and returns the name of that; `""` omits an operand."""
        ...


def erfc(write: Writer, x: str, dtype: int) -> str:
    """Returns erfc(x) = 1 - erf(x), as in `gelu(x) = x / 2 * erfc(-x / sqrt(2))`.

    For large x the difference loses its relative precision. gelu multiplies it by x / 2, so that
    its error stays at one rounding of x.

    Args:
        write: adds nodes.
        x: name of the tensor.
        dtype: ONNX's number of the type of x.
    """
    one = np.ones((), onnx.helper.tensor_dtype_to_np_dtype(dtype))
    return write("Sub", one, write("Erf", x))


def sign_bit(write: Writer, x: str) -> str:
    """Returns the sign bit of a float32, including -0, at its position in an int32.

    1 / x has the sign of x and is never zero once x is within [-1, 1].
    """
    zero, one = np.zeros((), np.float32), np.ones((), np.float32)
    inverse = write("Reciprocal", write("Clip", x, -one, one))
    is_negative = write("Cast", write("Less", inverse, zero), to=onnx.TensorProto.INT32)
    return write("Mul", is_negative, np.array(SIGN, np.int32))


def output_padding(model: onnx.ModelProto) -> None:
    """Replaces negative pads of transposed convolutions by ONNX's `output_padding`.

    Keras's `output_padding` with valid padding, and strides larger than the kernel, are converted
    to negative pads, which onnxruntime does not load. TensorFlow adds all of these rows and columns
    at the end.
    """
    for node in model.graph.node:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        pads = list(attributes["pads"].ints) if "pads" in attributes else []
        if node.op_type != "ConvTranspose" or not any(pad < 0 for pad in pads):
            continue
        axes = len(pads) // 2
        totals = [pads[i] + pads[i + axes] for i in range(axes)]
        kept = [[0, 0] if t < 0 else [pads[i], pads[i + axes]] for i, t in enumerate(totals)]
        del attributes["pads"].ints[:]
        attributes["pads"].ints.extend([pair[end] for end in (0, 1) for pair in kept])
        added = [max(0, -total) for total in totals]
        node.attribute.append(onnx.helper.make_attribute("output_padding", added))
