"""Where samples come from: a run, a bundle, files, arrays, a data set or a game."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from keras_gan import checks, datasets, latents
from keras_gan import run as runs
from keras_gan.errors import UsageError
from keras_gan.games.gan import GAN
from keras_gan.metrics.features import open_session, runtime_of, to_bytes
from keras_gan.spec import Spec
from serving.seeds import check_seeds

BATCH = 64  # samples that are made or read at a time
_OVERSHOOT = 0.5  # a generator that ends in no tanh gives values somewhat outside of its data's

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
        with_labels: function from class ids to the same generator's samples of these classes;
            `None` for data, and for a generator without classes.
    """

    spec: Spec
    count: int | None
    read: Callable[[int], Iterator[Batch]]
    protocol: dict[str, Any]
    digest: Callable[[int], str] | None = None
    with_labels: Callable[[np.ndarray], Samples] | None = None

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


@dataclasses.dataclass(frozen=True)
class Drawing:
    """How samples are drawn from a generator.

    Args:
        seed: the first seed; samples come from this one and those that follow.
        average: of a game or a run, the averaged generator rather than the live one.
        truncation: factor on the latents, from 0 up.
    """

    seed: int = 0
    average: bool = True
    truncation: float = 1.0


def open_samples(
    source: Any,
    like: Spec | None = None,
    drawing: Drawing = Drawing(),
    checkpoint: str = "last",
) -> Samples:
    """Opens what is to be measured.

    Args:
        source: a run folder; a bundle folder; a folder of images or a .npz or .npy file, all of
            whose samples are taken; a data set's name, for its training split; a numpy array, or a
            pair of samples and labels; a `GAN`.
        like: spec of the data it is compared with: pictures in a folder are decoded to it.
        drawing: of a generator, how to draw from it.
        checkpoint: of a run, `"last"`, `"best"` or a `.keras` file.

    Raises:
        UsageError: there is no such thing, it cannot be read, or it has no such choice.
    """
    is_game = isinstance(source, GAN)
    is_path = isinstance(source, str | os.PathLike)
    path = pathlib.Path(os.path.expanduser(source)) if is_path else pathlib.Path()
    is_run = is_path and (path / "recipe.yaml").is_file()
    if str(checkpoint) != "last" and not is_run:
        raise UsageError(
            "A checkpoint can be chosen of a run alone. "
            f"Received: checkpoint={str(checkpoint)!r} for {_called(source)}"
        )
    is_bundle = is_path and not is_run and (path / "manifest.json").is_file()
    checks.number("truncation", drawing.truncation, least=0)
    if drawing.truncation != 1 and not (is_run or is_game or is_bundle):
        raise UsageError(
            "Latents can be truncated of a run, a bundle or a game alone (truncation=1). "
            f"Received: truncation={drawing.truncation} for {_called(source)}"
        )
    if not drawing.average and not (is_run or is_game):
        raise UsageError(
            "The live generator can be chosen of a run or a game alone (average=False, --live). "
            f"Received: {_called(source)}"
        )
    if isinstance(source, Samples):
        return source
    if is_game:
        return _from_gan(source, drawing, {"source": f"the game {source.name}"})
    if isinstance(source, np.ndarray | tuple):
        return from_data(open_data(source), "all")
    if is_run:
        return _from_run(path, drawing, str(checkpoint))
    if is_bundle:
        return _from_bundle(path, drawing)
    module, found = datasets.find(source)
    if "path" not in found:  # a data set by its name: what it scores that copies it
        return from_data(datasets.open(source), "train")
    return from_data(_open_whole(os.fspath(source), module, like), "all")


def _called(source: Any) -> str:
    is_path = isinstance(source, str | os.PathLike)
    return repr(os.fspath(source)) if is_path else f"samples of type {type(source).__name__}"


def _from_run(path: pathlib.Path, drawing: Drawing, checkpoint: str) -> Samples:
    run = runs.Run.open(path)
    gan = run.load(checkpoint)
    told = {"source": f"run {path}", "checkpoint": checkpoint}
    return _from_gan(gan, drawing, told, run.spec.class_names)


