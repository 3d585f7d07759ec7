"""Calls of both clients, independent of how requests are sent."""

from __future__ import annotations

import contextlib
import dataclasses
import urllib.parse
import warnings
from typing import Any, NamedTuple

import numpy as np

from serving import kinds
from serving.checks import check_samples, describe_not_finite
from serving.classification import Classification
from serving.client import protocol_keras_gan, protocol_tf_serving, protocol_v2
from serving.client.arguments import SampleRequest
from serving.client.endpoint import Endpoint
from serving.client.given import decode_files, find_port
from serving.client.http_types import Exchange, Response, ServerError, get
from serving.client.model import RemoteModel
from serving.client.sounds import SentSound
from serving.client.uploads import ClassifiedPicture, Upload
from serving.errors import NotFiniteWarning, UsageError
from serving.inputs import Port
from serving.kinds import Format
from serving.lists import join_list
from serving.port_rules import is_number

PROTOCOLS = ("keras_gan", "tf_serving", "v2")
_COMMON = ("npy", "npz", "json")  # formats of every kind, which are encoded here
_SHOWN = 1024  # seeds and labels in the texts of a file
Arrays = dict[str, np.ndarray]
_PROBES = {"keras_gan": protocol_keras_gan, "v2": protocol_v2}


class Server(NamedTuple):
    """Server behind a URL: protocol, path before its own, and the model that the URL names."""

    protocol: str
    path: str
    name: str | None


