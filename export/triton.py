"""Export of a bundle's ONNX model to a model repository of Triton Inference Server.

REPOSITORY/NAME/config.pbtxt
REPOSITORY/NAME/1/model.onnx     with its weights beyond 2 GB, and the bundle's manifest, card and
                                 golden samples beside it
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from export.card import FILE_NAME as CARD
from export.files import sha256
from export.golden import FILE_NAME as GOLDEN
from export.golden import OTHER_SIZES
from export.manifest import Manifest
from export.sizes import resolve
from export.staging import clean, locked, staging
from export.tf_serving import BATCH_SIZES
from keras_gan import UsageError
from serving.inputs import Port
from serving.manifest import DATA, FILE_NAME, MODEL

_MODEL_FILES = {MODEL, DATA}
_TYPES = {"bool": "TYPE_BOOL"}
_TYPES |= {f"float{bits}": f"TYPE_FP{bits}" for bits in (16, 32, 64)}
_TYPES |= {
    f"{sign}int{n}": f"TYPE_{sign.upper()}INT{n}" for sign in ("", "u") for n in (8, 16, 32, 64)
}

_CONFIG = """# Triton Inference Server: tritonserver --model-repository=REPOSITORY
name: "{name}"
backend: "onnxruntime"
max_batch_size: {batch}
input [
{inputs}
]
output [
{outputs}
]
# Longest wait of a request for others; samples do not depend on it.
dynamic_batching {{ max_queue_delay_microseconds: 2000 }}
version_policy {{ latest {{ num_versions: 1 }} }}
# On the GPU if there is one, otherwise on the CPU.
instance_group [ {{ kind: KIND_AUTO }} ]
model_warmup [
  {{
    name: "one sample"
    batch_size: 1
{warmup}
  }}
]
# Facts for clients beyond the shapes: GET /v2/models/{name}/config
parameters [
{parameters}
]
"""


def export_triton(
    bundle: str | Path, repository: str | Path, version: int | Literal["next"] = "next"
) -> Path:
    """Adds a bundle's model to a model repository; returns the folder of its version.

    A version appears complete, by a rename: Triton may read the repository at any time.

    Args:
        bundle: folder of a bundle.
        repository: folder of the repository; created if it does not exist.
        version: a number, or `"next"`.

    Raises:
        UsageError: the bundle is missing or damaged, the version exists, or a model of the same
            name has other inputs or outputs.
    """
    bundle, repository = Path(bundle), Path(repository)
    manifest = Manifest.load(bundle)
    _check(bundle, manifest)
    if version != "next" and not (type(version) is int and version > 0):
        raise UsageError(f"version must be next or a number from 1. Received: version={version!r}")
    model, config = repository / manifest.name, configuration(manifest)
    try:
        clean(repository)
        repository.mkdir(parents=True, exist_ok=True)
        with staging(repository) as staged, locked(repository):
            number = _number(model, version)
            _check_config(model, config)
            _copy(bundle, staged / str(number))
            if model.exists():
                os.rename(staged / str(number), model / str(number))
            else:
                (staged / "config.pbtxt").write_text(config, encoding="utf-8")
                os.rename(staged, model)
    except OSError as error:
        raise UsageError(
            f"The repository must be writable, with room for the model. Received: {error}"
        ) from error
    return model / str(number)


def configuration(manifest: Manifest) -> str:
    """Returns the content of `config.pbtxt`."""
    parameters = {
        "role": manifest.role,
        "inputs": [port.to_json() for port in manifest.inputs],
        "outputs": [port.to_json() for port in manifest.outputs],
    }
    warmup = "\n".join(
        f'    inputs {{ key: "{port.name}" value: {{ data_type: {_TYPES[port.dtype]} '
        f"dims: {_dims(resolve(port.shape, manifest.sizes[0]))} zero_data: true }} }}"
        for port in manifest.inputs
    )
    return _CONFIG.format(
        name=manifest.name,
        batch=BATCH_SIZES[-1],
        inputs=",\n".join(map(_port, manifest.inputs)),
        outputs=",\n".join(map(_port, manifest.outputs)),
        warmup=warmup,
        parameters=",\n".join(
            f'  {{ key: "{key}" value: {{ string_value: {_text(value)} }} }}'
            for key, value in parameters.items()
        ),
    )


def _text(value: Any) -> str:
    """Returns a value as JSON, quoted for the text format of protocol buffers."""
    return json.dumps(json.dumps(value))


def _port(port: Port) -> str:
    # Triton adds the batch dimension itself, which leaves none for labels (batch,): Triton then
    # requires a dimension of 1, and the reshape removes it again.
    scalar = "" if port.shape else " reshape { shape: [ ] }"
    dims = _dims([-1 if size is None else size for size in port.sizes])
    return f'  {{ name: "{port.name}" data_type: {_TYPES[port.dtype]} dims: {dims}{scalar} }}'


def _dims(shape: Sequence[int]) -> str:
    return f"[ {', '.join(map(str, shape or [1]))} ]"


def _check(bundle: Path, manifest: Manifest) -> None:
    for name in {MODEL, *(_MODEL_FILES & manifest.files.keys())}:
        expected = manifest.files.get(name, {}).get("sha256")
        if not ((bundle / name).is_file() and sha256(bundle / name) == expected):
            raise UsageError(
                f"{name} must have the SHA-256 in {FILE_NAME}; the bundle is damaged or "
                f"was changed. Received: {str(bundle)!r}"
            )


def _number(model: Path, version: int | Literal["next"]) -> int:
    names = [path.name for path in model.iterdir()] if model.exists() else []
    found = [int(name) for name in names if name.isdecimal()]
    if version in found:
        raise UsageError(f"A version is never replaced. Received: {model}, which has {version}")
    return max(found, default=0) + 1 if version == "next" else version


def _check_config(model: Path, config: str) -> None:
    """Checks the ports of earlier versions: all versions of a model share one configuration."""
    if not model.exists():
        return
    present = model / "config.pbtxt"
    if not present.is_file() or _ports(present.read_text(encoding="utf-8")) != _ports(config):
        raise UsageError(
            "All versions of a model in a repository have the same inputs and outputs. "
            f"Received: {model}, which has different ones"
        )


def _ports(config: str) -> list[str]:
    """Returns the lines of inputs and outputs; the user may change all others."""
    return [line.strip(" ,") for line in config.splitlines() if line.startswith("  { name:")]


def _copy(bundle: Path, version: Path) -> None:
    version.mkdir()
    for name in (*_MODEL_FILES, FILE_NAME, GOLDEN, *OTHER_SIZES, CARD):
        if (bundle / name).is_file():
            shutil.copy(bundle / name, version / name)
