"""Feature extractors from ONNX files, and sessions of onnxruntime."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from keras_gan.errors import UsageError, one_line
from keras_gan.metrics.extractor import Extractor, Outputs, file_sha256, softmax
from serving import cuda

CHANNELS = (1, 3, 4)


def from_onnx(file: pathlib.Path, name: str) -> Extractor:
    """Returns the extractor of an ONNX file, see `open_features`.

    Raises:
        UsageError: the file cannot be loaded, or its inputs are not one batch of images.
    """
    session = open_session(file)
    ports = session.get_inputs()
    if len(ports) != 1 or len(ports[0].shape) != 4 or ports[0].type != "tensor(float)":
        inputs = ", ".join(f"{port.name} {port.type} {port.shape}" for port in ports)
        raise UsageError(
            "The ONNX file of an extractor must have one input, float32 images of 4 dimensions. "
            f"Received: {file} with {inputs}"
        )
    sizes = [size if isinstance(size, int) and size > 0 else None for size in ports[0].shape]
    channels_first = sizes[1] in CHANNELS and sizes[3] not in CHANNELS  # as PyTorch exports
    shape = (sizes[2], sizes[3], sizes[1]) if channels_first else (sizes[1], sizes[2], sizes[3])
    outputs = [port.name for port in session.get_outputs()]
    feature = "features" if "features" in outputs else outputs[0]
    classes = next((n for n in ("probabilities", "logits") if n in outputs and n != feature), None)
    names = [feature] if classes is None else [feature, classes]

    def run(samples: np.ndarray) -> Outputs:
        x = np.ascontiguousarray(samples.transpose(0, 3, 1, 2)) if channels_first else samples
        arrays = session.run(names, {ports[0].name: x})
        features = arrays[0].reshape(len(arrays[0]), -1)
        if classes is None:
            return features, None
        return features, softmax(arrays[1]) if classes == "logits" else arrays[1]

    value_range = _value_range(session, file)
    return Extractor(
        name, run, _sha256_with_weights(file), shape, value_range, runtime=runtime_of(session)
    )


def open_session(model: pathlib.Path | bytes) -> Any:
    """Opens an onnxruntime session, on the GPU if TensorFlow and onnxruntime can both use it.

    They can if both are built for the same CUDA version.

    Raises:
        UsageError: onnxruntime cannot load the model.
    """
    import onnxruntime

    providers = ["CPUExecutionProvider"]
    if (
        "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        and tf.config.list_physical_devices("GPU")
        and cuda.obstacle(onnxruntime.cuda_version) is None
    ):
        onnxruntime.preload_dlls()
        providers.insert(0, "CUDAExecutionProvider")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    content = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # onnxruntime has a class for each failure
        line = one_line(error)
        what = "model.onnx" if isinstance(model, bytes) else str(model)
        raise UsageError(f"onnxruntime must load the model. Received: {what}: {line}") from error


def runtime_of(session: Any) -> str:
    """Returns the version of onnxruntime and the first provider of a session."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}, {session.get_providers()[0]}"


def _value_range(session: Any, file: pathlib.Path) -> tuple[float, float]:
    text = session.get_modelmeta().custom_metadata_map.get("value_range", "-1,1")
    try:
        low, high = (float(part) for part in text.strip("[]()").split(","))
    except ValueError:
        raise UsageError(
            "value_range in the metadata of an extractor's file must be two numbers, as -1,1. "
            f"Received: {text!r} in {file}"
        ) from None
    return low, high


def _sha256_with_weights(file: pathlib.Path) -> str:
    """Returns the hash of an ONNX file together with its external weight files, if any."""
    import onnx

    external = sorted(
        {
            entry.value
            for tensor in _tensors(onnx.load(str(file), load_external_data=False).graph)
            if tensor.data_location == onnx.TensorProto.EXTERNAL
            for entry in tensor.external_data
            if entry.key == "location"
        }
    )
    if not external:
        return file_sha256(file)
    hashes = [file_sha256(path) for path in (file, *(file.parent / name for name in external))]
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def _tensors(graph: Any) -> Iterator[Any]:
    """Yields all tensors of an ONNX graph, with those of its nodes and of nested graphs."""
    yield from graph.initializer
    for attribute in (a for node in graph.node for a in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from _tensors(inner)
