"""Tiny bundles that sample texts, written quickly with onnx: a chain of tokens."""

import hashlib
import json

import numpy as np
import onnx
import tiny

from serving.inputs import Input, Port
from serving.manifest import digest

LETTERS = ("", "a", "b", "c", "d", " ")
WIDTH = 3


def write(to, name="chain", tokens=LETTERS, length=8, ends=True, depth=0):
    """Writes a bundle: the logits of a token are a row of a table, by the token before.

    Args:
        depth: number of products of large matrices in a step, for slow ones.
    """
    size, rng = len(tokens), np.random.default_rng(0)
    meta = {"vocabulary": list(tokens), "value_range": [0.0, 1.0]}
    inputs = [
        Input("latents", "float32", (length * size,), "array", fill="normal"),
        Input("temperature", "float32", (), "array", fill="constant", value=1.0),
        Input("prefix", "int32", (length,), "array", fill="constant", value=-1.0),
        Input("mask", "float32", (size,), "array", fill="constant", value=1.0),
    ]
    outputs = [Port("samples", "float32", (length, size), "text", meta)]
    nodes = [
        ("Reshape", ["latents", "shape"], ["noise"], {}),
        ("Softmax", ["noise"], ["samples"], {"axis": 2}),
    ]
    weights = {"shape": np.array([0, length, size], np.int64)}
    model = tiny.network(name, nodes, inputs, outputs, weights)
    tiny.save(to, name, model, inputs, outputs)
    onnx.save_model(step(rng.normal(0, 2, (size + 1, size)), depth), to / "step.onnx")
    content = (to / "step.onnx").read_bytes()
    manifest = json.loads((to / "manifest.json").read_text())
    manifest["text"] = {"width": WIDTH, "ends": ends}
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    manifest["files"]["step.onnx"] = facts
    manifest["digest"] = digest(manifest)
    (to / "manifest.json").write_text(json.dumps(manifest))
    return to


def step(table, depth=0):
    """Builds the step of a chain: argmax of a row of the table + temperature * noise."""
    size = table.shape[1]
    inputs = [
        Port("previous", "int32", ()),
        Port("hidden", "float32", (WIDTH,)),
        Port("cell", "float32", (WIDTH,)),
        Port("noise", "float32", (size,)),
        Port("temperature", "float32", ()),
        Port("mask", "float32", (size,)),
    ]
    outputs = [
        Port("token", "int32", ()),
        Port("next_hidden", "float32", (WIDTH,)),
        Port("next_cell", "float32", (WIDTH,)),
        Port("log_probability", "float32", ()),
    ]
    nodes = [
        ("Add", ["previous", "one"], ["row"], {}),
        ("Gather", ["table", "row"], ["logits"], {}),
        ("Unsqueeze", ["temperature", "axis"], ["factor"], {}),
        ("Mul", ["noise", "factor"], ["scaled"], {}),
        ("Add", ["logits", "scaled"], ["scores"], {}),
        ("Sub", ["mask", "unit"], ["closed"], {}),
        ("Mul", ["closed", "large"], ["excluded"], {}),
        ("Add", ["scores", "excluded"], ["allowed"], {}),
        ("ArgMax", ["allowed"], ["chosen"], {"axis": 1, "keepdims": 0}),
        ("Cast", ["chosen"], ["token"], {"to": onnx.TensorProto.INT32}),
        ("LogSoftmax", ["logits"], ["logs"], {"axis": 1}),
        ("Unsqueeze", ["chosen", "axis"], ["column"], {}),
        ("GatherElements", ["logs", "column"], ["found"], {"axis": 1}),
        ("Squeeze", ["found", "axis"], ["log_probability"], {}),
        ("Identity", ["cell"], ["next_cell"], {}),
    ]
    weights = {
        "table": table.astype(np.float32),
        "one": np.array(1, np.int32),
        "axis": np.array([1], np.int64),
        "unit": np.array(1, np.float32),
        "large": np.array(1e9, np.float32),
    }
    last = "hidden"
    if depth:
        weights["wide"] = np.full((WIDTH, 1500), 1e-3, np.float32)
        weights["square"] = np.full((1500, 1500), 1e-4, np.float32)
        weights["narrow"] = np.zeros((1500, WIDTH), np.float32)
        nodes.append(("MatMul", ["hidden", "wide"], ["w0"], {}))
        for i in range(depth):
            nodes.append(("MatMul", [f"w{i}", "square"], [f"w{i + 1}"], {}))
        nodes.append(("MatMul", [f"w{depth}", "narrow"], ["rest"], {}))
        last = "rest"
    nodes.append(("Identity", [last], ["next_hidden"], {}))
    return tiny.network("step", nodes, inputs, outputs, weights)
