"""Requests to `keras-gan serve`."""

from __future__ import annotations

import base64
import binascii
import io
import re
from typing import Any

import numpy as np

from serving.client.arguments import SampleRequest
from serving.client.http_types import Exchange, Response, ServerError, get, post, to_json
from serving.client.model import RemoteModel, to_range
from serving.errors import UsageError

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
    classes = entry.get("classes") or {}
    return RemoteModel(
        name=str(entry["name"]),
        version=entry.get("version"),
        versions=tuple(entry.get("versions") or ()),
        kind=entry.get("kind"),
        shape=tuple(int(size) for size in entry["shape"]),
        value_range=to_range(entry.get("value_range")),
        latent_dim=int(entry["latent_dim"]),
        class_count=int(classes.get("count", 0)),
        class_names=tuple(classes.get("names") or ()),
        sha256=entry.get("sha256"),
    )


def generate(
    path: str, name: str | None, request: SampleRequest, form: str, metadata: bool = True
) -> Exchange[Response]:
    """Asks for samples.

    Args:
        path: before `/v1/generate`.
        name: of the model, or `None` for a server that has one.
        request: the samples.
        form: `"npy"` or `"png"`.
        metadata: pictures hold the name of their model and their seed.
    """
    content: dict[str, Any] = {"format": form}
    if request.stations is not None:
        content |= {"interpolate": request.stations.tolist(), "count": request.count}
    else:
        content["seeds"] = request.seeds.tolist()
    if request.around is not None:
        content |= {"around": request.around, "radius": request.radius}
    optional = (("model", name), ("version", request.version), ("labels", request.labels))
    content |= {key: value for key, value in optional if value is not None}
    content |= {} if request.truncation == 1 else {"truncation": request.truncation}
    content |= {} if metadata else {"metadata": False}
    return (yield post(f"{path}/v1/generate", to_json(content)))


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
        ServerError: the file is damaged, or holds no floats.
    """
    file = io.BytesIO(body)
    try:
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if fortran or dtype.kind != "f" or not shape:
            raise ValueError("no array of floats")
        data = np.frombuffer(body, dtype, offset=file.tell())
        return data.reshape(shape).astype(np.float32)
    except (ValueError, SyntaxError, TypeError, EOFError) as error:
        raise ServerError(
            f"An answer must be an .npy file of floats. Received: {body[:40]!r}"
        ) from error


def read_pngs(response: Response) -> list[bytes]:
    """Reads one PNG file, or several in base64."""
    if response.headers.get("content-type", "").startswith("image/png"):
        return [response.body]
    try:
        return [from_base64(sample["png"]) for sample in response.json()["samples"]]
    except (KeyError, TypeError) as error:
        raise ServerError(f"An answer must hold pictures. Received: {error!r}") from error


def from_base64(text: Any) -> bytes:
    """Decodes a picture."""
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise ServerError(f"A picture must be in base64. Received: {text!r:.40}") from error
