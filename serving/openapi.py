"""OpenAPI document of the server, and the same as an HTML page without external resources."""

from __future__ import annotations

import html
import inspect
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from serving import act, animations, classify, kinds, picture_requests, vocode
from serving.act.fields import ANSWER as ACTED
from serving.generate.fields import FIELDS
from serving.http_types import Request, Response, json_response
from serving.protocols import tf_serving
from serving.translate import fields as translate

_JSON = "application/json"
_STATUSES = {
    "400": "The request is not valid",
    "401": "A token is missing or wrong",
    "403": "The host or the origin is not allowed",
    "404": "Unknown model, version or path",
    "405": "The path does not take this method",
    "413": "The body, its picture or its sound is too large",
    "415": "The body has another content type or encoding",
    "422": "A sample is not finite, and the format has no such numbers; or a sound has another "
    "sampling rate, or a spectrogram another scale, than those of the model",
    "500": "The server failed; its log has the reason",
    "503": "Full, loading or shutting down; Retry-After is the delay before a retry",
    "504": "The deadline passed",
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}, "status": {"type": "string"}},
}
_OBJECT = {_JSON: {"schema": {"type": "object"}}}
_FILE = {"schema": {"type": "string", "format": "binary"}}
_SAMPLES = {
    "type": "object",
    "required": ["model", "version", "sha256", "samples"],
    "properties": {
        "model": {"type": "string"},
        "version": {"type": "integer"},
        "sha256": {"type": "string"},
        "samples": {"type": "array", "items": {"type": "object"}},
    },
}
# Summary and response content of each path, without the version.
_ABOUT: dict[str, tuple[str, dict[str, Any]]] = {
    "/v1/generate": ("Generates samples from seeds and given inputs", {}),
    "/v1/translate": (
        "Translates a picture; the answer has its height and width times the scale of the model",
        {media_type.decode(): _FILE for media_type in translate.FORMATS.values()},
    ),
    "/v1/classify": (
        "Returns the probabilities of the classes of a picture",
        {_JSON: {"schema": classify.ANSWER}},
    ),
    "/v1/vocode": (
        "Turns a sound or a log-mel spectrogram into the sound that a vocoder makes of it",
        {"audio/wav": _FILE},
    ),
    "/v1/act": (
        "Returns the actions of a policy for an observation, or for several",
        {_JSON: {"schema": ACTED}},
    ),
    "/v1/models": ("Lists the models", _OBJECT),
    "/v1/models/{name}/examples/{number}.png": (
        "A picture to try a translator with, numbered from 0",
        {"image/png": _FILE},
    ),
    "/healthz": ("Reports that the process responds", _OBJECT),
    "/readyz": ("Reports that all models are loaded, verified and warm", _OBJECT),
    "/metrics": ("Metrics for Prometheus", {"text/plain": {"schema": {"type": "string"}}}),
    "/openapi.json": ("This document", _OBJECT),
    "/docs": ("This document as a page", {"text/html": {"schema": {"type": "string"}}}),
    "/": ("The web page", {"text/html": {"schema": {"type": "string"}}}),
    "/page/{file}": (
        "Files of the web page",
        {
            kind: {"schema": {"type": "string"}}
            for kind in ("text/html", "text/css", "text/javascript", "image/svg+xml", _JSON)
        },
    ),
    "/v2": ("Server metadata (Open Inference Protocol)", _OBJECT),
    "/v2/health/live": ("Reports that the process responds", _OBJECT),
    "/v2/health/ready": ("Reports that all models are loaded", _OBJECT),
    "/v2/repository/index": (
        "Lists models and versions",
        {_JSON: {"schema": {"type": "array", "items": {"type": "object"}}}},
    ),
    "/v2/models/{name}": ("Inputs and outputs of a model", _OBJECT),
    "/v2/models/{name}/ready": ("Reports that a model is served", _OBJECT),
    "/v2/models/{name}/config": ("Configuration of a model, as Triton describes it", _OBJECT),
    "/v2/models/{name}/infer": (
        "Runs the model on tensors or seeds",
        _OBJECT | {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    ),
    "/v1/models/{name}": ("Versions of a model (TensorFlow Serving)", _OBJECT),
    "/v1/models/{name}/metadata": ("Signatures of a model", _OBJECT),
    "/v1/models/{name}:predict": ("Runs a signature by rows or by columns", _OBJECT),
}


class _Upload(NamedTuple):
    """A path that takes one file: its fields, which models it is for, the file, its media types."""

    fields: dict[str, Any]
    takes: Callable[[Any], Any]
    part: str
    media_types: tuple[str, ...]


_PICTURES = picture_requests.UPLOADS
_UPLOADS = {
    "/v1/translate": _Upload(
        translate.FIELDS, lambda served: served.translation, "picture", _PICTURES
    ),
    "/v1/classify": _Upload(classify.FIELDS, classify.classifies_pictures, "picture", _PICTURES),
    "/v1/vocode": _Upload(
        vocode.FIELDS, lambda served: served.vocoder, "sound", picture_requests.SOUND_UPLOADS
    ),
}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "name": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$"},
    "version": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
    "number": {"type": "integer", "minimum": 0, "maximum": 9999},
    "file": {"type": "string", "minLength": 1},
}


