"""Errors of classifiers of few labels: the semi-supervised GAN and its controls.

Each draw of the labels trains, on the same labeled images of Fashion-MNIST and all others without
labels: the recipe, the same discriminator on the labels alone with the same augmentation, and
scikit-learn's LabelSpreading and SelfTrainingClassifier on the first principal components. The
first two have the same budget of processor time. The error is that of the 10,000 test images.

    python benchmarks/few_labels.py --labels 100 1000 --draws 3 --minutes 20 --json few-labels.json

scikit-learn is not a dependency of the package: pip install scikit-learn.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import augment, building, datasets, metrics, recipe
from keras_gan.metrics.extractor import softmax
from keras_gan.networks import as_float32

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops

SKLEARN = ("decomposition", "linear_model", "semi_supervised")  # modules of the controls
COMPONENTS = 50  # principal components for scikit-learn
NEIGHBORS = 7
MOST = 20_000  # training images that LabelSpreading sees, whose neighbors must fit into memory


def sklearn() -> Any:
    """Returns scikit-learn's modules that the controls need.

    Raises:
        SystemExit: scikit-learn is not installed.
    """
    try:
        found = [importlib.import_module(f"sklearn.{name}") for name in SKLEARN]
    except ImportError:
        raise SystemExit(
            "The controls need scikit-learn: pip install scikit-learn, or give --skip-sklearn"
        ) from None
    return found


class Budget(keras.callbacks.Callback):
    """Ends a training when the process has used some processor time since the first step."""

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds

    def on_train_begin(self, logs: Any = None) -> None:
        self.begin = time.process_time()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if time.process_time() - self.begin > self.seconds:
            self.model.stop_training = True  # pyright: ignore


def examined(network: Any, source: datasets.Source) -> dict[str, float]:
    """Returns the error and the calibration error of a network on the test images."""
    images, labels = source.arrays("held_out")
    samples = source.values(images)
    parts = [
        np.asarray(as_float32(network.model(part, training=False))["classes"])
        for part in np.array_split(samples, max(1, len(samples) // 250))
    ]
    logits = np.concatenate(parts).astype(np.float64)
    probabilities = softmax(logits)
    error = float((logits.argmax(axis=1) != labels).mean())
    known: Any = labels
    return {"error": error, "calibration": metrics.calibration_error(probabilities, known)}


def chosen(count: int, draw: int, settings: list[str]) -> recipe.Recipe:
    name = "fashion-mnist-1000-labels" if count >= 1000 else "fashion-mnist-100-labels"
    given = [f"data.labeled={count}", f"data.labeled_seed={draw}", f"training.seed={draw}"]
    return recipe.load(name, [*given, *settings])


def ours(found: recipe.Recipe, source: datasets.Source, seconds: float) -> dict[str, float]:
    """Trains the recipe's game for some processor time."""
    team: Any = building.workers.Team(tf.distribute.get_strategy(), [""], 0)
    gan = building.build(found, source.spec)
    gan.sample_kind = source.spec.kind
    stream = building.batches(found, source, 0, team)
    gan.fit(
        stream,
        steps_per_epoch=building.total_steps(found),
        epochs=1,
        verbose=0,
        callbacks=[Budget(seconds)],
    )
    network = gan.average("discriminator")
    return {**examined(network, source), "examples": gan.count("examples_seen")}


