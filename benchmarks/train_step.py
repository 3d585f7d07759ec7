"""Speed of a training step, compared with Keras and PyTorch on the same networks and batches.

    python benchmarks/train_step.py --net dcgan --torch-python /path/to/venv/bin/python
    python benchmarks/train_step.py --net small --variants ours,ours-bf16,keras --profile

There are three games: `dcgan`, the networks of the keras.io example "dcgan_overriding_train_step"
(64 x 64 x 3) with the original loss, and `small` and `color`, this library's `dcgan` at 28 x 28 x 1
and 64 x 64 x 3 with the relativistic loss, R1 and R2 of R3GAN. Each variant runs in its own
process, so that its memory is measured alone. Variants run alternately: in each round one trains
for some seconds while the others sleep, so that a slow phase of the machine affects all. Figures
are medians over rounds.

"peak" is the share of the machine's peak matrix multiplication rate in the variant's number format,
measured between the rounds. It counts the necessary work of a step once, so redundant work lowers
the share. "CPU" is the processor time of a step, summed over threads. On a machine that is not
idle, that column under `--threads 1` compares variants better than the wall-clock time, because
threads that wait for each other (OpenMP's, in PyTorch) suffer most from a busy core.

PyTorch is not a dependency. Its variants run in the Python given by --torch-python, any that has
torch: `python -m venv torch; torch/bin/pip install torch`.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from children import Child, matmul_peak, respond, set_threads
from train_step_variants import TensorFlowVariant, step_flops

HERE = pathlib.Path(__file__).resolve().parent
BATCH = {"dcgan": 32, "small": 64, "color": 32}
# Variants, and the environment variables that set their number format.
ENVIRONMENT: dict[str, dict[str, str]] = {
    "keras": {},
    "keras-grappler": {},
    "keras-mixed": {},
    "ours": {},
    "ours-bf16": {},
    "ours-fpmath": {"TF_SET_ONEDNN_FPMATH_MODE": "BF16"},
    "ours-mixed": {},
    "ours-xla": {},
    "earlier": {},
    "earlier-bf16": {},
}
TORCH = [
    f"torch-{how}-{layout}-{kind}"
    for kind in ("float32", "bf16")
    for how in ("eager", "compile")
    for layout in ("first", "last")
]
DEFAULT = ["keras", "ours", "ours-bf16", "keras-mixed", *TORCH]
NOTES = {
    "keras": "the keras.io example's step, float32",
    "keras-grappler": "the same under the graph pass of precision=bfloat16",
    "keras-mixed": "the same with Keras's policy mixed_bfloat16",
    "ours": "float32",
    "ours-bf16": "precision=bfloat16",
    "ours-fpmath": "float32, oneDNN set to multiply in bf16",
    "ours-mixed": "precision=mixed_bfloat16",
    "ours-xla": "float32, jit_compile=True",
    "earlier": "another version, of --earlier-python, float32",
    "earlier-bf16": "the same, precision=bfloat16",
}


def number_format(variant: str) -> str:
    half = variant.endswith(("bf16", "mixed", "fpmath", "grappler"))
    return "bfloat16" if half else "float32"


# --------------------------------------------------------------------- rounds


def serve(make: Callable[[], Any]) -> None:
    """Runs in the child process: builds a variant, then for each line "S" trains for S seconds."""

    def build() -> Callable[[str], dict[str, Any]]:
        variant = make()
        variant.run(2)
        step: list[float] = []  # the seconds of a step in the last request

        def train(line: str) -> dict[str, Any]:
            if not step:
                began = time.perf_counter()
                variant.run(1)
                step.append(time.perf_counter() - began)
            variant.run(1)  # wakes threads and caches
            steps = max(1, round(float(line) / step[0]))
            began, cpu = time.perf_counter(), time.process_time()
            variant.run(steps)
            step[0] = (time.perf_counter() - began) / steps
            return {"seconds": step[0], "cpu": (time.process_time() - cpu) / steps}

        return train

    respond(build)


def start(variant: str, options: argparse.Namespace) -> Child:
    """Starts the process of a variant."""
    program = [sys.executable, __file__]
    if variant.startswith("torch"):
        program = [options.torch_python, str(HERE / "train_step_torch.py")]
    if variant.startswith("earlier"):
        program = [options.earlier_python, __file__]
    program += ["--child", variant, "--net", options.net, "--batch", str(options.batch)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **ENVIRONMENT.get(variant, {})}
    if options.threads:
        environment |= set_threads(options.threads)
    return Child(variant, program, environment, options.verbose)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    children, missing = [], {}
    for variant in options.variants:
        if variant.startswith("torch") and not options.torch_python:
            missing[variant] = (
                "give --torch-python PATH, a Python that has torch (pip install torch)"
            )
            continue
        if variant.startswith("earlier") and not options.earlier_python:
            missing[variant] = "give --earlier-python PATH, a Python that has another version"
            continue
        print(f"starting {variant}", file=sys.stderr, flush=True)
        child = start(variant, options)
        if child.error:
            missing[variant] = child.error
            child.end()
        else:
            children.append(child)
            print(f"  ready in {child.warm_up:.0f} s", file=sys.stderr, flush=True)
    peaks = matmul_peak()
    peak: dict[str, list[float]] = {dtype: [] for dtype in peaks}
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
        # The order alternates, so that no variant always follows the same one.
        for child in children if number % 2 else children[::-1]:
            if not child.error:
                child.ask(str(options.seconds))
                last = child.rounds[-1]["seconds"] if child.rounds else float("nan")
                print(f"  {child.variant}: {last * 1e3:.1f} ms", file=sys.stderr, flush=True)
        for dtype, once in peaks.items():
            peak[dtype].append(once())
    for child in children:
        child.end()
    # The peak is the best of the rounds; the time of a step is their median.
    best = {dtype: max(values) for dtype, values in peak.items()}
    rows = [row(child, options, best) for child in children if not child.error]
    missing |= {child.variant: child.error for child in children if child.error}
    return {
        "net": options.net,
        "batch": options.batch,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "gflop_per_image": step_flops(options.net) / 1e9,
        "matmul_gflops": best,
        "rows": compare(children, rows),
        "missing": missing,
    }


def row(child: Child, options: argparse.Namespace, peak: dict[str, float]) -> dict[str, Any]:
    seconds = [each["seconds"] for each in child.rounds]
    step = statistics.median(seconds)
    gflops = step_flops(options.net) * options.batch / step / 1e9
    return {
        "variant": child.variant,
        "step_ms": step * 1e3,
        "cpu_ms": statistics.median(each["cpu"] for each in child.rounds) * 1e3,
        "spread": (max(seconds) - min(seconds)) / step,
        "examples_per_second": options.batch / step,
        "memory_mib": max(each["memory"] for each in child.rounds),
        "peak_share": gflops / peak[number_format(child.variant)],
        "warm_up_seconds": child.warm_up,
    }


def compare(children: list[Child], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds each variant's speed relative to the Keras example's, the median over the rounds."""
    seconds = {c.variant: [each["seconds"] for each in c.rounds] for c in children}
    for one in rows:
        if "keras" in seconds:
            pairs = zip(seconds["keras"], seconds[one["variant"]], strict=True)
            one["ratio"] = statistics.median(a / b for a, b in pairs)
    return rows


