"""BLEU of texts against all others of a set, with the formula of sacrebleu."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics.requirements import MetricContext, Missing
from keras_gan.metrics.texts import Sentence, ngrams

ORDERS = (2, 3, 4, 5)
COUNT = 500  # generated texts
SMOOTHING = ("floor", 0.1)  # added to the number of matches where it is 0 (Chen and Cherry, 2014)


def missing(context: MetricContext) -> Missing | None:
    """Returns the requirement of the package sacrebleu if it is not installed, or `None`."""
    try:
        _formula()
    except UsageError as error:
        return Missing("the package sacrebleu (pip install 'keras-gan[text]')", str(error))
    return None


def bleu(
    texts: Sequence[Sentence],
    references: Sequence[Sentence] | None = None,
    orders: Sequence[int] = ORDERS,
) -> dict[int, float]:
    """Returns the mean BLEU of texts, each against all references, by the longest n-gram.

    A match counts at most as often as it is in one reference, and the length is compared with that
    of the reference that is nearest in length, as in the definition. Texts shorter than the
    longest n-gram are compared by those that they have.

    Args:
        texts: ids of the tokens of each text.
        references: the same of references; by default all other texts (self-BLEU).
        orders: longest n-grams.

    Returns:
        Numbers from 0 to 1 by order.

    Raises:
        UsageError: sacrebleu is not installed.

    Reference:
        [Papineni et al., 2002](https://aclanthology.org/P02-1040); self-BLEU: [Zhu et al.,
        2018](https://arxiv.org/abs/1802.01886).
    """
    compute = _formula()
    own = references is None
    others = texts if references is None else references
    best = [_largest_two(others, n) for n in range(1, max(orders) + 1)]
    lengths = np.array([len(other) for other in others])
    scores: dict[int, list[float]] = {order: [] for order in orders}
    for row, text in enumerate(texts):
        correct, total = [], []
        for n, of_references in enumerate(best, start=1):
            counts = ngrams(text, n)
            total.append(counts.total())
            correct.append(
                sum(min(count, _most(of_references[gram], row if own else -1))
                    for gram, count in counts.items() if gram in of_references)
            )  # fmt: skip
        known = np.delete(lengths, row) if own else lengths
        nearest = int(known[np.lexsort((known, np.abs(known - len(text))))[0]])
        for order in orders:
            parts = ([*correct[:order]], [*total[:order]])
            score = compute(
                *parts, len(text), nearest, *SMOOTHING, effective_order=True, max_ngram_order=order
            )
            scores[order].append(score.score / 100)
    return {order: float(np.mean(found)) for order, found in scores.items()}


_Best = tuple[int, int, int]  # largest count of an n-gram in one text, its row, largest elsewhere


def _largest_two(texts: Sequence[Sentence], order: int) -> dict[Sentence, _Best]:
    found: dict[Sentence, _Best] = collections.defaultdict(lambda: (0, -1, 0))
    for row, text in enumerate(texts):
        for gram, count in ngrams(text, order).items():
            most, of, second = found[gram]
            if count > most:
                found[gram] = (count, row, most)
            elif count > second:
                found[gram] = (most, of, count)
    return dict(found)


def _most(best: _Best, row: int) -> int:
    """Returns the largest count of an n-gram in a text other than that of a row."""
    return best[2] if best[1] == row else best[0]


def _formula():
    """Returns sacrebleu's function from numbers of matches to BLEU."""
    try:
        from sacrebleu.metrics.bleu import BLEU  # of an extra
    except ImportError:
        raise UsageError(
            "BLEU needs the package sacrebleu (pip install 'keras-gan[text]'). Received: none"
        ) from None
    return BLEU.compute_bleu
