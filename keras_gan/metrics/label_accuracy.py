"""Label accuracy: share of samples that an extractor assigns to their label."""

from __future__ import annotations

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric, MetricResult
from keras_gan.metrics.class_matching import data_ids


class LabelAccuracy(Metric):
    """Accuracy of the extractor's predictions on the labels of generated and real samples.

    The details contain the accuracy of each class of the generated samples.
    """

    title = "Label accuracy"
    better = "higher"
    needs = ("labels", "classes", "data_classes")
    order = 100

    def of(self, inputs: EvaluationInputs) -> MetricResult:
        extractor = inputs.extractor
        ids = data_ids(extractor.classes, extractor.class_names, inputs.spec)
        labels = inputs.generated.labels
        if ids is None or labels is None:
            raise UsageError("The extractor's classes must be the labels'. Received: others")
        real, generated = inputs.predictions
        hits = ids[generated] == labels
        classes = {int(k): float(hits[labels == k].mean()) for k in sorted(set(labels.tolist()))}
        worst = min(classes, key=lambda k: classes[k])
        values = {self.name: float(hits.mean()), f"{self.name}_worst": classes[worst]}
        if inputs.real.labels is not None:
            values[f"{self.name}_real"] = float((ids[real] == inputs.real.labels).mean())
        details = {
            self.name: {inputs.spec.class_name(k): v for k, v in classes.items()},
            f"{self.name}_worst_class": inputs.spec.class_name(worst),
        }
        return MetricResult(values, details)
