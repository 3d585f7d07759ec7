"""Requests of the Open Inference Protocol (KServe V2): Triton, KServe, `keras-gan serve`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any

import numpy as np

from serving.client.http_types import Exchange, Response, ServerError, get, post, quote, to_json
from serving.client.model import RemoteModel, from_shapes
from serving.client.protocol_keras_gan import to_version

PROBE = "/v2"
_BINARY = "Inference-Header-Content-Length"
_TYPES = {"FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"), "FP16": np.dtype("<f2")}


def is_spoken(content: dict[str, Any]) -> bool:
    """Checks whether the response to the probe is of this protocol."""
    return isinstance(content.get("name"), str) and "extensions" in content


def list_names(path: str) -> Exchange[list[str]]:
    """Lists the names of the models that are ready."""
    content = (yield post(f"{path}/v2/repository/index", b"{}")).json()
    try:
        ready = [x for x in content if x.get("state", "READY") == "READY"]
        return sorted({str(x["name"]) for x in ready})
    except (AttributeError, KeyError, TypeError) as error:
        raise ServerError(f"An index must name models. Received: {error!r}") from error


def describe(path: str, name: str, version: int | None) -> Exchange[RemoteModel]:
    """Describes one model by its metadata and, where the server has it, its configuration."""
    server = (yield get(f"{path}/v2")).json()
    where = _model_path(path, name, version)
    content = (yield get(where)).json()
    # Triton returns the parameters of config.pbtxt here; other servers do not have the path.
    config = yield get(f"{where}/config", optional=True)
    found = config.json().get("parameters", {}) if config.status == 200 else {}
    parameters = {key: _parameter(value) for key, value in found.items()}
    try:
        inputs = {x["name"]: [int(n) for n in x["shape"]] for x in content["inputs"]}
        outputs = {x["name"]: [int(n) for n in x["shape"]] for x in content["outputs"]}
        if "seeds" in (content.get("parameters") or {}):  # an extension of `keras-gan serve`
            inputs["seeds"] = [-1]
        versions = tuple(sorted(int(x) for x in content.get("versions") or ()))
        model = from_shapes(name, inputs, outputs, versions, parameters)
        binary = "binary_tensor_data" in server.get("extensions", ())
        return dataclasses.replace(model, version=version or model.version, binary=binary)
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError(f"Metadata must name inputs and outputs. Received: {error!r}") from error


def _model_path(path: str, name: str, version: int | None) -> str:
    where = f"{path}/v2/models/{quote(name)}"
    return where + ("" if version is None else f"/versions/{version}")


def _parameter(value: Any) -> Any:
    text: Any = value.get("string_value") if isinstance(value, dict) else value
    with contextlib.suppress(TypeError, ValueError):
        return json.loads(text)
    return text


def infer(
    path: str, version: int | None, model: RemoteModel, inputs: dict[str, np.ndarray]
) -> Exchange[Response]:
    """Runs a model on inputs by name, as binary tensors where the server takes them."""
    ranks = dict(model.inputs)
    tensors, blobs = [], []
    for key, value in inputs.items():
        value = value.reshape(-1, 1) if ranks.get(key) == 2 and value.ndim == 1 else value
        datatype = "INT64" if value.dtype.kind == "i" else "FP32"
        tensor: dict[str, Any] = {"name": key, "datatype": datatype, "shape": list(value.shape)}
        if model.binary:
            blobs.append(value.astype("<i8" if datatype == "INT64" else "<f4").tobytes())
            tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            tensor["data"] = value.ravel().tolist()
        tensors.append(tensor)
    output: dict[str, Any] = {"name": "samples"}
    output |= {"parameters": {"binary_data": True}} if model.binary else {}
    head = to_json({"inputs": tensors, "outputs": [output]})
    headers = {_BINARY: str(len(head)), "Content-Type": "application/octet-stream"}
    where = f"{_model_path(path, model.name, version)}/infer"
    return (yield post(where, head + b"".join(blobs), headers if model.binary else None))


def read_samples(response: Response) -> tuple[np.ndarray, int | None]:
    """Reads the samples, and the version that made them if the server reports a number."""
    try:
        size = int(response.headers.get(_BINARY.lower(), len(response.body)))
        content = json.loads(response.body[:size])
        start = size
        version = to_version(str(content.get("model_version", "")))
        for tensor in content["outputs"]:
            length = tensor.get("parameters", {}).get("binary_data_size")
            if tensor["name"] == "samples":
                dtype, shape = _TYPES[tensor["datatype"]], tensor["shape"]
                if length is None:
                    return np.array(tensor["data"], np.float32).reshape(shape), version
                blob = response.body[start : start + length]
                return np.frombuffer(blob, dtype).reshape(shape).astype(np.float32), version
            start += length or 0
        raise KeyError("samples")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ServerError(f"An answer must hold samples. Received: {error!r:.200}") from error
