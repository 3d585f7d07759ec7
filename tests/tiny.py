"""Tiny bundles for the tests of serving, written quickly with onnx and numpy."""

import hashlib
import io
import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import serving
from serving.manifest import SEEDS, digest

NAMES = ("shirt", "shoe", "bag")
LATENTS = 6


def clothes(to, seed=3, name="clothes"):
    """Writes a bundle of 8 x 8 images in three classes."""
    return write(to, name, "image", (8, 8, 3), LATENTS, NAMES, seed=seed)


def points(to):
    """Writes a bundle of points in the plane, without classes."""
    return write(to, "points", "points", (2,), 5)


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
    to.mkdir(parents=True)
    (to / "model.onnx").write_bytes(onnx.ModelProto.SerializeToString(model))
    manifest = {
        "schema_version": 1,
        "name": name,
        "kind": kind,
        "shape": list(shape),
        "value_range": [-1.0, 1.0],
        "latent_dim": latent_dim,
        "classes": {"count": len(names), "names": list(names)},
        "inputs": [
            {"name": key, "dtype": "float32" if key == "latents" else "int64", "shape": sizes}
            for key, _, sizes in inputs
        ],
        "files": {},
        "seeds": SEEDS,
        "license": "CC0-1.0",
        "intended_use": None,
        "notice": "The samples are generated.",
    }
    seal(to, manifest)
    drawn = serving.Bundle(to, threads=1, device="cpu").sample(range(8))
    buffer = io.BytesIO()
    np.savez(buffer, **drawn)
    (to / "golden.npz").write_bytes(buffer.getvalue())
    seal(to)
    return to


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
