"""Classification accuracy score: a classifier trained on generated samples, tested on real."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np

from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Labeled, Metric, MetricResult
from keras_gan.metrics.classified import check_labeled
from keras_gan.metrics.images import to_bytes


class ClassificationAccuracy(Metric):
    """Classification accuracy score, its reverse, and the accuracy between real samples.

    Computed only when it is named, because it trains two classifiers. The details contain the
    score of each class.
    """

    title = "Classification accuracy score"
    better = "higher"
    needs = ("data_labels", "labels", "training")
    by_default = False
    order = 120

    def of(self, inputs: EvaluationInputs) -> MetricResult:
        generated, train, test = inputs.labeled_samples
        found = classification_accuracy(
            generated, train, test, epochs=inputs.epochs, seed=inputs.seed
        )
        values = {
            self.name: found.score,
            f"{self.name}_reverse": found.reverse,
            f"{self.name}_real": found.real,
        }
        classes = {inputs.spec.class_name(label): value for label, value in found.classes.items()}
        return MetricResult(values, {self.name: classes})

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        generated, train, test = inputs.labeled_samples
        return {
            "epochs": inputs.epochs,
            "generated": len(generated[0]),
            "training": len(train[0]),
            "test": len(test[0]),
            "seed": inputs.seed % 2**32,
        }


class ClassificationAccuracyResult(NamedTuple):
    """Accuracies of classifiers trained on one set and tested on another.

    Args:
        score: trained on generated samples, tested on real ones: the classification accuracy
            score. Low if classes, modes or details are missing.
        reverse: trained on real samples, tested on generated ones. Low if samples do not look like
            their class.
        real: trained and tested on real samples: the upper limit of `score`.
        classes: `score` of each class of the test samples, by its id.
    """

    score: float
    reverse: float
    real: float
    classes: dict[int, float]

    def __float__(self) -> float:
        return self.score


def classification_accuracy(
    generated: Labeled,
    real_train: Labeled,
    real_test: Labeled,
    epochs: int = 5,
    seed: int = 0,
    batch_size: int = 64,
) -> ClassificationAccuracyResult:
    """Trains one classifier on generated and one on real samples, and tests both.

    The classifier is small: for images three convolutions of width 32, 64 and 128 with stride 2
    and batch normalization, for points three hidden layers of 128; Adam at 1e-3. Both trainings
    differ only in the samples. The function sets the Keras seed.

    Args:
        generated: samples, uint8 or in [-1, 1], and class ids from 0.
        real_train: as many real samples, to train the reverse. With more samples, and so more
            steps, a classifier would be better whatever the samples.
        real_test: real samples that neither a classifier nor the generator was trained on.
        epochs: passes over the training samples, from 1.
        seed: seed of the classifiers and of the order of samples, modulo 2**32.
        batch_size: samples per step.

    Raises:
        UsageError: samples without labels, of different shapes, or of different counts to train on.

    Reference:
        - [Ravuri and Vinyals, 2019](https://arxiv.org/abs/1905.10887)
    """
    sets = {"generated": generated, "real_train": real_train, "real_test": real_test}
    _check(sets, epochs)
    num_classes = 1 + max(int(labels.max()) for _, labels in sets.values())
    on_generated, on_real = (
        _train(training, num_classes, epochs, seed, batch_size)
        for training in (generated, real_train)
    )
    hits = _hits(on_generated, *real_test)
    labels = real_test[1]
    return ClassificationAccuracyResult(
        float(hits.mean()),
        float(_hits(on_real, *generated).mean()),
        float(_hits(on_real, *real_test).mean()),
        {int(c): float(hits[labels == c].mean()) for c in np.unique(labels)},
    )


def _check(sets: dict[str, Labeled], epochs: int) -> None:
    shape = sets["real_test"][0].shape[1:]
    for name, (samples, labels) in sets.items():
        if labels is None or len(labels) != len(samples) or not len(samples):
            raise UsageError(
                "A classification accuracy needs labeled samples. "
                f"Received: {name} with {len(samples)} samples and "
                f"{'no' if labels is None else len(labels)} labels"
            )
        check_labeled(labels)
        if samples.shape[1:] != shape:
            raise UsageError(
                "Generated and real samples must have the same shape. "
                f"Received: {name} of shape {samples.shape[1:]}, real_test of {shape}"
            )
    counts = len(sets["generated"][0]), len(sets["real_train"][0])
    if counts[0] != counts[1]:
        raise UsageError(
            "generated and real_train must have the same number of samples. "
            f"Received: {counts[0]} generated and {counts[1]} real samples"
        )
    check_integer("epochs", epochs)


def _train(
    training: Labeled, num_classes: int, epochs: int, seed: int, batch_size: int
) -> keras.Model:
    samples, labels = training
    keras.utils.set_random_seed(seed % 2**32)  # the limit of numpy's seeds
    classifier = _classifier(samples.shape[1:], num_classes)
    classifier.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # Compiling would take longer than training.
        jit_compile=False,  # pyright: ignore[reportArgumentType]
    )
    options: Any = {"batch_size": batch_size, "epochs": epochs, "verbose": 0}
    classifier.fit(_stored(samples), labels, **options)
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
    """Returns images in 8 bits, other samples unchanged."""
    return to_bytes(samples) if samples.ndim == 4 else samples
