"""From a generator to a bundle: written beside its place, checked, then moved there."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import tensorflow as tf

from export import versions
from export.card import write_card
from export.generator import (
    Generator,
    one_line,
    open_generator,
    randomized_batch_statistics,
    unchanged,
)
from export.golden import FILE_NAME as GOLDEN
from export.golden import load_golden
from export.manifest import (
    MODEL_NAME,
    NOTICE,
    SEEDS,
    Manifest,
    describe_files,
    plain_json,
    sha256,
    software_versions,
    utc_now,
)
from export.png import provenance_chunks
from export.precisions import parse_precisions, write_precisions
from export.staging import clean, move, staging
from export.tf_serving import write_configuration
from export.to_litert import FILE_NAME as LITERT
from export.to_litert import to_litert
from export.to_onnx import OPSET, save_onnx, to_onnx
from export.to_saved_model import to_saved_model
from export.verify import MAX_TOLERANCE, MEASURE, TOLERANCE, measure, worst_difference
from keras_gan import Spec, UsageError
from keras_gan.latents import labels_from_seeds, latents_from_seeds

# Small seeds, and two that need more than 32 bits.
_GOLDEN_SEEDS = (*range(14), 2**32, 2**63 - 1)
_GOLDEN_BYTES = 64 * 2**20
FORMATS = {"litert"}  # beside SavedModel and ONNX, which every bundle has


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A bundle on disk.

    Args:
        path: its folder.
        manifest: what it holds.
    """

    path: Path
    manifest: Manifest


