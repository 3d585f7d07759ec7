"""Augmentation with few training images, and generated images as training data of a classifier.

    python benchmarks/small_data.py few --images 1000 --seeds 3
    python benchmarks/small_data.py classifier --per-class 20,50,200 --seeds 3 --rare 20
    python benchmarks/small_data.py classifier --quick

`few` trains the recipe fashion-mnist on a random subset of the training images without
augmentation, with DiffAugment and with ADA, for the same number of steps, and compares 10,000
samples of the best and of the last state with the 10,000 test images.

`classifier` trains the class-conditional recipe on a number of images of each class, then a small
classifier in five cells: on those images, on those with shifts and flips, on those and generated
images, on both with shifts and flips, and on generated images alone. All cells of a seed have the
same processor time, --minutes on one core, from the second step on. Printed are the accuracy on the
10,000 test images, and with --rare N, which leaves N images of the classes sandal and bag, the mean
recall of these two. The generator sees --play images, which is not part of that time.
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
from keras_gan.environment import processor

ADA = "adaptive"
RARE = (5, 8)  # sandal and bag
AUGMENTS = {"none": "null", "diff_augment": "diff_augment", "ada": ADA}
QUICK = {"per_class": "20", "seeds": 1, "minutes": 0.05, "generated": 500, "play": 1280}


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


class Budget(keras.callbacks.Callback):
    """Ends a training after a processor time, of which the first step does not count.

    Args:
        seconds: the processor time.
    """

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds, self.began, self.steps = seconds, 0.0, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not self.steps:
            self.began = time.process_time()
        self.steps += 1
        if time.process_time() - self.began >= self.seconds:
            model: Any = self.model
            model.stop_training = True


def build_classifier(shifts: bool) -> Any:
    """Returns a small classifier, with random shifts and flips of its training images or without.

    Args:
        shifts: whether training images are shifted by up to 10 % and flipped.
    """
    model: Any = keras.Sequential([keras.Input((28, 28, 1))])
    if shifts:
        model.add(layers.RandomTranslation(0.1, 0.1, fill_mode="constant", fill_value=-1.0))
        model.add(layers.RandomFlip("horizontal"))
    for width in (32, 64):
        model.add(layers.Conv2D(width, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D())
    for layer in (layers.Flatten(), layers.Dropout(0.5), layers.Dense(128, "relu")):
        model.add(layer)
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(10))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    return model


def score(data: tf.data.Dataset, shifts: bool, seed: int, seconds: float) -> dict[str, Any]:
    """Trains a classifier for a processor time, and measures it on the test images.

    Args:
        data: endless batches.
        shifts: see `build_classifier`.
        seed: of the classifier.
        seconds: processor time.
    """
    keras.utils.set_random_seed(seed)
    model, budget = build_classifier(shifts), Budget(seconds)
    model.fit(data, steps_per_epoch=10**9, verbose=0, callbacks=[budget])
    images, labels = datasets.open("fashion-mnist").arrays("held_out")
    scaled = (images / 127.5 - 1).astype("float32")
    right = model.predict(scaled, batch_size=500, verbose=0).argmax(axis=1) == labels
    recall = float(np.mean([right[np.asarray(labels) == label].mean() for label in RARE]))
    return {"steps": budget.steps, "accuracy": float(right.mean()), "rare_recall": recall}


def choose(per_class: int, rare: int, seed: int) -> np.ndarray:
    """Returns the positions of some training images, of the classes `RARE` fewer if asked.

    Args:
        per_class: images of each class.
        rare: images of each rare class, 0 for as many as of the others.
        seed: of the choice.
    """
    y = np.asarray(datasets.open("fashion-mnist").arrays("train")[1])
    order = np.random.default_rng(seed).permutation(len(y))
    counts = [rare if rare and label in RARE else per_class for label in range(10)]
    return np.concatenate([order[y[order] == label][:n] for label, n in enumerate(counts)])


def make_images(
    chosen: np.ndarray, seed: int, options: argparse.Namespace
) -> tuple[np.ndarray, np.ndarray]:
    """Trains the generator on the chosen images, and returns its images and their classes."""
    with tempfile.TemporaryDirectory() as folder:
        sets = [f"game.augment={ADA}", f"training.examples={options.play}", *options.set]
        sets += [f"training.seed={seed}", f"evaluation.every_examples={options.play}"]
        gan = train_on("fashion-mnist-classes", few_images(chosen, folder), sets, folder).gan
        count = options.generated
        labels = np.arange(count) % 10
        images = gan.generate(
            range(count), labels=labels, truncation=options.truncation, batch_size=250
        )
    return images.astype("float32"), labels.astype("int32")


def classifier(per_class: int, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns a row for each of the five cells."""
    x, y = datasets.open("fashion-mnist").arrays("train")
    chosen = choose(per_class, options.rare, seed)
    real = (x[chosen] / 127.5 - 1).astype("float32"), np.asarray(y)[chosen].astype("int32")
    generated = make_images(chosen, seed, options)

    def endless(arrays: tuple[np.ndarray, np.ndarray]) -> tf.data.Dataset:
        data = tf.data.Dataset.from_tensor_slices(arrays).repeat()
        return data.shuffle(len(arrays[0]), seed=seed)

    both = tf.data.Dataset.sample_from_datasets(
        [endless(real), endless(generated)], [0.5, 0.5], seed=seed
    )
    rows = []
    for name, data, shifts in (
        ("real", endless(real), False),
        ("real, shifts", endless(real), True),
        ("real and generated", both, False),
        ("real and generated, shifts", both, True),
        ("generated", endless(generated), False),
    ):
        row = {"trained on": name, "per_class": per_class, "rare": options.rare, "seed": seed}
        batches = data.batch(100, drop_remainder=True).prefetch(2)
        rows.append(row | score(batches, shifts, seed, options.minutes * 60))
        _print_row(rows[-1])
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    """Prints the mean and the spread (smallest to largest) of each cell of `classifier`."""
    values = ["accuracy", *(["rare_recall"] if any(row["rare"] for row in rows) else [])]
    for cell in dict.fromkeys((row["per_class"], row["trained on"]) for row in rows):
        found = [row for row in rows if (row["per_class"], row["trained on"]) == cell]
        line = f"{cell[0]:>4} a class  {cell[1]:<28}"
        for value in values:
            numbers = [row[value] for row in found]
            spread = f"{min(numbers):.1%} to {max(numbers):.1%}"
            line += f"  {value} {statistics.mean(numbers):.1%} ({spread})"
        print(line)


