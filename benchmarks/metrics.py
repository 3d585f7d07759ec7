"""Accuracy and speed of the metrics, compared with torch-fidelity on the same features.

    python benchmarks/metrics.py --torch-python /path/to/venv/bin/python
    python benchmarks/metrics.py --torch-python ... --reference     # the numbers in the tests
    python benchmarks/metrics.py --memory                           # no torch needed

Both libraries read the same files of random features and run alternately: in each round one
computes while the other waits. Before timing, both import everything and compute each metric once
on few features. On a machine that is not idle, the processor time ("CPU", summed over threads)
under `--threads 1` is a better comparison than the wall-clock time. Values are compared with those
of torch-fidelity in float64; its speed is measured in float32, the dtype of its feature
extractors. "difference" is the largest relative difference of any value of the metric, "theirs in
float32" the difference of its float32 values from its float64 values.

torch-fidelity is not a dependency. It runs in the Python given by --torch-python:
`python -m venv fidelity; fidelity/bin/pip install torch-fidelity torchvision`.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
# Metric, real and generated samples (each), dimensions, settings of torch-fidelity's functions.
CASES: dict[str, tuple[str, int, int, dict[str, Any]]] = {
    "Frechet, 50,000 x 2,048": ("frechet", 50_000, 2048, {}),
    "Frechet, 10,000 x 128": ("frechet", 10_000, 128, {}),
    "kernel, 10,000 x 2,048": ("kernel", 10_000, 2048, {"subsets": 20, "subset_size": 1000}),
    "kernel, 10,000 x 128": ("kernel", 10_000, 128, {"subsets": 100, "subset_size": 1000}),
    "neighbors, 10,000 x 128": ("neighbors", 10_000, 128, {"save_memory": False}),
    "neighbors, 5,000 x 2,048": ("neighbors", 5_000, 2048, {"save_memory": False}),
    "score, 50,000 x 10": ("score", 50_000, 128, {"classes": 10}),
}
# Reference values in the tests: small cases, unequal counts, fewer samples than dimensions.
REFERENCES: dict[str, tuple[str, int, int, int, dict[str, Any]]] = {
    "frechet": ("frechet", 700, 600, 24, {}),
    "frechet, far": ("frechet", 700, 600, -24, {}),
    "frechet, deficient": ("frechet", 30, 40, 48, {}),
    "kernel": ("kernel", 700, 600, 24, {"subsets": 20, "subset_size": 200}),
    "neighbors": ("neighbors", 700, 600, 24, {"save_memory": False}),
    "score": ("score", 700, 601, 24, {"classes": 10}),
}


def make_features(real: int, generated: int, dim: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Makes two sets of features that differ slightly, with correlated columns of unequal scale.

    A negative `dim` puts both far from zero. RandomState is used because its numbers are stable.
    """
    rng = np.random.RandomState(seed)
    far, dim = 1000.0 * (dim < 0), abs(dim)
    mix = rng.standard_normal((dim, dim)) / dim**0.5
    scales = np.linspace(0.2, 1.0, dim)
    x = rng.standard_normal((real, dim)) @ mix
    y = rng.standard_normal((generated, dim)) @ mix * 0.9 + 0.1
    return {
        name: (np.maximum(values, -0.5) * scales + far).astype(np.float32)
        for name, values in (("real", x), ("generated", y))
    }


