"""Tiny bundles for the tests of serving, written quickly with onnx and numpy."""

import hashlib
import io
import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import serving
from serving.inputs import Input, Port
from serving.manifest import SEEDS, digest

NAMES = ("shirt", "shoe", "bag")
LATENTS = 6


def clothes(to, seed=3, name="clothes"):
    """Writes a bundle of 8 x 8 images in three classes."""
    return write(to, name, "image", (8, 8, 3), LATENTS, NAMES, seed=seed)


def points(to):
    """Writes a bundle of points in the plane, without classes."""
    return write(to, "points", "points", (2,), 5)


def steered(to, categorical=(3,), continuous=2):
    """Writes a bundle of 8 x 8 images: tanh of a linear map of the latents and of the codes."""
    rng = np.random.default_rng(4)
    count = len(categorical) + continuous
    meta = {"categorical": list(categorical), "continuous": continuous}
    inputs = [
        Input("latents", "float32", (LATENTS,), "array", fill="normal"),
        Input("codes", "float32", (count,), "codes", meta, "constant", value=-2.0),
    ]
    output = Port("samples", "float32", (8, 8, 1), "image", {"value_range": [-1.0, 1.0]})
    weights = {
        "of_latents": rng.normal(size=(LATENTS, 64)).astype("float32"),
        "of_codes": rng.normal(size=(count, 64)).astype("float32"),
        "shape": np.array([0, 8, 8, 1], np.int64),  # 0: as it is
    }
    nodes = [
        ("MatMul", ["latents", "of_latents"], ["x"], {}),
        ("MatMul", ["codes", "of_codes"], ["y"], {}),
        ("Add", ["x", "y"], ["z"], {}),
        ("Tanh", ["z"], ["t"], {}),
        ("Reshape", ["t", "shape"], ["samples"], {}),
    ]
    model = network("steered", nodes, inputs, [output], weights)
    save(to, "steered", model, inputs, [output])
    drawn = serving.Bundle(to, threads=1, device="cpu").sample(range(8))
    buffer = io.BytesIO()
    np.savez(buffer, **drawn)
    (to / "golden.npz").write_bytes(buffer.getvalue())
    seal(to)
    return to


def rows(to):
    """Writes a bundle of series."""
    return write(to, "rows", "series", (4, 3), 5)


def slow(to, depth=60):
    """Writes a bundle of images that take about 20 ms each."""
    return write(to, "slow", "image", (32, 32, 1), 5, depth=depth)