def _from_gan(
    gan: GAN, drawing: Drawing, told: dict[str, Any], names: tuple[str, ...] = ()
) -> Samples:
    def make(seeds: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        return gan.generate(
            seeds,
            labels=labels,
            truncation=drawing.truncation,
            average=drawing.average,
            batch_size=BATCH,
        )

    protocol = {
        **told,
        "weights": which_weights(gan, drawing.average),
        "examples_seen": gan.count("examples_seen"),
    }
    shape = tuple(gan.sample_shape)
    return _made(_spec(shape, gan.num_classes, names), make, drawing, protocol)


def which_weights(gan: GAN, average: bool) -> str:
    """Which generator is taken, `"averaged"` or `"live"`: a game may have no average."""
    return "averaged" if average and gan.average_generator is not gan.generator else "live"


def _from_bundle(path: pathlib.Path, drawing: Drawing) -> Samples:
    """Through onnxruntime, as `serving` does it."""
    manifest = read_manifest(path)
    outside = {"model.onnx.data"} & manifest["files"].keys()  # the weights of a large model
    for name in sorted(outside | {"model.onnx"}):
        file = path / name
        found = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
        if manifest["files"].get(name, {}).get("sha256") != found:
            raise UsageError(
                f"{name} must have the SHA-256 that manifest.json names; the bundle is damaged or "
                f"was changed. Received: {str(path)!r}"
            )
    sha256 = manifest["files"]["model.onnx"]["sha256"]
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
        "model_sha256": sha256,
        "runtime": runtime_of(session),
        "weights": training.get("weights"),
        "examples_seen": training.get("examples_seen"),
    }
    return _made(spec, make, drawing, protocol)


def _made(
    spec: Spec,
    make: Callable[[np.ndarray, np.ndarray | None], np.ndarray],
    drawing: Drawing,
    told: dict[str, Any],
    given: np.ndarray | None = None,
) -> Samples:
    """A generator's samples, of the seeds from the first on.

    Args:
        spec: what one sample is.
        make: function from seeds, and labels if there are classes, to samples.
        drawing: where the seeds begin, and what `make` does to the latents.
        told: what a result says of the generator.
        given: class ids of the samples; over again where there are more samples. By default the
            seeds' own.
    """
    first = drawing.seed

    def read(count: int) -> Iterator[Batch]:
        check_seeds([first, first + count - 1])
        for start in range(0, count, BATCH):
            order = np.arange(start, min(start + BATCH, count), dtype=np.int64)
            seeds, labels = first + order, None
            if given is not None:
                labels = given[order % len(given)]
            elif spec.num_classes:
                labels = np.asarray(latents.labels_from_seeds(seeds, spec.num_classes))
            samples = make(seeds, labels)
            yield to_bytes(samples) if samples.ndim == 4 else samples, labels

    protocol = {**told, "first_seed": first, "truncation": drawing.truncation}
    if not spec.num_classes:
        return Samples(spec, None, read, protocol)
    protocol["labels"] = "seed modulo classes" if given is None else "those of the real samples"

    def with_labels(labels: np.ndarray) -> Samples:
        return _made(spec, make, drawing, told, labels)

    return Samples(spec, None, read, protocol, with_labels=with_labels)


def read_manifest(path: pathlib.Path) -> dict[str, Any]:
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


# ------------------------------------------------------------------------ classes


def match_classes(made: Samples, real: Spec) -> Samples:
    """Samples whose labels are the real samples' class ids, by the classes' names.

    The ids of a folder are in the order of its names, so that with other names, or with some
    missing, the same id is another class. Names match by themselves, and digits by their value,
    also with the ids of classes without names.

    Raises:
        UsageError: a class that the real samples do not have.
    """
    if not made.spec.num_classes or not real.num_classes:
        return made
    own, known = class_keys(made.spec), class_keys(real)
    by_value = isinstance(own[0], int), isinstance(known[0], int)
    if by_value == (True, False):
        known = list(range(real.num_classes))
    elif by_value == (False, True) and made.count is None and not real.class_names:
        own = list(range(made.spec.num_classes))  # a generator's ids are those of its data
    if not made.spec.class_names:
        known = list(range(real.num_classes))
    odd = [label for label, name in enumerate(own) if name not in known]
    if odd:
        called = made.spec.class_names[odd[0]] if made.spec.class_names else odd[0]
        raise UsageError(
            "The classes of the samples must be among those of the data, by name or, in digits, "
            f"by id (0 to {real.num_classes - 1}); pictures in one folder have none. "
            f"Received: {str(called)!r} of {made.protocol['source']}"
        )
    return _renumbered(made, np.array([known.index(name) for name in own]), real)


