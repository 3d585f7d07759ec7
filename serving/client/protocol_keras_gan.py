"""Requests to `keras-gan serve`."""

from __future__ import annotations

import base64
import binascii
import io
import re
import secrets
import urllib.parse
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.classification import Classification
from serving.client.arguments import SampleRequest
from serving.client.http_types import (
    Exchange,
    Request,
    Response,
    ServerError,
    get,
    post,
    to_json,
)
from serving.client.model import RemoteModel, read_ports
from serving.client.sounds import MEDIA_TYPE, SentSound
from serving.client.uploads import ClassifiedPicture, Upload
from serving.errors import UsageError
from serving.kinds import Format, Lines
from serving.lists import join_list

PROBE = "/v1/models"


def is_spoken(content: dict[str, Any]) -> bool:
    """Checks whether the response to the probe is that of `keras-gan serve`."""
    return isinstance(content.get("models"), list)


def list_models(path: str) -> Exchange[list[RemoteModel]]:
    """Lists the models of the server."""
    content = (yield get(f"{path}/v1/models")).json()
    try:
        return [_read_entry(entry) for entry in content["models"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError(f"A listing must name models. Received: {error!r}") from error


def describe(path: str, name: str) -> Exchange[RemoteModel]:
    """Describes one model."""
    for model in (yield from list_models(path)):
        if model.name == name:
            return model
    raise UsageError(f"The server must have the model. Received: {name!r}")


def _read_entry(entry: dict[str, Any]) -> RemoteModel:
    ports, outputs = read_ports(entry["inputs"], entry["outputs"])
    return RemoteModel(
        name=str(entry["name"]),
        version=entry.get("version"),
        versions=tuple(entry.get("versions") or ()),
        role=entry.get("role"),
        ports=ports,
        outputs=outputs,
        sha256=entry.get("sha256"),
        takes_seeds=True,
        binary=True,
    )


def generate(
    path: str,
    name: str | None,
    request: SampleRequest,
    form: str,
    metadata: bool = True,
    types: Mapping[str, str] | None = None,
) -> Exchange[Response]:
    """Asks for samples.

    Args:
        path: before `/v1/generate`.
        name: of the model, or `None` for a server that has one.
        request: the samples.
        form: name of a format.
        metadata: files hold the name of their model and their seed.
        types: Content-Type of each given file by input name; the files are sent as they are.
    """
    content: dict[str, Any] = {"format": form}
    if request.stations is not None:
        content |= {"interpolate": request.stations.tolist(), "count": request.count}
        content |= {"loop": True} if request.loop else {}
        content |= {} if request.easing == "linear" else {"easing": request.easing}
    elif request.is_seeded:
        content["seeds"] = request.seeds.tolist()
    elif request.batch > 1:
        content["count"] = request.batch
    if request.around is not None:
        content |= {"around": request.around, "radius": request.radius}
    optional = (("model", name), ("version", request.version), ("labels", request.labels))
    content |= {key: value for key, value in optional if value is not None}
    content |= {} if request.truncation == 1 else {"truncation": request.truncation}
    content |= {} if metadata else {"metadata": False}
    where = f"{path}/v1/generate"
    if not types:
        if request.arrays:
            content["inputs"] = {key: x.tolist() for key, x in request.arrays.items()}
        return (yield post(where, to_json(content)))
    if not isinstance(content.get("labels", []), list):
        content["labels"] = [content["labels"]]  # a list of one, for a name with a comma
    query = urllib.parse.urlencode({key: _query_text(value) for key, value in content.items()})
    ((key, media_type), *others) = types.items()
    if not others and media_type != "application/json":  # which is that of a request
        body = request.files[key].content
    else:
        body, media_type = _multipart(request, types)
    return (yield post(f"{where}?{query}", body, {"Content-Type": media_type}))


def translate(path: str, name: str | None, upload: Upload) -> Exchange[bytes]:
    """Translates a picture; returns the file that the server has sent.

    Args:
        path: before `/v1/translate`.
        name: of the model, or `None` for a server that has one translator.
        upload: the picture.
    """
    fields = {"model": name, "version": upload.version, "tile": upload.tile}
    fields |= {"format": upload.format, "seed": upload.seed}
    query = urllib.parse.urlencode({k: v for k, v in fields.items() if v is not None})
    headers = {"Content-Type": upload.media_type}
    return (yield post(f"{path}/v1/translate?{query}", upload.content, headers)).body


def rate_of_vocoder(path: str, name: str | None) -> Exchange[int]:
    """Returns the sampling rate of a vocoder in Hz; the server refuses what is not one.

    Args:
        path: before `/v1/models`.
        name: of the model, or `None` for a server that has one vocoder.
    """
    entries = (yield get(f"{path}/v1/models")).json()["models"]
    for entry in entries:
        if entry.get("vocoder") and name in (None, entry["name"]):
            return int(entry["vocoder"]["sample_rate"])
    return 1  # of no sound: the server refuses the model that is named


def vocode(path: str, name: str | None, sound: SentSound, rate: int) -> Exchange[Response]:
    """Turns a sound or a spectrogram into sound.

    Args:
        path: before `/v1/vocode`.
        name: of the model, or `None` for a server that has one vocoder.
        sound: the sound.
        rate: sampling rate of samples that name none, in Hz.
    """
    fields: dict[str, Any] = {"model": name, "version": sound.version}
    fields |= {"resample": "true"} if sound.resample else {}
    fields |= {"stream": "true", "chunk": sound.chunk} if sound.is_streamed else {}
    query = urllib.parse.urlencode({k: v for k, v in fields.items() if v is not None})
    headers = {"Content-Type": MEDIA_TYPE}
    where = f"{path}/v1/vocode" + (f"?{query}" if query else "")
    body, streamed = sound.to_wav(rate), sound.is_streamed
    return (yield Request("POST", where, body, headers, is_streamed=streamed))


def classify(path: str, name: str | None, picture: ClassifiedPicture) -> Exchange[Classification]:
    """Classifies a picture.

    Args:
        path: before `/v1/classify`.
        name: of the model, or `None` for a server that has one classifier.
        picture: the picture.
    """
    fields = {"model": name, "version": picture.version}
    query = urllib.parse.urlencode({k: v for k, v in fields.items() if v is not None})
    headers = {"Content-Type": picture.media_type}
    where = f"{path}/v1/classify" + (f"?{query}" if query else "")
    content = (yield post(where, picture.content, headers)).json()
    try:
        classes = sorted(content["classes"], key=lambda each: each["id"])
        probabilities = np.array([each["probability"] for each in classes], np.float32)
        names = tuple(str(each["name"]) for each in classes)
        size = content["picture"]["height"], content["picture"]["width"]
        return Classification(
            probabilities, content["novelty"], names, tuple(content["notes"]), size
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError(f"An answer must have classes. Received: {error!r}") from error


def _query_text(value: Any) -> str:
    if isinstance(value, list):
        return join_list(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _multipart(request: SampleRequest, types: Mapping[str, str]) -> tuple[bytes, str]:
    """Encodes files as multipart/form-data (RFC 7578); returns the body and its Content-Type."""
    boundary = secrets.token_hex(16)
    parts = []
    for key, media_type in types.items():
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"; filename="{key}"\r\n'
            f"Content-Type: {media_type}\r\n\r\n"
        )
        parts.append(head.encode() + request.files[key].content + b"\r\n")
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def version_of(response: Response) -> int | None:
    """Returns the version of the model that made a response."""
    return to_version(response.headers.get("x-model-version", ""))


def to_version(text: str) -> int | None:
    """Parses a version; `None` for a text that is not a number."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def read_npy(body: bytes) -> np.ndarray:
    """Reads an .npy file from a server that is not trusted.

    The header may claim more data than there is, and `np.load` would unpickle objects.

    Raises:
        ServerError: the file is damaged, or holds no numbers.
    """
    file = io.BytesIO(body)
    try:
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if fortran or dtype.kind not in "fiub" or not shape:
            raise ValueError("no array of numbers")
        data = np.frombuffer(body, dtype, offset=file.tell()).reshape(shape)
        return data.astype(np.float32) if dtype.kind == "f" else data.astype(dtype)
    except (ValueError, SyntaxError, TypeError, EOFError) as error:
        raise ServerError(
            f"An answer must be an .npy file of numbers. Received: {body[:40]!r}"
        ) from error


def read_files(response: Response, form: Format, count: int) -> list[bytes]:
    """Reads one file, or several: in base64, or as lines of one file.

    Args:
        response: of the server.
        form: the format that was asked for.
        count: number of samples that were asked for.
    """
    plain = response.headers.get("content-type", "").partition(";")[0].strip()
    if plain == form.media_type and form.media_type != "application/json":
        if form.lines is None or count == 1:
            return [response.body]
        return _read_lines(response.body, form.lines, count)
    try:
        return [from_base64(sample[form.name]) for sample in response.json()["samples"]]
    except (KeyError, TypeError) as error:
        raise ServerError(f"An answer must hold files. Received: {error!r}") from error


def _read_lines(body: bytes, lines: Lines, count: int) -> list[bytes]:
    found = body.split(b"\n")[:-1]
    if len(found) != count:
        raise ServerError(f"An answer must have {count} lines. Received: {len(found)} lines")
    try:
        return [lines.to_file(line) for line in found]
    except UnicodeDecodeError as error:
        raise ServerError(f"A text must be UTF-8. Received: {error}") from None


def from_base64(text: Any) -> bytes:
    """Decodes a file."""
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise ServerError(f"A file must be in base64. Received: {text!r:.40}") from error
