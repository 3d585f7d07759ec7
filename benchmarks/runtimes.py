"""CPU speed of several releases of onnxruntime on the same ONNX files.

    python benchmarks/runtimes.py runs/quickstart/bundle/model*.onnx \\
        --python ort126/bin/python --python ort131/bin/python

Each release is in an environment of its own: `python -m venv ort126; ort126/bin/pip install numpy
onnxruntime-gpu==1.26.0`. Each release and file runs in its own process, with the options of
`serving.sessions`. The processes compute in turns; the order alternates from round to round. The
ratio is the speed relative to the first Python in processor time, which other programs on the
machine change less than wall-clock time; it is the median over the rounds. Samples of all releases
are compared with those of the first one.
"""

from __future__ import annotations

import argparse
import array
import base64
import json
import math
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from children import Child, respond, set_threads

HERE = pathlib.Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="+", help="ONNX files")
    parser.add_argument("--python", action="append", help="a Python that has onnxruntime; several")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="seconds per child and round")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        respond(lambda: start(options.files[0], options.threads))
        return
    rows = []
    for file in options.files:
        rows += compare(file, options)
    show(rows)
    if options.json:
        options.json.write_text(json.dumps({"command": sys.argv, "rows": rows}, indent=2))


# --------------------------------------------------------------------- the children


def start(file: str, threads: int) -> Callable[[str], dict[str, Any]]:
    """Opens a session; returns the function that answers "time B S" and "samples B"."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def feeds(batch: int) -> dict[str, Any]:
        rng = np.random.default_rng(batch)
        made = {}
        for port in session.get_inputs():
            shape = [batch, *port.shape[1:]]
            if "int" in port.type:
                made[port.name] = np.zeros(shape, "int64" if "64" in port.type else "int32")
            else:
                made[port.name] = rng.normal(size=shape).astype("float32")
        return made

    def answer(line: str) -> dict[str, Any]:
        what, batch, *rest = line.split()
        inputs = feeds(int(batch))
        samples: Any = session.run(None, inputs)[0]
        if what == "samples":
            code = base64.b64encode(samples.astype("float32").tobytes()).decode()
            return {"release": onnxruntime.__version__, "samples": code}
        times = []
        cpu, end = time.process_time(), time.perf_counter() + float(rest[0])
        while not times or time.perf_counter() < end:
            began = time.perf_counter()
            session.run(None, inputs)
            times.append(time.perf_counter() - began)
        return {"times": times, "cpu": (time.process_time() - cpu) / len(times)}

    return answer


# --------------------------------------------------------------------- the comparison


def compare(file: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns a row for each batch size and Python."""
    program = [str(HERE / "runtimes.py"), file, "--threads", str(options.threads), "--child"]
    environment = os.environ | set_threads(options.threads)
    pythons = options.python or [sys.executable]
    children = [Child(each, [each, *program], environment, verbose=False) for each in pythons]
    rows = []
    try:
        for child in children:
            if child.error:
                raise SystemExit(f"{child.variant} must run {file}. Received: {child.error}")
        for batch in options.batches:
            rows += run_rounds(file, batch, children, options)
    finally:
        for child in children:
            child.end()
    return rows


def run_rounds(
    file: str, batch: int, children: list[Child], options: argparse.Namespace
) -> list[dict[str, Any]]:
    answers = [ask(child, f"samples {batch}") for child in children]
    samples = [decode(answer["samples"]) for answer in answers]
    for child in children:
        child.rounds.clear()
    for number in range(options.rounds):
        for child in children if number % 2 else children[::-1]:
            ask(child, f"time {batch} {options.seconds}")
        print(f"{file}: batch {batch}, round {number + 1}", file=sys.stderr, flush=True)
    first = [each["cpu"] for each in children[0].rounds]
    rows = []
    for child, answer, found in zip(children, answers, samples, strict=True):
        medians = [statistics.median(each["times"]) for each in child.rounds]
        pairs = zip(first, (each["cpu"] for each in child.rounds), strict=True)
        differences = (abs(a - b) for a, b in zip(samples[0], found, strict=True))
        rows.append(
            {
                "file": pathlib.Path(file).name,
                "batch": batch,
                "release": answer["release"],
                "median_ms": statistics.median(medians) * 1e3,
                "cpu_ms": statistics.median(each["cpu"] for each in child.rounds) * 1e3,
                "ratio": statistics.median(a / b for a, b in pairs),
                "difference": max(differences, default=math.nan),
            }
        )
    return rows


def ask(child: Child, request: str) -> dict[str, Any]:
    child.ask(request)
    if child.error:
        raise SystemExit(f"{child.variant} must answer. Received: {child.error}")
    return child.rounds[-1]


def decode(text: str) -> array.array[float]:
    return array.array("f", base64.b64decode(text))


def show(rows: list[dict[str, Any]]) -> None:
    names = "".join(f"{name:>11}" for name in ("median ms", "CPU ms", "ratio", "difference"))
    print(f"{'file':<20}{'batch':>6} {'onnxruntime':<12}{names}")
    for row in rows:
        print(
            f"{row['file']:<20}{row['batch']:>6} {row['release']:<12}{row['median_ms']:>11.3f}"
            f"{row['cpu_ms']:>11.3f}{row['ratio']:>11.2f}{row['difference']:>11.1e}"
        )


if __name__ == "__main__":
    main()
