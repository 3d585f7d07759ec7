"""Requests to TensorFlow Serving's REST API."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving import kinds
from serving.client.http_types import Exchange, ServerError, get, post, quote, to_json
from serving.client.model import RemoteModel, Tensor, from_tensors
from serving.inputs import Port

_TYPES = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_HALF": "float16", "DT_BOOL": "bool"}
_TYPES |= {
    f"DT_{kind}{n}": f"{kind.lower()}{n}" for kind in ("INT", "UINT") for n in (8, 16, 32, 64)
}


def probe_path(path: str, name: str) -> str:
    """Returns the path of a model's status; TensorFlow Serving has no listing."""
    return f"{path}/v1/models/{quote(name)}"


def is_spoken(content: dict[str, Any]) -> bool:
    """Checks whether the response to the probe is TensorFlow Serving's."""
    return isinstance(content.get("model_version_status"), list)


def describe(path: str, name: str, version: int | None) -> Exchange[RemoteModel]:
    """Describes one model by the signatures of its SavedModel."""
    where = probe_path(path, name)
    status = (yield get(where)).json()
    where += "" if version is None else f"/versions/{version}"
    content = (yield get(f"{where}/metadata")).json()
    try:
        signatures = content["metadata"]["signature_def"]["signature_def"]
        states = status["model_version_status"]
        versions = sorted(int(x["version"]) for x in states if x["state"] == "AVAILABLE")
        default = signatures["serving_default"]
        names = {key: tuple(value.get("inputs", ())) for key, value in signatures.items()}
        model = from_tensors(
            name,
            [_tensor(key, value) for key, value in default["inputs"].items()],
            [_tensor(key, value) for key, value in default["outputs"].items()],
            {"kind": _kind_of(names)},
            names.get("generate"),
        )
        return dataclasses.replace(
            model,
            version=version or (versions[-1] if versions else None),
            versions=tuple(versions),
            signatures=names,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ServerError(f"Metadata must name signatures. Received: {error!r}") from error


def _kind_of(signatures: Mapping[str, Any]) -> str | None:
    """Returns the kind whose preferred file format a signature encodes."""
    for name in kinds.names():
        formats = kinds.get(name).formats
        if formats and f"generate_{formats[0].name}" in signatures:
            return name
    return None


def _tensor(name: str, content: dict[str, Any]) -> Tensor:
    sizes = tuple(int(dim["size"]) for dim in content["tensor_shape"].get("dim", ()))
    return Tensor(name, _TYPES.get(content.get("dtype", ""), "float32"), sizes)


def predict(
    path: str, name: str, version: int | None, signature: str, inputs: dict[str, np.ndarray]
) -> Exchange[dict[str, list[Any]]]:
    """Runs a signature on inputs by name, in the column format; returns outputs by name.

    The name of a single output is not in a response: it is `""`.
    """
    where = probe_path(path, name) + ("" if version is None else f"/versions/{version}")
    columns = {key: value.tolist() for key, value in inputs.items()}
    body = to_json({"signature_name": signature, "inputs": columns})
    outputs = (yield post(f"{where}:predict", body)).json().get("outputs")
    outputs = outputs if isinstance(outputs, dict) else {"": outputs}
    if not all(isinstance(value, list) for value in outputs.values()) or not outputs:
        raise ServerError(f"A prediction must have outputs. Received: {outputs!r:.80}")
    return outputs


def to_arrays(content: dict[str, list[Any]], ports: tuple[Port, ...]) -> dict[str, np.ndarray]:
    """Converts the outputs of a prediction to arrays of the ports' dtypes."""
    found = {}
    for port in ports:
        values = content.get("" if len(content) == 1 and "" in content else port.name)
        try:
            found[port.name] = np.array(values, port.dtype)
        except (TypeError, ValueError) as error:
            raise ServerError(f"Samples must be numbers. Received: {str(values)[:40]!r}") from error
    return found
