"""Evaluation of generated samples against data, with the protocol of every value."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import os
import pathlib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_gan._version import __version__
from keras_gan.arguments import check_integer, is_integer
from keras_gan.errors import UsageError
from keras_gan.metrics import directions, nearest_picture, training_data
from keras_gan.metrics._metric import (
    IMAGES,
    EvaluationInputs,
    Metric,
    MetricContext,
)
from keras_gan.metrics.accumulators import Moments
from keras_gan.metrics.class_matching import like_real, match_classes
from keras_gan.metrics.compared import Compared
from keras_gan.metrics.extractor import Extractor
from keras_gan.metrics.features import default_features, open_features, origin_note
from keras_gan.metrics.generators import Drawing
from keras_gan.metrics.real_data import conditions_of, from_data, is_paired, open_data, split_spec
from keras_gan.metrics.requirements import ANSWERS, OF_FEATURES, OF_PAIRS, PER_SAMPLE
from keras_gan.metrics.result import EvaluationResult, check_target
from keras_gan.metrics.samples import Codes, Samples, check_count
from keras_gan.metrics.selection import need_equal_counts, parse_names, select
from keras_gan.metrics.sources import open_samples
from keras_gan.metrics.statistics import Statistics, cache_folder, gather, gather_cached
from keras_gan.spec import Spec
from serving.seeds import check_seeds

_PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "pillow")
_COUNT = 10_000  # default number of generated samples
_VALUES = 2**30  # values of the pairs that the default number does not exceed
_SPLITS = {"held_out": "held_out", "test": "held_out", "train": "train", "all": "all"}


@dataclasses.dataclass
class EvaluationSettings:
    """Settings of `evaluate`.

    Args:
        metrics: names of the metrics; by default all that apply to the samples and the extractor
            except `classification_accuracy`, which trains two classifiers. For images without an
            extractor: those that need no network, and for answers to the conditions of paired data
            those of pairs.
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
        network: of a run of a game with several generators: the one to evaluate, such as
            `"backward"`, whose samples are compared with the conditions of the data.
        nearest_picture: path of a PNG file to write: generated images beside their nearest
            training images.
        cache: keep the statistics of the real samples in the user's cache folder; or a folder.
        progress: show progress bars on stderr, if that is a terminal.
        epochs: epochs of the classifiers of `classification_accuracy`.
        data_options: options of the data set.
        controls: further runs, bundles or samples that are evaluated in the same way, by path, or
            a mapping from names to them. Beside answers to the conditions of paired data there is
            always the control `"identity"`, the conditions themselves, or `"bicubic"`, the
            conditions resized by Pillow's filter; beside sounds that answer spectrograms there are
            `"griffin-lim"` and `"real"`; and the generator of a first stage, if a game has one.
        luma: PSNR and SSIM compare the luma of color pictures instead of all channels.
        shave: pixels at each border that PSNR and SSIM leave out, from 0 up.

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
    network: str | None = None
    nearest_picture: str | os.PathLike[str] | None = None
    cache: bool | str | os.PathLike[str] | None = True
    progress: bool = True
    epochs: int = 5
    data_options: dict[str, Any] | None = None
    controls: Iterable[Any] | Mapping[str, Any] = ()
    luma: bool = False
    shave: int = 0

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
        check_integer("shave", self.shave, 0)
        if not isinstance(self.controls, Mapping):
            self.controls = _by_name(self.controls)
        if self.nearest_picture is not None:
            check_target(self.nearest_picture)
        seeds = check_seeds(self.seed)
        if len(seeds) != 1:
            raise UsageError(
                f"seed must be one integer, the first seed. Received: seed={self.seed!r:.80}"
            )
        self.seed = int(seeds[0])


