"""Does the game end well without its penalties, or in bfloat16? Trains a recipe each way.

    python benchmarks/terms.py gaussians-25 --seeds 3
    python benchmarks/terms.py fashion-mnist --seeds 3 --set training.examples=20000 \\
        --set optimizers.generator.learning_rate.examples=20000 \\
        --set optimizers.discriminator.learning_rate.examples=20000 \\
        --games penalized,unpenalized,bfloat16

For each seed and each game a row: how the training ended (the collapse guard stops it as it would
any user's, and the game is then its last good state), after how many images, the sliced Wasserstein
distance to held-out samples (smaller is better), the share of the data's diversity that the samples
have, and for Gaussians the modes found and the share of points within 3 standard deviations.
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
from keras_gan.environment import processor

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
    made = gan.generate(range(len(real)))
    row["sliced_wasserstein"] = float(metrics.sliced_wasserstein(real, made))
    row["diversity"] = metrics.Diversity(real[:256])(made[:256])
    if name.startswith("gaussians"):
        modes = int(name.rpartition("-")[2])
        row |= gaussians.score(gan.generate(range(25_000), batch_size=5_000), modes)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe", nargs="?", default="gaussians-25")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, from 0 on")
    parser.add_argument("--games", default="penalized,unpenalized", help=", ".join(GAMES))
    parser.add_argument("--set", action="append", default=[], help="override a key of the recipe")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there")
    options = parser.parse_args()
    print(f"{options.recipe} on {processor()}")
    rows = []
    for seed in range(options.seeds):
        for game in options.games.split(","):  # in turns, so that the machine is the same for all
            rows.append(row := measure(options.recipe, seed, game, options.set))
            told = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
            print("  ".join(told), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
