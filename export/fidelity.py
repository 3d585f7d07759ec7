"""Fidelity of a model in reduced precision: Frechet distances of its samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx

from export.golden import example_inputs
from export.manifest import Manifest
from export.passes.graph import Graph
from export.sizes import resolve
from export.to_onnx import open_session
from keras_gan import datasets, metrics

MOST, FEWEST = 4096, 512  # samples for one distance
PROJECTIONS = 64
_OPERATIONS = 1e12  # budget for the samples of one distance
_BATCH = 64

Features = Callable[[np.ndarray], np.ndarray]


def inputs_of(manifest: Manifest, seeds: Iterable[int]) -> dict[str, np.ndarray]:
    """Returns the inputs that seeds determine, and example values of all other inputs."""
    numbers = np.array(list(seeds), np.int64)
    rng = np.random.default_rng(int(numbers[0]))
    return example_inputs(manifest.inputs, numbers, manifest.sizes[0], rng)


class Fidelity:
    """Frechet distance of a model's samples, compared with that of the float32 model.

    For models trained on Fashion-MNIST according to their manifest, it is the distance to the
    10,000 images that keras_gan includes, in the features of its classifier. Other models have no
    such reference: theirs is the distance to float32 samples of other seeds, in 64 fixed random
    projections. The float32 model's own distance to those is only the sampling error, so a change
    of 5 % there is far less than a change of 5 % in a distance to data.

    Args:
        manifest: manifest of the bundle.
        model: its float32 model.
        count: samples for each distance; by default as many as 1e12 operations allow, 512 to
            4096.
    """

    def __init__(self, manifest: Manifest, model: onnx.ModelProto, count: int | None = None):
        self.count = count or _affordable(model)
        self._manifest = manifest
        if _is_fashion_mnist(manifest):
            extractor = metrics.open_features("fashion_mnist", manifest.spec())
            self._features: Features = lambda samples: extractor(samples)[0]
            self._first = 0
            self.features = f"fashion_mnist (SHA-256 {extractor.sha256})"
            self.reference = "the 10,000 images of Fashion-MNIST that come with keras_gan"
            self._reference = _moments(_embedded_images(), self._features)
        else:
            self._features = _projections(manifest)
            self._first = self.count
            self.features = f"{PROJECTIONS} fixed random projections, or as many as values"
            self.reference = f"{self.count} samples of the float32 model from other seeds"
            self._reference = _moments(self._samples(model, 0), self._features)
        self.float32 = self.distance(model)

    def distance(self, model: onnx.ModelProto) -> float:
        """Returns the Frechet distance of a model's samples to the reference."""
        moments = _moments(self._samples(model, self._first), self._features)
        return metrics.frechet_distance(self._reference, moments)

    def change(self, model: onnx.ModelProto) -> float:
        """Returns the change of the distance relative to that of the float32 model."""
        return self.distance(model) / max(self.float32, 1e-12) - 1

    def describe(self, change: float) -> dict[str, Any]:
        """Returns the record of a change for the manifest."""
        return {
            "change": change,
            "float32": self.float32,
            "reference": self.reference,
            "features": self.features,
            "samples": self.count,
        }

    def _samples(self, model: onnx.ModelProto, first: int) -> Iterable[np.ndarray]:
        session = open_session(model.SerializeToString())
        for start in range(first, first + self.count, _BATCH):
            feeds = inputs_of(self._manifest, range(start, start + _BATCH))
            yield np.asarray(session.run([self._manifest.first.name], feeds)[0])


def _moments(batches: Iterable[np.ndarray], features: Features) -> metrics.Moments:
    moments = metrics.Moments()
    for samples in batches:
        moments.update(features(samples))
    return moments


def _is_fashion_mnist(manifest: Manifest) -> bool:
    data = (manifest.training or {}).get("data")
    described = str(data.get("description")) if isinstance(data, dict) else ""
    first = manifest.first
    fits = first.shape == (28, 28, 1) and first.meta.get("value_range") == [-1.0, 1.0]
    return fits and described.startswith("fashion-mnist")


def _embedded_images() -> Iterable[np.ndarray]:
    source = datasets.open("fashion-mnist-10k", labels=False)
    for split in ("train", "held_out"):
        for batch in source.dataset(split, 500, shuffle=False, drop_remainder=False):
            yield np.asarray(batch)


def _projections(manifest: Manifest) -> Features:
    """Returns a count sketch: sums with fixed random signs, each over another 64th of the values.

    A count sketch preserves distances, at the cost of reading the values once.
    """
    size = math.prod(resolve(manifest.first.shape, manifest.sizes[0]))
    value_range = manifest.first.meta.get("value_range")
    count = min(PROJECTIONS, size)
    rng = np.random.default_rng(0)
    signs = rng.choice(np.array([-1, 1], np.float32), size)
    places = np.argsort(rng.permutation(size) % count, kind="stable")
    starts = np.searchsorted(np.sort(np.arange(size) % count), np.arange(count))

    def features(samples: np.ndarray) -> np.ndarray:
        flat = np.asarray(samples, np.float32).reshape(len(samples), -1)
        if value_range:
            flat = np.clip(flat, *value_range)
        return np.add.reduceat((flat * signs)[:, places], starts, axis=1)

    return features


def _affordable(model: onnx.ModelProto) -> int:
    """Returns the number of samples for a distance, independent of the load of the machine."""
    samples = int(_OPERATIONS / max(_operations(model), 1.0))
    return min(MOST, max(FEWEST, samples // _BATCH * _BATCH))


def _operations(model: onnx.ModelProto) -> float:
    """Counts the operations of one sample: two for each use of a weight of a layer."""
    graph = Graph(model)
    total = 0.0
    for node in graph.nodes:
        kernel = graph.constant(node.input[1]) if len(node.input) > 1 else None
        if kernel is None or node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            continue
        place = node.input[0] if node.op_type == "ConvTranspose" else node.output[0]
        sizes = (graph.shape(place) or ())[2:] if kernel.ndim > 2 else ()
        total += 2.0 * kernel.size * math.prod(size or 1 for size in sizes)
    return total
