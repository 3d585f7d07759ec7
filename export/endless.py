"""Endless video: the graph `stream.onnx` that makes the next frames, its facts and its check.

A bundle is refused where the chunks do not equal the whole clip.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from export.errors import one_line
from export.golden import load_golden
from export.manifest import Manifest
from export.network import Network, open_network
from export.to_onnx import open_session, save_onnx, to_onnx
from keras_gan import endless
from serving.endless import FILE_NAME, OUTPUTS, VideoFacts, find_video
from serving.inputs import Inputs
from serving.video_rules import has_frames

_ROW = "onnx, in chunks"  # of the figures
_CLIPS = 4  # golden clips that are compared


def describe(network: Network) -> dict[str, Any] | None:
    """Returns `video` of the manifest of a generator of endless video; `None` for any other.

    | fact | meaning |
    |---|---|
    | `content_dim` | latents of the content, the first ones |
    | `start_dim` | latents of the first state, the next ones |
    | `motion_dim` | latents of each frame, which follow |
    | `state` | numbers of the state that is carried from chunk to chunk |
    | `chunk` | frames of a run of `stream.onnx` |
    """
    split = endless.find_split(network.model)
    if split is None or not has_frames(network.outputs[0].kind) or len(network.outputs) != 1:
        return None
    fills = [port.fill for port in network.inputs]
    if fills not in (["normal"], ["normal", "class"]):
        return None
    names = ("content_dim", "start_dim", "motion_dim")
    return {name: getattr(split, name) for name in names} | {
        "state": endless.state_size(network.model),
        "chunk": endless.CHUNK,
    }


def write_stream(network: Network, to: Path, opset: int) -> None:
    """Writes the graph that makes the next frames of videos, see `keras_gan.endless.in_chunks`."""
    model = endless.in_chunks(network.model)
    given = {name: {"fill": "given"} for name in ("content", "noise", "state")}
    (classes,) = [port for port in network.inputs if port.fill == "class"] or [None]
    count = 0 if classes is None else classes.num_classes
    found = open_network(model, role="stream", inputs=given, num_classes=count)
    onnx_model = to_onnx(dataclasses.replace(found, first=None), opset)
    onnx_model.doc_string = "Next frames of videos, from the state of the last ones"
    save_onnx(onnx_model, to)


def compare(
    path: Path, manifest: Manifest, tolerance: float
) -> tuple[dict[str, dict[int, float]], list[str]]:
    """Compares golden clips, made in chunks, with the whole ones.

    Args:
        path: the bundle.
        manifest: its manifest, with `video`.
        tolerance: largest difference that is accepted, as a share of the range of the samples.

    Returns:
        The largest difference, and a line for each problem.
    """
    facts = find_video(manifest.video, Inputs(list(manifest.inputs)), manifest.outputs)
    try:
        figure = chunk_difference(path, manifest, facts)
    except Exception as error:  # onnxruntime raises a class for each failure
        return {}, [f"{FILE_NAME} must load and run: {one_line(error)}"]
    figures = {_ROW: {1: figure}}
    if figure <= tolerance:
        return figures, []
    return figures, [
        f"Chunks of {facts.chunk} frames must equal the whole clip within {tolerance:g}: they "
        f"differ by {figure:.3g}"
    ]


def chunk_difference(path: Path, manifest: Manifest, facts: VideoFacts) -> float:
    """Returns the largest difference of chunks from golden clips, over the range of the samples."""
    golden = load_golden(path)
    session = open_session(str(path / FILE_NAME))
    low, high = manifest.first.meta.get("value_range") or (-1.0, 1.0)
    names = [port.name for port in manifest.inputs]
    worst = 0.0
    for row in range(min(_CLIPS, len(golden[names[0]]))):
        latents = golden[names[0]][row]
        label = golden[names[1]][row] if len(names) > 1 else None
        film = facts.film_of(latents, label)
        whole = golden[manifest.first.name][row]
        parts = list(film.chunks(len(whole), lambda feeds: _run(session, feeds)))
        worst = max(worst, float(np.abs(np.concatenate(parts) - whole).max()) / (high - low))
    return worst


def _run(session: Any, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return session.run(list(OUTPUTS), feeds)
