"""What `evaluate` measures: each figure's name, what it asks for, and how it is computed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics.classification import Labelled, classification_accuracy
from keras_gan.metrics.density_coverage import density_coverage
from keras_gan.metrics.features import Extractor
from keras_gan.metrics.frechet import frechet_distance
from keras_gan.metrics.inception_score import inception_score
from keras_gan.metrics.kernel import kernel_distance
from keras_gan.metrics.mode_coverage import mode_coverage
from keras_gan.metrics.ms_ssim import ms_ssim_diversity
from keras_gan.metrics.nearest import nearest
from keras_gan.metrics.precision_recall import precision_recall
from keras_gan.metrics.sliced_wasserstein import sliced_wasserstein
from keras_gan.metrics.sources import class_keys
from keras_gan.metrics.statistics import Statistics
from keras_gan.registry import nearest as nearest_name
from keras_gan.spec import Spec

PICTURES = 1000  # images of each side that MS-SSIM and the picture of neighbors look at
FID_COUNT = 50_000  # generated samples of what is called FID without further words
SSIM_PAIRS = 1000
SCORE_SPLITS, SCORE_SEED = 10, 2020
KERNEL_SEED = 2020
DIRECTIONS, DIRECTIONS_SEED = 256, 0
KERNEL_SUBSETS, KERNEL_SUBSET = 100, 1000
PRECISION_NEIGHBORS, DENSITY_NEIGHBORS = 3, 5
_CLOSE = 5  # percentile of the held-out samples' distances: what is nearer is called close
_SSIM_SIDE = 11  # the window's

Values = dict[str, float]


@dataclasses.dataclass
class EvaluationInputs:
    """Both sides and what else a measure may ask for.

    Args:
        extractor: whose features and classes these are.
        real: statistics of the real samples.
        generated: of the generated ones.
        spec: of the real samples.
        all_real: whether the real samples are all of their split.
        pictures: some images of the real side and as many of the generated one, uint8, each with
            their labels or `None`.
        training: gives the statistics of the training split.
        labelled: gives generated, training and held-out samples with labels.
        epochs: of the classifiers of the classification accuracy score.
        seed: of the pairs of images and of the classifiers. What else is drawn has seeds of its
            own, which the protocol names: those by which others' figures came about.
        details: where measures leave what is no single figure.
        protocol: where measures leave how their figures came about.
    """

    extractor: Extractor
    real: Statistics
    generated: Statistics
    spec: Spec
    all_real: bool = True
    pictures: tuple[tuple[np.ndarray, np.ndarray | None], ...] | None = None
    training: Callable[[], Statistics] | None = None
    labelled: Callable[[], tuple[Labelled, Labelled, Labelled]] | None = None
    epochs: int = 5
    seed: int = 0
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    protocol: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def features(self) -> tuple[np.ndarray, np.ndarray]:
        """Real and generated ones."""
        if self.real.features is None or self.generated.features is None:
            raise UsageError(
                "This metric needs each sample's features. Received: statistics of rows=False"
            )
        return self.real.features, self.generated.features

    @functools.cached_property
    def training_features(self) -> np.ndarray:
        found = self.training().features if self.training is not None else None
        if found is None:
            raise UsageError("Nearest neighbors need a training split. Received: none")
        return found


@dataclasses.dataclass(frozen=True)
class MetricContext:
    """What is known before anything is computed, and decides which measures fit.

    Args:
        extractor: whose features.
        spec: of the real samples.
        labelled: whether the generated samples have labels.
        has_training: whether there is a training split beside the samples compared with.
        count: of the generated samples.
        real_count: of the real ones.
        truncation: factor on the latents of the generated samples.
    """

    extractor: Extractor
    spec: Spec
    labelled: bool
    has_training: bool
    count: int
    real_count: int
    truncation: float = 1.0


@dataclasses.dataclass(frozen=True)
class Measure:
    """A metric as `evaluate` knows it.

    Args:
        compute: gives figures by name.
        needs: says what the setting lacks for it, or `None`.
        others: further names by which it may be asked for.
        rows: whether it needs each sample's features.
        by_default: whether it is computed where none is named.
    """

    compute: Callable[[EvaluationInputs], Values]
    needs: Callable[[MetricContext], str | None] = lambda setting: None
    others: tuple[str, ...] = ()
    rows: bool = True
    by_default: bool = True


# ------------------------------------------------------------------------ figures


def _frechet(c: EvaluationInputs) -> Values:
    """With the standard network it is the FID, whose name tells any other count than the usual.

    The usual is 50,000 generated samples against all real ones, or as many.
    """
    name = "frechet_distance"
    if c.extractor.standard:
        count = c.generated.count
        usual = count == FID_COUNT and (c.all_real or c.real.count >= FID_COUNT)
        name = "fid" if usual else f"fid_{count}"
    return {name: frechet_distance(c.real.moments, c.generated.moments)}


def kernel_subset(real: int, generated: int) -> int:
    """Samples in a subset of the kernel distance: 1,000, or half of the smaller side.

    Of subsets that are all samples there would be but one, and no standard error.
    """
    return max(2, min(KERNEL_SUBSET, min(real, generated) // 2))


def _kernel(c: EvaluationInputs) -> Values:
    size = kernel_subset(c.real.count, c.generated.count)
    told = {"subsets": KERNEL_SUBSETS, "subset_size": size, "seed": KERNEL_SEED}
    c.protocol["kernel_distance"] = told
    found = kernel_distance(*c.features, **told)
    return {"kernel_distance": found.mean, "kernel_distance_error": found.standard_error}


def _class_score(c: EvaluationInputs) -> Values:
    name = "inception_score" if c.extractor.standard else "class_score"
    told = {"splits": min(SCORE_SPLITS, c.generated.count), "seed": SCORE_SEED}
    c.protocol[name] = told
    found = inception_score(_probabilities(c.generated), **told)
    return {name: found.mean, f"{name}_deviation": found.deviation}


def _precision_recall(c: EvaluationInputs) -> Values:
    c.protocol["precision_recall"] = {"neighbors": PRECISION_NEIGHBORS}
    return precision_recall(*c.features, neighbors=PRECISION_NEIGHBORS)._asdict()


def _density_coverage(c: EvaluationInputs) -> Values:
    c.protocol["density_coverage"] = {"neighbors": DENSITY_NEIGHBORS}
    return density_coverage(*c.features, neighbors=DENSITY_NEIGHBORS)._asdict()


def _sliced_wasserstein(c: EvaluationInputs) -> Values:
    told = {"directions": DIRECTIONS, "seed": DIRECTIONS_SEED}
    c.protocol["feature_sliced_wasserstein"] = told
    return {"feature_sliced_wasserstein": sliced_wasserstein(*c.features, **told)}


def _ms_ssim(c: EvaluationInputs) -> Values:
    if c.pictures is None:
        raise UsageError("MS-SSIM needs images. Received: none")
    of_classes = all(_has_pairs(labels) for _, labels in c.pictures)
    values = {}
    for name, (images, labels) in zip(("ms_ssim_real", "ms_ssim"), c.pictures, strict=True):
        within = labels if of_classes else None
        values[name] = ms_ssim_diversity(images, SSIM_PAIRS, (0, 255), c.seed, within)
    c.protocol["ms_ssim"] = {
        "images": len(c.pictures[0][0]),
        "pairs": SSIM_PAIRS,
        "of": "one class" if of_classes else "any two images",
        "seed": c.seed,
    }
    return {name: values[name] for name in ("ms_ssim", "ms_ssim_real")}


def _has_pairs(labels: np.ndarray | None) -> bool:
    """Whether every class that comes comes twice."""
    return labels is not None and bool(np.unique(labels, return_counts=True)[1].min() > 1)


def _mode_coverage(c: EvaluationInputs) -> Values:
    """Shares are those of the real samples' classes, one sample added to each: none is 0."""
    classes = c.extractor.classes
    shares = np.bincount(_predicted(c.real), minlength=classes) + 1
    found = mode_coverage(_predicted(c.generated), classes if c.extractor.uniform else shares)
    return {"modes": float(found.modes), "reverse_kl": found.reverse_kl}


