"""Measurements of `gpu.py`: which there are, in which order, and what their rows say.

Neither TensorFlow nor PyTorch is imported here, so that children of both can use the module.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import pathlib
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

RECIPES = pathlib.Path(__file__).resolve().parents[1] / "keras_gan" / "recipes"
KERAS_IO = "keras-dcgan"  # the networks of the keras.io example dcgan_overriding_train_step
PROGRAMS = ("keras.io", "ours", "torch", "onnx")
NETWORKS = (KERAS_IO, "fashion-mnist", "cifar10-sngan", "cifar10-r3gan")
SHAPES = {
    KERAS_IO: (64, 64, 3),
    "fashion-mnist": (28, 28, 1),
    "cifar10-sngan": (32, 32, 3),
    "cifar10-r3gan": (32, 32, 3),
}
# Real images of a training step. On a GPU: the example's, the recipes', and for R3GAN the share of
# one GPU of the eight that the authors trained on.
BATCHES = {
    "gpu": {KERAS_IO: 32, "fashion-mnist": 64, "cifar10-sngan": 320, "cifar10-r3gan": 64},
    "cpu": {KERAS_IO: 2, "fashion-mnist": 32, "cifar10-sngan": 5, "cifar10-r3gan": 1},
}
PRECISIONS = ("float32", "tf32", "bfloat16")
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
PROVIDERS |= {"tensorrt": "TensorrtExecutionProvider"}
SAMPLE_BATCHES = (1, 64)  # of the exported generators


# ------------------------------------------------------------------------ the games


@dataclasses.dataclass(frozen=True)
class Game:
    """Work of a training step beside the networks, as the recipe states it.

    Args:
        loss: name of the adversarial loss.
        discriminator_steps: steps of the discriminator for each one of the generator.
        penalty: weight of R1 and of R2 at the start; 0 without them.
        interval: steps between two penalties, of which each counts `interval` times.
        half_life: half-life of the averaged generator in images at the start; None without one.
        betas: those of Adam.
        learning_rate: that of both networks at the start.
        classes: number of classes that both networks take; 0 without labels.
    """

    loss: str
    discriminator_steps: int = 1
    penalty: float = 0.0
    interval: int = 1
    half_life: float | None = None
    betas: tuple[float, float] = (0.0, 0.99)
    learning_rate: float = 2e-4
    classes: int = 0


@functools.cache
def game_of(network: str) -> Game:
    """Returns the game of a network: the keras.io example's, or that of the recipe's file."""
    if network == KERAS_IO:
        return Game("non_saturating", betas=(0.9, 0.999), learning_rate=1e-4)
    import yaml  # only here: the Python that has torch may lack it

    tree = yaml.safe_load((RECIPES / f"{network}.yaml").read_text("utf-8"))
    game, adam = tree["game"], tree["optimizers"]["discriminator"]
    terms = game.get("terms", [])
    kinds = {term["name"]: (_start(term["weight"]), term.get("interval", 1)) for term in terms}
    if kinds and (kinds.keys() != {"r1", "r2"} or len(set(kinds.values())) > 1):
        raise ValueError(f"R1 and R2 of one weight are what this program has. Received: {terms}")
    weight, interval = kinds.get("r1", (0.0, 1))
    half_life = game.get("ema_half_life", 10_000)
    return Game(
        game["loss"],
        game.get("discriminator_steps", 1),
        weight,
        interval,
        None if half_life == 0 else _start(half_life),
        (_start(adam["beta_1"]), _start(adam["beta_2"])),
        _start(adam["learning_rate"]),
        10 if "condition" in tree["networks"]["discriminator"] else 0,
    )


def _start(value: Any) -> float:
    """Returns a number, or the first one of its schedule."""
    return float(value["start"] if isinstance(value, Mapping) else value)


# ------------------------------------------------------------------------ the measurements


@dataclasses.dataclass(frozen=True)
class Cell:
    """One measurement, which has a process of its own.

    Args:
        program: one of PROGRAMS, or "peak" or "export", which others need.
        network: one of NETWORKS; "" for the peak.
        precision: one of PRECISIONS; "" where the program has its own.
        compiled: XLA or torch.compile.
        provider: of onnxruntime, one of PROVIDERS.
        batch: real images of a step; 0 for the generators, which have SAMPLE_BATCHES.
        extra: "input", our step with the pipeline of the recipe's data; "augment", with its
            augmentation.
    """

    program: str
    network: str = ""
    precision: str = ""
    compiled: bool = False
    provider: str = ""
    batch: int = 0
    extra: str = ""

    @property
    def name(self) -> str:
        """The name of the program in the table."""
        if self.program == "onnx":
            return f"onnxruntime {self.provider}"
        how = {"ours": (", no XLA", ", XLA"), "torch": (" eager", " compile")}
        name = self.program + how.get(self.program, ("", ""))[self.compiled]
        with_ = {"input": ", tf.data", "augment": ", augmentation"}
        return name + with_.get(self.extra, "")

    @property
    def title(self) -> str:
        """A line that names the measurement."""
        return " ".join(part for part in (self.name, self.network, self.precision) if part)

    def as_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Cell:
        return cls(**json.loads(text))


def cells(
    device: str, sizes: Mapping[str, int], formats: Sequence[str], programs: Sequence[str]
) -> list[Cell]:
    """Returns the measurements, the most important ones first.

    Args:
        device: "gpu" or "cpu".
        sizes: real images of a step for each network.
        formats: precisions that the device has.
        programs: those to measure, of PROGRAMS.
    """
    recipes = [network for network in sizes if network != KERAS_IO]
    # On a GPU, hardly anybody trains in float32 without TF32: it is measured last.
    usual = [p for p in ("tf32", "bfloat16") if p in formats] if device == "gpu" else []
    usual = usual or ["float32"]
    last = [precision for precision in PRECISIONS if precision not in usual]

    def steps(precisions: Iterable[str], compiled: bool) -> list[Cell]:
        return [
            Cell(program, network, precision, compiled, batch=sizes[network])
            for network in sizes
            for precision in precisions
            for program in ("ours", "torch")
        ]

    found = []
    if KERAS_IO in sizes:
        # As published: Keras's choices, which are TF32 and XLA on a GPU.
        found.append(Cell("keras.io", KERAS_IO, usual[0], device == "gpu", batch=sizes[KERAS_IO]))
    plain = steps(usual, compiled=False)
    first = [cell for cell in plain if cell.network == next(iter(sizes))]
    # The providers of GPUs for one network early, while there is time.
    early = [Cell("onnx", n, provider=p) for n in recipes[:1] for p in ("cuda", "tensorrt")]
    found += first + early + [cell for cell in plain if cell not in first]
    found += steps(usual, compiled=True)
    found += [Cell("onnx", n, provider=p) for p in ("cuda", "cpu") for n in recipes]
    if "fashion-mnist" in sizes:
        size = sizes["fashion-mnist"]
        found.append(Cell("ours", "fashion-mnist", usual[0], batch=size, extra="input"))
    found += steps(last, compiled=False) + steps(last, compiled=True)
    found += [Cell("onnx", network, provider="tensorrt") for network in recipes]
    if "cifar10-r3gan" in sizes:
        size = sizes["cifar10-r3gan"]
        found.append(Cell("ours", "cifar10-r3gan", usual[0], batch=size, extra="augment"))
    return [cell for cell in dict.fromkeys(found) if cell.program in programs]


def obstacle(
    cell: Cell, device: str, formats: Sequence[str], torch_python: str | None
) -> str | None:
    """Returns the reason why a measurement cannot be taken on this device, or None.

    Args:
        cell: the measurement.
        device: "gpu" or "cpu".
        formats: precisions that the device has.
        torch_python: a Python that has torch, or None.
    """
    if device == "cpu" and cell.precision == "tf32":
        return "TF32 is a number format of GPUs"
    if device == "cpu" and cell.provider in ("cuda", "tensorrt"):
        return "needs a GPU"
    if cell.precision and cell.precision not in formats:
        return f"the device has no products in {cell.precision}"
    if cell.program == "torch" and not torch_python:
        return "give --torch-python PATH, a Python that has torch (pip install torch)"
    return None


# ------------------------------------------------------------------------ time and memory

# Times --warm-up. R3GAN is by far the largest network, and TensorRT builds an engine. An export
# computes on the CPU, and others wait for its file.
_SLOW = {"export": 1.4, "cifar10-r3gan": 1.6, "tensorrt": 1.6}


def warm_up_limit(cell: Cell, seconds: float) -> float:
    """Returns the seconds in which the process of a measurement must be ready.

    Args:
        cell: the measurement.
        seconds: limit of most measurements.
    """
    kinds = (cell.program, cell.network, cell.provider)
    return seconds * max(_SLOW.get(kind, 1.0) for kind in kinds)


def without_nan(value: Any) -> Any:
    """Returns a JSON value with None for each number that is not finite, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# GPU memory of a process by itself, and for each real image of a step: estimates from the sizes of
