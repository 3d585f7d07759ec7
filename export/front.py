"""The front end of a vocoder in ONNX: from sound to the log-mel spectrograms of its training.

The products are float64: with the rounding of float32, the logarithm of a quiet mel beside loud
ones would differ by up to 1e-3.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from keras_gan import __version__
from serving.mel import EPSILON, Mel

FILE_NAME = "front.onnx"
_OPSET, _IR_VERSION = 17, 8


def write_front(mel: Mel, to: Path) -> None:
    """Writes the model: `samples` float32 `(batch, samples)` to `mel` `(batch, frames, mels)`."""
    graph = _Graph()
    blocks, frames = _blocks(graph, mel)
    taps = -(-mel.window // mel.hop)
    parts = [
        graph.add("Slice", blocks, [i], graph.add("Add", frames, [i]), [1]) for i in range(taps)
    ]
    windows = parts[0] if taps == 1 else graph.add("Concat", *parts, axis=2)
    count = mel.n_fft // 2 + 1
    kernels = np.zeros((taps * mel.hop, 2 * count))
    kernels[: mel.window] = mel.kernels.reshape(mel.window, -1)
    squares = graph.add("MatMul", windows, kernels)
    squares = graph.add("Mul", squares, squares)
    real = graph.add("Slice", squares, [0], [count], [2])
    imaginary = graph.add("Slice", squares, [count], [2 * count], [2])
    power = graph.add("Add", graph.add("Add", real, imaginary), np.array(EPSILON))
    mels = graph.add("MatMul", graph.add("Sqrt", power), mel.filters.T)
    levels = graph.add("Log", graph.add("Max", mels, np.array(mel.floor)))
    graph.add("Cast", levels, to=onnx.TensorProto.FLOAT, output="mel")
    onnx.save_model(graph.model(mel), to)


def _blocks(graph: _Graph, mel: Mel) -> tuple[str, str]:
    """Adds the padding; returns samples `(batch, frames + taps - 1, hop)`, and the frames."""
    taps, before = -(-mel.window // mel.hop), (mel.window - mel.hop) // 2
    time = graph.add("Shape", "samples", start=1, end=2)
    frames = graph.add("Div", graph.add("Add", time, [mel.hop - 1]), [mel.hop])
    rows = graph.add("Add", frames, [taps - 1])
    whole = graph.add("Mul", rows, [mel.hop])
    after = graph.add("Sub", graph.add("Sub", whole, time), [before])
    pads = graph.add("Concat", [0, before, 0], after, axis=0)
    samples = graph.add("Cast", "samples", to=onnx.TensorProto.DOUBLE)
    padded = graph.add("Pad", samples, pads)
    shape = graph.add("Concat", [-1], rows, [mel.hop], axis=0)
    return graph.add("Reshape", padded, shape), frames


class _Graph:
    """Nodes and constants of an ONNX graph."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add(self, op_type: str, *operands: Any, output: str = "", **attributes: Any) -> str:
        """Adds a node; operands are names, or lists of integers and arrays as constants."""
        inputs = [x if isinstance(x, str) else self._constant(x) for x in operands]
        name = output or f"x{len(self._nodes)}"
        self._nodes.append(onnx.helper.make_node(op_type, inputs, [name], **attributes))
        return name

    def _constant(self, value: Any) -> str:
        array = np.asarray(value, np.int64) if isinstance(value, list) else value
        name = f"c{len(self._constants)}"
        self._constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def model(self, mel: Mel) -> onnx.ModelProto:
        """Returns the model of the nodes, checked."""
        info, real = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
        graph = onnx.helper.make_graph(
            self._nodes,
            "front",
            [info("samples", real, ["batch", "samples"])],
            [info("mel", real, ["batch", "frames", mel.mels])],
            self._constants,
        )
        opset = onnx.helper.make_opsetid("", _OPSET)
        model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
        model.producer_name, model.producer_version = "keras_gan", __version__
        onnx.checker.check_model(model, full_check=True)
        return model
