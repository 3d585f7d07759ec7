"""Classifiers of a user's own that decide which samples are kept."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from serving.bundle_folder import has_bundle
from serving.class_folders import folder_name
from serving.errors import UsageError, one_line
from serving.inputs import Port
from serving.value_ranges import Range

_CHANNELS = (1, 3, 4)
_OUTPUTS = ("probabilities", "classes", "logits")  # of an ONNX file, the first that it has


class _Network(NamedTuple):
    """A classifier.

    Args:
        run: function from float32 pictures in its range to scores `(batch, classes)`.
        shape: of one picture, `None` for any size.
        value_range: of its pixels, where the file states it.
        names: of its classes, where the file states them.
    """

    run: Callable[[np.ndarray], Any]
    shape: tuple[int | None, ...]
    value_range: Range | None = None
    names: tuple[str, ...] = ()


class Classifier:
    """A classifier of the samples of a generator.

    Args:
        path: a .keras or .onnx file, or a bundle.
        port: the generator's output.
        names: the generator's classes in the order of their ids.
        value_range: of the classifier's pixels, where it is given.
        order: the classifier's classes in the order of its outputs, where it is given.

    Raises:
        UsageError: the file is not a classifier of these pictures and classes, or its range or
            the order of its classes is not known.
    """

    def __init__(
        self,
        path: Path,
        port: Port,
        names: Sequence[str],
        value_range: Range | None = None,
        order: Sequence[str] = (),
    ):
        self._path, self._port = path, port
        self._network = _open(path)
        _check_shape(path, self._network.shape, port)
        limits = value_range or self._network.value_range
        if limits is None:
            raise UsageError(
                "--classifier-range must name the smallest and largest pixel value that the "
                f"classifier takes, such as 0 255. Received: {str(path)!r}, which does not say"
            )
        self._range = limits
        self._columns = _columns(names, order or self._network.names)
        self._has_probabilities: bool | None = None

    def probabilities(self, samples: np.ndarray) -> np.ndarray:
        """Returns the probability of each class of the generator, `(batch, classes)`.

        Args:
            samples: pictures as the generator returns them.
        """
        least, most = self._port.meta.get("value_range") or (-1.0, 1.0)
        low, high = self._range
        unit = (samples.astype(np.float32) - least) / (most - least)
        scores = np.asarray(self._network.run(unit.clip(0, 1) * (high - low) + low), np.float64)
        if scores.shape != (len(samples), len(self._columns)):
            raise UsageError(
                f"A classifier must return a score for each of {len(self._columns)} classes. "
                f"Received: {scores.shape[1:]} from {str(self._path)!r}"
            )
        if self._has_probabilities is None:
            sums = scores.sum(axis=1)
            self._has_probabilities = bool(scores.min() >= 0 and np.abs(sums - 1).max() < 0.01)
        if not self._has_probabilities:
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
        return scores[:, self._columns]


def check_range(values: Sequence[float] | None) -> Range | None:
    """Returns the range of pixels that two numbers name; `None` without them.

    Raises:
        UsageError: not two finite numbers, the smaller first.
    """
    if values is None:
        return None
    numbers = tuple(values)
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)) or numbers[0] >= numbers[1]:
        raise UsageError(
            "The range of a classifier's pixels must be two numbers, the smaller first, such as "
            f"0 255. Received: {' '.join(f'{x:g}' for x in numbers)}"
        )
    return numbers[0], numbers[1]


def _columns(names: Sequence[str], order: Sequence[str]) -> list[int]:
    """Returns the classifier's output of each class of the generator."""
    if not order:
        if list(names) != sorted(names):
            raise UsageError(
                "--classifier-classes must name the classes in the order of the classifier's "
                f"outputs, as the bundle's is not that of the alphabet: {', '.join(names)}. "
                "Received: none"
            )
        return list(range(len(names)))
    if sorted(order) != sorted(names):
        raise UsageError(
            f"The classes of the classifier must be those of the bundle, {', '.join(names)}. "
            f"Received: {', '.join(order)}"
        )
    return [list(order).index(name) for name in names]


def _check_shape(path: Path, shape: Sequence[int | None], port: Port) -> None:
    fits = len(shape) == len(port.sizes)
    fits &= all(n in (None, m) for n, m in zip(shape, port.sizes, strict=False))
    if not fits:
        raise UsageError(
            f"A classifier must take pictures of the shape of the samples, {port.shape}. "
            f"Received: {tuple(shape)} in {str(path)!r}"
        )


def _open(path: Path) -> _Network:
    if has_bundle(path):
        return _from_bundle(path)
    if not path.is_file() or path.suffix.lower() not in (".keras", ".onnx"):
        raise UsageError(
            "--classifier must be a .keras file, an .onnx file or a bundle. "
            f"Received: --classifier {path}"
        )
    try:
        return _from_onnx(path) if path.suffix.lower() == ".onnx" else _from_keras(path)
    except UsageError:
        raise
    except Exception as error:  # onnxruntime and Keras raise many
        raise UsageError(
            f"--classifier must be a readable file. Received: {path} ({one_line(error)})"
        ) from error


def _from_bundle(path: Path) -> _Network:
    from serving.bundle import Bundle

    bundle = Bundle(path)
    found = bundle.classifier
    if found is None:
        raise UsageError(
            "A bundle for --classifier must be of role classifier, with a picture as its input and "
            f"an output 'classes'. Received: {str(path)!r} of role {bundle.role!r}"
        )
    port = found.source
    low, high = port.meta.get("value_range") or (-1.0, 1.0)

    def run(pictures: np.ndarray) -> np.ndarray:
        given: dict[str, Any] = {port.name: pictures}
        return bundle.sample(batch_size=len(pictures), **given)[found.classes.name]

    # The generator's classes have the names of their folders here.
    names = tuple(folder_name(name) for name in found.names)
    return _Network(run, port.sizes, (float(low), float(high)), names)


def _from_onnx(path: Path) -> _Network:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ports = session.get_inputs()
    if len(ports) != 1 or len(ports[0].shape) != 4 or ports[0].type != "tensor(float)":
        received = ", ".join(f"{port.name} {port.type} {port.shape}" for port in ports)
        raise UsageError(
            "An ONNX file for --classifier must have one input, float32 pictures of 4 dimensions. "
            f"Received: {path} with {received}"
        )
    sizes = [size if isinstance(size, int) and size > 0 else None for size in ports[0].shape]
    first = sizes[1] in _CHANNELS and sizes[3] not in _CHANNELS  # channels first, as of PyTorch
    outputs = [port.name for port in session.get_outputs()]
    name = next((name for name in _OUTPUTS if name in outputs), outputs[0])

    def run(pictures: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)) if first else pictures
        return np.asarray(session.run([name], {ports[0].name: x})[0])

    shape = (sizes[2], sizes[3], sizes[1]) if first else tuple(sizes[1:])
    text = session.get_modelmeta().custom_metadata_map.get("value_range")
    limits = text and [float(part) for part in text.strip("[]()").split(",")]
    return _Network(run, shape, check_range(limits or None))


def _from_keras(path: Path) -> _Network:
    try:
        keras: Any = importlib.import_module("keras")
    except ModuleNotFoundError as error:
        raise UsageError(
            "A .keras classifier needs Keras and its backend; an .onnx file does not. "
            f"Received: no module {error.name!r}"
        ) from error
    model: Any = keras.saving.load_model(path, compile=False)
    shape: Any = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple):
        raise UsageError(f"A .keras classifier must have one input. Received: {path} with {shape}")
    return _Network(model.predict_on_batch, shape[1:])
