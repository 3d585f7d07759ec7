"""Language model of n-grams with interpolated Kneser-Ney smoothing, which scores and samples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError
from keras_gan.metrics.texts import counted

ORDER = 4
_LEAST, _MOST = 0.1, 0.9  # of a discount; estimates of few n-grams may reach 0 and 1


class _Order(NamedTuple):
    """N-grams of one order, sorted by their codes, and their contexts.

    Args:
        grams: codes of the n-grams.
        counts: their counts, those of continuations below the highest order, less the discount.
        sums: cumulative sums of `counts`, from 0.
        contexts: codes of their first n - 1 tokens.
        starts: position of the first n-gram of each context, and the number of n-grams.
        totals: undiscounted count of each context.
        discount: the discount.
    """

    grams: np.ndarray
    counts: np.ndarray
    sums: np.ndarray
    contexts: np.ndarray
    starts: np.ndarray
    totals: np.ndarray
    discount: float

    def backoff(self, found: np.ndarray) -> np.ndarray:
        """Returns the weight of the lower order after contexts, by their positions."""
        distinct = self.starts[found + 1] - self.starts[found]
        return self.discount * distinct / self.totals[found]


class KneserNey:
    """N-gram model of texts, fitted to their ids.

    With the count c of n-grams of the highest order, and below it the number of different tokens
    before an n-gram, the probability of token w after the context h is

        p(w | h) = max(c(h w) - D, 0) / c(h) + D n(h) / c(h) p(w | h'),

    where n(h) is the number of different tokens after h, and h' is h without its first token. The
    discount D of each order is n1 / (n1 + 2 n2) of the numbers n1 and n2 of n-grams of the counts
    1 and 2, between 0.1 and 0.9. Below the unigrams all tokens are equally likely. Before a text
    are `order - 1` tokens that stand for its start.

    Args:
        ids: token ids `(count, time)`, of which those after the first end token do not count.
        size: number of tokens in the vocabulary.
        end: id of the end token; `None` where all texts have the whole length.
        order: tokens of the longest n-gram, from 1.

    Raises:
        UsageError: no texts, or an order that is too high for the vocabulary.

    Reference:
        [Chen and Goodman, 1999](https://doi.org/10.1006/csla.1999.0128), equation 26.
    """

    def __init__(self, ids: np.ndarray, size: int, end: int | None = None, order: int = ORDER):
        check_integer("order", order)
        if (size + 1) ** order >= 2**62 or not ids.size:
            raise UsageError(
                "A model of n-grams needs texts, and an order of which 64 bits hold the n-grams. "
                f"Received: {len(ids)} texts, size={size}, order={order}"
            )
        self.size, self.end, self.order, self._base = size, end, order, size + 1
        self._orders: list[_Order] = []
        tokens = self._codes(ids, order)[counted(ids, end)]
        grams, counts = np.unique(tokens, return_counts=True)
        for number in range(order, 0, -1):
            self._orders.insert(0, self._order(grams, counts))
            shorter = grams % self._base ** (number - 1)
            grams, counts = np.unique(shorter, return_counts=True)

    def probabilities(self, ids: np.ndarray) -> np.ndarray:
        """Returns the probability of each token after those before it.

        Args:
            ids: token ids `(count, time)`.

        Returns:
            float64 `(count, time)`. Values after the end of a text have no meaning.
        """
        p = np.full(ids.shape, 1 / self.size)
        for number, each in enumerate(self._orders, start=1):
            codes = self._codes(ids, number)
            found, known = _find(each.contexts, codes // self._base)
            at, occurs = _find(each.grams, codes)
            discounted = np.where(occurs, each.counts[at], 0) / each.totals[found]
            p = np.where(known, discounted + each.backoff(found) * p, p)
        return p

    def nll(self, ids: np.ndarray) -> float:
        """Returns the negative log-likelihood of texts, in nats for each token, ends included.

        Args:
            ids: token ids `(count, time)`.
        """
        return float(-np.log(self.probabilities(ids)[counted(ids, self.end)]).mean())

    def sample(self, rng: np.random.Generator, count: int, length: int) -> np.ndarray:
        """Draws texts.

        Args:
            rng: source of random numbers.
            count: number of texts.
            length: their number of tokens; after the end token all are end tokens.

        Returns:
            Token ids, int64 `(count, length)`.
        """
        ids = np.zeros((count, length), np.int64)
        for step in range(length):
            drawn = self._draw(rng, ids, step)
            if self.end is not None and step:
                drawn = np.where(ids[:, step - 1] == self.end, self.end, drawn)
            ids[:, step] = drawn
        return ids

    def _draw(self, rng: np.random.Generator, ids: np.ndarray, step: int) -> np.ndarray:
        """Draws one token of each text: from the highest order whose context occurs, or below."""
        drawn = rng.integers(self.size, size=len(ids))  # those that no order decides
        open_rows = np.ones(len(ids), bool)
        for number in range(self.order, 0, -1):
            each = self._orders[number - 1]
            contexts = self._codes(ids[:, : step + 1], number)[:, step] // self._base
            found, known = _find(each.contexts, contexts)
            kept = rng.uniform(size=len(ids)) >= each.backoff(found)
            chosen = open_rows & known & kept
            first, last = each.starts[found], each.starts[found + 1]
            low, high = each.sums[first], each.sums[last]
            aim = low + rng.uniform(size=len(ids)) * (high - low)
            at = np.searchsorted(each.sums, aim, side="right") - 1
            token = each.grams[at.clip(first, last - 1)] % self._base
            drawn = np.where(chosen, token, drawn)
            open_rows &= ~chosen
        return drawn

    def _codes(self, ids: np.ndarray, order: int) -> np.ndarray:
        """Returns a number for the n-gram that ends at each token, int64 `(count, time)`."""
        padded = np.full((len(ids), order - 1 + ids.shape[1]), self.size, np.int64)
        padded[:, order - 1 :] = ids
        codes = np.zeros(ids.shape, np.int64)
        for first in range(order):
            codes = codes * self._base + padded[:, first : first + ids.shape[1]]
        return codes

    def _order(self, grams: np.ndarray, counts: np.ndarray) -> _Order:
        contexts, starts = np.unique(grams // self._base, return_index=True)
        once, twice = (int((counts == n).sum()) for n in (1, 2))
        discount = float(np.clip(once / max(1, once + 2 * twice), _LEAST, _MOST))
        less = counts - discount
        return _Order(
            grams,
            less,
            np.concatenate([[0.0], np.cumsum(less)]),
            contexts,
            np.append(starts, len(grams)),
            np.add.reduceat(counts, starts),
            discount,
        )


def _find(codes: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns positions of codes among sorted ones, and whether each is among them."""
    at = np.searchsorted(codes, wanted).clip(max=len(codes) - 1)
    return at, codes[at] == wanted
