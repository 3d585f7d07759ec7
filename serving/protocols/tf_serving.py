"""TensorFlow Serving's REST API: status, metadata, and predict by rows and by columns.

The signatures are those of a bundle's SavedModel, so clients of TensorFlow Serving need no change.

Reference:
    https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import binascii
from itertools import islice
from typing import Any

import numpy as np
import orjson

from serving.checks import flatten, integer_array
from serving.engine import SampleJob
from serving.errors import UsageError, short_repr
from serving.http_types import Request, Response, json_response
from serving.provenance import provenance
from serving.tensors import TensorInputs, gather

_DTYPES = {"latents": "DT_FLOAT", "seeds": "DT_INT64", "labels": "DT_INT64"}


def signatures(served: Any) -> dict[str, tuple[list[str], str]]:
    """Returns the inputs and the output of each signature of a model."""
    labels = ["labels"] if served.bundle.num_classes else []
    found = {
        "serving_default": (["latents", *labels], "samples"),
        "generate": (["seeds", *labels], "samples"),
    }
    if "png" in served.formats:
        found["generate_png"] = (["seeds", *labels], "png_bytes")
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
    bundle = served.bundle
    shapes = {"latents": [-1, bundle.latent_dim], "samples": [-1, *bundle.shape]}
    types = _DTYPES | {"samples": "DT_FLOAT", "png_bytes": "DT_STRING"}

    def tensor(signature: str, port: str) -> dict[str, Any]:
        sizes = [{"size": str(size), "name": ""} for size in shapes.get(port, [-1])]
        return {
            "dtype": types[port],
            "tensor_shape": {"dim": sizes, "unknown_rank": False},
            "name": f"{signature}_{port}:0",
        }

    found = {
        signature: {
            "inputs": {port: tensor(signature, port) for port in inputs},
            "outputs": {output: tensor(signature, output)},
            "method_name": "tensorflow/serving/predict",
            "defaults": {},
        }
        for signature, (inputs, output) in signatures(served).items()
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
        unknown = content.keys() - {"signature_name", "instances", "inputs"}
        if unknown or ("instances" in content) == ("inputs" in content):
            raise UsageError(
                "The body must have instances or inputs, and may have signature_name. "
                f"Received: {_keys(content) or 'neither'}",
            )
        valid = signatures(served)
        name = content.get("signature_name", "serving_default")
        if type(name) is not str or name not in valid:
            raise UsageError(
                f"`signature_name` must be one of {', '.join(valid)}. "
                f"Received: signature_name={short_repr(name)}",
            )
        self.ports, self.output = valid[name]
        self.rows = "instances" in content
        found = self._by_rows(content["instances"]) if self.rows else None
        found = self._by_columns(content["inputs"]) if found is None else found
        tensors = {port: _tensor(port, value) for port, value in found.items()}
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
            return {self.ports[0]: instances}
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
        return {self.ports[0]: inputs}

    def _match(self, given: Any) -> None:
        if type(given) is not dict or given.keys() != set(self.ports):
            keys = _keys(given) if type(given) is dict else short_repr(given)
            raise UsageError(
                f"The inputs must be {', '.join(self.ports)}. Received: {keys or 'none'}"
            )

    def respond(self, samples: np.ndarray) -> Response:
        """Returns the response; runs in a worker or in another thread."""
        content: Any = np.ascontiguousarray(samples)
        if self.output == "png_bytes":
            content = [{"b64": png} for png in self._pngs(samples)]
        key = "predictions" if self.rows else "outputs"
        return Response(
            200,
            orjson.dumps({key: content}, option=orjson.OPT_SERIALIZE_NUMPY),
            headers=self.served.headers,
        )

    def _pngs(self, samples: np.ndarray) -> list[str]:
        from serving.pictures import to_png, to_uint8

        bundle, inputs = self.served.bundle, self.inputs
        seeds: Any = inputs.seeds
        found = []
        for row, picture in enumerate(to_uint8(samples, bundle.value_range)):
            facts: dict[str, Any] = {"seed": int(seeds[row])}
            if inputs.labels is not None:
                facts["label"] = int(inputs.labels[row])
            png = to_png(picture, provenance(bundle.name, bundle.sha256, **facts))
            found.append(base64.b64encode(png).decode("ascii"))
        return found


def predict(app: Any, request: Request, name: str, version: int | None = None) -> Any:
    """Handles `/v1/models/NAME[/versions/N]:predict`."""
    served = request.served = app.find(name, version)
    prediction = Prediction(served, request.json(), app.settings)
    inputs = prediction.inputs

    def encode(job: SampleJob, samples: np.ndarray) -> Response:
        return prediction.respond(samples)

    deadline = request.start + app.settings.timeout
    if inputs.count <= served.engine.max_batch:
        job = inputs.job(0, inputs.count, encode, deadline)
        job.is_light &= prediction.output == "samples"
        return job
    return gather(app, inputs, deadline, prediction.respond)


def _keys(given: dict[str, Any]) -> str:
    return ", ".join(short_repr(key) for key in islice(given, 4))[:200]


def _tensor(port: str, value: Any) -> np.ndarray:
    """Converts nested lists, or `{"b64"}` with the little-endian bytes of a tensor, to an array."""
    if type(value) is dict and value.keys() == {"b64"}:
        return _from_bytes(port, value["b64"])
    if type(value) is list and value and type(value[0]) is dict:
        rows = [_from_bytes(port, x.get("b64") if type(x) is dict else None) for x in value]
        if len({row.shape for row in rows}) > 1:
            sizes = sorted({row.size for row in rows})
            raise UsageError(f"Rows of {port} must be of one length. Received: lengths={sizes[:8]}")
        return np.stack(rows) if port == "latents" else np.concatenate(rows)
    kind = "numbers" if port == "latents" else "integers"
    rule = f"`{port}` must be {kind}, one row for each sample"
    try:
        flat, shape = flatten(value, port == "latents")
        if not flat:
            raise TypeError
        if port == "latents":
            return np.atleast_1d(np.array(flat, np.float64).reshape(shape))
        return np.atleast_1d(integer_array(flat, shape))
    except (TypeError, OverflowError) as error:
        raise UsageError(f"{rule}. Received: {port}={short_repr(value)}") from error
    except ValueError as error:
        raise UsageError(
            f"`{port}` must be numbers in rows of equal length. Received: {error}"
        ) from error


def _from_bytes(port: str, text: Any) -> np.ndarray:
    dtype = "<f4" if port == "latents" else "<i8"
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), dtype)
    except (binascii.Error, ValueError, TypeError) as error:
        raise UsageError(
            f"b64 of {port} must be base64 of its {dtype} bytes. Received: b64={short_repr(text)}"
        ) from error


_MODELS = ("/v1/models/{name}", "/v1/models/{name}/versions/{version}")
ROUTES = (
    *(("tf_serving", "GET", path, status) for path in _MODELS),
    *(("tf_serving", "GET", path + "/metadata", metadata) for path in _MODELS),
    *(("predict", "POST", path + ":predict", predict) for path in _MODELS),
)