def _by_name(controls: Any) -> dict[str, Any]:
    """Returns controls by their paths."""
    if isinstance(controls, str | os.PathLike) or not isinstance(controls, Iterable):
        controls = [controls]
    paths: list[Any] = list(controls)
    names: list[Any] = [os.fspath(p) if isinstance(p, os.PathLike) else p for p in paths]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise UsageError(
            "`controls` must be different paths, or a mapping from names to runs, bundles or "
            f"samples. Received: controls={names!r:.80}"
        )
    return dict(zip(names, paths, strict=True))


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
            `average`, `truncation`, `checkpoint`, `network`, `nearest_picture`, `cache`,
            `progress`, `epochs`, `data_options`, `controls`, `luma` and `shave`.

    Raises:
        UsageError: an argument that is invalid, missing, or does not fit the others.
    """
    chosen = EvaluationSettings(**settings)
    compared = _open(source, data, count, chosen)
    spec = compared.spec
    chosen_features = default_features(compared.data, spec) if features is None else features
    extractor = open_features(chosen_features, spec)
    if chosen.truncation != 1:  # not the standard protocol, and therefore not called FID
        extractor = dataclasses.replace(extractor, standard=False)
    context = compared.context(extractor, chosen.truncation)
    # Features that are no network's leave the choice of the metrics to the kind.
    usual = _usual(context) if features is None and not extractor.classes else ()
    metrics = select(chosen.names, context, usual)
    if chosen.nearest_picture is not None:
        nearest_picture.check(spec, compared.has_training)
    gathering = _Gathering(extractor, metrics, chosen)
    real, digest = gathering.real(compared)
    inputs = gathering.inputs(compared, real)
    values, protocol, details = _compute(metrics, inputs)
    if chosen.nearest_picture is not None:
        path = pathlib.Path(os.path.expanduser(chosen.nearest_picture))
        images = compared.generated.take(min(compared.count, IMAGES))[0]
        nearest_picture.draw(path, inputs, images, compared.data)
    controls = {name: gathering.values(of, real) for name, of in compared.each_control()}
    protocol = compared.protocol(extractor, digest, chosen.seed) | protocol
    note = origin_note(extractor, compared.data)
    protocol |= {"note": note} if note else {}
    protocol["software"] = _software()
    return EvaluationResult(values, protocol, details, controls)


def _usual(context: MetricContext) -> tuple[str, ...]:
    """Returns the metrics that need no network, by the samples' kind; empty for all."""
    if context.answers and context.paired:
        between_domains = context.invertible or context.unpaired
        usual = context.spec.modality.pair_metrics
        return (*usual, *(["pair_accuracy"] if between_domains else []))
    usual = context.spec.modality.metrics
    further = ("cycle_l1",) if context.invertible else ()
    further += ("accuracy", "calibration_error", "novelty_auroc") if context.classes else ()
    return (*usual, *further) if usual else usual


# ------------------------------------------------------------------------ samples


def _open(source: Any, data: Any, count: Any, settings: EvaluationSettings) -> Compared:
    """Opens both sets of samples and determines how many of each are compared."""
    source, checkpoint = training_data.locate(source, settings.checkpoint)
    backward = directions.is_backward(source, settings.network)
    by_default = data is None and not settings.data_options
    data, options = training_data.data_to_compare(source, data, settings.data_options)
    opened = training_data.as_trained(source, open_data(data, options))
    split = "all" if isinstance(data, np.ndarray | tuple) else settings.split
    training_data.check_training_data(source, opened, data, by_default, split)
    as_recorded, opened = opened, opened.swapped("condition") if backward else opened
    real, spec = from_data(opened, split), split_spec(opened, split)
    paired = is_paired(opened, split)
    conditions = conditions_of(opened, split, _expected(settings, count, real, spec, paired))
    drawing = Drawing(
        settings.seed, settings.average, settings.truncation, conditions, settings.network
    )
    answers = real if paired else None
    generated = _open_one(source, spec, drawing, checkpoint, answers)
    controls = {}
    for name, control in settings.controls.items():  # pyright: ignore[reportAttributeAccessIssue]
        found, last = training_data.locate(control, "last")
        training_data.check_training_data(found, as_recorded, data, False, split)
        of_control = directions.network_of_control(found, backward)
        drawn = dataclasses.replace(drawing, network=of_control)
        controls[name] = _open_one(found, spec, drawn, last, answers)
    count = _default_count(generated, real, spec, paired) if count is None else count
    for samples in (*controls.values(), generated):
        count = check_count(count, samples, "count")
    real_count = _real_count(settings, count, real)
    return Compared(
        like_real(generated, real, real_count),
        real,
        opened,
        spec,
        conditions,
        count,
        real_count,
        has_training=split == "held_out" and "train" in opened.split_names,
        paired=paired,
        luma=settings.luma,
        shave=settings.shave,
        controls={name: like_real(of, real, real_count) for name, of in controls.items()},
    )


def _open_one(
    source: Any, spec: Spec, drawing: Drawing, checkpoint: str, answers: Samples | None
) -> Samples:
    """Opens samples to compare with data, with the data's classes.

    Args:
        source, checkpoint: see `open_samples`.
        spec: description of the real samples.
        drawing: settings for drawing from a generator.
        answers: the right answers to conditions, which arrays of as many samples answer in order.
    """
    samples = open_samples(source, spec, drawing, checkpoint)
    _check_shapes(samples.spec, spec)
    samples = match_classes(samples, spec)
    if samples.answers or answers is None or samples.count != answers.count:
        return samples
    is_path = isinstance(source, str | os.PathLike)
    is_array = isinstance(source, np.ndarray | tuple)
    is_file = is_path and pathlib.Path(source).suffix in (".npz", ".npy")
    if is_path and not is_file:
        warnings.warn(
            f"Pairs are compared row by row with {ANSWERS}; files of a folder are compared as "
            f"a whole. Received: {os.fspath(source)}",
            stacklevel=4,
        )
    return dataclasses.replace(samples, answers=is_array or is_file)