def _label_accuracy(c: EvaluationInputs) -> Values:
    values: Values = {}
    ids = _data_ids(c.extractor, c.spec)
    if ids is None:
        raise UsageError("Labels can be judged in the extractor's classes alone. Received: others")
    for side, name in ((c.generated, "label_accuracy"), (c.real, "label_accuracy_real")):
        if side.labels is None:
            continue
        hits = ids[_predicted(side)] == side.labels
        classes = {int(k): float(hits[side.labels == k].mean()) for k in np.unique(side.labels)}
        values[name] = float(hits.mean())
        if side is c.generated:
            worst = min(classes, key=lambda k: classes[k])
            values["label_accuracy_worst"] = classes[worst]
            c.details["label_accuracy"] = {_class_name(c, k): v for k, v in classes.items()}
            c.details["label_accuracy_worst_class"] = _class_name(c, worst)
    return values


def _data_ids(extractor: Extractor, spec: Spec) -> np.ndarray | None:
    """The data's id of each of the extractor's classes; `None` where the classes are others.

    By name where both have names, as the ids of a folder are in the order of its names; else by id.
    """
    if extractor.classes != spec.num_classes:
        return None
    known = class_keys(spec)
    own = class_keys(spec.with_classes(extractor.classes, tuple(extractor.class_names)))
    if isinstance(known[0], int) or isinstance(own[0], int):
        own = list(range(extractor.classes))
    if isinstance(known[0], str) and isinstance(own[0], int):
        known = list(range(extractor.classes))
    if set(own) != set(known):
        return None
    return np.array([known.index(name) for name in own])


