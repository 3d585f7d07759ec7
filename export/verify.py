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

from export import without_keras
from export.generator import one_line
from export.golden import check_golden, load_golden
from export.manifest import FILE_NAME, Manifest, sha256, walk
from export.to_litert import FILE_NAME as LITERT
from export.to_litert import run_litert
from export.to_onnx import open_session
from keras_gan import UsageError

BATCHES = (1, 5, 64)
PROBE_BATCHES = (1, 5)
TOLERANCE = 1e-4
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
    return Report(path, figures, tuple(problems))


def check_files(path: Path, manifest: Manifest) -> list[str]:
    """Compares the files of a bundle with its manifest; gives a line for each that differs."""
    required = {"model.onnx", "golden.npz", f"saved_model/{manifest.name}/1/saved_model.pb"}
    problems = [f"{name} is not in {FILE_NAME}" for name in sorted(required - set(manifest.files))]
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
    plans = [(path, signature, b) for signature in _ROWS for b in BATCHES]
    plans += [(path, "generate_png", 5)] if manifest.kind == "image" else []
    plans += [(probe, "serving_default", b) for b in PROBE_BATCHES] if probe else []
    problems = _check_onnx(path / "model.onnx", manifest)
    if problems:
        return {}, problems
    try:
        figures = {"onnx": {b: run_onnx(path, b) for b in BATCHES}}
        if probe:
            figures["onnx" + _PROBE] = {b: run_onnx(probe, b) for b in PROBE_BATCHES}
    except Exception as error:  # onnxruntime has a class for each failure
        return {}, [f"model.onnx must load and run in onnxruntime: {one_line(error)}"]
    if (path / LITERT).is_file():
        try:
            figures["litert"] = {b: _run_litert(path, b) for b in BATCHES}
        except Exception as error:  # LiteRT's own are RuntimeError and ValueError, and others
            problems.append(f"{LITERT} must load and run in LiteRT: {one_line(error)}")
    try:
        outputs = run_saved_models(manifest.name, plans)
    except UsageError as error:
        return figures, [*problems, str(error)]
    for (folder, signature, batch), output in zip(plans, outputs, strict=True):
        golden = load_golden(folder)["samples"]
        if signature == "generate_png":
            problems += _check_pictures(output, golden, manifest)
        else:
            row = _ROWS[signature] + (_PROBE if folder == probe else "")
            figures.setdefault(row, {})[batch] = difference(output, golden)
    for runtime, by_batch in figures.items():
        problems += [
            _too_far(runtime, batch, value)
            for batch, value in by_batch.items()
            if not value <= TOLERANCE
        ]
    return figures, problems


def _too_far(runtime: str, batch: int, value: float) -> str:
    """Says that a runtime does not reproduce the samples."""
    return (
        f"{runtime} must reproduce the samples of Keras within {TOLERANCE:g}, "
        f"and differs by {value:.3g} at batch {batch}"
    )


def difference(output: np.ndarray, golden: np.ndarray) -> float:
    """Gives the largest absolute difference, relative to the largest value where that is above 1.

    float32 has a relative precision, so 1e-4 can only be asked of values of about 1; samples in
    [-1, 1] give the plain absolute difference.
    """
    expected = golden[np.resize(np.arange(len(golden)), len(output))]
    if output.shape != expected.shape or not np.isfinite(output).all():
        return float("inf")
    scale = max(1.0, float(np.abs(golden).max()))
    return float(np.abs(output.astype(np.float64) - expected).max()) / scale


def run_onnx(bundle: Path, batch: int) -> float:
    """Gives the difference between onnxruntime and the golden samples."""
    session = open_session(str(bundle / "model.onnx"))
    golden = load_golden(bundle)
    rows = np.resize(np.arange(len(golden["seeds"])), batch)
    feeds = {port.name: golden[port.name][rows] for port in session.get_inputs()}
    return difference(np.asarray(session.run(["samples"], feeds)[0]), golden["samples"])


def _run_litert(bundle: Path, batch: int) -> float:
    golden = load_golden(bundle)
    rows = np.resize(np.arange(len(golden["seeds"])), batch)
    inputs = {name: value[rows] for name, value in golden.items()}
    return difference(run_litert(bundle / LITERT, inputs), golden["samples"])


def run_saved_models(name: str, plans: list[tuple[Path, str, int]]) -> list[np.ndarray]:
    """Runs signatures of SavedModels in one process without Keras.

    Args:
        name: name of the model.
        plans: bundle, signature and batch size of each run.

    Raises:
        UsageError: the process fails, for example because the SavedModel needs Keras.
    """
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            {
                "saved_model": str((bundle / "saved_model" / name / "1").resolve()),
                "inputs": str((bundle / "golden.npz").resolve()),
                "signature": signature,
                "batch": batch,
                "output": os.path.join(folder, f"{number}.npy"),
            }
            for number, (bundle, signature, batch) in enumerate(plans)
        ]
        job = Path(folder, "job.json")
        job.write_text(json.dumps(runs), encoding="utf-8")
        _run_without_keras(job)
        return [np.load(run["output"]) for run in runs]


def _run_without_keras(job_file: Path) -> None:
    # No GPU: kernels in TF32 differ by more than the tolerance, and the GPU may be in use.
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-P", without_keras.__file__, str(job_file)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"A SavedModel must run its samples in {_TIMEOUT} s. Received: no answer"
        ) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(
            "A SavedModel must load and run in TensorFlow without Keras. "
            f"Received: exit status {done.returncode}, {last[:300]}"
        )


def _check_onnx(path: Path, manifest: Manifest) -> list[str]:
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        found = [_describe_port(value) for value in (*model.graph.input, *model.graph.output)]
    except Exception as error:  # onnx has a class for each failure
        return [f"model.onnx is not valid: {one_line(error)}"]
    promised = [*manifest.inputs, *manifest.outputs]
    if found != promised:
        return [f"model.onnx must have the inputs and outputs of {FILE_NAME}: it has {found}"]
    facts = {
        "latent_dim": (manifest.latent_dim, found[0]["shape"][1]),
        "shape": (list(manifest.shape), found[-1]["shape"][1:]),
        "classes": (manifest.classes["count"] > 0, len(model.graph.input) > 1),
    }
    return [
        f"{FILE_NAME} must describe model.onnx. Received: {field} of another model"
        for field, (told, true) in facts.items()
        if told != true
    ]


def _describe_port(value: onnx.ValueInfoProto) -> dict:
    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    shape = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
    return {"name": value.name, "dtype": dtype, "shape": shape}


def _check_pictures(pictures: np.ndarray, samples: np.ndarray, manifest: Manifest) -> list[str]:
    low, high = manifest.value_range or (-1.0, 1.0)
    expected = np.clip(np.rint((samples - low) / (high - low) * 255.0), 0, 255)[: len(pictures)]
    # A difference of 1e-4 can move a value over a rounding boundary, by one step.
    if pictures.shape != expected.shape or np.abs(pictures - expected).max() > 1:
        return ["generate_png must give the pictures of the golden samples, and gives others"]
    return []
