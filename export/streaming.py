"""Streaming facts of an exported vocoder; checks of its chunks and of its front end.

A chunk of frames is computed from these and `context` more on each side, as far as the clip goes.
A bundle is refused where the chunks do not equal the whole.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from export.errors import one_line
from export.front import FILE_NAME as FRONT
from export.network import Network
from export.sizes import Sizes
from export.to_onnx import open_session
from export.vocoder import find
from serving.inputs import Port
from serving.kinds.mel import definition_of
from serving.mel import Mel
from serving.vocoding import ROLE, chunks_of

SAMPLES = "samples"  # name of the free length of the output
FRAMES = (50, 1, 7, 51, 200)  # tested lengths
CHUNKS = (1, 7, 25, 100)  # frames of the tested chunks
TOLERANCE = 1e-5  # of the chunks, in the samples
FRONT_TOLERANCE = 1e-4  # of the front end, in the logarithms
_CHUNKED, _FRONT = "onnx, in chunks", "front end"  # rows of the figures
_CLIP = 160  # frames of the clip that is computed in chunks
_LENGTHS = (1, 63, 64, 1000, 8000)  # samples of the clips of the front end


def describe(network: Network) -> tuple[Network, dict[str, Any] | None]:
    """Returns a vocoder with its sizes named and tested, and `audio` of its manifest.

    | fact | meaning |
    |---|---|
    | `context` | frames before and after a chunk on which its samples depend |

    Any other network is returned as it is, with `None`.
    """
    found = find(network.model)
    if network.role != ROLE or found is None:
        return network, None
    layer, hop = found[0], found[0].mel.hop
    frames, first = network.inputs[0].shape[0], network.outputs[0]
    if not isinstance(frames, str) or not isinstance(first.shape[0], str):
        return network, None
    sizes: list[Sizes] = [{frames: n, SAMPLES: n * hop} for n in FRAMES]
    output: Port = first.replace(shape=(SAMPLES, *first.shape[1:]))
    named = dataclasses.replace(network, outputs=(output, *network.outputs[1:]), sizes=tuple(sizes))
    return named, {"context": layer.context}


def compare(
    path: Path, model: Path, port: Port, context: int | None
) -> tuple[dict[str, dict[int, float]], list[str]]:
    """Compares chunks with the whole, and the front end with the definition of the spectrograms.

    Args:
        path: the bundle.
        model: its ONNX model.
        port: the input of the network.
        context: `audio.context` of the manifest, `None` for a network without a finite one.

    Returns:
        Largest differences by name, for a batch of 1, and a line for each problem.
    """
    mel = definition_of(port.meta)
    if mel is None:
        return {}, [f"The input {port.name!r} must have the definition of its spectrograms"]
    figures = {}
    try:
        if context is not None:
            figures[_CHUNKED] = {1: chunk_difference(model, port.name, mel, context)}
        figures[_FRONT] = {1: front_difference(path / FRONT, mel)}
    except Exception as error:  # onnxruntime raises a class for each failure
        return {}, [f"{model.name} and {FRONT} must load and run: {one_line(error)}"]
    rules = {
        _CHUNKED: (TOLERANCE, f"Chunks with {context} frames of context must equal the whole"),
        _FRONT: (FRONT_TOLERANCE, f"{FRONT} must return the spectrograms of the training"),
    }
    problems = [
        f"{rules[name][1]} within {rules[name][0]:g}: they differ by {by_batch[1]:.3g}"
        for name, by_batch in figures.items()
        if not by_batch[1] <= rules[name][0]
    ]
    return figures, problems


def chunk_difference(model: Path, name: str, mel: Mel, context: int) -> float:
    """Returns the largest difference of samples that are computed in chunks from the whole."""
    session = open_session(str(model))
    rng = np.random.default_rng(0)
    levels = rng.uniform(np.log(mel.floor), -2.0, (1, _CLIP, mel.mels)).astype(np.float32)
    output = session.get_outputs()[0].name

    def run(part: np.ndarray) -> np.ndarray:
        return np.asarray(session.run([output], {name: part})[0])[0, :, 0]

    whole = run(levels)
    return max(
        float(np.abs(in_chunks(run, levels, frames, context, mel.hop) - whole).max())
        for frames in CHUNKS
    )


def in_chunks(run: Any, levels: np.ndarray, frames: int, context: int, hop: int) -> np.ndarray:
    """Returns the samples of a spectrogram, computed chunk by chunk.

    Args:
        run: function from `(1, frames, mels)` to samples `(time,)`.
        levels: the spectrogram, `(1, frames, mels)`.
        frames: frames of a chunk.
        context: frames before and after a chunk that are computed with it.
        hop: samples of a frame.
    """
    chunks = chunks_of(levels.shape[1], frames, context, hop)
    return np.concatenate([run(levels[:, chunk.window])[chunk.crop] for chunk in chunks])


def front_difference(front: Path, mel: Mel) -> float:
    """Returns the largest difference of the front end from `Mel`, in the logarithms."""
    session = open_session(str(front))
    rng = np.random.default_rng(0)
    worst = 0.0
    for length in _LENGTHS:
        tone = 0.5 * np.sin(0.3 * np.arange(length))
        loudness = 10.0 ** rng.uniform(-4, 0, (3, 1))
        waves = [*(loudness * rng.uniform(-1, 1, (3, length))), tone, np.zeros(length)]
        batch = np.stack(waves).astype(np.float32)
        found = np.asarray(session.run(None, {"samples": batch})[0])
        worst = max(worst, float(np.abs(found - mel(batch)).max()))
    return worst
