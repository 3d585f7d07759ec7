"""Quality of color pictures after a given training time, of chosen recipes and of other programs.

    python benchmarks/color.py --minutes 15 --seeds 3 --torch-python /path/to/venv/bin/python
    python benchmarks/color.py --games chosen-32 --minutes 15 --keep runs
    python benchmarks/color.py --runs runs/chosen-15-0 --json color.json

Each game is trained on the pictures of --data, alone on the machine:

- `chosen`: `keras-gan train --data DATA --minutes M`, which names no recipe,
- `chosen-32`: the same with `--set data.size=32`,
- `fashion-mnist`: that recipe with `--data DATA --minutes M`, which warns that it is for others,
- `torch-dcgan`: PyTorch's DCGAN example (`quality_torch.py`), in the Python of --torch-python.

400 samples of its last and its best state are compared with 400 pictures, five random choices of
all of them: patch distance (x 1000), Nyquist ratio, mean distance of pairs. A game that learned
classes makes as many samples of each as another choice has pictures. The first rows compare
pictures with other pictures, as those of a perfect generator would compare. `--runs` measures
finished runs instead.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from quality import HERE, processor_seconds, run

from keras_gan import datasets, metrics
from keras_gan.environment import processor
from keras_gan.metrics.images import to_bytes
from keras_gan.run import Run

GAMES = ["chosen", "chosen-32", "fashion-mnist", "torch-dcgan"]
MEASURES = ["patch_distance", "nyquist_ratio", "pair_distance"]
COUNT = 400  # samples, and pictures of a choice
CHOICES = 5  # of pictures


def train_ours(game: str, minutes: str, seed: int, data: str, folder: pathlib.Path) -> str:
    """Trains into a folder; returns how many examples were seen, and the processor time."""
    program = [sys.executable, "-m", "keras_gan", "train"]
    program += ["fashion-mnist"] if game == "fashion-mnist" else []
    program += ["--data", data, "--minutes", minutes, "--set", f"training.seed={seed}"]
    program += ["--set", "data.size=32"] if game == "chosen-32" else []
    before = processor_seconds()
    run(*program, "--run", str(folder))
    seen = Run.open(folder).rows()[-1]["examples_seen"]
    return f"{seen:,.0f} examples, {(processor_seconds() - before) / 60:.1f} min of processor time"


def train_torch(
    options: argparse.Namespace, minutes: str, seed: int, real: np.ndarray, folder: pathlib.Path
) -> str:
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", real)
    program = [options.torch_python, str(HERE / "quality_torch.py"), "torch-dcgan"]
    program += ["--images", str(folder / "images.npy"), "--minutes", minutes]
    program += ["--count", str(COUNT), "--seed", str(seed), "--out", str(folder)]
    before = processor_seconds()
    seen = run(*program)
    return f"{seen}, {(processor_seconds() - before) / 60:.1f} min of processor time"


class Real:
    """Random choices of the real pictures, and as many others.

    Args:
        data: name of the data set, or folder.
        side: height and width in pixels; None for those of the data set.
    """

    def __init__(self, data: str, side: int | None):
        options: dict[str, Any] = {} if side is None else {"size": side}
        self.source = datasets.open(data, **options)
        splits = [self.source.arrays(name) for name in self.source.split_names]
        self.all = np.concatenate([pictures for pictures, _ in splits])
        labels = [classes for _, classes in splits if classes is not None]
        self.labels = np.concatenate(labels) if len(labels) == len(splits) else None
        if len(self.all) < 2 * COUNT:
            raise SystemExit(f"{data} has {len(self.all)} pictures; {2 * COUNT} are needed")

    def choices(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields pictures to compare with, and others."""
        for seed in range(CHOICES):
            order = np.random.default_rng(seed).permutation(len(self.all))
            yield self.all[order[:COUNT]], self.all[order[COUNT : 2 * COUNT]]

    def classes(self) -> np.ndarray | None:
        """Returns the classes of a choice of the pictures, for generators that take them."""
        order = np.random.default_rng(CHOICES).permutation(len(self.all))[:COUNT]
        return None if self.labels is None else self.labels[order]

    def compare(self, samples: np.ndarray | None = None) -> dict[str, float]:
        """Compares uint8 samples with the pictures; None compares other pictures."""
        values = []
        for real, other in self.choices():
            shown = other if samples is None else samples
            patch = float(metrics.patch_distance(real, shown))
            nyquist = metrics.nyquist_ratio(real, shown)
            values.append((patch, nyquist, metrics.pair_distance(shown)))
        patch, nyquist, pair = np.mean(values, axis=0)
        found = {"patch_distance": round(float(patch), 1)}
        return found | {"nyquist_ratio": round(float(nyquist), 2), "pair_distance": round(pair)}


