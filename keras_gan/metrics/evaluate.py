"""Samples against data: every figure with the protocol by which it came about."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import PIL.Image
import yaml

from keras_gan import checks, datasets, pictures
from keras_gan import run as runs
from keras_gan._version import __version__
from keras_gan.errors import UsageError
from keras_gan.games.gan import GAN
from keras_gan.metrics import measures, sources
from keras_gan.metrics.features import Extractor, open_features
from keras_gan.metrics.measures import EvaluationInputs, Labelled, MetricContext
from keras_gan.metrics.nearest import nearest
from keras_gan.metrics.sources import Samples
from keras_gan.metrics.statistics import Statistics, cache_folder, gather, gather_cached
from keras_gan.spec import Spec
from serving.seeds import check_seeds

_FASHION_MNIST = (28, 28, 1)
_PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "pillow")
_COUNT = 10_000  # generated samples, where there are as many
_MOST_VALUES = 4096  # of a sample whose features are its values: their covariance is this wide
_SHOWN, _NEIGHBORS = 8, 5  # rows and neighbors in the picture


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Figures, and all that must be known to get them again.

    Args:
        values: each figure by its name; see docs/metrics.md for what they mean.
        protocol: extractor and hash, resize filter, counts, splits, seeds, labels, weights, what
            each metric drew and by which seed, versions.
        details: what is no single figure, such as the accuracy of each class.
    """

    values: dict[str, float]
    protocol: dict[str, Any]
    details: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes all of it as JSON, the whole file or none; what is no finite number as null."""
        content = dataclasses.asdict(self)
        content["values"] = {k: v if np.isfinite(v) else None for k, v in self.values.items()}
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        runs.write_atomically(pathlib.Path(os.path.expanduser(path)), text.encode())


def evaluate(
    source: Any,
    data: Any = None,
    features: Any = None,
    count: int | None = None,
    *,
    metrics: Iterable[str] | str | None = None,
    split: str = "held_out",
    real_count: int | None = None,
    seed: int = 0,
    average: bool = True,
    truncation: float = 1.0,
    checkpoint: str = "last",
    nearest_picture: str | os.PathLike[str] | None = None,
    cache: bool | str | os.PathLike[str] = True,
    progress: bool = True,
    epochs: int = 5,
    data_options: dict[str, Any] | None = None,
) -> Evaluation:
    """Measures generated samples against real ones.

    Args:
        source: a run folder, a bundle, a folder of images, a .npz or .npy file, an array or a
            pair of samples and labels, a data set's name, or a `GAN`. Images in arrays are uint8 or
            in [-1, 1].
        data: what `keras_gan.datasets.open` takes, a `Source`, or an array or a pair of them, all
            of which is compared with. By default what the run or bundle was trained on.
        features: the extractor, see `open_features`. By default `"fashion_mnist"` for gray images
            of 28x28, else `"pixels"` for samples of at most 4,096 values.
        count: number of generated samples, from 2: those of the seeds `seed` to
            `seed + count - 1`, or of files a fixed choice. By default 10,000, or what either side
            has if that is less.
        metrics: names of the metrics; by default all that fit the samples and the extractor but
            `classification_accuracy`, which trains two classifiers.
        split: real samples to compare with: `"held_out"`, `"train"`, or `"all"`.
        real_count: number of real samples; by default `count`, or all where there are fewer and
            no metric is named that needs as many.
        seed: the first seed of the generated samples, and the seed of the pairs of `ms_ssim` and
            of the classifiers of `classification_accuracy`. Other metrics draw by seeds of their
            own, which the protocol names.
        average: the averaged generator of a run or game, rather than the live one.
        truncation: factor on the latents of a run, a bundle or a game, from 0 up. Below 1 samples
            are more typical and less varied: precision rises, recall falls.
        checkpoint: of a run: `"last"`, `"best"` or a `.keras` file.
        nearest_picture: path of a PNG to write: generated images beside their nearest training
            images.
        cache: whether the real side's statistics are kept in the user's cache folder; or a folder.
        progress: whether to show bars on stderr, if that is a terminal.
        epochs: of the classifiers of `classification_accuracy`.
        data_options: options of the data set.

    Raises:
        UsageError: anything of the above that is not there, does not fit, or is not enough.
    """
    metrics = measures.listed(metrics)
    split = _check_choices(split, cache, epochs, nearest_picture)
    named = data is not None
    source, data, options = _given(_latest(source), data, data_options)
    seed = _check_seed(seed)
    held = sources.open_data(data, options)
    split = "all" if isinstance(data, np.ndarray | tuple) else split
    _check_recorded(source, held, named or bool(data_options), data, split)
    real = sources.from_data(held, split)
    drawing = sources.Drawing(seed, average, truncation)
    made = sources.open_samples(source, held.spec, drawing, checkpoint)
    _check_shapes(made.spec, held.spec)
    made = sources.match_classes(made, held.spec)
    count = sources.check_count(_count(count, made, real), made, "count", "")
    real_count = _real_count(real_count, count, real, metrics)
    made = sources.like_real(made, real, real_count)
    extractor = open_features(_default(features, held.spec), held.spec)
    if truncation != 1:  # no longer the standard protocol, and so no FID
        extractor = dataclasses.replace(extractor, standard=False)
    has_training = split == "held_out" and "train" in held.split_names
    labelled = bool(made.spec.num_classes)
    setting = MetricContext(
        extractor, held.spec, labelled, has_training, count, real_count, truncation
    )
    names = measures.select(metrics, setting)
    if nearest_picture is not None:
        _check_picture(held.spec, has_training)

    rows = nearest_picture is not None or any(measures.MEASURES[name].rows for name in names)
    folder = cache_folder(cache)
    shown: dict[str, Any] = {"rows": rows, "progress": progress}
    real_side, digest = gather_cached(
        real, real_count, extractor, folder, title="Real samples", **shown
    )
    made_side = gather(made, count, extractor, title="Samples", **shown)

    def training() -> Statistics:
        whole = sources.from_data(held, "train")
        title = "Training samples"
        total = whole.count or 0
        return gather_cached(whole, total, extractor, folder, title=title, progress=progress)[0]

    sides = EvaluationInputs(
        extractor,
        real_side,
        made_side,
        held.spec,
        all_real=real_count == real.count,
        pictures=_pictures(names, count, made, real_count, real),
        training=training,
        labelled=_labelled(held, made, count, real, real_count),
        epochs=epochs,
        seed=seed,
    )
    values: dict[str, float] = {}
    for name in names:
        values.update(measures.MEASURES[name].compute(sides))
    if nearest_picture is not None:
        picture = pathlib.Path(os.path.expanduser(nearest_picture))
        _draw_nearest(picture, sides, made.take(min(count, measures.PICTURES))[0], held)
    told = {"count": count, **made.protocol}
    compared = {"count": real_count, "sha256": digest, **real.protocol}
    protocol = _protocol(extractor, told, compared, held.spec, seed) | sides.protocol
    protocol["software"] = _software()
    return Evaluation({k: float(v) for k, v in values.items()}, protocol, sides.details)


# ------------------------------------------------------------------------ checks


def _check_choices(split: Any, cache: Any, epochs: Any, picture: Any) -> str:
    """Refuses what would be refused only after the work; gives the split's own name."""
    named = {"held_out": "held_out", "test": "held_out", "train": "train", "all": "all"}
    if not isinstance(split, str) or split not in named:
        raise UsageError(
            f'split must be "held_out" (or "test"), "train" or "all". Received: split={split!r:.80}'
        )
    if cache is not None and not isinstance(cache, bool | str | os.PathLike):
        raise UsageError(f"cache must be True, False or a folder. Received: cache={cache!r:.80}")
    checks.whole_number("epochs", epochs, 1)
    if picture is not None:
        check_target(picture)
    return named[split]