def write(to, name, kind, shape, latent_dim, names=(), seed=0, depth=0):
    """Writes a bundle: tanh of a linear map of the latents, and of the class."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    weights = {
        "kernel": rng.normal(size=(latent_dim, size)).astype("float32"),
        "shape": np.array([0, *shape], np.int64),  # 0: as it is
    }
    nodes = [helper.make_node("MatMul", ["latents", "kernel"], ["x0"])]
    inputs = [("latents", TensorProto.FLOAT, ["batch", latent_dim])]
    if names:
        weights["classes"] = rng.normal(size=(len(names), size)).astype("float32")
        nodes += [
            helper.make_node("Gather", ["classes", "labels"], ["y"]),
            helper.make_node("Add", ["x0", "y"], ["x"]),
        ]
        inputs.append(("labels", TensorProto.INT64, ["batch"]))
    else:
        nodes.append(helper.make_node("Identity", ["x0"], ["x"]))
    if depth:
        weights["mix"] = (rng.normal(size=(size, size)) / size**0.5).astype("float32")
    last = "x"
    for i in range(depth):
        nodes.append(helper.make_node("MatMul", [last, "mix"], [f"m{i}"]))
        last = f"m{i}"
    nodes += [
        helper.make_node("Tanh", [last], ["t"]),
        helper.make_node("Reshape", ["t", "shape"], ["samples"]),
    ]
    output = helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["batch", *shape])
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(*port) for port in inputs],
        [output],
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    ports = [Input("latents", "float32", (latent_dim,), "array", fill="normal")]
    if names:
        meta = {"num_classes": len(names), "class_names": list(names)}
        ports.append(Input("labels", "int64", (), "label", meta, fill="class", stream=1))
    samples = Port("samples", "float32", tuple(shape), kind, {"value_range": [-1.0, 1.0]})
    save(to, name, model, ports, [samples])
    drawn = serving.Bundle(to, threads=1, device="cpu").sample(range(8))
    buffer = io.BytesIO()
    np.savez(buffer, **drawn)
    (to / "golden.npz").write_bytes(buffer.getvalue())
    seal(to)
    return to


def save(to, name, model, inputs, outputs, role="generator"):
    """Writes a bundle of a model, its declared inputs and its outputs, without golden samples."""
    to.mkdir(parents=True)
    (to / "model.onnx").write_bytes(onnx.ModelProto.SerializeToString(model))
    manifest = {
        "schema_version": 2,
        "name": name,
        "role": role,
        "inputs": [port.to_json() for port in inputs],
        "outputs": [port.to_json() for port in outputs],
        "files": {},
        "seeds": SEEDS,
        "license": "CC0-1.0",
        "intended_use": None,
        "notice": "The samples are generated.",
    }
    seal(to, manifest)
    return to


def network(name, nodes, inputs, outputs, weights=None):
    """Builds an ONNX model; inputs and outputs are ports."""

    def value(port):
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype))
        return helper.make_tensor_value_info(port.name, kind, ["batch", *port.shape])

    graph = helper.make_graph(
        [helper.make_node(op, ins, outs, **attributes) for op, ins, outs, attributes in nodes],
        name,
        [value(port) for port in inputs],
        [value(port) for port in outputs],
        [numpy_helper.from_array(array, key) for key, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


RANGE = {"value_range": [-1.0, 1.0]}


def translator(to):
    """Writes a bundle from pictures of any size, and noise maps, to pictures of the same size.

    y = tanh(x[..., ::-1] + 0.1 noise): the channels are exchanged.
    """
    inputs = [
        Input("picture", "float32", ("height", "width", 3), "image", RANGE),
        Input("noise", "float32", ("height", "width", 1), "array", fill="normal"),
    ]
    outputs = [Port("samples", "float32", ("height", "width", 3), "image", RANGE)]
    nodes = [
        ("Gather", ["picture", "order"], ["exchanged"], {"axis": 3}),
        ("Mul", ["noise", "tenth"], ["small"], {}),
        ("Add", ["exchanged", "small"], ["sum"], {}),
        ("Tanh", ["sum"], ["samples"], {}),
    ]
    weights = {"order": np.array([2, 1, 0], np.int64), "tenth": np.array(0.1, np.float32)}
    model = network("translator", nodes, inputs, outputs, weights)
    return save(to, "translator", model, inputs, outputs, "translator")


def recolored(to, names):
    """Writes a bundle from pictures of any size, and classes, to pictures: y = tanh(x + class)."""
    meta = {"num_classes": len(names), "class_names": list(names)}
    inputs = [
        Input("picture", "float32", ("height", "width", 3), "image", RANGE),
        Input("labels", "int64", (), "label", meta, fill="class"),
    ]
    outputs = [Port("samples", "float32", ("height", "width", 3), "image", RANGE)]
    nodes = [
        ("Gather", ["colors", "labels"], ["color"], {}),
        ("Add", ["picture", "color"], ["sum"], {}),
        ("Tanh", ["sum"], ["samples"], {}),
    ]
    colors = np.linspace(-1, 1, len(names), dtype=np.float32).reshape(-1, 1, 1, 1)
    model = network("recolored", nodes, inputs, outputs, {"colors": colors})
    return save(to, "recolored", model, inputs, outputs, "translator")


def two_latents(to):
    """Writes a bundle of sounds from two latent vectors, a truncation and two outputs."""
    inputs = [
        Input("content", "float32", (16,), "array", fill="normal"),
        Input("style", "float32", (16,), "array", fill="uniform", stream=1, value=(-1.0, 1.0)),
        Input("truncation", "float32", (), "array", fill="constant", value=1.0),
    ]
    outputs = [
        Port("samples", "float32", (16, 1), "audio", RANGE | {"sample_rate": 8000}),
        Port("energy", "float32", (1,), "array"),
    ]
    nodes = [
        ("Unsqueeze", ["truncation", "last"], ["factor"], {}),
        ("Mul", ["content", "factor"], ["cut"], {}),
        ("Add", ["cut", "style"], ["sum"], {}),
        ("Tanh", ["sum"], ["wave"], {}),
        ("Unsqueeze", ["wave", "last"], ["wave_column"], {}),
        ("Identity", ["wave_column"], ["samples"], {}),
        ("ReduceSumSquare", ["wave"], ["energy"], {"axes": [1], "keepdims": 1}),
    ]
    weights = {"last": np.array([-1], np.int64)}
    model = network("two-latents", nodes, inputs, outputs, weights)
    return save(to, "two-latents", model, inputs, outputs)


def conditioned(to):
    """Writes a bundle of table rows from latents and a given vector: columns 0 to 2 and 3."""
    inputs = [
        Input("latents", "float32", (3,), "array", fill="normal"),
        Input("condition", "float32", (1,), "table", {"columns": ["age"]}),
    ]
    meta = {"columns": ["a", "b", "c", "age"]}
    outputs = [Port("samples", "float32", (4,), "table", meta)]
    nodes = [("Concat", ["latents", "condition"], ["samples"], {"axis": 1})]
    model = network("conditioned", nodes, inputs, outputs)
    return save(to, "conditioned", model, inputs, outputs)


def classifier(to, role="classifier"):
    """Writes a bundle from 4 x 4 pictures to probabilities of three classes, and a score.

    Of another role, it is a network with a given picture and no more.
    """
    kernel = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    return linear_classifier(to, role, (4, 4, 1), kernel, role=role)


def linear_classifier(to, name, shape, kernel, names=NAMES, role="classifier"):
    """Writes a bundle whose probabilities are the softmax of products of the values of a sample.

    Args:
        to: the folder.
        name: of the model.
        shape: of a sample: a picture, if it has three axes, or a point.
        kernel: `(values, 3)`.
        names: of the classes, or none.
        role: of the network.
    """
    kind = "image" if len(shape) == 3 else "points"
    inputs = [Input("picture", "float32", shape, kind, RANGE)]
    meta = {"num_classes": 3} | ({"class_names": list(names)} if names else {})
    outputs = [
        Port("classes", "float32", (3,), "label", meta),
        Port("novelty", "float32", (1,), "array"),
    ]
    nodes = [
        ("Reshape", ["picture", "flat"], ["pixels"], {}),
        ("MatMul", ["pixels", "kernel"], ["logits"], {}),
        ("Softmax", ["logits"], ["classes"], {"axis": 1}),
        ("ReduceLogSumExp", ["logits"], ["novelty"], {"axes": [1], "keepdims": 1}),
    ]
    weights = {"flat": np.array([0, len(kernel)], np.int64), "kernel": kernel}
    model = network(name, nodes, inputs, outputs, weights)
    return save(to, name, model, inputs, outputs, role)


def seal(bundle, manifest=None):
    """Corrects the hashes and the digest of a bundle, as a forger would."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text()) if manifest is None else manifest
    for name in ("model.onnx", "golden.npz"):
        if (bundle / name).is_file():
            data = (bundle / name).read_bytes()
            facts = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            manifest["files"][name] = facts
    manifest["digest"] = digest(manifest)
    path.write_text(json.dumps(manifest))


def flip(path):
    """Flips a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
