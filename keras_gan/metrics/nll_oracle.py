"""Oracle likelihood: how likely the random LSTM that made the data finds generated texts."""

from __future__ import annotations

from typing import Any

from keras_gan.datasets import oracle
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.requirements import Missing
from keras_gan.spec import Spec


class NllOracle(Metric):
    """Negative log-likelihood of generated texts by the oracle, in nats for each token.

    A generator that repeats one likely text has the lowest values: read it with `nll_gen` or
    `reverse_ngram_nll`.

    Reference:
        - [Yu et al., 2017](https://arxiv.org/abs/1609.05473), NLL-oracle.
    """

    title = "NLL by the oracle"
    better = "lower"
    kinds = ("text",)
    needs = ("texts",)
    in_training = True
    order = 410

    def unfit(self, spec: Spec) -> Missing | None:
        found = super().unfit(spec)
        if found is None and oracle.of_field(spec.samples) is None:
            return Missing("texts of the data set oracle", "other texts")
        return found

    def of(self, inputs: EvaluationInputs) -> float:
        return float(self._oracle(inputs).nll(inputs.texts.generated).mean())

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {"of_real_texts": float(self._oracle(inputs).nll(inputs.texts.real).mean())}

    def _oracle(self, inputs: EvaluationInputs) -> Any:
        return oracle.of_field(inputs.texts.field)