def _class_name(c: EvaluationInputs, label: int) -> str:
    return c.spec.class_names[label] if c.spec.class_names else str(label)


def _nearest(c: EvaluationInputs) -> Values:
    """Distances of generated samples to the training data, beside those of samples it never saw."""
    generated = nearest(c.features[1], c.training_features).distances[:, 0]
    unseen = nearest(c.features[0], c.training_features).distances[:, 0]
    scale = float(np.median(unseen))
    return {
        "nearest_distance": float(np.median(generated)),
        "nearest_distance_real": scale,
        "nearest_ratio": float(np.median(generated)) / scale if scale > 0 else float("nan"),
        "nearest_close": float((generated < np.percentile(unseen, _CLOSE)).mean()),
    }


def _classification_accuracy(c: EvaluationInputs) -> Values:
    if c.labelled is None:
        raise UsageError("A classification accuracy needs labelled samples. Received: none")
    generated, train, test = c.labelled()
    found = classification_accuracy(generated, train, test, epochs=c.epochs, seed=c.seed)
    named = {_class_name(c, label): value for label, value in found.classes.items()}
    c.details["classification_accuracy"] = named
    c.protocol["classification_accuracy"] = {
        "epochs": c.epochs,
        "generated": len(generated[0]),
        "training": len(train[0]),
        "test": len(test[0]),
        "seed": c.seed % 2**32,
    }
    return {
        "classification_accuracy": found.score,
        "classification_accuracy_reverse": found.reverse,
        "classification_accuracy_real": found.real,
    }


def _probabilities(side: Statistics) -> np.ndarray:
    if side.probabilities is None:
        raise UsageError("This metric needs an extractor with classes. Received: one without")
    return side.probabilities


def _predicted(side: Statistics) -> np.ndarray:
    return _probabilities(side).argmax(axis=1)


# ------------------------------------------------------------------------ needs


def _needs_classes(setting: MetricContext) -> str | None:
    if not setting.extractor.classes:
        return f"an extractor with classes, which {setting.extractor.name!r} is not"
    return None


def _needs_labels(setting: MetricContext) -> str | None:
    if not setting.labelled:
        return "generated samples with labels"
    return None


def _needs_label_classes(setting: MetricContext) -> str | None:
    missing = _needs_labels(setting) or _needs_classes(setting)
    classes = setting.extractor.classes
    if missing is None and classes != setting.spec.num_classes:
        return (
            f"an extractor with the data's {setting.spec.num_classes} classes, "
            f"which {setting.extractor.name!r} with {classes} is not"
        )
    if missing is None and _data_ids(setting.extractor, setting.spec) is None:
        return f"an extractor of the data's classes, and {setting.extractor.name!r} has other names"
    return missing


def _needs_training(setting: MetricContext) -> str | None:
    if not setting.has_training:
        return "data with a training split, and split='held_out' compared with"
    return None


def _needs_labelled_training(setting: MetricContext) -> str | None:
    if not setting.spec.num_classes:
        return "data with labels"
    return _needs_labels(setting) or _needs_training(setting)


def _needs_images(setting: MetricContext) -> str | None:
    if setting.spec.kind != "image" or min(setting.spec.shape[:2]) < _SSIM_SIDE:
        return f"images of at least {_SSIM_SIDE}x{_SSIM_SIDE}"
    return None


