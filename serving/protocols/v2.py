"""Open Inference Protocol V2 over REST, with the binary tensor extension.

Reference:
    - https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md
    - https://github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import orjson

from serving.checks import check_boolean, check_number, check_samples, count_not_finite, flatten
from serving.engine import SampleJob
from serving.errors import UsageError, short_repr
from serving.generate.rendering import json_ready, not_finite_header
from serving.http_types import BYTES, Request, Response, json_response, parse_json
from serving.inputs import Input, Inputs, Port
from serving.limits import Settings
from serving.nearest_names import nearest
from serving.tensors import TensorInputs, gather

_DATATYPES = {
    "BOOL": "?",
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}
_NAMES = {np.dtype(code).name: name for name, code in _DATATYPES.items()}
# Names that clients of the protocol send: of KServe the name of the model, of Triton those of its
# extensions for sequences and scheduling, which a server without these does not use, and of
# MLServer the encoding of tensors.
_FIELDS = ("id", "inputs", "outputs", "parameters", "model_name", "model_version")
_OTHERS = ("content_type", "headers")
_PARAMETERS = ("truncation", "binary_data_output", "sequence_id", "sequence_start", "sequence_end")
_PARAMETERS += ("priority", "timeout", *_OTHERS)
_INPUT_PARAMETERS = ("binary_data_size", *_OTHERS)
_OUTPUT_PARAMETERS = ("binary_data", *_OTHERS)
_RESERVED = "triton_"  # begins names that Triton's own clients may send
_FLOATS = ("FP32", "FP64")
_INTEGERS = ("INT64", "INT32", "UINT64", "UINT32")
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
    about: dict[str, Any] = {
        "name": name,
        "versions": [str(x) for x in sorted(app.repository.models[name])],
        "platform": PLATFORM,
        "inputs": [_describe(port) for port in bundle.inputs.ports],
        "outputs": [_describe(port) for port in bundle.outputs],
    }
    if drawn := bundle.inputs.drawn:
        # An extension of this server: seeds instead of the random inputs.
        about["parameters"] = {"seeds": f"INT64 [-1], in the place of {', '.join(drawn)}"}
    return json_response(about)


def _datatype(port: Port) -> str:
    return _NAMES[port.dtype]


def _dims(port: Port) -> list[int]:
    """Returns the sizes without the batch, -1 for any size; Triton has no empty list."""
    sizes = [-1 if n is None else n for n in port.sizes]
    return sizes or ([1] if isinstance(port, Input) else [])


def _describe(port: Port) -> dict[str, Any]:
    return {"name": port.name, "datatype": _datatype(port), "shape": [-1, *_dims(port)]}


def _configure(port: Port) -> dict[str, Any]:
    return {"name": port.name, "data_type": f"TYPE_{_datatype(port)}", "dims": _dims(port)}


def model_config(app: Any, request: Request, name: str, version: int | None = None) -> Response:
    """Handles `/v2/models/NAME/config`, with the fields that apply to this server."""
    served = request.served = app.find(name, version)
    bundle = served.bundle
    about = {
        "name": name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": app.settings.max_count,
        "input": [_configure(port) for port in bundle.inputs.ports],
        "output": [_configure(port) for port in bundle.outputs],
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
        _check_known("A field of a request", content, _FIELDS)
        parameters = _parameters(content)
        _check_known("A parameter of a request", parameters, _PARAMETERS)
        tensors = _read_tensors(content.get("inputs"), binary, _datatypes(served.bundle.inputs))
        # The outputs of the response: number and port of each, and True for bytes.
        self.outputs = self._read_outputs(content.get("outputs"), parameters)
        truncation = 1.0
        if "truncation" in parameters:
            truncation = check_number("truncation", parameters["truncation"], 0, 100)
        self.inputs = TensorInputs(served, tensors, truncation, settings)

    def _read_outputs(
        self, outputs: Any, parameters: dict[str, Any]
    ) -> list[tuple[int, Port, bool]]:
        """Returns the requested outputs, by default all of them."""
        all_outputs = self.served.bundle.outputs
        binary = _flag(parameters, "binary_data_output")
        if outputs is None or outputs == []:
            return [(number, port, bool(binary)) for number, port in enumerate(all_outputs)]
        ports = {port.name: (number, port) for number, port in enumerate(all_outputs)}
        rule = f"`outputs` must be among {', '.join(ports)}, each at most once"
        is_list = type(outputs) is list and all(type(x) is dict for x in outputs)
        names = [x.get("name") for x in outputs] if is_list else []
        fits = is_list and all(type(x) is str and x in ports for x in names)
        if not fits or len(set(names)) != len(names):
            raise UsageError(f"{rule}. Received: outputs={short_repr(outputs)}")
        found = []
        for output in outputs:
            own = _parameters(output)
            if "classification" in own:
                raise UsageError(
                    f"{rule}, without classification. Received: outputs={short_repr(outputs)}"
                )
            _check_known("A parameter of an output", own, _OUTPUT_PARAMETERS)
            wanted = _flag(own, "binary_data")
            found.append((*ports[output["name"]], bool(binary) if wanted is None else wanted))
        return found

    def respond(self, outputs: list[np.ndarray]) -> Response:
        """Returns the response; runs in a worker or in another thread."""
        served = self.served
        about: dict[str, Any] = {
            "model_name": served.bundle.name,
            "model_version": str(served.version),
        }
        if self.id is not None:
            about["id"] = self.id
        about["outputs"] = described = []
        pieces: list[bytes] = []  # those of binary outputs
        counts = count_not_finite({port.name: outputs[number] for number, port, _ in self.outputs})
        if counts:
            in_json = {port.name: outputs[number] for number, port, x in self.outputs if not x}
            hint = "binary_data has NaN and infinity"
            check_samples(in_json, "JSON", hint, self.inputs.describe)
        for number, port, is_binary in self.outputs:
            array = outputs[number]
            output: dict[str, Any] = {
                "name": port.name,
                "datatype": _datatype(port),
                "shape": list(array.shape),
            }
            described.append(output)
            if is_binary:
                pieces.append(array.tobytes())
                output["parameters"] = {"binary_data_size": len(pieces[-1])}
            else:
                output["data"] = json_ready(array).reshape(-1)
        if not pieces:
            return json_response(about, 200, served.headers)
        start = orjson.dumps(about, option=orjson.OPT_SERIALIZE_NUMPY)
        headers = b"%binference-header-content-length: %d\r\n" % (served.headers, len(start))
        headers += not_finite_header(counts)
        return Response(200, b"".join([start, *pieces]), BYTES, headers)


def infer(app: Any, request: Request, name: str, version: int | None = None) -> Any:
    """Handles `/v2/models/NAME/infer`."""
    served = request.served = app.find(name, version)
    length = request.headers.get(b"inference-header-content-length")
    if length is None:
        content, binary = request.json(), b""
    else:
        if not length.isdigit() or len(length) > 18 or int(length) > len(request.body):
            raise UsageError(
                "Inference-Header-Content-Length must be the length of the JSON in the body. "
                f"Received: {short_repr(length.decode('latin-1'))}",
            )
        binary = request.body[int(length) :]
        content = parse_json(request.body[: int(length)], "The start of the body")
    inference = Inference(served, content, binary, app.settings)
    inputs = inference.inputs

    def encode(job: SampleJob, outputs: list[np.ndarray]) -> Response:
        return inference.respond(outputs)

    if inputs.count <= served.engine.max_batch:
        return inputs.job(0, inputs.count, encode, request.start + app.settings.timeout)
    return gather(app, inputs, request.start + app.settings.timeout, inference.respond)


@functools.lru_cache(64)
def _datatypes(inputs: Inputs) -> dict[str, tuple[str, ...]]:
    """Returns the datatypes that the tensor of each input, and of the seeds, may have."""
    return {port.name: _allowed(port) for port in inputs.ports} | {"seeds": _INTEGERS}


def _allowed(port: Port) -> tuple[str, ...]:
    """Returns the datatypes that a tensor for a port may have: its own, and those that fit it."""
    own = _datatype(port)
    others = {"f": _FLOATS, "b": ()}.get(np.dtype(port.dtype).kind, _INTEGERS)
    return others if own in others else (own, *others)


def _read_tensors(
    inputs: Any, binary: bytes, allowed: dict[str, tuple[str, ...]]
) -> dict[str, np.ndarray]:
    """Returns the input tensors by name, from JSON or from the bytes behind it.

    Args:
        inputs: the list of the request.
        binary: the bytes behind its JSON.
        allowed: the datatypes of each input.
    """
    if type(inputs) is not list or not 0 < len(inputs) <= len(allowed):
        raise UsageError(
            f"`inputs` must be a list of 1 to {len(allowed)} tensors. "
            f"Received: inputs={short_repr(inputs)}"
        )
    found: dict[str, np.ndarray] = {}
    start = 0
    for tensor in inputs:
        if type(tensor) is not dict or type(tensor.get("name")) is not str:
            raise UsageError(f"An input must have a name. Received: {short_repr(tensor)}")
        name = tensor["name"]
        if name == "labels" and name not in allowed:
            raise UsageError("This model takes no labels. Received: the tensor 'labels'")
        if name not in allowed or name in found:
            raise UsageError(
                f"The inputs must be {', '.join(allowed)}, each at most once. "
                f"Received: {short_repr(name)}"
            )
        dtype, shape = _read_type(name, tensor, allowed[name])
        own = _parameters(tensor)
        _check_known("A parameter of an input", own, _INPUT_PARAMETERS)
        size = own.get("binary_data_size")
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


def _read_type(
    name: str, tensor: dict[str, Any], allowed: tuple[str, ...]
) -> tuple[np.dtype, list[int]]:
    datatype: Any = tensor.get("datatype")
    if datatype not in allowed:
        raise UsageError(
            f"`datatype` of {name} must be one of {', '.join(allowed)}. "
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
        flat, _ = flatten(data, dtype.kind)
    except ValueError as error:
        raise UsageError(
            f"`data` of {name} must be numbers in rows of equal length. Received: {error}"
        ) from error
    except TypeError as error:
        raise UsageError(f"{rule}. Received: a {error}") from error
    if len(flat) != count:
        raise UsageError(f"{rule}. Received: {len(flat)}")
    if dtype.kind == "b":
        return np.array(flat, dtype).reshape(shape)
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


def _check_known(what: str, given: dict[str, Any], known: tuple[str, ...]) -> None:
    """Refuses unknown names, which would have no effect, with the nearest valid one."""
    for name in given:
        if name in known or name.startswith(_RESERVED):
            continue
        if name.startswith("shared_memory_"):
            raise UsageError(
                f"Tensors must be sent without shared memory. Received: {short_repr(name)}"
            )
        hint = nearest(name, known)
        raise UsageError(f"{what} must be a known one. Received: {short_repr(name)}. {hint}")


def _flag(parameters: dict[str, Any], name: str) -> bool | None:
    value = parameters.get(name)
    return None if value is None else check_boolean(name, value)


_MODELS = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
ROUTES = (
    ("v2", "GET", "/v2", server),
    ("v2", "GET", "/v2/health/live", live, True),
    ("v2", "GET", "/v2/health/ready", ready, True),
    ("v2", "POST", "/v2/repository/index", index),
    *(("v2", "GET", path, model) for path in _MODELS),
    *(("v2", "GET", path + "/ready", model_ready) for path in _MODELS),
    *(("v2", "GET", path + "/config", model_config) for path in _MODELS),
    *(("infer", "POST", path + "/infer", infer) for path in _MODELS),
)
