"""Self-BLEU: n-grams of generated texts that other generated texts have."""

from __future__ import annotations

from typing import Any

from keras_gan.metrics import bleu_scores
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.requirements import MetricContext, Missing
from keras_gan.metrics.texts import choose, unit_of


class SelfBleu(Metric):
    """Mean BLEU-2 to BLEU-5 of 500 generated texts, each against the 499 others.

    From 0 to 1; 1 if all texts are equal. A value above that of real texts, which the protocol has
    as `of_real_texts`, is a lack of diversity.

    Reference:
        - [Zhu et al., 2018](https://arxiv.org/abs/1802.01886)
    """

    title = "Self-BLEU of generated texts"
    better = "lower"
    kinds = ("text",)
    needs = ("texts",)
    outputs = tuple(f"self_bleu_{order}" for order in bleu_scores.ORDERS)
    order = 460

    def missing(self, context: MetricContext) -> Missing | None:
        return super().missing(context) or bleu_scores.missing(context)

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        return _scores(inputs, inputs.texts.generated)

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {
            "texts": min(bleu_scores.COUNT, len(inputs.texts.generated)),
            "tokens": unit_of(inputs.texts.field),
            "smoothing": " ".join(map(str, bleu_scores.SMOOTHING)),
            "of_real_texts": _scores(inputs, inputs.texts.real),
        }


def _scores(inputs: EvaluationInputs, ids: Any) -> dict[str, float]:
    found = bleu_scores.bleu(inputs.texts.sentences(choose(ids, bleu_scores.COUNT)))
    return {f"self_bleu_{order}": value for order, value in found.items()}