def _needs_equal(setting: MetricContext) -> str | None:
    equal = setting.count == setting.real_count
    return None if equal else "as many real samples as generated ones"


def _needs_neighbors(neighbors: int) -> Callable[[MetricContext], str | None]:
    def needs(setting: MetricContext) -> str | None:
        enough = min(setting.count, setting.real_count) > neighbors
        return None if enough else f"at least {neighbors + 1} samples of either side"

    return needs


MEASURES = {
    "frechet_distance": Measure(_frechet, others=("fid",), rows=False),
    "kernel_distance": Measure(_kernel, others=("kid",)),
    "class_score": Measure(_class_score, _needs_classes, others=("inception_score",)),
    "precision_recall": Measure(
        _precision_recall, _needs_neighbors(PRECISION_NEIGHBORS), others=("precision", "recall")
    ),
    "density_coverage": Measure(
        _density_coverage, _needs_neighbors(DENSITY_NEIGHBORS), others=("density", "coverage")
    ),
    "feature_sliced_wasserstein": Measure(
        _sliced_wasserstein, _needs_equal, others=("sliced_wasserstein",)
    ),
    "ms_ssim": Measure(_ms_ssim, _needs_images, rows=False),
    "mode_coverage": Measure(_mode_coverage, _needs_classes, others=("modes", "reverse_kl")),
    "label_accuracy": Measure(_label_accuracy, _needs_label_classes),
    "nearest": Measure(_nearest, _needs_training),
    "classification_accuracy": Measure(
        _classification_accuracy, _needs_labelled_training, rows=False, by_default=False
    ),
}


# What may be called so only of the standard network, and its name of any other.
_STANDARD = {
    "fid": ("FID", "frechet_distance"),
    "kid": ("KID", "kernel_distance"),
    "inception_score": ("The Inception score", "class_score"),
}


def wants_equal(metrics: list[str] | None) -> bool:
    """Whether metrics are asked for by name that compare as many samples of either side."""
    names = (_name_of(_text(given)) for given in metrics or ())
    return any(name is not None and MEASURES[name].needs is _needs_equal for name in names)


def listed(metrics: Iterable[str] | str | None) -> list[str] | None:
    """The names that were given, once and for all: an iterator can be read but once.

    Raises:
        UsageError: no names.
    """
    if metrics is None:
        return None
    names = [metrics] if isinstance(metrics, str) else metrics
    names = list(names) if isinstance(names, Iterable) else []
    if not names:
        raise UsageError(
            "metrics must be names of metrics, at least one; metrics=None takes all that fit. "
            f"Received: metrics={metrics!r:.80}"
        )
    return names


def _text(given: Any) -> str:
    return str(given).strip().replace("-", "_")


def _name_of(text: str) -> str | None:
    """The measure's own name, of whichever it goes by."""
    return next((n for n, m in MEASURES.items() if text == n or text in m.others), None)


def select(metrics: list[str] | None, setting: MetricContext) -> list[str]:
    """Names of the measures to compute, in the table's order: all that fit, or those asked for.

    Raises:
        UsageError: an unknown name, or one that does not fit.
    """
    if metrics is None:
        return [
            name
            for name, measure in MEASURES.items()
            if measure.by_default and measure.needs(setting) is None
        ]
    chosen = set()
    for given in metrics:
        text = _text(given)
        name = _name_of(text)
        if name is None:
            raise UsageError(
                f"No metric has that name. Received: {given!r}. {nearest_name(text, MEASURES)}"
            )
        missing = MEASURES[name].needs(setting)
        if missing is not None:
            raise UsageError(f"The metric {name} needs {missing}. Received: metrics={given!r}")
        if text in _STANDARD and not setting.extractor.standard:
            called, same = _STANDARD[text]
            if setting.truncation != 1:
                rule = "of latents that are not truncated (truncation=1)"
                rule += f"; {same} is the same of others"
                received = f"truncation={setting.truncation:g}"
            else:
                rule = f"with the extractor inception; {same} is the same with another"
                received = f"features={setting.extractor.name!r}"
            raise UsageError(
                f"{called} is called so only {rule}. Received: {given!r} with {received}"
            )
        chosen.add(name)
    return [name for name in MEASURES if name in chosen]
