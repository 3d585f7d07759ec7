"""Published ideas against the recipes as they are, at equal processor time.

    python benchmarks/trials.py --data fashion-mnist-5 --seeds 3 --core 0 --json gray.json
    python benchmarks/trials.py --data color --trials base,weight_norm --seeds 3 --json color.json
    python benchmarks/trials.py --data color --size 32 --share 0.2 --json quick.json

`base` is the recipe: `fashion-mnist-5`, or for `color` the one that `keras-gan train` chooses for
emoji. It sees all its examples, for `color` as many as fit in --minutes on one core, and the
processor time that this takes is measured. Every other trial of the same seed is then trained for
the same processor time. The first step, in which TensorFlow builds the graph, and the evaluation do
not count. Schedules have the length of the base. Trials of classes have a base of their own,
`base_classes`, the recipe `fashion-mnist-classes-5` with a discriminator that takes the label,
by projection.

The distance is that of the averaged generator to held-out samples, smaller is better: the Frechet
distance of 10,000 gray images with the features `fashion_mnist`; the patch distance of color
images, of 1,000 samples to as many of all pictures, the mean of two sets. A run with the JSON file
of an earlier one continues it.

The trials:

- weight_norm: kernels of both networks centered and normalized after each step, at 3 times the
  rate, generator without batch normalization. Magnitude-preserving layers of EDM2 (Karras et al.,
  2023, https://arxiv.org/abs/2312.02696) as in R3GAN2 (https://github.com/IFeelBloated/R3GAN2).
- weight_norm_6, weight_norm_12, weight_norm_24: the same at 6, 12 and 24 times the rate. The rate
  is that of kernels of rms 1; the base moves the small weights of wide layers faster than that.
- weight_norm_batch: the same at 3 times the rate, with the generator's batch normalization.
- gradient_norm: the gradient of the generated samples is divided by a moving average of its norm.
  Adversarial flow models (Lin et al., 2025, https://arxiv.org/abs/2511.22475).
- centering: the discriminator also minimizes 0.01 (D(x) + D(G(z)))^2, same paper.
- afm: both of them.
- double_batch: batches of twice the size at 1.4 times the rate, for `fashion-mnist-5` 128.
- fresh_reals: the generator's step has real samples of its own, as in R3GAN (Huang et al., 2024,
  https://arxiv.org/abs/2501.05441).
- inverse_sqrt: rates that are constant for 16,000 examples and then fall by their square root, from
  the same rate, in place of the cosine whose length is a share of the training (EDM2, see above).
- power_average: an average with a half-life of 4 % of the examples so far, in place of a fixed one;
  a power function with a deviation of 0.05 (EDM2).
- no_lengths: both of them.
- lookahead: Lookahead-minmax (Chavdarova et al., 2021, https://arxiv.org/abs/2006.14567): every 50
  steps both networks become the mean of themselves and their slow copy.
- labels: both networks receive the class of each color image, and samples are as many of each
  class as the pictures.
- ucd: a discriminator that sees no labels and learns to classify real samples with weight 0.3, the
  second configuration of UCD (2025, https://arxiv.org/abs/2510.00624). Nothing but the real samples
  of all classes together leads the generator to the labels.
- ucd_labels: the same, and the generator minimizes the cross-entropy of its labels with weight 0.3.
- acgan: a discriminator that sees no labels, with the term of `fashion-mnist-acgan`, an auxiliary
  classifier.
- tac: the same with the two classifiers of TAC-GAN (Gong et al., 2019,
  https://arxiv.org/abs/1907.02690), weights as in acgan.
- adc: the recipe, with the classifier of ADC-GAN (Hou et al., 2022,
  https://arxiv.org/abs/2107.10060), weights as in acgan.
- reacgan: the same with the data-to-data cross-entropy of ReACGAN (Kang et al., 2021,
  https://arxiv.org/abs/2111.01118), with the weights of the paper.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import trial_games

from keras_gan import automatic, building, datasets, metrics, train
from keras_gan import precision as precisions
from keras_gan import recipe as recipes
from keras_gan.environment import processor
from keras_gan.metrics.images import to_bytes

GRAY, COLOR = "fashion-mnist-5", "color"
CLASSES = "fashion-mnist-classes-5"
ENDLESS = 10**9  # steps, for a training that the processor time ends
TIMED_STEPS = 40  # from which the examples of `color` are estimated
LENGTHS = ("examples", "ema_half_life", "decay_examples", "warm_up_examples")
CONSTANT = 16_000  # examples, after which the rates of `inverse_sqrt` fall
SETS, COMPARED = 2, 1_000  # sets of color samples, and samples of each

# ------------------------------------------------------------------------ the trials


@dataclasses.dataclass(frozen=True)
class Trial:
    """One idea.

    Args:
        changes: functions that change the tree of the recipe.
        callback: makes a callback of the training, or None.
        base: the trial that it is compared with.
    """

    changes: tuple[Callable[[dict[str, Any]], None], ...] = ()
    callback: Callable[[], keras.callbacks.Callback] | None = None
    base: str = "base"


def scale_lengths(tree: Any, factor: float) -> None:
    """Multiplies the examples of a recipe, its schedules and its average by a factor."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, (dict, list)):
            scale_lengths(value, factor)
        elif key in LENGTHS and value:
            tree[key] = max(1, round(value * factor))


