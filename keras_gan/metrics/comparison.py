"""Comparison of generated samples with fixed held-out ones, repeated during training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import (
    OF_FEATURES,
    EvaluationInputs,
    Metric,
    checkpoint_metrics,
    training_metrics,
)
from keras_gan.metrics.accumulators import Moments
from keras_gan.metrics.extractor import Extractor
from keras_gan.metrics.statistics import Statistics
from keras_gan.spec import Spec


class Comparison:
    """Compares generated samples with held-out ones, whose features are computed once.

    Args:
        real: held-out samples, `(count, ...)`.
        metric: name of the metric that chooses the best checkpoint. Lower must be better, as for
            `"sliced_wasserstein"`, `"frechet_distance"` and `"kernel_distance"`.
        others: names of further values to compute, such as `"precision"` and `"recall"`.
        extractor: function from samples to features and probabilities, see
            `keras_gan.metrics.open_features`. All metrics but the sliced Wasserstein distance,
            which compares the values themselves, need one.
        spec: description of the samples. By default samples of rank 3 are images.

    Raises:
        UsageError: an unknown metric, a metric of features without an extractor, or one that
            needs more held-out samples.
    """

    def __init__(
        self,
        real: np.ndarray,
        metric: str = "sliced_wasserstein",
        others: Sequence[str] = (),
        extractor: Callable[[np.ndarray], tuple[np.ndarray, Any]] | None = None,
        spec: Spec | None = None,
    ):
        known = _check_names(metric, others)
        self.metric = metric
        self.names = tuple(dict.fromkeys([metric, *others]))
        chosen = {name: known[name] for name in self.names}
        of_features = [name for name, m in chosen.items() if m.requires(*OF_FEATURES)]
        if of_features and extractor is None:
            raise UsageError(
                f"{of_features[0]} compares features: evaluation.features must name an extractor, "
                "pixels for the values themselves. Received: features=None"
            )
        for name, m in chosen.items():
            if len(real) < m.least:
                raise UsageError(
                    f"{name} needs at least {m.least} held-out samples. "
                    f"Received: {len(real)} samples"
                )
        self._metrics = list({m.name: m for m in chosen.values()}.values())
        self._extractor = extractor if of_features else None
        self._samples = real
        self._range = (-1.0, 1.0) if real.ndim == 4 else None
        if spec is not None:
            self._range = spec.value_range
        self._real = self._statistics(real)

    @property
    def protocol(self) -> dict[str, Any]:
        """How the values are computed: metrics, count, and the extractor if there is one."""
        protocol: dict[str, Any] = {"metric": self.metric, "measures": list(self.names)}
        protocol["count"] = len(self._samples)
        if isinstance(self._extractor, Extractor):
            protocol |= self._extractor.protocol
        elif self._extractor is not None:
            name = getattr(self._extractor, "__name__", type(self._extractor).__name__)
            protocol["extractor"] = name
        for metric in self._metrics:
            protocol |= metric.training_protocol(len(self._samples))
        return protocol

    def __call__(self, generated: np.ndarray) -> dict[str, float]:
        """Returns the values by name, for as many generated samples as held-out ones."""
        # Generators without a bounded last layer exceed the range, and files hold clipped samples.
        clipped = generated if self._range is None else np.clip(generated, *self._range)
        values = (self._samples, clipped)
        inputs = EvaluationInputs(
            self._real, self._statistics(generated), self._extractor, values=values
        )
        found: dict[str, float] = {}
        for metric in self._metrics:
            found |= metric.result(inputs).values
        return {name: found[name] for name in self.names}

    def _statistics(self, samples: np.ndarray) -> Statistics:
        if self._extractor is None:
            return Statistics(Moments())
        features, probabilities = self._extractor(samples)
        with_moments = any(metric.requires("moments") for metric in self._metrics)
        moments = Moments.of(features) if with_moments else Moments()
        return Statistics(moments, features, probabilities)


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
