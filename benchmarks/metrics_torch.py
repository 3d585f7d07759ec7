"""Child process of `benchmarks/metrics.py` that computes metrics with torch-fidelity.

Reads one line of JSON per request, `{"metric": ..., "file": ..., "settings": {...}}`, computes the
metric of the file's features with torch-fidelity's functions, and writes one line: the values, the
wall-clock and processor time in seconds, and the peak memory.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time
from typing import Any


def frechet(torch, real, generated, settings):
    from torch_fidelity import metric_fid  # pyright: ignore

    sets = (torch.from_numpy(x) for x in (generated, real))
    statistics = [metric_fid.fid_features_to_statistics(x) for x in sets]
    values = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)
    return {"distance": values["frechet_inception_distance"]}


def kernel(torch, real, generated, settings):
    from torch_fidelity.metric_kid import kid_features_to_metric  # pyright: ignore

    features = (torch.from_numpy(x) for x in (generated, real))
    found = kid_features_to_metric(
        *features,
        kid_subsets=settings["subsets"],
        kid_subset_size=settings["subset_size"],
        rng_seed=2020,
        verbose=False,
    )
    return {
        "mean": found["kernel_inception_distance_mean"],
        "deviation": found["kernel_inception_distance_std"],
    }


def neighbors(torch, real, generated, settings):
    from torch_fidelity.metric_prc import prc_features_to_metric  # pyright: ignore

    features = (torch.from_numpy(x) for x in (generated, real))
    found = prc_features_to_metric(*features, verbose=False, save_cpu_ram=settings["save_memory"])
    return {name: found[name] for name in ("precision", "recall")}


def score(torch, real, generated, settings):
    from torch_fidelity.metric_isc import isc_features_to_metric  # pyright: ignore

    found = isc_features_to_metric(torch.from_numpy(generated[:, : settings["classes"]]))
    return {"mean": found["inception_score_mean"], "deviation": found["inception_score_std"]}


METRICS: dict[str, Any] = {
    "frechet": frechet,
    "kernel": kernel,
    "neighbors": neighbors,
    "score": score,
}


def peak_memory() -> float:
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")  # other output must not mix with the answers
    os.dup2(2, 1)
    import numpy as np
    import torch  # pyright: ignore[reportMissingImports]

    for line in sys.stdin:
        request = json.loads(line)
        with np.load(request["file"]) as file:
            features = [file[name].astype(request["type"]) for name in ("real", "generated")]
        began, cpu = time.perf_counter(), time.process_time()
        values = METRICS[request["metric"]](torch, *features, request["settings"])
        answer = {"values": values, "seconds": time.perf_counter() - began}
        answer["cpu"] = time.process_time() - cpu
        print(json.dumps({**answer, "memory": peak_memory()}), file=answers, flush=True)


if __name__ == "__main__":
    main()
