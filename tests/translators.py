"""Tiny bundles of translators, from pictures of any size to pictures, written with onnx."""

import hashlib
import itertools
import json

import numpy as np
import tiny
from PIL import Image

from serving.inputs import Input, Port
from serving.manifest import digest
from serving.seeds import latents_from_seeds

RANGE = {"value_range": [-1.0, 1.0]}


def write(
    to, name, nodes, weights=None, *, scale=1, channels=(3, 3), examples=0, latents=0, **facts
):
    """Writes a bundle with the measured facts of a translator in its manifest, and examples."""
    height, width = ("height", "width") if scale == 1 else ("high", "wide")
    inputs = [Input("condition", "float32", ("height", "width", channels[0]), "image", RANGE)]
    if latents:
        inputs.insert(0, Input("latents", "float32", (latents,), "array", fill="normal"))
    outputs = [Port("samples", "float32", (height, width, channels[1]), "image", RANGE)]
    model = tiny.network(name, nodes, inputs, outputs, weights)
    tiny.save(to, name, model, inputs, outputs, "translator")
    found = {}
    rng = np.random.default_rng(0)
    for number in range(examples):
        (to / "examples").mkdir(exist_ok=True)
        file = to / "examples" / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)).save(file)
        data = file.read_bytes()
        facts_of_file = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        found[f"examples/{number}.png"] = facts_of_file
    return declare(to, found, scale=scale, **facts)


def declare(to, files=None, **facts):
    """Writes the measured facts of a translator to its manifest, and the names of more files."""
    content = json.loads((to / "manifest.json").read_text())
    content["translation"] = {
        "input": "condition",
        "output": "samples",
        "scale": 1,
        "multiple_of": 1,
        "min_side": 1,
        "radius": 0,
        "tileable": True,
    } | facts
    content["files"] |= files or {}
    content["digest"] = digest(content)
    (to / "manifest.json").write_text(json.dumps(content))
    return to


def _convolved(kernel, before=(), after=(), **attributes):
    """Returns nodes of a convolution of NHWC, and its weights."""
    size = kernel.shape[-1]
    pads = [size // 2] * 4
    nodes = [
        *before,
        ("Transpose", [before[-1][2][0] if before else "condition"], ["nchw"],
         {"perm": [0, 3, 1, 2]}),
        ("Conv", ["nchw", "kernel"], ["convolved"], {"pads": pads, **attributes}),
        *after,
        ("Transpose", [after[-1][2][0] if after else "convolved"], ["samples"],
         {"perm": [0, 2, 3, 1]}),
    ]  # fmt: skip
    return nodes, {"kernel": kernel.astype(np.float32)}


def blur(to, name="blur", **facts):
    """Writes a translator of radius 2: the mean of 5 x 5 pixels, with zeros at the border."""
    kernel = np.zeros((3, 3, 5, 5))
    kernel[range(3), range(3)] = 1 / 25
    nodes, weights = _convolved(kernel)
    return write(to, name, nodes, weights, radius=2, **facts)


def even(to, name="even"):
    """Writes a translator that takes even sizes only: the picture plus its mean of 2 x 2 pixels."""
    nodes = [
        ("Transpose", ["condition"], ["nchw"], {"perm": [0, 3, 1, 2]}),
        ("AveragePool", ["nchw"], ["half"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Resize", ["half", "", "scales"], ["whole"], {"mode": "nearest"}),
        ("Add", ["nchw", "whole"], ["sum"], {}),
        ("Mul", ["sum", "of_both"], ["mean"], {}),
        ("Transpose", ["mean"], ["samples"], {"perm": [0, 2, 3, 1]}),
    ]
    weights = {
        "scales": np.array([1, 1, 2, 2], np.float32),
        "of_both": np.array(0.5, np.float32),
    }
    return write(to, name, nodes, weights, multiple_of=2, min_side=2, radius=1)


def enlarge(to, name="enlarge", scale=4, **facts):
    """Writes a translator that repeats every pixel `scale` times along both axes."""
    nodes = [
        ("Transpose", ["condition"], ["nchw"], {"perm": [0, 3, 1, 2]}),
        ("Resize", ["nchw", "", "scales"], ["large"],
         {"mode": "nearest", "nearest_mode": "floor",
          "coordinate_transformation_mode": "asymmetric"}),
        ("Transpose", ["large"], ["samples"], {"perm": [0, 2, 3, 1]}),
    ]  # fmt: skip
    weights = {"scales": np.array([1, 1, scale, scale], np.float32)}
    return write(to, name, nodes, weights, scale=scale, **facts)


def centered(to, name="centered"):
    """Writes a translator that cannot be tiled: the picture minus half its mean."""
    nodes = [
        ("ReduceMean", ["condition"], ["mean"], {"axes": [1, 2, 3], "keepdims": 1}),
        ("Mul", ["mean", "half"], ["less"], {}),
        ("Sub", ["condition", "less"], ["samples"], {}),
    ]
    half = {"half": np.array(0.5, np.float32)}
    return write(to, name, nodes, half, radius=None, tileable=False)


def negative(to, name="negative", **facts):
    """Writes a translator to the negative of a picture, which is its own inverse."""
    return write(to, name, [("Neg", ["condition"], ["samples"], {})], **facts)


def tinted(to, name="tinted", **facts):
    """Writes a translator of many answers: half of the picture, and a tenth of latents as color."""
    nodes = [
        ("Unsqueeze", ["latents", "axes"], ["color"], {}),
        ("Mul", ["condition", "half"], ["pale"], {}),
        ("Mul", ["color", "tenth"], ["tint"], {}),
        ("Add", ["pale", "tint"], ["samples"], {}),
    ]
    weights = {
        "axes": np.array([1, 2], np.int64),
        "half": np.array(0.5, np.float32),
        "tenth": np.array(0.1, np.float32),
    }
    return write(to, name, nodes, weights, latents=3, **facts)


def tint(pixels, seed):
    """Returns the answer of `tinted` to uint8 pixels, not rounded."""
    color = latents_from_seeds([seed], 3)[0].astype(np.float64)
    return np.clip(((pixels / 127.5 - 1) / 2 + color / 10 + 1) * 127.5, 0, 255)


def slow(to, name="slow", width=96, depth=6):
    """Writes a translator that takes about 100 ms for 64 x 64 pixels: `depth` convolutions."""
    rng = np.random.default_rng(0)
    sizes = [3, *[width] * (depth - 1), 3]
    weights, nodes, last = {}, [("Transpose", ["condition"], ["x"], {"perm": [0, 3, 1, 2]})], "x"
    for i, (before, after) in enumerate(itertools.pairwise(sizes)):
        weights[f"kernel{i}"] = rng.normal(0, (9 * before) ** -0.5, (after, before, 3, 3)).astype(
            np.float32
        )
        nodes += [("Conv", [last, f"kernel{i}"], [f"c{i}"], {"pads": [1] * 4}),
                  ("Tanh", [f"c{i}"], [f"t{i}"], {})]  # fmt: skip
        last = f"t{i}"
    nodes.append(("Transpose", [last], ["samples"], {"perm": [0, 2, 3, 1]}))
    return write(to, name, nodes, weights, radius=depth)
