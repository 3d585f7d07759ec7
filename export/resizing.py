"""Resizes of images as TensorFlow computes them, written with operations of ONNX.

ONNX's Resize is exact for factors of powers of two alone. TensorFlow's bicubic resize rounds the
fraction of each position to 1/1024, its area resize averages, and ONNX derives the size of its
output from a rounded factor. So all other resizes become a matrix, or a list of indices, for each
axis. Those of a fixed size hold TensorFlow's own weights: its operation is run on unit vectors.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import tensorflow as tf

from export.substitutions import Operand, Writer

NEAREST, BILINEAR, BICUBIC, AREA = (
    *("ResizeNearestNeighbor", "ResizeBilinear", "ResizeBicubic", "ResizeArea"),
)
_ROWS, _COLUMNS = 2, 3  # the axes of an image with channels first
_TO_NCHW, _TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]
_TABLE = 1024  # number of fractions of a position that TensorFlow's bicubic resize distinguishes
_MOST_EXACT = 512  # largest factor of two whose positions are such fractions

Weights = Callable[[int, int, int], np.ndarray]  # of the axis, its old and its new size


@dataclasses.dataclass(frozen=True)
class Method:
    """A resize operation of TensorFlow.

    Args:
        op_type: its type.
        align_corners: the first and last positions are those of the input.
        half_pixel_centers: positions are those of the centers of pixels.
    """

    op_type: str
    align_corners: bool = False
    half_pixel_centers: bool = False

    def is_plain(self, old: Sequence[int], new: Sequence[int]) -> bool:
        """Returns whether ONNX's Resize computes the same: every position is exact in float32."""
        if self.align_corners or self.op_type not in (BILINEAR, BICUBIC):
            return False
        factors = [n / o for o, n in zip(old, new, strict=True)]
        if not all(math.frexp(factor)[0] == 0.5 for factor in factors):  # a power of two
            return False
        is_cubic = self.op_type == BICUBIC
        return not is_cubic or (
            self.half_pixel_centers and all(1 <= factor <= _MOST_EXACT for factor in factors)
        )

    def weights(self, axis: int, old: int, new: int) -> np.ndarray:
        """Returns the resampling matrix: entry (i, j) is the weight of input j in output i."""
        del axis  # both are resized alike
        options = {"align_corners": self.align_corners}
        if self.op_type != AREA:
            options["half_pixel_centers"] = self.half_pixel_centers
        operation = getattr(tf.raw_ops, self.op_type)
        return _unit_response(old, lambda units: operation(images=units, size=[new, 1], **options))


@dataclasses.dataclass(frozen=True)
class Filter:
    """`ScaleAndTranslate`: a resize by any filter, such as Lanczos, or with antialiasing.

    Args:
        kernel: name of the filter.
        antialias: whether the filter grows with the factor when an image gets smaller.
        scale: factor of each axis.
        translation: shift of each axis.
    """

    kernel: str
    antialias: bool
    scale: Sequence[float] | np.ndarray
    translation: Sequence[float] | np.ndarray

    def weights(self, axis: int, old: int, new: int) -> np.ndarray:
        """Returns the resampling matrix: entry (i, j) is the weight of input j in output i."""
        return _unit_response(
            old,
            lambda units: tf.raw_ops.ScaleAndTranslate(
                images=units,
                size=[new, 1],
                scale=[float(self.scale[axis]), 1.0],
                translation=[float(self.translation[axis]), 0.0],
                kernel_type=self.kernel,
                antialias=self.antialias,
            ),
        )


def _unit_response(old: int, operation: Callable[[np.ndarray], tf.Tensor]) -> np.ndarray:
    units = np.eye(old, dtype=np.float32).reshape(old, old, 1, 1)
    with tf.Graph().as_default(), tf.device("/CPU:0"), tf.compat.v1.Session() as session:
        resized = session.run(operation(units))
    return np.ascontiguousarray(resized[:, :, 0, 0].T, np.float32)


# ------------------------------------------------------------------------ fixed sizes


