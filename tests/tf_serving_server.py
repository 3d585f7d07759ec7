"""Server with the REST and gRPC interfaces of TensorFlow Serving for a SavedModel.

A program of its own, in which Keras cannot be imported:

    tf_serving_server.py MODELS.CONFIG

It prints the ports of gRPC and REST when it is ready, and ends when its stdin does.
"""

import base64
import concurrent.futures
import http.server
import json
import os
import re
import sys
import threading
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec


class NoKeras(MetaPathFinder, Loader):
    def find_spec(self, fullname, path=None, target=None):
        blocked = fullname.partition(".")[0] in ("keras", "tf_keras", "keras_gan", "export")
        return ModuleSpec(fullname, self) if blocked else None

    def create_module(self, spec):
        raise ModuleNotFoundError(f"No module named {spec.name!r}", name=spec.name)


sys.meta_path.insert(0, NoKeras())

import grpc  # noqa: E402
import protos  # noqa: E402
import tensorflow as tf  # noqa: E402
from google.protobuf import text_format  # noqa: E402

_MODEL = r"/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>\d+))?"


class Refused(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Server:
    """The models of a models.config, each in its highest version."""

    def __init__(self, config):
        with open(config) as file:
            parsed = text_format.Parse(file.read(), protos.message("ModelServerConfig")())
        self.models = {}
        for model in parsed.model_config_list.config:
            versions = [int(name) for name in os.listdir(model.base_path) if name.isdecimal()]
            path = os.path.join(model.base_path, str(max(versions)))
            self.models[model.name] = (max(versions), tf.saved_model.load(path, tags=["serve"]))

    def model(self, name, version=None):
        if name not in self.models or version not in (None, "", self.models[name][0]):
            raise Refused(404, f"Servable not found for request: {name}")
        return self.models[name]

    def run(self, name, version, signature, inputs):
        _, loaded = self.model(name, version)
        function = loaded.signatures.get(signature or "serving_default")
        if function is None:
            raise Refused(400, f'Serving signature name: "{signature}" not found')
        specs = function.structured_input_signature[1]
        if specs.keys() != inputs.keys():
            raise Refused(400, f"input size does not match signature: {sorted(specs)}")
        try:
            feeds = {key: tf.constant(inputs[key], spec.dtype) for key, spec in specs.items()}
            return {key: value.numpy() for key, value in function(**feeds).items()}
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise Refused(400, str(error)[:200]) from error

    def inputs_of(self, name, signature):
        function = self.model(name)[1].signatures.get(signature or "serving_default")
        return function.structured_input_signature[1] if function else {}


def from_rows(rows, names):
    """Converts the rows of a request to columns: dicts, or the values of the only input."""
    if not isinstance(rows, list) or not rows:
        raise Refused(400, 'JSON Value: "instances" must be a list')
    if all(isinstance(row, dict) and "b64" not in row for row in rows):
        if any(row.keys() != rows[0].keys() for row in rows):
            raise Refused(400, "instances must have the same inputs")
        return {key: [row[key] for row in rows] for key in rows[0]}
    if len(names) != 1:
        raise Refused(400, "instances is a plain list, but expecting list of objects")
    return {next(iter(names)): rows}


def to_json(name, value):
    """Encodes outputs whose name ends in _bytes in base64, as TF Serving does."""
    if isinstance(value, bytes):
        plain = {"b64": base64.b64encode(value).decode()}
        return plain if name.endswith("_bytes") else value.decode("utf-8", "replace")
    return (
        [to_json(name, item) for item in value]
        if hasattr(value, "shape") and value.shape
        else (value.item() if hasattr(value, "item") else value)
    )


def answer(server, name, version, request):
    if ("instances" in request) == ("inputs" in request):
        raise Refused(400, 'Missing or both of "inputs" and "instances"')
    signature = request.get("signature_name", "")
    names = server.inputs_of(name, signature)
    if "instances" in request:
        outputs = server.run(name, version, signature, from_rows(request["instances"], names))
        columns = {key: to_json(key, value) for key, value in outputs.items()}
        if len(columns) == 1:
            return {"predictions": next(iter(columns.values()))}
        rows = zip(*columns.values(), strict=True)
        return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}
    inputs = request["inputs"]
    inputs = inputs if isinstance(inputs, dict) else {next(iter(names)): inputs}
    outputs = server.run(name, version, signature, inputs)
    columns = {key: to_json(key, value) for key, value in outputs.items()}
    return {"outputs": next(iter(columns.values())) if len(columns) == 1 else columns}


def handler_for(server):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def reply(self, status, content):
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def serve(self, pattern, act):
            match = re.fullmatch(pattern, self.path)
            try:
                if not match:
                    raise Refused(400, f"Malformed request: {self.command} {self.path}")
                version = int(match["version"]) if match["version"] else None
                self.reply(200, act(match, version))
            except Refused as error:
                self.reply(error.status, {"error": str(error)})
            except ValueError as error:
                self.reply(400, {"error": f"JSON Parse error: {error}"})

        def do_GET(self):
            def status(match, version):
                number, loaded = server.model(match["name"], version)
                if match["metadata"]:
                    signatures = {
                        key: {
                            "inputs": describe(f.structured_input_signature[1]),
                            "outputs": describe(f.structured_outputs),
                            "method_name": "tensorflow/serving/predict",
                        }
                        for key, f in loaded.signatures.items()
                    }
                    return {
                        "model_spec": {"name": match["name"], "version": str(number)},
                        "metadata": {"signature_def": {"signature_def": signatures}},
                    }
                ok = {"error_code": "OK", "error_message": ""}
                found = {"version": str(number), "state": "AVAILABLE", "status": ok}
                return {"model_version_status": [found]}

            self.serve(_MODEL + "(?P<metadata>/metadata)?", status)

        def do_POST(self):
            content = self.rfile.read(int(self.headers["Content-Length"]))

            def predict(match, version):
                return answer(server, match["name"], version, json.loads(content))

            self.serve(_MODEL + ":predict", predict)

    return Handler


def describe(specs):
    """Describes tensors as the metadata of TF Serving: sizes as text, -1 if free."""
    return {
        key: {
            "dtype": f"DT_{spec.dtype.name.upper()}",
            "tensor_shape": {
                "dim": [{"size": str(size or -1), "name": ""} for size in spec.shape],
                "unknown_rank": False,
            },
            "name": f"{key}:0",
        }
        for key, spec in specs.items()
    }


def grpc_server(server):
    def predict(content, context):
        request = protos.message("PredictRequest").FromString(content)
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        try:
            outputs = server.run(spec.name, version, spec.signature_name, inputs)
        except Refused as error:
            missing = error.status == 404
            code = grpc.StatusCode.NOT_FOUND if missing else grpc.StatusCode.INVALID_ARGUMENT
            context.abort(code, str(error))
        response = protos.message("PredictResponse")()
        response.model_spec.CopyFrom(spec)
        for key, value in outputs.items():
            response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return response.SerializeToString()

    made = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    methods = {"Predict": grpc.unary_unary_rpc_method_handler(predict)}
    service = "tensorflow.serving.PredictionService"
    made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    return made


def main():
    server = Server(sys.argv[1])
    rpc = grpc_server(server)
    port = rpc.add_insecure_port("127.0.0.1:0")
    rpc.start()
    rest = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler_for(server))
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    print(f"ready {port} {rest.server_port}", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
