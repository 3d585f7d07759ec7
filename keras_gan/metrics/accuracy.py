"""Accuracy: share of real examples whose class the discriminator predicts."""

from __future__ import annotations

import numpy as np

from keras_gan.metrics._metric import EvaluationInputs, Metric, MetricResult


class Accuracy(Metric):
    """Share of real examples whose most probable class, by the discriminator, is their label.

    The details contain the accuracy of each class.
    """

    title = "Accuracy of the discriminator's classes on real examples"
    better = "higher"
    needs = ("classifier",)
    order = 130

    def of(self, inputs: EvaluationInputs) -> MetricResult:
        found = inputs.judged
        hits = found.probabilities.argmax(axis=1) == found.labels
        classes = {
            inputs.spec.class_name(int(k)): float(hits[found.labels == k].mean())
            for k in np.unique(found.labels)
        }
        return MetricResult({self.name: float(hits.mean())}, {self.name: classes})
