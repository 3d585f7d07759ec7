"""Tiny bundles of texts for the tests: from seeds, a temperature and a prefix."""

import numpy as np
import tiny

from serving.inputs import Input, Port

LENGTH = 8
LETTERS = ["", "a", "b", "c", " ", "\n"]  # "" ends a text


def writer(to, tokens=LETTERS, fill="constant"):
    """Writes a bundle of texts: the token of the largest logit at each step after the prefix.

    The logits are a linear map of the latents, divided by the temperature, plus another map of
    the latents. The prefix holds ids, and -1 where the network chooses.
    """
    rng = np.random.default_rng(6)
    size = len(tokens)
    meta = {"vocabulary": list(tokens)}
    prefix = Input("prefix", "int64", (LENGTH,), "text", meta)
    if fill == "constant":
        limits = {"value_range": [-1, size - 1]}
        prefix = Input("prefix", "int64", (LENGTH,), "array", limits, fill="constant", value=-1.0)
    inputs = [
        Input("latents", "float32", (tiny.LATENTS,), "array", fill="normal"),
        Input("temperature", "float32", (), "array", fill="constant", value=1.0),
        prefix,
    ]
    outputs = [Port("samples", "float32", (LENGTH, size), "text", meta)]
    weights = {
        "logits_of": rng.normal(size=(tiny.LATENTS, LENGTH * size)).astype("float32"),
        "noise_of": rng.normal(size=(tiny.LATENTS, LENGTH * size)).astype("float32"),
        "shape": np.array([0, LENGTH, size], np.int64),  # 0: as it is
        "last": np.array([-1], np.int64),
        "zero": np.array(0, np.int64),
        "depth": np.array(size, np.int64),
        "values": np.array([0, 1], np.float32),
    }
    nodes = [
        ("MatMul", ["latents", "logits_of"], ["logits"], {}),
        ("Unsqueeze", ["temperature", "last"], ["divisor"], {}),
        ("Div", ["logits", "divisor"], ["divided"], {}),
        ("MatMul", ["latents", "noise_of"], ["noise"], {}),
        ("Add", ["divided", "noise"], ["sum"], {}),
        ("Reshape", ["sum", "shape"], ["steps"], {}),
        ("ArgMax", ["steps"], ["chosen"], {"axis": 2, "keepdims": 0}),
        ("Less", ["prefix", "zero"], ["free"], {}),
        ("Where", ["free", "chosen", "prefix"], ["ids"], {}),
        ("OneHot", ["ids", "depth", "values"], ["samples"], {}),
    ]
    name = "writer" if fill == "constant" else "continuer"
    return tiny.save(to, name, tiny.network(name, nodes, inputs, outputs, weights), inputs, outputs)