def document(app: Any) -> dict[str, Any]:
    """Returns the OpenAPI document of an application's routes."""
    paths: dict[str, Any] = {}
    named = _PARAMETERS | {"name": _name(app)}
    for route in app.routes:
        plain = route.path.replace("/versions/{version}", "")
        summary, content = _ABOUT.get(plain) or (_summary(route.handle), _OBJECT)
        content = content or _sample_types(app)
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": schema}
            for name, schema in named.items()
            if f"{{{name}}}" in route.path
        ]
        for method in sorted(route.methods):
            operation: dict[str, Any] = {
                "operationId": _identify(method, route.path),
                "summary": summary,
                "responses": _responses(content, needs_token=not route.open),
            }
            if parameters:
                operation["parameters"] = parameters
            if query := _query(app, method, route.name):
                operation["parameters"] = query
            if method == "POST" and (body := _body(app, plain)):
                operation["requestBody"] = {"required": True, "content": body}
            if not route.open:
                operation["security"] = (
                    [{}, {"token": []}] if app.tokens is None else [{"token": []}]
                )
            paths.setdefault(route.path, {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "keras-gan",
            "version": app.version,
            "description": "Samples from generators. A seed names the same sample on every server.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _ERROR},
        },
    }


def _summary(handle: Any) -> str:
    """Returns the first line of a handler's docstring, for a path of another protocol."""
    return (inspect.getdoc(handle) or "").split("\n")[0].rstrip(".")


def _name(app: Any) -> dict[str, Any]:
    """Returns the schema of a model's name: the served ones, if there are any."""
    names = sorted(app.repository.newest)
    return {"type": "string", "enum": names} if names else _PARAMETERS["name"]


def _identify(method: str, path: str) -> str:
    words = path.replace(":", "/").replace("{", "").replace("}", "").split("/")
    return "_".join([method.lower(), *(w for w in words if w)]) or "get_page"


def _responses(content: dict[str, Any], needs_token: bool) -> dict[str, Any]:
    error = {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    found: dict[str, Any] = {
        "200": {"description": "Success", "content": content},
        "304": {"description": "The cached response of the client is current"},
    }
    for status, about in _STATUSES.items():
        if status != "401" or needs_token:
            found[status] = {"description": about, "content": error}
    return found


def _sample_types(app: Any) -> dict[str, Any]:
    """Returns the content of responses of `/v1/generate`, by the formats of the models."""
    found: dict[str, Any] = {
        "image/png": _FILE,  # a grid
        "application/x-npy": _FILE,
        "application/x-npz": _FILE,
        "application/x-ndjson": {"schema": {"type": "string"}},
        _JSON: {"schema": _SAMPLES},
    }
    for served in app.repository:
        found |= {form.media_type: _FILE for form in served.files.values()}
        found |= {animations.FORMATS[name].media_type: _FILE for name in served.animations}
    return found


def _fields(app: Any) -> dict[str, Any]:
    formats = sorted(
        {x for served in app.repository for x in (*served.formats, *served.animations)}
    )
    enum = {"enum": formats} if formats else {}
    return FIELDS | {
        "model": FIELDS["model"] | _name(app),
        "format": FIELDS["format"] | enum,
    }


def _upload_fields(app: Any, path: str) -> dict[str, Any]:
    """Returns the fields of a path that takes one file."""
    fields, takes, *_ = _UPLOADS[path]
    return fields | {"model": fields["model"] | _names_of(app, takes)}


def _names_of(app: Any, takes: Callable[[Any], Any]) -> dict[str, Any]:
    """Returns the schema of the names of the models that a path is for; empty without one."""
    names = sorted(name for name, served in app.repository.newest.items() if takes(served))
    return {"enum": names} if names else {}


def _query(app: Any, method: str, route: str) -> list[dict[str, Any]]:
    """Returns the parameters in the query of an operation."""
    path = f"/v1/{route}"
    if (method, route) != ("GET", "generate") and (method != "POST" or path not in _UPLOADS):
        return []
    found = []
    fields = _upload_fields(app, path) if path in _UPLOADS else _fields(app)
    for name, schema in fields.items():
        if schema.get("type") == "object":  # given inputs need a body
            continue
        schema = {key: value for key, value in schema.items() if key != "description"}
        parameter: dict[str, Any] = {"name": name, "in": "query", "schema": schema}
        if schema.get("type") == "array" or name == "labels":
            parameter |= {"style": "form", "explode": False}  # separated by commas
        found.append(parameter)
    return found


def _body(app: Any, path: str) -> dict[str, Any]:
    """Returns the content of a request's body by its media type."""
    if path == "/v1/generate":
        fields = {"type": "object", "properties": _fields(app), "additionalProperties": False}
        return {_JSON: {"schema": fields}} | _files(app)
    if path == "/v1/act":
        names = _names_of(app, lambda served: served.policy)
        fields = act.FIELDS | {"model": act.FIELDS["model"] | names}
        schema = {"type": "object", "properties": fields, "additionalProperties": False}
        return {_JSON: {"schema": schema | {"required": ["observation"]}}}
    if path in _UPLOADS:
        part = _UPLOADS[path].part
        parts = {part: {"type": "string", "format": "binary"}}
        form = {"type": "object", "properties": parts | _upload_fields(app, path)}
        form |= {"required": [part], "additionalProperties": False}
        files = dict.fromkeys(_UPLOADS[path].media_types, _FILE)
        return {picture_requests.FORM: {"schema": form}} | files
    if path.endswith("/infer"):
        return {_JSON: {"schema": _infer(app)}}
    return {_JSON: {"schema": _predict(app)}} if path.endswith(":predict") else {}


def _files(app: Any) -> dict[str, Any]:
    """Returns the forms and files that models with given inputs take, by media type."""
    given = [port for served in app.repository for port in served.bundle.inputs.given]
    if not given:
        return {}
    found: dict[str, Any] = {}
    for port in given:
        forms = kinds.get(port.kind).all_formats().values()
        found |= {form.media_type: _FILE for form in forms if form.decode}
    found.pop(_JSON)  # the fields are JSON too
    parts = {port.name: {"type": "string", "format": "binary"} for port in given}
    form = {"type": "object", "properties": _fields(app) | parts, "additionalProperties": False}
    return {"multipart/form-data": {"schema": form}} | found


def _infer(app: Any) -> dict[str, Any]:
    names = sorted({x for served in app.repository for x in served.bundle.inputs.by_name})
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"type": "string", "enum": [*names, "seeds"]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": {"type": "string"},
            "data": {"type": "array", "items": {}},
            "parameters": {"type": "object"},
        },
    }
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": {"type": "array", "items": tensor, "minItems": 1},
            "outputs": {"type": "array", "items": {"type": "object"}},
            "parameters": {"type": "object"},
        },
    }