# the activations that the backward passes keep.
_PROCESS_GIB = 3.0
_IMAGE_GIB = {KERAS_IO: 0.06, "fashion-mnist": 0.01, "cifar10-sngan": 0.02, "cifar10-r3gan": 0.6}


def memory_gib(cell: Cell) -> float:
    """Returns the estimated GPU memory of a measurement."""
    return _PROCESS_GIB + cell.batch * _IMAGE_GIB.get(cell.network, 0.0)


def batch_that_fits(network: str, gib: float) -> int:
    """Returns the batch size of a network on a GPU, halved until it should fit the memory."""
    size = BATCHES["gpu"][network]
    parts = game_of(network).discriminator_steps
    while size >= 2 * parts and memory_gib(Cell("ours", network, batch=size)) > 0.8 * gib:
        size = size // 2 // parts * parts
    return size


def next_wave(waiting: Sequence[Cell], most: int, gib: float) -> list[Cell]:
    """Returns the first measurements that can be prepared together, at least one.

    Args:
        waiting: all that are left, in order.
        most: largest number of processes.
        gib: memory of the GPU.
    """
    wave: list[Cell] = []
    for cell in waiting[:most]:
        if wave and sum(map(memory_gib, (*wave, cell))) > 0.9 * gib:
            break
        if cell.program == "onnx" and any(other.program == "export" for other in wave):
            break  # it needs what the export writes
        wave.append(cell)
    return wave


