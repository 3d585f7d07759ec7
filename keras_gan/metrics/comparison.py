"""Comparison of generated samples with fixed held-out ones, repeated during training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import (
    IMAGES,
    EvaluationInputs,
    Metric,
    checkpoint_metrics,
    training_metrics,
)
from keras_gan.metrics.accumulators import Moments
from keras_gan.metrics.extractor import Extractor
from keras_gan.metrics.pairs import (
    Answers,
    Pairs,
    as_compared,
    controls_of,
    to_range,
    with_sizes,
)
from keras_gan.metrics.requirements import OF_FEATURES, OF_PAIRS
from keras_gan.metrics.samples import Batch
from keras_gan.metrics.statistics import Statistics
from keras_gan.metrics.texts import Texts
from keras_gan.spec import Field, Spec, infer_spec


def default_metrics(spec: Spec, count: int, answers: Answers | None = None) -> tuple[str, ...]:
    """Returns the names of a comparison's values where none are named, by the samples' kind.

    The first one chooses the best checkpoint. Metrics that the samples are too small or too few
    for are left out.

    Args:
        spec: description of the samples, with their sizes.
        count: number of held-out samples.
        answers: the conditions that the samples answer, if they do.
    """
    best, known = checkpoint_metrics(), training_metrics()
    names = spec.modality.training_metrics
    if answers is not None and (answers.paired or answers.invertible):
        names = spec.modality.pair_metrics if answers.paired else (*names, "cycle_l1")
    usual = [n for n in names if n in known and known[n].least <= count]
    if answers is None or not answers.invertible:
        usual = [n for n in usual if not known[n].requires("inverse")]
    fit = [n for n in usual if known[n].unfit(spec) is None]
    chosen = next((name for name in fit if name in best), "sliced_wasserstein")
    return tuple(dict.fromkeys([chosen, *fit]))


def needs_features(names: Sequence[str]) -> bool:
    """Returns whether a comparison with these metrics needs an extractor."""
    known = training_metrics()
    return any(known[name].requires(*OF_FEATURES) for name in names if name in known)


class Comparison:
    """Comparison of generated samples with held-out ones, whose features are computed once.

    Args:
        real: held-out samples, `(count, ...)`.
        metric: name of the metric that chooses the best checkpoint, such as `"patch_distance"`,
            `"sliced_wasserstein"`, `"frechet_distance"` or, of pairs, `"psnr"`. By default those
            of the samples' kind are computed: for images the patch distance with the Nyquist
            ratio, the distance of pairs, the nearest ratio and the sliced Wasserstein distance,
            which chooses for all other samples.
        others: names of further values to compute, such as `"precision"` and `"recall"`.
        extractor: function from samples to features and probabilities, see
            `keras_gan.metrics.open_features`. The default metrics need none, because they compare
            the values themselves.
        spec: description of the samples. By default it follows from their shape: those of rank 3
            are images.
        training: function that returns training samples, `(count, ...)`, for `"nearest_ratio"`
            and `"ngram_nll"`, which are left out without it. It is called only if they are needed.
        pictures: real images that the metrics of pixels compare with instead of `real`, at least
            as many and of its range; for example a choice of all, where few are held out.
        answers: the pictures, or values of another field of `spec`, that the generated samples
            answer, one for each held-out sample. If this sample is the right answer, the default
            metrics are those of pairs, of which the first (`"l1"` of pictures, `"log_mel_l1"` of
            sounds) chooses the best checkpoint.

    Raises:
        UsageError: an unknown metric, one that does not fit the samples, a metric of features
            without an extractor, or one that needs more held-out samples.
    """

    def __init__(
        self,
        real: np.ndarray,
        metric: str | None = None,
        others: Sequence[str] = (),
        extractor: Callable[[np.ndarray], tuple[np.ndarray, Any]] | None = None,
        spec: Spec | None = None,
        training: Callable[[], np.ndarray] | None = None,
        pictures: np.ndarray | None = None,
        answers: Answers | None = None,
    ):
        self._range = (-1.0, 1.0) if real.ndim == 4 else None
        if spec is not None:
            self._range = spec.value_range
        spec = spec or infer_spec(real.shape[1:])
        spec, self._answers = _with_sizes(spec, real, answers), answers
        usual = default_metrics(spec, len(real), answers) if metric is None else (metric,)
        if metric is None and training is None:
            needy = {n for n, m in training_metrics().items() if m.requires("training_values")}
            usual = tuple(name for name in usual if name not in needy)
        self.metric = usual[0]
        known = _check_names(self.metric, others)
        self.names = tuple(dict.fromkeys([*usual, *others]))
        chosen = {name: known[name] for name in self.names}
        _check_needs(chosen, real, spec, extractor is not None, training is not None)
        _check_answers(chosen, answers, len(real))
        self._metrics = list({m.name: m for m in chosen.values()}.values())
        self._extractor = extractor if needs_features(self.names) else None
        needed = any(metric.requires("training_values") for metric in chosen.values())
        self._training = training() if training is not None and needed else None
        self._samples, self._spec = real, spec
        self._chosen_of_all = pictures is not None
        compared = real if pictures is None else pictures
        if compared.shape[1:] != real.shape[1:] or len(compared) < len(real):
            raise UsageError(
                "`pictures` must have the shape of the held-out samples and be at least as many. "
                f"Received: {compared.shape} and {real.shape} held out"
            )
        self.count = len(compared)
        self._images = self._first_images(compared)
        self._real = self._statistics(real)

    @property
    def protocol(self) -> dict[str, Any]:
        """Protocol of the values: metrics, count, and the extractor if there is one."""
        protocol: dict[str, Any] = {"metric": self.metric, "measures": list(self.names)}
        protocol["count"] = len(self._samples)
        if self._chosen_of_all:
            protocol |= {"pictures": "all", "picture_count": self.count}
        if isinstance(self._extractor, Extractor):
            protocol |= self._extractor.protocol
        elif self._extractor is not None:
            name = getattr(self._extractor, "__name__", type(self._extractor).__name__)
            protocol["extractor"] = name
        if self._training is not None:
            protocol["training_samples"] = len(self._training)
        for metric in self._metrics:
            protocol |= metric.training_protocol(len(self._samples))
        if self._answers is not None and self._answers.paired:
            protocol["controls"] = self._controls(self._answers)
        return protocol

    def __call__(
        self,
        generated: np.ndarray,
        of_held_out: np.ndarray | None = None,
        inverse: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> dict[str, float]:
        """Returns the values by name.

        Args:
            generated: `count` samples, for the metrics of pixels.
            of_held_out: as many samples as are held out, with their labels if there are any, for
                all other metrics; by default the first of `generated`. Those that answer pictures
                are in the order of the conditions.
            inverse: function from answers in [-1, 1] back to pictures of the conditions' domain,
                for `"cycle_l1"`.
        """
        if of_held_out is None:
            of_held_out = generated[: len(self._samples)]
        inputs = self._inputs(generated, of_held_out, inverse)
        found: dict[str, float] = {}
        for metric in self._metrics:
            found |= metric.result(inputs).values
        return {name: found[name] for name in self.names}

    def _inputs(self, generated: np.ndarray, of_held_out: np.ndarray, inverse: Any):
        # Generators without a bounded last layer exceed the range, and files hold clipped samples.
        values = (self._samples, self._clipped(of_held_out))
        shown = self._first_images(self._clipped(generated))
        pairs = None
        if self._answers is not None and self._needed(*OF_PAIRS):
            real, answers = (as_compared(part, self._spec.samples) for part in values)
            conditions, paired = self._conditions(self._answers), self._answers.paired
            pairs = Pairs(real, answers, conditions, inverse, paired=paired)
        return EvaluationInputs(
            self._real,
            self._statistics(of_held_out),
            self._extractor,
            self._spec,
            values=values,
            images=(self._images, shown) if self._images and shown else None,
            pairs=pairs,
            training_values=self._training,
            tokens=lambda: self._texts(values),
        )

    def _texts(self, values: tuple[np.ndarray, np.ndarray]) -> Texts:
        to_ids, training = self._spec.modality.to_ids, self._training
        real, generated = map(to_ids, values)
        trained = None if training is None else to_ids(training)
        return Texts(real, generated, trained, self._spec.samples)

    def _conditions(self, answers: Answers) -> np.ndarray:
        return as_compared(answers.conditions, self._spec.fields[answers.name])

    def _controls(self, answers: Answers) -> dict[str, dict[str, float | None]]:
        """Returns the values of each control of `controls_of`."""
        conditions, found = self._conditions(answers), {}
        for name, (answer, _) in controls_of(self._spec, answers.name).items():
            samples = answer(conditions, lambda: self._samples)
            is_picture = self._spec.modality.has_pixels
            found[name] = self._of_control(to_range(samples) if is_picture else samples)
        return found

    def _of_control(self, samples: np.ndarray) -> dict[str, float | None]:
        inputs = self._inputs(samples, samples, None)
        found: dict[str, float] = {}
        for metric in self._metrics:
            # Pictures that are a choice of all are not those of the conditions.
            foreign = metric.requires("images") and self._chosen_of_all
            if not metric.requires("inverse") and not foreign:
                found |= metric.result(inputs).values
        known = {name: found[name] for name in self.names if name in found}
        return {name: value if np.isfinite(value) else None for name, value in known.items()}

    def _needed(self, *needs: str) -> bool:
        return any(metric.requires(*needs) for metric in self._metrics)

    def _clipped(self, samples: np.ndarray) -> np.ndarray:
        return samples if self._range is None else np.clip(samples, *self._range)

    def _first_images(self, samples: np.ndarray) -> Batch | None:
        """Returns samples as `evaluate` compares them, if a metric needs them."""
        if not self._needed("images"):
            return None
        return as_compared(samples[:IMAGES], self._spec.samples), None

    def _statistics(self, samples: np.ndarray) -> Statistics:
        if self._extractor is None:
            return Statistics(Moments())
        features, probabilities = self._extractor(samples)
        with_moments = any(metric.requires("moments") for metric in self._metrics)
        moments = Moments.of(features) if with_moments else Moments()
        return Statistics(moments, features, probabilities)


def _with_sizes(spec: Spec, real: np.ndarray, answers: Answers | None) -> Spec:
    """Returns the spec with the sizes of the held-out samples and of their conditions."""
    arrays = {"samples": real}
    if answers is not None:
        conditions = arrays[answers.name] = answers.conditions
        if answers.name not in spec.fields:
            fields = {**spec.fields, answers.name: Field("image", conditions.shape[1:])}
            spec = Spec(fields=fields)
    return with_sizes(spec, arrays)


def _check_answers(chosen: Mapping[str, Metric], answers: Answers | None, count: int) -> None:
    """Checks that what metrics of answers need is there.

    Raises:
        UsageError: it is not, or the conditions are not as many as the held-out samples.
    """
    if answers is not None and len(answers.conditions) != count:
        raise UsageError(
            f"There must be one condition for each of the {count} held-out samples. "
            f"Received: {len(answers.conditions)} conditions"
        )
    for name, metric in chosen.items():
        rules = {
            "conditions": ("samples that answer pictures", answers is not None),
            "pairs": ("paired data", answers is not None and answers.paired),
            "inverse": ("a game with a way back", answers is not None and answers.invertible),
        }
        for need, (rule, is_met) in rules.items():
            if metric.requires(need) and not is_met:
                raise UsageError(f"{name} needs {rule}. Received: a comparison without")


def _check_needs(
    chosen: Mapping[str, Metric],
    real: np.ndarray,
    spec: Spec,
    has_extractor: bool,
    has_training: bool,
) -> None:
    """Checks that the metrics apply to held-out samples.

    Raises:
        UsageError: one does not.
    """
    for name, metric in chosen.items():
        unfit = metric.unfit(spec)
        if unfit is not None:
            raise UsageError(f"{name} needs {unfit.rule}. Received: {unfit.received}")
        if metric.requires(*OF_FEATURES) and not has_extractor:
            raise UsageError(
                f"{name} compares features: evaluation.features must name an extractor, "
                "pixels for the values themselves. Received: features=None"
            )
        if metric.requires("training_values") and not has_training:
            raise UsageError(
                f"{name} compares with training samples. Received: a comparison without them"
            )
        if len(real) < metric.least:
            raise UsageError(
                f"{name} needs at least {metric.least} held-out samples. "
                f"Received: {len(real)} samples"
            )


def _check_names(metric: str, others: Sequence[str]) -> dict[str, Metric]:
    """Returns the metrics available during training, by the names of their values."""
    best, known = checkpoint_metrics(), training_metrics()
    if metric not in best:
        raise UsageError(
            f"The metric of an evaluation must be one of {', '.join(best)}. "
            f"Received: metric={metric!r}"
        )
    for name in others:
        if name not in known:
            raise UsageError(
                f"others must be names of {', '.join(known)}. Received: others with {name!r}"
            )
    return known
