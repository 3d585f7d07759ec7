"""Samples of generators: of a game, a run or a bundle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keras_gan import latents
from keras_gan import run as runs
from keras_gan.errors import UsageError
from keras_gan.games.gan import GAN
from keras_gan.metrics.images import to_bytes
from keras_gan.metrics.onnx_extractor import open_session, runtime_of
from keras_gan.metrics.samples import BATCH, Batch, Samples
from keras_gan.spec import Spec
from serving.seeds import check_seeds


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Settings for drawing samples from a generator.

    Args:
        seed: the first seed; the samples come from this one and those that follow.
        average: use the averaged generator of a game or a run instead of the live one.
        truncation: factor on the latents, from 0 up.
    """

    seed: int = 0
    average: bool = True
    truncation: float = 1.0


def from_run(path: pathlib.Path, drawing: Drawing, checkpoint: str) -> Samples:
    """Returns the samples of a run's checkpoint: `"last"`, `"best"` or a `.keras` file."""
    run = runs.Run.open(path)
    gan = run.load(checkpoint)
    origin = {"source": f"run {path}", "checkpoint": checkpoint}
    return from_gan(gan, drawing, origin, run.spec.class_names)


def from_gan(
    gan: GAN, drawing: Drawing, origin: dict[str, Any], names: tuple[str, ...] = ()
) -> Samples:
    """Returns the samples of a game.

    Args:
        gan: the game.
        drawing: settings for drawing.
        origin: the first entries of the protocol.
        names: names of the classes, if known.
    """

    def make(seeds: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        return gan.generate(
            seeds,
            labels=labels,
            truncation=drawing.truncation,
            average=drawing.average,
            batch_size=BATCH,
        )

    protocol = {
        **origin,
        "weights": which_weights(gan, drawing.average),
        "examples_seen": gan.count("examples_seen"),
    }
    spec = _spec(tuple(gan.sample_shape), gan.num_classes, names)
    return _generated(spec, make, drawing, protocol)


def which_weights(gan: GAN, average: bool) -> str:
    """Returns `"averaged"` or `"live"`: which generator is used, as a game may have no average."""
    return "averaged" if average and gan.average_generator is not gan.generator else "live"


def from_bundle(path: pathlib.Path, drawing: Drawing) -> Samples:
    """Returns the samples of a bundle, computed by onnxruntime as `serving` does.

    Raises:
        UsageError: a damaged bundle, or one that seeds and labels cannot sample.
    """
    manifest = read_manifest(path)
    _check_files(path, manifest)
    session = open_session(path / "model.onnx")
    extra = sorted({port.name for port in session.get_inputs()} - {"latents", "labels"})
    if extra:
        raise UsageError(
            "Only a generator of latents and labels can be sampled by seeds. "
            f"Received: {str(path)!r} with the input {extra[0]!r}"
        )
    classes, latent_dim = manifest["classes"], manifest["latent_dim"]
    low, high = manifest.get("value_range") or (-1.0, 1.0)
    spec = _spec(tuple(manifest["shape"]), classes["count"], tuple(classes.get("names") or ()))

    def make(seeds: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        drawn = np.asarray(latents.latents_from_seeds(seeds, latent_dim))
        feeds: dict[str, Any] = {"latents": drawn * np.float32(drawing.truncation)}
        if labels is not None:
            feeds["labels"] = labels.astype(np.int64)
        samples = session.run(["samples"], feeds)[0]
        if spec.kind != "image" or (low, high) == (-1.0, 1.0):
            return samples
        return (samples.astype(np.float64) - low) / (high - low) * 2 - 1

    training = manifest.get("training") or {}
    protocol = {
        "source": f"bundle {path}",
        "model_sha256": manifest["files"]["model.onnx"]["sha256"],
        "runtime": runtime_of(session),
        "weights": training.get("weights"),
        "examples_seen": training.get("examples_seen"),
    }
    return _generated(spec, make, drawing, protocol)


def _check_files(path: pathlib.Path, manifest: dict[str, Any]) -> None:
    """Checks the model's files against the hashes in the manifest."""
    external = {"model.onnx.data"} & manifest["files"].keys()  # the weights of a large model
    for name in sorted(external | {"model.onnx"}):
        file = path / name
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
        if manifest["files"].get(name, {}).get("sha256") != sha256:
            raise UsageError(
                f"{name} must have the SHA-256 that manifest.json names; the bundle is damaged or "
                f"was changed. Received: {str(path)!r}"
            )


def read_manifest(path: pathlib.Path) -> dict[str, Any]:
    """Returns the manifest of a bundle.

    Raises:
        UsageError: no model, or no manifest of the schema that describes it.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_text("utf-8"))
        fits = manifest["schema_version"] == 1 and manifest["seeds"] == latents.ALGORITHM
        fits = fits and {"shape", "latent_dim", "classes", "files"} <= manifest.keys()
        numbers = [*manifest["shape"], manifest["latent_dim"], manifest["classes"]["count"]]
        fits = fits and all(type(number) is int for number in numbers)
        for name in ("model.onnx", "model.onnx.data"):
            manifest["files"].get(name, {}).get("sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        fits = False
    if not fits or not (path / "model.onnx").is_file():
        raise UsageError(
            "A bundle holds a model.onnx, and a manifest.json of schema_version 1 that describes "
            f"it. Received: {str(path)!r}"
        )
    return manifest


def _spec(shape: tuple[int, ...], num_classes: int, names: tuple[str, ...]) -> Spec:
    kind = "image" if len(shape) == 3 else "points"
    limits = (-1.0, 1.0) if kind == "image" else None
    return Spec(kind, shape, limits, num_classes, names if num_classes else ())


def _generated(
    spec: Spec,
    make: Callable[[np.ndarray, np.ndarray | None], np.ndarray],
    drawing: Drawing,
    origin: dict[str, Any],
    class_ids: np.ndarray | None = None,
) -> Samples:
    """Returns a generator's samples, from the first seed on.

    Args:
        spec: description of one sample.
        make: function from seeds, and labels if there are classes, to samples.
        drawing: the first seed, and the settings that `make` applies to the latents.
        origin: entries of the protocol that describe the generator.
        class_ids: labels of the samples, repeated if there are more samples. By default each
            seed's own label.
    """
    first = drawing.seed

    def read(count: int) -> Iterator[Batch]:
        check_seeds([first, first + count - 1])
        for start in range(0, count, BATCH):
            order = np.arange(start, min(start + BATCH, count), dtype=np.int64)
            seeds, labels = first + order, None
            if class_ids is not None:
                labels = class_ids[order % len(class_ids)]
            elif spec.num_classes:
                labels = np.asarray(latents.labels_from_seeds(seeds, spec.num_classes))
            samples = make(seeds, labels)
            yield to_bytes(samples) if samples.ndim == 4 else samples, labels

    protocol = {**origin, "first_seed": first, "truncation": drawing.truncation}
    if not spec.num_classes:
        return Samples(spec, None, read, protocol)
    protocol["labels"] = "seed modulo classes" if class_ids is None else "those of the real samples"

    def with_labels(labels: np.ndarray) -> Samples:
        return _generated(spec, make, drawing, origin, labels)

    return Samples(spec, None, read, protocol, with_labels=with_labels)
