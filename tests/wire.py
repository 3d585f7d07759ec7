"""A small server on a thread, with the protocols of `serving.Client` and scripted failures.

Generates with a bundle. On request it does what real servers do rarely: refuse because of a full
queue, close a connection early, respond in chunks.
"""

import base64
import contextlib
import http.server
import io
import json
import threading
import urllib.parse

import numpy as np

from serving import interpolation, pictures
from serving.provenance import provenance
from serving.seeds import latents_from_seeds

TYPES = {"FP32": "<f4", "INT64": "<i8"}


class Wire:
    """A server of a bundle at `url`, until it is closed.

    Args:
        bundle: a `serving.Bundle`.
        speaks: `"keras_gan"` and `"v2"`, or one of them.
        prefix: path before all others.
        binary: support V2's binary extension.
        config: parameters of `config.pbtxt`, as Triton returns them; `None` for no such path.
        token: required bearer token.
        script: functions of the handler, which handle the next POST requests instead.
        chunked: send chunked responses.
    """

    def __init__(self, bundle, speaks=("keras_gan", "v2"), **options):
        self.bundle, self.speaks = bundle, speaks
        self.prefix = options.get("prefix", "")
        self.binary = options.get("binary", True)
        self.config = options.get("config")
        self.token = options.get("token")
        self.script = list(options.get("script", ()))
        self.chunked = options.get("chunked", False)
        self.names = options.get("names", [bundle.name])
        self.requests, self.connections = [], 0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler_for(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}{self.prefix}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def asked(self, part):
        """Returns the requests whose path contains a text."""
        return [request for request in self.requests if part in request[1]]


class Refused(Exception):
    def __init__(self, status, line):
        super().__init__(line)
        self.status = status


def refuse(status, line="The queue must have a place. Received: 256 samples", **headers):
    """Returns an entry of the script that responds with a JSON error."""

    def act(handler):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.reply(json.dumps({"error": line}).encode(), status=status, **named)

    return act


def hang_up(handler):
    """An entry of the script that closes the connection without a response."""
    handler.close_connection = True
    handler.connection.close()


def say(body, kind="application/octet-stream", status=200, **headers):
    """Returns an entry of the script that responds with these bytes."""
    return lambda handler: handler.reply(body, kind, status, **headers)


def handler_for(wire):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self):
            super().setup()
            wire.connections += 1

        def handle(self):
            with contextlib.suppress(ConnectionError, ValueError):  # the client has gone
                super().handle()

        def log_message(self, *_):
            pass

        def reply(self, body, kind="application/json", status=200, **headers):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            for name, value in headers.items():
                self.send_header(name, value)
            if wire.chunked:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for start in range(0, len(body), 1000):
                    part = body[start : start + 1000]
                    self.wfile.write(f"{len(part):x};x=1\r\n".encode() + part + b"\r\n")
                self.wfile.write(b"0\r\nTrailer: x\r\n\r\n")
            else:
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def do_GET(self):
            self.serve(b"")

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if wire.script:
                wire.requests.append((self.command, self.path, self.headers, body))
                wire.script.pop(0)(self)
                return
            self.serve(body)

        def serve(self, body):
            wire.requests.append((self.command, self.path, self.headers, body))
            try:
                if wire.token and self.headers["Authorization"] != f"Bearer {wire.token}":
                    raise Refused(401, "A request must bring a token. Received: none")
                path = urllib.parse.unquote(self.path)
                if not path.startswith(wire.prefix + "/"):
                    raise Refused(404, f"The path must exist. Received: {path!r}")
                path = path.removeprefix(wire.prefix)
                if "v2" in wire.speaks and (path + "/").startswith("/v2/"):
                    return v2(wire, self, path, body)
                if "keras_gan" in wire.speaks and path.startswith("/v1/"):
                    return keras_gan(wire, self, path, body)
                raise Refused(404, f"The path must exist. Received: {path!r}")
            except Refused as error:
                self.reply(json.dumps({"error": str(error)}).encode(), status=error.status)

    return Handler


def send_json(handler, content):
    handler.reply(json.dumps(content).encode())


# ------------------------------------------------------------------------- this library's own


