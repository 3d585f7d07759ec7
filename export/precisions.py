"""Models in reduced precision: converted, measured, and refused where they bring no benefit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import onnx

from export import speed
from export.errors import writing
from export.fidelity import Fidelity, inputs_of
from export.manifest import REDUCED_PRECISIONS, Manifest
from export.quantize import to_int8
from export.tensor_ranges import calibration_feeds, tensor_ranges
from export.to_float16 import MOST_DIFFERENCE, to_float16
from export.to_onnx import DATA_SUFFIX
from export.verify import BATCHES, check_onnx, deviations
from keras_gan import UsageError
from serving.lists import parse_list

Progress = Callable[[str], None]  # called with a line of text before each step


def parse_precisions(precision: str | Iterable[str]) -> tuple[str, ...]:
    """Returns the names of precisions, given one by one or separated by commas, without repeats.

    Raises:
        UsageError: an unknown precision.
    """
    given = [precision] if isinstance(precision, str) else list(precision)
    names = [name for text in given for name in parse_list(str(text))]
    for name in names:
        if name not in REDUCED_PRECISIONS:
            raise UsageError(
                f"precision must be of {', '.join(REDUCED_PRECISIONS)}; float32 is always there. "
                f"Received: precision={name!r}"
            )
    return tuple(name for name in REDUCED_PRECISIONS if name in names)


def write_precisions(
    folder: Path, manifest: Manifest, wanted: Iterable[str], progress: Progress
) -> dict[str, dict[str, Any]]:
    """Writes a model beside `model.onnx` for each precision; returns their manifest records.

    Args:
        folder: the bundle, with its ONNX model and golden samples.
        manifest: manifest of the bundle; its files are not needed.
        wanted: names of `REDUCED_PRECISIONS`.
        progress: called with a line of text before each step.

    Raises:
        UsageError: a precision that this network does not support, with the reason.
    """
    wanted = list(wanted)
    if not wanted:
        return {}
    if (folder / ("model.onnx" + DATA_SUFFIX)).exists():
        raise UsageError(
            "A precision other than float32 is limited to models of up to 2 GB. "
            f"Received: precision={wanted[0]!r}"
        )
    model = onnx.load(folder / "model.onnx")
    progress("Generating float32 samples for comparison")
    fidelity = Fidelity(manifest, model)
    return {name: _write(name, folder, manifest, model, fidelity, progress) for name in wanted}


def _write(
    name: str,
    folder: Path,
    manifest: Manifest,
    model: onnx.ModelProto,
    fidelity: Fidelity,
    progress: Progress,
) -> dict[str, Any]:
    progress(f"Converting to {name}")
    converted, record = _CONVERTERS[name](manifest, model, fidelity, progress)
    onnx.helper.set_model_props(
        converted, {prop.key: prop.value for prop in model.metadata_props} | {"precision": name}
    )
    path = folder / REDUCED_PRECISIONS[name]
    with writing(path):
        onnx.save(converted, path)
    if problems := check_onnx(path, manifest):
        raise UsageError(f"A model in {name} must be valid. Received: {problems[0]}")
    by_batch = {str(batch): deviations(folder, path, batch, manifest) for batch in BATCHES}
    worst = max(largest for largest, _ in by_batch.values())
    if not worst < float("inf") or (name == "float16" and worst > MOST_DIFFERENCE):
        raise UsageError(
            f"{name} must return finite samples, in float16 within {MOST_DIFFERENCE:.0%} of the "
            f"output range. Received: a largest difference of {worst:.3g}"
        )
    return {
        "measure": "difference to Keras, over the output range",
        "max": {batch: largest for batch, (largest, _) in by_batch.items()},
        "rms": {batch: mean for batch, (_, mean) in by_batch.items()},
        **record,
    }


Converted = tuple[onnx.ModelProto, dict[str, Any]]


def _float16(
    manifest: Manifest, model: onnx.ModelProto, fidelity: Fidelity, progress: Progress
) -> Converted:
    feeds = calibration_feeds(lambda seeds: inputs_of(manifest, seeds))
    converted = to_float16(model, tensor_ranges(model, feeds))
    ratio = speed.times_as_fast(converted, model, inputs_of(manifest, range(speed.BATCH)))
    record = {"frechet": fidelity.describe(fidelity.change(converted)), "speed": _speed(ratio)}
    return converted, record


def _int8(
    manifest: Manifest, model: onnx.ModelProto, fidelity: Fidelity, progress: Progress
) -> Converted:
    inputs = inputs_of(manifest, range(speed.BATCH))
    result = to_int8(
        model,
        list(calibration_feeds(lambda seeds: inputs_of(manifest, seeds))),
        change=fidelity.change,
        speedup=lambda candidate: speed.times_as_fast(candidate, model, inputs),
        progress=progress,
    )
    record = {
        "frechet": fidelity.describe(result.change),
        "speed": _speed(result.speedup),
        "int8": list(result.int8),
        "float32": list(result.float32),
    }
    return result.model, record


_CONVERTERS: dict[str, Callable[[Manifest, onnx.ModelProto, Fidelity, Progress], Converted]] = {
    "float16": _float16,
    "int8": _int8,
}


def _speed(ratio: float) -> dict[str, Any]:
    return {
        "times_as_fast": ratio,
        "as": "model.onnx, onnxruntime, one thread of the CPU that exported",
        "batch": speed.BATCH,
    }


def summarize(manifest: Manifest) -> list[str]:
    """Returns a line of text on each reduced precision of a bundle."""
    lines = []
    for name, record in manifest.parity.get("precisions", {}).items():
        ratio = record["speed"]["times_as_fast"]
        pace = f"{ratio:.2f} times as fast as float32 at batch {record['speed']['batch']}"
        if name == "float16":
            slower = f"takes {1 / ratio:.2f} times as long as float32 on this CPU"
            pace = f"for GPUs; it {slower}" if ratio < 1 else f"for GPUs; {pace} on this CPU"
        kept = record.get("float32", [])
        rest = f"; kept in float32: {', '.join(kept)}" if kept else ""
        lines.append(
            f"{name}: {pace}, Frechet distance {record['frechet']['change']:+.2%}, difference to "
            f"Keras at most {max(record['max'].values()):.1e} and RMS "
            f"{max(record['rms'].values()):.1e} of the range{rest}"
        )
    return lines
