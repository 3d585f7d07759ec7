"""Tiny bundles of endless video: a place that a sum of noise moves, and a content of the class."""

import hashlib
import io
import json

import numpy as np
import onnx
import tiny

import serving
from serving.inputs import Input, Port
from serving.manifest import digest

FRAMES, CHUNK, SIZE = 6, 4, (4, 6, 1)
CLASSES = ("circle", "square", "cross")
FACTS = {"content_dim": 3, "start_dim": 1, "motion_dim": 1, "state": 2, "chunk": CHUNK}
_PIXELS = int(np.prod(SIZE))


def _drawing(frames, state, classes):
    """Returns nodes from `content`, `start`, `noise` (batch, frames, 1) and labels to samples.

    h_t = h_(t-1) + noise_t, and frame t is tanh(content @ pattern + class + h_t * wave).
    """
    nodes = [
        ("CumSum", ["noise", "axis"], ["moved"], {}),
        ("Unsqueeze", ["start", "axis"], ["start_t"], {}),
        ("Add", ["start_t", "moved"], ["h"], {}),
        ("Mul", ["h", "wave"], ["motion"], {}),
        ("MatMul", ["content", "pattern"], ["shown"], {}),
    ]
    last = "shown"
    if classes:
        nodes += [("Gather", ["colors", "labels"], ["color"], {})]
        nodes += [("Add", [last, "color"], ["classed"], {})]
        last = "classed"
    nodes += [
        ("Unsqueeze", [last, "axis"], ["shown_t"], {}),
        ("Add", ["shown_t", "motion"], ["drawn"], {}),
        ("Tanh", ["drawn"], ["flat"], {}),
        ("Reshape", ["flat", "shape"], ["samples"], {}),
    ]
    rng = np.random.default_rng(4)
    weights = {
        "axis": np.array([1], np.int64),
        "wave": np.linspace(-0.4, 0.4, _PIXELS, dtype=np.float32),
        "pattern": rng.normal(0, 0.3, (3, _PIXELS)).astype(np.float32),
        "colors": np.linspace(-0.5, 0.5, len(CLASSES), dtype=np.float32)[:, None],
        "shape": np.array([-1, frames, *SIZE], np.int64),
        "first": np.array([0], np.int64),
        "third": np.array([3], np.int64),
        "fourth": np.array([4], np.int64),
        "all": np.array([2**31 - 1], np.int64),
    }
    return nodes, weights


def _cut(source, low, high, name, axis="axis"):
    return ("Slice", [source, low, high, axis], [name], {})


def write(to, name="film", classes=True, endless=True):
    """Writes a bundle; without `endless` its clips have 6 frames and no other number."""
    meta = {"num_classes": len(CLASSES), "class_names": list(CLASSES)}
    labels = [Input("labels", "int64", (), "label", meta, fill="class", stream=1)]
    labels = labels if classes else []
    inputs = [Input("latents", "float32", (4 + FRAMES,), "array", fill="normal"), *labels]
    meta = {"value_range": [-1.0, 1.0], "frame_rate": 8.0}
    outputs = [Port("samples", "float32", (FRAMES, *SIZE), "video", meta)]
    nodes, weights = _drawing(FRAMES, False, classes)
    split = [
        _cut("latents", "first", "third", "content"),
        _cut("latents", "third", "fourth", "start"),
        _cut("latents", "fourth", "all", "rest"),
        ("Unsqueeze", ["rest", "two"], ["noise"], {}),
    ]
    weights["two"] = np.array([2], np.int64)
    model = tiny.network(name, [*split, *nodes], inputs, outputs, weights)
    tiny.save(to, name, model, inputs, outputs)
    if endless:
        _write_stream(to, labels)
    drawn = serving.Bundle(to, threads=1, device="cpu").sample(range(8))
    buffer = io.BytesIO()
    np.savez(buffer, **drawn)
    (to / "golden.npz").write_bytes(buffer.getvalue())
    tiny.seal(to)
    return to


def _write_stream(to, labels):
    """Adds `stream.onnx`, whose state is h of the last frame and a 1, and `video`."""
    nodes, weights = _drawing(CHUNK, True, bool(labels))
    head = [
        _cut("given", "first", "third", "content"),
        _cut("given", "third", "fourth", "own_start"),
        _cut("state", "first", "one", "h_before"),
        _cut("state", "one", "two", "begun"),
        ("Sub", ["h_before", "own_start"], ["change"], {}),
        ("Mul", ["change", "begun"], ["kept"], {}),
        ("Add", ["own_start", "kept"], ["start"], {}),
    ]
    tail = [
        _cut("h", "last", "all", "h_last"),
        ("Squeeze", ["h_last", "two"], ["h_end"], {}),
        ("Sub", ["h_end", "h_end"], ["zero"], {}),
        ("Exp", ["zero"], ["ones"], {}),
        ("Concat", ["h_end", "ones"], ["next_state"], {"axis": 1}),
    ]
    weights |= {"one": np.array([1], np.int64), "two": np.array([2], np.int64)}
    weights["last"] = np.array([-1], np.int64)
    for node in head[:2]:
        node[1][0] = "content_and_start"
    inputs = [
        Input("content_and_start", "float32", (4,)),
        Input("noise", "float32", (CHUNK, 1)),
        Input("state", "float32", (2,)),
        *labels,
    ]
    outputs = [
        Port("samples", "float32", (CHUNK, *SIZE)),
        Port("next_state", "float32", (2,)),
    ]
    # The name of the port is that of the part which the nodes cut from it.
    inputs[0] = inputs[0].replace(name="content")
    renamed = {"content_and_start": "content", "content": "content_only"}
    parts = [(op, [renamed.get(n, n) for n in ins], outs, more) for op, ins, outs, more in head]
    parts = [(op, ins, [renamed.get(n, n) for n in outs], more) for op, ins, outs, more in parts]
    drawing = [(op, [renamed.get(n, n) for n in ins], outs, more) for op, ins, outs, more in nodes]
    model = tiny.network("stream", [*parts, *drawing, *tail], inputs, outputs, weights)
    content = onnx.ModelProto.SerializeToString(model)
    (to / "stream.onnx").write_bytes(content)
    manifest = json.loads((to / "manifest.json").read_text())
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    manifest["files"]["stream.onnx"] = facts
    declare(to, FACTS, manifest)


def declare(to, video, manifest=None):
    """Writes `video` to the manifest of a bundle."""
    content = manifest or json.loads((to / "manifest.json").read_text())
    content["video"] = video
    content["digest"] = digest(content)
    (to / "manifest.json").write_text(json.dumps(content))
    return to


def reference(seed, frames, label=0, truncation=1.0, classes=True):
    """Returns the frames of a seed by the formula, from all of its latents."""
    _, weights = _drawing(FRAMES, False, classes)
    latents = serving.seeds.latents_from_seeds([seed], 4 + frames)[0].astype(float) * truncation
    h = latents[3] + np.cumsum(latents[4:])
    shown = latents[:3] @ weights["pattern"] + (weights["colors"][label] if classes else 0)
    return np.tanh(shown + h[:, None] * weights["wave"]).reshape(frames, *SIZE)
