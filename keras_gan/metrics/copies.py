"""Copies: generated texts that are training texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_gan.metrics._metric import EvaluationInputs, Metric


class Copies(Metric):
    """Share of generated texts that are training texts, and of those that are held-out texts.

    `copies_of_held_out` counts texts that the generator cannot have copied. Where as many texts
    are held out as trained on, a generator that does not know texts by heart has equal values of
    both. Short texts, such as words, are often in the data without having been copied.
    """

    title = "Copies of training texts, and of held-out texts"
    kinds = ("text",)
    needs = ("texts", "training")
    outputs = ("copies", "copies_of_held_out")
    order = 500

    def of(self, inputs: EvaluationInputs) -> Mapping[str, float]:
        texts = inputs.texts
        generated = texts.sentences(texts.generated)
        count = max(1, len(generated))
        return {
            "copies": sum(text in texts.seen for text in generated) / count,
            "copies_of_held_out": sum(text in texts.unseen for text in generated) / count,
        }

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        texts = inputs.texts
        return {"training_texts": len(texts.seen), "held_out_texts": len(texts.unseen)}
