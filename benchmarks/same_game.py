"""Bitwise comparison of samples with another version, by recipe and seed.

    python benchmarks/same_game.py OLD_PYTHON [--recipes quickstart,gaussians-8] [--steps 50]

OLD_PYTHON is the Python of a virtual environment in which the other version is installed. Each
recipe is trained for a few steps by both versions, exported by both, and sampled from Keras and
from the bundle through onnxruntime. Prints one row per recipe, and exits with status 1 unless all
samples are equal bit for bit. Needs dataset-fashion-mnist (Debian) for the recipes that read it.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

RECIPES = ("quickstart", "fashion-mnist-classes", "stacked-fashion", "gaussians-8")
COUNT = 16

# Runs in both versions, so it may use only what both have; the names of keys are looked up.
# Sums of gradients keep their order in both: TensorFlow else adds what is ready first, and two
# processes of one version give different samples of large networks.
WORKER = """
import sys
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
config = tf.compat.v1.ConfigProto()
rewriting = config.graph_options.rewrite_options
rewriting.memory_optimization = rewriting.NO_MEM_OPT
context.context()._config = config
import export, serving
from keras_gan import recipe, train

name, steps, folder, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
plain = recipe.load(name)
unit = "examples" if "training.examples" in plain.keys() else "images"
settings = [
    f"training.{unit}={steps * plain.training.batch_size}",
    f"training.tick_{unit}={steps * plain.training.batch_size}",
    "training.minutes=null",
    "training.precision=float32",
    "evaluation.metric=sliced_wasserstein",
    "evaluation.others=[]",
    "evaluation.features=null",
    f"evaluation.every_{unit}=0",
    "evaluation.count=64",
]
outcome = train.train(recipe.load(name, settings), folder + "/run")
gan = outcome.gan
samples = {"keras": gan.generate(range(count)), "live": gan.generate(range(count), average=False)}
spec = outcome.run.spec
export.export_bundle(
    gan, folder + "/bundle", kind=spec.kind, num_classes=spec.num_classes if gan.num_classes else 0,
    value_range=spec.value_range,
)
bundle = serving.Bundle(folder + "/bundle", device="cpu", threads=1)
samples["onnxruntime"] = bundle.generate(range(count))
with np.load(folder + "/bundle/golden.npz") as golden:
    samples["golden"] = golden["samples"]
np.savez(folder + "/samples.npz", **samples)
"""


def play(python: str, name: str, steps: int, folder: str) -> tuple[dict[str, np.ndarray], float]:
    """Trains and samples a recipe with one of the versions; returns samples and seconds."""
    began = time.monotonic()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [python, "-c", WORKER, name, str(steps), folder, str(COUNT)]
    # Elsewhere than in a checkout: -c puts the current folder first on Python's path.
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{python} failed on {name}:\n{done.stderr[-3000:]}")
    with np.load(pathlib.Path(folder) / "samples.npz") as samples:
        return dict(samples), time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares the samples of two versions.")
    parser.add_argument("old_python", help="Python that runs the other version.")
    parser.add_argument("--new-python", default=sys.executable, help="Python of this version.")
    parser.add_argument("--recipes", default=",".join(RECIPES), help="Separated by commas.")
    parser.add_argument("--steps", type=int, default=50, help="Training steps. Default 50.")
    options = parser.parse_args()
    kinds = ("keras", "live", "onnxruntime", "golden")
    print(
        f"{'recipe':<24}" + "".join(f"{kind:>14}" for kind in kinds) + f"{'seconds old, new':>20}"
    )
    same = True
    for name in options.recipes.split(","):
        with tempfile.TemporaryDirectory() as old, tempfile.TemporaryDirectory() as new:
            before, seconds_before = play(options.old_python, name, options.steps, old)
            after, seconds_after = play(options.new_python, name, options.steps, new)
        row = f"{name:<24}"
        for kind in kinds:
            equal = np.array_equal(before[kind], after[kind])
            same = same and equal
            difference = "equal" if equal else f"{np.abs(before[kind] - after[kind]).max():.2g}"
            row += f"{difference:>14}"
        print(f"{row}{seconds_before:>12.1f}{seconds_after:>8.1f}", flush=True)
    if not same:
        raise SystemExit("The two versions give different samples.")


if __name__ == "__main__":
    main()