def check_target(path: str | os.PathLike[str]) -> None:
    """Refuses a file that could not be written, before the work is done.

    Raises:
        UsageError: the folder is not there, or the path is that of a folder.
    """
    file = pathlib.Path(os.path.expanduser(path))
    if file.is_dir() or not file.parent.is_dir():
        raise UsageError(
            "A file is written to a folder that exists, under a name that no folder has. "
            f"Received: {str(file)!r}"
        )


def _check_samples(what: str, value: Any, kinds: tuple[type, ...]) -> None:
    """Refuses what samples cannot be opened from."""
    is_pair = isinstance(value, tuple) and len(value) == 2
    if not is_pair and not isinstance(value, (str, os.PathLike, np.ndarray, *kinds)):
        others = "".join(f", a {kind.__name__}" for kind in kinds)
        line = " ".join(repr(value).split())
        raise UsageError(
            f"{what} must be a name or path, an array, a pair (samples, labels) of arrays{others}. "
            f"Received: {line:.80}"
        )


def _latest(source: Any) -> Any:
    """Of a folder of a bundle's versions the latest."""
    if not isinstance(source, str | os.PathLike):
        return source
    latest = pathlib.Path(os.path.expanduser(source)) / "latest"
    if (latest / "manifest.json").is_file():
        return latest.resolve()  # the next version must not come between two reads
    return source


