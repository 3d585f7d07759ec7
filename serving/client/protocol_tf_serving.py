"""Requests to TensorFlow Serving's REST API."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from serving.client.http_types import Exchange, ServerError, get, post, quote, to_json
from serving.client.model import RemoteModel, from_shapes


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
        inputs = {key: _tensor_shape(value) for key, value in default["inputs"].items()}
        outputs = {key: _tensor_shape(value) for key, value in default["outputs"].items()}
        parameters = {"kind": "image"} if "generate_png" in signatures else {}
        model = from_shapes(name, inputs, outputs, tuple(versions), parameters)
        return dataclasses.replace(
            model, version=version or model.version, signatures=tuple(sorted(signatures))
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError(f"Metadata must name signatures. Received: {error!r}") from error


def _tensor_shape(tensor: dict[str, Any]) -> list[int]:
    return [int(dim["size"]) for dim in tensor["tensor_shape"].get("dim", ())]


def predict(
    path: str, name: str, version: int | None, signature: str, inputs: dict[str, np.ndarray]
) -> Exchange[list[Any]]:
    """Runs a signature on inputs by name, in the column format; returns `samples`."""
    where = probe_path(path, name) + ("" if version is None else f"/versions/{version}")
    columns = {key: value.tolist() for key, value in inputs.items()}
    body = to_json({"signature_name": signature, "inputs": columns})
    outputs = (yield post(f"{where}:predict", body)).json().get("outputs")
    outputs = outputs.get("samples") if isinstance(outputs, dict) else outputs
    if not isinstance(outputs, list):
        raise ServerError(f"A prediction must have outputs. Received: {outputs!r:.80}")
    return outputs


def to_array(content: list[Any]) -> np.ndarray:
    """Converts nested lists to float32."""
    try:
        return np.array(content, np.float32)
    except (TypeError, ValueError) as error:
        raise ServerError(f"Samples must be numbers. Received: {str(content)[:40]!r}") from error
