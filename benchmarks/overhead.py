"""What does all that is beside the game cost? The recipe fashion-mnist, by parts.

    python benchmarks/overhead.py --images 30000

Trains the recipe with all its callbacks and adds up the time spent in them: grids, evaluations, the
guard, checkpoints, the record, progress. Then the step with and without its metrics, in turns. The
parts are given as a share of the bare step's time.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import tempfile
import time
from typing import Any

import numpy as np
from data import fashion_mnist

from keras_gan import callbacks, train
from keras_gan import recipe as recipes

LISTENERS = ("Limits", "Progress", "CollapseGuard", "SampleGrid", "Evaluation", "RunWriter")


def time_callbacks(spent: dict[str, float]) -> None:
    """Makes every callback of a training add its time to `spent`."""

    def timed(name: str, method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - began

        return call

    for name in LISTENERS:
        listener = getattr(callbacks, name)
        for method in [m for m in vars(listener) if m.startswith("on_")]:
            setattr(listener, method, timed(name, getattr(listener, method)))


def train_function(recipe: recipes.Recipe, spec: Any, metrics: bool) -> Any:
    """One step on a fixed batch, as a function."""
    gan: Any = train.build(recipe, spec)
    if not metrics:
        for tracker in gan.metrics:
            tracker.update_state = lambda *_, **__: None
    shape = (recipe.training.batch_size, *spec.shape)
    batch = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    return lambda: gan.train_on_batch(batch)


def metrics_share(recipe: recipes.Recipe, spec: Any, rounds: int) -> tuple[float, float]:
    """Seconds of a bare step, and the share that metrics add, medians of interleaved rounds."""
    steps = [train_function(recipe, spec, metrics) for metrics in (False, True)]
    seconds: list[list[float]] = [[], []]
    with train.precisions.graphs(recipe.training.precision):
        for turn in range(rounds + 1):
            for which, step in enumerate(steps):
                began = time.perf_counter()
                for _ in range(5):
                    step()
                if turn:  # the first traces
                    seconds[which].append((time.perf_counter() - began) / 5)
    shares = [b / a - 1 for a, b in zip(*seconds, strict=True)]
    return statistics.median(seconds[0]), statistics.median(shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--set", action="append", default=[], help="override a key of the recipe")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there")
    options = parser.parse_args()
    source = fashion_mnist()
    settings = [f"training.examples={options.images}", *options.set]
    name = "fashion-mnist-10k" if source.count("train") < 60_000 else "fashion-mnist"
    recipe, line = train.choose_precision(recipes.load("fashion-mnist", settings, name))
    print(line)
    bare, share = metrics_share(recipe, source.spec, options.rounds)
    spent: dict[str, float] = {}
    time_callbacks(spent)
    with tempfile.TemporaryDirectory() as folder:
        outcome = train.train(recipe, pathlib.Path(folder) / "run")
    game = outcome.seconds - sum(spent.values())
    print(f"bare step {bare * 1e3:.1f} ms; training {outcome.seconds:.0f} s, of it:")
    parts = {part: seconds / game for part, seconds in spent.items()} | {"metrics": share}
    for part, value in parts.items():
        print(f"  {part:<12}{value:>7.2%}")
    total = sum(max(value, 0.0) for value in parts.values())  # noise must not pay for the rest
    print(f"  {'together':<12}{total:>7.2%} of the game's time")
    if options.json:
        result = {"bare_step_ms": bare * 1e3, "parts": parts, "together": total}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
