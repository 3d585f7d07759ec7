"""Images a second of training steps and generators on a GPU, beside keras.io's and PyTorch's.

    python benchmarks/gpu.py --torch-python /path/to/venv/bin/python --json gpu.json

Prints one table in 5 minutes (--limit). Rows are programs and networks: the keras.io example
"dcgan_overriding_train_step" as published, this library with and without XLA, PyTorch eager and
compiled, in float32 (without TF32), TF32 and bfloat16 (mixed_bfloat16, autocast); and the exported
generators in onnxruntime's providers at batch sizes of 1 and 64. The networks are the example's and
those of the recipes fashion-mnist, cifar10-sngan and cifar10-r3gan, with their losses, penalties,
discriminator steps and averages. PyTorch's are of the same layers (gpu_torch_networks.py); a
network whose numbers of parameters differ is not compared. The augmentation of cifar10-r3gan is
left out but in one row.

The data are random images that stay on the device, the same batch in each step, so that the step
alone is measured. One row has the pipeline of Fashion-MNIST instead: it shows what input costs.

Columns: "images/s" are real images in training (generated ones for onnxruntime), from the median of
several timed windows; "ms" is a training step or a call of the generator; "peak" is the share of
the device's peak of dense products in that precision (how operations are counted: gpu_flops.py);
"to torch" is the speed relative to PyTorch's faster way, of the same network and precision. The
peak is NVIDIA's, of a table by the GPU's name, or --peak; for others a large product is timed.

Each measurement has its own process and time limits. Processes start in groups, and once a group is
ready each of it is measured while the others wait. The exports are in the first group. What is not
ready in --warm-up seconds (1.4 times that for an export, 1.6 times for R3GAN and TensorRT), or not
begun within --limit, is named below the table with the reason. The order is that of importance.

Without a GPU the same program runs on the CPU with small batches.

PyTorch is not a dependency. Its programs run in the Python given by --torch-python. onnxruntime can
have a Python of its own as well (--onnx-python), such as that of serving/requirements-gpu.txt.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import gpu_cells
import gpu_machine
import gpu_tensorflow
from children import Child, respond
from gpu_cells import NETWORKS, PROGRAMS, SAMPLE_BATCHES, Cell

HERE = pathlib.Path(__file__).resolve().parent
LEAST = 10.0  # seconds in which no process can start and be measured
DEFAULTS = {"gpu": {"seconds": 1.0, "warm_up": 75.0}, "cpu": {"seconds": 2.0, "warm_up": 120.0}}


class Bench:
    """All measurements of a run, their results, and the time that is left.

    Args:
        machine: where it runs.
        options: those of the command line.
        folder: where the exported generators go.
    """

    def __init__(
        self, machine: gpu_machine.Machine, options: argparse.Namespace, folder: pathlib.Path
    ):
        self.machine, self.options, self.folder = machine, options, folder
        self.end = time.monotonic() + options.limit
        self.rows: list[dict[str, Any]] = []
        self.missing: list[dict[str, str]] = []
        self.software: dict[str, str] = {}
        self.peak = options.peak or gpu_cells.known_peak(machine.name) or {}
        self.peak_is = "given" if options.peak else "NVIDIA's" if self.peak else "measured"

    def left(self) -> float:
        return self.end - time.monotonic()

    def miss(self, cell: Cell, why: str) -> None:
        self.missing.append({"measurement": cell.title, "reason": why})
        print(f"  {cell.title}: {why}", file=sys.stderr, flush=True)

    def run(self, cells: Sequence[Cell]) -> None:
        """Takes the measurements in groups until all are taken or the time is over."""
        waiting = self.prepared(self._possible(cells))
        while waiting:
            if self.left() < LEAST:
                for cell in waiting:
                    self.miss(cell, f"not run: the limit of {self.options.limit:.0f} s was over")
                return
            gib = self.machine.gib if self.machine.device == "gpu" else math.inf
            group = gpu_cells.next_wave(waiting, self.options.parallel, gib)
            waiting = waiting[len(group) :]
            self._run_group(group)

    def prepared(self, cells: list[Cell]) -> list[Cell]:
        """Returns the measurements after the peak and the exports, which others need."""
        networks = dict.fromkeys(cell.network for cell in cells if cell.program == "onnx")
        found = [*(Cell("export", network) for network in networks), *cells]
        needs_peak = self.peak_is == "measured" and any(cell.precision for cell in cells)
        return [Cell("peak"), *found] if needs_peak else found

    def _possible(self, cells: Sequence[Cell]) -> list[Cell]:
        found = []
        for cell in cells:
            facts = (self.machine.device, self.machine.formats, self.options.torch_python)
            why = gpu_cells.obstacle(cell, *facts)
            if why:
                self.miss(cell, why)
            else:
                found.append(cell)
        return found

    def _run_group(self, group: Sequence[Cell]) -> None:
        began = time.monotonic()
        reserve = len(group) * self.options.seconds * 1.5
        most = max(LEAST, self.left() - reserve)
        started: list[tuple[Cell, Child]] = []
        try:
            for cell in group:
                if cell.program == "onnx" and not self._model(cell).exists():
                    self.miss(cell, "the export of the generators did not end in time, or failed")
                    continue
                print(f"starting {cell.title}", file=sys.stderr, flush=True)
                started.append((cell, self._start(cell)))
            ready = []
            for cell, child in started:
                limit = min(gpu_cells.warm_up_limit(cell, self.options.warm_up), most)
                child.wait_until_ready(max(0.0, began + limit - time.monotonic()))
                if child.error:
                    waited = f"not ready after {time.monotonic() - began:.0f} s"
                    self.miss(cell, waited if child.late else child.error)
                    child.kill()
                else:
                    ready.append((cell, child))
            for cell, child in ready:
                self._measure(cell, child)
        finally:
            for _, child in started:
                child.kill()

    def _start(self, cell: Cell) -> Child:
        options = self.options
        program = [sys.executable, __file__, "--folder", str(self.folder)]
        program += ["--child", cell.as_json(), "--device", self.machine.device]
        if cell.program == "torch":
            game = json.dumps(dataclasses.asdict(gpu_cells.game_of(cell.network)))
            program = [options.torch_python, str(HERE / "gpu_torch.py"), "--game", game]
            program += ["--child", cell.as_json(), "--device", self.machine.device]
        elif cell.program == "onnx":
            program = [options.onnx_python or sys.executable, str(HERE / "gpu_onnx.py")]
            program += ["--path", str(self._model(cell)), "--provider", cell.provider]
        elif cell.program == "peak":
            program += ["--formats", ",".join(self.machine.formats)]
        foreign = program[0] != sys.executable
        environment = _environment(cell, self.machine.device, foreign)
        # Processes that compile together share the cores.
        threads = max(1, self.machine.cores // options.parallel)
        environment["TORCHINDUCTOR_COMPILE_THREADS"] = str(threads)
        return Child(cell.title, program, environment, options.verbose, wait=False)

    def _model(self, cell: Cell) -> pathlib.Path:
        return self.folder / f"{cell.network}.onnx"

    def _measure(self, cell: Cell, child: Child) -> None:
        """Asks a child that is ready, and keeps the rows of its answers."""
        options = self.options
        requests = [f"{options.seconds} {options.windows}"]
        if cell.program == "onnx":
            requests = [f"{batch} {options.seconds / 2}" for batch in SAMPLE_BATCHES]
        for request in requests:
            limit = min(4 * options.seconds + options.warm_up / 2, max(1.0, self.left()))
            child.ask(request, limit)
            if child.error:
                self.miss(cell, f"no answer in {limit:.0f} s" if child.late else child.error)
                return
        answers = child.rounds
        self.software |= answers[0].pop("software", {})
        if cell.program == "peak":
            self.peak = answers[0]["peak"]
        elif cell.program == "onnx":
            self.rows += gpu_cells.sample_rows(cell, answers, child.warm_up, self.machine.formats)
        elif cell.program != "export":
            self.rows.append(gpu_cells.step_row(cell, answers[0], child.warm_up))
            speed = self.rows[-1]["images_per_second"]
            print(f"  {cell.title}: {speed:,.1f} images/s", file=sys.stderr, flush=True)

    def result(self) -> dict[str, Any]:
        """Returns all that the run has found, as it is written to --json."""
        notes = gpu_cells.compare(self.rows, self.peak)
        hidden = ("child", "folder", "formats", "json", "verbose")
        settings = {k: v for k, v in vars(self.options).items() if k not in hidden}
        found = {
            "machine": dataclasses.asdict(self.machine),
            "software": {"python": sys.version.split()[0], **self.software},
            "settings": settings,
            "peak_tflops": self.peak,
            "peak_is": self.peak_is,
            "seconds": self.options.limit - self.left(),
            "rows": self.rows,
            "not_measured": self.missing,
            "notes": notes,
        }
        return gpu_cells.without_nan(found)


def _environment(cell: Cell, device: str, foreign: bool = False) -> dict[str, str]:
    """Returns the environment of a child.

    Args:
        cell: its measurement.
        device: "gpu" or "cpu".
        foreign: True for another Python, in which packages of this one's PYTHONPATH must not be.
    """
    inherited = "" if foreign else os.environ.get("PYTHONPATH", "")
    paths = os.pathsep.join(filter(None, [str(HERE.parent), inherited]))
    found = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": paths}
    if foreign:
        found.pop("PYTHONHOME", None)
    if device == "cpu" or cell.program == "export":
        return found | {"CUDA_VISIBLE_DEVICES": "-1"}
    found.setdefault("CUDA_VISIBLE_DEVICES", "0")
    if cell.precision == "float32":
        found["NVIDIA_TF32_OVERRIDE"] = "0"  # for all libraries of NVIDIA
    return found


# ------------------------------------------------------------------------ the command


def show(result: Mapping[str, Any]) -> None:
    peak = ", ".join(f"{value:,.3g} {name}" for name, value in result["peak_tflops"].items())
    print(", ".join(f"{name} {version}" for name, version in result["software"].items()))
    print(f"peak of dense products ({result['peak_is']}): {peak or 'unknown'} TFLOP/s")
    for line in gpu_cells.networks_lines(result["rows"]):
        print(line)
    print("data: the same random images in each step, on the device")
    for line in (*gpu_cells.table(result["rows"]), *result["notes"]):
        print(line)
    for entry in result["not_measured"]:
        print(f"{entry['measurement']}: not measured: {entry['reason']}")
    print(f"{result['seconds']:.0f} s")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--torch-python", help="a Python that has torch")
    parser.add_argument("--onnx-python", help="a Python that has onnxruntime; this one by default")
    parser.add_argument("--device", choices=("auto", "gpu", "cpu"), default="auto")
    parser.add_argument("--networks", type=_names(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--programs", type=_names(PROGRAMS), default=list(PROGRAMS))
    parser.add_argument("--limit", type=float, default=300.0, help="seconds of the whole run")
    parser.add_argument("--seconds", type=float, help="seconds of all windows of a measurement")
    parser.add_argument("--windows", type=int, default=5, help="timed windows of a measurement")
    parser.add_argument("--warm-up", type=float, help="seconds in which a process must be ready")
    parser.add_argument("--parallel", type=int, help="processes that are prepared together")
    parser.add_argument("--batch", type=int, help="real images of a step, for all networks")
    parser.add_argument("--peak", type=_peak, help="TFLOP/s: bfloat16=989,tf32=495,float32=67")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there")
    parser.add_argument("--verbose", action="store_true", help="show what the processes print")
    for hidden in ("--child", "--folder", "--formats"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _names(valid: Sequence[str]) -> Any:
    def read(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if not names or not set(names) <= set(valid):
            raise argparse.ArgumentTypeError(
                f"must be names of {', '.join(valid)}, separated by commas. Received: {text!r}"
            )
        return [name for name in valid if name in names]

    return read


def _peak(text: str) -> dict[str, float]:
    try:
        return gpu_cells.parse_peak(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def batch_sizes(machine: gpu_machine.Machine, options: argparse.Namespace) -> dict[str, int]:
    """Returns the real images of a step for each network."""
    if options.batch:
        steps = {n: gpu_cells.game_of(n).discriminator_steps for n in options.networks}
        return {n: max(k, options.batch // k * k) for n, k in steps.items()}
    if machine.device == "cpu":
        return {network: gpu_cells.BATCHES["cpu"][network] for network in options.networks}
    return {n: gpu_cells.batch_that_fits(n, machine.gib) for n in options.networks}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.child:
        cell = Cell.from_json(options.child)
        respond(lambda: gpu_tensorflow.make(cell, options))
        return
    for name in ("torch_python", "onnx_python"):
        given = getattr(options, name)
        if given and not shutil.which(given):
            flag = name.replace("_", "-")
            sys.exit(f"--{flag} must be the path of a Python. Received: --{flag} {given}")
    try:
        machine = gpu_machine.find(options.device)
    except ValueError as error:
        sys.exit(str(error))
    print(machine.line, flush=True)
    for name, value in DEFAULTS[machine.device].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.parallel = options.parallel or machine.processes
    sizes = batch_sizes(machine, options)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the processes end as well
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(machine, options, pathlib.Path(folder))
        bench.run(gpu_cells.cells(machine.device, sizes, machine.formats, options.programs))
    result = bench.result()
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