def rate(factor: float) -> Callable[[dict[str, Any]], None]:
    """Returns a change that multiplies the learning rates of both networks."""

    def change(tree: dict[str, Any]) -> None:
        for section in tree["optimizers"].values():
            given = section["learning_rate"]
            if isinstance(given, dict):
                keys = given.keys() & {"start", "end", "rate"}
                scaled = {key: factor * given[key] for key in keys}
                section["learning_rate"] = given | scaled
            else:
                section["learning_rate"] = factor * given

    return change


def game(name: str) -> Callable[[dict[str, Any]], None]:
    """Returns a change to a game of `trial_games`."""
    return lambda tree: tree["game"].update(name=name)


def term(**section: Any) -> Callable[[dict[str, Any]], None]:
    """Returns a change that adds a term."""
    return lambda tree: tree["game"]["terms"].append(section)


def without_norm(tree: dict[str, Any]) -> None:
    tree["networks"]["generator"]["norm"] = "none"


def double_batch(tree: dict[str, Any]) -> None:
    tree["training"]["batch_size"] *= 2


def double_lengths(tree: dict[str, Any]) -> None:
    scale_lengths(tree, 2)


def inverse_sqrt(tree: dict[str, Any]) -> None:
    for section in tree["optimizers"].values():
        first = section["learning_rate"]["start"]
        schedule = {"name": "inverse_sqrt", "rate": first, "decay_examples": CONSTANT}
        section["learning_rate"] = schedule


def power_average(tree: dict[str, Any]) -> None:
    tree["game"].update(ema_half_life=tree["training"]["examples"], ema_rampup=0.04)


def labels(tree: dict[str, Any]) -> None:
    for network in tree["networks"].values():
        network["condition"] = ["labels"]


def projection(tree: dict[str, Any]) -> None:
    """Makes the discriminator take the label, in place of a term that teaches the labels."""
    network = tree["networks"]["discriminator"]
    network.pop("auxiliary_classes", None)
    network["condition"] = ["labels"]
    terms = tree["game"]["terms"]
    tree["game"]["terms"] = [each for each in terms if each["name"] in ("r1", "r2")]


def auxiliary(classes: bool | str, **section: Any) -> Trial:
    """Returns a trial of a discriminator that sees no labels and learns the classes by a term.

    Args:
        classes: the discriminator's option `auxiliary_classes`.
        **section: the term.
    """

    def change(tree: dict[str, Any]) -> None:
        tree["networks"]["discriminator"].update(condition=[], auxiliary_classes=classes)

    return Trial((projection, change, term(**section)), base="base_classes")


