"""Requests of the Open Inference Protocol (KServe V2): Triton, KServe, `keras-gan serve`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.client.http_types import Exchange, Response, ServerError, get, post, quote, to_json
from serving.client.model import RemoteModel, Tensor, from_tensors
from serving.client.protocol_keras_gan import to_version

PROBE = "/v2"
_BINARY = "Inference-Header-Content-Length"
BINARY = "binary_tensor_data"
_DATATYPES = {"float16": "FP16", "float32": "FP32", "float64": "FP64", "bool": "BOOL"}
_DATATYPES |= {
    f"{sign}int{n}": f"{sign.upper()}INT{n}" for sign in ("", "u") for n in (8, 16, 32, 64)
}
_DTYPES = {datatype: np.dtype(dtype) for dtype, datatype in _DATATYPES.items()}


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
        model = from_tensors(
            name,
            [_tensor(x) for x in content["inputs"]],
            [_tensor(x) for x in content["outputs"]],
            parameters,
        )
        versions = tuple(sorted(int(x) for x in content.get("versions") or ()))
        return dataclasses.replace(
            model,
            version=version or (versions[-1] if versions else None),
            versions=versions,
            binary=BINARY in server.get("extensions", ()),
            # An extension of `keras-gan serve`.
            takes_seeds="seeds" in (content.get("parameters") or {}),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ServerError(f"Metadata must name inputs and outputs. Received: {error!r}") from error


def _tensor(content: dict[str, Any]) -> Tensor:
    dtype = _DTYPES.get(content.get("datatype", ""), np.dtype(np.float32)).name
    return Tensor(str(content["name"]), dtype, tuple(int(n) for n in content["shape"]))


def _model_path(path: str, name: str, version: int | None) -> str:
    where = f"{path}/v2/models/{quote(name)}"
    return where + ("" if version is None else f"/versions/{version}")


def _parameter(value: Any) -> Any:
    text: Any = value.get("string_value") if isinstance(value, dict) else value
    with contextlib.suppress(TypeError, ValueError):
        return json.loads(text)
    return text


def infer(
    path: str,
    version: int | None,
    model: RemoteModel,
    inputs: dict[str, np.ndarray],
    outputs: Sequence[str],
) -> Exchange[Response]:
    """Runs a model on inputs by name, as binary tensors where the server takes them."""
    tensors, blobs = [], []
    for key, value in inputs.items():
        value = value.reshape(-1, 1) if model.ranks.get(key) == 2 and value.ndim == 1 else value
        little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
        tensor: dict[str, Any] = {
            "name": key,
            "datatype": _DATATYPES[little.dtype.name],
            "shape": list(value.shape),
        }
        if model.binary:
            blobs.append(little.tobytes())
            tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            tensor["data"] = value.ravel().tolist()
        tensors.append(tensor)
    wanted: list[dict[str, Any]] = [{"name": name} for name in outputs]
    for output in wanted if model.binary else ():
        output["parameters"] = {"binary_data": True}
    head = to_json({"inputs": tensors, "outputs": wanted})
    headers = {_BINARY: str(len(head)), "Content-Type": "application/octet-stream"}
    where = f"{_model_path(path, model.name, version)}/infer"
    return (yield post(where, head + b"".join(blobs), headers if model.binary else None))


def read_outputs(
    response: Response, names: Sequence[str]
) -> tuple[dict[str, np.ndarray], int | None]:
    """Reads the outputs, and the version that made them if the server reports a number."""
    try:
        size = int(response.headers.get(_BINARY.lower(), len(response.body)))
        content = json.loads(response.body[:size])
        start = size
        found = {}
        for tensor in content["outputs"]:
            length = tensor.get("parameters", {}).get("binary_data_size")
            if tensor["name"] in names:
                dtype, shape = _DTYPES[tensor["datatype"]].newbyteorder("<"), tensor["shape"]
                if length is None:
                    array = np.array(tensor["data"], dtype)
                else:
                    array = np.frombuffer(response.body[start : start + length], dtype)
                found[tensor["name"]] = array.reshape(shape).astype(dtype.newbyteorder("="))
            start += length or 0
        version = to_version(str(content.get("model_version", "")))
        return {name: found[name] for name in names}, version
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ServerError(f"An answer must hold samples. Received: {error!r:.200}") from error