def rows_of_run(folder: pathlib.Path, real: Real) -> list[dict[str, Any]]:
    """Measures the last and the best state of a run."""
    rows, opened = [], Run.open(folder)
    for state in ("last", "best"):
        game = opened.load(state)
        labels = real.classes() if game.num_classes else None
        samples = to_bytes(game.generate(seeds=range(COUNT), labels=labels))
        rows.append({"state": state, **real.compare(samples)})
    return rows


def train_and_measure(
    game: str,
    minutes: str,
    seed: int,
    options: argparse.Namespace,
    real: Real,
    folder: pathlib.Path,
) -> list[dict[str, Any]]:
    if game == "torch-dcgan":
        seen = train_torch(options, minutes, seed, real.source.arrays("train")[0], folder)
        samples = np.load(folder / f"samples-{float(minutes):g}.npy")
        rows = [{"state": "last", **real.compare(samples)}]
    else:
        seen = train_ours(game, minutes, seed, options.data, folder)
        rows = rows_of_run(folder, real)
    row = {"game": game, "minutes": minutes, "seed": seed, "seen": seen}
    return [{**row, **values} for values in rows]


def _side(game: str) -> int | None:
    return 32 if game == "chosen-32" else None


def parse() -> argparse.Namespace:
    """Returns the checked options, `minutes` and `games` as lists."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="emoji", help="a data set, or a folder of pictures")
    parser.add_argument("--minutes", default="15", help="marks, separated by commas")
    parser.add_argument("--games", default="", help="of " + ", ".join(GAMES))
    parser.add_argument("--seeds", type=int, default=1, help="from 0")
    parser.add_argument("--runs", nargs="+", type=pathlib.Path, help="finished runs to evaluate")
    parser.add_argument("--size", type=int, help="height and width of the pictures of --runs")
    parser.add_argument("--torch-python", help="a Python that has torch")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there after each row")
    parser.add_argument("--keep", type=pathlib.Path, help="keep runs and samples in this folder")
    options = parser.parse_args()
    options.minutes = options.minutes.split(",")
    default = [game for game in GAMES if game != "torch-dcgan" or options.torch_python]
    options.games = [name for name in options.games.split(",") if name] or default
    if unknown := sorted({*options.games} - {*GAMES}):
        parser.error(f"--games takes {', '.join(GAMES)}. Received: {', '.join(unknown)}")
    if "torch-dcgan" in options.games and not options.torch_python:
        parser.error("torch-dcgan needs --torch-python, a Python that has torch")
    return options


def main() -> None:
    options, rows = parse(), []
    print(f"{processor()}, {os.cpu_count()} cores", flush=True)

    def add(new: list[dict[str, Any]]) -> None:
        rows.extend(new)
        for row in new:
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))

    if options.runs:
        real = Real(options.data, options.size)
        add([{"game": "real", **real.compare()}])
        for path in options.runs:
            add([{"run": path.name, **row} for row in rows_of_run(path, real)])
        return
    reals = {side: Real(options.data, side) for side in map(_side, options.games)}
    for side, real in reals.items():
        add([{"game": f"real-{side}" if side else "real", **real.compare()}])
    with tempfile.TemporaryDirectory() as scratch:
        base = options.keep or pathlib.Path(scratch)
        for minutes in options.minutes:
            for seed in range(options.seeds):
                for game in options.games:
                    folder = base / f"{game}-{minutes}-{seed}"
                    real = reals[_side(game)]
                    add(train_and_measure(game, minutes, seed, options, real, folder))
    summarize(rows)


def summarize(rows: list[dict[str, Any]]) -> None:
    """Prints the median over the seeds, and its ratio to real pictures of the same size."""
    print("\nmedian over the seeds; ratio of the patch distance to that of real pictures")
    reals = {row["game"]: row["patch_distance"] for row in rows if row["game"].startswith("real")}
    trained = [row for row in rows if row["game"] not in reals]
    for key in dict.fromkeys((row["game"], row["minutes"], row["state"]) for row in trained):
        same = [row for row in trained if (row["game"], row["minutes"], row["state"]) == key]
        middle = {name: statistics.median(row[name] for row in same) for name in MEASURES}
        real = reals["real-32" if key[0] == "chosen-32" else "real"]
        print(f"{' '.join(key)}: {middle}, {middle['patch_distance'] / real:.2f}")


if __name__ == "__main__":
    main()
