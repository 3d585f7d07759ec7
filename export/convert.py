"""Conversion of a traced function to an ONNX graph: the only module that imports tf2onnx.

tf2onnx 1.17 is the last release of a project that looks for a maintainer. A replacement must return
what `convert` returns; `docs/export.md` estimates its cost.
"""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from onnx import helper

from export import layer_norm, resizing, substitutions

OPSETS = range(13, 19)  # supported by tf2onnx 1.17 and onnxruntime
_UNSUPPORTED = re.compile(
    r"Tensorflow op \[(?P<name>[^:\]]+): (?P<type>\w+)\] is not supported"
    r"|Failed to convert node '(?P<failed>[^']+)'.*?OP=(?P<failing>\w+)",
    re.DOTALL,
)


class Unsupported(Exception):
    """An operation without a counterpart in ONNX.

    Args:
        op_name: its name in the graph, which contains the scopes of its layers.
        op_type: its type.
        remedy: what to do about it.
    """

    def __init__(
        self,
        op_name: str,
        op_type: str,
        remedy: str = "write that layer with other operations of keras.ops",
    ) -> None:
        super().__init__(f"{op_type} ({op_name})")
        self.op_name, self.op_type, self.remedy = op_name, op_type, remedy


def convert(
    function: tf.types.experimental.GenericFunction,
    specs: Sequence[tf.TensorSpec],
    opset: int,
) -> onnx.ModelProto:
    """Converts a function to ONNX and keeps the names of its inputs and outputs.

    Raises:
        Unsupported: an operation that ONNX lacks and no substitution replaces.
        ValueError: any other failure of tf2onnx, raised or only logged.
    """
    with _captured_log() as log:
        import tf2onnx  # takes half a second, which `import export` should not

        error = None
        refused: list[Unsupported] = []
        handlers = {op: (_recorded(handler, refused), []) for op, handler in _HANDLERS.items()}
        try:
            model, _ = tf2onnx.convert.from_function(
                function,
                input_signature=specs,
                opset=opset,
                custom_op_handlers=handlers,
                custom_rewriter=[layer_norm.rewrite],
            )
        except Exception as raised:  # the handlers of tf2onnx raise anything
            error, model = raised, None
    if refused:
        raise refused[0]
    unsupported = [match for line in log if (match := _UNSUPPORTED.search(line))]
    if unsupported:
        first = unsupported[0]
        raise Unsupported(
            first["name"] or first["failed"], first["type"] or first["failing"]
        ) from error
    if errors := [line for line in log if "ERROR" in line]:
        raise ValueError(errors[0]) from error
    if model is None:
        raise error or ValueError("tf2onnx returned no model")
    return model


# ------------------------------------------------------------------ handlers of tf2onnx
# A handler receives tf2onnx's graph and node; export/substitutions.py defines the replacement.


class _Writer:
    """Replaces a TensorFlow node by ONNX nodes, see `export.substitutions.Writer`."""

    def __init__(self, graph: Any, node: Any):
        self._graph, self._node = graph, node
        self._output = node.output[0]
        self._shape, self._dtype = graph.get_shape(self._output), graph.get_dtype(self._output)
        self._count = 0
        graph.remove_node(node.name)

    def __call__(self, op_type: str, *operands: substitutions.Operand, **attributes: Any) -> str:
        inputs = [x if isinstance(x, str) else self._constant(x) for x in operands]
        name = self._name("step")
        return self._graph.make_node(op_type, inputs, attr=attributes, name=name).output[0]

    def finish(self, result: str) -> None:
        """Names the result as the output of the replaced node was named."""
        self._graph.make_node(
            "Identity",
            [result],
            name=self._name("step"),
            outputs=[self._output],
            shapes=[self._shape],
            dtypes=[self._dtype],
        )

    def _constant(self, value: np.ndarray) -> str:
        return self._graph.make_const(self._name("constant"), value).output[0]

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{self._node.name}/{kind}_{self._count}"


def _erfc(graph: Any, node: Any, name: str, args: Any) -> None:
    """Replaces erfc by 1 - erf: ONNX has only erf, and Keras's exact gelu uses erfc."""
    dtype, write = graph.get_dtype(node.output[0]), _Writer(graph, node)
    write.finish(substitutions.erfc(write, node.input[0], dtype))


def _resize(graph: Any, node: Any, name: str, args: Any) -> None:
    """Replaces a resize that ONNX's Resize does not compute exactly."""
    method = resizing.Method(
        node.type,
        bool(node.get_attr_value("align_corners", False)),
        bool(node.get_attr_value("half_pixel_centers", False)),
    )
    fixed = _fixed_sizes(graph, node)
    if fixed and not method.is_plain(*fixed):
        _resize_fixed(graph, node, method.weights, *fixed)
    elif fixed or method.op_type == resizing.BILINEAR:
        from tf2onnx.onnx_opset import nn

        nn.Resize.version_11(graph, node)
    elif method.op_type == resizing.AREA and method.align_corners:
        raise Unsupported(
            node.name, node.type, "a resize by area to aligned corners must have a fixed size"
        )
    else:
        size = node.input[1]
        write, images = _writer_of_images(graph, node)
        write.finish(resizing.resize_any(write, images, size, method))