def alone(found: recipe.Recipe, source: datasets.Source, seconds: float) -> dict[str, float]:
    """Trains the same discriminator on the labeled images alone, with the same augmentation.

    The optimizer, the batch size and the half-life of the average are the recipe's.
    """
    gan = building.build(found, source.spec)
    network, average = gan.networks["discriminator"], gan.average("discriminator")
    rows: Any = source.labeled_rows
    images, ids = source.rows("train", rows)
    size = min(found.training.batch_size, len(rows))
    x, labels = tf.constant(source.values(images)), tf.constant(np.asarray(ids, np.int32))
    stream = iter(tf.data.Dataset.range(len(rows)).repeat().shuffle(len(rows), seed=0).batch(size))
    augmented: Any = augment.get(found.game.options.get("augment"))
    optimizer, half_life = gan.discriminator_optimizer, float(found.game.options["ema_half_life"])

    @tf.function
    def step(which, number):
        samples, given = tf.gather(x, which), tf.gather(labels, which)
        if augmented is not None:
            samples = augmented(samples, tf.stack([number, 0]))
        with tf.GradientTape() as tape:
            logits = as_float32(network({"samples": samples}, training=True))["classes"]
            losses = ops.sparse_categorical_crossentropy(given, logits, from_logits=True)
            loss = ops.mean(losses)
        weights = network.model.trainable_variables
        optimizer.apply(tape.gradient(loss, weights), weights)
        seen = tf.cast(number * size, "float32")
        share = 1 - 0.5 ** (size / tf.maximum(tf.minimum(half_life, 0.05 * seen), 1e-8))
        for old, new in zip(average.model.weights, network.model.weights, strict=True):
            old.assign_add(share * (new - old))

    steps = 0
    step(next(stream), tf.constant(1))  # its compilation does not count
    begin = time.process_time()
    while time.process_time() - begin < seconds and steps < building.total_steps(found):
        steps += 1
        step(next(stream), tf.constant(steps))
    return {**examined(average, source), "examples": steps * size}


def spreading(source: datasets.Source) -> dict[str, dict[str, float]]:
    """Fits scikit-learn's controls on the principal components of the images."""
    decomposition, linear_model, semi_supervised = sklearn()
    images, _ = source.arrays("train")
    labels: np.ndarray = source.labels()
    rows: Any = source.labeled_rows
    held_out, answers = source.arrays("held_out")
    flat = [x.reshape(len(x), -1).astype(np.float32) / 255 for x in (images, held_out)]
    reduce = decomposition.PCA(COMPONENTS, random_state=0).fit(flat[0])
    x, test = (reduce.transform(each) for each in flat)
    others = np.setdiff1d(np.arange(len(x)), rows)
    some = np.random.default_rng(0).permutation(others)[: MOST - len(rows)]
    part = np.concatenate([rows, some])
    spread = semi_supervised.LabelSpreading("knn", n_neighbors=NEIGHBORS, max_iter=100)
    base = linear_model.LogisticRegression(max_iter=500)
    training = semi_supervised.SelfTrainingClassifier(base, threshold=0.9)
    found = {}
    for name, model in (("label_spreading", spread), ("self_training", training)):
        model.fit(x[part], labels[part])
        found[name] = {"error": float((model.predict(test) != answers).mean())}
    return found


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns one row for each number of labels, draw and method."""
    found = []
    seconds = 60 * arguments.minutes
    for count in arguments.labels:
        for draw in range(arguments.draws):
            tree = chosen(count, draw, arguments.set)
            source = building.open_data(tree)
            methods: dict[str, Callable] = {"ours": ours, "labels alone": alone}
            results = ((name, fit(tree, source, seconds)) for name, fit in methods.items())
            controls = {} if arguments.skip_sklearn else spreading(source)
            for name, of in itertools.chain(results, controls.items()):
                row = {"labels": count, "draw": draw, "method": name, **of}
                print(json.dumps(row), flush=True)
                found.append(row)
    return found


def summary(rows: list[dict[str, Any]]) -> str:
    """Returns a table of the mean error and its standard deviation over the draws."""
    lines = ["| labels | method | error, % | spread |", "|---|---|---|---|"]
    for key in dict.fromkeys((row["labels"], row["method"]) for row in rows):
        errors = [100 * r["error"] for r in rows if (r["labels"], r["method"]) == key]
        lines.append(f"| {key[0]} | {key[1]} | {np.mean(errors):.2f} | {np.std(errors):.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=20, help="processor time of each method")
    parser.add_argument("--set", action="append", default=[], help="a setting of the recipe")
    parser.add_argument("--skip-sklearn", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    if not arguments.skip_sklearn:
        sklearn()  # before anything is trained
    rows = measure(arguments)
    print(summary(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
