"""The second graph of a sampler of texts, which makes one token.

The graph `step.onnx` samples texts of any length, with another mask for each token, and by its
noise the same text as the whole network. A bundle is refused where the two differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from export.errors import one_line
from export.golden import load_golden
from export.manifest import Manifest
from export.network import open_network
from export.to_onnx import open_session, save_onnx, to_onnx
from keras_gan import layers
from serving.inputs import Input
from serving.manifest import MODEL
from serving.texts import START, STEP

_ROW = "onnx, token by token"  # of the figures
_TEMPERATURES = (1.0, 0.7, 0.0)  # at which the step is compared with the whole
_STATES = ("hidden", "cell")


def write_step(network: Any, to: Path, opset: int) -> None:
    """Writes the step of a sampler as ONNX."""
    sampler = layers.find_sampler(network.model)
    if sampler is None:
        raise ValueError("the network must sample texts")
    model = layers.step_model(sampler)
    labels = {"labels": {"fill": "class"}} if sampler.num_classes else {}
    given = {tensor.name: {"fill": "given"} for tensor in model.inputs}
    step = open_network(
        model, role="step", inputs={**given, **labels}, num_classes=sampler.num_classes
    )
    save_onnx(to_onnx(step, opset), to)


def compare(path: Path, manifest: Manifest) -> tuple[dict[str, dict[int, float]], list[str]]:
    """Compares the texts of the step with those of the whole network, token by token.

    Args:
        path: the bundle.
        manifest: its manifest.

    Returns:
        Share of the tokens that differ by name, for the number of texts, and a line for each
        problem.
    """
    golden = load_golden(path)
    inputs = {port.name: golden[port.name] for port in manifest.inputs}
    shape = golden[manifest.first.name].shape
    try:
        whole, step = (open_session(str(path / name)) for name in (MODEL, STEP))
        worst = 0.0
        for temperature in _TEMPERATURES:
            inputs["temperature"] = np.full(shape[0], temperature, np.float32)
            expected = np.asarray(whole.run([manifest.first.name], inputs)[0]).argmax(-1)
            found = _step_by_step(step, inputs, shape, manifest)
            worst = max(worst, float(np.mean(found != expected)))
    except Exception as error:  # onnxruntime raises a class for each failure
        return {}, [f"{MODEL} and {STEP} must load and run: {one_line(error)}"]
    problems = []
    if worst:
        problems = [
            f"{STEP} must make the texts of {MODEL}: {100 * worst:.2g} % of their tokens differ"
        ]
    return {_ROW: {shape[0]: worst}}, problems


def _step_by_step(step: Any, inputs: dict[str, np.ndarray], shape: Any, manifest: Manifest) -> Any:
    """Returns the token ids `(batch, length)` that the step makes of the inputs of the whole."""
    count, length, _ = shape
    facts = manifest.text or {}
    noise = inputs["latents"].reshape(shape)
    previous = np.full(count, START, np.int32)
    states: Any = {name: np.zeros((count, facts["width"]), np.float32) for name in _STATES}
    labels: Input | None = manifest.classes
    own = ["temperature", "mask", *([] if labels is None else [labels.name])]
    fixed = {name: inputs[name] for name in own}
    ids = np.zeros((count, length), np.int64)
    names = ["token", *(f"next_{name}" for name in _STATES)]
    for t in range(length):
        feeds = {"previous": previous, "noise": noise[:, t], **states, **fixed}
        token, *after = step.run(names, feeds)
        states = dict(zip(_STATES, after, strict=True))
        if facts["ends"]:
            token = np.where(previous == 0, 0, token).astype(np.int32)
        previous, ids[:, t] = token, token
    return ids