def export_bundle(
    model: Any,
    to: str | Path,
    *,
    kind: str | None = None,
    name: str | None = None,
    num_classes: int | None = None,
    class_names: Sequence[str] = (),
    value_range: tuple[float, float] | None = None,
    average: bool = True,
    training: dict[str, Any] | None = None,
    license: str | None = None,
    intended_use: str | None = None,
    metadata: bool = True,
    formats: Sequence[str] = (),
    precision: str | Sequence[str] = (),
    opset: int = OPSET,
    overwrite: bool = False,
    version: int | Literal["next"] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Bundle:
    """Exports a generator to a folder that TF Serving, onnxruntime and `serving` read.

    The models are compared with Keras before the folder appears: with random batch statistics,
    then with the real ones. The weights of `model` are the same afterwards, also on failure.

    Args:
        model: a `keras_gan.GAN`, or any built Keras generator that maps latents
            `(batch, latent_dim)`, alone or with labels (ids `(batch,)`, or one-hot) and other
            inputs, to samples and other outputs.
        to: folder to create.
        kind: a kind of `keras_gan.Spec`; by default what the output's shape says: points,
            series, image (1, 3 or 4 channels), video, else array.
        name: name of the model for servers; by default the model's own.
        num_classes: number of classes of a conditional generator; a GAN knows its own.
        class_names: name of each class, in the order of the ids.
        value_range: smallest and largest value of a sample; `(-1, 1)` by default for images
            and video.
        average: of a GAN, export the averaged generator.
        training: anything JSON can hold about the training, kept in the manifest.
        license: license of the weights, kept in the manifest and the model card.
        intended_use: what the model is for, kept there too.
        metadata: let `generate_png` write into its pictures that a model made them, which one
            and from which seed.
        formats: what else to write: `"litert"` for `model.tflite`.
        precision: the ONNX model in other precisions too: `"float16"` for `model.fp16.onnx`, made
            for GPUs, `"int8"` for `model.int8.onnx`, made for CPUs; a name or several.
        opset: ONNX operator set, 13 to 18.
        overwrite: replace a folder that exists, once the new one is verified.
        version: make `to` a folder of versions and add this one, `"next"` for the next number;
            `to/latest` is then a link to the highest.
        progress: called with a line of text before each step.

    Returns:
        The bundle's path and manifest.

    Raises:
        UsageError: a generator that cannot be exported, a target that exists or cannot be
            written, a runtime that differs from Keras by more than 1e-5 of the output range
            and more than rounding explains, a precision that does not pay for this generator.
    """
    tell = progress or (lambda line: None)
    to = Path(to)
    if version is None:
        clean(to)
        _check_target(to, overwrite)
    elif overwrite:
        raise UsageError(f"A version is never replaced. Received: overwrite, version={version!r}")
    if others := sorted(set(formats) - FORMATS):
        raise UsageError(f"formats must be of {sorted(FORMATS)}. Received: {others[0]!r}")
    wanted = parse_precisions(precision)
    tell("Reading the generator")
    generator, draft = open_draft(
        model,
        kind=kind,
        name=name,
        num_classes=num_classes,
        class_names=class_names,
        value_range=value_range,
        average=average,
        training=training,
        license=license,
        intended_use=intended_use,
    )
    if version is not None:
        versions.check_folder(to, version, draft.name)
    beside = to if version is None else versions.stage_beside(to)
    with _temporary_folder(beside) as folder, unchanged(generator.model):
        manifest = _write(generator, folder, draft, opset, metadata, formats, wanted, tell)
        if version is None:
            move(folder, to, overwrite)
        else:
            to = versions.publish(folder, to, version, draft.name)
    tell(f"Wrote {to}")
    return Bundle(to, manifest)


def open_draft(
    model: Any,
    *,
    kind: str | None = None,
    name: str | None = None,
    num_classes: int | None = None,
    class_names: Sequence[str] = (),
    value_range: tuple[float, float] | None = None,
    average: bool = True,
    training: dict[str, Any] | None = None,
    license: str | None = None,
    intended_use: str | None = None,
) -> tuple[Generator, Manifest]:
    """Reads the arguments of `export_bundle`; gives the generator and a manifest without files."""
    told = num_classes or int(getattr(model, "num_classes", 0) or 0) or len(class_names)
    generator = open_generator(model, average=average, num_classes=told)
    classes = _num_classes(model, generator, num_classes, class_names)
    draft = _describe(
        generator,
        spec=_spec(generator, kind, value_range, classes, class_names),
        name=_name(name or generator.model.name),
        training=training,
        license=license,
        intended_use=intended_use,
    )
    return generator, draft


def _write(
    generator: Generator,
    folder: Path,
    draft: Manifest,
    opset: int,
    metadata: bool,
    formats: Sequence[str],
    precisions: Sequence[str],
    tell: Callable,
) -> Manifest:
    """Writes the bundle into a folder and verifies it there."""
    probe = write_models(generator, folder, draft, opset, metadata, tell)
    write_configuration(folder, draft.name)
    if "litert" in formats:
        tell("Writing the LiteRT model")
        to_litert(generator, folder / LITERT)

    tell("Comparing with Keras")
    draft = dataclasses.replace(draft, parity={"tolerance": _tolerance(generator, folder, draft)})
    figures, problems = measure(folder, draft, probe=probe)
    shutil.rmtree(probe or folder / "probe", ignore_errors=True)
    if problems:
        raise UsageError(f"A bundle must pass its own check. Received: {problems[0]}")
    manifest = dataclasses.replace(
        draft,
        parity={
            **draft.parity,
            "measure": MEASURE,
            "figures": {
                runtime: {str(batch): value for batch, value in by_batch.items()}
                for runtime, by_batch in figures.items()
            },
        },
    )
    if precisions:
        records = write_precisions(folder, manifest, precisions, tell)
        manifest = dataclasses.replace(manifest, parity=manifest.parity | {"precisions": records})
    write_card(folder, manifest)
    manifest = dataclasses.replace(manifest, files=describe_files(folder))
    manifest.save(folder)
    Manifest.load(folder)
    return manifest


def _tolerance(generator: Generator, folder: Path, draft: Manifest) -> float:
    """Gives the difference from Keras that is due to rounding, 1e-5 of the output range or more.

    Some generators, with large values before a last tanh for instance, give other samples for
    latents that differ in their last bit. No runtime can be nearer to Keras than Keras to itself:
    another order of summation was measured to cost 1 to 2.5 times that.
    """
    golden = load_golden(folder)
    inputs = {spec.name: golden[spec.name] for spec in generator.input_specs()}
    inputs["latents"] = np.nextafter(inputs["latents"], np.float32(np.inf))
    with tf.device("/CPU:0"):
        outputs = {name: x.numpy() for name, x in generator.run(inputs).items()}
    return float(np.clip(8 * worst_difference(outputs, golden, draft), TOLERANCE, MAX_TOLERANCE))


def write_models(
    generator: Generator,
    folder: Path,
    draft: Manifest,
    opset: int = OPSET,
    metadata: bool = True,
    tell: Callable[[str], None] = lambda line: None,
) -> Path | None:
    """Writes the models and their golden samples, not verified yet.

    Returns:
        The folder of a copy with random batch statistics, `None` where a model has none.
    """
    tell("Converting to ONNX")
    onnx_model = to_onnx(generator, opset)  # first: it is where a generator most often fails
    probe = folder / "probe"
    with randomized_batch_statistics(generator.model) as has_statistics:
        if has_statistics:
            tell("Writing a copy with random batch statistics")
            _write_pair(generator, probe, draft, to_onnx(generator, opset), metadata)
            _write_golden(generator, probe, draft)

    tell("Writing the SavedModel and the ONNX model")
    _write_pair(generator, folder, draft, onnx_model, metadata)
    _write_golden(generator, folder, draft)
    return probe if has_statistics else None


def _write_pair(
    generator: Generator,
    folder: Path,
    draft: Manifest,
    onnx_model: onnx.ModelProto,
    metadata: bool,
) -> None:
    folder.mkdir(exist_ok=True)
    onnx_model.doc_string = f"{draft.name}: latents to samples of kind {draft.kind}. {NOTICE}"
    onnx.helper.set_model_props(
        onnx_model,
        {
            "name": draft.name,
            "kind": draft.kind,
            "latent_dim": str(draft.latent_dim),
            "num_classes": str(draft.classes["count"]),
            "value_range": json.dumps(draft.value_range),
            "seeds": SEEDS,
            "notice": NOTICE,
        },
    )
    save_onnx(onnx_model, folder / "model.onnx")
    digest = sha256(folder / "model.onnx")  # names the model in the pictures of the other
    to_saved_model(
        generator,
        folder / "saved_model" / draft.name / "1",
        name=draft.name,
        value_range=draft.value_range,
        pictures=draft.kind == "image",
        chunks=provenance_chunks(draft.name, digest) if metadata else b"",
    )


def _write_golden(generator: Generator, folder: Path, draft: Manifest) -> None:
    """Writes what every runtime must reproduce, as Keras computes it on the CPU."""
    sample_bytes = sum(4 * math.prod(spec.shape[1:]) for spec in generator.output_specs)
    count = min(len(_GOLDEN_SEEDS), max(2, _GOLDEN_BYTES // sample_bytes))
    seeds = np.array(_GOLDEN_SEEDS[-count:], np.int64)
    inputs = {"latents": latents_from_seeds(seeds, draft.latent_dim).numpy()}
    if generator.conditional:
        inputs["labels"] = labels_from_seeds(seeds, draft.classes["count"]).numpy()
    inputs |= _example_inputs(generator, count)
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        with tf.device("/CPU:0"):
            outputs = {name: x.numpy() for name, x in generator.run(inputs).items()}
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(tf32)
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            raise UsageError(
                f"A generator must give finite {name}. Received: "
                f"{int((~np.isfinite(values)).sum())} of {values.size} values not finite"
            )
    arrays: dict[str, Any] = {"seeds": seeds, **inputs, **outputs}
    np.savez(folder / GOLDEN, **arrays)


def _example_inputs(generator: Generator, count: int) -> dict[str, np.ndarray]:
    """Gives values of the inputs that no seed names: normal floats, and the integers 0 and 1."""
    rng = np.random.default_rng(0)
    examples = {}
    for spec in generator.extra_inputs:
        shape = (count, *spec.shape[1:])
        values = rng.normal(size=shape) if spec.dtype.is_floating else rng.integers(0, 2, shape)
        examples[spec.name] = values.astype(spec.dtype.as_numpy_dtype)
    return examples


def _describe(
    generator: Generator,
    *,
    spec: Spec,
    name: str,
    training: dict[str, Any] | None,
    license: str | None,
    intended_use: str | None,
) -> Manifest:
    """Makes the manifest of a bundle that has no files yet."""
    try:
        training = training and json.loads(json.dumps(plain_json(training), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"training must be what JSON can hold. Received: {error}") from error
    return Manifest(
        name=name,
        kind=spec.kind,
        shape=spec.shape,
        value_range=spec.value_range,
        latent_dim=generator.latent_dim,
        classes={"count": spec.num_classes, "names": list(spec.class_names)},
        inputs=[_describe_port(spec) for spec in generator.input_specs()],
        outputs=[_describe_port(spec) for spec in generator.output_specs],
        files={},
        parity={},
        training=training,
        license=license,
        intended_use=intended_use,
        software=software_versions(),
        created=utc_now(),
    )


def _describe_port(spec: tf.TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "dtype": spec.dtype.name,
        "shape": ["batch", *tuple(spec.shape)[1:]],
    }


def _spec(
    generator: Generator,
    kind: str | None,
    value_range: tuple[float, float] | None,
    num_classes: int,
    class_names: Sequence[str],
) -> Spec:
    shape = generator.sample_shape
    if kind is None:
        kind = {1: "points", 2: "series", 3: "image", 4: "video"}.get(len(shape), "array")
        if kind == "image" and shape[-1] not in (1, 3, 4):
            kind = "array"
    if value_range is None and kind in ("image", "video"):
        value_range = (-1.0, 1.0)
    if value_range is not None:
        low, high = float(value_range[0]), float(value_range[1])
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise UsageError(
                "value_range must be the smallest and the largest value of a sample. "
                f"Received: value_range={value_range!r}"
            )
        value_range = (low, high)
    return Spec(kind, shape, value_range, num_classes, tuple(class_names))  # type: ignore[arg-type]


def _num_classes(
    model: Any, generator: Generator, num_classes: int | None, class_names: Sequence[str]
) -> int:
    own = int(getattr(model, "num_classes", 0) or 0) or generator.num_classes
    num_classes = num_classes or own or len(class_names)
    if own and num_classes != own:
        raise UsageError(
            f"num_classes must be the model's own, {own}. Received: num_classes={num_classes}"
        )
    if generator.conditional and num_classes < 1:
        raise UsageError(
            "A generator with a labels input needs num_classes. "
            f"Received: num_classes={num_classes!r}"
        )
    if not generator.conditional and num_classes:
        raise UsageError(
            "num_classes and class_names are for a generator with a labels input. "
            f"Received: {num_classes} classes, model {generator.model.name!r} without one"
        )
    return num_classes


def _name(name: str) -> str:
    if not MODEL_NAME.fullmatch(name):
        raise UsageError(
            "name must be of letters, digits, '_', '-' and '.', as it names a folder and a model "
            f"on a server. Received: name={name!r}"
        )
    return name


def _check_target(to: Path, overwrite: bool) -> None:
    if not os.path.lexists(to):
        return
    if not overwrite:
        hint = ""
        if versions.numbers(to):
            hint = ", which holds versions: pass version='next' (--version next) to add one"
        raise UsageError(
            f"The target must not exist, or pass overwrite=True (--overwrite). Received: {to}{hint}"
        )
    if not to.is_dir() or to.is_symlink():
        raise UsageError(f"Only a folder can be overwritten. Received: {to}")
    try:
        present = {entry.name for entry in to.iterdir()}
    except OSError as error:
        raise UsageError(f"The target must be readable. Received: {to} ({error})") from error
    if present:
        _check_bundle(to, present)


def _check_bundle(to: Path, present: set[str]) -> None:
    """Refuses to overwrite what is no bundle, or holds more than one does."""
    refused = f"Only a bundle or an empty folder can be overwritten. Received: {to}"
    try:
        known = {name.split("/")[0] for name in Manifest.load(to).files}
    except UsageError as error:
        raise UsageError(f"{refused} ({error})") from None
    foreign = sorted(present - known - {"manifest.json"})
    if foreign:
        raise UsageError(f"{refused}, which holds {foreign[0]} too")


@contextlib.contextmanager
def _temporary_folder(to: Path) -> Iterator[Path]:
    try:
        with staging(to) as folder:
            yield folder
    except (OSError, tf.errors.OpError) as error:
        raise UsageError(
            f"The target must be writable, with room for a bundle. Received: {to} "
            f"({one_line(error)})"
        ) from error
