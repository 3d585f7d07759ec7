"""Where samples come from: a run, a bundle, files, arrays, a data set or a game."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import pathlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from keras_gan import datasets, latents
from keras_gan import run as runs
from keras_gan.errors import UsageError
from keras_gan.gan import GAN
from keras_gan.metrics.features import open_session, to_bytes
from keras_gan.spec import Spec

BATCH = 64  # samples that are made or read at a time
_SEEDS = "threefry2x32-20/box-muller/1"

Batch = tuple[np.ndarray, np.ndarray | None]


@dataclasses.dataclass(frozen=True)
class Samples:
    """Samples that are read in batches from the first on, as often as wanted.

    Args:
        spec: what one sample is.
        count: how many there are; `None` for a generator, which makes any number.
        read: function from a count to batches of samples and labels (or `None`). Images are uint8.
        protocol: what a result says of them.
        digest: function from a count to a hash of the content of so many samples and labels;
            `None` for a generator.
    """

    spec: Spec
    count: int | None
    read: Callable[[int], Iterator[Batch]]
    protocol: dict[str, Any]
    digest: Callable[[int], str] | None = None

    def take(self, count: int) -> Batch:
        """So many samples and labels as arrays."""
        samples, labels = zip(*self.read(count), strict=True)
        known = [part for part in labels if part is not None]
        return np.concatenate(samples), np.concatenate(known) if known else None


def check_count(count: Any, samples: Samples, what: str, advice: str) -> int:
    """A number of samples that there are.

    Raises:
        UsageError: it is no whole number of at least 2, or above what there is.
    """
    if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 2:
        raise UsageError(f"{what} must be a whole number from 2 up. Received: {what}={count!r}")
    if samples.count is not None and count > samples.count:
        origin = samples.protocol["source"]
        raise UsageError(
            f"{what} must be at most the number of samples, {samples.count:,} in {origin}"
            f"{advice}. Received: {what}={count}"
        )
    return int(count)


# ------------------------------------------------------------------------ generated


def open_samples(
    source: Any,
    like: Spec | None = None,
    *,
    seed: int = 0,
    average: bool = True,
    checkpoint: str = "last",
) -> Samples:
    """Opens what is to be measured.

    Args:
        source: a run folder; a bundle folder; a folder of images or a .npz or .npy file, all of
            whose samples are taken; a data set's name, for its training split; a numpy array, or a
            pair of samples and labels; a `GAN`.
        like: spec of the data it is compared with: pictures in a folder are decoded to it.
        seed: the first seed; samples come from this one and those that follow.
        average: of a game or a run, the averaged generator rather than the live one.
        checkpoint: of a run, `"last"`, `"best"` or a `.keras` file.

    Raises:
        UsageError: there is no such thing, or it cannot be read.
    """
    if isinstance(source, Samples):
        return source
    if isinstance(source, GAN):
        return _from_gan(source, seed, average, {"source": f"the game {source.name}"})
    if isinstance(source, np.ndarray | tuple):
        return from_data(open_data(source), "all")
    path = pathlib.Path(os.path.expanduser(source))
    if (path / "recipe.yaml").is_file():
        return _from_run(path, seed, average, checkpoint)
    if (path / "manifest.json").is_file():
        return _from_bundle(path, seed)
    module, found = datasets.find(source)
    if "path" not in found:  # a data set by its name: what it scores that copies it
        return from_data(datasets.open(source), "train")
    return from_data(_open_whole(os.fspath(source), module, like), "all")


def _from_run(path: pathlib.Path, seed: int, average: bool, checkpoint: str) -> Samples:
    run = runs.Run.open(path)
    gan = run.load(checkpoint)
    return _from_gan(gan, seed, average, {"source": f"run {path}", "checkpoint": checkpoint})


def _from_gan(gan: GAN, seed: int, average: bool, told: dict[str, Any]) -> Samples:
    shape = tuple(gan.sample_shape)

    def read(count: int) -> Iterator[Batch]:
        for seeds in _seeds(seed, count):
            samples = gan.generate(seeds, average=average, batch_size=BATCH)
            yield _stored(samples), _labels(seeds, gan.num_classes)

    protocol = {
        **told,
        "weights": "averaged" if average and gan.average_generator is not gan.generator else "live",
        "images_seen": gan.count("images_seen"),
        "first_seed": seed,
    }
    return Samples(_spec(shape, gan.num_classes), None, read, protocol)


def _from_bundle(path: pathlib.Path, seed: int) -> Samples:
    """Through onnxruntime, as `serving` does it."""
    manifest = read_manifest(path)
    content = (path / "model.onnx").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if manifest["files"].get("model.onnx", {}).get("sha256") != sha256:
        raise UsageError(
            "model.onnx must have the SHA-256 that manifest.json names; the bundle is damaged or "
            f"was changed. Received: {str(path)!r}"
        )
    session = open_session(content)
    classes, latent_dim = manifest["classes"]["count"], manifest["latent_dim"]

    def read(count: int) -> Iterator[Batch]:
        for seeds in _seeds(seed, count):
            labels = _labels(seeds, classes)
            feeds = {"latents": np.asarray(latents.latents_from_seeds(seeds, latent_dim))}
            if labels is not None:
                feeds["labels"] = labels
            yield _stored(session.run(["samples"], feeds)[0]), labels

    protocol = {
        "source": f"bundle {path}",
        "model_sha256": sha256,
        "images_seen": (manifest.get("training") or {}).get("images_seen"),
        "first_seed": seed,
    }
    return Samples(_spec(tuple(manifest["shape"]), classes), None, read, protocol)


def read_manifest(path: pathlib.Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / "manifest.json").read_text("utf-8"))
        fits = manifest["schema_version"] == 1 and manifest["seeds"] == _SEEDS
        fits = fits and {"shape", "latent_dim", "classes", "files"} <= manifest.keys()
    except (OSError, ValueError, KeyError, TypeError):
        fits = False
    if not fits or not (path / "model.onnx").is_file():
        raise UsageError(
            "A bundle holds a model.onnx, and a manifest.json of schema_version 1 that describes "
            f"it. Received: {str(path)!r}"
        )
    return manifest


def _seeds(first: int, count: int) -> Iterator[np.ndarray]:
    for start in range(first, first + count, BATCH):
        yield np.arange(start, min(start + BATCH, first + count), dtype=np.int64)


def _labels(seeds: np.ndarray, num_classes: int) -> np.ndarray | None:
    """The classes that the seeds name where nobody names others."""
    return np.asarray(latents.labels_from_seeds(seeds, num_classes)) if num_classes else None


def _stored(samples: np.ndarray) -> np.ndarray:
    return to_bytes(samples) if samples.ndim == 4 else samples


def _spec(shape: tuple[int, ...], num_classes: int) -> Spec:
    kind = "image" if len(shape) == 3 else "points"
    return Spec(kind, shape, (-1.0, 1.0) if kind == "image" else None, num_classes)


# ------------------------------------------------------------------------ data


def open_data(data: Any, options: dict[str, Any] | None = None) -> datasets.Source:
    """Opens the samples to compare with.

    Args:
        data: a `Source`; what `keras_gan.datasets.open` takes; an array, or a pair of samples and
            labels, none of which is held out.
        options: the data set's options.
    """
    if isinstance(data, datasets.Source):
        return data
    if isinstance(data, np.ndarray | tuple):
        x, y = data if isinstance(data, tuple) else (data, None)
        is_float_image = isinstance(x, np.ndarray) and x.ndim > 2 and x.dtype != np.uint8
        limits = (-1.0, 1.0) if is_float_image else None
        return datasets.from_arrays(x, y, value_range=limits, held_out=0)
    return datasets.open(data, **(options or {}))


def _open_whole(source: str, module: ModuleType, like: Spec | None) -> datasets.Source:
    """Files of samples, none held out; a folder's pictures at the size of those to compare with."""
    takes = inspect.signature(module.open).parameters
    options: dict[str, Any] = {}
    if like is not None and like.kind == "image" and {"size", "channels"} <= takes.keys():
        options = {"size": list(like.shape[:2]), "channels": like.shape[2]}
    try:
        return datasets.open(source, **options, held_out=0)
    except UsageError as error:
        if not str(error).startswith("held_out must not be given"):
            raise
        return datasets.open(source, **options)


