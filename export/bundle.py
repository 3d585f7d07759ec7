"""From a generator to a bundle: written beside its place, checked, then moved there."""

from __future__ import annotations

import contextlib
import dataclasses
import json
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
from export.staging import clean, move, staging
from export.tf_serving import write_configuration
from export.to_litert import FILE_NAME as LITERT
from export.to_litert import to_litert
from export.to_onnx import to_onnx
from export.to_saved_model import to_saved_model
from export.verify import TOLERANCE, measure
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
    licence: str | None = None,
    intended_use: str | None = None,
    metadata: bool = True,
    formats: Sequence[str] = (),
    opset: int = 17,
    overwrite: bool = False,
    version: int | Literal["next"] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Bundle:
    """Exports a generator to a folder that TF Serving, onnxruntime and `serving` read.

    The models are compared with Keras before the folder appears: with random batch statistics,
    then with the real ones. The weights of `model` are the same afterwards, also on failure.

    Args:
        model: a `keras_gan.GAN`, or any built Keras generator that maps latents
            `(batch, latent_dim)`, alone or with labels `(batch,)`, to samples.
        to: folder to create.
        kind: `"image"` or `"points"`; by default what the output's shape says.
        name: name of the model for servers; by default the model's own.
        num_classes: number of classes of a conditional generator; a GAN knows its own.
        class_names: name of each class, in the order of the ids.
        value_range: smallest and largest value of a sample; `(-1, 1)` by default for images.
        average: of a GAN, export the averaged generator.
        training: anything JSON can hold about the training, kept in the manifest.
        licence: licence of the weights, kept in the manifest and the model card.
        intended_use: what the model is for, kept there too.
        metadata: let `generate_png` write into its pictures that a model made them, which one
            and from which seed.
        formats: what else to write: `"litert"` for `model.tflite`.
        opset: ONNX operator set, 13 to 18.
        overwrite: replace a folder that exists, once the new one is verified.
        version: make `to` a folder of versions and add this one, `"next"` for the next number;
            `to/latest` is then a link to the highest.
        progress: called with a line of text before each step.

    Returns:
        The bundle's path and manifest.

    Raises:
        UsageError: a generator that cannot be exported, a target that exists or cannot be
            written, a runtime that differs from Keras by more than 1e-4.
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
    tell("Reading the generator")
    generator = open_generator(model, average=average)
    classes = _num_classes(model, generator, num_classes, class_names)
    name = _name(name or generator.model.name)
    if version is not None:
        versions.check_folder(to, version, name)
    draft = _describe(
        generator,
        spec=_spec(generator, kind, value_range, classes, class_names),
        name=name,
        training=training,
        licence=licence,
        intended_use=intended_use,
    )
    beside = to if version is None else versions.stage_beside(to)
    with _temporary_folder(beside) as folder, unchanged(generator.model):
        manifest = _write(generator, folder, draft, opset, metadata, formats, tell)
        if version is None:
            move(folder, to, overwrite)
        else:
            to = versions.publish(folder, to, version, name)
    tell(f"Wrote {to}")
    return Bundle(to, manifest)


def _write(
    generator: Generator,
    folder: Path,
    draft: Manifest,
    opset: int,
    metadata: bool,
    formats: Sequence[str],
    tell: Callable,
) -> Manifest:
    """Writes the bundle into a folder and verifies it there."""
    tell("Converting to ONNX")
    onnx_model = to_onnx(generator, opset)  # first: it is where a generator most often fails
    probe = folder / "probe"
    with randomized_batch_statistics(generator.model) as has_statistics:
        if has_statistics:
            tell("Writing a copy with random batch statistics")
            _write_models(generator, probe, draft, to_onnx(generator, opset), metadata)
            _write_golden(generator, probe, draft)

    tell("Writing the SavedModel and the ONNX model")
    _write_models(generator, folder, draft, onnx_model, metadata)
    _write_golden(generator, folder, draft)
    write_configuration(folder, draft.name)
    if "litert" in formats:
        tell("Writing the LiteRT model")
        to_litert(generator, folder / LITERT)

    tell("Comparing with Keras")
    figures, problems = measure(folder, draft, probe=probe if has_statistics else None)
    shutil.rmtree(probe, ignore_errors=True)
    if problems:
        raise UsageError(f"A bundle must pass its own check. Received: {problems[0]}")
    manifest = dataclasses.replace(
        draft,
        parity={
            "tolerance": TOLERANCE,
            "measure": "max abs difference to Keras, over max(1, largest abs value)",
            "figures": {
                runtime: {str(batch): value for batch, value in by_batch.items()}
                for runtime, by_batch in figures.items()
            },
        },
    )
    write_card(folder, manifest)
    manifest = dataclasses.replace(manifest, files=describe_files(folder))
    manifest.save(folder)
    Manifest.load(folder)
    return manifest


def _write_models(
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
    onnx.save(onnx_model, folder / "model.onnx")
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
    sample_bytes = 4 * int(np.prod(draft.shape))
    count = min(len(_GOLDEN_SEEDS), max(2, _GOLDEN_BYTES // sample_bytes))
    seeds = np.array(_GOLDEN_SEEDS[-count:], np.int64)
    golden = {"seeds": seeds, "latents": latents_from_seeds(seeds, draft.latent_dim).numpy()}
    if generator.conditional:
        golden["labels"] = labels_from_seeds(seeds, draft.classes["count"]).numpy()
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        with tf.device("/CPU:0"):
            samples = generator(golden["latents"], golden.get("labels")).numpy()
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(tf32)
    if not np.isfinite(samples).all():
        raise UsageError(
            "A generator must give finite samples. "
            f"Received: {int((~np.isfinite(samples)).sum())} of {samples.size} values not finite"
        )
    np.savez(folder / "golden.npz", **golden, samples=samples)


def _describe(
    generator: Generator,
    *,
    spec: Spec,
    name: str,
    training: dict[str, Any] | None,
    licence: str | None,
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
        inputs=[
            {"name": x.name, "dtype": x.dtype.name, "shape": ["batch", *tuple(x.shape)[1:]]}
            for x in generator.input_specs()
        ],
        outputs=[{"name": "samples", "dtype": "float32", "shape": ["batch", *spec.shape]}],
        files={},
        parity={},
        training=training,
        licence=licence,
        intended_use=intended_use,
        software=software_versions(),
        created=utc_now(),
    )


def _spec(
    generator: Generator,
    kind: str | None,
    value_range: tuple[float, float] | None,
    num_classes: int,
    class_names: Sequence[str],
) -> Spec:
    shape = generator.sample_shape
    if kind is None and len(shape) == 3 and shape[-1] in (1, 3, 4):
        kind = "image"
    elif kind is None and len(shape) == 1:
        kind = "points"
    elif kind is None:
        raise UsageError(
            "A generator must give images (batch, height, width, 1, 3 or 4) or points "
            f"(batch, features). Received: samples of shape {shape}"
        )
    if value_range is None and kind == "image":
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
    own = int(getattr(model, "num_classes", 0) or 0)
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
