"""Classification accuracy score: what a classifier learns from generated samples is worth."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics.features import to_bytes

Labelled = tuple[np.ndarray, np.ndarray]


class ClassificationAccuracy(NamedTuple):
    """Shares of samples that a classifier gives their class.

    Args:
        score: trained on generated samples, tested on real ones: the classification accuracy
            score. Low where classes, modes or details are missing.
        reverse: trained on real samples, tested on generated ones. Low where samples look like no
            class or like another one than theirs.
        real: trained and tested on real samples: what `score` can reach.
        classes: `score` of each class that the test samples have, by its id.
    """

    score: float
    reverse: float
    real: float
    classes: dict[int, float]

    def __float__(self) -> float:
        return self.score


def classification_accuracy(
    generated: Labelled,
    real_train: Labelled,
    real_test: Labelled,
    epochs: int = 5,
    seed: int = 0,
    batch_size: int = 64,
) -> ClassificationAccuracy:
    """Trains one classifier on generated and one on real samples, and tests both.

    The classifier is small: three convolutions of width 32, 64 and 128 with stride 2 and batch
    normalization for images, three hidden layers of 128 for points; Adam at 1e-3. Both trainings
    are the same but for the samples. The Keras seed is set for them.

    Args:
        generated: samples, uint8 or in [-1, 1], and class ids from 0.
        real_train: as many real ones, which the reverse is trained on: a classifier that has seen
            more samples, and made more steps, is a better one whatever the samples.
        real_test: of real ones that neither classifier nor generator was trained on.
        epochs: passes over the training samples, from 1.
        seed: seed of the classifiers and of the order of samples, modulo 2**32.
        batch_size: samples in a step.

    Raises:
        UsageError: samples without labels, of different shapes, or of different counts to train on.

    Reference:
        - [Ravuri and Vinyals, 2019](https://arxiv.org/abs/1905.10887)
    """
    sides = {"generated": generated, "real_train": real_train, "real_test": real_test}
    for name, (samples, labels) in sides.items():
        if labels is None or len(labels) != len(samples) or not len(samples):
            raise UsageError(
                "A classification accuracy needs labelled samples. "
                f"Received: {name} with {len(samples)} samples and "
                f"{'no' if labels is None else len(labels)} labels"
            )
        if samples.shape[1:] != real_test[0].shape[1:]:
            raise UsageError(
                "Generated and real samples have one shape. Received: "
                f"{name} of shape {samples.shape[1:]}, real_test of {real_test[0].shape[1:]}"
            )
    if len(generated[0]) != len(real_train[0]):
        raise UsageError(
            "Both classifiers are trained on the same number of samples. "
            f"Received: {len(generated[0])} generated and {len(real_train[0])} real ones"
        )
    if epochs < 1:
        raise UsageError(f"epochs must be a whole number from 1 up. Received: epochs={epochs!r}")
    num_classes = 1 + max(int(labels.max()) for _, labels in sides.values())
    tests = {name: sides[name] for name in ("generated", "real_test")}
    of_generated, of_real = (
        _trained(sides[name], num_classes, epochs, seed, batch_size)
        for name in ("generated", "real_train")
    )
    hits = _hits(of_generated, *tests["real_test"])
    labels = real_test[1]
    return ClassificationAccuracy(
        float(hits.mean()),
        float(_hits(of_real, *tests["generated"]).mean()),
        float(_hits(of_real, *tests["real_test"]).mean()),
        {int(c): float(hits[labels == c].mean()) for c in np.unique(labels)},
    )


def _trained(
    side: Labelled, num_classes: int, epochs: int, seed: int, batch_size: int
) -> keras.Model:
    keras.utils.set_random_seed(seed % 2**32)  # numpy's takes no more
    classifier = _classifier(side[0].shape[1:], num_classes)
    classifier.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,  # pyright: ignore[reportArgumentType] - which would outlast the training
    )
    classifier.fit(_stored(side[0]), side[1], batch_size=batch_size, epochs=epochs, verbose=0)  # pyright: ignore[reportArgumentType]
    return classifier


def _classifier(shape: tuple[int, ...], num_classes: int) -> keras.Model:
    layers = keras.layers
    blocks: list[Any] = [keras.Input(shape)]
    if len(shape) == 3:
        blocks.append(layers.Rescaling(1 / 127.5, -1.0))
        for width in (32, 64, 128):
            blocks += [layers.Conv2D(width, 3, 2, "same", use_bias=False)]
            blocks += [layers.BatchNormalization(momentum=0.9), layers.ReLU()]
        blocks += [layers.Flatten(), layers.Dropout(0.3)]
    else:
        blocks += [layers.Dense(128, "relu") for _ in range(3)]
    return keras.Sequential([*blocks, layers.Dense(num_classes)])


def _hits(classifier: Any, samples: np.ndarray, labels: np.ndarray) -> np.ndarray:
    logits = classifier.predict(_stored(samples), batch_size=256, verbose=0)
    return logits.argmax(axis=1) == labels


def _stored(samples: np.ndarray) -> np.ndarray:
    return to_bytes(samples) if samples.ndim == 4 else samples
