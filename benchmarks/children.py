"""Child processes of benchmarks: each runs one variant and answers each request by a line of JSON.

Also the measurements that variants and benchmarks share: memory, and the machine's peak rate. Only
these import TensorFlow, and only when they are called, so that variants of PyTorch can use the
module.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
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
        wait: if True, waits until the variant is ready. Otherwise, call `wait_until_ready`, and
            `kill` ends the process together with all that it started.
    """

    def __init__(
        self,
        variant: str,
        program: list[str],
        environment: dict[str, str],
        verbose: bool,
        wait: bool = True,
    ):
        self.variant = variant
        self.process = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if verbose else subprocess.DEVNULL,
            text=True,
            env=environment,
            start_new_session=not wait,
        )
        self.rounds: list[dict[str, Any]] = []
        self.error: str | None = None
        self.late = False  # it did not answer within a time limit
        self.warm_up = float("nan")
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self, seconds: float | None = None) -> None:
        """Reads whether the variant is ready, and sets `warm_up` or `error`.

        Args:
            seconds: time limit; None for none.
        """
        answer = self._read(seconds)
        self.error = answer.get("error")
        self.warm_up = answer.get("warm-up", float("nan"))

    def _read(self, seconds: float | None = None) -> dict[str, Any]:
        stream: Any = self.process.stdout
        if seconds is not None and not select.select([stream], [], [], max(0.0, seconds))[0]:
            self.late = True
            return {"error": "no answer in time"}
        line = stream.readline()
        return json.loads(line) if line else {"error": "the process ended"}

    def ask(self, request: str, seconds: float | None = None) -> None:
        """Sends a request and appends its answer to `rounds`, or sets `error`.

        Args:
            request: a line.
            seconds: time limit; None for none.
        """
        stream: Any = self.process.stdin
        try:
            stream.write(f"{request}\n")
            stream.flush()
        except BrokenPipeError:
            self.error = "the process ended"
            return
        answer = self._read(seconds)
        self.error = answer.get("error")
        if self.error is None:
            self.rounds.append(answer)

    def end(self) -> None:
        """Ends the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()

    def kill(self) -> None:
        """Ends a process that was started without waiting, whatever it does."""
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        streams: Any = self.process.stdin, self.process.stdout
        for stream in streams:
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def windows(
    run: Callable[[int], None], unit: int, line: str, known: dict[str, float]
) -> dict[str, Any]:
    """Times a step in several windows, of which long steps leave out the last.

    Args:
        run: function that runs a number of steps and waits for the last one.
        unit: steps of which one holds all that steps do in turn, such as lazy penalties.
        line: "SECONDS COUNT": length of all windows together, and their number.
        known: seconds of a step, as `step`, as far as the warm-up knows it.
    """
    seconds, count = float(line.split()[0]), int(line.split()[1])
    if known["step"] * unit < seconds / 4:  # wakes the device, which has waited
        known["step"] = _time(run, unit) / unit
    steps = unit * max(1, round(seconds / count / known["step"] / unit))
    times: list[float] = []
    while len(times) < count and sum(times) * steps < 2 * seconds:
        times.append(_time(run, steps) / steps)
    return {"seconds": times, "steps_per_window": steps}


def _time(run: Callable[[int], None], steps: int) -> float:
    began = time.perf_counter()
    run(steps)
    return time.perf_counter() - began


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


def matmul_peak(
    size: int = 4096, dtypes: Sequence[str] = ("float32", "bfloat16")
) -> dict[str, Callable[[], float]]:
    """Returns functions that measure the GFLOP/s of matrix multiplication, by dtype.

    Args:
        size: rows and columns of the matrices.
        dtypes: number formats.
    """
    import tensorflow as tf

    def measure(dtype: str) -> Callable[[], float]:
        a = tf.cast(tf.random.normal((size, size), seed=0), dtype)
        multiply = tf.function(lambda a: tf.reduce_sum(tf.matmul(a, a)[:1, :1]))
        multiply(a)

        def once() -> float:
            began = time.perf_counter()
            float(multiply(a))
            return 2 * size**3 / (time.perf_counter() - began) / 1e9

        return once

    return {dtype: measure(dtype) for dtype in dtypes}
