"""Unique texts: the share of different texts among generated ones."""

from __future__ import annotations

from typing import Any

from keras_gan.metrics._metric import EvaluationInputs, Metric


class UniqueTexts(Metric):
    """Number of different generated texts divided by the number of all, above 0 and at most 1."""

    title = "Share of different texts"
    better = "higher"
    kinds = ("text",)
    needs = ("texts",)
    in_training = True
    order = 480

    def of(self, inputs: EvaluationInputs) -> float:
        return _share(inputs, inputs.texts.generated)

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {"of_real_texts": _share(inputs, inputs.texts.real)}


def _share(inputs: EvaluationInputs, ids: Any) -> float:
    return len({*inputs.texts.sentences(ids)}) / max(1, len(ids))