class Inference(NamedTuple):
    """Outputs of one request, with their labels and the version of the model if known."""

    outputs: Arrays
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
        """Returns the first output of a request, which is split into parts of `batch_size`."""
        server = yield from self.connect(request.model)
        if server.protocol != "keras_gan" or request.arrays:
            return next(iter((yield from self.outputs(request, first=True)).values()))
        samples = yield from self._npy(server, request)
        _warn({"samples": samples}, request)
        return samples

    def _npy(self, server: Server, request: SampleRequest) -> Exchange[np.ndarray]:
        """Returns the first output of a request to `keras-gan serve`."""
        types = yield from self._file_types(request)
        if types:
            model = yield from self.find(request)
            request = _as_texts(model, request.fitted(model.inputs))
        parts: list[np.ndarray] = []
        version = request.version  # the version of the first part makes all the others
        for part in request.split(self.batch_size):
            part = dataclasses.replace(part, version=version)
            name = part.model or server.name
            response = yield from protocol_keras_gan.generate(
                server.path, name, part, "npy", types=types
            )
            version = protocol_keras_gan.version_of(response) if version is None else version
            parts.append(protocol_keras_gan.read_npy(response.body))
            if len(parts[-1]) != part.batch or parts[-1].shape[1:] != parts[0].shape[1:]:
                raise ServerError(
                    f"A server must answer with {part.batch} samples of one shape. "
                    f"Received: an array of shape {parts[-1].shape}"
                )
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def outputs(self, request: SampleRequest, first: bool = False) -> Exchange[Arrays]:
        """Returns the outputs of a request by name: all, or the first one.

        Every server takes tensors; files are decoded here.
        """
        request = yield from self._decoded(request)
        parts: list[Arrays] = []
        version = request.version
        for part in request.split(self.batch_size):
            done = yield from self._infer(dataclasses.replace(part, version=version), first)
            version = done.version
            parts.append(done.outputs)
        found = parts[0]
        if len(parts) > 1:
            found = {name: np.concatenate([part[name] for part in parts]) for name in found}
        _warn(found, request)
        return found

    def files(
        self, request: SampleRequest, form: str | None, metadata: bool
    ) -> Exchange[list[bytes]]:
        """Returns the samples of a request as files of a format of their kind."""
        server = yield from self.connect(request.model)
        model = yield from self.find(request)
        request = request.fitted(model.inputs) if model.knows_fills else request
        found = _writable(model, form)
        is_ours = server.protocol == "keras_gan" and found.name not in _COMMON
        types = (yield from self._file_types(request)) if is_ours else {}
        request = _as_texts(model, request) if types else request
        if len(types) != len(request.given):
            request = yield from self._decoded(request)
        files: list[bytes] = []
        version = request.version
        for part in request.split(self.batch_size):
            part = dataclasses.replace(part, version=version)
            if is_ours:
                response = yield from protocol_keras_gan.generate(
                    server.path, part.model or server.name, part, found.name, metadata, types
                )
                version = protocol_keras_gan.version_of(response) if version is None else version
                files += protocol_keras_gan.read_files(response, found, part.batch)
                continue
            made, version = yield from self._encoded(server, part, found, metadata)
            files += made
        return files

    def _connect_for_pictures(self, model: str | None, call: str, other: str) -> Exchange[Server]:
        """Connects to a server that takes pictures and sounds as files.

        Args:
            model: name of a model, or None.
            call: the call that needs it, for the error.
            other: the call that sends arrays.

        Raises:
            UsageError: another server than `keras-gan serve`.
        """
        server = yield from self.connect(model)
        if server.protocol != "keras_gan":
            raise UsageError(
                f"`{call}` needs keras-gan serve; `{other}` sends arrays to any server. "
                f"Received: {self._endpoint.url!r} with the protocol {server.protocol}"
            )
        return server

    def translate(self, upload: Upload) -> Exchange[Any]:
        """Translates a picture, and returns it in the form of the given one."""
        server = yield from self._connect_for_pictures(upload.model, "translate", "generate")
        name = upload.model or server.name
        content = yield from protocol_keras_gan.translate(server.path, name, upload)
        return upload.restore(content)

    def classify(self, picture: ClassifiedPicture) -> Exchange[Classification]:
        """Returns the probabilities of the classes of a picture."""
        server = yield from self._connect_for_pictures(picture.model, "classify", "outputs")
        name = picture.model or server.name
        return (yield from protocol_keras_gan.classify(server.path, name, picture))

    def vocode(self, sound: SentSound) -> Exchange[Response]:
        """Turns a sound or a spectrogram into sound, a WAV file or the stream of one."""
        server = yield from self._connect_for_pictures(sound.model, "vocode", "generate")
        name, rate = sound.model or server.name, 0
        if sound.samples is not None and sound.sample_rate is None:
            rate = yield from protocol_keras_gan.rate_of_vocoder(server.path, name)
        return (yield from protocol_keras_gan.vocode(server.path, name, sound, rate))

    def animation(
        self, request: SampleRequest, rate: Any, form: str, metadata: bool
    ) -> Exchange[bytes]:
        """Returns one file whose frames are the samples of a request."""
        from serving import animations  # imports Pillow

        found = animations.find(form)
        if not (is_number(rate) and 1 <= rate <= animations.MAX_RATE):
            raise UsageError(
                f"`frame_rate` must be from 1 to {animations.MAX_RATE:g} frames/s. "
                f"Received: frame_rate={rate!r:.80}"
            )
        model = yield from self.find(request)
        kind, meta = kinds.get(model.first.kind), model.first.meta
        if not kind.is_animated:
            raise UsageError(
                f"An animation shows samples of kind {' or '.join(kinds.animated())}. "
                f"Received: {model.name!r} of kind {kind.name!r}"
            )
        samples = yield from self.generate(request)
        check_samples({model.first.name: samples}, form, "npy and npz have NaN", request.describe)
        film = kind.film((sample[np.newaxis] for sample in samples), meta)
        return found.encode(film, float(rate), _texts(model, request) if metadata else {})

    def _file_types(self, request: SampleRequest) -> Exchange[dict[str, str]]:
        """Returns the Content-Type of each given file, to send the files as they are.

        Empty for a request that also has arrays, which are sent as tensors.
        """
        if not request.files or request.arrays:
            return {}
        inputs = (yield from self.find(request)).inputs
        return {
            name: file.media_type(find_port(inputs, name)) for name, file in request.files.items()
        }

    def _decoded(self, request: SampleRequest) -> Exchange[SampleRequest]:
        """Returns a request whose given values are arrays that fit their inputs."""
        if not request.given:
            return request
        inputs = (yield from self.find(request)).inputs
        return dataclasses.replace(request, given=decode_files(inputs, request.given))

    def _encoded(
        self, server: Server, part: SampleRequest, form: Format, metadata: bool
    ) -> Exchange[tuple[list[bytes], int | None]]:
        """Returns files of a server of tensors; its SavedModel may encode them itself."""
        model = yield from self.find(part)
        signature = f"generate_{form.name}"
        if server.protocol == "tf_serving" and part.is_plain and signature in model.signatures:
            inputs = self._plain_inputs(model, part)
            found = yield from protocol_tf_serving.predict(
                server.path, model.name, part.version, signature, inputs
            )
            files = next(iter(found.values()))
            return [protocol_keras_gan.from_base64(item.get("b64")) for item in files], None
        done = yield from self._infer(part, True)
        samples = next(iter(done.outputs.values()))
        return _encode(model, part, samples, done.labels, form, metadata), done.version

    def _infer(self, part: SampleRequest, first: bool) -> Exchange[Inference]:
        """Runs a model on tensors, which every server but TensorFlow Serving takes by V2."""
        server = yield from self.connect(part.model)
        model = yield from self.find(part)
        part = part.fitted(model.inputs) if model.knows_fills else part
        inputs, signature = self._inputs(model, part, first)
        ports = model.outputs[:1] if first else model.outputs
        names = [port.name for port in ports]
        try:
            if server.protocol == "tf_serving":
                content = yield from protocol_tf_serving.predict(
                    server.path, model.name, part.version, signature, inputs
                )
                # A response of TensorFlow Serving does not name the version.
                outputs, version = protocol_tf_serving.to_arrays(content, ports), part.version
            else:
                response = yield from protocol_v2.infer(
                    server.path, part.version, model, inputs, names
                )
                outputs, version = protocol_v2.read_outputs(response, names)
                version = version if part.version is None else part.version
        except ServerError:
            self._models.clear()  # the server may have another version by now
            self._only = None
            raise
        for port in ports:
            _check_output(outputs[port.name], port, part.batch)
        if version is not None and version == model.version:
            self._models.setdefault((model.name, version), model)
        classes = model.inputs.classes
        return Inference(outputs, None if classes is None else inputs.get(classes.name), version)

    def _inputs(self, model: RemoteModel, part: SampleRequest, first: bool) -> tuple[Arrays, str]:
        """Returns the input tensors of a request, and the signature of a SavedModel."""
        others = {port.name for port in model.inputs.given}
        plain = part.is_plain and model.inputs.seeded and part.arrays.keys() <= others
        if plain and (model.takes_seeds or (first and "generate" in model.signatures)):
            return self._plain_inputs(model, part), "generate"
        if not model.knows_fills:
            raise UsageError(
                "This server does not report how seeds fill the inputs: pass the bundle that it "
                f"serves as Client(..., bundle=FOLDER). Received: {model.name!r}"
            )
        for port in model.inputs.normal:
            if not port.shape or (port.is_dynamic and not model.inputs.given):
                raise UsageError(
                    f"A generator's input {port.name!r} must have a fixed length. "
                    f"Received: {model.name!r} at {self._endpoint.url!r}"
                )
        feeds = part.feeds(model.inputs, model.class_ids(part))
        return feeds, "serving_default"

    def _plain_inputs(self, model: RemoteModel, part: SampleRequest) -> Arrays:
        """Returns seeds, labels and given inputs, for a server that takes seeds."""
        found = model.inputs.check_given(part.arrays, part.batch)
        found |= {"seeds": part.seeds} if model.inputs.seeded else {}
        port = model.inputs.classes
        # SavedModels have no default for labels.
        if port is not None and (part.labels is not None or not model.takes_seeds):
            ids = model.class_ids(part)
            found |= {} if ids is None else {port.name: ids.astype(port.dtype)}
        return found


