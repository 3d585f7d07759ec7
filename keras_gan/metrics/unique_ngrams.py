"""Unique n-grams: the share of different n-grams among those of generated texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.texts import choose, ngrams

_ORDERS = (2, 3, 4)
_COUNT = 500  # texts; the share falls with their number


class UniqueNgrams(Metric):
    """Number of different n-grams of 500 generated texts divided by the number of all of them.

    The protocol has the values of as many real texts as `of_real_texts`.

    Reference:
        - [Li et al., 2016](https://arxiv.org/abs/1510.03055): distinct-n.
    """

    title = "Share of different n-grams"
    better = "higher"
    kinds = ("text",)
    needs = ("texts",)
    outputs = tuple(f"unique_{order}_grams" for order in _ORDERS)
    aliases = ("distinct_n",)
    order = 490

    def of(self, inputs: EvaluationInputs) -> Mapping[str, float]:
        return _shares(inputs, inputs.texts.generated)

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        texts = min(_COUNT, len(inputs.texts.generated))
        return {"texts": texts, "of_real_texts": _shares(inputs, inputs.texts.real)}


def _shares(inputs: EvaluationInputs, ids: Any) -> dict[str, float]:
    sentences = inputs.texts.sentences(choose(ids, _COUNT))
    found = {}
    for order in _ORDERS:
        every = [ngrams(sentence, order) for sentence in sentences]
        different = {gram for counts in every for gram in counts}
        total = sum(counts.total() for counts in every)
        found[f"unique_{order}_grams"] = len(different) / max(1, total)
    return found
