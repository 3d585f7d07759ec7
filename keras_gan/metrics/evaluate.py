"""Evaluation of generated samples against data, with the protocol of every value."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_gan import datasets
from keras_gan._version import __version__
from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError
from keras_gan.metrics import nearest_picture, training_data
from keras_gan.metrics._metric import (
    IMAGES,
    PER_SAMPLE,
    EvaluationInputs,
    Labeled,
    Metric,
    MetricContext,
)
from keras_gan.metrics.class_matching import like_real, match_classes
from keras_gan.metrics.extractor import Extractor
from keras_gan.metrics.features import default_features, open_features, origin_note
from keras_gan.metrics.generators import Drawing
from keras_gan.metrics.real_data import conditions_of, from_data, open_data
from keras_gan.metrics.result import EvaluationResult, check_target
from keras_gan.metrics.samples import Batch, Samples, check_count
from keras_gan.metrics.selection import need_equal_counts, parse_names, select
from keras_gan.metrics.sources import open_samples
from keras_gan.metrics.statistics import Statistics, cache_folder, gather, gather_cached
from keras_gan.spec import Spec
from serving.seeds import check_seeds

_PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "pillow")
_COUNT = 10_000  # default number of generated samples
_SPLITS = {"held_out": "held_out", "test": "held_out", "train": "train", "all": "all"}


@dataclasses.dataclass
class EvaluationSettings:
    """Settings of `evaluate`.

    Args:
        metrics: names of the metrics; by default all that apply to the samples and the extractor
            except `classification_accuracy`, which trains two classifiers. For images without an
            extractor: those that need no network.
        split: real samples to compare with: `"held_out"`, `"train"`, or `"all"`.
        real_count: number of real samples; by default `count`, or all if there are fewer and no
            requested metric needs as many.
        seed: the first seed of the generated samples, and the seed of the pairs of `ms_ssim` and
            of the classifiers of `classification_accuracy`. Other metrics have fixed seeds, which
            the protocol names.
        average: use the averaged generator of a run or game instead of the live one.
        truncation: factor on the latents of a run, a bundle or a game, from 0 up. Below 1 samples
            are more typical and less varied: precision rises, recall falls.
        checkpoint: of a run: `"last"`, `"best"`, `"averaged"` or a `.keras` file.
        nearest_picture: path of a PNG file to write: generated images beside their nearest
            training images.
        cache: keep the statistics of the real samples in the user's cache folder; or a folder.
        progress: show progress bars on stderr, if that is a terminal.
        epochs: epochs of the classifiers of `classification_accuracy`.
        data_options: options of the data set.

    Raises:
        UsageError: an invalid value, or a picture that could not be written.
    """

    metrics: Iterable[str] | str | None = None
    split: str = "held_out"
    real_count: int | None = None
    seed: int = 0
    average: bool = True
    truncation: float = 1.0
    checkpoint: str = "last"
    nearest_picture: str | os.PathLike[str] | None = None
    cache: bool | str | os.PathLike[str] | None = True
    progress: bool = True
    epochs: int = 5
    data_options: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self.names = parse_names(self.metrics)
        if not isinstance(self.split, str) or self.split not in _SPLITS:
            raise UsageError(
                'split must be "held_out" (or "test"), "train" or "all". '
                f"Received: split={self.split!r:.80}"
            )
        self.split = _SPLITS[self.split]
        if self.cache is not None and not isinstance(self.cache, bool | str | os.PathLike):
            raise UsageError(
                f"cache must be True, False or a folder. Received: cache={self.cache!r:.80}"
            )
        check_integer("epochs", self.epochs)
        if self.nearest_picture is not None:
            check_target(self.nearest_picture)
        seeds = check_seeds(self.seed)
        if len(seeds) != 1:
            raise UsageError(
                f"seed must be one integer, the first seed. Received: seed={self.seed!r:.80}"
            )
        self.seed = int(seeds[0])


def evaluate(
    source: Any,
    data: Any = None,
    features: Any = None,
    count: int | None = None,
    **settings: Any,
) -> EvaluationResult:
    """Compares generated samples with real ones.

    Args:
        source: a run folder, a bundle, a folder of images, a .npz or .npy file, an array or a
            pair of samples and labels, a data set's name, or a `GAN`. Images in arrays are uint8 or
            in [-1, 1].
        data: a name or path for `keras_gan.datasets.open`, a `Source`, or an array or a pair of
            arrays, of which all samples are used. By default the data that the run or bundle was
            trained on.
        features: the extractor, see `open_features`. By default `"fashion_mnist"` for
            Fashion-MNIST, that of the samples' kind, else `"pixels"`, the values themselves, of
            images of more than 4,096 values `"reduced_pixels"`.
        count: number of generated samples, from 2: those of the seeds `seed` to
            `seed + count - 1`, or a fixed choice from files. By default 10,000, or as many as
            there are of both generated and real samples.
        **settings: fields of `EvaluationSettings`: `metrics`, `split`, `real_count`, `seed`,
            `average`, `truncation`, `checkpoint`, `nearest_picture`, `cache`, `progress`, `epochs`
            and `data_options`.

    Raises:
        UsageError: an argument that is invalid, missing, or does not fit the others.
    """
    chosen = EvaluationSettings(**settings)
    compared = _open(source, data, count, chosen)
    spec = compared.data.spec
    chosen_features = default_features(compared.data) if features is None else features
    extractor = open_features(chosen_features, spec)
    usual = spec.modality.metrics if features is None and extractor.of_values else ()
    if chosen.truncation != 1:  # not the standard protocol, and therefore not called FID
        extractor = dataclasses.replace(extractor, standard=False)
    metrics = select(chosen.names, compared.context(extractor, chosen.truncation), usual)
    if chosen.nearest_picture is not None:
        nearest_picture.check(spec, compared.has_training)
    inputs, digest = _gather(compared, extractor, metrics, chosen)
    values, protocol, details = _compute(metrics, inputs)
    if chosen.nearest_picture is not None:
        path = pathlib.Path(os.path.expanduser(chosen.nearest_picture))
        images = compared.generated.take(min(compared.count, IMAGES))[0]
        nearest_picture.draw(path, inputs, images, compared.data)
    protocol = compared.protocol(extractor, digest, chosen.seed) | protocol
    note = origin_note(extractor, compared.data)
    protocol |= {"note": note} if note else {}
    protocol["software"] = _software()
    return EvaluationResult(values, protocol, details)


# ------------------------------------------------------------------------ samples


@dataclasses.dataclass(frozen=True)
class _Compared:
    """Generated and real samples, and how many of each are compared."""

    generated: Samples
    real: Samples
    data: datasets.Source
    count: int
    real_count: int
    has_training: bool

    def context(self, extractor: Extractor, truncation: float) -> MetricContext:
        labeled = bool(self.generated.spec.num_classes)
        return MetricContext(
            extractor,
            self.data.spec,
            labeled,
            self.has_training,
            self.count,
            self.real_count,
            truncation,
        )

    def protocol(self, extractor: Extractor, digest: str, seed: int) -> dict[str, Any]:
        spec = self.data.spec
        return {
            **extractor.protocol,
            "sample_shape": list(spec.shape),
            "quantization": "8 bits" if spec.modality.has_pixels else "none",
            "generated": {"count": self.count, **self.generated.protocol},
            "real": {"count": self.real_count, "sha256": digest, **self.real.protocol},
            "seed": seed,
        }

    def images(self) -> tuple[Batch, Batch]:
        """Returns as many real as generated images, read again rather than kept in memory."""
        number = min(IMAGES, self.count, self.real_count)
        return self.real.take(number), self.generated.take(number)

    def labeled(self) -> tuple[Labeled, Labeled, Labeled]:
        """Returns generated, training and held-out samples with labels."""
        train = from_data(self.data, "train")
        number = min(self.count, train.count or self.count)  # equal numbers for both trainings
        batches = (
            self.generated.take(number),
            train.take(number),
            self.real.take(self.real_count),
        )
        return batches  # pyright: ignore[reportReturnType]


def _open(source: Any, data: Any, count: Any, settings: EvaluationSettings) -> _Compared:
    """Opens both sets of samples and determines how many of each are compared."""
    source, checkpoint = training_data.locate(source, settings.checkpoint)
    by_default = data is None and not settings.data_options
    data, options = training_data.data_to_compare(source, data, settings.data_options)
    opened = training_data.as_trained(source, open_data(data, options))
    split = "all" if isinstance(data, np.ndarray | tuple) else settings.split
    training_data.check_training_data(source, opened, data, by_default, split)
    real = from_data(opened, split)
    conditions = conditions_of(opened, split)
    drawing = Drawing(settings.seed, settings.average, settings.truncation, conditions)
    generated = open_samples(source, opened.spec, drawing, checkpoint)
    _check_shapes(generated.spec, opened.spec)
    generated = match_classes(generated, opened.spec)
    count = check_count(_default_count(count, generated, real), generated, "count")
    real_count = _real_count(settings, count, real)
    generated = like_real(generated, real, real_count)
    has_training = split == "held_out" and "train" in opened.split_names
    return _Compared(generated, real, opened, count, real_count, has_training)


def _check_shapes(generated: Spec, real: Spec) -> None:
    if not generated.samples.accepts_shape(real.shape):
        raise UsageError(
            "Generated and real samples must have one shape. "
            f"Received: generated samples of shape {generated.shape}, real ones of {real.shape}"
        )


def _default_count(count: Any, generated: Samples, real: Samples) -> Any:
    """Returns the given count, or 10,000 or as many as there are of both."""
    if count is not None:
        return count
    return min(_COUNT, *(s.count for s in (generated, real) if s.count is not None))


def _real_count(settings: EvaluationSettings, count: int, real: Samples) -> int:
    if settings.real_count is not None:
        return check_count(settings.real_count, real, "real_count")
    if not need_equal_counts(settings.names):
        count = min(count, real.count or count)
    advice = "; give a smaller count, or leave out the metrics that need as many real samples"
    return check_count(count, real, "count", advice)


# ------------------------------------------------------------------------ values


def _gather(
    compared: _Compared,
    extractor: Extractor,
    metrics: list[Metric],
    settings: EvaluationSettings,
) -> tuple[EvaluationInputs, str]:
    """Returns the inputs of the metrics, and the hash of the real samples."""
    drawn = settings.nearest_picture is not None
    rows = drawn or any(metric.requires(*PER_SAMPLE) for metric in metrics)
    folder = cache_folder(settings.cache)
    progress = settings.progress
    options: dict[str, Any] = {"rows": rows, "progress": progress}
    real, digest = gather_cached(
        compared.real, compared.real_count, extractor, folder, title="Real samples", **options
    )
    generated = gather(compared.generated, compared.count, extractor, title="Samples", **options)

    def training() -> Statistics:
        whole = from_data(compared.data, "train")
        total, title = whole.count or 0, "Training samples"
        return gather_cached(whole, total, extractor, folder, title=title, progress=progress)[0]

    with_images = any(metric.requires("images") for metric in metrics)
    inputs = EvaluationInputs(
        real,
        generated,
        extractor,
        compared.data.spec,
        all_real=compared.real_count == compared.real.count,
        images=compared.images() if with_images else None,
        training=training,
        labeled=compared.labeled,
        epochs=settings.epochs,
        seed=settings.seed,
    )
    return inputs, digest


def _compute(
    metrics: list[Metric], inputs: EvaluationInputs
) -> tuple[dict[str, float], dict[str, Any], dict[str, Any]]:
    """Returns values, protocol entries and details of all metrics."""
    values: dict[str, float] = {}
    protocol: dict[str, Any] = {}
    details: dict[str, Any] = {}
    for metric in metrics:
        result, names = metric.result(inputs), metric.published_names(inputs)
        values |= {names.get(name, name): value for name, value in result.values.items()}
        details |= result.details
        if used := metric.settings(inputs):
            protocol[names.get(metric.name, metric.name)] = used
    return values, protocol, details


def _software() -> dict[str, str]:
    """Returns the versions of the libraries that compute values."""
    import onnxruntime  # its package has one of several names

    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"keras_gan": __version__, **versions, "onnxruntime": onnxruntime.__version__}
