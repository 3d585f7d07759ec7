"""Likelihood of held-out texts under an n-gram model of generated texts."""

from __future__ import annotations

from typing import Any

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.kneser_ney import ORDER, KneserNey


class ReverseNgramNll(Metric):
    """Negative log-likelihood of real texts under a Kneser-Ney model of generated ones.

    In nats for each token, with a model of 4-grams. It is large where generated texts lack what
    real ones have, and where they are of low quality. It falls with the number of generated texts,
    so that only values of equal numbers can be compared.

    Reference:
        - [Zhao et al., 2018](https://arxiv.org/abs/1706.04223): reverse perplexity.
    """

    title = "NLL of held-out texts by an n-gram model of the samples"
    better = "lower"
    kinds = ("text",)
    needs = ("texts",)
    in_training = True
    order = 440

    def of(self, inputs: EvaluationInputs) -> float:
        texts = inputs.texts
        return KneserNey(texts.generated, texts.size, texts.end).nll(texts.real)

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {"order": ORDER, "generated_texts": len(inputs.texts.generated)}
