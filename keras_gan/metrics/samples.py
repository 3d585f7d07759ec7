"""Samples that can be read in batches, any number of times."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError
from keras_gan.metrics.classified import Classifier
from keras_gan.spec import Spec

BATCH = 64  # samples generated or read per batch

Batch = tuple[np.ndarray, np.ndarray | None]
# Function from token ids `(count, time)`, and class ids of a generator with classes, to the logits
# of each token after those before it, `(count, time, vocabulary)`.
Likelihood = Callable[[np.ndarray, np.ndarray | None], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Codes:
    """Codes of generated samples, see `keras_gan.layers.LatentCodes`.

    Args:
        values: one row for each sample: categories from 0, then continuous codes in [-1, 1].
        categorical: number of categories of each categorical code.
    """

    values: np.ndarray
    categorical: tuple[int, ...]

    def binned(self, bins: int) -> np.ndarray:
        """Returns codes as ints from 0, the continuous ones in bins of equal width."""
        first = len(self.categorical)
        steps = np.floor((self.values[:, first:] + 1) / 2 * bins).clip(0, bins - 1)
        return np.concatenate([self.values[:, :first], steps], axis=1).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Samples:
    """Samples that are read in batches, from the first on, as often as needed.

    Args:
        spec: description of one sample.
        count: number of samples; `None` for a generator, which makes any number.
        read: function from a count to batches of samples and labels (or `None`). Images are uint8.
        protocol: entries of a result's protocol that describe the samples.
        digest: function from a count to a hash of the content of that many samples and labels;
            `None` for a generator.
        with_labels: function from class ids to samples of these classes from the same generator;
            `None` for data, and for a generator without classes.
        answers: whether each sample answers the condition of the real sample of the same row.
        inverse: function from samples in [-1, 1] back to pictures of the conditions' domain, of a
            game with a network for that; otherwise `None`.
        controls: samples by name that are evaluated beside these, such as those of a generator
            before its adversarial training.
        codes: function from a count to the codes of that many samples, of a generator with codes;
            otherwise `None`.
        classifier: the discriminator of the generator's game, if it classifies; otherwise `None`.
        token_logits: see `likelihood_of`, of a generator that has a likelihood; otherwise `None`.
    """

    spec: Spec
    count: int | None
    read: Callable[[int], Iterator[Batch]]
    protocol: dict[str, Any]
    digest: Callable[[int], str] | None = None
    with_labels: Callable[[np.ndarray], Samples] | None = None
    answers: bool = False
    inverse: Callable[[np.ndarray], np.ndarray] | None = None
    controls: Mapping[str, Samples] = dataclasses.field(default_factory=dict)
    codes: Callable[[int], Codes] | None = None
    classifier: Classifier | None = None
    token_logits: Likelihood | None = None

    def take(self, count: int) -> Batch:
        """Returns the first `count` samples and labels as arrays."""
        samples, labels = zip(*self.read(count), strict=True)
        known = [part for part in labels if part is not None]
        return np.concatenate(samples), np.concatenate(known) if known else None


@dataclasses.dataclass(frozen=True)
class Conditions:
    """Fields of the real samples besides the samples, for generators that ask for them.

    Args:
        names: names of the fields.
        read: function from the numbers of generated samples to the fields by name, one row for
            each number.
        answered: name of the field that generated samples may answer, or `None`.
    """

    names: tuple[str, ...]
    read: Callable[[np.ndarray], dict[str, np.ndarray]]
    answered: str | None = None


def check_count(count: Any, samples: Samples, name: str, advice: str = "") -> int:
    """Returns a valid number of samples.

    Args:
        count: the number to check.
        samples: the samples to take it from.
        name: name of the argument, for the error.
        advice: text that the error adds to the rule.

    Raises:
        UsageError: not an integer of at least 2, or more than there are.
    """
    check_integer(name, count, 2)
    if samples.count is not None and count > samples.count:
        origin = samples.protocol["source"]
        raise UsageError(
            f"`{name}` must be at most the number of samples, {samples.count:,} in {origin}"
            f"{advice}. Received: {name}={count}"
        )
    return int(count)
