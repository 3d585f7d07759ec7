"""Export of a network to a bundle: written beside its place, verified, then moved there."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import onnx

from export import formats as additional_formats
from export import second_graphs
from export.card import write_card
from export.draft import Description, open_draft
from export.draws import RANDOM
from export.errors import writing
from export.examples import read_examples, write_examples
from export.files import describe_files, sha256
from export.golden import load_golden, run_on_cpu, write_golden
from export.locate import locate
from export.manifest import NOTICE, SEEDS, Manifest
from export.network import Network
from export.output_ranges import check_sample_range
from export.png_chunks import provenance_chunks
from export.precisions import parse_precisions, write_precisions
from export.target import open_target, temporary_folder
from export.tf_serving import write_configuration
from export.to_onnx import OPSET, save_onnx, to_onnx
from export.to_saved_model import to_saved_model
from export.variables import preserved_state, randomized_batch_statistics
from export.verify import MAX_TOLERANCE, MEASURE, TOLERANCE, measure, worst_difference
from keras_gan import UsageError
from serving.manifest import MODEL

Progress = Callable[[str], None]  # called with a line of text before each step


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A bundle on disk.

    Args:
        path: its folder.
        manifest: its description.
    """

    path: Path
    manifest: Manifest


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the files of a bundle, as `export_bundle` takes them.

    Raises:
        UsageError: an unknown format or precision.
    """

    opset: int = OPSET
    metadata: bool = True
    formats: Sequence[str] = ()
    precision: str | Sequence[str] = ()
    examples: Sequence[bytes] = ()

    def __post_init__(self) -> None:
        for name in self.formats:
            additional_formats.get(name)
        parse_precisions(self.precision)


def export_bundle(
    model: Any,
    to: str | Path,
    *,
    metadata: bool = True,
    formats: Sequence[str] = (),
    precision: str | Sequence[str] = (),
    examples: Sequence[Any] | str | Path = (),
    opset: int = OPSET,
    overwrite: bool = False,
    version: int | Literal["next"] | None = None,
    progress: Progress = lambda line: None,
    **description: Unpack[Description],
) -> Bundle:
    """Exports a network to a folder that TF Serving, onnxruntime and `serving` read.

    The models are compared with Keras before the folder appears: with random batch statistics,
    then with the real ones. The weights of `model` are the same afterward, also on failure.

    Args:
        model: a `keras_gan.GAN`, whose generator is exported, or any built Keras model. Its
            inputs are latents `(batch, latent_dim)`, labels (ids `(batch,)`, or one-hot) and any
            others, as recognized by name and shape (docs/export.md) or declared.
        to: folder to create.
        metadata: let `generate_png` record in its images the model and the seed that made them.
        formats: additional formats: `"litert"` for `model.tflite`.
        precision: additional precisions of the ONNX model: `"float16"` for `model.fp16.onnx`,
            for GPUs, `"int8"` for `model.int8.onnx`, for CPUs; a name or several.
        examples: pictures that servers offer to try a network that translates pictures: a folder,
            or paths, images of Pillow or uint8 arrays, at most 16. Everyone who has the bundle can
            see them.
        opset: ONNX operator set, 13 to 18.
        overwrite: replace a folder that exists, once the new one is verified.
        version: make `to` a folder of versions and add this one, `"next"` for the next number;
            `to/latest` is then a link to the highest.
        progress: called with a line of text before each step.
        description: `role`, `inputs`, `outputs`, `spec`, `kind`, `name`, `num_classes`,
            `class_names`, `value_range`, `average`, `training`, `license` and `intended_use`, see
            `export.Description`.

    Raises:
        UsageError: a network that cannot be exported, a declaration that does not fit it, a target
            that exists or cannot be written, a runtime that differs from Keras by more than 1e-5
            of the output range and more than rounding explains, a precision without benefit for
            this network, examples that are no pictures or that the network does not take.
    """
    target = open_target(Path(to), overwrite, version)
    files = read_examples(examples) if isinstance(examples, str | Path) or len(examples) else ()
    options = Options(opset, metadata, formats, precision, files)
    progress("Reading the network")
    network, draft = open_draft(model, **description)
    target.check_name(draft.name)
    with temporary_folder(target) as folder, preserved_state(network.model):
        manifest = _write(network, folder, draft, options, progress)
        with writing(folder):
            path = target.publish(folder, draft.name)
    progress(f"Wrote {path}")
    return Bundle(path, manifest)


def _write(
    network: Network, folder: Path, draft: Manifest, options: Options, progress: Progress
) -> Manifest:
    """Writes the bundle into a folder and verifies it there."""
    probe = write_models(network, folder, draft, options, progress)
    with writing(folder):
        write_configuration(folder, draft.name)
    draft = _write_formats(network, folder, draft, options, progress)
    for graph in second_graphs.find(draft):
        progress(f"Writing the {graph.noun}")
        with writing(folder / graph.file):
            graph.write(network, draft, folder / graph.file, options.opset)

    golden = load_golden(folder)
    for port in network.outputs:
        check_sample_range(golden[port.name], port)

    progress("Comparing with Keras")
    tolerance = {"tolerance": _tolerance(network, folder, draft)}
    draft = dataclasses.replace(draft, parity=draft.parity | tolerance)
    figures, problems = measure(folder, draft, probe=probe)
    shutil.rmtree(probe or folder / "probe", ignore_errors=True)
    if problems:
        where = locate(network, folder, draft, figures, options.opset)
        raise UsageError(f"A bundle must pass its own check. Received: {problems[0]}{where}")
    by_runtime = {
        runtime: {str(batch): value for batch, value in by_batch.items()}
        for runtime, by_batch in figures.items()
    }
    parity: dict[str, Any] = {**draft.parity, "measure": MEASURE, "figures": by_runtime}
    manifest = dataclasses.replace(draft, parity=parity)
    if precisions := parse_precisions(options.precision):
        records = write_precisions(folder, manifest, precisions, progress)
        manifest = dataclasses.replace(manifest, parity=manifest.parity | {"precisions": records})
    with writing(folder):
        write_examples(options.examples, folder, manifest)
        write_card(folder, manifest)
        manifest = dataclasses.replace(manifest, files=describe_files(folder))
        manifest.save(folder)
    Manifest.load(folder)
    return manifest


def _write_formats(
    network: Network, folder: Path, draft: Manifest, options: Options, progress: Progress
) -> Manifest:
    """Writes the additional formats; returns the draft, which lists those that cannot run."""
    not_run = {}
    for name in options.formats:
        form = additional_formats.get(name)
        progress(f"Writing the format {name}")
        with writing(folder, (OSError,)):
            form.write(network, folder / form.FILE_NAME)
        if not (folder / form.FILE_NAME).is_file():
            raise UsageError(
                f"A format must write its file. Received: {name!r} without {form.FILE_NAME}"
            )
        if not hasattr(form, "run"):
            not_run[name] = form.NOT_RUN
            progress(f"The format {name} is not compared with Keras: {form.NOT_RUN}")
    recorded = {"not_run": not_run} if not_run else {}
    return dataclasses.replace(draft, parity=draft.parity | recorded)


def _tolerance(network: Network, folder: Path, draft: Manifest) -> float:
    """Returns the difference from Keras that rounding explains, 1e-5 of the output range or more.

    Some networks, with large values before a last tanh for instance, return other samples for
    inputs that differ in their last bit. No runtime can be nearer to Keras than Keras to itself:
    another order of summation was measured to cost 1 to 2.5 times that.
    """
    golden = load_golden(folder)
    inputs = {port.name: golden[port.name] for port in network.inputs}
    floats = [port for port in network.inputs if port.dtype.startswith("float")]
    drawn = [port for port in floats if port.fill in RANDOM]
    for port in drawn or floats:
        inputs[port.name] = np.nextafter(inputs[port.name], np.dtype(port.dtype).type(np.inf))
    outputs = run_on_cpu(network, inputs)
    return float(np.clip(8 * worst_difference(outputs, golden, draft), TOLERANCE, MAX_TOLERANCE))


def write_models(
    network: Network,
    folder: Path,
    draft: Manifest,
    options: Options | None = None,
    progress: Progress = lambda line: None,
) -> Path | None:
    """Writes the models and their golden samples, without verification.

    Returns:
        The folder of a copy with random batch statistics, `None` where a model has none.
    """
    options = options or Options()
    progress("Converting to ONNX")
    onnx_model = to_onnx(network, options.opset)  # first: it is the step that fails most often
    probe = folder / "probe"
    with randomized_batch_statistics(network.model) as has_statistics:
        if has_statistics:
            progress("Writing a copy with random batch statistics")
            _write_pair(network, probe, draft, to_onnx(network, options.opset), options)

    progress("Writing the SavedModel and the ONNX model")
    _write_pair(network, folder, draft, onnx_model, options)
    return probe if has_statistics else None


def _write_pair(
    network: Network,
    folder: Path,
    draft: Manifest,
    onnx_model: onnx.ModelProto,
    options: Options,
) -> None:
    """Writes both models and their golden samples."""
    with writing(folder):
        folder.mkdir(exist_ok=True)
    first = draft.first
    ports = f"{draft.inputs[0].name} to {first.name}"
    onnx_model.doc_string = f"{draft.name}: {ports} of kind {first.kind}. {NOTICE}"
    onnx.helper.set_model_props(onnx_model, _properties(draft))
    with writing(folder / MODEL):
        save_onnx(onnx_model, folder / MODEL)
    hash_of_model = sha256(folder / MODEL)  # identifies the model in the images of the SavedModel
    to_saved_model(
        network,
        folder / "saved_model" / draft.name / "1",
        name=draft.name,
        chunks=provenance_chunks(draft.name, hash_of_model) if options.metadata else b"",
    )
    write_golden(network, folder)


def _properties(draft: Manifest) -> dict[str, str]:
    """Returns the metadata of `model.onnx`, for readers of the file alone."""
    latents = [port for port in draft.inputs if port.fill in RANDOM and len(port.shape) == 1]
    size = {"latent_dim": str(latents[0].shape[0])} if latents else {}
    return {
        "name": draft.name,
        "kind": draft.first.kind,
        **size,
        "num_classes": str(draft.classes.num_classes if draft.classes else 0),
        "value_range": json.dumps(draft.first.meta.get("value_range")),
        "seeds": SEEDS,
        "notice": NOTICE,
    }