LIGHT = {"weight": 0.3, "generator_weight": 0.3}
OF_RECIPE = {"weight": 1.0, "generator_weight": 0.2}  # `fashion-mnist-acgan`
NORMALIZED = (game("forced_weight_norm"), without_norm)
CENTERING = term(name="logit_centering", weight=0.01)
TRIALS = {
    "base": Trial(),
    "weight_norm": Trial((*NORMALIZED, rate(3))),
    "weight_norm_6": Trial((*NORMALIZED, rate(6))),
    "weight_norm_12": Trial((*NORMALIZED, rate(12))),
    "weight_norm_24": Trial((*NORMALIZED, rate(24))),
    "weight_norm_batch": Trial((game("forced_weight_norm"), rate(3))),
    "gradient_norm": Trial((game("normalized_gradient"),)),
    "centering": Trial((CENTERING,)),
    "afm": Trial((game("normalized_gradient"), CENTERING)),
    "double_batch": Trial((double_batch, rate(1.4))),
    # An example of the generator's step counts as well: all lengths in steps are those of the base.
    "fresh_reals": Trial((game("fresh_reals"), double_batch, double_lengths)),
    "inverse_sqrt": Trial((inverse_sqrt,)),
    "power_average": Trial((power_average,)),
    "no_lengths": Trial((inverse_sqrt, power_average)),
    "labels": Trial((labels,)),
    "lookahead": Trial(callback=trial_games.Lookahead),
    "base_classes": Trial((projection,), base="base_classes"),
    "ucd": auxiliary(True, name="real_classes", weight=0.3),
    "ucd_labels": auxiliary(True, name="auxiliary_classifier", fake=0.0, **LIGHT),
    "acgan": auxiliary(True, name="auxiliary_classifier", fake=0.0, **OF_RECIPE),
    "tac": auxiliary("real_and_fake", name="two_classifiers", **OF_RECIPE),
    "adc": auxiliary("real_and_fake", name="discriminative_classifier", **OF_RECIPE),
    "reacgan": auxiliary("embedding", name="data_to_data"),
}
LENGTHLESS = ["inverse_sqrt", "power_average", "no_lengths"]  # as recipes of color are
GRAY_ONLY = [name for name, trial in TRIALS.items() if trial.base == "base_classes"] + LENGTHLESS
COLOR_ONLY = ["labels"]


# ------------------------------------------------------------------------ one training


class Budget(keras.callbacks.Callback):
    """Measures the processor time of a training after its first step, and ends it at a limit.

    Args:
        seconds: the limit, or None.
    """

    def __init__(self, seconds: float | None = None):
        super().__init__()
        self.limit = seconds
        self.seconds, self.steps, self.diverged = 0.0, 0, False

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not self.steps:
            self.began = time.process_time()
        self.steps += 1
        self.seconds = time.process_time() - self.began
        game: Any = self.model
        losses = [logs[name] for name in ("d_loss", "g_loss")] if logs else []
        self.diverged = not np.isfinite(losses).all()
        if self.diverged or (self.limit and self.seconds >= self.limit):
            game.stop_training = True


def build(recipe: recipes.Recipe, source: datasets.Source) -> Any:
    """Builds and compiles the game of a recipe."""
    gan = building.build(recipe, source.spec)
    gan.sample_kind = source.spec.kind
    return gan


def fit(
    gan: Any,
    recipe: recipes.Recipe,
    source: datasets.Source,
    steps: int,
    budget: Budget,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
) -> None:
    """Trains a game for a number of steps, unless the budget ends first."""
    training = recipe.training
    batches = source.dataset("train", training.batch_size, seed=training.seed, repeat=True)
    with precisions.graphs(training.precision):
        # The budget is last, so that its time holds the other callbacks'.
        gan.fit(batches, steps_per_epoch=steps, verbose=0, callbacks=[*callbacks, budget])


