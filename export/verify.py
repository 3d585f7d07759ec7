"""Verification of a bundle: its files, then its models against the golden samples."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import onnx

from export import formats, second_graphs
from export.encoders import encoder_of
from export.errors import one_line
from export.files import sha256, walk
from export.golden import FILE_NAME as GOLDEN
from export.golden import FILES, check_golden, golden_files, load_golden, rows_of
from export.isolated import absolute, run_isolated
from export.manifest import REDUCED_PRECISIONS, Manifest
from export.second_graphs import Figures
from export.to_onnx import open_session
from keras_gan import UsageError
from serving.manifest import FILE_NAME, MODEL

BATCHES = (1, 5, 64)
PROBE_BATCHES = (1, 5)
TOLERANCE = 1e-5
MAX_TOLERANCE = 1e-3
# Another CPU rounds differently before it reduces to 8 or 16 bits, so samples differ a little more.
ALLOWANCE = {"max": 2.0, "rms": 1.5}
MEASURE = "max abs difference to Keras, over the output range"
_SHOWN = 10
_ROWS = {"serving_default": "saved_model", "generate": "saved_model generate"}
PROBE = ", random statistics"
OTHER = ", other sizes"


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of verifying a bundle.

    Args:
        path: the bundle.
        figures: largest difference to the golden samples, by runtime and batch size.
        problems: one line for each problem.
        tolerance: largest difference that is accepted.
        not_run: why a file in another format was not run, by the name of the format.
    """

    path: Path
    figures: dict[str, dict[int, float]]
    problems: tuple[str, ...]
    tolerance: float = TOLERANCE
    not_run: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True if no problem was found."""
        return not self.problems

    def __str__(self) -> str:
        lines = [f"{self.path}: {'ok' if self.ok else 'NOT OK'}"]
        for runtime, by_batch in self.figures.items():
            row = "  ".join(f"batch {batch}: {value:.1e}" for batch, value in by_batch.items())
            lines.append(f"  {runtime:<31} {row}")
        lines += [f"  {name:<31} not run: {reason}" for name, reason in self.not_run.items()]
        lines += [f"  problem: {problem}" for problem in self.problems[:_SHOWN]]
        if more := len(self.problems[_SHOWN:]):
            lines.append(f"  and {more} more")
        return "\n".join(lines)


def verify_bundle(path: str | Path) -> Report:
    """Verifies a bundle: schema, checksums, and every runtime against `golden.npz`.

    The SavedModel runs in a separate process that never imports Keras, as in a server.

    Args:
        path: the bundle's folder.

    Returns:
        A report with `ok`, `figures` and `problems`; it prints as a small table.

    Raises:
        UsageError: the folder is not a bundle, or its manifest is damaged or of an unknown schema.
    """
    path = Path(path)
    manifest = Manifest.load(path)
    problems = check_files(path, manifest) or check_golden(path, manifest)
    if problems:
        return Report(path, {}, tuple(problems))  # a changed file is never run
    figures, problems = measure(path, manifest)
    not_run = manifest.parity.get("not_run", {})
    return Report(path, figures, tuple(problems), tolerance_of(manifest), not_run)


def check_files(path: Path, manifest: Manifest) -> list[str]:
    """Compares the files of a bundle with its manifest; returns a line for each problem."""
    required = {MODEL, *golden_files(manifest), f"saved_model/{manifest.name}/1/saved_model.pb"}
    required |= {graph.file for graph in second_graphs.find(manifest)}
    measured = manifest.parity.get("precisions", {})
    required |= {REDUCED_PRECISIONS[name] for name in measured}
    problems = [f"{name} is not in {FILE_NAME}" for name in sorted(required - set(manifest.files))]
    problems += [
        f"{file} must have its figures in {FILE_NAME}"
        for name, file in REDUCED_PRECISIONS.items()
        if file in manifest.files and name not in measured
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
    irregular = sorted(name for name, plain in found.items() if not plain)
    problems += [f"{name!r} is a link, not a regular file" for name in irregular]
    extra = sorted(found.keys() - manifest.files.keys() - {FILE_NAME, *irregular})
    return problems + [f"{name!r} is not in {FILE_NAME}" for name in extra]


def measure(
    path: Path, manifest: Manifest, probe: Path | None = None
) -> tuple[dict[str, dict[int, float]], list[str]]:
    """Runs every runtime on the golden seeds; returns the differences and the problems.

    Args:
        path: the bundle.
        manifest: its manifest.
        probe: models and golden samples of the same network with random batch statistics.
    """
    figures, problems = compare_onnx(path, manifest, probe)
    if not figures:
        return figures, problems
    if manifest.parity.get("precisions"):
        more, found = compare_precisions(path, manifest)
        figures, problems = figures | more, problems + found
    more, found = compare_formats(path, manifest)
    figures, problems = figures | more, problems + found
    for graph in second_graphs.find(manifest):
        more, found = graph.compare(path, manifest, tolerance_of(manifest))
        figures, problems = figures | more, problems + found
    plans = plan_saved_models(path, manifest, probe)
    try:
        outputs = run_saved_models(manifest.name, plans)
    except UsageError as error:
        return figures, [*problems, str(error)]
    more, found = compare_saved_models(path, manifest, plans, outputs)
    return figures | more, problems + found


def tolerance_of(manifest: Manifest) -> float:
    """Returns the largest accepted difference: 1e-5, or the tolerance that the export measured."""
    tolerance = manifest.parity.get("tolerance")
    if isinstance(tolerance, int | float) and tolerance > TOLERANCE:
        return min(float(tolerance), MAX_TOLERANCE)
    return TOLERANCE


class SavedModelRun(NamedTuple):
    """One run of a SavedModel.

    Args:
        bundle: folder of the bundle.
        signature: name of the signature.
        batch: number of samples.
        golden: file of the inputs.
    """

    bundle: Path
    signature: str
    batch: int
    golden: str = GOLDEN


def compare_onnx(path: Path, manifest: Manifest, probe: Path | None) -> tuple[Figures, list[str]]:
    """Measures the ONNX model if it is valid; returns what `measure` does."""
    if problems := check_onnx(path / MODEL, manifest):
        return {}, problems
    try:
        figures = {
            "onnx" + _suffix(file): {b: run_onnx(path, b, manifest, file) for b in BATCHES}
            for file in golden_files(manifest)
        }
        if probe:
            figures["onnx" + PROBE] = {b: run_onnx(probe, b, manifest) for b in PROBE_BATCHES}
    except Exception as error:  # onnxruntime raises a class for each failure
        return {}, [f"{MODEL} must load and run in onnxruntime: {one_line(error)}"]
    return figures, _deviating(figures, tolerance_of(manifest))


def compare_precisions(path: Path, manifest: Manifest) -> tuple[Figures, list[str]]:
    """Compares the models in other precisions with their figures in the manifest."""
    figures: Figures = {}
    problems: list[str] = []
    for name, record in manifest.parity["precisions"].items():
        file = path / REDUCED_PRECISIONS[name]
        if found := check_onnx(file, manifest):
            problems += found
            continue
        try:
            measured = {batch: deviations(path, file, batch, manifest) for batch in BATCHES}
        except Exception as error:  # onnxruntime raises a class for each failure
            problems.append(f"{file.name} must load and run in onnxruntime: {one_line(error)}")
            continue
        figures[f"onnx {name}"] = {batch: largest for batch, (largest, _) in measured.items()}
        problems += [
            f"{file.name} must differ from Keras by what {FILE_NAME} states, {kind} {stated:.3g}: "
            f"it differs by {value:.3g} at batch {batch}"
            for batch, pair in measured.items()
            for kind, value in zip(("max", "rms"), pair, strict=True)
            for stated in [float(record[kind].get(str(batch), 0.0))]
            if not value <= ALLOWANCE[kind] * stated + TOLERANCE
        ]
    return figures, problems


def compare_formats(path: Path, manifest: Manifest) -> tuple[Figures, list[str]]:
    """Compares the additional formats of a bundle, each by its own `run`."""
    figures: Figures = {}
    problems: list[str] = []
    for name in formats.names():
        form = formats.get(name)
        if hasattr(form, "run") and (path / form.FILE_NAME).is_file():
            found, more = _compare_format(path, manifest, name, form)
            figures, problems = figures | found, problems + more
    return figures, problems


def _compare_format(
    path: Path, manifest: Manifest, name: str, form: ModuleType
) -> tuple[Figures, list[str]]:
    plans = [(file, batch) for file in golden_files(manifest) for batch in BATCHES]
    golden = {file: load_golden(path, file) for file in golden_files(manifest)}
    inputs = [
        {
            port.name: golden[file][port.name][rows_of(golden[file], batch)]
            for port in manifest.inputs
        }
        for file, batch in plans
    ]
    try:
        outputs = form.run(path / form.FILE_NAME, inputs)
    except UsageError as error:
        return {}, [str(error)]
    except Exception as error:  # a format's own runtime raises anything
        return {}, [
            f"{form.FILE_NAME} must load and run: {type(error).__name__}, {one_line(error)}"
        ]
    if len(outputs) != len(plans):
        return {}, [f"{form.FILE_NAME} must return an output for each of {len(plans)} batches"]
    figures: Figures = {}
    for (file, batch), output in zip(plans, outputs, strict=True):
        by_batch = figures.setdefault(name + _suffix(file), {})
        by_batch[batch] = worst_difference(output, golden[file], manifest)
    return figures, _deviating(figures, tolerance_of(manifest))


def plan_saved_models(path: Path, manifest: Manifest, probe: Path | None) -> list[SavedModelRun]:
    """Lists the runs of the SavedModel that `compare_saved_models` compares."""
    files = golden_files(manifest)
    plans = [SavedModelRun(path, s, b, file) for file in files for s in _ROWS for b in BATCHES]
    if encoder := encoder_of(manifest.first):
        plans += [SavedModelRun(path, encoder.signature, 5, file) for file in files]
    if probe:
        plans += [SavedModelRun(probe, "serving_default", b) for b in PROBE_BATCHES]
    return plans


def compare_saved_models(
    path: Path, manifest: Manifest, plans: list[SavedModelRun], outputs: list[dict[str, np.ndarray]]
) -> tuple[Figures, list[str]]:
    """Compares the outputs of the planned runs; returns what `measure` does."""
    figures: Figures = {}
    problems = []
    for (folder, signature, batch, file), output in zip(plans, outputs, strict=True):
        golden = load_golden(folder, file)
        if signature in _ROWS:
            row = _ROWS[signature] + ("" if folder == path else PROBE) + _suffix(file)
            figures.setdefault(row, {})[batch] = worst_difference(output, golden, manifest)
        else:
            problems += _check_files_of(signature, output, golden, batch, manifest)
    return figures, problems + _deviating(figures, tolerance_of(manifest))


def _suffix(golden: str) -> str:
    number = FILES.index(golden)
    return "" if number == 0 else OTHER if number == 1 else f"{OTHER} {number}"


def golden_of(runtime: str) -> str:
    """Returns the golden file of a row of figures, by the row's name."""
    named = (file for file in FILES[1:] if runtime.endswith(_suffix(file)))
    return next(named, GOLDEN)