# ------------------------------------------------------------------------ the peak

# TFLOP/s of dense products (without sparsity) that accumulate in float32, as NVIDIA publishes them.
# float32 is that of the ordinary cores, without TF32.
_PEAKS: tuple[tuple[str, dict[str, float]], ...] = (
    (r"GH200|H200|H100.*HBM3|H100 SXM", {"bfloat16": 989.4, "tf32": 494.7, "float32": 66.9}),
    (r"H100 PCIe", {"bfloat16": 756.0, "tf32": 378.0, "float32": 51.2}),
    (r"A100", {"bfloat16": 312.0, "tf32": 156.0, "float32": 19.5}),
    (r"L40S", {"bfloat16": 362.0, "tf32": 183.0, "float32": 91.6}),
    (r"L4", {"bfloat16": 121.0, "tf32": 60.0, "float32": 30.3}),
    (r"A10", {"bfloat16": 125.0, "tf32": 62.5, "float32": 31.2}),
    (r"RTX 4090", {"bfloat16": 165.2, "tf32": 82.6, "float32": 82.6}),
    (r"T4", {"float32": 8.1}),  # 65 in float16; neither bfloat16 nor TF32
)


def known_peak(gpu: str) -> dict[str, float] | None:
    """Returns the TFLOP/s of a GPU by precision, or None for a GPU that is not in the table.

    Args:
        gpu: name as nvidia-smi prints it.
    """
    for pattern, peak in _PEAKS:
        if re.search(rf"(?<![A-Za-z0-9])(?:{pattern})(?![A-Za-z0-9])", gpu):
            return dict(peak)
    return None


def parse_peak(text: str) -> dict[str, float]:
    """Returns the peak of `bfloat16=989,tf32=495,float32=67`, TFLOP/s by precision."""
    found = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name not in PRECISIONS or not re.fullmatch(r"\d+(\.\d+)?", value) or not float(value):
            raise ValueError(
                "--peak must be PRECISION=TFLOPS, with the precisions "
                f"{', '.join(PRECISIONS)}, separated by commas. Received: {part!r}"
            )
        found[name] = float(value)
    return found


# ------------------------------------------------------------------------ the rows


def step_row(cell: Cell, answer: Mapping[str, Any], warm_up: float) -> dict[str, Any]:
    """Returns the row of a training step.

    Args:
        cell: the measurement.
        answer: what the child measured: `seconds` of a step in each window, `parameters` of the
            generator and the discriminator, and `flops` of a step for each real image.
        warm_up: seconds in which the child built, compiled and ran its first steps.
    """
    step = statistics.median(answer["seconds"])
    return {
        "program": cell.name,
        "network": cell.network,
        "precision": cell.precision,
        "batch": cell.batch,
        "images_per_second": cell.batch / step,
        "step_ms": step * 1e3,
        "warm_up_seconds": warm_up,
        "settings": dataclasses.asdict(cell),
        **answer,
    }


