"""The Open Inference Protocol, version 2, over REST, with the extension for binary tensors.

Reference:
    https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
    https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson

from serving.engine import Job
from serving.errors import short_repr
from serving.http_types import BYTES, Answer, HTTPError, Request, json_answer
from serving.limits import Settings
from serving.tensors import Inputs, batches, flatten

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


def server(app: Any, request: Request) -> Answer:
    """Handles `/v2`."""
    about = {
        "name": "keras-gan",
        "version": app.version,
        "extensions": ["binary_tensor_data", "model_configuration", "model_repository"],
    }
    return json_answer(about)


def live(app: Any, request: Request) -> Answer:
    """Handles `/v2/health/live`."""
    return json_answer({"live": True})


def ready(app: Any, request: Request) -> Answer:
    """Handles `/v2/health/ready`."""
    head = b"" if app.ready else b"retry-after: 1\r\n"
    return json_answer({"ready": app.ready}, 200 if app.ready else 503, head)


def index(app: Any, request: Request) -> Answer:
    """Handles `/v2/repository/index`."""
    found = [
        {"name": s.bundle.name, "version": str(s.version), "state": "READY", "reason": ""}
        for s in sorted(app.repository, key=lambda s: (s.bundle.name, s.version))
    ]
    return json_answer(found)


def model_ready(app: Any, request: Request, name: str, version: int | None = None) -> Answer:
    """Handles `/v2/models/NAME/ready`."""
    request.served = app.find(name, version)
    return json_answer({"name": name, "ready": True})


def model(app: Any, request: Request, name: str, version: int | None = None) -> Answer:
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
        # Our own: seeds in the place of latents.
        "parameters": {"seeds": "INT64 [-1], in the place of latents"},
    }
    return json_answer(about)


def model_config(app: Any, request: Request, name: str, version: int | None = None) -> Answer:
    """Handles `/v2/models/NAME/config`, as much of it as there is."""
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
    return json_answer(about)


class Inference:
    """A request for inference, read and checked.

    Args:
        served: the version of the model.
        content: the part of the body that is JSON.
        binary: the rest of it.
        settings: the server's.

    Raises:
        HTTPError: it is not what the protocol or the model wants.
    """

    def __init__(self, served: Any, content: Any, binary: bytes, settings: Settings):
        self.served = served
        if type(content) is not dict:
            raise HTTPError(400, f"The request must be an object. Received: {_told(content)}")
        self.id = content.get("id")
        if self.id is not None and type(self.id) is not str:
            raise HTTPError(400, f"id must be a string. Received: id={short_repr(self.id)}")
        parameters = _parameters(content)
        tensors = self._tensors(content.get("inputs"), binary)
        self.binary = self._outputs(content.get("outputs"), parameters)
        truncation = parameters.get("truncation", 1)
        if type(truncation) not in (int, float) or not 0 <= truncation <= 100:
            raise HTTPError(
                400, f"truncation must be 0 to 100. Received: truncation={short_repr(truncation)}"
            )
        self.inputs = Inputs(served, tensors, float(truncation), settings)

    def _tensors(self, inputs: Any, binary: bytes) -> dict[str, np.ndarray]:
        if type(inputs) is not list or not 0 < len(inputs) <= 3:
            raise HTTPError(400, f"inputs must be a list of tensors. Received: {_told(inputs)}")
        found: dict[str, np.ndarray] = {}
        start = 0
        for tensor in inputs:
            if type(tensor) is not dict or type(tensor.get("name")) is not str:
                raise HTTPError(400, f"An input must have a name. Received: {_told(tensor)}")
            name = tensor["name"]
            if name not in _ALLOWED or name in found:
                raise HTTPError(
                    400,
                    f"The inputs are {', '.join(_ALLOWED)}, each once. "
                    f"Received: {short_repr(name)}",
                )
            datatype: Any = tensor.get("datatype")
            shape: Any = tensor.get("shape")
            if datatype not in _ALLOWED[name]:
                raise HTTPError(
                    400,
                    f"{name} must be {_ALLOWED[name][0]}. "
                    f"Received: datatype={short_repr(datatype)}",
                )
            plain = type(shape) is list and 0 < len(shape) <= 8
            if not plain or not all(type(x) is int and 0 < x < 2**31 for x in shape):
                raise HTTPError(
                    400,
                    f"shape must be a list of sizes above 0. Received: shape={short_repr(shape)}",
                )
            size = _parameters(tensor).get("binary_data_size")
            dtype = np.dtype(_DATATYPES[datatype])
            count = math.prod(shape)
            if size is None:
                found[name] = _from_json(name, tensor.get("data"), dtype, shape, count)
                continue
            if type(size) is not int or size != count * dtype.itemsize:
                raise HTTPError(
                    400,
                    f"binary_data_size of {name} must be {count * dtype.itemsize}. "
                    f"Received: {short_repr(size)}",
                )
            if "data" in tensor or start + size > len(binary):
                raise HTTPError(
                    400,
                    f"The bytes of {name} must follow the JSON. Received: {len(binary)} bytes",
                )
            found[name] = np.frombuffer(binary, dtype, count, start).reshape(shape)
            start += size
        if start != len(binary):
            raise HTTPError(
                400,
                "What follows the JSON must be the inputs' bytes. "
                f"Received: {len(binary)} bytes, of which {start} are",
            )
        return found

    def _outputs(self, outputs: Any, parameters: dict[str, Any]) -> bool:
        """Whether the samples are wanted as bytes."""
        binary = _flag(parameters, "binary_data_output")
        if outputs is None or outputs == []:
            return bool(binary)
        if type(outputs) is not list or len(outputs) != 1 or type(outputs[0]) is not dict:
            raise HTTPError(400, f"The output is samples. Received: {_told(outputs)}")
        own = _parameters(outputs[0])
        if outputs[0].get("name") != "samples" or "classification" in own:
            raise HTTPError(400, f"The output is samples, as it is. Received: {_told(outputs)}")
        wanted = _flag(own, "binary_data")
        return bool(binary) if wanted is None else wanted

    def answer(self, samples: np.ndarray) -> Answer:
        """The answer, in the worker or another thread."""
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
            return json_answer(about, 200, served.head)
        data = samples.tobytes()
        output["parameters"] = {"binary_data_size": len(data)}
        start = orjson.dumps(about)
        head = b"%binference-header-content-length: %d\r\n" % (served.head, len(start))
        return Answer(200, start + data, BYTES, head)


def infer(app: Any, request: Request, name: str, version: int | None = None) -> Any:
    """Handles `/v2/models/NAME/infer`."""
    served = request.served = app.find(name, version)
    headers = request.headers
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise HTTPError(415, "A body must not be compressed. Received: content-encoding")
    length = headers.get(b"inference-header-content-length")
    if length is None:
        content, binary = request.json(), b""
    else:
        if not length.isdigit() or len(length) > 18 or int(length) > len(request.body):
            raise HTTPError(
                400,
                "Inference-Header-Content-Length must be the length of the JSON in the body. "
                f"Received: {short_repr(length.decode('latin-1'))}",
            )
        binary = request.body[int(length) :]
        try:
            content = orjson.loads(request.body[: int(length)])
        except orjson.JSONDecodeError as error:
            raise HTTPError(400, f"The body must start with JSON. Received: {error}") from error
    inference = Inference(served, content, binary, app.settings)
    inputs = inference.inputs

    def encode(job: Job, samples: np.ndarray) -> Answer:
        return inference.answer(samples)

    if inputs.count <= served.engine.max_batch:
        return inputs.job(0, inputs.count, encode, request.start + app.settings.timeout)
    return batches(app, inputs, request.start + app.settings.timeout, inference.answer)


def _from_json(name: str, data: Any, dtype: np.dtype, shape: list[int], count: int) -> np.ndarray:
    if type(data) is not list:
        raise HTTPError(400, f"data of {name} must be a list. Received: {_told(data)}")
    rule = f"data of {name} must be {count} numbers of its datatype"
    try:
        flat, _ = flatten(data, dtype.kind == "f")
    except ValueError as error:
        raise HTTPError(
            400, f"data of {name} must be numbers in rows. Received: {error}"
        ) from error
    except TypeError as error:
        raise HTTPError(400, f"{rule}. Received: a {error}") from error
    if len(flat) != count:
        raise HTTPError(400, f"{rule}. Received: {len(flat)}")
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        if min(flat) < limits.min or max(flat) > limits.max:
            raise HTTPError(400, f"data of {name} must fit its datatype. Received: {_told(data)}")
        return np.array(flat, dtype).reshape(shape)
    with np.errstate(over="ignore"):
        return np.array(flat, np.float64).astype(dtype).reshape(shape)


def _parameters(content: dict[str, Any]) -> dict[str, Any]:
    found = content.get("parameters")
    if found is None:
        return {}
    if type(found) is not dict:
        raise HTTPError(400, f"parameters must be an object. Received: {_told(found)}")
    return found


def _flag(parameters: dict[str, Any], name: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and type(value) is not bool:
        raise HTTPError(400, f"{name} must be true or false. Received: {name}={short_repr(value)}")
    return value


def _told(value: Any) -> str:
    return short_repr(value) if value is not None else "nothing"