def _print_row(row: dict[str, Any]) -> None:
    shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
    print("  ".join(shown), flush=True)


def parse() -> argparse.Namespace:
    """Returns the checked options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("what", choices=("few", "classifier"))
    add("--images", type=int, default=1000, help="few: number of training images")
    add("--per-class", default="200", help="classifier: images per class, such as 20,50,200")
    add("--rare", type=int, default=0, help="classifier: images of the two rare classes")
    add("--minutes", type=float, default=1.0, help="classifier: processor time of each cell")
    add("--generated", type=int, default=20_000, help="classifier: generated images")
    add("--truncation", type=float, default=1.0, help="classifier: of the generated images")
    add("--quick", action="store_true", help="classifier: one short try of every cell")
    add("--play", type=int, default=400_000, help="images seen during training")
    add("--seeds", type=int, default=1, help="number of seeds, starting at 0")
    add("--augments", default=",".join(AUGMENTS), help="few: augmentations")
    add("--set", action="append", default=[], help="override a key of the recipe")
    add("--json", type=pathlib.Path, help="write the results there")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
        options.set.append("evaluation.count=500")
    options.augments = options.augments.split(",")
    unknown = [name for name in options.augments if name not in AUGMENTS]
    if unknown:
        parser.error(f"--augments must be of {', '.join(AUGMENTS)}. Received: {unknown[0]}")
    return options


def main() -> None:
    options = parse()
    print(f"{options.what} on {processor()}")
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        if options.what == "few":
            rows += few(options.images, seed, options.play, options.set, options.augments)
        else:
            for per_class in map(int, options.per_class.split(",")):
                rows += classifier(per_class, seed, options)
    if options.what == "classifier":
        print_table(rows)
    else:
        for name in dict.fromkeys(row["augment"] for row in rows):
            found = [row["best"] for row in rows if row["augment"] == name]
            print(f"{name}: median best {statistics.median(found):.4g}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
