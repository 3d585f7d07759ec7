"""Sample quality after a given training time, of this library's recipes and of other examples.

    python benchmarks/quality.py --minutes 5,15 --seeds 3 --torch-python /path/to/venv/bin/python
    python benchmarks/quality.py --minutes 60 --games ours,keras-dcgan-28 --json quality.json

Each model is trained on the 60,000 training images of Fashion-MNIST, alone on the machine, for the
same wall-clock time from the first step (which compiles) to the mark, in minutes; the time for
generating samples is excluded. Our recipes are trained from scratch for each mark, with the recipe
made for it. A peer has no schedule, so it is trained once and sampled at each mark. 10,000 samples
are then compared with the 10,000 test images, as 28 x 28 gray images of 8 bits, with the same
feature extractor (`keras-gan evaluate`). `ours-classes` are the class-conditional recipes, which no
peer has; their samples have the labels of the test images.

`--clock processor` is for a machine that is not idle. A minute of a peer is then the processor time
of all cores in one minute. Our recipes are trained on all their images without a time limit, and
their processor time is printed.

The peers are as their authors publish them, see `quality_keras.py` and `quality_torch.py`. PyTorch
is not a dependency: its example runs in the Python given by --torch-python.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
from clocks import CLOCKS

from keras_gan import datasets, metrics
from keras_gan.environment import processor

HERE = pathlib.Path(__file__).resolve().parent
OURS = {
    "ours": {"5": "fashion-mnist-5", "15": "fashion-mnist", "60": "fashion-mnist-60"},
    "ours-classes": {
        "5": "fashion-mnist-classes-5",
        "15": "fashion-mnist-classes",
        "60": "fashion-mnist-classes-60",
    },
}
PEERS = ["keras-dcgan", "keras-dcgan-28", "keras-wgan-gp", "torch-dcgan"]
MEASURES = ["frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage"]


def train_ours(
    game: str, mark: str, seed: int, options: argparse.Namespace, folder: pathlib.Path
) -> str:
    """Trains the recipe of a mark into a folder; returns the processor time as text."""
    limit = "null" if options.clock == "processor" else mark
    program = [sys.executable, "-m", "keras_gan", "train", OURS[game][mark]]
    for setting in [*options.set, f"training.minutes={limit}", f"training.seed={seed}"]:
        program += ["--set", setting]
    before = processor_seconds()
    run(*program, "--run", str(folder))
    return f"{(processor_seconds() - before) / 60:.1f} min of processor time"


def processor_seconds() -> float:
    """Returns the processor time of all programs that were run."""
    spent = os.times()
    return spent.children_user + spent.children_system


def train_peer(
    game: str,
    marks: list[str],
    seed: int,
    options: argparse.Namespace,
    images: pathlib.Path,
    folder: pathlib.Path,
) -> str:
    python, script = sys.executable, "quality_keras.py"
    if game.startswith("torch"):
        python, script = options.torch_python, "quality_torch.py"
    arguments = ["--images", str(images), "--minutes", ",".join(marks), "--out", str(folder)]
    arguments += ["--count", str(options.count), "--seed", str(seed), "--clock", options.clock]
    return run(python, str(HERE / script), game, *arguments)


def run(*program: str) -> str:
    """Runs a program and returns the last line that it prints."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(program, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(program)}\n{done.stderr[-2000:]}")
    return done.stdout.strip().splitlines()[-1]


def measure(source: Any, count: int) -> metrics.EvaluationResult:
    """Evaluates a run or uint8 samples against the test images."""
    return metrics.evaluate(
        source,
        "fashion-mnist",
        features="fashion_mnist",
        count=count,
        metrics=MEASURES,
        progress=False,
    )


