"""The model card of a bundle, as Markdown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from export.classifier import ROLE as CLASSIFIER
from export.encoders import encoder_of
from export.files import sha256
from export.manifest import REDUCED_PRECISIONS, Manifest
from serving.environments import POLICY, REWARD
from serving.inputs import Input, Port

FILE_NAME = "README.md"  # shown by model hubs and code hosts

_USE = """Not stated. A network of this kind is suitable for research, teaching, design, and
software tests, where everybody knows that its samples are generated. It is not suitable for
presenting samples as recordings, for images of people without their consent, or as evidence. It
reproduces the biases of its training data, and may generate samples that are close to training
examples: `keras-gan evaluate` measures how close."""

_SAMPLE = """```python
import serving  # numpy and onnxruntime, no TensorFlow

bundle = serving.Bundle("{folder}")
samples = bundle.generate(seeds=range(16)){labels}
```

"""

_LOAD = """```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")  # {inputs} -> {outputs}
```

```python
import tensorflow as tf  # no Keras

signatures = tf.saved_model.load("saved_model/{name}/1").signatures
# serving_default, generate{files}
```

TensorFlow Serving, with this folder mounted at `/models`:
`--model_config_file=/models/tf_serving/models.config`.
`keras-gan verify` compares every file and every runtime with the golden samples."""


_TRANSLATE = """```python
import serving  # numpy, Pillow and onnxruntime, no TensorFlow

serving.Bundle("{folder}").translate("in.png").save("out.png")  # {scale} times the height and width
```

With onnxruntime alone:

```python
{script}
```

"""

_CLASSIFY = """```python
import serving  # numpy, Pillow and onnxruntime, no TensorFlow

found = serving.Bundle("{folder}").classify("in.png")  # a path, an image of Pillow or an array
print(found.top(3), found.novelty)
```

"""

_ACT = """```python
import serving  # numpy and onnxruntime, no TensorFlow

policy = serving.Bundle("{folder}")
action = policy.act(observation)  # one observation {shape}, or several
```

`keras-gan play {folder}` runs it in its environment.

"""

_REWARD = """```python
import serving  # numpy and onnxruntime, no TensorFlow

rewards = serving.Bundle("{folder}").generate(observation=observations, action=actions)
```

