"""Sentences of a random LSTM, whose exact likelihood is known: 500 tokens, length 20 (SeqGAN)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from keras_gan.arguments import check_integer
from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split, check_drawn
from keras_gan.datasets.text_source import smallest_dtype
from keras_gan.errors import UsageError
from keras_gan.spec import Field, Spec

KIND = "text"
HIDDEN = 32  # units of the LSTM and of its embedding
MOST_TOKENS = 5_000
_CHUNK = 2_000  # sentences that are computed together


def open(
    *,
    vocabulary: int = 500,
    length: int = 20,
    count: int = 10_000,
    held_out_count: int = 2_000,
    data_seed: int = 0,
) -> Source:
    """Draws sentences from a random LSTM, the oracle.

    All sentences have the whole length: there is no end token. The tokens are numbers.

    Args:
        vocabulary: number of tokens, from 2 to 5,000.
        length: tokens of a sentence, at least 1.
        count: number of sentences to train on.
        held_out_count: number of sentences held out, drawn from another random stream.
        data_seed: non-negative integer that fixes the LSTM and the sentences.

    Raises:
        UsageError: an option out of range.

    Reference:
        [Yu et al., "SeqGAN", 2017](https://arxiv.org/abs/1609.05473), section "Synthetic Data
        Experiments".
    """
    check_drawn(count, held_out_count, data_seed)
    check_integer("vocabulary", vocabulary, 2)
    check_integer("length", length, 1)
    if vocabulary > MOST_TOKENS:
        raise UsageError(
            f"`vocabulary` must be at most {MOST_TOKENS}. Received: vocabulary={vocabulary}"
        )
    found = Oracle(vocabulary, data_seed)
    streams = np.random.SeedSequence(data_seed).spawn(3)[1:]
    splits = {
        name: Split(found.sample(np.random.default_rng(stream), size, length))
        for name, size, stream in zip(
            ("train", "held_out"), (count, held_out_count), streams, strict=True
        )
    }
    meta = {"vocabulary": tuple(map(str, range(vocabulary))), "oracle": data_seed}
    spec = Spec(fields={"samples": Field("text", (length, vocabulary), meta=meta)})
    description = (
        f"oracle: {count:,} + {held_out_count:,} sentences of {length} of {vocabulary:,} tokens, "
        f"drawn from a random LSTM with seed {data_seed}"
    )
    return Source(spec, splits, description)


def of_field(field: Field) -> Oracle | None:
    """Returns the oracle that a field's texts were drawn from; `None` for other texts."""
    seed = field.meta.get("oracle")
    return None if seed is None else Oracle(field.shape[-1] or 0, seed)


@dataclasses.dataclass(frozen=True)
class Oracle:
    """An LSTM with weights and biases from N(0, 1), which is a distribution of sentences.

    The inputs of its first step are zeros; there is no start token. With the embedding `x` of the
    last token, a step is `i, f, o, g = W [x, h] + b`, `c = s(f) c + s(i) tanh(g)`,
    `h = s(o) tanh(c)` with the sigmoid `s`, and the logits of the next token are `V h + a`.

    Args:
        vocabulary: number of tokens.
        seed: seed of the weights.
        hidden: units of the LSTM and of its embedding.
    """

    vocabulary: int
    seed: int = 0
    hidden: int = HIDDEN

    @functools.cached_property
    def weights(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Embedding, kernel and bias of the gates, kernel and bias of the logits, float64."""
        rng = np.random.default_rng(np.random.SeedSequence(self.seed).spawn(3)[0])
        sizes = [
            (self.vocabulary, self.hidden),
            (2 * self.hidden, 4 * self.hidden),
            (4 * self.hidden,),
            (self.hidden, self.vocabulary),
            (self.vocabulary,),
        ]
        return tuple(rng.normal(size=size) for size in sizes)  # pyright: ignore

    def nll(self, ids: np.ndarray) -> np.ndarray:
        """Returns the negative log-likelihood of sentences, in nats for each token.

        Args:
            ids: integers `(count, length)`.

        Returns:
            float64, `(count,)`: the mean over the tokens of each sentence.
        """
        parts = [self._nll(ids[first : first + _CHUNK]) for first in range(0, len(ids), _CHUNK)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def sample(self, rng: np.random.Generator, count: int, length: int) -> np.ndarray:
        """Draws sentences.

        Args:
            rng: source of random numbers.
            count: number of sentences.
            length: their length.

        Returns:
            Ids `(count, length)`, of the smallest integer dtype that holds them.
        """
        ids = np.zeros((count, length), smallest_dtype(self.vocabulary))
        for first in range(0, count, _CHUNK):
            rows = ids[first : first + _CHUNK]
            for step, logits in enumerate(self._logits(rows)):
                chances = np.exp(logits).cumsum(axis=-1)
                below = rng.uniform(size=(len(rows), 1)) * chances[:, -1:]
                rows[:, step] = (chances <= below).sum(axis=-1).clip(max=self.vocabulary - 1)
        return ids

    def _nll(self, ids: np.ndarray) -> np.ndarray:
        total = np.zeros(len(ids))
        for step, logits in enumerate(self._logits(ids)):
            total += np.log(np.exp(logits).sum(axis=-1)) - logits[np.arange(len(ids)), ids[:, step]]
        return total / ids.shape[1]

    def _logits(self, ids: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the logits of each token, `(count, vocabulary)`.

        A token is read when the logits of the next one are asked for, so that it may be drawn from
        its own before. They are so small, at most the sum of 32 weights, that no exponential of
        them overflows.
        """
        embedding, kernel, bias, out, out_bias = self.weights
        x = h = c = np.zeros((len(ids), self.hidden))
        for step in range(ids.shape[1]):
            gates = np.concatenate([x, h], axis=1) @ kernel + bias
            i, f, o, g = np.split(gates, 4, axis=1)
            c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
            h = _sigmoid(o) * np.tanh(c)
            yield h @ out + out_bias
            x = embedding[ids[:, step]]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return (1 + np.tanh(x / 2)) / 2