def sample_rows(
    cell: Cell, answers: Sequence[Mapping[str, Any]], warm_up: float, formats: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns the rows of a generator in onnxruntime, one for each batch size.

    Args:
        cell: the measurement.
        answers: what the child measured for each of SAMPLE_BATCHES: `times` of all calls.
        warm_up: as for `step_row`.
        formats: precisions that the device has. CUDA and TensorRT use TF32 where they can.
    """
    precision = "tf32" if cell.provider != "cpu" and "tf32" in formats else "float32"
    rows = []
    for batch, answer in zip(SAMPLE_BATCHES, answers, strict=True):
        median = statistics.median(answer["times"])
        rows.append(
            {
                "program": cell.name,
                "network": cell.network,
                "precision": precision,
                "batch": batch,
                "images_per_second": batch / median,
                "step_ms": median * 1e3,
                "warm_up_seconds": warm_up,
                "settings": dataclasses.asdict(cell),
                "seconds": answer["times"],
                "memory": answer["memory"],
            }
        )
    return rows


def compare(rows: Sequence[dict[str, Any]], peak: Mapping[str, float]) -> list[str]:
    """Adds the share of the peak and the ratio to PyTorch's best, and returns what disagrees.

    PyTorch's best is the faster one of eager and compiled for the same network and precision. A
    network whose numbers of parameters differ between the programs is not compared. What is not
    known is None.

    Args:
        rows: rows of all measurements.
        peak: TFLOP/s by precision.
    """
    notes = []
    for network in dict.fromkeys(row["network"] for row in rows):
        steps = [r for r in rows if r["network"] == network and "parameters" in r]
        torch = [row for row in steps if row["settings"]["program"] == "torch"]
        # Programs in TensorFlow count the operations of the networks that they train.
        flops = next((row["flops"] for row in steps if row.get("flops")), None)
        counts = {tuple(row["parameters"]) for row in steps}
        if len(counts) > 1:
            found = ", ".join(f"{r['program']} {tuple(r['parameters'])}" for r in steps)
            notes.append(f"{network}: not compared, the numbers of parameters differ: {found}")
        for row in steps:
            most = peak.get(row["precision"])
            known = flops is not None and most
            row["peak_share"] = row["images_per_second"] * flops / most / 1e12 if known else None
            same = [t for t in torch if t["precision"] == row["precision"]]
            best = max((t["images_per_second"] for t in same), default=None)
            # PyTorch's step has no augmentation.
            fair = best and len(counts) == 1 and row["settings"]["extra"] != "augment"
            row["ratio"] = row["images_per_second"] / best if fair else None
    return notes


def networks_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a line for each network: its parameters in each program, and its work."""
    lines = []
    for network in dict.fromkeys(row["network"] for row in rows):
        steps = [r for r in rows if r["network"] == network and "parameters" in r]
        parts = []
        for program in dict.fromkeys(row["settings"]["program"] for row in steps):
            row = next(r for r in steps if r["settings"]["program"] == program)
            generator, discriminator = row["parameters"]
            parts.append(f"{program} {generator:,} + {discriminator:,} parameters")
        flops = [f"{r['flops'] / 1e9:.2f} GFLOP an image" for r in steps if r.get("flops")]
        counted = [r["counted_flops"] for r in steps if r.get("counted_flops")]
        flops = flops[:1] + [f"{c / 1e9:.2f} by PyTorch's counter" for c in counted[:1]]
        if parts:
            lines.append(f"{network}: {', '.join([*parts, *flops])}")
    return lines


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the lines of the table."""
    widths = (28, 15, 10, 6, 12, 10, 7, 9)
    titles = ("program", "network", "precision", "batch", "images/s", "ms", "peak", "to torch")

    def line(parts: Sequence[str]) -> str:
        left = "".join(p.ljust(w) for p, w in zip(parts[:3], widths[:3], strict=True))
        return left + "".join(p.rjust(w) for p, w in zip(parts[3:], widths[3:], strict=True))

    lines = [line(titles)]
    for row in sorted(rows, key=_place):
        share, ratio = (row.get(name) for name in ("peak_share", "ratio"))
        last = ("-" if share is None else f"{share:.1%}", "-" if ratio is None else f"{ratio:.2f}")
        speed = (f"{row['images_per_second']:,.1f}", f"{row['step_ms']:,.2f}")
        names = (row["program"], row["network"], row["precision"], str(row["batch"]))
        lines.append(line((*names, *speed, *last)))
    return lines


def _place(row: Mapping[str, Any]) -> tuple:
    """Returns the place of a row: steps before generators, by network, precision and program."""
    onnx = row["settings"]["program"] == "onnx"
    return onnx, NETWORKS.index(row["network"]), row["precision"], row["program"], row["batch"]
