"""Memory growth of a training process over many steps.

    python benchmarks/memory.py --steps 20000

Trains the recipe gaussians-25 with small networks and all callbacks, as `keras-gan train` does, but
writes a grid, a checkpoint and a report four times per second, which simulates hours of training.
Growth is measured from the end of the first tenth, when every callback has run, to the end.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tempfile

from keras_gan import callbacks, train
from keras_gan import recipe as recipes


def resident() -> float:
    """Returns the resident memory of this process, in MiB."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--json", type=pathlib.Path, help="write the results there")
    options = parser.parse_args()
    batch_size = 64
    tick = max(1, options.steps // 200) * batch_size
    recipe = recipes.load(
        "gaussians-25",
        (
            f"training.examples={options.steps * batch_size}",
            f"training.batch_size={batch_size}",
            f"training.tick_examples={tick}",
            f"evaluation.every_examples={10 * tick}",
            "evaluation.count=500",
            "samples.count=100",
            "samples.every_seconds=0.25",
            "training.checkpoint_seconds=0.25",
            "generator.widths=[32,32]",
            "discriminator.widths=[32,32]",
        ),
    )
    found: list[tuple[int, float]] = []

    class Watched(callbacks.RunWriter):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            steps = self.model.count("iteration")  # pyright: ignore
            found.append((steps, resident()))
            if len(found) % 20 == 0:
                print(f"{steps:>8,} steps {found[-1][1]:>8,.1f} MiB", flush=True)

    callbacks.RunWriter = Watched
    callbacks._REPORTING, callbacks._WRITING = 0.25, 1
    with tempfile.TemporaryDirectory() as folder:
        train.train(recipe, pathlib.Path(folder) / "run")
    first = next(mib for steps, mib in found if steps >= options.steps / 10)
    growth = found[-1][1] / first - 1
    print(f"growth after the first tenth: {growth:.2%}")
    if options.json:
        options.json.write_text(json.dumps({"mib": found, "growth": growth}, indent=2) + "\n")


if __name__ == "__main__":
    main()