def _predict(app: Any) -> dict[str, Any]:
    names = sorted({x for served in app.repository for x in tf_serving.signatures(served)})
    return {
        "type": "object",
        "properties": {
            "signature_name": {"type": "string"} | ({"enum": names} if names else {}),
            "instances": {"type": "array", "items": {}, "minItems": 1},
            "inputs": {},
        },
        "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
        "additionalProperties": False,
    }


def document_response(app: Any, request: Request) -> Response:
    """Handles `/openapi.json`."""
    return json_response(document(app))


def page_response(app: Any, request: Request) -> Response:
    """Handles `/docs`."""
    from serving.files import POLICY

    found = document(app)
    rows = []
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            body = operation.get("requestBody", {}).get("content", {}).get(_JSON, {})
            fields = body.get("schema", {}).get("properties", {})
            rows.append(
                f"<h2 id='{operation['operationId']}'><code>{method.upper()} {html.escape(path)}"
                f"</code></h2><p>{html.escape(operation['summary'])}</p>{_table(fields)}"
            )
    text = (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>keras-gan: the API</title>"
        "<meta name='viewport' content='width=device-width'>"
        "<link rel='stylesheet' href='/page/style.css'><main><h1>keras-gan: the API</h1>"
        f"<p>{html.escape(found['info']['description'])} As a document: "
        f"<a href='/openapi.json'>openapi.json</a>. Errors are JSON, <code>{{&quot;error&quot;: "
        f"&quot;the rule. Received: ...&quot;}}</code>.</p>{''.join(rows)}</main></html>"
    )
    headers = POLICY + b"cache-control: no-cache\r\n"
    return Response(200, text.encode("utf-8"), b"text/html; charset=utf-8", headers)


def _table(fields: dict[str, Any]) -> str:
    if not fields:
        return ""
    rows = []
    for name, schema in fields.items():
        kind = schema.get("type") or " or ".join(x.get("type", "") for x in schema.get("anyOf", []))
        rest = {k: v for k, v in schema.items() if k in ("enum", "minimum", "maximum")}
        text = f"{schema.get('description', '')} {json.dumps(rest) if rest else ''}"
        rows.append(
            f"<tr><td><code>{html.escape(name)}</code><td>{html.escape(kind or 'any')}"
            f"<td>{html.escape(text)}"
        )
    return f"<table><tr><th>field<th>type<th>about{''.join(rows)}</table>"
