"""Translation and super-resolution after a given processor time, beside PyTorch's networks.

    python benchmarks/translation.py --torch-python /path/to/venv/bin/python --core 0
    python benchmarks/translation.py --tasks photos --minutes 2 --json photos.json
    python benchmarks/translation.py --tasks edges2fashion --runs runs/a --keep runs

Each training has one core and one thread. The tasks are the recipes of these names:

- edges2fashion: pairs of edges and clothing; `gan`, and `l1` with the reconstruction alone.
- glyphs: regular and bold characters without pairs, both directions, true pairs for the test.
- photos: crops of photographs from a quarter of their size; `l1` is the generator after the first
  half of the time, `gan` the last one.

A recipe's length follows from the speed of some steps, so that it takes --minutes of processor
time (photos: twice as many, for both stages). The peer (`translation_torch.py`) trains as long as
ours, by its own clock. Both are compared with the same test pictures, as uint8, by the functions of
`keras_gan.metrics`; the first rows are those of the input itself, or of Pillow's bicubic resize.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from quality import HERE, processor_seconds, run

from keras_gan import building, metrics, train, workers
from keras_gan import recipe as recipes
from keras_gan.environment import processor
from keras_gan.metrics import pairs
from keras_gan.metrics.images import to_bytes
from keras_gan.run import Run

RECIPES = {"edges2fashion": "edges2fashion", "glyphs": "glyphs-bold", "photos": "photos-x4"}
MEASURES: dict[str, tuple[str, ...]] = {
    "edges2fashion": ("l1", "psnr", "ssim", "gradient_ratio", "nyquist_ratio"),
    "glyphs": ("l1", "psnr", "ssim", "pair_accuracy"),
    "photos": ("psnr", "ssim", "gmsd", "gradient_ratio", "spectrum_error", "consistency"),
}
WARM_UP, TIMED = 3, 30  # steps
TIMES = {"edges2fashion": 1, "glyphs": 1, "photos": 2}  # --minutes for each stage
Row = dict[str, Any]


class Task:
    """Data of a task, as uint8 arrays, and the measures of answers.

    Args:
        name: of `RECIPES`.
    """

    def __init__(self, name: str):
        self.name, self.recipe = name, recipes.load(RECIPES[name])
        self.source = building.open_data(self.recipe)
        self.arrays: dict[str, np.ndarray] = {}
        for split, prefix in (("train", ""), ("held_out", "test_")):
            for field, array in self.source.field_arrays(split).items():
                self.arrays[prefix + field] = self.source.field_to_uint8(field, array)

    def measure(self, answers: np.ndarray, backward: bool = False) -> dict[str, float]:
        """Compares answers with the true pictures."""
        names = ("test_samples", "test_condition")
        real, condition = (self.arrays[name] for name in (reversed(names) if backward else names))
        found = {}
        for name in MEASURES[self.name]:
            first = condition if name == "consistency" else real
            found[name] = round(float(getattr(metrics, name)(first, answers)), 4)
        return found

    def controls(self) -> list[Row]:
        """Returns the measures of the input itself, or of its bicubic resize."""
        condition, samples = self.arrays["test_condition"], self.arrays["test_samples"]
        game = pairs.control_name(condition.shape[1:], samples.shape[1:])
        answers = pairs.control(condition, samples.shape[1:])
        rows: list[Row] = [{"game": game, "state": "forward", **self.measure(answers)}]
        if self.name == "glyphs":
            again = self.measure(samples, backward=True)
            rows.append({"game": game, "state": "backward", **again})
        return rows


def timed_examples(task: Task, seconds: float, settings: list[str]) -> int:
    """Returns the number of examples that a recipe sees in a processor time of one core."""
    recipe = train.choose_precision(recipes.load(RECIPES[task.name], settings))[0]
    game = building.build(recipe, task.source.spec)
    game.sample_kind = task.source.spec.kind
    team = workers.Team(tf.distribute.get_strategy(), [""], 0)
    batches = building.batches(recipe, task.source, 0, team)
    game.fit(batches, steps_per_epoch=WARM_UP, epochs=1, verbose=0)
    start = time.process_time()
    game.fit(batches, steps_per_epoch=TIMED, epochs=1, verbose=0)
    spent = (time.process_time() - start) / TIMED
    return round(seconds / spent) * recipe.training.batch_size


def train_ours(task: Task, seconds: float, options: Any, folder: pathlib.Path, *more: str) -> str:
    """Trains a recipe in a process of its own; returns what it saw and took."""
    settings = [f"training.seed={options.seed}", *options.set, *more]
    if task.name == "photos":  # half of the time for each stage
        stages = [
            timed_examples(task, seconds / 2, [*settings, f"game.first_stage={share}"])
            for share in (1.0, 0.0)
        ]
        settings.append(f"game.first_stage={stages[0]}")
        found = sum(stages)
    else:
        found = timed_examples(task, seconds, settings)
    settings += [f"training.examples={found}", "training.minutes=null"]
    program = [sys.executable, "-m", "keras_gan", "train", RECIPES[task.name], "--run", str(folder)]
    before = processor_seconds()
    run(*program, *(part for setting in settings for part in ("--set", setting)))
    spent = processor_seconds() - before
    return f"{found:,} examples, {spent / 60:.1f} min of processor time with start and evaluations"


def rows_of_run(task: Task, folder: pathlib.Path, game: str) -> list[Row]:
    """Measures the answers of a finished run."""
    opened = Run.open(folder)
    trained = opened.load("last")
    condition = task.source.values(task.source.field_arrays("held_out")["condition"], "condition")

    def forward(state: str) -> Row:
        answers = trained.generate(seeds=range(len(condition)), condition=condition)
        return {"game": game, "state": state, **task.measure(to_bytes(answers))}

    if task.name == "glyphs":
        pictures = task.source.values(task.source.field_arrays("held_out")["samples"])
        answers = to_bytes(trained.translate(pictures, backward=True))
        measured = task.measure(answers, backward=True)
        return [forward("forward"), {"game": game, "state": "backward", **measured}]
    if task.name != "photos":
        return [forward("forward")]
    rows = [forward("gan")]
    trained.blend(0.0)
    return [forward("l1"), *rows]


def rows_of_torch(task: Task, seconds: float, options: Any, folder: pathlib.Path) -> list[Row]:
    """Trains and measures PyTorch's networks."""
    folder.mkdir(parents=True, exist_ok=True)
    data, out = folder / "data.npz", folder / "answers.npz"
    np.savez(data, **task.arrays)  # pyright: ignore[reportArgumentType]
    program = [options.torch_python, str(HERE / "translation_torch.py"), task.name]
    program += ["--data", str(data), "--seconds", str(seconds), "--seed", str(options.seed)]
    run(*program, "--out", str(out))
    with np.load(out) as found:
        answers = {name: found[name] for name in found.files}
    return [
        {
            "game": "torch",
            "state": name,
            "seen": f"{int(answers[f'{name}_seen']):,} examples",
            **task.measure(values, backward=name == "backward"),
        }
        for name, values in answers.items()
        if not name.endswith("_seen")
    ]


