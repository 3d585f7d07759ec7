"""Generated samples against the same held-out ones again and again, as a training asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics.accumulators import Moments
from keras_gan.metrics.density_coverage import density_coverage
from keras_gan.metrics.features import Extractor
from keras_gan.metrics.frechet import frechet_distance
from keras_gan.metrics.kernel import kernel_distance
from keras_gan.metrics.measures import (
    DENSITY_NEIGHBORS,
    KERNEL_SUBSETS,
    PRECISION_NEIGHBORS,
    kernel_subset,
)
from keras_gan.metrics.precision_recall import precision_recall
from keras_gan.metrics.sliced_wasserstein import sliced_wasserstein

# By these a checkpoint can be the best; the smaller, the better.
DISTANCES = ("sliced_wasserstein", "frechet_distance", "kernel_distance")
OTHERS = (*DISTANCES, "precision", "recall", "density", "coverage")
# Held-out samples that each one needs.
_LEAST = dict.fromkeys(DISTANCES, 2) | {"sliced_wasserstein": 1}
_LEAST |= dict.fromkeys(("precision", "recall"), PRECISION_NEIGHBORS + 1)
_LEAST |= dict.fromkeys(("density", "coverage"), DENSITY_NEIGHBORS + 1)


class Comparison:
    """Measures generated samples against held-out ones, whose features are computed once.

    Args:
        real: held-out samples, `(count, ...)`.
        metric: what the best checkpoint is chosen by: one of `DISTANCES`.
        others: what is measured beside it: some of `OTHERS`.
        extractor: what gives features of samples, see `keras_gan.metrics.open_features`; needed
            by all but the sliced Wasserstein distance, which compares the values themselves.

    Raises:
        UsageError: an unknown metric, one of features without an extractor, or one that needs more
            held-out samples.
    """

    def __init__(
        self,
        real: np.ndarray,
        metric: str = "sliced_wasserstein",
        others: Sequence[str] = (),
        extractor: Callable[[np.ndarray], tuple[np.ndarray, Any]] | None = None,
    ):
        if metric not in DISTANCES:
            raise UsageError(
                f"The metric of an evaluation must be one of {', '.join(DISTANCES)}. "
                f"Received: metric={metric!r}"
            )
        for name in others:
            if name not in OTHERS:
                raise UsageError(f"An evaluation measures {', '.join(OTHERS)}. Received: {name!r}")
        self.metric = metric
        self.names = tuple(dict.fromkeys([metric, *others]))
        of_features = [name for name in self.names if name != "sliced_wasserstein"]
        if of_features and extractor is None:
            raise UsageError(
                f"{of_features[0]} compares features: evaluation.features must name an extractor, "
                "pixels for the values themselves. Received: features=None"
            )
        for name in self.names:
            if len(real) < _LEAST[name]:
                raise UsageError(
                    f"{name} needs at least {_LEAST[name]} held-out samples. Received: {len(real)}"
                )
        self._real, self._extractor = real, extractor if of_features else None
        self._features = np.zeros((0, 0)) if self._extractor is None else self._extractor(real)[0]
        self._moments = Moments()
        if "frechet_distance" in self.names:
            self._moments.update(self._features)

    @property
    def protocol(self) -> dict[str, Any]:
        """What tells how the figures come about: metrics, count, and the extractor if there is."""
        told: dict[str, Any] = {"metric": self.metric, "measures": list(self.names)}
        told["count"] = len(self._real)
        if isinstance(self._extractor, Extractor):
            told |= self._extractor.protocol
        elif self._extractor is not None:
            told["extractor"] = getattr(self._extractor, "__name__", type(self._extractor).__name__)
        if "kernel_distance" in self.names:
            told["kernel_subsets"] = KERNEL_SUBSETS
            told["kernel_subset_size"] = kernel_subset(len(self._real), len(self._real))
        return told

    def __call__(self, generated: np.ndarray) -> dict[str, float]:
        """The measures of as many generated samples as there are held-out ones, by their names."""
        features = None if self._extractor is None else self._extractor(generated)[0]
        found: dict[str, float] = {}
        for name in self.names:
            if name not in found:
                found |= self._measured(name, generated, features)
        return {name: found[name] for name in self.names}

    def _measured(self, name: str, generated: np.ndarray, features: Any) -> dict[str, float]:
        if name == "sliced_wasserstein":
            if generated.ndim == 4:  # images, as they are drawn: no tanh bounds those of r3gan
                generated = np.clip(generated, -1, 1)
            return {name: sliced_wasserstein(self._real, generated)}
        if name == "frechet_distance":
            return {name: frechet_distance(self._moments, features)}
        if name == "kernel_distance":
            size = kernel_subset(len(self._features), len(features))
            return {name: kernel_distance(self._features, features, subset_size=size).mean}
        if name in ("precision", "recall"):
            found = precision_recall(self._features, features)
        else:
            found = density_coverage(self._features, features)
        return {key: float(value) for key, value in found._asdict().items()}