def _deviating(figures: Figures, tolerance: float) -> list[str]:
    """Lists the runtimes that do not reproduce the samples, a line for each."""
    return [
        f"{runtime} must reproduce the samples of Keras within {tolerance:g} of the output range: "
        f"it differs by {value:.3g} at batch {batch}"
        for runtime, by_batch in figures.items()
        for batch, value in by_batch.items()
        if not value <= tolerance
    ]


def worst_difference(
    outputs: dict[str, np.ndarray], golden: dict[str, np.ndarray], manifest: Manifest
) -> float:
    """Returns the largest difference of any output, in units of its declared range."""
    widths = _widths(manifest)
    if outputs.keys() != widths.keys():
        return float("inf")
    return max(difference(outputs[name], golden[name], width) for name, width in widths.items())


def _widths(manifest: Manifest) -> dict[str, float]:
    """Returns the width of the declared range of each output, 0 where it has none."""
    ranges = {port.name: port.meta.get("value_range") or (0.0, 0.0) for port in manifest.outputs}
    return {name: float(high - low) for name, (low, high) in ranges.items()}


def difference(output: np.ndarray, golden: np.ndarray, width: float = 0.0) -> float:
    """Returns the largest absolute difference, relative to the range of the output.

    The range is the declared width, or the span or largest magnitude of the golden values where
    that is more: float32 has a relative precision, and samples of r3gan or points are unbounded.
    """
    return float(np.abs(_relative(output, golden, width)).max())


