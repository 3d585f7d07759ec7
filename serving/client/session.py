"""Calls of both clients, independent of how requests are sent."""

from __future__ import annotations

import contextlib
import dataclasses
import urllib.parse
from typing import Any, NamedTuple

import numpy as np

from serving.client import protocol_keras_gan, protocol_tf_serving, protocol_v2
from serving.client.arguments import SampleRequest
from serving.client.endpoint import Endpoint
from serving.client.http_types import Exchange, Response, ServerError, get
from serving.client.model import RemoteModel, label_inputs
from serving.errors import UsageError

PROTOCOLS = ("keras_gan", "tf_serving", "v2")
_PROBES = {"keras_gan": protocol_keras_gan, "v2": protocol_v2}


class Server(NamedTuple):
    """Server behind a URL: protocol, path before its own, and the model that the URL names."""

    protocol: str
    path: str
    name: str | None


class Inference(NamedTuple):
    """Samples of one request, with their labels and the version of the model if known."""

    samples: np.ndarray
    labels: np.ndarray | None
    version: int | None


class Session:
    """Session with a server: its protocol, its models, and the calls to it.

    Args:
        endpoint: address of the server.
        protocol: one of `PROTOCOLS`, or `None` to detect it.
        manifest: of the bundle that the server serves, or `None`.
        batch_size: samples of one request.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        protocol: str | None,
        manifest: dict[str, Any] | None,
        batch_size: int,
    ):
        self.batch_size = batch_size
        self.server: Server | None = None
        self._endpoint = endpoint
        self._protocol = protocol
        self._manifest = manifest
        self._models: dict[tuple[str, int | None], RemoteModel] = {}
        self._only: str | None = None  # the name, on a server of one model

    # ------------------------------------------------------------------------ detection

    def connect(self, model: str | None) -> Exchange[Server]:
        """Detects the protocol, and whether the URL ends in a model's name."""
        if self.server is not None:
            return self.server
        path = self._endpoint.path
        parent, _, last = path.rpartition("/")
        candidates: list[tuple[str, str | None]] = [(path, None)]
        candidates += [(parent, urllib.parse.unquote(last))] if last else []
        response = None
        for prefix, name in candidates:
            for protocol, module in _PROBES.items():
                if self._protocol in (None, protocol):
                    response = yield get(prefix + module.PROBE, optional=True)
                    if module.is_spoken(_json_object(response)):
                        self.server = Server(protocol, prefix, name)
                        return self.server
            if (name or model) and self._protocol in (None, "tf_serving"):
                probe = protocol_tf_serving.probe_path(prefix, name or model or "")
                response = yield get(probe, optional=True)
                if protocol_tf_serving.is_spoken(_json_object(response)):
                    self.server = Server("tf_serving", prefix, name)
                    return self.server
        hint = "" if (last or model) else "; TensorFlow Serving needs the name of a model"
        reason = "" if response is None else f" ({response.error_line()})"
        raise ServerError(
            "The URL must be that of keras-gan serve, TensorFlow Serving or a server of the "
            f"Open Inference Protocol{hint}. Received: {self._endpoint.url!r}{reason}",
            0 if response is None else response.status,
        )

    def find(self, request: SampleRequest) -> Exchange[RemoteModel]:
        """Describes the model that a request is for; descriptions are kept."""
        server = yield from self.connect(request.model)
        name = request.model or server.name or self._only
        if name is None:
            found = yield from self.list_models()
            if len(found) != 1:
                names = ", ".join(model.name for model in found) or "none"
                raise UsageError(
                    f"Name one of the server's models, with model= or in the URL: {names}. "
                    f"Received: {self._endpoint.url!r}"
                )
            name = self._only = found[0].name
        if (known := self._models.get((name, request.version))) is None:
            known = yield from self._describe(server, name, request.version)
            self._models[name, request.version] = known
        return known

    def _describe(self, server: Server, name: str, version: int | None) -> Exchange[RemoteModel]:
        if server.protocol == "keras_gan":
            return (yield from protocol_keras_gan.describe(server.path, name))
        module = protocol_v2 if server.protocol == "v2" else protocol_tf_serving
        model = yield from module.describe(server.path, name, version)
        return model.with_manifest(self._manifest)

    def list_models(self) -> Exchange[list[RemoteModel]]:
        """Describes all models of the server."""
        server = yield from self.connect(None)
        if server.protocol == "keras_gan":
            return (yield from protocol_keras_gan.list_models(server.path))
        names = [server.name] if server.name else []
        if server.protocol == "v2" and not server.name:
            names = yield from protocol_v2.list_names(server.path)
        found = []
        for name in names:
            found.append((yield from self._describe(server, name, None)))
        return found

    def models(self) -> Exchange[list[dict[str, Any]]]:
        """Lists the models as `Client.models` returns them."""
        return [model.public() for model in (yield from self.list_models())]

    # -------------------------------------------------------------------------- samples

    def generate(self, request: SampleRequest) -> Exchange[np.ndarray]:
        """Returns the samples of a request, which is split into parts of `batch_size`."""
        server = yield from self.connect(request.model)
        parts: list[np.ndarray] = []
        version = request.version  # the version of the first part makes all the others
        for part in request.split(self.batch_size):
            part = dataclasses.replace(part, version=version)
            if server.protocol != "keras_gan":
                samples, _, version = yield from self._infer(part)
                parts.append(samples)
                continue
            name = part.model or server.name
            response = yield from protocol_keras_gan.generate(server.path, name, part, "npy")
            version = protocol_keras_gan.version_of(response) if version is None else version
            parts.append(protocol_keras_gan.read_npy(response.body))
            if len(parts[-1]) != part.batch or parts[-1].shape[1:] != parts[0].shape[1:]:
                raise ServerError(
                    f"A server must answer with {part.batch} samples of one shape. "
                    f"Received: an array of shape {parts[-1].shape}"
                )
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def pictures(self, request: SampleRequest, metadata: bool) -> Exchange[list[bytes]]:
        """Returns the samples of a request as PNG files."""
        server = yield from self.connect(request.model)
        files: list[bytes] = []
        version = request.version
        for part in request.split(self.batch_size):
            part = dataclasses.replace(part, version=version)
            if server.protocol == "keras_gan":
                name = part.model or server.name
                response = yield from protocol_keras_gan.generate(
                    server.path, name, part, "png", metadata
                )
                version = protocol_keras_gan.version_of(response) if version is None else version
                files += protocol_keras_gan.read_pngs(response)
                continue
            model = yield from self.find(part)
            if model.kind != "image":
                raise UsageError(
                    f"Samples of kind {model.kind!r} cannot be drawn: use generate(). "
                    f"Received: {model.name!r}"
                )
            if (
                server.protocol == "tf_serving"
                and part.is_plain
                and "generate_png" in model.signatures
            ):
                inputs = label_inputs(model, part) | {"seeds": part.seeds}
                found = yield from protocol_tf_serving.predict(
                    server.path, model.name, part.version, "generate_png", inputs
                )
                files += [protocol_keras_gan.from_base64(item.get("b64")) for item in found]
                continue
            samples, labels, version = yield from self._infer(part)
            files += _draw(model, part, samples, labels, metadata)
        return files

    def _infer(self, part: SampleRequest) -> Exchange[Inference]:
        """Asks another server than `keras-gan serve`, which takes tensors."""
        server = yield from self.connect(part.model)
        model = yield from self.find(part)
        inputs, labels, signature = self._inputs(model, part)
        try:
            if server.protocol == "tf_serving":
                found = yield from protocol_tf_serving.predict(
                    server.path, model.name, part.version, signature, inputs
                )
                # A response of TensorFlow Serving does not name the version.
                samples, version = protocol_tf_serving.to_array(found), part.version
            else:
                response = yield from protocol_v2.infer(server.path, part.version, model, inputs)
                samples, version = protocol_v2.read_samples(response)
                version = version if part.version is None else part.version
        except ServerError:
            self._models.clear()  # the server may have another version by now
            self._only = None
            raise
        if len(samples) != part.batch or (model.shape and samples.shape[1:] != model.shape):
            raise ServerError(
                f"A server must answer with {part.batch} samples of shape {model.shape}. "
                f"Received: an array of shape {samples.shape}"
            )
        if version is not None and version == model.version:
            self._models.setdefault((model.name, version), model)
        return Inference(samples, labels, version)

    def _inputs(
        self, model: RemoteModel, part: SampleRequest
    ) -> tuple[dict[str, np.ndarray], np.ndarray | None, str]:
        """Returns the inputs of a request, the labels if there are any, and the signature."""
        by_seeds = part.is_plain and "seeds" in dict(model.inputs)
        inputs = {} if by_seeds and part.labels is None else label_inputs(model, part)
        labels = inputs.get("labels")
        if by_seeds or (part.is_plain and "generate" in model.signatures):
            return {"seeds": part.seeds} | inputs, labels, "generate"
        if model.latent_dim is None:
            raise UsageError(
                "A generator's input `latents` must have a fixed length. "
                f"Received: {model.name!r} at {self._endpoint.url!r}"
            )
        return {"latents": part.latents(model.latent_dim)} | inputs, labels, "serving_default"


def _json_object(response: Response) -> dict[str, Any]:
    """Returns the object in the body of a successful response, else an empty one."""
    if response.status == 200:
        with contextlib.suppress(ServerError):
            content = response.json()
            return content if isinstance(content, dict) else {}
    return {}


def _draw(
    model: RemoteModel,
    part: SampleRequest,
    samples: np.ndarray,
    labels: np.ndarray | None,
    metadata: bool,
) -> list[bytes]:
    """Encodes samples as PNG files, equal to those of `keras-gan sample --each`."""
    from serving import pictures
    from serving.provenance import provenance

    files = []
    for number, pixels in enumerate(pictures.to_uint8(samples, model.value_range)):
        facts: dict[str, object] = {} if labels is None else {"label": labels[number]}
        if part.stations is not None:
            facts |= {"interpolate": ",".join(map(str, part.stations)), "step": number}
            facts["count"] = part.count
        else:
            facts["seed"] = part.seeds[number]
        facts |= {} if part.around is None else {"around": part.around, "radius": part.radius}
        facts |= {} if part.truncation == 1 else {"truncation": part.truncation}
        texts = provenance(model.name, model.sha256 or "unknown", **facts) if metadata else None
        files.append(pictures.to_png(pixels, texts))
    return files