@dataclasses.dataclass
class Bench:
    """Trains and measures trials on one data set.

    Args:
        options: the parsed options.
        examples: examples of the base of `color`; found by timing if None.
    """

    options: argparse.Namespace
    examples: int | None = None

    def __post_init__(self) -> None:
        options = self.options
        name = "fashion-mnist" if options.data == GRAY else "emoji"
        of_data = [setting for setting in options.set if setting.startswith("data.")]
        size = {} if options.data == GRAY else {"size": options.size}
        self.source = datasets.open(name, **size | recipes.parse_data(name, of_data))
        if options.data == GRAY:
            return
        self.pictures = automatic.look(self.source)
        splits = [self.source.arrays(name) for name in self.source.split_names]
        pictures, classes = (np.concatenate(parts) for parts in zip(*splits, strict=True))
        order = np.random.default_rng(0).permutation(len(pictures))[:COMPARED]
        self.real, self.real_labels = pictures[order], classes[order]
        if self.examples is None:
            self.examples = self._examples_in(60 * options.minutes * options.share)

    def _examples_in(self, seconds: float) -> int:
        """Returns the number of examples that the base of `color` sees in a processor time."""
        self.examples, budget = 10_000_000, Budget()  # lengths do not matter for the speed
        recipe = self.recipe("base", 0)
        fit(build(recipe, self.source), recipe, self.source, TIMED_STEPS + 1, budget)
        batches = seconds / budget.seconds * TIMED_STEPS
        return max(1, round(batches)) * recipe.training.batch_size

    def recipe(self, name: str, seed: int) -> recipes.Recipe:
        """Returns the recipe of a trial."""
        trial, options = TRIALS[name], self.options
        if options.data == GRAY:
            preset = CLASSES if trial.base == "base_classes" else GRAY
            tree = recipes.load(preset, options.set).model_dump()
            scale_lengths(tree, options.share)
        else:
            tree, _ = automatic.choose(self.pictures, self.examples or 1)
            tree["data"] = {"source": "emoji", "size": options.size}
            tree = recipes.complete(tree, options.set).model_dump()
        tree["training"].update(seed=seed, minutes=None)
        for change in trial.changes:
            change(tree)
        return train.choose_precision(recipes.parse(tree))[0]

    def run(self, name: str, seed: int, seconds: float | None) -> dict[str, Any]:
        """Trains a trial for a processor time, or its base for all its examples; measures it."""
        trial, recipe = TRIALS[name], self.recipe(name, seed)
        keras.backend.clear_session()
        gc.collect()
        gan, budget = build(recipe, self.source), Budget(seconds)
        steps = ENDLESS if seconds else building.total_steps(recipe)
        fit(gan, recipe, self.source, steps, budget, (trial.callback(),) if trial.callback else ())
        row = {"trial": name, "seed": seed, "examples": gan.count("examples_seen")}
        row |= {"steps": budget.steps, "seconds": budget.seconds, "distance": None}
        return row if budget.diverged else row | self.measure(gan)

    def measure(self, gan: Any) -> dict[str, float]:
        """Returns the distance; in a game with classes, also the accuracy of the labels."""
        if self.options.data == COLOR:
            count, labels = len(self.real), self.real_labels if gan.num_classes else None
            sets = [range(i * count, (i + 1) * count) for i in range(SETS)]
            samples = (to_bytes(gan.generate(seeds, labels=labels)) for seeds in sets)
            values = [metrics.patch_distance(self.real, made) for made in samples]
            return {"distance": float(np.mean([value.mean for value in values]))}
        names = ["frechet_distance", *(["label_accuracy"] if gan.num_classes else [])]
        settings: dict[str, Any] = {"metrics": names, "progress": False}
        count = self.options.count
        found = metrics.evaluate(
            gan, self.source, features="fashion_mnist", count=count, **settings
        )
        distance = float(found["frechet_distance"])
        accuracy = {"label_accuracy": float(found["label_accuracy"])} if gan.num_classes else {}
        return {"distance": distance, **accuracy}


# ------------------------------------------------------------------------ all trainings


class Results:
    """Rows of the trials, written as they are added.

    Args:
        path: JSON file, which may hold rows of an earlier run; or None.
        settings: what all rows of a file have in common.
    """

    def __init__(self, path: pathlib.Path | None, settings: dict[str, Any]):
        self.path, self.settings = path, settings
        self.rows: list[dict[str, Any]] = []
        self.examples: int | None = None
        if path and path.exists():
            found = json.loads(path.read_text())
            if found["settings"] != settings:
                raise SystemExit(
                    f"--json must be a new file, or one with the settings of this run, {settings}. "
                    f"Received: {path} with {found['settings']}"
                )
            self.rows, self.examples = found["rows"], found["examples"]

    def find(self, trial: str, seed: int) -> dict[str, Any] | None:
        """Returns a finished row."""
        found = (row for row in self.rows if (row["trial"], row["seed"]) == (trial, seed))
        return next(found, None)

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self.write()
        print(shown(row), flush=True)

    def write(self) -> None:
        if self.path:
            tree = {"settings": self.settings, "examples": self.examples, "rows": self.rows}
            self.path.write_text(json.dumps(tree, indent=2) + "\n")


def shown(row: dict[str, Any]) -> str:
    """Returns a row as a line."""
    distance = "diverged" if row["distance"] is None else f"{row['distance']:.4g}"
    line = f"seed {row['seed']}  {row['trial']:<18} {row['examples']:>9,} examples  "
    line += f"{row['steps']:>7,} steps  {row['seconds']:>7.1f} s  distance {distance}"
    accuracy = row.get("label_accuracy")
    return line if accuracy is None else f"{line}  label accuracy {accuracy:.1%}"


