"""Cost of the checks before the first training step: networks, data and their fit.

    python benchmarks/looks.py [RECIPE ...] [--rounds 5]

Builds and fits each recipe for one step in a new process, in which every function that only
checks is timed. Prints the medians of the seconds that the checks take together and of the time
from the recipe to the end of the first step, without the import of TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

RECIPES = ("quickstart", "fashion-mnist", "fashion-mnist-classes", "gaussians-8", "stacked-fashion")

CHILD = """
import functools, json, sys, time
from keras_gan import network_checks, recipe, train
from keras_gan.games import _data, _gradients, _players

spent, depth = 0.0, 0

def timed(module, name):
    function = getattr(module, name)

    @functools.wraps(function)
    def wrapped(*arguments, **options):
        global spent, depth
        began = time.perf_counter()
        depth += 1
        try:
            return function(*arguments, **options)
        finally:
            depth -= 1
            if not depth:  # a check within another one counts once
                spent += time.perf_counter() - began

    setattr(module, name, wrapped)

for name, value in list(vars(network_checks).items()):
    if callable(value) and getattr(value, "__module__", "") == network_checks.__name__:
        if not name.startswith("_") and not isinstance(value, type):
            timed(network_checks, name)
timed(_players, "check")
timed(_gradients, "check")
timed(_data, "_checked")
resolved = recipe.load(sys.argv[1], ["training.precision=float32"])
source = train.open_data(resolved)
began = time.perf_counter()
gan = train.build(resolved, source.spec)
size = resolved.training.batch_size
gan.fit(source.dataset("train", size, 0), steps_per_epoch=1, epochs=1, verbose=0)
print(json.dumps([spent, time.perf_counter() - began]))
"""


def measure(name: str) -> list[float]:
    """Returns the seconds of the checks, and of all until the end of the first step."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", CHILD, name], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the checks before the first step.")
    parser.add_argument("recipes", nargs="*", default=RECIPES, help="Recipes to measure.")
    parser.add_argument("--rounds", type=int, default=5, help="Rounds in turns. Default 5.")
    options = parser.parse_args()
    found: dict[str, list[list[float]]] = {name: [] for name in options.recipes}
    for _ in range(options.rounds):
        for name in options.recipes:
            found[name].append(measure(name))
    print(f"{'recipe':<26}{'checks, s':>12}{'to the first step, s':>24}")
    for name, rounds in found.items():
        checks, whole = (statistics.median(values) for values in zip(*rounds, strict=True))
        print(f"{name:<26}{checks:>12.3f}{whole:>24.2f}")


if __name__ == "__main__":
    main()