def parse() -> argparse.Namespace:
    """Returns the checked options, `minutes` and `games` as lists."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", default="5", help="marks, of " + ", ".join(OURS["ours"]))
    parser.add_argument("--games", default="", help="of " + ", ".join([*OURS, *PEERS]))
    parser.add_argument("--seeds", type=int, default=1, help="seeds of our recipes, from 0")
    parser.add_argument("--count", type=int, default=10_000, help="samples of each game")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="see above")
    parser.add_argument("--torch-python", help="a Python that has torch")
    parser.add_argument("--set", action="append", default=[], help="override a key of our recipes")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there after each row")
    parser.add_argument("--keep", type=pathlib.Path, help="keep runs and samples in this folder")
    options = parser.parse_args()
    marks = sorted(options.minutes.split(","), key=float)
    games = options.games.split(",") if options.games else [*OURS, *PEERS]
    in_torch = [game for game in games if game.startswith("torch")]
    if in_torch and not options.torch_python:
        if options.games:
            parser.error(f"--torch-python must name a Python with torch. Received: {in_torch[0]}")
        print(f"Without {in_torch[0]}: --torch-python names no Python with torch")
        games = [game for game in games if game not in in_torch]
    unknown = [game for game in games if game not in OURS and game not in PEERS]
    if unknown:
        parser.error(f"--games must be of {', '.join([*OURS, *PEERS])}. Received: {unknown[0]}")
    without_recipe = [mark for mark in marks if mark not in OURS["ours"]]
    if without_recipe and any(game in OURS for game in games):
        parser.error(
            f"--minutes must be of {', '.join(OURS['ours'])} for our recipes. "
            f"Received: {without_recipe[0]}"
        )
    options.minutes, options.games = marks, games
    return options


class Results:
    """Rows of the results, printed and written as they are added.

    Args:
        path: JSON file of all rows, or None.
    """

    def __init__(self, path: pathlib.Path | None):
        self.path = path
        self.rows: list[dict[str, Any]] = []

    def add(
        self, game: str, seed: int, mark: str, images: str, measured: metrics.EvaluationResult
    ) -> None:
        """Adds the measures of a game at a mark, with the images that it has seen."""
        found = {name: measured[name] for name in MEASURES}
        row = {"game": game, "seed": seed, "minutes": mark, "images": images, **found}
        self.rows.append(row)
        shown = "  ".join(f"{name} {found[name]:.4g}" for name in MEASURES)
        print(f"{game:<15} seed {seed}  {mark:>3} min  {images:>15}  {shown}", flush=True)
        if self.path:
            self.path.write_text(json.dumps(self.rows, indent=2) + "\n")


def run_games(options: argparse.Namespace, kept: pathlib.Path, results: Results) -> None:
    """Trains and measures every game; peers have one seed, and one run for all marks."""
    images = kept / "images.npy"
    kept.mkdir(parents=True, exist_ok=True)
    np.save(images, datasets.open("fashion-mnist").arrays("train")[0])
    marks = options.minutes
    for seed in range(options.seeds):
        for game in options.games:
            if game in OURS:
                for mark in marks:
                    folder = kept / f"{game}-{seed}-{mark}" / "run"
                    folder.parent.mkdir(exist_ok=True)
                    spent = train_ours(game, mark, seed, options, folder)
                    measured = measure(str(folder), options.count)
                    examples_seen = measured.protocol["generated"]["examples_seen"]
                    results.add(game, seed, mark, f"{examples_seen} images in {spent}", measured)
            elif seed == 0:
                folder = kept / f"{game}-{seed}-{marks[0]}"
                folder.mkdir(exist_ok=True)
                seen = train_peer(game, marks, seed, options, images, folder)
                for mark in marks:
                    measured = measure(np.load(folder / f"samples-{mark}.npy"), options.count)
                    shown = seen if mark == marks[-1] else ""
                    results.add(game, seed, mark, shown, measured)


def main() -> None:
    options = parse()
    print(f"{options.count:,} samples against the test images, on {processor()}")
    results = Results(options.json)
    with tempfile.TemporaryDirectory() as scratch:
        run_games(options, options.keep or pathlib.Path(scratch), results)
    summarize(results.rows, options.minutes)


def summarize(rows: list[dict[str, Any]], marks: list[str]) -> None:
    """Prints our median Frechet distances over the seeds and their ratio to each peer's."""
    for mark in marks:
        here = [row for row in rows if row["minutes"] == mark]
        for game in OURS:
            ours = [row["frechet_distance"] for row in here if row["game"] == game]
            if not ours:
                continue
            middle = statistics.median(ours)
            print(
                f"{mark} minutes: {game} {middle:.4g}, worst {max(ours) / middle:.2f} of the median"
            )
            for row in here:
                if row["game"] not in OURS:
                    share = row["frechet_distance"] / middle
                    print(f"  1/{share:.1f} of {row['game']}'s {row['frechet_distance']:.4g}")


if __name__ == "__main__":
    main()
