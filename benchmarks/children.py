"""Child processes of benchmarks: each runs one variant and answers each request by a line of JSON.

Also the measurements that variants and benchmarks share: memory, and the machine's peak rate. Only
these import TensorFlow, and only when they are called, so that variants of PyTorch can use the
module.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


def respond(build: Callable[[], Callable[[str], dict[str, Any]]]) -> None:
    """Runs in the child process: builds a variant, then answers each line of the standard input.

    Args:
        build: function that builds and warms up the variant. It returns the function from a
            request to the answer.
    """
    answers = os.fdopen(os.dup(1), "w")  # other output must not mix with the answers
    os.dup2(2, 1)
    began = time.perf_counter()
    try:
        answer = build()
    except Exception as error:
        line = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        print(json.dumps({"error": line}), file=answers, flush=True)
        return
    print(json.dumps({"warm-up": time.perf_counter() - began}), file=answers, flush=True)
    for line in sys.stdin:
        result = {**answer(line), "memory": peak_memory()}
        print(json.dumps(result), file=answers, flush=True)


class Child:
    """A variant in its own process.

    Args:
        variant: name of the variant.
        program: command that calls `respond`.
        environment: environment variables of the process.
        verbose: if True, shows what the process prints.
    """

    def __init__(
        self, variant: str, program: list[str], environment: dict[str, str], verbose: bool
    ):
        self.variant = variant
        self.process = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if verbose else subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.rounds: list[dict[str, Any]] = []
        answer = self._read()
        self.error = answer.get("error")
        self.warm_up = answer.get("warm-up", float("nan"))

    def _read(self) -> dict[str, Any]:
        stream: Any = self.process.stdout
        line = stream.readline()
        return json.loads(line) if line else {"error": "the process ended"}

    def ask(self, request: str) -> None:
        """Sends a request and appends its answer to `rounds`, or sets `error`."""
        stream: Any = self.process.stdin
        stream.write(f"{request}\n")
        stream.flush()
        answer = self._read()
        self.error = answer.get("error")
        if self.error is None:
            self.rounds.append(answer)

    def end(self) -> None:
        """Ends the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def set_threads(threads: int) -> dict[str, str]:
    """Returns the environment variables for a number of threads in each pool."""
    names = "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"
    return dict.fromkeys(names, str(threads))


def peak_memory() -> float:
    """Returns the peak resident memory of this process, in MiB."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def matmul_peak() -> dict[str, Callable[[], float]]:
    """Returns functions that measure the GFLOP/s of matrix multiplication, by dtype."""
    import tensorflow as tf

    size = 4096

    def measure(dtype: str) -> Callable[[], float]:
        a = tf.cast(tf.random.normal((size, size), seed=0), dtype)
        multiply = tf.function(lambda a: tf.reduce_sum(tf.matmul(a, a)[:1, :1]))
        multiply(a)

        def once() -> float:
            began = time.perf_counter()
            float(multiply(a))
            return 2 * size**3 / (time.perf_counter() - began) / 1e9

        return once

    return {dtype: measure(dtype) for dtype in ("float32", "bfloat16")}
