"""Real words: generated words that the data have."""

from __future__ import annotations

from collections.abc import Mapping

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.requirements import Missing
from keras_gan.metrics.texts import unit_of
from keras_gan.spec import Spec
from serving.kinds.text import split_words


class RealWords(Metric):
    """Share of generated words that are in the data, of texts of characters.

    `real_words` is the share of those in the training or the held-out texts;
    `real_words_held_out` that of those in the held-out texts alone, which a generator cannot have
    copied; `real_words_training` that of those in the training texts. If half of a dictionary is
    held out, as of the data set words, a generator that has learned the words of neither by heart
    has equal values of the last two.
    """

    title = "Real words"
    better = "higher"
    kinds = ("text",)
    needs = ("texts", "training")
    outputs = ("real_words", "real_words_held_out", "real_words_training")
    order = 470

    def unfit(self, spec: Spec) -> Missing | None:
        found = super().unfit(spec)
        if found is None and unit_of(spec.samples) != "characters":
            return Missing("texts of characters", "texts of whole words")
        return found

    def of(self, inputs: EvaluationInputs) -> Mapping[str, float]:
        texts = inputs.texts
        held_out = texts.real if texts.held_out is None else texts.held_out
        generated, unseen, training = (
            [word for text in texts.strings(ids) for word in split_words(text)]
            for ids in (texts.generated, held_out, texts.trained)
        )
        seen, count = {*training}, max(1, len(generated))
        others = {*unseen} - seen
        trained = sum(word in seen for word in generated) / count
        new = sum(word in others for word in generated) / count
        return {
            "real_words": trained + new,
            "real_words_held_out": new,
            "real_words_training": trained,
        }
