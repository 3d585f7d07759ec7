"""Texts that are evaluated beside generated ones: training texts, and those of an n-gram model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np

from keras_gan.datasets import Source
from keras_gan.metrics.kneser_ney import ORDER, KneserNey
from keras_gan.metrics.real_data import from_data
from keras_gan.metrics.samples import BATCH, Batch, Samples
from keras_gan.metrics.texts import Texts
from keras_gan.spec import Spec

_DRAWN = 10_000  # texts that the model draws; more repeat them


def of_training(data: Source) -> Samples:
    """Returns the training texts as samples: the values that a perfect generator has."""
    train = from_data(data, "train")
    total = train.count or 1

    def read(count: int) -> Iterator[Batch]:
        left = count
        while left > 0:  # fewer than are generated start again
            yield from train.read(min(left, total))
            left -= total

    return Samples(Spec(fields={"samples": data.spec.samples}), None, read, train.protocol)


def of_ngrams(data: Source) -> Samples:
    """Returns texts that a Kneser-Ney model of the training texts draws."""

    @functools.cache
    def drawn() -> np.ndarray:
        ids = data.spec.modality.to_ids(data.arrays("train")[0])
        field = data.spec.samples
        texts = Texts(ids, ids, ids, field)
        model = KneserNey(ids, texts.size, texts.end)
        return model.sample(np.random.default_rng(0), _DRAWN, ids.shape[1])

    def read(count: int) -> Iterator[Batch]:
        for start in range(0, count, BATCH):
            rows = np.arange(start, min(start + BATCH, count)) % _DRAWN
            yield data.values(drawn()[rows]), None

    protocol = {"source": f"a Kneser-Ney model of {ORDER}-grams of the training texts, seed 0"}
    return Samples(Spec(fields={"samples": data.spec.samples}), None, read, protocol)


# Function from data to the samples of each control, by the names that kinds have for them.
CONTROLS: dict[str, Callable[[Source], Samples]] = {"training": of_training, "ngrams": of_ngrams}
