"""Checks a bundle as a stranger would: its files, then its models against the golden samples."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

from export.generator import one_line
from export.golden import FILE_NAME as GOLDEN
from export.golden import check_golden, load_golden
from export.manifest import FILE_NAME, PRECISIONS, Manifest, sha256, walk
from export.to_litert import FILE_NAME as LITERT
from export.to_onnx import open_session
from keras_gan import UsageError

BATCHES = (1, 5, 64)
PROBE_BATCHES = (1, 5)
TOLERANCE = 1e-5
MAX_TOLERANCE = 1e-3
# Another CPU rounds otherwise before it cuts to 8 or 16 bits, and samples differ a little more.
ALLOWANCE = {"max": 2.0, "rms": 1.5}
MEASURE = "max abs difference to Keras, over the output range"
_PROGRAM = Path(__file__).with_name("without_keras.py")  # never imported: it bars Keras
_TIMEOUT = 600
_SHOWN = 10
_ROWS = {"serving_default": "saved_model", "generate": "saved_model generate"}
_PROBE = ", random statistics"


@dataclasses.dataclass(frozen=True)
class Report:
    """What the check of a bundle found.

    Args:
        path: the bundle.
        figures: largest difference to the golden samples, by runtime and batch size.
        problems: one line for each thing that is wrong.
        tolerance: largest difference that is accepted.
    """

    path: Path
    figures: dict[str, dict[int, float]]
    problems: tuple[str, ...]
    tolerance: float = TOLERANCE

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        lines = [f"{self.path}: {'ok' if self.ok else 'NOT OK'}"]
        for runtime, by_batch in self.figures.items():
            row = "  ".join(f"batch {batch}: {value:.1e}" for batch, value in by_batch.items())
            lines.append(f"  {runtime:<31} {row}")
        lines += [f"  problem: {problem}" for problem in self.problems[:_SHOWN]]
        if more := len(self.problems[_SHOWN:]):
            lines.append(f"  and {more} more")
        return "\n".join(lines)


def verify_bundle(path: str | Path) -> Report:
    """Checks a bundle again: schema, checksums, and every runtime against `golden.npz`.

    The SavedModel runs in a process of its own that never imports Keras, as in a server.

    Args:
        path: the bundle's folder.

    Returns:
        A report with `ok`, `figures` and `problems`; it prints as a small table.

    Raises:
        UsageError: the folder is no bundle, or its manifest is damaged or of an unknown schema.
    """
    path = Path(path)
    manifest = Manifest.load(path)
    problems = check_files(path, manifest) or check_golden(path, manifest)
    if problems:
        return Report(path, {}, tuple(problems))  # nothing that was tampered with is run
    figures, problems = measure(path, manifest)
    return Report(path, figures, tuple(problems), tolerance_of(manifest))


def check_files(path: Path, manifest: Manifest) -> list[str]:
    """Compares the files of a bundle with its manifest; gives a line for each that differs."""
    required = {"model.onnx", "golden.npz", f"saved_model/{manifest.name}/1/saved_model.pb"}
    told = manifest.parity.get("precisions", {})
    required |= {PRECISIONS[name] for name in told}
    problems = [f"{name} is not in {FILE_NAME}" for name in sorted(required - set(manifest.files))]
    problems += [
        f"{file} must have its figures in {FILE_NAME}"
        for name, file in PRECISIONS.items()
        if file in manifest.files and name not in told
    ]
    try:
        found = dict(walk(path))
        for name, expected in manifest.files.items():
            if name not in found:
                problems.append(f"{name} is missing")
            elif found[name] and (
                (path / name).stat().st_size != expected["bytes"]
                or sha256(path / name) != expected["sha256"]
            ):
                problems.append(f"{name} was changed: its SHA-256 is not the one in {FILE_NAME}")
    except OSError as error:
        return [*problems, f"every file must be readable: {one_line(error)}"]
    odd = sorted(name for name, plain in found.items() if not plain)
    problems += [f"{name!r} is a link or no plain file, which no bundle holds" for name in odd]
    extra = sorted(found.keys() - manifest.files.keys() - {FILE_NAME, *odd})
    return problems + [f"{name!r} is not in {FILE_NAME}" for name in extra]


def measure(
    path: Path, manifest: Manifest, probe: Path | None = None
) -> tuple[dict[str, dict[int, float]], list[str]]:
    """Runs every runtime on the golden seeds; gives the differences and what is wrong.

    Args:
        path: the bundle.
        manifest: its manifest.
        probe: models and golden samples of the same generator with random batch statistics.
    """
    figures, problems = compare_onnx(path, manifest, probe)
    if not figures:
        return figures, problems
    if manifest.parity.get("precisions"):
        more, found = compare_precisions(path, manifest)
        figures, problems = figures | more, problems + found
    if (path / LITERT).is_file():
        more, found = _compare_litert(path, manifest)
        figures, problems = figures | more, problems + found
    plans = plan_saved_models(path, manifest, probe)
    try:
        outputs = run_saved_models(manifest.name, plans)
    except UsageError as error:
        return figures, [*problems, str(error)]
    more, found = compare_saved_models(path, manifest, plans, outputs)
    return figures | more, problems + found


def tolerance_of(manifest: Manifest) -> float:
    """Gives the largest difference that passes: 1e-5, or what the export measured to be due."""
    told = manifest.parity.get("tolerance")
    if isinstance(told, int | float) and told > TOLERANCE:
        return min(float(told), MAX_TOLERANCE)
    return TOLERANCE


Figures = dict[str, dict[int, float]]
Plan = tuple[Path, str, int]  # a bundle, a signature and a batch size


def compare_onnx(path: Path, manifest: Manifest, probe: Path | None) -> tuple[Figures, list[str]]:
    """Runs the ONNX model if it is one; as `measure`."""
    if problems := check_onnx(path / "model.onnx", manifest):
        return {}, problems
    try:
        figures = {"onnx": {b: run_onnx(path, b, manifest) for b in BATCHES}}
        if probe:
            figures["onnx" + _PROBE] = {b: run_onnx(probe, b, manifest) for b in PROBE_BATCHES}
    except Exception as error:  # onnxruntime has a class for each failure
        return {}, [f"model.onnx must load and run in onnxruntime: {one_line(error)}"]
    return figures, _too_far(figures, tolerance_of(manifest))


def compare_precisions(path: Path, manifest: Manifest) -> tuple[Figures, list[str]]:
    """Runs the models in other precisions against what the manifest says of them; as `measure`."""
    figures: Figures = {}
    problems: list[str] = []
    for name, told in manifest.parity["precisions"].items():
        file = path / PRECISIONS[name]
        if found := check_onnx(file, manifest):
            problems += found
            continue
        try:
            measured = {batch: deviations(path, file, batch, manifest) for batch in BATCHES}
        except Exception as error:  # onnxruntime has a class for each failure
            problems.append(f"{file.name} must load and run in onnxruntime: {one_line(error)}")
            continue
        figures[f"onnx {name}"] = {batch: largest for batch, (largest, _) in measured.items()}
        problems += [
            f"{file.name} must be as far from Keras as {FILE_NAME} says, {kind} {stated:.3g}, and "
            f"differs by {value:.3g} at batch {batch}"
            for batch, pair in measured.items()
            for kind, value in zip(("max", "rms"), pair, strict=True)
            for stated in [float(told[kind].get(str(batch), 0.0))]
            if not value <= ALLOWANCE[kind] * stated + TOLERANCE
        ]
    return figures, problems


def _compare_litert(path: Path, manifest: Manifest) -> tuple[Figures, list[str]]:
    runs = [{"litert": _place(path / LITERT), "inputs": _inputs(path), "batch": b} for b in BATCHES]
    try:
        outputs = _run_apart(runs, LITERT)
    except UsageError as error:
        return {}, [str(error)]
    golden = load_golden(path)
    differences = [worst_difference(output, golden, manifest) for output in outputs]
    figures: Figures = {"litert": dict(zip(BATCHES, differences, strict=True))}
    return figures, _too_far(figures, tolerance_of(manifest))


def plan_saved_models(path: Path, manifest: Manifest, probe: Path | None) -> list[Plan]:
    """Lists what has to be run of the SavedModel."""
    plans = [(path, signature, b) for signature in _ROWS for b in BATCHES]
    plans += [(path, "generate_png", 5)] if manifest.kind == "image" else []
    return plans + ([(probe, "serving_default", b) for b in PROBE_BATCHES] if probe else [])


def compare_saved_models(
    path: Path, manifest: Manifest, plans: list[Plan], outputs: list[dict[str, np.ndarray]]
) -> tuple[Figures, list[str]]:
    """Compares what the planned runs of a bundle gave; as `measure`."""
    figures: Figures = {}
    problems = []
    for (folder, signature, batch), output in zip(plans, outputs, strict=True):
        golden = load_golden(folder)
        if signature == "generate_png":
            problems += _check_pictures(output["png_bytes"], golden["samples"], manifest)
        else:
            row = _ROWS[signature] + ("" if folder == path else _PROBE)
            figures.setdefault(row, {})[batch] = worst_difference(output, golden, manifest)
    return figures, problems + _too_far(figures, tolerance_of(manifest))


def _too_far(figures: Figures, tolerance: float) -> list[str]:
    """Says which runtimes do not reproduce the samples."""
    return [
        f"{runtime} must reproduce the samples of Keras within {tolerance:g} of the output range, "
        f"and differs by {value:.3g} at batch {batch}"
        for runtime, by_batch in figures.items()
        for batch, value in by_batch.items()
        if not value <= tolerance
    ]


def worst_difference(
    outputs: dict[str, np.ndarray], golden: dict[str, np.ndarray], manifest: Manifest
) -> float:
    """Gives the largest difference of any output, of samples in units of their declared range."""
    low, high = manifest.value_range or (0.0, 0.0)
    widths = {port["name"]: 0.0 for port in manifest.outputs} | {"samples": high - low}
    if outputs.keys() != widths.keys():
        return float("inf")
    return max(difference(outputs[name], golden[name], width) for name, width in widths.items())


def difference(output: np.ndarray, golden: np.ndarray, width: float = 0.0) -> float:
    """Gives the largest absolute difference, relative to the range of the output.

    That is the declared width, or what the golden values span or reach where it is more:
    float32 has a relative precision, and samples of r3gan or points have no bounds.
    """
    return float(np.abs(_relative(output, golden, width)).max())


def _relative(output: np.ndarray, golden: np.ndarray, width: float) -> np.ndarray:
    expected = golden[np.resize(np.arange(len(golden)), len(output))]
    if output.shape != expected.shape or not np.isfinite(output).all():
        return np.array(np.inf)
    values = golden.astype(np.float64)
    scale = max(width, float(np.ptp(values)), float(np.abs(values).max())) or 1.0
    return (output.astype(np.float64) - expected) / scale


def _load(file: str | Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def run_onnx(bundle: Path, batch: int, manifest: Manifest) -> float:
    """Gives the difference between onnxruntime and the golden samples."""
    golden = load_golden(bundle)
    return worst_difference(_run_golden(bundle / "model.onnx", golden, batch), golden, manifest)


def deviations(bundle: Path, model: Path, batch: int, manifest: Manifest) -> tuple[float, float]:
    """Gives the largest and the root mean square difference of a model to the golden samples.

    Both are relative, as in `worst_difference`; of several outputs, of the worst.
    """
    golden = load_golden(bundle)
    outputs = _run_golden(model, golden, batch)
    low, high = manifest.value_range or (0.0, 0.0)
    squares = [
        np.mean(_relative(value, golden[name], (high - low) * (name == "samples")) ** 2)
        for name, value in outputs.items()
    ]
    return worst_difference(outputs, golden, manifest), float(np.sqrt(max(squares)))


def _run_golden(model: Path, golden: dict[str, np.ndarray], batch: int) -> dict[str, np.ndarray]:
    session = open_session(str(model))
    rows = np.resize(np.arange(len(golden["seeds"])), batch)
    feeds = {port.name: golden[port.name][rows] for port in session.get_inputs()}
    names = [port.name for port in session.get_outputs()]
    return {name: np.asarray(x) for name, x in zip(names, session.run(names, feeds), strict=True)}


def run_saved_models(name: str, plans: list[Plan]) -> list[dict[str, np.ndarray]]:
    """Runs signatures of SavedModels in one process without Keras.

    Args:
        name: name of the model.
        plans: bundle, signature and batch size of each run.

    Returns:
        The outputs of each run, by name.

    Raises:
        UsageError: the process fails, for example because the SavedModel needs Keras.
    """
    runs = [
        {
            "saved_model": _place(bundle / "saved_model" / name / "1"),
            "inputs": _inputs(bundle),
            "signature": signature,
            "batch": batch,
        }
        for bundle, signature, batch in plans
    ]
    return _run_apart(runs, "A SavedModel")


def _place(path: Path) -> str:
    return str(path.resolve())  # the other process may start elsewhere


def _inputs(bundle: Path) -> str:
    return _place(bundle / GOLDEN)


def _run_apart(runs: list[dict], what: str) -> list[dict[str, np.ndarray]]:
    """Runs models in a process of its own, which a forged one may crash; gives their outputs."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [os.path.join(folder, f"{number}.npz") for number in range(len(runs))]
        runs = [run | {"output": output} for run, output in zip(runs, outputs, strict=True)]
        job = Path(folder, "job.json")
        job.write_text(json.dumps(runs), encoding="utf-8")
        _run_without_keras(job, what)
        return [_load(output) for output in outputs]


