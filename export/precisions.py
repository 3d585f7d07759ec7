"""The model of a bundle in other precisions: made, measured, and refused where they do not pay."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import onnx

from export import speed
from export.fidelity import Fidelity, inputs_of
from export.manifest import PRECISIONS, Manifest
from export.quantize import to_int8
from export.tensor_ranges import calibration_feeds, tensor_ranges
from export.to_float16 import MOST_DIFFERENCE, to_float16
from export.to_onnx import DATA_SUFFIX
from export.verify import BATCHES, check_onnx, deviations
from keras_gan import UsageError

Tell = Callable[[str], None]


def parse_precisions(precision: str | Iterable[str]) -> tuple[str, ...]:
    """Reads names of precisions, one by one or with commas between, each once.

    Raises:
        UsageError: there is no such precision.
    """
    given = [precision] if isinstance(precision, str) else list(precision)
    names = [name.strip() for text in given for name in str(text).split(",")]
    for name in names:
        if name not in PRECISIONS:
            raise UsageError(
                f"precision must be of {', '.join(PRECISIONS)}; float32 is always there. "
                f"Received: precision={name!r}"
            )
    return tuple(name for name in PRECISIONS if name in names)


def write_precisions(
    folder: Path, manifest: Manifest, wanted: Iterable[str], tell: Tell
) -> dict[str, dict[str, Any]]:
    """Writes a model beside `model.onnx` for each precision; gives what the manifest says of each.

    Args:
        folder: the bundle, with its ONNX model and golden samples.
        manifest: of the bundle, files not needed.
        wanted: names of `PRECISIONS`.
        tell: called with a line of text before each step.

    Raises:
        UsageError: a precision that this generator does not have, with the reason.
    """
    wanted = list(wanted)
    if not wanted:
        return {}
    if (folder / ("model.onnx" + DATA_SUFFIX)).exists():
        raise UsageError(
            "A precision other than float32 is for models of up to 2 GB. "
            f"Received: precision={wanted[0]!r}"
        )
    model = onnx.load(folder / "model.onnx")
    tell("Drawing samples in float32, to compare with")
    fidelity = Fidelity(manifest, model)
    return {name: _write(name, folder, manifest, model, fidelity, tell) for name in wanted}


def _write(
    name: str,
    folder: Path,
    manifest: Manifest,
    model: onnx.ModelProto,
    fidelity: Fidelity,
    tell: Tell,
) -> dict[str, Any]:
    tell(f"Making {name}")
    made, record = _MAKERS[name](manifest, model, fidelity, tell)
    onnx.helper.set_model_props(
        made, {prop.key: prop.value for prop in model.metadata_props} | {"precision": name}
    )
    path = folder / PRECISIONS[name]
    onnx.save(made, path)
    if problems := check_onnx(path, manifest):
        raise UsageError(f"A model in {name} must be valid. Received: {problems[0]}")
    by_batch = {str(batch): deviations(folder, path, batch, manifest) for batch in BATCHES}
    worst = max(largest for largest, _ in by_batch.values())
    if not worst < float("inf") or (name == "float16" and worst > MOST_DIFFERENCE):
        raise UsageError(
            f"{name} must give finite samples, in float16 within {MOST_DIFFERENCE:.0%} of the "
            f"output range. Received: a largest difference of {worst:.3g}"
        )
    return {
        "measure": "difference to Keras, over the output range",
        "max": {batch: largest for batch, (largest, _) in by_batch.items()},
        "rms": {batch: mean for batch, (_, mean) in by_batch.items()},
        **record,
    }


Made = tuple[onnx.ModelProto, dict[str, Any]]


def _float16(manifest: Manifest, model: onnx.ModelProto, fidelity: Fidelity, tell: Tell) -> Made:
    feeds = calibration_feeds(lambda seeds: inputs_of(manifest, seeds))
    made = to_float16(model, tensor_ranges(model, feeds))
    ratio = speed.times_as_fast(made, model, inputs_of(manifest, range(speed.BATCH)))
    record = {"frechet": fidelity.describe(fidelity.change(made)), "speed": _speed(ratio)}
    return made, record


def _int8(manifest: Manifest, model: onnx.ModelProto, fidelity: Fidelity, tell: Tell) -> Made:
    inputs = inputs_of(manifest, range(speed.BATCH))
    found = to_int8(
        model,
        list(calibration_feeds(lambda seeds: inputs_of(manifest, seeds))),
        change=fidelity.change,
        speedup=lambda made: speed.times_as_fast(made, model, inputs),
        tell=tell,
    )
    record = {
        "frechet": fidelity.describe(found.change),
        "speed": _speed(found.speedup),
        "int8": list(found.int8),
        "float32": list(found.float32),
    }
    return found.model, record


_MAKERS: dict[str, Callable[[Manifest, onnx.ModelProto, Fidelity, Tell], Made]] = {
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
    """Gives a line for people on each precision of a bundle."""
    lines = []
    for name, record in manifest.parity.get("precisions", {}).items():
        ratio = record["speed"]["times_as_fast"]
        pace = f"{ratio:.2f} times as fast as float32 at batch {record['speed']['batch']}"
        if name == "float16":
            slower = f"takes {1 / ratio:.2f} times as long as float32 on this CPU"
            pace = f"for GPUs; it {slower}" if ratio < 1 else f"for GPUs; {pace} on this CPU"
        stayed = record.get("float32", [])
        kept = f"; in float32 stayed {', '.join(stayed)}" if stayed else ""
        lines.append(
            f"{name}: {pace}, Frechet distance {record['frechet']['change']:+.2%}, from Keras at "
            f"most {max(record['max'].values()):.1e} and RMS {max(record['rms'].values()):.1e} of "
            f"the range{kept}"
        )
    return lines
