"""Training with and without gradient penalties, and in bfloat16.

    python benchmarks/terms.py gaussians-25 --seeds 3
    python benchmarks/terms.py fashion-mnist --seeds 3 --set training.examples=20000 \\
        --set optimizers.generator.learning_rate.examples=20000 \\
        --set optimizers.discriminator.learning_rate.examples=20000 \\
        --games penalized,unpenalized,bfloat16

Prints a row for each seed and game: how the training ended (if the collapse guard stopped it, the
last good state is measured), the number of images, the sliced Wasserstein distance to held-out
samples (smaller is better), the diversity of the samples relative to the data, and for Gaussians
the number of covered modes and the share of points within 3 standard deviations.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tempfile
import time
from typing import Any

import numpy as np

from keras_gan import metrics, train
from keras_gan import recipe as recipes
from keras_gan.datasets import gaussians
from keras_gan.run import processor

GAMES = {
    "penalized": ["training.precision=float32"],
    "unpenalized": ["training.precision=float32", "game.terms=[]"],
    "bfloat16": ["training.precision=bfloat16"],
}


def measure(name: str, seed: int, game: str, settings: list[str]) -> dict[str, Any]:
    recipe = recipes.load(name, [*settings, *GAMES[game], f"training.seed={seed}"])
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcome = train.train(recipe, f"{folder}/run")
    gan = outcome.gan
    row: dict[str, Any] = {"seed": seed, "game": game, "ended": outcome.reason}
    row |= {"images": gan.count("examples_seen"), "seconds": time.monotonic() - began}
    held_out = next(iter(train.open_data(recipe).dataset("held_out", batch_size=1_000, seed=0)))
    real = np.asarray(held_out[0] if isinstance(held_out, tuple) else held_out)
    generated = gan.generate(range(len(real)))
    row["sliced_wasserstein"] = float(metrics.sliced_wasserstein(real, generated))
    row["diversity"] = metrics.Diversity(real[:256])(generated[:256])
    if name.startswith("gaussians"):
        modes = int(name.rpartition("-")[2])
        row |= gaussians.score(gan.generate(range(25_000), batch_size=5_000), modes)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe", nargs="?", default="gaussians-25")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, starting at 0")
    parser.add_argument("--games", default="penalized,unpenalized", help=", ".join(GAMES))
    parser.add_argument("--set", action="append", default=[], help="override a key of the recipe")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there")
    options = parser.parse_args()
    print(f"{options.recipe} on {processor()}")
    rows = []
    for seed in range(options.seeds):
        # Games are interleaved, so that a slow phase of the machine affects all of them.
        for game in options.games.split(","):
            rows.append(row := measure(options.recipe, seed, game, options.set))
            shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
            print("  ".join(shown), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
