"""Novelty AUROC: how well the discriminator's logit divides real from generated samples."""

from __future__ import annotations

import numpy as np
from scipy import stats

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric


class NoveltyAuroc(Metric):
    """Area under the ROC curve of the discriminator's logit, real against generated samples.

    It is the probability that a real example which was not trained on has a larger logit than a
    sample of the game's own generator. 1/2 is chance: a generator that is hard to recognize
    lowers it, so that neither direction is better by itself.
    """

    title = "AUROC of the discriminator's logit, real against generated"
    needs = ("classifier",)
    order = 132

    def of(self, inputs: EvaluationInputs) -> float:
        return auroc(inputs.judged.real, inputs.judged.generated)


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Returns the probability that a positive score exceeds a negative one; a tie counts 1/2.

    Args:
        positive: scores, `(count,)`.
        negative: scores, any other number of them.

    Raises:
        UsageError: no scores.
    """
    if not len(positive) or not len(negative):
        raise UsageError(
            "There must be positive and negative scores. "
            f"Received: {len(positive)} and {len(negative)}"
        )
    # The Mann-Whitney statistic, of ranks that ties share.
    ranks = stats.rankdata(np.concatenate([positive, negative]))[: len(positive)]
    wins = ranks.sum() - len(positive) * (len(positive) + 1) / 2
    return float(wins / (len(positive) * len(negative)))
