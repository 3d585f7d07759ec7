"""Substitutions for operations that ONNX lacks or that the converter converts wrongly.

Each is a function by name, exact up to rounding, and independent of the converter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Step:
    """One ONNX node of a sequence.

    Args:
        op_type: its operation.
        operands: its inputs: `None` for the output of the previous step, otherwise a constant.
        attributes: its attributes.
        dtype: ONNX's number of its output type; `None` for that of the last step.
    """

    op_type: str
    operands: tuple[Any, ...]
    attributes: tuple[tuple[str, Any], ...] = ()
    dtype: int | None = None


SIGN = np.iinfo(np.int32).min  # the sign's bit alone


def erfc(dtype: int) -> list[Step]:
    """Returns erfc(x) = 1 - erf(x), as in `gelu(x) = x / 2 * erfc(-x / sqrt(2))`.

    For large x the difference loses its relative precision. gelu multiplies it by x / 2, so that
    its error stays at one rounding of x.

    Args:
        dtype: ONNX's number of the type of x.
    """
    one = np.ones((), onnx.helper.tensor_dtype_to_np_dtype(dtype))
    return [Step("Erf", (None,)), Step("Sub", (one, None))]


def sign_bit() -> list[Step]:
    """Returns the sign bit of a float32, including -0, at its position in an int32.

    1 / x has the sign of x and is never zero once x is within [-1, 1].
    """
    zero, one = np.zeros((), np.float32), np.ones((), np.float32)
    real, boolean, integer = onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL, onnx.TensorProto.INT32
    return [
        Step("Clip", (None, -one, one), dtype=real),
        Step("Reciprocal", (None,), dtype=real),
        Step("Less", (None, zero), dtype=boolean),
        Step("Cast", (None,), (("to", integer),), dtype=integer),
        Step("Mul", (None, np.array(SIGN, np.int32))),
    ]


def resize(
    shape: Sequence[int],
    size: np.ndarray,
    scale: np.ndarray,
    translation: np.ndarray,
    *,
    kernel: str,
    antialias: bool,
) -> list[Step]:
    """Resizes images by a constant matrix for each axis, with any filter.

    Args:
        shape: height, width and channels of the input.
        size: height and width of the output.
        scale: factor of each axis.
        translation: shift of each axis.
        kernel: name of the filter in `ScaleAndTranslate`.
        antialias: whether the filter grows with the factor when an image gets smaller.
    """
    height, width, channels = shape
    new_height, new_width = (int(n) for n in size)
    matrices = [
        resize_matrix(old, new, scale[i], translation[i], kernel, antialias)
        for i, (old, new) in enumerate(((height, new_height), (width, new_width)))
    ]
    rows = np.array([0, height, width * channels], np.int64)
    pixels = np.array([0, new_height, width, channels], np.int64)
    return [
        Step("Reshape", (None, rows)),
        Step("MatMul", (matrices[0], None)),
        Step("Reshape", (None, pixels)),
        Step("MatMul", (matrices[1], None)),
    ]


def resize_matrix(
    old: int, new: int, scale: float, translation: float, kernel: str, antialias: bool
) -> np.ndarray:
    """Returns the resampling matrix: entry (i, j) is the weight of input row j in output row i."""
    units = np.eye(old, dtype=np.float32).reshape(old, old, 1, 1)
    with tf.Graph().as_default(), tf.device("/CPU:0"), tf.compat.v1.Session() as session:
        resized = tf.raw_ops.ScaleAndTranslate(
            images=units,
            size=[new, 1],
            scale=[float(scale), 1.0],
            translation=[float(translation), 0.0],
            kernel_type=kernel,
            antialias=antialias,
        )
        return np.ascontiguousarray(session.run(resized)[:, :, 0, 0].T)


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
