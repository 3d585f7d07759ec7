"""Learned perceptual distance of answers and their real partners, from a local file."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np

from keras_gan.errors import UsageError, one_line
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics._needs import MetricContext, Missing
from keras_gan.metrics.extractor import file_sha256
from keras_gan.metrics.images import to_channels
from keras_gan.metrics.onnx_extractor import CHANNELS, open_session, runtime_of
from keras_gan.metrics.pairs import to_range

_BATCH = 16  # pairs per call of the network
_LARGEST = 1e-3  # distance of a picture to itself


class Lpips(Metric):
    """Mean perceptual distance of the answers, by a network in an ONNX file.

    The file has two inputs, float32 pictures in [-1, 1] of one layout, NCHW or NHWC, and returns
    one distance for each pair, which is 0 for equal pictures. Gray is repeated and color becomes
    luma where the network takes other channels.

    Args:
        path: the file.

    Reference:
        - [Zhang et al., 2018](https://arxiv.org/abs/1801.03924)
    """

    title = "Learned perceptual distance, from a local file (lpips:PATH)"
    better = "lower"
    least = 1
    kinds = ("image",)
    needs = ("pairs",)
    by_default = False
    order = 34

    def __init__(self, path: str | os.PathLike[str] | None = None):
        self._path = path

    def of_argument(self, argument: str) -> Lpips:
        metric = Lpips(argument)
        metric.file  # noqa: B018 - it must exist before anything is computed
        return metric

    def missing(self, context: MetricContext) -> Missing | None:
        if self._path is None:
            return Missing("the path of an ONNX file with two inputs, as lpips:PATH", "no path")
        return super().missing(context)

    @property
    def file(self) -> pathlib.Path:
        """The file.

        Raises:
            UsageError: no path, or no file there.
        """
        path = pathlib.Path(os.path.expanduser(self._path or ""))
        if not path.is_file():
            raise UsageError(
                "lpips needs the path of an ONNX file with two inputs, as in lpips:PATH. "
                f"Received: {os.fspath(self._path) if self._path else 'lpips'!r}"
            )
        return path

    def of(self, inputs: EvaluationInputs) -> float:
        return lpips(self.file, inputs.paired.real, inputs.paired.generated)

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        file = self.file
        session = {"runtime": runtime_of(open_session(file))}
        return {"pairs": len(inputs.paired.real), "sha256": file_sha256(file), **session}


def lpips(path: str | os.PathLike[str], real: np.ndarray, generated: np.ndarray) -> float:
    """Returns the mean distance of pictures and their partners by the network in an ONNX file.

    Args:
        path: the file, see `Lpips`.
        real: uint8 `(count, height, width, channels)`.
        generated: their partners, row by row, of the same shape.

    Raises:
        UsageError: a file that cannot be loaded, or that does not compute distances of such
            pictures.
    """
    file = pathlib.Path(path)
    session = open_session(file)
    ports = session.get_inputs()
    if len(ports) != 2 or any(len(p.shape) != 4 or p.type != "tensor(float)" for p in ports):
        inputs = ", ".join(f"{port.name} {port.type} {port.shape}" for port in ports)
        raise UsageError(
            "The ONNX file of lpips must have two inputs, float32 pictures of 4 dimensions. "
            f"Received: {file} with {inputs}"
        )
    first = real[:1]
    itself = _distances(session, file, first, first)
    if itself.max() > _LARGEST:
        raise UsageError(
            "The network of lpips must return 0 for equal pictures. "
            f"Received: {itself.max():.6g} from {file}"
        )
    total = 0.0
    for start in range(0, len(real), _BATCH):
        part = slice(start, start + _BATCH)
        total += float(_distances(session, file, real[part], generated[part]).sum())
    return total / len(real)


def _distances(
    session: Any, file: pathlib.Path, real: np.ndarray, generated: np.ndarray
) -> np.ndarray:
    """Returns the distance of each pair."""
    feeds = {
        port.name: _prepared(pictures, port.shape)
        for port, pictures in zip(session.get_inputs(), (real, generated), strict=True)
    }
    try:
        found = np.asarray(session.run(None, feeds)[0], np.float64)
    except Exception as error:  # onnxruntime has a class for each failure
        raise UsageError(
            f"The network of lpips must take pictures of shape {real.shape[1:]}. "
            f"Received: {file}: {one_line(error)}"
        ) from error
    if found.size != len(real) or not np.isfinite(found).all():
        raise UsageError(
            "The network of lpips must return one finite distance for each pair. "
            f"Received: {found.shape} for {len(real)} pairs, from {file}"
        )
    return found.reshape(-1)


def _prepared(pictures: np.ndarray, shape: list[Any]) -> np.ndarray:
    """Returns pictures in the layout, channels and range of an input."""
    channels_first = shape[1] in CHANNELS and shape[3] not in CHANNELS  # as PyTorch exports
    channels = shape[1] if channels_first else shape[3]
    wanted = channels if channels in CHANNELS else None
    x = to_range(to_channels(pictures.astype(np.float32), wanted))
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if channels_first else x
