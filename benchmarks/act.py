"""Time of one action of CartPole's policy: local, over HTTP, and by Keras, TensorFlow and PyTorch.

Exports an untrained policy of the architecture `policy` (4 - 64 - 64 - 2, with its normalizer) to a
temporary folder, serves it in a process of its own, and asks each way in turn for the action of one
observation, so that all of them see the same load of the machine. The fastest call depends least
on that load:

    python -m benchmarks.act --rounds 2000 --core 1 --torch-python /path/to/venv/bin/python

PyTorch has a process of its own, with the same layers (`act_torch.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import serving
from benchmarks.translate_http import Server

SEEN = np.array([0.02, -0.3, 0.01, 0.4], np.float32)
_BODY = json.dumps({"observation": [float(x) for x in SEEN]}).encode()
_BLOCK, _FIRST = 100, 5  # calls of a way in its turn; the first ones, which are left out
_TORCH = Path(__file__).with_name("act_torch.py")


def export_policy(to: Path) -> Any:
    """Exports the policy and returns its Keras model."""
    import export
    from keras_gan import architectures, games
    from keras_gan.control.spaces import spaces_of
    from keras_gan.spec import Spec

    spec = Spec(fields=spaces_of("CartPole-v1").fields)
    policy = architectures.module("policy").policy(spec)
    game = games.BehaviorCloning(policy, "CartPole-v1")
    export.export_bundle(game, to, name="cartpole", average=False)
    return policy


def local_calls(model: Any, path: Path) -> dict[str, Callable[[], object]]:
    """Returns the ways of acting in this process."""
    import onnxruntime
    import tensorflow as tf

    bundle = serving.Bundle(path, device="cpu")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(path / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    rows = SEEN[np.newaxis]
    graph = tf.function(lambda x: model(x, training=False)["samples"], reduce_retracing=True)
    return {
        "Bundle.act": lambda: bundle.act(SEEN),
        "Bundle.act of a list": lambda: bundle.act([0.02, -0.3, 0.01, 0.4]),
        "onnxruntime's run": lambda: session.run(["action"], {"observation": rows}),
        "tf.function of the Keras model": lambda: graph(tf.constant(rows)).numpy(),
        "Keras model(x)": lambda: model(rows, training=False)["samples"],
        "Keras predict_on_batch": lambda: model.predict_on_batch(rows),
    }


def measure(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Returns the milliseconds of each call.

    All calls take turns by blocks of 100: a policy acts in a loop, and the first calls after one of
    TensorFlow would find none of their memory in the processor's caches.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(max(1, rounds // _BLOCK)):
        for name, call in calls.items():
            for i in range(_BLOCK + _FIRST):
                start = time.perf_counter()
                call()
                if i >= _FIRST:
                    times[name].append(1000 * (time.perf_counter() - start))
    return times


def torch_times(python: str, rounds: int) -> list[float]:
    """Returns the milliseconds of PyTorch's calls, in a process of its own."""
    command = [python, str(_TORCH), str(rounds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description="Time of one action of a policy.")
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--core", type=int, help="core of the local calls (default: any)")
    parser.add_argument("--torch-python", help="a Python that has torch")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cartpole"
        model = export_policy(path)
        with Server(path, workers=1) as server:
            if options.core is not None:
                os.sched_setaffinity(0, {options.core})
            host, port = server.connection.host, server.connection.port
            with serving.Client(f"http://{host}:{port}") as client:
                calls = local_calls(model, path)
                times = measure(calls, options.rounds)
                calls = {
                    "POST /v1/act": lambda: server.post("/v1/act", _BODY),
                    "Client.act": lambda: client.act(SEEN),
                }
                times |= measure(calls, options.rounds)
    if options.torch_python:
        times["PyTorch, inference mode"] = torch_times(options.torch_python, options.rounds)
    print(f"One action of CartPole's policy, {options.rounds} rounds, microseconds")
    print(f"{'':<32}{'fastest':>10}{'median':>10}{'99 %':>10}")
    for name, found in times.items():
        figures = 1000 * np.percentile(found, [0, 50, 99])
        print(f"{name:<32}" + "".join(f"{figure:10.1f}" for figure in figures))


if __name__ == "__main__":
    main()
