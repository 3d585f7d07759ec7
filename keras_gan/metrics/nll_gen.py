"""Likelihood of real texts under the generator."""

from __future__ import annotations

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.texts import counted

_BATCH = 64


class NllGen(Metric):
    """Negative log-likelihood of real texts under the generator, in nats for each token.

    Tokens up to the end of a text count, with the end token. The generator has a layer with the
    method `token_logits`, from ids `(batch, time)` to the logits `(batch, time, vocabulary)` of
    each token after those before it.

    Reference:
        - [Zhu et al., 2018](https://arxiv.org/abs/1802.01886), NLL-test.
    """

    title = "NLL of held-out texts by the generator"
    better = "lower"
    kinds = ("text",)
    needs = ("texts", "likelihood")
    order = 420

    def of(self, inputs: EvaluationInputs) -> float:
        if inputs.token_logits is None:
            raise UsageError("nll_gen needs a generator with a likelihood. Received: none")
        texts, total = inputs.texts, 0.0
        for first in range(0, len(texts.real), _BATCH):
            ids = texts.real[first : first + _BATCH].astype(np.int64)
            labels = None if texts.labels is None else texts.labels[first : first + _BATCH]
            logits = np.asarray(inputs.token_logits(ids, labels), np.float64)
            top = logits.max(axis=-1, keepdims=True)
            norm = np.log(np.exp(logits - top).sum(axis=-1)) + top[..., 0]
            chosen = np.take_along_axis(logits, ids[..., np.newaxis], axis=-1)[..., 0]
            total += float((norm - chosen)[counted(ids, texts.end)].sum())
        return total / int(counted(texts.real, texts.end).sum())