def _given(source: Any, data: Any, options: dict[str, Any] | None) -> tuple[Any, Any, Any]:
    """The source; the data to compare with, by default what it was trained on; its options."""
    _check_samples("source", source, (GAN, Samples))
    if data is not None:
        _check_samples("data", data, (datasets.Source,))
    if isinstance(data, np.ndarray | tuple | datasets.Source) and options:
        raise UsageError(f"Options are of data by name or path. Received: {options}")
    if data is not None:
        return source, data, options
    recorded = _recorded(source)
    if recorded is None:
        raise UsageError(
            "What to compare with must be named, with --data or data=..., for all but runs and "
            f"bundles, which record what they were trained on. Received: source={str(source)!r:.80}"
        )
    return source, recorded.pop("source"), {**recorded, **(options or {})}


def _recorded(source: Any) -> dict[str, Any] | None:
    """The data section of the recipe that a run or bundle was trained by."""
    if not isinstance(source, str | os.PathLike):
        return None
    path = pathlib.Path(os.path.expanduser(source))
    if (path / "recipe.yaml").is_file():
        try:
            return dict(runs.Run.open(path).record["data"])
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise UsageError(
                f"A run records its recipe. Received: {path}: {' '.join(str(error).split())}"
            ) from error
    if (path / "manifest.json").is_file():
        training = sources.read_manifest(path).get("training") or {}
        return dict(training.get("recipe", {}).get("data", {})) or None
    return None


def _check_seed(seed: Any) -> int:
    seeds = check_seeds(seed)
    if len(seeds) != 1:
        raise UsageError(f"seed must be one integer, the first seed. Received: seed={seed!r:.80}")
    return int(seeds[0])


def _check_recorded(source: Any, held: datasets.Source, named: bool, data: Any, split: str) -> None:
    """Held-out samples are held out only of the very data that a run was trained on.

    Raises:
        UsageError: what a run or bundle records is not what is there under its name any more.
    """
    recorded = _trained_on(source)
    if recorded is None:
        return
    if recorded.get("digest"):
        same = recorded["digest"] == runs.describe_data(held)["digest"]
    else:  # a bundle that tells no more than the name
        is_named = named and isinstance(data, str | os.PathLike)
        same = not is_named or os.fspath(data) == recorded.get("source")
    if same:
        return
    if not named:
        raise UsageError(
            f"A run is evaluated on the data it was trained on, {recorded['description']}; name "
            "other data with --data or data=.... "
            f"Received: {held.description}, with another digest"
        )
    if split == "held_out" and isinstance(data, str | os.PathLike):
        trained = recorded.get("description") or recorded.get("source")
        warnings.warn(
            f"The generator was trained on other data ({trained}) than it is compared with "
            f"({held.description}): what is held out here may have been trained on",
            stacklevel=3,
        )


def _trained_on(source: Any) -> dict[str, Any] | None:
    """What a run or bundle tells of its data: `description` and `digest`, or `source` alone."""
    if not isinstance(source, str | os.PathLike):
        return None
    path = pathlib.Path(os.path.expanduser(source))
    if (path / "recipe.yaml").is_file():
        return runs.Run(path).data
    if (path / "manifest.json").is_file():
        training = sources.read_manifest(path).get("training") or {}
        return training.get("data") or training.get("recipe", {}).get("data")
    return None


