"""Graphs that bundles of some networks have beside the model: how they are written and compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from export import endless, front, streaming, text_step
from export.manifest import Manifest
from export.network import Network
from serving.endless import FILE_NAME as STREAM
from serving.manifest import MODEL
from serving.mel import Mel
from serving.texts import STEP

Figures = dict[str, dict[int, float]]


class SecondGraph(NamedTuple):
    """A graph beside the model.

    Args:
        facts: field of the manifest that bundles with this graph have.
        file: its file.
        noun: phrase for it.
        write: function that writes it, from the network, the draft of its manifest, the path and
            the opset.
        compare: function that compares it with the model or with the training, from the bundle, its
            manifest and the tolerance, to differences and a line for each problem.
    """

    facts: str
    file: str
    noun: str
    write: Callable[[Network, Manifest, Path, int], None]
    compare: Callable[[Path, Manifest, float], tuple[Figures, list[str]]]


def find(manifest: Manifest) -> list[SecondGraph]:
    """Returns the graphs that a bundle has beside its model."""
    return [graph for graph in GRAPHS if getattr(manifest, graph.facts) is not None]


def _write_front(network: Network, draft: Manifest, to: Path, opset: int) -> None:
    front.write_front(Mel.from_meta(draft.inputs[0].meta["mel"]), to)


def _compare_front(path: Path, manifest: Manifest, tolerance: float) -> tuple[Figures, list[str]]:
    context = (manifest.audio or {})["context"]
    return streaming.compare(path, path / MODEL, manifest.inputs[0], context)


GRAPHS = (
    SecondGraph("audio", front.FILE_NAME, "front end", _write_front, _compare_front),
    SecondGraph(
        "video",
        STREAM,
        "graph of endless video",
        lambda network, draft, to, opset: endless.write_stream(network, to, opset),
        endless.compare,
    ),
    SecondGraph(
        "text",
        STEP,
        "step from token to token",
        lambda network, draft, to, opset: text_step.write_step(network, to, opset),
        lambda path, manifest, tolerance: text_step.compare(path, manifest),
    ),
)