def _run_without_keras(job_file: Path, what: str) -> None:
    # No GPU: kernels in TF32 differ by more than the tolerance, and the GPU may be in use.
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-P", str(_PROGRAM), str(job_file)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"{what} must run its samples in {_TIMEOUT} s. Received: no answer"
        ) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(
            f"{what} must load and run in TensorFlow without Keras. "
            f"Received: exit status {done.returncode}, {last[:300]}"
        )


def check_onnx(path: Path, manifest: Manifest) -> list[str]:
    """Says what is wrong with an ONNX file of a bundle: a line, or none."""
    try:
        # By its path, and without the weights that are outside: it may be of any size.
        onnx.checker.check_model(str(path), full_check=True)
        model = onnx.load(path, load_external_data=False)
        found = [_describe_port(value) for value in (*model.graph.input, *model.graph.output)]
    except Exception as error:  # onnx has a class for each failure
        return [f"{path.name} is not valid: {one_line(error)}"]
    promised = [*manifest.inputs, *manifest.outputs]
    if found != promised:
        return [f"{path.name} must have the inputs and outputs of {FILE_NAME}: it has {found}"]
    return []


def _describe_port(value: onnx.ValueInfoProto) -> dict:
    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    shape = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
    return {"name": value.name, "dtype": dtype, "shape": shape}


def _check_pictures(pictures: np.ndarray, samples: np.ndarray, manifest: Manifest) -> list[str]:
    low, high = manifest.value_range or (-1.0, 1.0)
    expected = np.clip(np.rint((samples - low) / (high - low) * 255.0), 0, 255)[: len(pictures)]
    # The smallest difference can move a value over a rounding boundary, by one step.
    if pictures.shape != expected.shape or np.abs(pictures - expected).max() > 1:
        return ["generate_png must give the pictures of the golden samples, and gives others"]
    return []
