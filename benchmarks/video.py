"""Videos from seeds beside real ones and unrelated frames; speed and memory of endless video.

    keras-gan train moving-fashion --run runs/moving-fashion
    keras-gan export runs/moving-fashion
    taskset -c 0 python benchmarks/video.py runs/moving-fashion --count 500

Each row is compared with one half of the held-out videos, drawn at random, in the features of a
classifier of the real ones, which is trained first if there is none. Its hash is printed: distances
compare with others of the same hash only. The rows:

- each run or bundle of a generator;
- real: the other half of the held-out videos, the best attainable values;
- frames: each frame is that of another video of that half of the same class, which is what a
  perfect generator of single pictures, asked for one frame after the other, makes of a class.

Then, of the bundle of the first run, on one core: frames per second of `stream.onnx` with the
recurrent network unrolled and as a loop, of one graph per clip, and of the same network in PyTorch
where --torch names a Python that has it; the time from the start of a process to its first frame;
and the memory of 1,000 frames beyond that of 16.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

import serving
from export.endless import write_stream
from export.network import open_network
from export.to_onnx import OPSET, open_session
from keras_gan import datasets, metrics
from keras_gan import run as runs
from keras_gan.datasets.splits import Split
from keras_gan.endless import RECURRENT
from keras_gan.environment import processor
from keras_gan.errors import UsageError
from serving.bundle_folder import find_bundle
from serving.endless import FILE_NAME

DATA, FEATURES = "moving-fashion", "video_classifier"
VALUES = {
    "label_accuracy": "label",
    "class_constancy": "constancy",
    "velocity_error": "velocity",
    "speed": "speed",
    "bounce_accuracy": "bounces",
    "content_drift": "drift",
    "frechet_distance": "frechet",
    "content_swap": "swap",
}
# Prints the seconds to the first frame, and the memory after 16 and after 1,000 frames in MiB.
CHILD = """
import re, sys, time
start = time.perf_counter()
import serving
from serving.endless import stream_video
frames = stream_video(serving.Bundle(sys.argv[1], threads=1), 0, 1000, threads=1)
next(frames)
first = time.perf_counter() - start
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
for _ in range(15):
    next(frames)
before = peak()
for _ in frames:
    pass
print(first, before, peak())
"""


def halves(source: datasets.Source) -> tuple[np.ndarray, np.ndarray, datasets.Source]:
    """Returns values and labels of half of the held-out videos, and the data of the other half."""
    videos, labels = map(np.asarray, source.arrays("held_out"))
    trained, classes = source.arrays("train")[:2]
    rows = np.random.default_rng(0).permutation(len(videos))
    own, others = np.sort(rows[: len(rows) // 2]), np.sort(rows[len(rows) // 2 :])
    splits = {
        "train": Split(np.asarray(trained), np.asarray(classes)),
        "held_out": Split(videos[others], labels[others]),
    }
    reference = datasets.Source(source.spec, splits, source.description)
    return source.values(videos[own]), labels[own], reference


def controls(real: np.ndarray, ids: np.ndarray) -> dict[str, Any]:
    """Returns the rows without a generator, samples with labels by name."""
    mixed, rng = np.empty_like(real), np.random.default_rng(1)
    for label in np.unique(ids):
        own = np.flatnonzero(ids == label)
        for frame in range(real.shape[1]):
            mixed[own, frame] = real[rng.permutation(own), frame]
    return {"real": (real, ids), "frames": (mixed, ids)}


def frames_per_second(bundle: serving.Bundle, session: Any, frames: int = 400) -> float:
    """Returns the speed of a graph of the next frames; the best of three."""
    facts, best = bundle.video, 0.0
    if facts is None:
        raise UsageError(f"A bundle of endless video is needed. Received: {bundle.name!r}")
    label = None if facts.classes is None else 0
    for _ in range(3):
        film = facts.film(0, label)
        start = time.perf_counter()
        for _ in film.chunks(frames, lambda feeds: session.run(["samples", "next_state"], feeds)):
            pass
        best = max(best, frames / (time.perf_counter() - start))
    return best


def speeds(bundle: serving.Bundle, run: pathlib.Path | None) -> dict[str, float]:
    """Returns frames per second on one core by the form of the graph."""
    path = bundle.path / FILE_NAME
    found = {"chunks, unrolled": frames_per_second(bundle, open_session(str(path), 1))}
    if run is not None:
        model = runs.Run.open(run).load().exported()
        network = open_network(model, num_classes=bundle.num_classes)
        network.model.get_layer(RECURRENT).unroll = False
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / FILE_NAME
            write_stream(network, file, OPSET)
            loop = open_session(str(file), 1)
        found["chunks, loop"] = frames_per_second(bundle, loop)
    clips, best = int(bundle.shape[0]), 0.0
    for _ in range(5):
        start = time.perf_counter()
        bundle.generate([0])
        best = max(best, clips / (time.perf_counter() - start))
    return found | {f"whole clips of {clips}": best}


def print_quality(sources: list[pathlib.Path], count: int) -> None:
    source = datasets.open(DATA)
    try:
        features = metrics.open_features(FEATURES, source.spec)
    except UsageError:
        trained = metrics.train_video_classifier(source)
        features = metrics.open_features(FEATURES, source.spec)
        print(f"{features.name} names {trained.accuracy:.1%} of the held-out videos")
    print(f"{source.description}\nfeatures {features.name}, {count:,} videos, {processor()}\n")
    print("".join([f"{'':20}", *(f"{title:>11}" for title in VALUES.values())]))
    rows: dict[str, Any] = {path.name: path for path in sources}
    real, ids, reference = halves(source)
    for name, samples in (rows | controls(real[:count], ids[:count])).items():
        # The speed is a value of `velocity_error`.
        left_out = {"speed"} if name in rows else {"speed", "content_swap"}
        names = [value for value in VALUES if value not in left_out]
        found = metrics.evaluate(
            samples, reference, features, count, metrics=names, progress=False, cache=False
        )
        cells = [f"{found.values.get(value, float('nan')):11.3f}" for value in VALUES]
        print("".join([f"{name:20}", *cells]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sources", nargs="+", type=pathlib.Path, help="runs and bundles")
    parser.add_argument(
        "--count",
        type=int,
        default=500,
        help="videos of each row, at most half of the held-out ones",
    )
    parser.add_argument("--speed-only", action="store_true", help="leave the first table out")
    parser.add_argument("--torch", help="a Python that has torch, for the same network in it")
    arguments = parser.parse_args()
    if not arguments.speed_only:
        print_quality(arguments.sources, arguments.count)
    first = arguments.sources[0]
    bundle = serving.Bundle(find_bundle(first), threads=1, device="cpu")
    run = first if (first / "recipe.yaml").is_file() else None
    for name, value in speeds(bundle, run).items():
        print(f"{name:28} {value:8.0f} frames/s")
    if arguments.torch is None:
        print("PyTorch                      not measured: --torch PYTHON names one that has torch")
    else:
        script = pathlib.Path(__file__).with_name("video_torch.py")
        print(subprocess.run([arguments.torch, script], capture_output=True, text=True).stdout)
    made = subprocess.run(
        [sys.executable, "-c", CHILD, str(bundle.path)], capture_output=True, text=True, check=True
    )
    seconds, before, after = map(float, made.stdout.split())
    print(f"first frame after {seconds:.2f} s, imports and loading included")
    print(f"1,000 frames: {after:.0f} MiB at most, {after - before:+.1f} MiB beyond 16 frames")


if __name__ == "__main__":
    main()
