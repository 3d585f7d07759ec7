"""Base class of the metrics, and the inputs that they read."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from keras_gan import registry
from keras_gan.errors import UsageError
from keras_gan.metrics import tracks
from keras_gan.metrics.classified import Classified
from keras_gan.metrics.pairs import Pairs
from keras_gan.metrics.requirements import MetricContext, Missing, check_need
from keras_gan.metrics.samples import Batch, Codes, Likelihood
from keras_gan.metrics.statistics import Statistics
from keras_gan.metrics.stills import CLIPS, Stills
from keras_gan.metrics.texts import Texts
from keras_gan.spec import Spec
from serving.kinds.audio import rate_of

Labeled = tuple[np.ndarray, np.ndarray]

IMAGES = 1000  # real samples, and generated ones, for metrics of images and of clips


@dataclasses.dataclass
class EvaluationInputs:
    """Real and generated samples, as the metrics read them.

    A comparison during training fills only `real`, `generated`, `spec`, `values`, `images`,
    `pairs`, `extractor`, `training_values` and `tokens`.

    Args:
        real: statistics of the real samples.
        generated: statistics of the generated samples.
        extractor: the `Extractor` of the features and classes; during training any function from
            samples to features, or `None`.
        spec: `Spec` of the real samples.
        values: the real and the generated samples themselves.
        all_real: whether the real samples are all samples of their split.
        images: up to 1,000 real samples and as many generated ones, images as uint8, each with
            labels or `None`.
        pairs: real samples, answers and conditions of the same examples, row by row.
        training: function that returns the statistics of the training split.
        training_values: training samples themselves; during training only.
        codes: codes of the generated samples, of a generator that has them.
        swaps: function from a count to that many generated samples, and to as many of the same
            content with other latents beside it, of a generator that draws the content apart.
        labeled: function that returns generated, training and held-out samples with labels.
        classified: function that returns the discriminator's judgment of real and generated
            samples, if it classifies.
        tokens: function that returns real, generated and training texts as ids of tokens.
        token_logits: see `likelihood_of`, of a generator that has a likelihood.
        epochs: epochs of the classifiers of the classification accuracy score.
        seed: seed of the pairs of images and of the classifiers. Other random choices have fixed
            seeds, which the protocol names, so that the results agree with published ones.
    """

    real: Statistics
    generated: Statistics
    extractor: Any = None
    spec: Any = None
    values: tuple[np.ndarray, np.ndarray] | None = None
    all_real: bool = True
    images: tuple[Batch, Batch] | None = None
    pairs: Pairs | None = None
    training: Callable[[], Statistics] | None = None
    training_values: np.ndarray | None = None
    codes: Codes | None = None
    swaps: Callable[[int], tuple[np.ndarray, np.ndarray]] | None = None
    labeled: Callable[[], tuple[Labeled, Labeled, Labeled]] | None = None
    classified: Callable[[], Classified] | None = None
    tokens: Callable[[], Texts] | None = None
    token_logits: Likelihood | None = None
    epochs: int = 5
    seed: int = 0

    @functools.cached_property
    def judged(self) -> Classified:
        """The discriminator's judgment of real and generated samples."""
        if self.classified is None:
            raise UsageError("The metric needs a discriminator that classifies. Received: none")
        return self.classified()

    @property
    def features(self) -> tuple[np.ndarray, np.ndarray]:
        """Features of the real and of the generated samples."""
        if self.real.features is None or self.generated.features is None:
            raise UsageError("The metric must declare its need of features. Received: moments only")
        return self.real.features, self.generated.features

    @property
    def probabilities(self) -> tuple[np.ndarray, np.ndarray]:
        """Class probabilities of the real and of the generated samples."""
        if self.real.probabilities is None or self.generated.probabilities is None:
            raise UsageError("The extractor must have classes. Received: one without classes")
        return self.real.probabilities, self.generated.probabilities

    @property
    def predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """Most probable class of each real and of each generated sample."""
        real, generated = self.probabilities
        return real.argmax(axis=1), generated.argmax(axis=1)

    @property
    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Real samples and as many generated ones, images as uint8."""
        if self.images is None:
            raise UsageError("The metric must declare its need of images. Received: no images")
        (real, _), (generated, _) = self.images
        return real, generated

    @functools.cached_property
    def texts(self) -> Texts:
        """Real, generated and training texts as ids of tokens."""
        if self.tokens is None:
            raise UsageError("The metric must declare its need of texts. Received: no texts")
        return self.tokens()

    @property
    def sample_rate(self) -> int:
        """Sampling rate of sounds in Hz."""
        return rate_of(self.spec.samples.meta)

    @property
    def paired(self) -> Pairs:
        """Real samples, answers and conditions, row by row."""
        if self.pairs is None:
            raise UsageError("The metric must declare its need of pairs. Received: no pairs")
        return self.pairs

    @property
    def codes_of_samples(self) -> Codes:
        """Codes of the generated samples."""
        if self.codes is None:
            raise UsageError("The metric must declare its need of codes. Received: no codes")
        return self.codes

    @property
    def factors(self) -> dict[str, np.ndarray]:
        """Levels of the known factors of the generated samples, ints from 0, by name."""
        names = self.extractor.factors
        return {n: self.features[1][:, i].astype(np.int64) for i, n in enumerate(names)}

    @functools.cached_property
    def stills(self) -> tuple[Stills, Stills]:
        """Frames of up to 256 real and of as many generated videos, each by itself."""
        still = self.extractor.still
        if still is None:
            raise UsageError(
                "The metric needs an extractor of frames, such as video_classifier. "
                f"Received: features={self.extractor.name!r}"
            )
        real, generated = (Stills.of(videos[:CLIPS], still) for videos in self.pixels)
        return real, generated

    @functools.cached_property
    def tracks(self) -> tuple[tracks.Tracks, tracks.Tracks]:
        """Tracks of the one object in real and in generated videos."""
        real, generated = map(tracks.measure, self.pixels)
        return real, generated

    @functools.cached_property
    def training_features(self) -> np.ndarray:
        """Features of the training split."""
        features = self.training().features if self.training is not None else None
        if features is None:
            raise UsageError("Nearest neighbors need a training split. Received: no training split")
        return features

    @functools.cached_property
    def labeled_samples(self) -> tuple[Labeled, Labeled, Labeled]:
        """Generated, training and held-out samples with labels."""
        if self.labeled is None:
            raise UsageError("The metric needs labeled samples. Received: no labels")
        return self.labeled()


class MetricResult(NamedTuple):
    """Values of a metric.

    Args:
        values: numbers by name.
        details: results that are not single numbers, such as the accuracy of each class.
    """

    values: dict[str, float]
    details: dict[str, Any] = {}


class Metric(abc.ABC):
    """Base class of the metrics that `evaluate` and comparisons during training compute.

    A subclass defines `of`; its name is the class name in snake case. Class attributes declare
    what it needs, and one place, `missing`, checks that before anything is computed.

    Attributes:
        title: name in tables and reports.
        better: `"lower"` or `"higher"`; `None` if neither is, or if its values differ.
        least: fewest real, and fewest generated, samples.
        kinds: kinds of samples that it is defined for; `None` for all.
        least_size: fewest pixels of an image's height and width.
        needs: further requirements, of `requirements.NEEDS`.
        outputs: names of its values if each can be requested by itself; empty for a metric with
            one value of its own name.
        aliases: other names by which it can be requested.
        standard_names: names that require the standard network, with what each stands for.
        by_default: computed by `evaluate` when no metrics are named.
        in_evaluate: available in `evaluate`.
        in_training: cheap enough for a comparison during training, without the training set.
        order: position among the results; ties are sorted by name.
    """

    title: ClassVar[str]
    better: ClassVar[Literal["lower", "higher"] | None] = None
    least: ClassVar[int] = 2
    kinds: ClassVar[tuple[str, ...] | None] = None
    least_size: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("features",)
    outputs: ClassVar[tuple[str, ...]] = ()
    aliases: ClassVar[tuple[str, ...]] = ()
    standard_names: ClassVar[Mapping[str, str]] = {}
    by_default: ClassVar[bool] = True
    in_evaluate: ClassVar[bool] = True
    in_training: ClassVar[bool] = False
    order: ClassVar[int] = 1000

    def of_argument(self, argument: str) -> Metric:
        """Returns the metric with the argument that follows its name and a colon in a request.

        Raises:
            UsageError: the metric takes no argument, or not this one.
        """
        raise UsageError(
            f"The metric {self.name} takes no argument. Received: {self.name}:{argument}"
        )

    @property
    def name(self) -> str:
        """Name of the metric."""
        return registry.snake_case(type(self).__name__)

    @property
    def requests(self) -> tuple[str, ...]:
        """Names of the values that can be requested by themselves."""
        return self.outputs or (self.name,)

    @property
    def names(self) -> set[str]:
        """All names by which the metric can be requested in `evaluate`."""
        return {self.name, *self.outputs, *self.aliases, *self.standard_names}

    def requires(self, *needs: str) -> bool:
        """Returns whether the metric declares one of these needs."""
        return not set(needs).isdisjoint(self.needs)

    @abc.abstractmethod
    def of(self, inputs: EvaluationInputs) -> float | Mapping[str, float] | MetricResult:
        """Computes the metric.

        Returns:
            One number, which gets the metric's name; numbers by name; or a `MetricResult`.
        """

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        """Returns the entries of a result's protocol: seeds, subsets, neighbors."""
        return {}

    def published_names(self, inputs: EvaluationInputs) -> dict[str, str]:
        """Returns the names that replace those of values in a result, such as `fid`."""
        return {}

    def training_protocol(self, count: int) -> dict[str, Any]:
        """Returns the entries of a comparison's protocol during training, for `count` samples."""
        return {}

    def unfit(self, spec: Spec) -> Missing | None:
        """Returns the requirement that samples do not meet by their kind or size, or `None`."""
        if self.kinds is not None and spec.kind not in self.kinds:
            return Missing(f"samples of kind {' or '.join(self.kinds)}", f"kind {spec.kind!r}")
        if spec.modality.has_pixels and min(spec.shape[:2]) < self.least_size:
            size = f"{self.least_size}x{self.least_size}"
            return Missing(f"images of at least {size}", f"{spec.shape[0]}x{spec.shape[1]}")
        return None

    def missing(self, context: MetricContext) -> Missing | None:
        """Returns the first requirement that is not met, or `None`.

        Raises:
            UsageError: the metric declares an unknown need.
        """
        unfit = self.unfit(context.spec)
        if unfit is not None:
            return unfit
        if min(context.count, context.real_count) < self.least:
            return Missing(
                f"at least {self.least} real and {self.least} generated samples",
                f"{context.real_count} real and {context.count} generated samples",
            )
        found = (check_need(type(self).__name__, need)(context) for need in self.needs)
        return next((missing for missing in found if missing is not None), None)

    def result(self, inputs: EvaluationInputs) -> MetricResult:
        """Returns the values of `of` by name, as floats."""
        found = self.of(inputs)
        if not isinstance(found, MetricResult):
            found = MetricResult(dict(found) if isinstance(found, Mapping) else {self.name: found})
        return MetricResult({k: float(v) for k, v in found.values.items()}, found.details)


# ------------------------------------------------------------------------ registry


def all_metrics() -> list[Metric]:
    """Returns an instance of every metric, in the order of results."""
    classes: dict[str, Any] = dict(registry.classes(Metric))
    metrics: list[Metric] = [cls() for cls in classes.values()]
    return sorted(metrics, key=lambda metric: (metric.order, metric.name))


def training_metrics() -> dict[str, Metric]:
    """Returns the metrics of comparisons during training, by the names of their values."""
    return {
        name: metric for metric in all_metrics() if metric.in_training for name in metric.requests
    }


def checkpoint_metrics() -> tuple[str, ...]:
    """Returns the names of the values that can choose the best checkpoint.

    Values that come in pairs, such as precision and recall, cannot: one rises as the other falls.
    """
    known = training_metrics().items()
    return tuple(
        name
        for name, m in known
        if m.better == "lower" or (m.better == "higher" and len(m.requests) == 1)
    )


def rank(name: str, value: float) -> float:
    """Returns a number that is the smaller, the better a value of a training metric is."""
    metric = training_metrics().get(name)
    return -value if metric is not None and metric.better == "higher" else value


registry.provide_choices("evaluation.metric", checkpoint_metrics)
registry.provide_choices("evaluation.others", training_metrics)
