"""Texts as metrics read them: ids of tokens, up to the end of each text."""

from __future__ import annotations

import collections
import dataclasses
import functools

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.spec import Field
from serving.kinds.text import END, string_of

Sentence = tuple[int, ...]  # ids of a text before its end


@dataclasses.dataclass(frozen=True)
class Texts:
    """Real, generated and training texts, as ids of tokens.

    Args:
        real: ids `(count, time)` of real texts that are not trained on.
        generated: ids `(count, time)` of generated texts.
        training: ids `(count, time)` of training texts; `None` if they are not known.
        field: field of the texts, with their vocabulary.
        held_out: ids of all held-out texts, of which `real` may be a choice; by default `real`.
        labels: class ids of the real texts, of data with classes.
    """

    real: np.ndarray
    generated: np.ndarray
    training: np.ndarray | None
    field: Field
    held_out: np.ndarray | None = None
    labels: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Number of tokens in the vocabulary."""
        return self.field.shape[-1] or 0

    @property
    def end(self) -> int | None:
        """Id of the end token; `None` where all texts have the whole length."""
        tokens = self.field.meta.get("vocabulary", ())
        return tokens.index(END) if END in tokens else None

    @property
    def trained(self) -> np.ndarray:
        """Ids of the training texts.

        Raises:
            UsageError: they are not known.
        """
        if self.training is None:
            raise UsageError("The metric needs training texts. Received: a comparison without them")
        return self.training

    def strings(self, ids: np.ndarray) -> list[str]:
        """Returns texts as strings."""
        return [string_of(row, self.field.meta) for row in ids]

    def sentences(self, ids: np.ndarray) -> list[Sentence]:
        """Returns the ids of each text before its end."""
        lengths = counted(ids, self.end).sum(axis=1)
        if self.end is not None:
            lengths -= (ids == self.end).any(axis=1)
        return [tuple(row[:length]) for row, length in zip(ids.tolist(), lengths, strict=True)]

    @functools.cached_property
    def unseen(self) -> frozenset[Sentence]:
        """All held-out texts that are not training texts."""
        held_out = self.real if self.held_out is None else self.held_out
        return frozenset(self.sentences(held_out)) - self.seen

    @functools.cached_property
    def seen(self) -> frozenset[Sentence]:
        """The training texts."""
        return frozenset(self.sentences(self.trained))


def counted(ids: np.ndarray, end: int | None) -> np.ndarray:
    """Returns a mask of the tokens of texts: all of them up to the first end token, with it.

    Args:
        ids: ids `(count, time)`.
        end: id of the end token; `None` where there is none.
    """
    if end is None:
        return np.ones(ids.shape, bool)
    ended = np.cumsum(ids == end, axis=1)
    return (ended - (ids == end)) == 0


def ngrams(sentence: Sentence, order: int) -> collections.Counter[Sentence]:
    """Returns the numbers of the n-grams of a text, by their ids."""
    starts = range(len(sentence) - order + 1)
    return collections.Counter(sentence[start : start + order] for start in starts)


def unit_of(field: Field) -> str:
    """Returns what the tokens of texts are: `"characters"`, or `"tokens"` of any other form."""
    tokens = field.meta.get("vocabulary", ())
    return "characters" if tokens and all(len(token) <= 1 for token in tokens) else "tokens"


def choose(ids: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Returns a random choice of texts, in their order; all of them if there are fewer."""
    if len(ids) <= count:
        return ids
    return ids[np.sort(np.random.default_rng(seed).permutation(len(ids))[:count])]
