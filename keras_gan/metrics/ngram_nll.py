"""Likelihood of generated texts under an n-gram model of the training texts."""

from __future__ import annotations

from typing import Any

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.kneser_ney import ORDER, KneserNey


class NgramNll(Metric):
    """Negative log-likelihood of generated texts under a Kneser-Ney model, nats for each token.

    The model of 4-grams is fitted to the training texts. It measures quality: that of a generator
    without diversity can be below that of held-out texts, which the protocol has as
    `of_real_texts`.

    Reference:
        - [Chen and Goodman, 1999](https://doi.org/10.1006/csla.1999.0128): the model.
        - [Zhao et al., 2018](https://arxiv.org/abs/1706.04223): language model score.
    """

    title = "NLL by an n-gram model of the data"
    better = "lower"
    kinds = ("text",)
    needs = ("texts", "training", "training_values")
    in_training = True
    order = 430

    def of(self, inputs: EvaluationInputs) -> float:
        return self._model(inputs).nll(inputs.texts.generated)

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        texts = inputs.texts
        return {
            "order": ORDER,
            "training_texts": len(texts.trained),
            "of_real_texts": self._model(inputs).nll(texts.real),
        }

    def training_protocol(self, count: int) -> dict[str, Any]:
        return {"ngram_order": ORDER}

    def _model(self, inputs: EvaluationInputs) -> KneserNey:
        return KneserNey(inputs.texts.trained, inputs.texts.size, inputs.texts.end)