def class_keys(spec: Spec) -> list[Any]:
    """What tells the classes: values of digits, names, or ids where they have none.

    Of names letters and digits alone, in one case, as a folder cannot be called T-shirt/top; whole
    names where that would make one class of two.
    """
    if spec.class_names and all(name.isdecimal() for name in spec.class_names):
        return [int(name) for name in spec.class_names]
    if not spec.class_names:
        return list(range(spec.num_classes))
    plain = [re.sub(r"[\W_]", "", name).casefold() for name in spec.class_names]
    return plain if len({*plain, ""}) > len(plain) else list(spec.class_names)


def _renumbered(made: Samples, ids: np.ndarray, real: Spec) -> Samples:
    """Samples with `ids[label]` for their labels; a generator is asked for these as well."""

    def read(count: int) -> Iterator[Batch]:
        for samples, labels in made.read(count):
            yield samples, labels if labels is None else ids[labels]

    spec = made.spec.with_classes(real.num_classes, real.class_names)
    relabel = made.with_labels

    def with_labels(labels: np.ndarray) -> Samples:
        generator: Any = relabel
        return _renumbered(generator(np.argsort(ids)[labels]), ids, real)

    asked = None if relabel is None or len(ids) != real.num_classes else with_labels
    return dataclasses.replace(made, spec=spec, read=read, with_labels=asked)


def like_real(made: Samples, real: Samples, count: int) -> Samples:
    """A generator's samples in the classes of so many real ones, in a random order."""
    if made.with_labels is None or not real.spec.num_classes:
        return made
    labels = np.concatenate([part for _, part in real.read(count) if part is not None])
    return made.with_labels(np.random.default_rng(0).permutation(labels))


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
        if not (isinstance(x, np.ndarray) and x.ndim > 2 and x.dtype.kind == "f"):
            return datasets.from_arrays(x, y, held_out=0)
        return datasets.from_arrays(_normalized(x), y, value_range=(-1.0, 1.0), held_out=0)
    return datasets.open(data, **(options or {}))


def _normalized(images: np.ndarray) -> np.ndarray:
    """Floating-point images in [-1, 1], cut to it as a game's samples are."""
    if not np.isfinite(images).all():
        raise UsageError("Images must be finite numbers. Received: NaN or infinity")
    low, high = (float(f(images)) if images.size else 0.0 for f in (np.min, np.max))
    if max(-low, high) > 1 + _OVERSHOOT or (low >= 0 and high > 0):
        raise UsageError(
            "Floating-point images must be in [-1, 1], with negative values; give others as uint8 "
            f"or in [-1, 1]. Received: values from {low:g} to {high:g}"
        )
    return np.clip(images, -1.0, 1.0)


def _open_whole(source: str, module: ModuleType, like: Spec | None) -> datasets.Source:
    """Files of samples, none held out; a folder's pictures at the size of those to compare with."""
    takes = inspect.signature(module.open).parameters
    options: dict[str, Any] = {}
    if like is not None and like.kind == "image" and {"size", "channels"} <= takes.keys():
        options = {"size": list(like.shape[:2]), "channels": like.shape[2]}
    try:
        return _open_all(source, options)
    except datasets.UnknownRangeError:
        pass
    widest = (-1 - _OVERSHOOT, 1 + _OVERSHOOT)
    try:
        wide = _open_all(source, {"value_range": widest})
    except UsageError as error:
        raise UsageError(
            "Floating-point images must be in [-1, 1], with negative values; give others as uint8 "
            f"or in [-1, 1]. Received: {source}: {str(error).rpartition('Received: ')[2]}"
        ) from error
    samples, labels = zip(*map(wide.arrays, wide.split_names), strict=True)
    known = [part for part in labels if part is not None]
    x = np.concatenate(samples)
    found = open_data((x, np.concatenate(known)) if known else x)
    found.description = wide.description  # which names the file
    return found


def _open_all(source: str, options: dict[str, Any]) -> datasets.Source:
    """Files of samples, none held out but what they hold out themselves."""
    try:
        return datasets.open(source, **options, held_out=0)
    except datasets.OwnSplitsError:
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

    protocol: dict[str, Any] = {"source": source.description, "split": split}
    if source.resized is not None:
        protocol |= {"decoded_to": list(source.spec.shape), "decoded_by": source.resized}
    return Samples(source.spec, total, read, protocol, digest)


def choose(total: int, count: int) -> np.ndarray:
    """Numbers of the samples that are taken where not all are, in ascending order."""
    if count == total:
        return np.arange(total)
    return np.sort(np.random.default_rng(0).permutation(total)[:count])
