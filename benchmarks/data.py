"""Throughput of the input pipeline, compared with the consumption of a training step.

    python benchmarks/data.py --count 100000

Measures two sources: Fashion-MNIST as the recipe reads it, and a temporary folder of small PNGs.
The training step is that of the recipe fashion-mnist. Also prints the memory of the process during
the stream, which must not grow.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tempfile
import time
from typing import Any

import numpy as np
from PIL import Image

from keras_gan import datasets, train
from keras_gan import recipe as recipes
from keras_gan.errors import UsageError


def resident() -> float:
    """Returns the resident memory of this process, in MiB."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def fashion_mnist() -> datasets.Source:
    try:
        return datasets.open("fashion-mnist")
    except UsageError:
        return datasets.open("fashion-mnist-10k")  # the images included in the package


def write_images(folder: pathlib.Path, count: int) -> None:
    """Writes 32 x 32 x 3 images with the entropy of photographs: smooth, with some noise."""
    rng = np.random.default_rng(0)
    for i in range(count):
        if i % 1000 == 0:
            (folder / f"{i // 1000:04d}").mkdir()
            smooth = np.kron(rng.integers(0, 224, (64, 4, 4, 3)), np.ones((1, 8, 8, 1)))
        image = smooth[i % 64] + rng.integers(0, 32, (32, 32, 3))
        path = folder / f"{i // 1000:04d}" / f"{i:06d}.png"
        Image.fromarray(image.astype("uint8")).save(path, compress_level=1)


def stream(source: datasets.Source, seconds: float, batch_size: int = 64) -> dict[str, Any]:
    """Reads batches for some seconds, after one second of warm-up; samples memory 5 times."""
    batches = iter(source.dataset("train", batch_size=batch_size, seed=0, repeat=True))
    until = time.perf_counter() + 1
    while time.perf_counter() < until:
        next(batches)
    images, memory, slowest = 0, [resident()], 0.0
    began = last = time.perf_counter()
    while (now := time.perf_counter()) < began + seconds:
        next(batches)
        images += batch_size
        slowest = max(slowest, now - last)
        last = now
        if now - began > seconds * len(memory) / 5:
            memory.append(resident())
    rate = images / (time.perf_counter() - began)
    return {"examples_per_second": rate, "memory_mib": [*memory, resident()], "slowest": slowest}


def step_rate(seconds: float) -> float:
    """Returns the images per second that a step of the recipe fashion-mnist consumes."""
    source = fashion_mnist()
    recipe, _ = train.choose_precision(recipes.load("fashion-mnist", ("training.precision=auto",)))
    gan = train.build(recipe, source.spec)
    batch_size = recipe.training.batch_size
    shape = (batch_size, *source.spec.shape)
    batch = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    with train.precisions.graphs(recipe.training.precision):
        for _ in range(3):
            gan.train_on_batch(batch)
        steps, began = 0, time.perf_counter()
        while time.perf_counter() < began + seconds:
            gan.train_on_batch(batch)
            steps += 1
        return steps * batch_size / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=100_000, help="images in the folder")
    parser.add_argument("--seconds", type=float, default=20, help="length of each measurement")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there")
    options = parser.parse_args()
    consumed = step_rate(options.seconds)
    print(f"the step consumes {consumed:,.0f} images/s")
    results: dict[str, Any] = {"step": consumed}

    def report(name: str, source: datasets.Source) -> None:
        found = results[name] = stream(source, options.seconds)
        first, *_, last = found["memory_mib"]
        rate = found["examples_per_second"]
        print(
            f"{name}: {rate:,.0f} images/s, {rate / consumed:.1f} times the step's rate; "
            f"slowest batch {found['slowest'] * 1e3:.0f} ms; "
            f"memory {first:,.0f} to {last:,.0f} MiB",
            flush=True,
        )

    report("fashion-mnist", fashion_mnist())
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        write_images(pathlib.Path(folder), options.count)
        print(f"{options.count:,} PNGs written in {time.perf_counter() - began:.0f} s", flush=True)
        began = time.perf_counter()
        source = datasets.open(folder)
        print(f"folder opened in {time.perf_counter() - began:.1f} s")
        report(f"folder of {options.count:,} PNGs", source)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