def from_data(source: datasets.Source, split: str) -> Samples:
    """The samples of a split (`"train"`, `"held_out"`), or of `"all"` together.

    A count below what there is takes a fixed random choice, the same each time: files are often
    in the order of their classes.
    """
    splits = source.split_names if split == "all" else (split,)
    sizes = [source.count(name) for name in splits]
    starts = np.cumsum([0, *sizes])
    total = int(starts[-1])

    def rows(index: np.ndarray) -> Batch:
        parts = []
        for name, start, size in zip(splits, starts, sizes, strict=False):
            inside = index[(index >= start) & (index < start + size)] - start
            if len(inside):
                parts.append(source.rows(name, inside))
        samples = source.to_uint8(np.concatenate([part[0] for part in parts]))
        labels = [part[1] for part in parts if part[1] is not None]
        if source.spec.kind == "points":
            samples = samples.astype(np.float32, copy=False)
        return samples, np.concatenate(labels) if labels else None

    def read(count: int) -> Iterator[Batch]:
        chosen = choose(total, count)
        for start in range(0, count, BATCH):
            yield rows(chosen[start : start + BATCH])

    def digest(count: int) -> str:
        found = hashlib.sha256(f"{source.spec} {count}".encode())
        for samples, labels in read(count):
            found.update(np.ascontiguousarray(samples).data)
            if labels is not None:
                found.update(np.ascontiguousarray(labels).data)
        return found.hexdigest()

    protocol = {"source": source.description, "split": split}
    return Samples(source.spec, total, read, protocol, digest)


def choose(total: int, count: int) -> np.ndarray:
    """Numbers of the samples that are taken where not all are, in ascending order."""
    if count == total:
        return np.arange(total)
    return np.sort(np.random.default_rng(0).permutation(total)[:count])
