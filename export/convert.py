"""Conversion of a traced function to an ONNX graph: the only module that uses tf2onnx.

tf2onnx 1.17 is the last release of a project that looks for a maintainer. A replacement must return
what `convert` returns; `docs/export.md` estimates its cost.
"""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from onnx import helper

from export import substitutions

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
    """

    def __init__(self, op_name: str, op_type: str) -> None:
        super().__init__(f"{op_type} ({op_name})")
        self.op_name, self.op_type = op_name, op_type


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
        try:
            model, _ = tf2onnx.convert.from_function(
                function, input_signature=specs, opset=opset, custom_op_handlers=dict(_HANDLERS)
            )
        except Exception as raised:  # the handlers of tf2onnx raise anything
            error, model = raised, None
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


def _erfc(graph: Any, node: Any, name: str, args: Any) -> None:
    """Replaces erfc by 1 - erf: ONNX has only erf, and Keras's exact gelu uses erfc."""
    _replace(graph, node, substitutions.erfc(graph.get_dtype(node.output[0])))


def _scale_and_translate(graph: Any, node: Any, name: str, args: Any) -> None:
    """Replaces a resize with any filter or antialiasing by one matrix for each axis."""
    shape = graph.get_shape(node.input[0])
    size, scale, translation = (_constant(operand) for operand in node.inputs[1:])
    if not shape or -1 in shape[1:]:
        raise ValueError("the input of a resize must have a fixed size")
    steps = substitutions.resize(
        shape[1:],
        size,
        scale,
        translation,
        kernel=node.get_attr_str("kernel_type"),
        antialias=bool(node.get_attr_value("antialias", True)),
    )
    _replace(graph, node, steps)


def _bitcast(graph: Any, node: Any, name: str, args: Any) -> None:
    """Replaces keras.ops.signbit, which argmax and argmin use, by the sign of the number."""
    readers = graph.find_output_consumers(node.output[0])
    if not readers or not all(_is_sign(reader) for reader in readers):
        raise ValueError("of the bits of a number, only the sign can be converted")
    _replace(graph, node, substitutions.sign_bit())


def _bitwise_and(graph: Any, node: Any, name: str, args: Any) -> None:
    if not _is_sign(node):
        raise ValueError("of the bits of a number, only the sign can be converted")
    _replace(
        graph, node, [substitutions.Step("Identity", (None,))]
    )  # _bitcast has already isolated the sign


def _is_sign(node: Any) -> bool:
    mask = node.inputs[1]
    return node.type == "BitwiseAnd" and mask.is_const() and _constant(mask) == substitutions.SIGN


def _constant(node: Any) -> np.ndarray:
    """Returns the value of a node, including the shape of an input that tf2onnx kept as nodes."""
    if node.is_const():
        return node.get_tensor_value(as_list=False)
    if node.type == "Shape":
        return np.array(node.graph.get_shape(node.input[0]))
    operands = [_constant(operand) for operand in node.inputs]
    if node.type == "Cast":
        return operands[0].astype(helper.tensor_dtype_to_np_dtype(node.get_attr_value("to")))
    if node.type == "Slice":
        return operands[0][int(operands[1][0]) : int(operands[2][0])]
    if node.type == "Div":
        return operands[0] / operands[1]
    raise ValueError("the sizes of a resize must be fixed")


def _replace(graph: Any, node: Any, steps: Sequence[substitutions.Step]) -> None:
    """Replaces a TensorFlow node by a sequence of ONNX nodes."""
    shape, dtype = graph.get_shape(node.output[0]), graph.get_dtype(node.output[0])
    value, output = node.input[0], node.output[0]
    graph.remove_node(node.name)
    for number, step in enumerate(steps):
        inputs = []
        for position, operand in enumerate(step.operands):
            if operand is None:
                inputs.append(value)
            else:
                constant = graph.make_const(f"{node.name}/constant_{number}_{position}", operand)
                inputs.append(constant.output[0])
        last = number == len(steps) - 1
        new = graph.make_node(
            step.op_type,
            inputs,
            attr=dict(step.attributes),
            name=f"{node.name}/step_{number}",
            outputs=[output] if last else None,
            shapes=[shape if last else None],
            dtypes=[dtype if last else step.dtype or dtype],
        )
        value = new.output[0]


_HANDLERS = {
    "Erfc": (_erfc, []),
    "ScaleAndTranslate": (_scale_and_translate, []),
    "Bitcast": (_bitcast, []),
    "BitwiseAnd": (_bitwise_and, []),
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