def accuracy(rows: list[dict[str, Any]], name: str) -> str:
    """Returns the median share of a trial's samples that match their label, if it has labels."""
    found = [
        row["label_accuracy"] for row in rows if row["trial"] == name and "label_accuracy" in row
    ]
    return f"  {statistics.median(found):>20.1%}" if found else ""


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Returns a table of medians over the seeds, a divergence counting as the worst."""
    lines = [
        f"{'trial':<18} {'examples':>10} {'distance':>9} {'range':>15} {'ratio':>6}  better in"
    ]
    if any("label_accuracy" in row for row in rows):
        lines[0] += "  label accuracy"

    def distances(name: str) -> dict[int, float]:
        here = [row for row in rows if row["trial"] == name]
        return {
            row["seed"]: float("inf") if row["distance"] is None else row["distance"]
            for row in here
        }

    for name in dict.fromkeys(row["trial"] for row in rows):
        found, base = distances(name), distances(TRIALS[name].base)
        middle = statistics.median(found.values())
        ratio = middle / statistics.median(base[seed] for seed in found)
        examples = statistics.median(row["examples"] for row in rows if row["trial"] == name)
        spread = f"{min(found.values()):.4g}-{max(found.values()):.4g}"
        better = sum(value < base[seed] for seed, value in found.items())
        line = f"{name:<18} {examples:>10,.0f} {middle:>9.4g} {spread:>15} {ratio:>6.3f}"
        lines.append(f"{line}  {better} of {len(found)}{accuracy(rows, name)}")
    return lines


def run_all(bench: Bench, results: Results) -> None:
    """Runs the trials of each seed after their base, without those that are finished."""
    for seed in range(bench.options.seeds):
        for name in bench.options.trials:
            if results.find(name, seed):
                continue
            base = TRIALS[name].base
            measured = results.find(base, seed)
            results.add(bench.run(name, seed, measured["seconds"] if measured else None))


def with_bases(names: list[str]) -> list[str]:
    """Returns trials with their bases, each base before its trials."""
    bases = dict.fromkeys(TRIALS[name].base for name in names)
    return [*bases, *(name for name in names if name not in bases)]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Returns the checked options, `trials` as a list that begins with the bases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", choices=(GRAY, COLOR), default=GRAY)
    parser.add_argument("--trials", default="", help="of " + ", ".join(TRIALS) + "; default all")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, starting at 0")
    parser.add_argument("--share", type=float, default=1.0, help="of the whole length")
    parser.add_argument("--minutes", type=float, default=5.0, help="of the base of color, one core")
    parser.add_argument("--size", type=int, default=64, help="pixels of the color images")
    parser.add_argument("--count", type=int, default=10_000, help="gray samples that are compared")
    parser.add_argument("--core", type=int, help="run on this core only")
    parser.add_argument("--set", action="append", default=[], help="override a key of the recipes")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there after each row")
    options = parser.parse_args(arguments)
    unfit = COLOR_ONLY if options.data == GRAY else GRAY_ONLY
    fitting = [name for name in TRIALS if name not in unfit]
    names = options.trials.split(",") if options.trials else fitting
    for name in names:
        if name not in fitting:
            parser.error(
                f"--trials must be of {', '.join(fitting)} for {options.data}. Received: {name}"
            )
    if not 0 < options.share <= 1:
        parser.error(f"--share must be above 0 and at most 1. Received: {options.share}")
    options.trials = with_bases(names)
    return options


def keep_to(core: int) -> None:
    """Runs all threads of this process on one core, with one thread for an operation."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"  # read at the first operation
    tf.config.threading.set_intra_op_parallelism_threads(1)
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), {core})


def main() -> None:
    options = parse()
    if options.core is not None:
        keep_to(options.core)
    common = ("data", "share", "minutes", "size", "count", "set")
    results = Results(options.json, {name: getattr(options, name) for name in common})
    print(f"{options.data} on {processor()}", flush=True)
    bench = Bench(options, results.examples)
    results.examples = bench.examples
    run_all(bench, results)
    print(*table(results.rows), sep="\n")


if __name__ == "__main__":
    main()
