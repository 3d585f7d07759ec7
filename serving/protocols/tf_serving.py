"""TensorFlow Serving's REST API: status, metadata, and predict by rows and by columns.

The signatures are those of a bundle's SavedModel, so clients of TensorFlow Serving need no change.

Reference:
    https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import orjson

from serving.checks import check_samples, count_not_finite, flatten, integer_array
from serving.engine import SampleJob
from serving.errors import UsageError, short_repr
from serving.generate.rendering import dumps_with_nan, json_ready, not_finite_header
from serving.http_types import Request, Response, json_response
from serving.inputs import Input, Port
from serving.provenance import provenance
from serving.tensors import TensorInputs, gather

_DTYPES = {"float16": "DT_HALF", "float32": "DT_FLOAT", "float64": "DT_DOUBLE"}
_SEEDS = Input("seeds", "int64", (), fill="given")
_FILES = ("png", "wav")  # formats that TensorFlow, and so a SavedModel, encodes


class Signature:
    """A signature of a model.

    Args:
        inputs: its inputs.
        outputs: its outputs.
        form: format of the files that it returns in place of the outputs.
    """

    def __init__(self, inputs: Sequence[Input], outputs: Sequence[Port], form: str = ""):
        self.inputs = {port.name: port for port in inputs}
        self.outputs = tuple(outputs)
        self.form = form


def signatures(served: Any) -> dict[str, Signature]:
    """Returns the signatures of a model by name, as its SavedModel has them."""
    bundle = served.bundle
    ports = bundle.inputs.ports
    asked = [port for port in ports if port.fill in ("class", "given")]
    if bundle.inputs.drawn:
        asked = [_SEEDS, *asked]
    found = {
        "serving_default": Signature(ports, bundle.outputs),
        "generate": Signature(asked, bundle.outputs),
    }
    for form in _FILES:
        if form in served.files:
            file = Port(f"{form}_bytes", "string", ())
            found[f"generate_{form}"] = Signature(asked, [file], form)
    return found


def status(app: Any, request: Request, name: str, version: int | None = None) -> Response:
    """Handles `/v1/models/NAME[/versions/N]`."""
    request.served = app.find(name, version)
    versions = [version] if version is not None else sorted(app.repository.models[name])[::-1]
    found = [
        {
            "version": str(number),
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        for number in versions
    ]
    return json_response({"model_version_status": found})


def metadata(app: Any, request: Request, name: str, version: int | None = None) -> Response:
    """Handles `/v1/models/NAME[/versions/N]/metadata`."""
    served = request.served = app.find(name, version)

    def tensor(signature: str, port: Port) -> dict[str, Any]:
        shape = [-1, *(-1 if size is None else size for size in port.sizes)]
        return {
            "dtype": _DTYPES.get(port.dtype, f"DT_{port.dtype.upper()}"),
            "tensor_shape": {
                "dim": [{"size": str(size), "name": ""} for size in shape],
                "unknown_rank": False,
            },
            "name": f"{signature}_{port.name}:0",
        }

    found = {
        name: {
            "inputs": {port.name: tensor(name, port) for port in signature.inputs.values()},
            "outputs": {port.name: tensor(name, port) for port in signature.outputs},
            "method_name": "tensorflow/serving/predict",
            "defaults": {},
        }
        for name, signature in signatures(served).items()
    }
    about = {
        "model_spec": {"name": name, "signature_name": "", "version": str(served.version)},
        "metadata": {"signature_def": {"signature_def": found}},
    }
    return json_response(about)


class Prediction:
    """A checked predict request.

    Args:
        served: version of the model.
        content: the decoded body.
        settings: settings of the server.

    Raises:
        UsageError: the body does not follow the API or does not match the signature.
    """

    def __init__(self, served: Any, content: Any, settings: Any):
        self.served = served
        if type(content) is not dict:
            raise UsageError(f"The body must be an object. Received: {short_repr(content)}")
        # TensorFlow Serving reads the keys that it knows; clients of Vertex AI send `parameters`.
        unknown = content.keys() - {"signature_name", "instances", "inputs"}
        if content.get("parameters") == {}:
            unknown -= {"parameters"}
        if unknown or ("instances" in content) == ("inputs" in content):
            raise UsageError(
                "The body must have instances or inputs, and may have signature_name. "
                f"Received: {_keys(content) or 'neither'}",
            )
        valid = signatures(served)
        name = content.get("signature_name", "")
        if name == "":  # as TensorFlow Serving names its default
            name = "serving_default"
        if type(name) is not str or name not in valid:
            raise UsageError(
                f"`signature_name` must be one of {', '.join(valid)}. "
                f"Received: signature_name={short_repr(name)}",
            )
        self.signature = valid[name]
        self.ports = self.signature.inputs
        self.rows = "instances" in content
        found = self._by_rows(content["instances"]) if self.rows else None
        found = self._by_columns(content["inputs"]) if found is None else found
        tensors = {name: _tensor(self.ports[name], value) for name, value in found.items()}
        self.inputs = TensorInputs(served, tensors, 1.0, settings)

    def _by_rows(self, instances: Any) -> dict[str, Any]:
        if type(instances) is not list or not instances:
            raise UsageError(
                "`instances` must be a list of one or more. "
                f"Received: instances={short_repr(instances)}"
            )
        named = type(instances[0]) is dict and "b64" not in instances[0]
        for instance in instances:
            if named:
                self._match(instance)
            elif len(self.ports) > 1:
                raise UsageError(
                    f"An instance must be an object of {', '.join(self.ports)}. "
                    f"Received: {short_repr(instance)}",
                )
        if not named:
            return {next(iter(self.ports)): instances}
        return {port: [instance[port] for instance in instances] for port in self.ports}

    def _by_columns(self, inputs: Any) -> dict[str, Any]:
        if type(inputs) is dict and "b64" not in inputs:
            self._match(inputs)
            return inputs
        if len(self.ports) > 1:
            raise UsageError(
                f"`inputs` must be an object of {', '.join(self.ports)}. "
                f"Received: inputs={short_repr(inputs)}",
            )
        return {next(iter(self.ports)): inputs}

    def _match(self, given: Any) -> None:
        if type(given) is not dict or given.keys() != set(self.ports):
            keys = _keys(given) if type(given) is dict else short_repr(given)
            raise UsageError(
                f"The inputs must be {', '.join(self.ports)}. Received: {keys or 'none'}"
            )

    def respond(self, outputs: list[np.ndarray]) -> Response:
        """Returns the response; runs in a worker or in another thread."""
        signature = self.signature
        named = {port.name: x for port, x in zip(self.served.bundle.outputs, outputs, strict=True)}
        headers, dump = self.served.headers, _dump
        if signature.form:
            first = dict(list(named.items())[:1])
            hint = "other signatures have NaN and infinity"
            check_samples(first, signature.form, hint, self.inputs.describe)
            values: list[Any] = [[{"b64": file} for file in self._files(outputs[0])]]
        else:
            values = [json_ready(output) for output in outputs]
            if counts := count_not_finite(named):
                # TensorFlow Serving writes NaN, Infinity and -Infinity.
                headers, dump = headers + not_finite_header(counts), dumps_with_nan
        key, names = "predictions" if self.rows else "outputs", [x.name for x in signature.outputs]
        content: Any = values[0]
        if len(names) > 1 and self.rows:
            content = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
        elif len(names) > 1:
            content = dict(zip(names, values, strict=True))
        return Response(200, dump({key: content}), headers=headers)

    def _files(self, samples: np.ndarray) -> list[str]:
        served, inputs = self.served, self.inputs
        bundle, encode = served.bundle, served.files[self.signature.form].encode
        found = []
        for row, sample in enumerate(samples):
            facts: dict[str, Any] = {}
            if inputs.seeds is not None:
                facts["seed"] = int(inputs.seeds[row])
            if inputs.labels is not None:
                facts["label"] = int(inputs.labels[row])
            file = encode(sample, bundle.meta, provenance(bundle.name, bundle.sha256, **facts))
            found.append(base64.b64encode(file).decode("ascii"))
        return found


def predict(app: Any, request: Request, name: str, version: int | None = None) -> Any:
    """Handles `/v1/models/NAME[/versions/N]:predict`."""
    served = request.served = app.find(name, version)
    prediction = Prediction(served, request.json(), app.settings)
    inputs = prediction.inputs

    def encode(job: SampleJob, outputs: list[np.ndarray]) -> Response:
        return prediction.respond(outputs)

    deadline = request.start + app.settings.timeout
    if inputs.count <= served.engine.max_batch:
        job = inputs.job(0, inputs.count, encode, deadline)
        job.is_light &= not prediction.signature.form
        return job
    return gather(app, inputs, deadline, prediction.respond)


def _dump(content: Any) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _keys(given: dict[str, Any]) -> str:
    return ", ".join(short_repr(key) for key in islice(given, 4))[:200]


def _tensor(port: Input, value: Any) -> np.ndarray:
    """Converts nested lists, or `{"b64"}` with the little-endian bytes of a tensor, to an array."""
    if type(value) is dict and value.keys() == {"b64"}:
        return _reshape(port, _from_bytes(port, value["b64"]))
    if type(value) is list and value and type(value[0]) is dict:
        rows = [_from_bytes(port, x.get("b64") if type(x) is dict else None) for x in value]
        if len({row.shape for row in rows}) > 1:
            sizes = sorted({row.size for row in rows})
            raise UsageError(
                f"Rows of {port.name} must be of one length. Received: lengths={sizes[:8]}"
            )
        return _reshape(port, np.stack(rows)) if port.shape else np.concatenate(rows)
    kind = np.dtype(port.dtype).kind
    words = {"f": "numbers", "b": "true or false"}.get(kind, "integers")
    try:
        flat, shape = flatten(value, kind)
        if not flat:
            raise TypeError
        if kind == "f":
            return np.atleast_1d(np.array(flat, np.float64).reshape(shape))
        if kind == "b":
            return np.atleast_1d(np.array(flat, np.bool_).reshape(shape))
        return np.atleast_1d(integer_array(flat, shape))
    except (TypeError, OverflowError) as error:
        raise UsageError(
            f"`{port.name}` must be {words}, one row for each sample. "
            f"Received: {port.name}={short_repr(value)}"
        ) from error
    except ValueError as error:
        raise UsageError(
            f"`{port.name}` must be numbers in rows of equal length. Received: {error}"
        ) from error


def _reshape(port: Input, array: np.ndarray) -> np.ndarray:
    """Returns bytes of one or more samples in the shape of the input, if its sizes allow."""
    size = math.prod(n or 0 for n in port.sizes)
    if not size or array.size % size or (array.ndim > 1 and array[0].size != size):
        return array  # whose shape is refused later
    return array.reshape(-1, *(n or 0 for n in port.sizes))


def _from_bytes(port: Input, text: Any) -> np.ndarray:
    dtype = np.dtype(port.dtype).newbyteorder("<")
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), dtype)
    except (binascii.Error, ValueError, TypeError) as error:
        raise UsageError(
            f"b64 of {port.name} must be base64 of its {dtype.str} bytes. "
            f"Received: b64={short_repr(text)}"
        ) from error


_MODELS = ("/v1/models/{name}", "/v1/models/{name}/versions/{version}")
ROUTES = (
    *(("tf_serving", "GET", path, status) for path in _MODELS),
    *(("tf_serving", "GET", path + "/metadata", metadata) for path in _MODELS),
    *(("predict", "POST", path + ":predict", predict) for path in _MODELS),
)