def _as_texts(model: RemoteModel, request: SampleRequest) -> SampleRequest:
    """Returns a request for an address, whose labels are texts, so that ids need names there."""
    if request.labels is None or not model.class_names:
        return request
    ids = model.inputs.class_ids(request.label_seeds(), request.labels)
    names = [model.class_names[number] for number in ids.tolist()]
    several = isinstance(request.labels, list)
    return dataclasses.replace(request, labels=names if several else names[0])


def _texts(
    model: RemoteModel, request: SampleRequest, row: int | None = None, label: Any = None
) -> dict[str, str]:
    """Returns the texts by which the samples of a request can be made again.

    Args:
        model: the model.
        request: the request.
        row: number of the only sample in the file; `None` for a file of all of them.
        label: class id of that sample, or `None`.
    """
    from serving.provenance import provenance

    facts: dict[str, object] = {} if label is None else {"label": label}
    if row is None and request.labels is not None:
        labels = request.labels if isinstance(request.labels, list) else [request.labels]
        facts["labels"] = join_list(labels[:_SHOWN])
    if request.stations is not None:
        facts["between_seeds"] = ", ".join(map(str, request.stations[:_SHOWN]))
        facts |= {"easing": request.easing} | ({"loop": True} if request.loop else {})
        facts |= {} if row is None else {"step": row}
    elif model.inputs.seeded and row is None:
        facts["seeds"] = ", ".join(map(str, request.seeds[:_SHOWN]))
    elif model.inputs.seeded:
        facts["seed"] = request.seeds[row]
    facts |= {} if request.around is None else {"around": request.around, "radius": request.radius}
    facts |= {"count": request.batch} if row is None or request.stations is not None else {}
    facts |= {} if request.truncation == 1 else {"truncation": request.truncation}
    return provenance(model.name, model.sha256 or "unknown", **facts)