def _check_shapes(made: Spec, real: Spec) -> None:
    if made.shape != real.shape:
        raise UsageError(
            "Generated and real samples must have one shape. "
            f"Received: generated samples of shape {made.shape}, real ones of {real.shape}"
        )


def _count(given: Any, made: Samples, real: Samples) -> Any:
    """What was given, or as many samples as either side has, up to 10,000."""
    if given is not None:
        return given
    return min(_COUNT, *(side.count for side in (made, real) if side.count is not None))


def _real_count(given: int | None, count: int, real: Samples, names: Any) -> int:
    if given is not None:
        return sources.check_count(given, real, "real_count", "")
    if not measures.wants_equal(names):
        count = min(count, real.count or count)
    advice = "; give a smaller count, or leave out the metrics that need as many real samples"
    return sources.check_count(count, real, "count", advice)


def _default(features: Any, spec: Spec) -> Any:
    if features is not None:
        return features
    if spec.shape == _FASHION_MNIST:
        return "fashion_mnist"
    if np.prod(spec.shape) > _MOST_VALUES:
        raise UsageError(
            f"Samples of more than {_MOST_VALUES:,} values are compared by a network's features: "
            "name one with --features or features=..., or pixels for the values themselves. "
            f"Received: samples of shape {spec.shape}, features=None"
        )
    return "pixels"


def _check_picture(spec: Spec, has_training: bool) -> None:
    if spec.kind != "image" or not has_training:
        raise UsageError(
            "A picture of nearest neighbors needs images with a training split, and "
            f"split='held_out'. Received: {spec.kind} data"
        )


# ------------------------------------------------------------------------ parts


def _pictures(
    names: list[str], count: int, made: Samples, real_count: int, real: Samples
) -> tuple[sources.Batch, sources.Batch] | None:
    """As many images of either side; made or read once more, which costs less than to keep all."""
    if "ms_ssim" not in names:
        return None
    number = min(measures.PICTURES, count, real_count)
    return real.take(number), made.take(number)


def _labelled(
    held: datasets.Source, made: Samples, count: int, real: Samples, real_count: int
) -> Callable[[], tuple[Labelled, Labelled, Labelled]]:
    def take() -> tuple[Labelled, Labelled, Labelled]:
        train = sources.from_data(held, "train")
        number = min(count, train.count or count)  # two equal trainings but for the samples
        taken = (made.take(number), train.take(number), real.take(real_count))
        return taken  # pyright: ignore[reportReturnType]

    return take


def _draw_nearest(
    path: pathlib.Path, sides: EvaluationInputs, made: np.ndarray, held: datasets.Source
) -> None:
    """Rows of a generated image and, to its right, its nearest training images, nearest first.

    The rows are the generated images that lie closest to a training image: where the generator
    has memorized, it shows here.
    """
    features = sides.extractor(made)[0]
    neighbors = min(_NEIGHBORS, held.count("train"))
    found = nearest(features, sides.training_features, neighbors)
    closest = np.argsort(found.distances[:, 0], kind="stable")[:_SHOWN]
    rows = found.indices[closest]
    train = held.to_uint8(held.rows("train", rows.reshape(-1))[0])
    height, width, channels = held.spec.shape
    gap = max(2, width // 8)
    sheet = np.full((len(closest) * height, (1 + neighbors) * width + gap, channels), 255, "uint8")
    for row, (sample, line) in enumerate(zip(closest, np.split(train, len(closest)), strict=True)):
        part = sheet[row * height : (row + 1) * height]
        part[:, :width] = made[sample]
        part[:, width + gap :] = np.concatenate(list(line), axis=1)
    picture = PIL.Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
    runs.write_atomically(path, pictures.png(picture))


def _protocol(
    extractor: Extractor,
    generated: dict[str, Any],
    real: dict[str, Any],
    spec: Spec,
    seed: int,
) -> dict[str, Any]:
    return {
        **extractor.protocol,
        "sample_shape": list(spec.shape),
        "quantization": "8 bits" if spec.kind == "image" else "none",
        "generated": generated,
        "real": real,
        "seed": seed,
    }


def _software() -> dict[str, str]:
    """Versions of all that computes."""
    import onnxruntime  # its package has one of several names

    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"keras_gan": __version__, **versions, "onnxruntime": onnxruntime.__version__}