def _expected(
    settings: EvaluationSettings, count: Any, real: Samples, spec: Spec, paired: bool
) -> int:
    """Returns the number of real samples, where a generator makes as many as are asked for."""
    wanted = settings.real_count if settings.real_count is not None else count
    if wanted is None:
        return _default_count(real, real, spec, paired)
    total = real.count or 0
    return min(wanted, total) if is_integer(wanted, 1) else total


def _check_shapes(generated: Spec, real: Spec) -> None:
    if not generated.samples.accepts_shape(real.shape):
        raise UsageError(
            "Generated and real samples must have one shape. "
            f"Received: generated samples of shape {generated.shape}, real ones of {real.shape}"
        )


def _default_count(generated: Samples, real: Samples, spec: Spec, paired: bool) -> int:
    """Returns 10,000, or as many as there are of both, or as fit into memory as pairs."""
    most = _COUNT
    if paired:
        most = max(2, min(most, _VALUES // math.prod(spec.shape)))
    return min(most, *(s.count for s in (generated, real) if s.count is not None))


def _real_count(settings: EvaluationSettings, count: int, real: Samples) -> int:
    if settings.real_count is not None:
        return check_count(settings.real_count, real, "real_count")
    if not need_equal_counts(settings.names):
        count = min(count, real.count or count)
    advice = "; give a smaller count, or leave out the metrics that need as many real samples"
    return check_count(count, real, "count", advice)


# ------------------------------------------------------------------------ values


@dataclasses.dataclass(frozen=True)
class _Gathering:
    """Collection of what metrics need.

    Args:
        extractor: the extractor of the features.
        metrics: the metrics.
        settings: settings of the evaluation.
    """

    extractor: Extractor
    metrics: list[Metric]
    settings: EvaluationSettings

    def _needed(self, *needs: str) -> bool:
        return any(metric.requires(*needs) for metric in self.metrics)

    @property
    def _options(self) -> dict[str, Any]:
        drawn = self.settings.nearest_picture is not None
        return {"rows": drawn or self._needed(*PER_SAMPLE), "progress": self.settings.progress}

    def _has_features(self) -> bool:
        return self.settings.nearest_picture is not None or self._needed(*OF_FEATURES)

    def real(self, compared: Compared) -> tuple[Statistics, str]:
        """Returns statistics of the real samples, and their hash."""
        samples, count = compared.real, compared.real_count
        if not self._has_features() and samples.digest is not None:
            return Statistics(Moments()), samples.digest(count)
        folder = cache_folder(self.settings.cache)
        return gather_cached(
            samples, count, self.extractor, folder, title="Real samples", **self._options
        )

    def inputs(self, compared: Compared, real: Statistics) -> EvaluationInputs:
        """Returns the inputs of the metrics."""
        generated = Statistics(Moments())
        if self._has_features():
            generated = gather(
                compared.generated, compared.count, self.extractor, title="Samples", **self._options
            )
        has_images, answers = self._needed("images"), compared.generated.answers
        pairs = compared.pairs() if answers and self._needed("images", *OF_PAIRS) else None
        return EvaluationInputs(
            real,
            generated,
            self.extractor,
            compared.spec,
            all_real=compared.real_count == compared.real.count,
            images=compared.images(pairs) if has_images else None,
            pairs=pairs,
            training=lambda: self._training(compared),
            labeled=compared.labeled,
            codes=self._codes(compared),
            classified=compared.classified,
            tokens=compared.texts,
            token_logits=compared.generated.token_logits,
            epochs=self.settings.epochs,
            seed=self.settings.seed,
        )

    def _codes(self, compared: Compared) -> Codes | None:
        codes = compared.generated.codes
        return codes(compared.count) if codes is not None and self._needed("codes") else None

    def values(self, compared: Compared, real: Statistics) -> dict[str, float]:
        """Returns the values of those metrics that apply to a control."""
        context = compared.context(self.extractor, self.settings.truncation)
        metrics = [metric for metric in self.metrics if metric.missing(context) is None]
        of_these = dataclasses.replace(self, metrics=metrics)
        return _compute(metrics, of_these.inputs(compared, real))[0]

    def _training(self, compared: Compared) -> Statistics:
        whole, folder = from_data(compared.data, "train"), cache_folder(self.settings.cache)
        total, title = whole.count or 0, "Training samples"
        progress = self.settings.progress
        options: dict[str, Any] = {"title": title, "progress": progress}
        return gather_cached(whole, total, self.extractor, folder, **options)[0]


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