def _relative(output: np.ndarray, golden: np.ndarray, width: float) -> np.ndarray:
    expected = golden[np.resize(np.arange(len(golden)), len(output))]
    if output.shape != expected.shape or not np.isfinite(output).all():
        return np.array(np.inf)
    values = golden.astype(np.float64)
    scale = max(width, float(np.ptp(values)), float(np.abs(values).max())) or 1.0
    return (output.astype(np.float64) - expected) / scale


def run_onnx(bundle: Path, batch: int, manifest: Manifest, file: str = GOLDEN) -> float:
    """Returns the difference between onnxruntime and the golden samples."""
    golden = load_golden(bundle, file)
    return worst_difference(_run_golden(bundle / MODEL, golden, batch), golden, manifest)


def deviations(bundle: Path, model: Path, batch: int, manifest: Manifest) -> tuple[float, float]:
    """Returns the largest and the root mean square difference of a model to the golden samples.

    Both are relative, as in `worst_difference`, and those of the worst output.
    """
    golden = load_golden(bundle)
    outputs = _run_golden(model, golden, batch)
    widths = _widths(manifest)
    squares = [
        np.mean(_relative(value, golden[name], widths[name]) ** 2)
        for name, value in outputs.items()
    ]
    return worst_difference(outputs, golden, manifest), float(np.sqrt(max(squares)))


