"""Augmentation with few training images, and generated images as training data of a classifier.

    python benchmarks/small_data.py few --images 1000 --seeds 3
    python benchmarks/small_data.py classifier --per-class 200 --seeds 3

`few` trains the recipe fashion-mnist on a random subset of the training images without
augmentation, with DiffAugment and with ADA, for the same number of steps, and compares 10,000
samples of the best and of the last state with the 10,000 test images.

`classifier` trains the class-conditional recipe on a number of images of each class, then a small
classifier on those images, on those and generated images, and on generated images alone, each for
the same number of steps, and prints its accuracy on the 10,000 test images.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import tempfile
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_gan import datasets, train
from keras_gan import recipe as recipes
from keras_gan.run import processor

ADA = "adaptive"
AUGMENTS = {"none": "null", "diff_augment": "diff_augment", "ada": ADA}


def few_images(chosen: np.ndarray, folder: str) -> str:
    """Writes some training images and all test images to a file of arrays."""
    source: Any = datasets.open("fashion-mnist")
    (x, y), (x_test, y_test) = source.arrays("train"), source.arrays("held_out")
    path = f"{folder}/few-{len(chosen)}.npz"
    np.savez(path, x_train=x[chosen], y_train=y[chosen], x_test=x_test, y_test=y_test)
    return path


def train_on(name: str, data: str, settings: list[str], folder: str) -> train.Outcome:
    """Trains a recipe on a file's images; the best state is nearest to its test images."""
    # With a time limit a slow machine would train for fewer steps.
    common = ["training.minutes=null", "evaluation.metric=frechet_distance"]
    common += ["evaluation.features=fashion_mnist", "evaluation.count=10000"]
    recipe = recipes.load(name, [*common, *settings], data)
    return train.train(recipe, f"{folder}/run")


def few(
    count: int, seed: int, images: int, settings: list[str], names: list[str]
) -> list[dict[str, Any]]:
    """Returns a row for each of the augmentations."""
    chosen = np.random.default_rng(seed).permutation(60_000)[:count]
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            every = ["evaluation.every_examples=" + str(images // 8), f"training.examples={images}"]
            sets = [*every, *settings, f"game.augment={AUGMENTS[name]}", f"training.seed={seed}"]
            outcome = train_on("fashion-mnist", few_images(chosen, folder), sets, folder)
            measured = [r for r in outcome.run.rows() if "frechet_distance" in r]
            best = min(measured, key=lambda row: row["frechet_distance"])
            rows.append(
                {
                    "augment": name,
                    "seed": seed,
                    "best": best["frechet_distance"],
                    "best_at": best["examples_seen"],
                    "last": measured[-1]["frechet_distance"],
                    "ended": outcome.reason,
                    "seconds": time.monotonic() - began,
                }
            )
        _print_row(rows[-1])
    return rows


def accuracy(x: np.ndarray, y: np.ndarray, seed: int, steps: int = 4_000) -> float:
    """Returns the test accuracy of a small classifier after `steps` batches of 100 images."""
    keras.utils.set_random_seed(seed)
    model: Any = keras.Sequential([keras.Input((28, 28, 1))])
    for width in (32, 64):
        model.add(layers.Conv2D(width, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D())
    for layer in (layers.Flatten(), layers.Dropout(0.5), layers.Dense(128, "relu")):
        model.add(layer)
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(10))
    rate: Any = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    data = tf.data.Dataset.from_tensor_slices((x.astype("float32"), y)).repeat()
    data = data.shuffle(len(x), seed=seed).batch(100).prefetch(2)
    model.fit(data, steps_per_epoch=steps, verbose=0)
    images, labels = datasets.open("fashion-mnist").arrays("held_out")
    scaled = (images / 127.5 - 1).astype("float32")
    return float(model.evaluate(scaled, labels, batch_size=500, verbose=0)[1])


def classifier(per_class: int, seed: int, images: int, settings: list[str]) -> list[dict[str, Any]]:
    """Returns rows of classifiers trained on real, on both, and on generated images."""
    x, y = datasets.open("fashion-mnist").arrays("train")
    y = np.asarray(y)
    order = np.random.default_rng(seed).permutation(len(x))
    chosen = np.concatenate([order[y[order] == label][:per_class] for label in range(10)])
    with tempfile.TemporaryDirectory() as folder:
        sets = [f"game.augment={ADA}", f"training.examples={images}", *settings]
        path = few_images(chosen, folder)
        gan = train_on("fashion-mnist-classes", path, [*sets, f"training.seed={seed}"], folder).gan
        count = 20 * len(chosen)
        labels = np.arange(count) % 10
        generated = gan.generate(range(count), labels=labels, batch_size=250)
    real, classes = x[chosen] / 127.5 - 1, y[chosen]
    # Real images are repeated so that both kinds are equally frequent.
    both = np.concatenate([np.repeat(real, 20, axis=0), generated])
    rows = []
    for name, data in (
        ("real", (real, classes)),
        ("real and generated", (both, np.concatenate([np.repeat(classes, 20), labels]))),
        ("generated", (generated, labels)),
    ):
        rows.append({"trained on": name, "seed": seed, "accuracy": accuracy(*data, seed)})
        _print_row(rows[-1])
    return rows


def _print_row(row: dict[str, Any]) -> None:
    shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
    print("  ".join(shown), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("few", "classifier"))
    parser.add_argument("--images", type=int, default=1000, help="few: number of training images")
    parser.add_argument("--per-class", type=int, default=200, help="classifier: images per class")
    parser.add_argument("--play", type=int, default=400_000, help="images seen during training")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, starting at 0")
    parser.add_argument("--augments", default=",".join(AUGMENTS), help="few: augmentations")
    parser.add_argument("--set", action="append", default=[], help="override a key of the recipe")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there")
    options = parser.parse_args()
    augments = options.augments.split(",")
    unknown = [name for name in augments if name not in AUGMENTS]
    if unknown:
        parser.error(f"--augments must be of {', '.join(AUGMENTS)}. Received: {unknown[0]}")
    print(f"{options.what} on {processor()}")
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        if options.what == "few":
            rows += few(options.images, seed, options.play, options.set, augments)
        else:
            rows += classifier(options.per_class, seed, options.play, options.set)
    key, value = ("augment", "best") if options.what == "few" else ("trained on", "accuracy")
    for name in dict.fromkeys(row[key] for row in rows):
        found = [row[value] for row in rows if row[key] == name]
        print(f"{name}: median {value} {statistics.median(found):.4g}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
