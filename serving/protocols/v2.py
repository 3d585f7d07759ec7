"""Open Inference Protocol V2 over REST, with the binary tensor extension.

Reference:
    - https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md
    - https://github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson

from serving.checks import check_boolean, check_number, flatten
from serving.engine import SampleJob
from serving.errors import UsageError, short_repr
from serving.http_types import BYTES, HTTPError, Request, Response, json_response
from serving.limits import Settings
from serving.tensors import TensorInputs, gather

_DATATYPES = {
    "FP32": "<f4",
    "FP64": "<f8",
    "INT64": "<i8",
    "INT32": "<i4",
    "UINT64": "<u8",
    "UINT32": "<u4",
}
_ALLOWED = {
    "latents": ("FP32", "FP64"),
    "labels": ("INT64", "INT32", "UINT64", "UINT32"),
    "seeds": ("INT64", "INT32", "UINT64", "UINT32"),
}
PLATFORM = "onnxruntime_onnx"


def server(app: Any, request: Request) -> Response:
    """Handles `/v2`."""
    about = {
        "name": "keras-gan",
        "version": app.version,
        "extensions": ["binary_tensor_data", "model_configuration", "model_repository"],
    }
    return json_response(about)


def live(app: Any, request: Request) -> Response:
    """Handles `/v2/health/live`."""
    return json_response({"live": True})


def ready(app: Any, request: Request) -> Response:
    """Handles `/v2/health/ready`."""
    headers = b"" if app.ready else b"retry-after: 1\r\n"
    return json_response({"ready": app.ready}, 200 if app.ready else 503, headers)


def index(app: Any, request: Request) -> Response:
    """Handles `/v2/repository/index`."""
    found = [
        {"name": s.bundle.name, "version": str(s.version), "state": "READY", "reason": ""}
        for s in sorted(app.repository, key=lambda s: (s.bundle.name, s.version))
    ]
    return json_response(found)


def model_ready(app: Any, request: Request, name: str, version: int | None = None) -> Response:
    """Handles `/v2/models/NAME/ready`."""
    request.served = app.find(name, version)
    return json_response({"name": name, "ready": True})


def model(app: Any, request: Request, name: str, version: int | None = None) -> Response:
    """Handles `/v2/models/NAME`."""
    served = request.served = app.find(name, version)
    bundle = served.bundle
    inputs = [{"name": "latents", "datatype": "FP32", "shape": [-1, bundle.latent_dim]}]
    if bundle.num_classes:
        inputs.append({"name": "labels", "datatype": "INT64", "shape": [-1, 1]})
    about = {
        "name": name,
        "versions": [str(x) for x in sorted(app.repository.models[name])],
        "platform": PLATFORM,
        "inputs": inputs,
        "outputs": [{"name": "samples", "datatype": "FP32", "shape": [-1, *bundle.shape]}],
        # An extension of this server: seeds instead of latents.
        "parameters": {"seeds": "INT64 [-1], in the place of latents"},
    }
    return json_response(about)


def model_config(app: Any, request: Request, name: str, version: int | None = None) -> Response:
    """Handles `/v2/models/NAME/config`, with the fields that apply to this server."""
    served = request.served = app.find(name, version)
    bundle = served.bundle
    inputs = [{"name": "latents", "data_type": "TYPE_FP32", "dims": [bundle.latent_dim]}]
    if bundle.num_classes:
        inputs.append({"name": "labels", "data_type": "TYPE_INT64", "dims": [1]})
    about = {
        "name": name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": app.settings.max_count,
        "input": inputs,
        "output": [{"name": "samples", "data_type": "TYPE_FP32", "dims": list(bundle.shape)}],
        "dynamic_batching": {"max_queue_delay_microseconds": 0},
    }
    return json_response(about)


class Inference:
    """A checked inference request.

    Args:
        served: version of the model.
        content: the JSON part of the body, decoded.
        binary: the rest of the body.
        settings: settings of the server.

    Raises:
        UsageError: the request does not follow the protocol or does not fit the model.
    """

    def __init__(self, served: Any, content: Any, binary: bytes, settings: Settings):
        self.served = served
        if type(content) is not dict:
            raise UsageError(f"The request must be an object. Received: {short_repr(content)}")
        self.id = content.get("id")
        if self.id is not None and type(self.id) is not str:
            raise UsageError(f"`id` must be a string. Received: id={short_repr(self.id)}")
        parameters = _parameters(content)
        tensors = _read_tensors(content.get("inputs"), binary)
        self.binary = self._outputs(content.get("outputs"), parameters)
        truncation = 1.0
        if "truncation" in parameters:
            truncation = check_number("truncation", parameters["truncation"], 0, 100)
        self.inputs = TensorInputs(served, tensors, truncation, settings)

    def _outputs(self, outputs: Any, parameters: dict[str, Any]) -> bool:
        """Returns True if the samples are requested as bytes."""
        binary = _flag(parameters, "binary_data_output")
        if outputs is None or outputs == []:
            return bool(binary)
        if type(outputs) is not list or len(outputs) != 1 or type(outputs[0]) is not dict:
            raise UsageError(
                f"`outputs` must be samples alone. Received: outputs={short_repr(outputs)}"
            )
        own = _parameters(outputs[0])
        if outputs[0].get("name") != "samples" or "classification" in own:
            raise UsageError(
                "`outputs` must be samples alone, without classification. "
                f"Received: outputs={short_repr(outputs)}"
            )
        wanted = _flag(own, "binary_data")
        return bool(binary) if wanted is None else wanted

    def respond(self, samples: np.ndarray) -> Response:
        """Returns the response; runs in a worker or in another thread."""
        served = self.served
        output: dict[str, Any] = {
            "name": "samples",
            "datatype": "FP32",
            "shape": list(samples.shape),
        }
        about = {"model_name": served.bundle.name, "model_version": str(served.version)}
        if self.id is not None:
            about["id"] = self.id
        about["outputs"] = [output]
        if not self.binary:
            output["data"] = np.ascontiguousarray(samples).reshape(-1)
            return json_response(about, 200, served.headers)
        data = samples.tobytes()
        output["parameters"] = {"binary_data_size": len(data)}
        start = orjson.dumps(about)
        headers = b"%binference-header-content-length: %d\r\n" % (served.headers, len(start))
        return Response(200, start + data, BYTES, headers)


def infer(app: Any, request: Request, name: str, version: int | None = None) -> Any:
    """Handles `/v2/models/NAME/infer`."""
    served = request.served = app.find(name, version)
    headers = request.headers
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding != b"identity":
        raise HTTPError(
            415,
            "The body must not be compressed. "
            f"Received: content-encoding={short_repr(encoding.decode('latin-1'))}",
        )
    length = headers.get(b"inference-header-content-length")
    if length is None:
        content, binary = request.json(), b""
    else:
        if not length.isdigit() or len(length) > 18 or int(length) > len(request.body):
            raise UsageError(
                "Inference-Header-Content-Length must be the length of the JSON in the body. "
                f"Received: {short_repr(length.decode('latin-1'))}",
            )
        binary = request.body[int(length) :]
        try:
            content = orjson.loads(request.body[: int(length)])
        except orjson.JSONDecodeError as error:
            raise UsageError(f"The body must start with JSON. Received: {error}") from error
    inference = Inference(served, content, binary, app.settings)
    inputs = inference.inputs

    def encode(job: SampleJob, samples: np.ndarray) -> Response:
        return inference.respond(samples)

    if inputs.count <= served.engine.max_batch:
        return inputs.job(0, inputs.count, encode, request.start + app.settings.timeout)
    return gather(app, inputs, request.start + app.settings.timeout, inference.respond)


def _read_tensors(inputs: Any, binary: bytes) -> dict[str, np.ndarray]:
    """Returns the input tensors by name, from JSON or from the bytes behind it."""
    if type(inputs) is not list or not 0 < len(inputs) <= len(_ALLOWED):
        raise UsageError(
            f"`inputs` must be a list of 1 to {len(_ALLOWED)} tensors. "
            f"Received: inputs={short_repr(inputs)}"
        )
    found: dict[str, np.ndarray] = {}
    start = 0
    for tensor in inputs:
        if type(tensor) is not dict or type(tensor.get("name")) is not str:
            raise UsageError(f"An input must have a name. Received: {short_repr(tensor)}")
        name = tensor["name"]
        if name not in _ALLOWED or name in found:
            raise UsageError(
                f"The inputs must be {', '.join(_ALLOWED)}, each at most once. "
                f"Received: {short_repr(name)}"
            )
        dtype, shape = _read_type(name, tensor)
        size = _parameters(tensor).get("binary_data_size")
        if size is None:
            found[name] = _from_json(name, tensor.get("data"), dtype, shape)
        else:
            found[name] = _from_binary(tensor, size, dtype, shape, memoryview(binary)[start:])
            start += size
    if start != len(binary):
        raise UsageError(
            "The bytes behind the JSON must be those of the inputs. "
            f"Received: {len(binary)} bytes for inputs of {start}"
        )
    return found


def _read_type(name: str, tensor: dict[str, Any]) -> tuple[np.dtype, list[int]]:
    datatype: Any = tensor.get("datatype")
    if datatype not in _ALLOWED[name]:
        raise UsageError(
            f"`datatype` of {name} must be one of {', '.join(_ALLOWED[name])}. "
            f"Received: datatype={short_repr(datatype)}"
        )
    shape: Any = tensor.get("shape")
    is_list = type(shape) is list and 0 < len(shape) <= 8
    if not is_list or not all(type(x) is int and 0 < x < 2**31 for x in shape):
        raise UsageError(
            f"`shape` must be a list of sizes above 0. Received: shape={short_repr(shape)}"
        )
    return np.dtype(_DATATYPES[datatype]), shape


def _from_binary(
    tensor: dict[str, Any], size: Any, dtype: np.dtype, shape: list[int], binary: memoryview
) -> np.ndarray:
    name, count = tensor["name"], math.prod(shape)
    if type(size) is not int or size != count * dtype.itemsize:
        raise UsageError(
            f"`binary_data_size` of {name} must be {count * dtype.itemsize}. "
            f"Received: binary_data_size={short_repr(size)}"
        )
    if "data" in tensor or size > len(binary):
        raise UsageError(f"The bytes of {name} must follow the JSON. Received: {len(binary)} bytes")
    return np.frombuffer(binary, dtype, count).reshape(shape)


def _from_json(name: str, data: Any, dtype: np.dtype, shape: list[int]) -> np.ndarray:
    count = math.prod(shape)
    if type(data) is not list:
        raise UsageError(f"`data` of {name} must be a list. Received: data={short_repr(data)}")
    rule = f"`data` of {name} must be {count} numbers of its datatype"
    try:
        flat, _ = flatten(data, dtype.kind == "f")
    except ValueError as error:
        raise UsageError(
            f"`data` of {name} must be numbers in rows of equal length. Received: {error}"
        ) from error
    except TypeError as error:
        raise UsageError(f"{rule}. Received: a {error}") from error
    if len(flat) != count:
        raise UsageError(f"{rule}. Received: {len(flat)}")
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        if min(flat) < limits.min or max(flat) > limits.max:
            raise UsageError(
                f"`data` of {name} must fit its datatype. Received: data={short_repr(data)}"
            )
        return np.array(flat, dtype).reshape(shape)
    with np.errstate(over="ignore"):
        return np.array(flat, np.float64).astype(dtype).reshape(shape)


def _parameters(content: dict[str, Any]) -> dict[str, Any]:
    found = content.get("parameters")
    if found is None:
        return {}
    if type(found) is not dict:
        raise UsageError(
            f"`parameters` must be an object. Received: parameters={short_repr(found)}"
        )
    return found


def _flag(parameters: dict[str, Any], name: str) -> bool | None:
    value = parameters.get(name)
    return None if value is None else check_boolean(name, value)
