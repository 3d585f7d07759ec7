"""BLEU: n-grams of generated texts that held-out texts have."""

from __future__ import annotations

from typing import Any

from keras_gan.metrics import bleu_scores
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.requirements import MetricContext, Missing
from keras_gan.metrics.texts import choose, unit_of


class Bleu(Metric):
    """Mean BLEU-2 to BLEU-5 of 500 generated texts, each against all real texts as references.

    From 0 to 1, of n-grams of tokens, which are characters or words. Measures quality: a generator
    that repeats one good text has a high value.

    Reference:
        - [Papineni et al., 2002](https://aclanthology.org/P02-1040)
        - [Post, 2018](https://arxiv.org/abs/1804.08771): sacrebleu.
    """

    title = "BLEU against held-out texts"
    better = "higher"
    kinds = ("text",)
    needs = ("texts",)
    outputs = tuple(f"bleu_{order}" for order in bleu_scores.ORDERS)
    order = 450

    def missing(self, context: MetricContext) -> Missing | None:
        return super().missing(context) or bleu_scores.missing(context)

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        texts = inputs.texts
        chosen = texts.sentences(choose(texts.generated, bleu_scores.COUNT))
        found = bleu_scores.bleu(chosen, texts.sentences(texts.real))
        return {f"bleu_{order}": value for order, value in found.items()}

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {
            "texts": min(bleu_scores.COUNT, len(inputs.texts.generated)),
            "references": len(inputs.texts.real),
            "tokens": unit_of(inputs.texts.field),
            "smoothing": " ".join(map(str, bleu_scores.SMOOTHING)),
        }
