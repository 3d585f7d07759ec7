"""Time of `keras-gan walk` and the share of encoding, for a generator of 64 x 64 color pictures.

    python benchmarks/walk.py --runs 3

Exports an untrained residual generator, as the architecture `resnet` with `width=32`, and runs
the command for each format in a new process. Prints the last line of the median run, and the
wall-clock and the processor time of the whole process: on a busy machine the latter, divided by
the cores, is the time that an idle one would take at best. The pictures of an untrained generator
are noisier than those of a trained one, which is the harder case for the encoders.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from serving import animations


def export(folder: str) -> Path:
    """Exports the generator; returns the folder of its bundle."""
    import keras

    import export
    import keras_gan

    keras.utils.set_random_seed(0)
    spec = keras_gan.Spec("image", (64, 64, 3), (-1.0, 1.0))
    generator = keras_gan.architectures.build_network("generator", "resnet", spec, width=32)
    path = Path(folder) / "bundle"
    export.export_bundle(generator, path, name="resnet-64")
    return path


def run(bundle: Path, out: Path, options: list[str]) -> tuple[float, float, str]:
    """Returns the wall-clock and processor seconds of one command, and the line that it prints."""
    command = [sys.executable, "-m", "serving.cli", "walk", str(bundle), "--out", str(out)]
    start, before = time.perf_counter(), os.times()
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    wall, after = time.perf_counter() - start, os.times()
    processor = after.children_user + after.children_system
    processor -= before.children_user + before.children_system
    return wall, processor, done.stdout.strip().partition(": ")[2]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures `keras-gan walk`.")
    parser.add_argument("--bundle", type=Path, help="Bundle to use instead of the untrained one.")
    parser.add_argument("--runs", type=int, default=3, help="Runs of each format. Default 3.")
    options, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = options.bundle or export(folder)
        for form in animations.available():
            runs = [run(bundle, Path(folder) / f"walk.{form}", rest) for _ in range(options.runs)]
            wall, processor, line = statistics.median_low(runs)
            print(f"{form}: {wall:.2f} s, of the processor {processor:.2f} s; {line}", flush=True)


if __name__ == "__main__":
    main()