def _warn(outputs: Arrays, request: SampleRequest) -> None:
    line = describe_not_finite([(outputs, request.describe)])
    if line is not None:
        warnings.warn(line, NotFiniteWarning, stacklevel=2)


def _json_object(response: Response) -> dict[str, Any]:
    """Returns the object in the body of a successful response, else an empty one."""
    if response.status == 200:
        with contextlib.suppress(ServerError):
            content = response.json()
            return content if isinstance(content, dict) else {}
    return {}


def _check_output(array: np.ndarray, port: Port, batch: int) -> None:
    sizes = array.shape[1:]
    fits = len(array) == batch and len(sizes) == len(port.shape)
    if not fits or any(n not in (None, m) for n, m in zip(port.sizes, sizes, strict=True)):
        raise ServerError(
            f"A server must answer with {batch} samples of shape {port.shape}. "
            f"Received: an array of shape {array.shape}"
        )


def _writable(model: RemoteModel, form: str | None) -> Format:
    """Returns a format that samples of the model can be written in.

    Raises:
        UsageError: a format that their kind does not have.
    """
    known = kinds.get(model.first.kind).all_formats()
    formats = {name: found for name, found in known.items() if found.encode}
    if form is None:
        return next(iter(formats.values()))
    if form not in formats:
        raise UsageError(
            f"Samples of kind {model.first.kind!r} are files of {', '.join(formats)}. "
            f"Received: format={form!r} for {model.name!r}"
        )
    return formats[form]


def _encode(
    model: RemoteModel,
    part: SampleRequest,
    samples: np.ndarray,
    labels: np.ndarray | None,
    form: Format,
    metadata: bool,
) -> list[bytes]:
    """Encodes samples as files, equal to those of `keras-gan sample --each`."""
    if not form.any_value:
        hint = "npy and npz have NaN and infinity"
        check_samples({model.first.name: samples}, form.name, hint, part.describe)
    kind, files = kinds.get(model.first.kind), []
    for number, sample in enumerate(samples):
        label = None if labels is None else labels[number]
        texts = _texts(model, part, number, label) if metadata else None
        files.append(kind.encode(sample, form.name, model.first.meta, texts))
    return files
