"""Compares the speed of this version with another one, in turns on the same machine.

    python benchmarks/same_speed.py OLD_PYTHON [--rounds 5]

OLD_PYTHON is the Python of a virtual environment in which the other version is installed. Each
version trains the quickstart's game for a few steps and exports it. Then both are measured in
turns: a training step, onnxruntime at batches of 1 and 64, `keras-gan serve` at 1 and 64 clients,
`--help`, and `sample`. Prints the median of each version and the ratio: below 1 is faster.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

# Runs in both versions, so it may use only what both have; the names of keys are looked up.
PREPARE = """
import sys
import export
from keras_gan import recipe, train

folder = sys.argv[1]
plain = recipe.load("quickstart")
unit = "examples" if "training.examples" in plain.keys() else "images"
settings = [f"training.{unit}=640", f"training.tick_{unit}=640", "training.precision=float32",
            "evaluation.metric=sliced_wasserstein", "evaluation.others=[]",
            "evaluation.features=null", f"evaluation.every_{unit}=0", "evaluation.count=64"]
gan = train.train(recipe.load("quickstart", settings), folder + "/run").gan
export.export_bundle(gan, folder + "/bundle", name="quickstart", value_range=(-1.0, 1.0))
"""

# Answers requests for one measurement at a time, so that the versions can take turns.
WORKER = """
import json, sys, time
import numpy as np
import serving
from keras_gan import recipe, train, Spec

folder = sys.argv[1]
plain = recipe.load("quickstart", ["training.precision=float32"])
gan = train.build(plain, Spec("image", (28, 28, 1), (-1.0, 1.0)))
batch = np.random.default_rng(0).uniform(-1, 1, (plain.training.batch_size, 28, 28, 1))
batch = batch.astype("float32")
bundle = serving.Bundle(folder + "/bundle", device="cpu")

def clock(function, count):
    began = time.perf_counter()
    for _ in range(count):
        function()
    return (time.perf_counter() - began) / count

for _ in range(3):
    gan.train_on_batch(batch)
bundle.generate(range(64))
print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps({
        "training step, ms": 1e3 * clock(lambda: gan.train_on_batch(batch), 15),
        "onnxruntime, batch 1, ms": 1e3 * clock(lambda: bundle.generate([7]), 300),
        "onnxruntime, batch 64, ms": 1e3 * clock(lambda: bundle.generate(range(64)), 15),
    }), flush=True)
"""
REQUEST = b"GET /v1/generate?seed=%d&format=npy HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Version:
    """One of the two versions: its Python, its bundle, and a process that measures."""

    def __init__(self, python: str, folder: str):
        self.python, self.folder = python, pathlib.Path(folder)
        self.environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        self.run("-c", PREPARE, folder)
        self.worker = subprocess.Popen(
            [python, "-c", WORKER, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=folder,
            env=self.environment,
        )
        self.reply()

    def run(self, *arguments: str) -> float:
        """Runs the Python in its own folder; returns the seconds that it took."""
        began = time.perf_counter()
        done = subprocess.run(
            [self.python, *arguments], cwd=self.folder, env=self.environment, capture_output=True
        )
        if done.returncode:
            raise SystemExit(f"{self.python} failed:\n{done.stderr.decode()[-3000:]}")
        return time.perf_counter() - began

    def reply(self) -> str:
        """Returns the next line of the process that measures."""
        return self.worker.stdout.readline() if self.worker.stdout else ""

    def measure(self) -> dict[str, float]:
        """Returns every figure of one round."""
        if self.worker.stdin:
            self.worker.stdin.write("\n")
            self.worker.stdin.flush()
        found = json.loads(self.reply())
        found["--help, ms"] = 1e3 * self.run("-m", "serving.cli", "--help")
        out = str(self.folder / "samples.png")
        sample = ("sample", "bundle", "--count", "16", "--out", out)
        found["sample, ms"] = 1e3 * self.run("-m", "serving.cli", *sample)
        with self.server() as port:
            for clients in (1, 64):
                rate = asyncio.run(load(port, clients, 2.0))
                found[f"serve, {clients} clients, us per sample"] = 1e6 / rate
        return found

    @contextlib.contextmanager
    def server(self) -> Iterator[int]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [self.python, "-m", "serving.cli", "serve", "bundle", "--port", str(port)]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            asyncio.run(load(port, 2, 0.5))
            yield port
        finally:
            process.terminate()
            process.wait()


async def load(port: int, clients: int, seconds: float) -> float:
    """Returns the samples per second that so many clients get, each waiting for its answer."""
    count, end = 0, time.perf_counter() + seconds

    async def client(number: int) -> None:
        nonlocal count
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        seed = 10_000_000 * number
        while time.perf_counter() < end:
            writer.write(REQUEST % seed)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            count, seed = count + 1, seed + 1
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*map(client, range(clients)))
    return count / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares the speed of two versions.")
    parser.add_argument("old_python", help="Python that runs the other version.")
    parser.add_argument("--new-python", default=sys.executable, help="Python of this version.")
    parser.add_argument("--rounds", type=int, default=5, help="Rounds in turns. Default 5.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as old, tempfile.TemporaryDirectory() as new:
        versions = [Version(options.old_python, old), Version(options.new_python, new)]
        rounds: list[list[dict[str, float]]] = [[], []]
        for number in range(options.rounds):
            for which in (0, 1) if number % 2 else (1, 0):
                rounds[which].append(versions[which].measure())
        for version in versions:
            version.worker.kill()
    print(f"{'median of ' + str(options.rounds) + ' rounds':<34}{'old':>10}{'new':>10}{'ratio':>8}")
    for name in rounds[0][0]:
        before, after = (statistics.median(r[name] for r in found) for found in rounds)
        print(f"{name:<34}{before:>10.2f}{after:>10.2f}{after / before:>8.3f}")


if __name__ == "__main__":
    main()