def _run_golden(model: Path, golden: dict[str, np.ndarray], batch: int) -> dict[str, np.ndarray]:
    session = open_session(str(model))
    rows = rows_of(golden, batch)
    feeds = {port.name: golden[port.name][rows] for port in session.get_inputs()}
    names = [port.name for port in session.get_outputs()]
    return {name: np.asarray(x) for name, x in zip(names, session.run(names, feeds), strict=True)}


def run_saved_models(name: str, plans: list[SavedModelRun]) -> list[dict[str, np.ndarray]]:
    """Runs signatures of SavedModels in one separate process without Keras.

    Args:
        name: name of the model.
        plans: the runs.

    Returns:
        The outputs of each run, by name.

    Raises:
        UsageError: the process fails, for example because the SavedModel needs Keras.
    """
    runs = [
        {
            "saved_model": absolute(bundle / "saved_model" / name / "1"),
            "inputs": absolute(bundle / golden),
            "signature": signature,
            "batch": batch,
        }
        for bundle, signature, batch, golden in plans
    ]
    return run_isolated(runs, "A SavedModel")


def check_onnx(path: Path, manifest: Manifest) -> list[str]:
    """Checks an ONNX file of a bundle; returns at most one line that describes a problem."""
    try:
        # By its path and without external weights, because the model may be of any size.
        onnx.checker.check_model(str(path), full_check=True)
        model = onnx.load(path, load_external_data=False)
        found = [_describe_port(value) for value in (*model.graph.input, *model.graph.output)]
    except Exception as error:  # onnx raises a class for each failure
        return [f"{path.name} is not valid: {one_line(error)}"]
    promised = [
        {"name": port.name, "dtype": port.dtype, "shape": ["batch", *port.shape]}
        for port in (*manifest.inputs, *manifest.outputs)
    ]
    if found != promised:
        return [f"{path.name} must have the inputs and outputs of {FILE_NAME}: it has {found}"]
    return []


def _describe_port(value: onnx.ValueInfoProto) -> dict:
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return {"name": value.name, "dtype": dtype, "shape": shape}


def _check_files_of(
    signature: str,
    output: dict[str, np.ndarray],
    golden: dict[str, np.ndarray],
    batch: int,
    manifest: Manifest,
) -> list[str]:
    """Compares the files that a signature returns with the golden samples."""
    encoder = encoder_of(manifest.first)
    samples = golden[manifest.first.name][rows_of(golden, batch)]
    if encoder and encoder.matches(output[encoder.output], samples, manifest.first):
        return []
    return [f"{signature} must return the files of the golden samples, and returns others"]