def ours(
    metric: str, features: dict[str, np.ndarray], settings: dict[str, Any]
) -> dict[str, float]:
    from keras_gan import metrics

    real, generated = features["real"], features["generated"]
    if metric == "frechet":
        return {"distance": metrics.frechet_distance(real, generated)}
    if metric == "kernel":
        found = metrics.kernel_distance(real, generated, **settings)
        return {"mean": found.mean, "deviation": found.deviation}
    if metric == "neighbors":
        return metrics.precision_recall(real, generated)._asdict()
    logits = generated[:, : settings["classes"]].astype(np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return metrics.inception_score(shares / shares.sum(axis=1, keepdims=True))._asdict()


class Peer:
    """Connection to torch-fidelity in its own process."""

    def __init__(self, python: str, verbose: bool):
        self.process = subprocess.Popen(
            [python, str(HERE / "metrics_torch.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if verbose else subprocess.DEVNULL,
            text=True,
        )

    def compute(
        self, metric: str, file: pathlib.Path, settings: dict[str, Any], kind: str
    ) -> dict[str, Any]:
        stdin: Any = self.process.stdin
        stdout: Any = self.process.stdout
        request = {"metric": metric, "file": str(file), "settings": settings, "type": kind}
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise SystemExit("torch-fidelity's process ended: see --verbose")
        return json.loads(line)


def difference(one: dict[str, float], other: dict[str, float]) -> float:
    return max(abs(one[name] - other[name]) / max(abs(other[name]), 1e-300) for name in other)


def ratio(theirs: list[float], own: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(theirs, own, strict=True))


def warm_up(peer: Peer, folder: pathlib.Path, titles: list[str]) -> None:
    """Calls each metric of both libraries on few features, before timing."""
    features = make_features(1200, 1200, 16)
    np.savez(folder / "small.npz", **features)  # pyright: ignore[reportArgumentType]
    for title in titles:
        metric, _, _, settings = CASES[title]
        ours(metric, features, settings)
        peer.compute(metric, folder / "small.npz", settings, "float32")


def compare(options: argparse.Namespace, folder: pathlib.Path) -> list[dict[str, Any]]:
    peer, rows = Peer(options.torch_python, options.verbose), []
    warm_up(peer, folder, options.cases)
    for title in options.cases:
        metric, count, dim, settings = CASES[title]
        file, features = folder / "features.npz", make_features(count, count, dim)
        np.savez(file, **features)  # pyright: ignore[reportArgumentType]
        row: dict[str, Any] = {"case": title, "seconds": [], "their_seconds": []}
        row |= {"cpu": [], "their_cpu": []}
        for number in range(options.rounds):
            print(f"{title}: round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            began, cpu = time.perf_counter(), time.process_time()
            values = ours(metric, features, settings)
            row["seconds"].append(time.perf_counter() - began)
            row["cpu"].append(time.process_time() - cpu)
            theirs = peer.compute(metric, file, settings, "float32")
            row["their_seconds"].append(theirs["seconds"])
            row["their_cpu"].append(theirs["cpu"])
        exact = peer.compute(metric, file, settings, "float64")["values"]
        for name, a, b in (
            ("ratio", "their_seconds", "seconds"),
            ("cpu_ratio", "their_cpu", "cpu"),
        ):
            row[name] = statistics.median(x / y for x, y in zip(row[a], row[b], strict=True))
        row |= {"values": values, "their_values": exact}
        row["difference"] = difference(values, exact)
        row["their_float32"] = difference(theirs["values"], exact)
        rows.append(row)
        show(row)
    return rows


HEAD = (
    f"{'':<28}{'seconds':>9}{'theirs':>9}{'ratio':>7}{'CPU':>9}{'theirs':>9}{'ratio':>7}"
    f"{'difference':>12}{'theirs in float32':>19}"
)


def show(row: dict[str, Any]) -> None:
    seconds, theirs, cpu, their_cpu = (
        statistics.median(row[name]) for name in ("seconds", "their_seconds", "cpu", "their_cpu")
    )
    print(
        f"{row['case']:<28}{seconds:>9.2f}{theirs:>9.2f}{row['ratio']:>7.1f}"
        f"{cpu:>9.2f}{their_cpu:>9.2f}{row['cpu_ratio']:>7.1f}"
        f"{row['difference']:>12.1e}{row['their_float32']:>19.1e}",
        flush=True,
    )


def reference(options: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """Prints torch-fidelity's values for the features of the tests, and our difference."""
    peer, found = Peer(options.torch_python, options.verbose), {}
    for title, (metric, real, generated, dim, settings) in REFERENCES.items():
        features = make_features(real, generated, dim)
        np.savez(folder / "features.npz", **features)  # pyright: ignore[reportArgumentType]
        values = peer.compute(metric, folder / "features.npz", settings, "float64")["values"]
        found[title] = values
        error = difference(ours(metric, features, settings), values)
        print(f"{title}: {values}, difference {error:.1e}")
    return found


def memory(count: int, dim: int, batch: int = 1000) -> dict[str, float]:
    """Returns peak memory and time of this process for streaming `count` features."""
    from keras_gan.metrics import Moments

    features = make_features(batch, batch, dim)["real"]
    moments, began = Moments(), time.perf_counter()
    for _ in range(count // batch):
        moments.update(features)
    moments.covariance.sum()
    from metrics_torch import peak_memory

    return {"seconds": time.perf_counter() - began, "memory": peak_memory()}


def measure_memory(dim: int) -> list[dict[str, float]]:
    """Measures each count in its own process."""
    print(f"streaming the moments of features of {dim} dimensions")
    rows = []
    for count in (5_000, 50_000, 200_000):
        done = subprocess.run(
            [sys.executable, __file__, "--child-memory", str(count), str(dim)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rows.append({"count": count, **json.loads(done.stdout.splitlines()[-1])})
        print(
            f"{count:>9,} samples: peak {rows[-1]['memory']:,.0f} MiB, {rows[-1]['seconds']:.1f} s"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES), help="cases to run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="threads of each library; all cores by default")
    parser.add_argument("--torch-python", help="a Python that has torch-fidelity")
    parser.add_argument("--reference", action="store_true", help="print reference values instead")
    parser.add_argument("--memory", action="store_true", help="measure memory instead")
    parser.add_argument("--verbose", action="store_true", help="show what torch-fidelity prints")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there")
    parser.add_argument("--child-memory", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:  # must be set before numpy's BLAS is loaded, so restart the process
        names = "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"
        limits = dict.fromkeys(names, str(options.threads))
        if any(os.environ.get(name) != value for name, value in limits.items()):
            os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **limits})
    if options.child_memory:
        print(json.dumps(memory(*options.child_memory)))
        return
    if not options.memory and not options.torch_python:
        parser.error("give --torch-python PATH, a Python that has torch-fidelity")
    result: Any
    with tempfile.TemporaryDirectory() as name:
        if options.memory:
            result = measure_memory(2048)
        elif options.reference:
            result = reference(options, pathlib.Path(name))
        else:
            print(HEAD)
            result = compare(options, pathlib.Path(name))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