def keras_gan(wire, handler, path, body):
    bundle = wire.bundle
    if path == "/v1/models":
        limits = bundle.value_range and list(bundle.value_range)
        classes = {"count": bundle.num_classes, "names": list(bundle.class_names)}
        entry = {"version": 1, "versions": [1], "kind": bundle.kind, "shape": list(bundle.shape)}
        entry |= {"value_range": limits, "latent_dim": bundle.latent_dim, "classes": classes}
        entry |= {"sha256": bundle.sha256, "role": bundle.role}
        entry |= {name: bundle.manifest[name] for name in ("inputs", "outputs")}
        return send_json(handler, {"models": [{"name": name, **entry} for name in wire.names]})
    if path != "/v1/generate":
        raise Refused(404, f"The path must exist. Received: {path!r}")
    asked = json.loads(body)
    name = asked.get("model", wire.names[0])
    if name not in wire.names:
        raise Refused(404, f"The request names an unknown model. Received: {name!r}")
    try:
        seeds, labels, latents = resolve(bundle, asked)
    except ValueError as error:
        raise Refused(400, str(error)) from error
    samples = run(bundle, latents, labels)
    if asked["format"] == "npy":
        buffer = io.BytesIO()
        np.save(buffer, samples)
        return handler.reply(buffer.getvalue(), "application/octet-stream")
    drawn = []
    for number, picture in enumerate(pictures.to_uint8(samples, bundle.value_range)):
        seed = None if seeds is None else int(seeds[number])
        texts = provenance(bundle.name, bundle.sha256, seed=seed)
        drawn.append(pictures.to_png(picture, texts if asked.get("metadata", True) else None))
    if len(drawn) == 1:
        return handler.reply(drawn[0], "image/png")
    found = [{"png": base64.b64encode(png).decode()} for png in drawn]
    return send_json(handler, {"model": bundle.name, "samples": found})


def resolve(bundle, asked):
    if "interpolate" in asked:
        seeds, of = None, np.repeat(asked["interpolate"][:1], asked["count"])
        stations = latents_from_seeds(asked["interpolate"], bundle.latent_dim)
        walk = {key: asked[key] for key in ("loop", "easing") if key in asked}
        latents = interpolation.interpolate(stations, asked["count"], **walk)
    else:
        seeds = of = np.array(asked["seeds"], np.int64)
        latents = latents_from_seeds(seeds, bundle.latent_dim)
        if "around" in asked:
            of = np.full(len(seeds), asked["around"])
            center = latents_from_seeds([asked["around"]], bundle.latent_dim)[0]
            latents = interpolation.around(center, latents, asked["radius"])
    labels = bundle.label_ids(of, asked.get("labels"))
    return seeds, labels, latents * np.float32(asked.get("truncation", 1.0))


def run(bundle, latents, labels):
    feeds = {"latents": np.ascontiguousarray(latents, np.float32)}
    feeds |= {} if labels is None else {"labels": labels.reshape(-1)}
    return bundle.run(feeds)["samples"]


# ------------------------------------------------------------- the Open Inference Protocol, V2


def v2(wire, handler, path, body):
    bundle = wire.bundle
    if path == "/v2":
        extensions = ["binary_tensor_data"] if wire.binary else []
        return send_json(handler, {"name": "triton", "version": "2.51", "extensions": extensions})
    if path == "/v2/repository/index":
        index = [{"name": name, "version": "1", "state": "READY"} for name in wire.names]
        return send_json(handler, index)
    _, _, _, name, *rest = path.split("/")
    if name not in wire.names:
        raise Refused(404, f"Request for unknown model: '{name}' is not found")
    rest = rest[2:] if rest[:1] == ["versions"] else rest
    if not rest:
        labels = [{"name": "labels", "datatype": "INT64", "shape": [-1, 1]}]
        latents = {"name": "latents", "datatype": "FP32", "shape": [-1, bundle.latent_dim]}
        samples = {"name": "samples", "datatype": "FP32", "shape": [-1, *bundle.shape]}
        return send_json(
            handler,
            {
                "name": name,
                "versions": ["1"],
                "platform": "onnxruntime_onnx",
                "inputs": [latents, *(labels if bundle.num_classes else [])],
                "outputs": [samples],
            },
        )
    if rest == ["config"] and wire.config is not None:
        return send_json(handler, {"name": name, "parameters": wire.config})
    if rest != ["infer"]:
        raise Refused(404, "Not Found")
    size = int(handler.headers.get("Inference-Header-Content-Length", len(body)))
    asked, start, feeds = json.loads(body[:size]), size, {}
    for port in asked["inputs"]:
        kind = TYPES[port["datatype"]]
        if "data" in port:
            feeds[port["name"]] = np.array(port["data"], kind).reshape(port["shape"])
        else:
            end = start + port["parameters"]["binary_data_size"]
            feeds[port["name"]] = np.frombuffer(body[start:end], kind).reshape(port["shape"])
            start = end
    rank = feeds["labels"].ndim if "labels" in feeds else 2
    if rank != 2 or feeds["latents"].shape[1:] != (bundle.latent_dim,):
        raise Refused(400, "[request id: <id_unknown>] unexpected shape for input")
    samples = run(bundle, feeds["latents"], feeds.get("labels"))
    port = {"name": "samples", "datatype": "FP32", "shape": list(samples.shape)}
    if not asked["outputs"][0].get("parameters", {}).get("binary_data"):
        port["data"] = samples.ravel().tolist()
        return send_json(handler, {"model_name": name, "outputs": [port]})
    blob = samples.astype("<f4").tobytes()
    port["parameters"] = {"binary_data_size": len(blob)}
    head = json.dumps({"model_name": name, "outputs": [port]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return handler.reply(head + blob, "application/octet-stream", 200, **headers)
