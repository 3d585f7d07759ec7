"""Augmentation with few training images, and generated images as training data of a classifier.

    python benchmarks/small_data.py few --images 1000 --seeds 3
    python benchmarks/small_data.py classifier --rare 20 --seeds 3 --json classifier.json
    python benchmarks/small_data.py classifier --quick

`few` trains the recipe fashion-mnist on a random subset of the training images without
augmentation, with DiffAugment and with ADA, for the same number of steps, and compares 10,000
samples of the best and of the last state with the 10,000 test images.

`classifier` chooses 20, 50 and 200 real images of each class, and with --rare N also a set of the
largest number with N images of the classes sandal and bag. On each set it trains a generator with
classes, then a small classifier in five cells: on the real images, on those with shifts and flips,
on half real and half generated images, on both with shifts and flips, and on generated images
alone. All classifiers see as many images. Generated images are as many of each class, so that the
set of rare classes has a sixth cell, in which the real images are as well. Printed are the accuracy
on the 10,000 test images and the mean recall of the two rare classes. Another run continues the
file of --json. A set takes three minutes of one core, nearly all of it for the generator.
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
from PIL import Image

from keras_gan import building, datasets, train, workers
from keras_gan import recipe as recipes
from keras_gan.callbacks.state import GameState
from keras_gan.environment import processor

Arrays = tuple[np.ndarray, np.ndarray]  # images and their labels
Cell = tuple[tf.data.Dataset, bool]

ADA = "adaptive"
RARE = (5, 8)  # sandal and bag
AUGMENTS = {"none": "null", "diff_augment": "diff_augment", "ada": ADA}
QUICK = {"per_class": "20", "rare": 10, "seeds": 1, "generated": 500, "play": 1280}
QUICK |= {"classifier_images": 1280}
BATCH = 64  # of a classifier
LAST = {False: "generated", True: "real, rare classes repeated, shifts"}  # cell of a set
SETTINGS = ("recipe", "set", "play", "generated", "truncation", "classifier_images")


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


def build_classifier(shifts: bool) -> Any:
    """Returns a small classifier, with random shifts and flips of its training images or without.

    Args:
        shifts: whether training images are shifted by up to 10 % and flipped.
    """
    model: Any = keras.Sequential([keras.Input((28, 28, 1))])
    if shifts:
        model.add(layers.RandomTranslation(0.1, 0.1, fill_mode="constant", fill_value=-1.0))
        model.add(layers.RandomFlip("horizontal"))
    for width in (32, 64):  # strides, as pooling would take more than twice the time
        model.add(layers.Conv2D(width, 3, strides=2, padding="same", activation="relu"))
    for layer in (layers.Flatten(), layers.Dropout(0.5), layers.Dense(128, "relu")):
        model.add(layer)
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(10))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    return model


def score(data: tf.data.Dataset, shifts: bool, seed: int, images: int) -> dict[str, Any]:
    """Trains a classifier on a number of images, and measures it on the test images.

    Args:
        data: endless images with labels.
        shifts: see `build_classifier`.
        seed: of the classifier.
        images: number of images, each as often as it is seen.
    """
    began = time.process_time()
    keras.utils.set_random_seed(seed)
    model = build_classifier(shifts)
    batches = data.batch(BATCH, drop_remainder=True).prefetch(2)
    model.fit(batches, steps_per_epoch=max(1, images // BATCH), verbose=0)
    seconds = time.process_time() - began
    tested, labels = datasets.open("fashion-mnist").arrays("held_out")
    scaled = (tested / 127.5 - 1).astype("float32")
    right = model.predict(scaled, batch_size=500, verbose=0).argmax(axis=1) == labels
    recall = float(np.mean([right[np.asarray(labels) == label].mean() for label in RARE]))
    return {"accuracy": float(right.mean()), "rare_recall": recall, "seconds": seconds}


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


class Generator:
    """A class-conditional game that is compiled once for each seed, and trained on set after set.

    Args:
        options: the options of the program.
    """

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.gan: Any = None

    def images(self, chosen: np.ndarray, seed: int) -> tuple[Arrays, float]:
        """Trains on the chosen images; returns generated ones with labels, and the seconds.

        Args:
            chosen: positions of the training images.
            seed: of the initial weights and of the order of the images.
        """
        began, options = time.process_time(), self.options
        with tempfile.TemporaryDirectory() as folder:
            sets = [f"game.augment={ADA}", "training.minutes=null", *options.set]
            sets += [f"training.examples={options.play}", f"training.seed={seed}"]
            recipe = recipes.load(options.recipe, sets, few_images(chosen, folder))
            source = building.open_data(recipe)
            new = building.build(recipe, source.spec)
            team = workers.Team(tf.distribute.get_strategy(), [""], 0)
            data = building.batches(recipe, source, 0, team)
            # The seed is a constant of the compiled graph.
            if self.gan is None or self.gan.seed != new.seed:
                self.gan = new
            else:
                GameState(new).restore(self.gan)
            self.gan.fit(data, steps_per_epoch=building.total_steps(recipe), verbose=0)
        labels = np.arange(options.generated) % 10
        images = self.gan.generate(
            range(len(labels)), labels=labels, truncation=options.truncation, batch_size=250
        )
        found = images.astype("float32"), labels.astype("int32")
        return found, time.process_time() - began


def draw(real: Arrays, generated: Arrays, rows: int = 3) -> Image.Image:
    """Returns a picture: rows of real images above rows of generated ones, a column for each class.

    Args:
        real: images in [-1, 1] and their labels.
        generated: the same of generated images.
        rows: number of rows of each.
    """
    tiles = []
    for images, labels in (real, generated):
        of_class = [images[labels == label][:rows] for label in range(10)]
        block = np.stack(of_class, axis=1)[..., 0]  # (rows, classes, height, width)
        block = np.pad(block, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-1)
        tiles.append(block.transpose(0, 2, 1, 3).reshape(rows * 30, 10 * 30))
    line = np.ones((4, 300), np.float32)
    pixels = np.clip((np.concatenate([tiles[0], line, tiles[1]]) + 1) * 127.5, 0, 255)
    found = Image.fromarray(pixels.round().astype(np.uint8))
    return found.resize((2 * found.width, 2 * found.height), Image.Resampling.NEAREST)


def endless(arrays: Arrays, seed: int) -> tf.data.Dataset:
    """Returns the images of some arrays with their labels in random order, again and again."""
    data = tf.data.Dataset.from_tensor_slices(arrays)
    return data.shuffle(len(arrays[0]), seed=seed).repeat()


def cells(real: Arrays, generated: Arrays, rare: int, seed: int) -> dict[str, Cell]:
    """Returns the training data of each cell, and whether it is shifted and flipped.

    Args:
        real: real images and their labels.
        generated: generated images, as many of each class.
        rare: images of each rare class, 0 without rare classes.
        seed: of the order.
    """
    mixed = [endless(real, seed), endless(generated, seed)]
    both = tf.data.Dataset.sample_from_datasets(mixed, [0.5, 0.5], seed=seed)
    found: dict[str, Cell] = {
        "real": (mixed[0], False),
        "real, shifts": (mixed[0], True),
        "real and generated": (both, False),
        "real and generated, shifts": (both, True),
        "generated": (mixed[1], False),
    }
    if rare:  # generated images are as many of each class: so must be the real ones
        x, y = real
        classes = [endless((x[y == label], y[y == label]), seed) for label in range(10)]
        balanced = tf.data.Dataset.sample_from_datasets(classes, [0.1] * 10, seed=seed)
        found["real, rare classes repeated, shifts"] = balanced, True
    return found


def classifier(per_class: int, rare: int, seed: int, generator: Generator, log: Log) -> None:
    """Adds a row to the log for each cell of a set that it does not have."""
    key = {"per_class": per_class, "rare": rare, "seed": seed}
    if log.has(key | {"trained on": LAST[bool(rare)]}):
        return
    options = generator.options
    x, y = datasets.open("fashion-mnist").arrays("train")
    chosen = choose(per_class, rare, seed)
    real = (x[chosen] / 127.5 - 1).astype("float32"), np.asarray(y)[chosen].astype("int32")
    generated, seconds = generator.images(chosen, seed)
    print(f"generator: {seconds:.0f} s of processor time", flush=True)
    if options.picture and not options.picture.exists():
        draw(real, generated).save(options.picture)
    for name, (data, shifts) in cells(real, generated, rare, seed).items():
        row = key | {"trained on": name}
        if not log.has(row):
            row |= score(data, shifts, seed, options.classifier_images)
            log.add(row | {"generator_seconds": seconds})
            _print_row(row)


class Log:
    """The rows of `classifier` in a file of JSON, which another run continues.

    Args:
        path: the file; None to keep the rows in memory.
        settings: all that the rows depend on.

    Raises:
        SystemExit: the file is of other settings.
    """

    def __init__(self, path: pathlib.Path | None, settings: dict[str, Any]):
        self.path, self.settings = path, settings
        self.rows: list[dict[str, Any]] = []
        if path and path.exists():
            found = json.loads(path.read_text())
            if found["settings"] != settings:
                raise SystemExit(
                    f"--json must be a new file, or one of the same settings. Received: {path} "
                    f"of {found['settings']}"
                )
            self.rows = found["rows"]

    def has(self, key: dict[str, Any]) -> bool:
        """Returns True if a row has these values."""
        return any(key.items() <= row.items() for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        """Adds a row, and writes the file."""
        self.rows.append(row)
        if self.path:
            new = self.path.with_suffix(".new")
            new.write_text(json.dumps({"settings": self.settings, "rows": self.rows}, indent=1))
            new.replace(self.path)


def print_table(rows: list[dict[str, Any]]) -> None:
    """Prints a table of the mean and the spread (smallest to largest) of each cell."""
    print("\n| real images | trained on | seeds | accuracy, % | recall of the rare, % |")
    print("|---|---|---|---|---|")
    names = "per_class", "rare", "trained on"
    for cell in dict.fromkeys(tuple(row[name] for name in names) for row in rows):
        found = [row for row in rows if tuple(row[name] for name in names) == cell]
        columns = []
        for value in ("accuracy", *(["rare_recall"] if cell[1] else [])):
            numbers = [100 * row[value] for row in found]
            spread = f"{min(numbers):.1f} to {max(numbers):.1f}"
            columns.append(f"{statistics.mean(numbers):.1f} ({spread})")
        images = f"{cell[0]} a class" + f", {cell[1]} of the rare" * bool(cell[1])
        columns += [""] * (2 - len(columns))
        print(f"| {images} | {cell[2]} | {len(found)} | {' | '.join(columns)} |")
    for name in ("generator_seconds", "seconds"):
        print(f"{name}: {statistics.mean(row[name] for row in rows):.0f} on average")


def _print_row(row: dict[str, Any]) -> None:
    shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
    print("  ".join(shown), flush=True)


def parse() -> argparse.Namespace:
    """Returns the checked options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("what", choices=("few", "classifier"))
    add("--images", type=int, default=1000, help="few: number of training images")
    add("--per-class", default="20,50,200", help="classifier: images of each class, by set")
    add("--rare", type=int, default=0, help="classifier: one more set, with so many of two classes")
    add("--classifier-images", type=int, default=32_000, help="images that a classifier sees")
    add("--recipe", default="fashion-mnist-classes-5", help="classifier: recipe of the generator")
    add("--generated", type=int, default=10_000, help="classifier: generated images")
    add("--truncation", type=float, default=1.0, help="classifier: of the generated images")
    add("--picture", type=pathlib.Path, help="classifier: a PNG of real and generated images")
    add("--quick", action="store_true", help="classifier: one short try of every cell")
    add("--play", type=int, help="images that a generator sees; few 400,000, classifier 40,000")
    add("--seeds", type=int, default=1, help="number of seeds, starting at 0")
    add("--augments", default=",".join(AUGMENTS), help="few: augmentations")
    add("--set", action="append", default=[], help="override a key of the recipe")
    add("--json", type=pathlib.Path, help="results; classifier: a log that another run continues")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    options.play = options.play or {"few": 400_000, "classifier": 40_000}[options.what]
    options.augments = options.augments.split(",")
    unknown = [name for name in options.augments if name not in AUGMENTS]
    if unknown:
        parser.error(f"--augments must be of {', '.join(AUGMENTS)}. Received: {unknown[0]}")
    return options


def run_few(options: argparse.Namespace) -> None:
    """Runs `few`, prints the medians, and writes the rows."""
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        rows += few(options.images, seed, options.play, options.set, options.augments)
    for name in dict.fromkeys(row["augment"] for row in rows):
        found = [row["best"] for row in rows if row["augment"] == name]
        print(f"{name}: median best {statistics.median(found):.4g}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def run_classifier(options: argparse.Namespace) -> None:
    """Runs `classifier`, and prints the table of all rows of the log."""
    log = Log(options.json, {name: getattr(options, name) for name in SETTINGS})
    generator = Generator(options)
    counts = list(map(int, options.per_class.split(",")))
    sets = [(count, 0) for count in counts]
    sets += [(max(counts), options.rare)] if options.rare else []
    for seed in range(options.seeds):
        for per_class, rare in sets:
            classifier(per_class, rare, seed, generator, log)
    print_table(log.rows)


def main() -> None:
    options = parse()
    print(f"{options.what} on {processor()}")
    {"few": run_few, "classifier": run_classifier}[options.what](options)


if __name__ == "__main__":
    main()