def _scale_and_translate(graph: Any, node: Any, name: str, args: Any) -> None:
    """Replaces a resize with any filter or antialiasing by one matrix for each axis."""
    fixed = _fixed_sizes(graph, node)
    if not fixed:
        raise Unsupported(node.name, node.type, "the images that it resizes must have a fixed size")
    scale, translation = (_constant(operand) for operand in node.inputs[2:])
    if scale is None or translation is None:
        raise Unsupported(node.name, node.type, "the factor of its resize must be fixed")
    method = resizing.Filter(
        node.get_attr_str("kernel_type"),
        bool(node.get_attr_value("antialias", True)),
        scale,
        translation,
    )
    _resize_fixed(graph, node, method.weights, *fixed)


def _resize_fixed(
    graph: Any, node: Any, weights: resizing.Weights, old: list[int], new: list[int]
) -> None:
    write, images = _writer_of_images(graph, node)
    write.finish(resizing.resize(write, images, weights, old, new))


def _writer_of_images(graph: Any, node: Any) -> tuple[_Writer, str]:
    """Returns the writer in place of a resize, and its images in the dtype of its result."""
    images = node.input[0]
    dtype, result = (graph.get_dtype(x) for x in (images, node.output[0]))
    write = _Writer(graph, node)
    return write, images if dtype == result else write("Cast", images, to=result)


def _fixed_sizes(graph: Any, node: Any) -> tuple[list[int], list[int]] | None:
    """Returns height and width before and after a resize, `None` where one of them is free."""
    shape = graph.get_shape(node.input[0])
    if not shape or -1 in shape[1:3]:
        return None
    size = _constant(node.inputs[1])
    if size is None or min(size) < 1:  # -1 is the free size of another tensor
        return None
    return list(shape[1:3]), [int(n) for n in size]


def _bitcast(graph: Any, node: Any, name: str, args: Any) -> None:
    """Replaces keras.ops.signbit, which argmax and argmin use, by the sign of the number."""
    readers = graph.find_output_consumers(node.output[0])
    if not readers or not all(_is_sign(reader) for reader in readers):
        raise Unsupported(node.name, node.type, _SIGN_ALONE)
    write = _Writer(graph, node)
    write.finish(substitutions.sign_bit(write, node.input[0]))


def _bitwise_and(graph: Any, node: Any, name: str, args: Any) -> None:
    if not _is_sign(node):
        raise Unsupported(node.name, node.type, _SIGN_ALONE)
    _Writer(graph, node).finish(node.input[0])  # _bitcast has already isolated the sign


_SIGN_ALONE = (
    "of the bits of a number, only the sign can be converted: write that layer with other "
    "operations of keras.ops"
)


def _is_sign(node: Any) -> bool:
    mask = node.inputs[1]
    return node.type == "BitwiseAnd" and mask.is_const() and _constant(mask) == substitutions.SIGN


def _constant(node: Any) -> np.ndarray | None:
    """Returns the value of a node, including the shape of an input that tf2onnx kept as nodes."""
    if node.is_const():
        return node.get_tensor_value(as_list=False)
    if node.type == "Shape":
        shape = node.graph.get_shape(node.input[0])
        return np.array(shape) if shape else None
    compute = {
        "Cast": lambda x: x.astype(helper.tensor_dtype_to_np_dtype(node.get_attr_value("to"))),
        "Slice": lambda x, begin, end, *_: x[int(begin[0]) : int(end[0])],
        "Div": lambda x, y: x / y,
    }.get(node.type)
    operands = [_constant(operand) for operand in node.inputs] if compute else []
    if compute is None or any(x is None for x in operands):
        return None
    return compute(*operands)


Handler = Callable[[Any, Any, str, Any], None]


def _recorded(handler: Handler, refused: list[Unsupported]) -> Handler:
    """Keeps what a handler refuses: tf2onnx only logs the errors of its handlers."""

    def handle(graph: Any, node: Any, name: str, args: Any) -> None:
        try:
            handler(graph, node, name, args)
        except Unsupported as error:
            refused.append(error)
            raise

    return handle


_HANDLERS: dict[str, Handler] = {
    "Erfc": _erfc,
    "ScaleAndTranslate": _scale_and_translate,
    "Bitcast": _bitcast,
    "BitwiseAnd": _bitwise_and,
    **dict.fromkeys(
        (resizing.NEAREST, resizing.BILINEAR, resizing.BICUBIC, resizing.AREA), _resize
    ),
}


# ------------------------------------------------------------------------------ the log


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname}: {record.getMessage()}")


@contextlib.contextmanager
def _captured_log() -> Iterator[list[str]]:
    """Captures what tf2onnx only logs, such as an operation that it omitted from the model."""
    handler, logger = _Lines(), logging.getLogger("tf2onnx")
    propagate = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
