"""Real and generated samples as a classifier among the networks of a game judges them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics.extractor import softmax


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A discriminator that classifies.

    Args:
        classes: number of its classes.
        judge: function from samples, in the range of a batch, to logits over the classes
            `(count, classes)` and the logit of being real `(count,)`.
    """

    classes: int
    judge: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Classified:
    """A classifier's judgment of real and of generated samples.

    Args:
        labels: class ids of the real samples, `(count,)`.
        probabilities: class probabilities of the real samples, `(count, classes)`.
        real: logit of being real of each real sample, `(count,)`.
        generated: that of each generated sample.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    real: np.ndarray
    generated: np.ndarray


def check_labeled(labels: np.ndarray) -> None:
    """Checks that no example is unlabeled, as most training examples of few labels are.

    Raises:
        UsageError: an example with the label -1.
    """
    unlabeled = int((labels < 0).sum())
    if unlabeled:
        raise UsageError(
            "Metrics of classes need labeled examples, such as the held-out ones. "
            f"Received: {unlabeled} of {len(labels)} with the label -1"
        )


def classify(
    classifier: Classifier, real: np.ndarray, labels: np.ndarray, generated: np.ndarray
) -> Classified:
    """Returns a classifier's judgment of samples.

    Args:
        classifier: the classifier.
        real: real samples in the range of a batch.
        labels: their class ids.
        generated: generated samples.

    Raises:
        UsageError: a real sample without a label.
    """
    check_labeled(labels)
    logits, scores = classifier.judge(real)
    probabilities = softmax(logits.astype(np.float64))
    return Classified(labels, probabilities, scores, classifier.judge(generated)[1])