def measured(task: Task, options: Any, base: pathlib.Path, add: Callable[[list[Row]], None]):
    """Runs a task: controls, ours, and the peer if there is one."""
    seconds = 60 * options.minutes * TIMES[task.name]
    add(task.controls())
    games: dict[str, tuple[str, ...]] = {"ours": ()}
    if task.name == "edges2fashion":
        games["ours-l1"] = ("game.name=two_stage", "game.first_stage=1.0")
    for game, settings in games.items():
        folder = base / f"{task.name}-{game}"
        seen = train_ours(task, seconds, options, folder, *settings)
        add([{**row, "seen": seen} for row in rows_of_run(task, folder, game)])
    if options.torch_python:
        add(rows_of_torch(task, seconds, options, base / f"{task.name}-torch"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", default=",".join(RECIPES), help="of " + ", ".join(RECIPES))
    parser.add_argument("--minutes", type=float, default=5, help="processor time of a training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="an override of the recipes")
    parser.add_argument("--runs", nargs="+", type=pathlib.Path, help="finished runs of one task")
    parser.add_argument("--core", type=int, default=0, help="the core that everything runs on")
    parser.add_argument("--torch-python", help="a Python that has torch")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there after each row")
    parser.add_argument("--keep", type=pathlib.Path, help="keep runs in this folder")
    options = parser.parse_args()
    names = options.tasks.split(",")
    if unknown := sorted({*names} - {*RECIPES}):
        parser.error(f"--tasks takes {', '.join(RECIPES)}. Received: {', '.join(unknown)}")
    rows: list[Row] = []
    # Before TensorFlow starts its threads; programs that are run inherit both.
    os.sched_setaffinity(0, {options.core})
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    print(f"{processor()}, core {options.core}", flush=True)

    def add(new: list[Row]) -> None:
        for row in new:
            rows.append({"task": name, **row})
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))

    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            task = Task(name)
            for folder in options.runs or ():
                add(rows_of_run(task, folder, folder.name))
            if not options.runs:
                measured(task, options, options.keep or pathlib.Path(scratch), add)


if __name__ == "__main__":
    main()
