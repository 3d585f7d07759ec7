"""Mode coverage of the recipes gaussians-8 and gaussians-25.

    python benchmarks/gaussians.py --modes 8 --seeds 3

Follows the protocol of PacGAN (https://arxiv.org/abs/1712.04086) with 25,000 generated points. A
point is of high quality if it is within 3 standard deviations of a mode's center; a mode is covered
if it has such a point. A perfect sampler has 98.9 % of high quality.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tempfile
import time

from keras_gan import recipe as recipes
from keras_gan import train
from keras_gan.datasets import gaussians
from keras_gan.run import processor


def measure(modes: int, seed: int, settings: list[str]) -> dict[str, float]:
    recipe = recipes.load(f"gaussians-{modes}", [*settings, f"training.seed={seed}"])
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        gan = train.train(recipe, folder).gan
    seconds = time.monotonic() - began
    points = gan.generate(range(25_000), batch_size=5_000)
    return {"seed": seed, **gaussians.score(points, modes), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--modes", type=int, choices=(8, 25), default=8)
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, starting at 0")
    parser.add_argument("--set", action="append", default=[], help="override a key of the recipe")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there")
    options = parser.parse_args()
    print(f"gaussians-{options.modes} on {processor()}")
    print(f"{'seed':>4} {'modes':>8} {'within 3 sigma':>15} {'reverse KL':>11} {'seconds':>8}")
    results = []
    for seed in range(options.seeds):
        results.append(row := measure(options.modes, seed, options.set))
        print(
            f"{seed:>4} {row['modes']:>5}/{options.modes:<2} {row['high_quality']:>15.1%} "
            f"{row['reverse_kl']:>11.4f} {row['seconds']:>8.0f}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