def show(result: dict[str, Any]) -> None:
    peak = ", ".join(f"{v:,.0f} GFLOP/s {k}" for k, v in result["matmul_gflops"].items())
    print(
        f"{result['net']}, batch {result['batch']}: {result['gflop_per_image']:.2f} GFLOP per image"
    )
    print(f"matrix multiplication: {peak}")
    print(
        f"{'variant':<28}{'ms':>8}{'CPU ms':>8}{'images/s':>10}{'ratio':>7}{'MiB':>8}{'peak':>7}"
        "  spread"
    )
    for one in result["rows"]:
        print(
            f"{one['variant']:<28}{one['step_ms']:>8.1f}{one['cpu_ms']:>8.1f}"
            f"{one['examples_per_second']:>10.1f}"
            f"{one.get('ratio', float('nan')):>7.2f}{one['memory_mib']:>8,.0f}"
            f"{one['peak_share']:>7.1%}  {one['spread']:.0%}  {NOTES.get(one['variant'], '')}"
        )
    for variant, why in result["missing"].items():
        print(f"{variant:<28}not measured: {why}")


# --------------------------------------------------------------------- where the time goes


def profile(options: argparse.Namespace, variant: str, steps: int = 3) -> None:
    """Prints the time of each kind of operation, and of the longest operations, of a step."""
    import tensorflow as tf

    one = TensorFlowVariant(variant, options.net, options.batch)
    one.run(3)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        began = time.perf_counter()
        one.run(steps)
        taken = time.perf_counter() - began
        tf.profiler.experimental.stop()
        events = _operations(pathlib.Path(folder))
    print(
        f"\n{variant}, {options.net}, batch {options.batch}: {taken / steps * 1e3:.1f} ms per step"
    )
    for title, column, rows in (("kind of operation", 1, 20), ("operation", 0, 25)):
        total: dict[str, list[float]] = {}
        for event in events:
            entry = total.setdefault(str(event[column]), [0.0, 0.0])
            entry[0] += event[2] / steps
            entry[1] += 1 / steps
        whole = sum(ms for ms, _ in total.values())
        print(f"{'ms':>9} {'share':>6} {'times':>7}  {title} (of {whole:.1f} ms of thread time)")
        for name, (ms, count) in sorted(total.items(), key=lambda item: -item[1][0])[:rows]:
            print(f"{ms:>9.2f} {ms / whole:>6.1%} {count:>7.1f}  {name}")


def _operations(folder: pathlib.Path) -> list[tuple[str, str, float]]:
    """Returns (node, kind, milliseconds) of every operation in a trace."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space: Any = getattr(xplane_pb2, "XSpace")()  # noqa: B009 - made when imported
    space.ParseFromString(next(folder.rglob("*.xplane.pb")).read_bytes())
    found = []
    for plane in space.planes:
        names = {number: meta.name for number, meta in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                node, colon, kind = names[event.metadata_id].rpartition(":")
                if colon and "/" in node and kind.isidentifier():  # other events enclose operations
                    node = node.removeprefix("StatefulPartitionedCall/")
                    found.append((node, kind, event.duration_ps / 1e9))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--net", choices=tuple(BATCH), default="dcgan")
    parser.add_argument("--batch", type=int, help="samples in a batch")
    parser.add_argument("--variants", default=",".join(DEFAULT), help="names, separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds per variant and round")
    parser.add_argument("--threads", type=int, help="threads of each variant; all cores by default")
    parser.add_argument("--torch-python", help="a Python that has torch")
    parser.add_argument("--earlier-python", help="a Python that has another version of keras_gan")
    parser.add_argument("--profile", action="store_true", help="print time per operation instead")
    parser.add_argument("--verbose", action="store_true", help="show what the variants print")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.batch = options.batch or BATCH[options.net]
    options.variants = options.variants.split(",")
    if options.child:
        serve(lambda: TensorFlowVariant(options.child, options.net, options.batch))
        return
    if options.profile:
        for variant in options.variants:
            profile(options, variant)
        return
    result = measure(options)
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