def resize(
    write: Writer, images: str, weights: Weights, old: Sequence[int], new: Sequence[int]
) -> str:
    """Resizes images `(batch, height, width, channels)` of a fixed size.

    Args:
        write: adds nodes.
        images: name of the tensor.
        weights: returns the matrix of an axis.
        old: height and width of the images.
        new: height and width of the result.
    """
    matrices = [weights(axis, old[axis], new[axis]) for axis in (0, 1)]
    images = write("Transpose", images, perm=_TO_NCHW)
    if factors := _repeats(matrices):
        images = write(
            "Resize",
            images,
            "",
            np.array([1, 1, *factors], np.float32),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    else:
        for axis, matrix in zip((_ROWS, _COLUMNS), matrices, strict=True):
            images = _resample(write, images, matrix, axis)
    return write("Transpose", images, perm=_TO_NHWC)


def _repeats(matrices: Sequence[np.ndarray]) -> list[int]:
    """Returns the factors by which every row and column is repeated; empty for other resizes."""
    factors = []
    for matrix in matrices:
        new, old = matrix.shape
        if new % old or not np.array_equal(matrix, np.repeat(np.eye(old), new // old, axis=0)):
            return []
        factors.append(new // old)
    return factors


def _resample(write: Writer, images: str, matrix: np.ndarray, axis: int) -> str:
    new, old = matrix.shape
    if new == old and np.array_equal(matrix, np.eye(old)):
        return images
    if np.isin(matrix, (0, 1)).all() and (matrix.sum(axis=1) == 1).all():
        return write("Gather", images, matrix.argmax(axis=1), axis=axis)
    return _multiply(write, images, matrix, matrix.T, axis)


def _multiply(write: Writer, images: str, matrix: Operand, transposed: Operand, axis: int) -> str:
    if axis == _ROWS:
        return write("MatMul", matrix, images)
    return write("MatMul", images, transposed)


# ------------------------------------------------------------------------ free sizes
# The same arithmetic in float32 as in TensorFlow, in the graph.


def resize_any(write: Writer, images: str, size: str, method: Method) -> str:
    """Resizes images `(batch, height, width, channels)` whose size or new size is free.

    Args:
        write: adds nodes.
        images: name of the tensor.
        size: name of the new height and width.
        method: the operation.
    """
    images = write("Transpose", images, perm=_TO_NCHW)
    sizes = write("Cast", write("Shape", images), to=onnx.TensorProto.FLOAT)
    new_sizes = write("Cast", size, to=onnx.TensorProto.FLOAT)
    for axis in (_ROWS, _COLUMNS):
        old = write("Gather", sizes, np.array(axis))
        new = write("Gather", new_sizes, np.array(axis - _ROWS))
        places = write("Range", _number(0), new, _number(1))
        if method.op_type == NEAREST:
            indices = _nearest_indices(write, places, old, new, method)
            images = write("Gather", images, indices, axis=axis)
            continue
        # The matrix is written as its side of the product needs it: passes move Transposes.
        make = _cubic_matrix if method.op_type == BICUBIC else _area_matrix
        matrix = make(write, places, old, new, method, axis == _ROWS)
        images = _multiply(write, images, matrix, matrix, axis)
    return write("Transpose", images, perm=_TO_NHWC)


def _number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def _scale(write: Writer, old: str, new: str, method: Method) -> str:
    """Returns the step between two positions."""
    if not method.align_corners:
        return write("Div", old, new)
    last, new_last = (write("Sub", size, _number(1)) for size in (old, new))
    aligned = write("Div", last, write("Max", new_last, _number(1)))
    is_one = write("Equal", new, _number(1))
    return write("Where", is_one, old, aligned)


def _nearest_indices(write: Writer, places: str, old: str, new: str, method: Method) -> str:
    half = _number(0.5)
    if method.half_pixel_centers:
        places = write("Add", places, half)
    places = write("Mul", places, _scale(write, old, new, method))
    if method.align_corners:  # rounded, not cut off
        places = write("Add", places, half)
    last = write("Sub", old, _number(1))
    places = write("Min", write("Floor", places), last)
    return write("Cast", places, to=onnx.TensorProto.INT64)


def _cubic_matrix(
    write: Writer, places: str, old: str, new: str, method: Method, by_rows: bool
) -> str:
    """Returns the matrix of a bicubic resize, or its transpose: four weights for each output.

    With half pixels, positions outside have no weight and the others sum to 1; otherwise those
    outside count as the nearest inside.
    """
    half, scale = _number(0.5), _scale(write, old, new, method)
    if method.half_pixel_centers:
        places = write("Sub", write("Mul", write("Add", places, half), scale), half)
    else:
        places = write("Mul", places, scale)
    first = write("Floor", places)
    fraction = write("Mul", write("Sub", places, first), _number(_TABLE))
    entry = write("Cast", write("Round", fraction), to=onnx.TensorProto.INT64)
    weights = write("Gather", _cubic_table(-0.5 if method.half_pixel_centers else -0.75), entry)
    taps = write(
        "Add", write("Unsqueeze", first, np.array([1])), np.arange(-1, 3, dtype=np.float32)
    )
    if not method.half_pixel_centers:
        last = write("Sub", old, _number(1))
        taps = write("Max", write("Min", taps, last), _number(0))
    # Dimensions: outputs, inputs, four weights; of the transpose: inputs, outputs, weights.
    pixels = write("Unsqueeze", write("Range", _number(0), old, _number(1)), np.array([1]))
    if by_rows:
        taps, weights = (write("Unsqueeze", x, np.array([1])) for x in (taps, weights))
    else:
        pixels = write("Unsqueeze", pixels, np.array([1]))
    chosen = write("Cast", write("Equal", taps, pixels), to=onnx.TensorProto.FLOAT)
    matrix = write("ReduceSum", write("Mul", chosen, weights), np.array([2]), keepdims=0)
    if not method.half_pixel_centers:
        return matrix
    inputs = np.array([1 if by_rows else 0])
    return write("Div", matrix, write("ReduceSum", matrix, inputs, keepdims=1))


def _cubic_table(a: float) -> np.ndarray:
    """Returns the weights of four neighbors for every fraction of a position (Keys, 1981)."""
    x = np.arange(_TABLE + 1) / _TABLE
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a
    return np.stack([far, near, near[::-1], far[::-1]], axis=-1).astype(np.float32)


def _area_matrix(
    write: Writer, places: str, old: str, new: str, method: Method, by_rows: bool
) -> str:
    """Returns the matrix of an average, or its transpose: the part that each input covers."""
    scale, axis = write("Div", old, new), np.array([1])
    pixels = write("Range", _number(0), old, _number(1))
    begin = write("Mul", places, scale)
    end = write("Mul", write("Add", places, _number(1)), scale)
    if by_rows:
        begin, end = (write("Unsqueeze", x, axis) for x in (begin, end))
    else:
        pixels = write("Unsqueeze", pixels, axis)
    end = write("Min", end, write("Add", pixels, _number(1)))
    covered = write("Sub", end, write("Max", begin, pixels))
    return write("Div", write("Max", covered, _number(0)), scale)
