"""Cost of callbacks and metrics in the recipe fashion-mnist, by part.

    python benchmarks/overhead.py --images 30000

Trains the recipe with all its callbacks and sums the time spent in each: grids, evaluations, the
collapse guard, checkpoints, the record, progress. Then times the training step with and without its
metrics, interleaved. Each part is printed as a share of the time of the bare steps.
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

from keras_gan import callbacks, precision, train
from keras_gan import recipe as recipes

CALLBACKS = ("Limits", "Progress", "CollapseGuard", "Preview", "Evaluation", "RunWriter")


def time_callbacks(spent: dict[str, float]) -> None:
    """Makes every training callback add its time to `spent`."""

    def timed(name: str, method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - began

        return call

    for name in CALLBACKS:
        callback = getattr(callbacks, name)
        for method in [m for m in vars(callback) if m.startswith("on_")]:
            setattr(callback, method, timed(name, getattr(callback, method)))


def train_function(recipe: recipes.Recipe, spec: Any, metrics: bool) -> Any:
    """Returns a function that runs one training step on a fixed batch."""
    gan: Any = train.build(recipe, spec)
    if not metrics:
        for tracker in gan.metrics:
            tracker.update_state = lambda *_, **__: None
    shape = (recipe.training.batch_size, *spec.shape)
    batch = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    return lambda: gan.train_on_batch(batch)


def metrics_share(recipe: recipes.Recipe, spec: Any, rounds: int) -> tuple[float, float]:
    """Returns seconds of a bare step and the share that metrics add (interleaved medians)."""
    steps = [train_function(recipe, spec, metrics) for metrics in (False, True)]
    seconds: list[list[float]] = [[], []]
    with precision.graphs(recipe.training.precision):
        for number in range(rounds + 1):
            for which, step in enumerate(steps):
                began = time.perf_counter()
                for _ in range(5):
                    step()
                if number:  # the first round traces
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
    print(f"bare step {bare * 1e3:.1f} ms; training {outcome.seconds:.0f} s, of which:")
    parts = {part: seconds / game for part, seconds in spent.items()} | {"metrics": share}
    for part, value in parts.items():
        print(f"  {part:<12}{value:>7.2%}")
    total = sum(max(value, 0.0) for value in parts.values())  # noise must not offset other parts
    print(f"  {'total':<12}{total:>7.2%} of the time of the bare steps")
    if options.json:
        result = {"bare_step_ms": bare * 1e3, "parts": parts, "together": total}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