"""

# Value ranges, channels and padding are those of the manifest.
SCRIPT = """\
import json, numpy as np, onnxruntime, PIL.Image, PIL.ImageOps
facts = json.load(open("manifest.json"))
t, ports = facts["translation"], {p["name"]: p for p in facts["inputs"] + facts["outputs"]}
(a, b), (c, d) = (ports[t[key]]["meta"]["value_range"] for key in ("input", "output"))
image = PIL.ImageOps.exif_transpose(PIL.Image.open("in.png")).convert(t["input_channels"])
x = np.atleast_3d(image) / 255 * (b - a) + a
pad = [(0, max(t["min_side"] - n, -n % t["multiple_of"])) for n in x.shape[:2]] + [(0, 0)]
feeds = {t["input"]: np.pad(x, pad, "edge")[None].astype("float32")}
y = onnxruntime.InferenceSession("model.onnx").run([t["output"]], feeds)[0][0]
y = ((y[: len(x) * t["scale"], : x.shape[1] * t["scale"]] - c) / (d - c)).clip(0, 1) * 255 + 0.5
PIL.Image.frombytes(t["output_channels"], y.shape[1::-1], np.uint8(y).tobytes()).save("out.png")"""


def write_card(bundle: Path, manifest: Manifest) -> None:
    """Writes the model card of a bundle whose models are written."""
    text = model_card(bundle, manifest)  # which may name files whose names are not text
    (bundle / FILE_NAME).write_text(text, encoding="utf-8", errors="backslashreplace")


def model_card(bundle: Path, manifest: Manifest) -> str:
    """Returns the model card as Markdown, with the front matter that model hubs read."""
    parts = [
        _front_matter(manifest),
        f"# {manifest.name}",
        _summary(manifest),
        "## Intended use",
        _line(manifest.intended_use) if manifest.intended_use else _USE,
        "## Training",
        _training(manifest.training or {}),
        "## Metrics",
        _metrics((manifest.training or {}).get("metrics")),
        "## License",
        f"{_line(manifest.license)}. The training data has its own license."
        if manifest.license
        else "Not stated. Without a license, only the owner may use the model.",
        "## Checked against Keras",
        _parity(manifest),
        "## How to load it",
        _how_to_load(manifest),
        "## Generated content",
        f"{manifest.notice} The metadata of images contain this notice, the name and SHA-256 of "
        "the model, and the seed, unless metadata were disabled.",
        f"`model.onnx` has the SHA-256 `{sha256(bundle / 'model.onnx')}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(manifest: Manifest) -> str:
    known = manifest.license and re.fullmatch(r"[A-Za-z0-9.+-]+", manifest.license)
    license = str(manifest.license).lower() if known else "other"
    encoder = encoder_of(manifest.first)
    task = encoder.tasks.get(manifest.role, "other") if encoder else "other"
    return (
        f"---\nlicense: {license}\nlibrary_name: keras\npipeline_tag: {task}\n"
        "tags: [gan, keras, tensorflow, onnx]\n---"
    )


def _summary(manifest: Manifest) -> str:
    names = manifest.class_names
    listed = f": {', '.join(map(_line, names))}" if names else ""
    classes = f", in {manifest.classes.num_classes} classes{listed}" if manifest.classes else ""
    environment = (manifest.environment or {}).get("id")
    place = f" of the environment {_line(environment)}" if environment else ""
    outputs = ", ".join(map(_port, manifest.outputs))
    inputs = ", ".join(f"{_port(port)} ({_fill(port)})" for port in manifest.inputs)
    version = manifest.software.get("keras_gan", "")
    return (
        f"The {manifest.role} of a generative adversarial network. It returns {outputs}{classes}, "
        f"from {inputs}{place}. Exported by keras_gan {version} on {manifest.created[:10]}."
    )


def _port(port: Port) -> str:
    size = " x ".join(map(str, port.shape)) or "one number"
    return f"`{port.name}`, of kind {port.kind} and size {size}"


def _fill(port: Input) -> str:
    """Returns how an input gets its values, in words."""
    texts = {
        "normal": "normal numbers from the seed",
        "uniform": "uniform numbers from the seed",
        "class": "a class",
        "constant": f"by default {port.value}",
    }
    return texts.get(port.fill, "given")


def _training(training: dict[str, Any]) -> str:
    described = training.get("data")
    data = described if isinstance(described, dict) else {}
    lines = [f"Data: {_line(data['description'])}"] if "description" in data else []
    lines += [f"Digest of the data: `{_line(data['digest'])}`"] if data.get("digest") else []
    lines += [
        f"{_title(key)}: {_line(value)}"
        for key, value in training.items()
        if isinstance(value, str | int | float)
    ]
    if not lines:
        return "The data and the training are not described."
    lines += ["The recipe: `training` in `manifest.json`"] if training.get("recipe") else []
    return "\n".join(f"- {line}" for line in lines)


def _metrics(metrics: Any) -> str:
    figures = metrics if isinstance(metrics, dict) else {}
    rows = [
        f"| {_title(key)} | {value:.6g} |"
        for key, value in figures.items()
        if isinstance(value, int | float)
    ]
    if not rows:
        return "Not stated. `keras-gan evaluate` measures them and states the protocol."
    return "\n".join(["| at the end of training | value |", "|---|---|", *rows])


def _parity(manifest: Manifest) -> str:
    rows = [f"| {name} | {value:.1e} |" for name, value in manifest.worst_parity().items()]
    measure = _line(manifest.parity.get("measure", ""))
    for name, record in manifest.parity.get("precisions", {}).items():
        rows.append(
            f"| `{REDUCED_PRECISIONS[name]}` ({name}) | {max(record['max'].values()):.1e} |"
        )
    return "\n".join([f"| runtime | {measure} |", "|---|---|", *rows])


def _how_to_load(manifest: Manifest) -> str:
    names = manifest.class_names
    example = f"  # labels={names[0]!r} for one class" if names else ""
    by_seed = all(port.fill != "given" for port in manifest.inputs)
    encoder = encoder_of(manifest.first)
    pictures = ""  # the example of the role
    if manifest.translation is not None:
        scale = manifest.translation["scale"]
        pictures = _TRANSLATE.format(folder=manifest.name, scale=scale, script=SCRIPT)
    if manifest.role == CLASSIFIER:
        pictures = _CLASSIFY.format(folder=manifest.name)
    if manifest.role == POLICY:
        pictures = _ACT.format(folder=manifest.name, shape=manifest.inputs[0].shape)
    if manifest.role == REWARD:
        pictures = _REWARD.format(folder=manifest.name)
    return pictures + (_SAMPLE * by_seed + _LOAD).format(
        folder=manifest.name,
        name=manifest.name,
        labels=example,
        inputs=", ".join(f"{port.name} {port.dtype}" for port in manifest.inputs),
        outputs=", ".join(port.name for port in manifest.outputs),
        files=f", {encoder.signature}" if encoder else "",
    )


def _title(key: str) -> str:
    return _line(key).replace("_", " ").capitalize()


def _line(value: Any) -> str:
    """Returns text in one line, safe in tables and paragraphs of Markdown."""
    return " ".join(str(value).split()).replace("|", "\\|")
