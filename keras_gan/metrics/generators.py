"""Samples of generators: of a game, a run or a bundle."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_gan import latents
from keras_gan import run as runs
from keras_gan.errors import UsageError
from keras_gan.games.gan import GAN
from keras_gan.games.two_stage import TwoStage
from keras_gan.layers import LatentCodes, find_codes
from keras_gan.metrics.classified import Classifier
from keras_gan.metrics.images import to_bytes
from keras_gan.metrics.onnx_extractor import open_session, runtime_of
from keras_gan.metrics.samples import BATCH, Batch, Codes, Conditions, Likelihood, Samples
from keras_gan.networks import as_float32
from keras_gan.spec import Field, Spec, infer_spec, label_field
from serving import kinds
from serving import manifest as manifests
from serving.inputs import Input, Inputs, Port
from serving.seeds import check_seeds, normals

# Function from seeds, labels if there are classes, and further fields to samples.
Maker = Callable[[np.ndarray, np.ndarray | None, dict[str, Any]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Settings for drawing samples from a generator.

    Args:
        seed: the first seed; the samples come from this one and those that follow.
        average: use the averaged generator of a game or a run instead of the live one.
        truncation: factor on the latents, from 0 up.
        conditions: fields of the real samples, for a generator that asks for them.
        network: of a game with several generators, the one to draw from.
    """

    seed: int = 0
    average: bool = True
    truncation: float = 1.0
    conditions: Conditions | None = None
    network: str | None = None

    def answers(self, asked: Sequence[str]) -> bool:
        """Returns whether a generator that asks for these fields answers one of the data's."""
        return self.conditions is not None and self.conditions.answered in asked

    def given(self, asked: Sequence[str], who: str) -> Callable[[np.ndarray], dict[str, Any]]:
        """Returns a function from numbers of samples to the fields that a generator asks for.

        Raises:
            UsageError: a field that the real samples do not have.
        """
        conditions = self.conditions
        known = conditions.names if conditions is not None else ()
        for name in asked:
            if name not in known:
                raise UsageError(
                    f"{who} asks for the field {name!r}, which the data to compare with does not "
                    f"have. Received: data with {', '.join(('samples', *known))}"
                )

        def read(numbers: np.ndarray) -> dict[str, Any]:
            if conditions is None or not asked:
                return {}
            fields = conditions.read(numbers)
            return {name: fields[name] for name in (*asked, "labels") if name in fields}

        return read


def from_run(path: pathlib.Path, drawing: Drawing, checkpoint: str) -> Samples:
    """Returns the samples of a run's checkpoint, see `Run.checkpoint`."""
    run = runs.Run.open(path)
    checkpoint = run.which(checkpoint)
    gan = run.load(checkpoint)
    origin = {"source": f"run {path}", "checkpoint": checkpoint}
    name = drawing.network or gan.sampled
    generators = [each for each in gan.networks if gan.network_role(each) == "generator"]
    if name not in generators:
        raise UsageError(
            f"`network` must name a generator of the game: {', '.join(generators)}. "
            f"Received: network={name!r}"
        )
    return from_gan(gan, drawing, origin, gan.network_spec(name, run.spec, {}))


def from_gan(
    gan: GAN, drawing: Drawing, origin: dict[str, Any], spec: Spec | None = None
) -> Samples:
    """Returns the samples of a game.

    Args:
        gan: the game.
        drawing: settings for drawing.
        origin: the first entries of the protocol.
        spec: description of the data, if known; by default it follows from the samples' shape.
    """

    def maker(sampler: Any) -> Maker:
        def make(seeds: np.ndarray, labels: Any, fields: dict[str, Any]) -> np.ndarray:
            samples = sampler.generate(seeds, labels, drawing.truncation, BATCH, fields)
            return _to_range(samples, stated, own)

        return make

    name = drawing.network or gan.sampled
    protocol = {
        **origin,
        **({"network": name} if gan.inverse is not None else {}),
        "weights": which_weights(gan, drawing.average, name),
        "examples_seen": gan.count("examples_seen"),
    }
    shape, stated = tuple(gan.shape_of(name)), None
    if spec is None or not spec.samples.accepts_shape(shape):
        spec = infer_spec(shape)
        stated = gan.samples_range
    own = spec.modality.range_for(shape)
    names = spec.class_names if spec.num_classes == gan.num_classes else ()
    known = drawing.conditions.names if drawing.conditions is not None else ()
    asked = [n for n in gan.networks[name].fields if n in known and n != "labels"]
    given = drawing.given(asked, "The generator")
    protocol |= {"conditions": asked} if asked else {}
    spec = spec.with_classes(gan.num_classes, names)
    found = _generated(spec, maker(gan.sampler(drawing.average, name)), drawing, protocol, given)
    layer = find_codes(gan.networks[name].model)
    if layer is not None:
        ports = (gan.latent_dim, 0)
        found = dataclasses.replace(found, codes=_codes(layer, ports, drawing))
    chosen = gan.average(name) if drawing.average else gan.networks[name]
    found = dataclasses.replace(
        found,
        classifier=classifier_of(gan, drawing.average),
        swaps=_swaps(gan, name, gan.sampler(drawing.average, name), drawing),
        token_logits=likelihood_of(chosen.model, "labels" in gan.networks[name].fields),
    )
    if isinstance(gan, TwoStage):
        of_first = {**origin, "weights": "first stage"} | ({"conditions": asked} if asked else {})
        first = _generated(spec, maker(gan.first_sampler()), drawing, of_first, given)
        known = likelihood_of(gan.first_generator, "labels" in gan.networks[name].fields)
        first = dataclasses.replace(first, answers=drawing.answers(asked), token_logits=known)
        found = dataclasses.replace(found, controls={"first stage": first})
    if not drawing.answers(asked):
        return found
    return dataclasses.replace(found, answers=True, inverse=inverse_of(gan, drawing.average, name))


def inverse_of(
    gan: Any, average: bool = True, network: str | None = None
) -> Callable[[np.ndarray], np.ndarray] | None:
    """Returns a game's function from answers back to conditions, or `None`.

    Args:
        gan: the game.
        average: use the averaged network instead of the live one.
        network: the network that answers; by default the one that samples come from.
    """
    if gan.inverse is None:
        return None
    return lambda answers: gan.translate(answers, backward=network != gan.inverse, average=average)


def classifier_of(gan: Any, average: bool = True) -> Classifier | None:
    """Returns a game's discriminator as a classifier, or `None` if it is not one.

    A classifier takes samples alone, one by one, and has the outputs `logits`, one for each
    sample, and `classes`.

    Args:
        gan: the game.
        average: use the averaged network instead of the live one, if it has an average.
    """
    found: Any = gan.networks.get("discriminator")
    if found is None or found.fields != ("samples",) or gan.packing.size != 1:
        return None
    if not {"logits", "classes"} <= set(found.output_names):
        return None
    outputs = found.describe_two()
    shapes: list[Any] = [getattr(outputs[name], "shape", ()) for name in ("logits", "classes")]
    if any(len(shape) != 2 for shape in shapes) or shapes[0][1] != 1:
        return None
    network: Any = gan.average("discriminator") if average else found

    def judge(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = []
        for start in range(0, len(samples), BATCH):
            batch = {"samples": tf.constant(samples[start : start + BATCH], "float32")}
            made = as_float32(network(batch, training=False))
            parts.append((made["classes"].numpy(), made["logits"].numpy()[:, 0]))
        classes, logits = zip(*parts, strict=True)
        return np.concatenate(classes), np.concatenate(logits)

    return Classifier(int(shapes[1][1]), judge)


def likelihood_of(model: Any, conditional: bool = False) -> Likelihood | None:
    """Returns the likelihood of a generator of texts, or `None` if it has none.

    It is that of the generator's layer with a method `token_logits(ids, labels)`, from int32 ids
    `(batch, time)` to the logits `(batch, time, vocabulary)` of each token after those before it.

    Args:
        model: the generator.
        conditional: whether the generator takes labels.
    """
    every: Iterable[Any] = model._flatten_layers()
    layer: Any = next((each for each in every if hasattr(each, "token_logits")), None)
    if layer is None:
        return None

    def logits(ids: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        if not conditional:
            return np.asarray(layer.token_logits(tf.constant(ids, tf.int32), None))
        if labels is None:
            raise UsageError(
                "The likelihood of a generator with classes needs data with labels. "
                "Received: data without labels"
            )
        wanted = tf.constant(labels, tf.int32)
        return np.asarray(layer.token_logits(tf.constant(ids, tf.int32), wanted))

    return logits


def which_weights(gan: GAN, average: bool, name: str | None = None) -> str:
    """Returns `"averaged"` or `"live"`: which weights are used, as a network may have no average.

    Args:
        gan: the game.
        average: the averaged weights are asked for.
        name: name of the network; by default the one that samples come from.
    """
    name = name or gan.sampled
    has_average = gan.average(name).model is not gan.networks[name].model
    return "averaged" if average and has_average else "live"


def from_bundle(path: pathlib.Path, drawing: Drawing) -> Samples:
    """Returns the samples of a bundle, computed by onnxruntime as `serving` does.

    Raises:
        UsageError: a damaged bundle, or one that asks for inputs that the data does not have.
    """
    manifest = read_manifest(path)
    _check_files(path, manifest)
    session = open_session(path / "model.onnx")
    inputs, output = ports_of(manifest)
    asked = [port.name for port in inputs.given]
    given = drawing.given(asked, f"The bundle {str(path)!r}")
    spec, rescale = _described(inputs, output)

    def make(seeds: np.ndarray, labels: np.ndarray | None, fields: dict[str, Any]) -> np.ndarray:
        found = inputs.check_given(fields, len(seeds))
        feeds = inputs.fill(seeds, labels, drawing.truncation, found)
        return rescale(session.run([output.name], feeds)[0])

    training = manifest.get("training") or {}
    protocol = {
        "source": f"bundle {path}",
        "model_sha256": manifest["files"]["model.onnx"]["sha256"],
        "runtime": runtime_of(session),
        "network": training.get("network"),
        "weights": training.get("weights"),
        "examples_seen": training.get("examples_seen"),
    }
    protocol |= {"conditions": asked} if asked else {}
    found = _generated(spec, make, drawing, protocol, given)
    codes = None
    coded = next((port for port in inputs.ports if "continuous" in port.meta), None)
    if coded is not None:
        layer = LatentCodes(coded.meta["categorical"], coded.meta["continuous"])
        port = inputs.normal[0]
        width = math.prod(size for size in port.shape if isinstance(size, int))
        codes = _codes(layer, (width, port.stream), drawing)
    return dataclasses.replace(found, answers=drawing.answers(asked), codes=codes)


def _codes(layer: LatentCodes, ports: tuple[int, int], drawing: Drawing) -> Callable[[int], Codes]:
    """Returns a function from a count to the codes of samples of the first seeds.

    Args:
        layer: the layer that makes the codes.
        ports: length and stream of the latents.
        drawing: the first seed, and the factor on the latents.
    """

    def read(count: int) -> Codes:
        seeds = drawing.seed + np.arange(count, dtype=np.int64)
        z = normals(seeds, *ports) * np.float32(drawing.truncation)
        return Codes(np.asarray(layer.codes(z)), layer.categorical)

    return read


def _swaps(
    gan: GAN, name: str, sampler: Any, drawing: Drawing
) -> Callable[[int], tuple[np.ndarray, np.ndarray]] | None:
    """Returns a function to samples, and to others of the same content; `None` without such.

    The first latents of a generator are its content if one of its layers names their number,
    `content_dim`, as `keras_gan.layers.VideoLatents` does.
    """
    every: Any = gan.networks[name].model._flatten_layers()
    width = next((layer.content_dim for layer in every if hasattr(layer, "content_dim")), 0)
    if not width or not {*sampler.fields} <= {"latents", "labels"}:
        return None

    def read(count: int) -> tuple[np.ndarray, np.ndarray]:
        seeds = drawing.seed + np.arange(count, dtype=np.int64)
        first, others = (
            normals(numbers, sampler.latent_dim, 0) * np.float32(drawing.truncation)
            for numbers in (seeds, seeds + count)
        )
        mixed = np.concatenate([first[:, :width], others[:, width:]], axis=1)
        labels = []
        if "labels" in sampler.fields:
            labels = [np.asarray(latents.labels_from_seeds(seeds, sampler.num_classes), np.int32)]

        def make(z: np.ndarray) -> np.ndarray:
            parts = [slice(start, start + BATCH) for start in range(0, count, BATCH)]
            made = [sampler(*(tf.constant(x[part]) for x in (z, *labels))) for part in parts]
            return np.clip(np.concatenate([np.asarray(x) for x in made]), -1.0, 1.0)

        return make(first), make(mixed)

    return read


def _described(inputs: Inputs, output: Port) -> tuple[Spec, Callable[[np.ndarray], np.ndarray]]:
    """Returns the description of a bundle's samples, and a function to their kind's range."""
    modality = kinds.get(output.kind)
    meta, own = dict(output.meta), modality.range_for(output.sizes)
    stated = tuple(meta.get("value_range") or own or ())
    if own is not None:
        meta["value_range"] = own
    fields = {"samples": Field(output.kind, output.sizes, meta=meta)}
    if inputs.classes is not None:
        names = inputs.classes.meta.get("class_names") or ()
        fields["labels"] = label_field(inputs.classes.num_classes, tuple(names))

    return Spec(fields=fields), lambda samples: _to_range(samples, stated, own)


def _to_range(samples: np.ndarray, stated: Any, own: Any) -> np.ndarray:
    """Returns samples of a stated range in that of their kind; the same where one is unknown."""
    if not own or not stated or tuple(stated) == tuple(own):
        return samples
    unit = (samples.astype(np.float64) - stated[0]) / (stated[1] - stated[0])
    return unit * (own[1] - own[0]) + own[0]


def _check_files(path: pathlib.Path, manifest: dict[str, Any]) -> None:
    """Checks the model's files against the hashes in the manifest."""
    external = {"model.onnx.data"} & manifest["files"].keys()  # the weights of a large model
    for name in sorted(external | {"model.onnx"}):
        file = path / name
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
        if manifest["files"].get(name, {}).get("sha256") != sha256:
            raise UsageError(
                f"{name} must have the SHA-256 that manifest.json names; the bundle is damaged or "
                f"was changed. Received: {str(path)!r}"
            )


def read_manifest(path: pathlib.Path) -> dict[str, Any]:
    """Returns the checked manifest of a bundle.

    Raises:
        UsageError: no model, or no valid manifest.
    """
    manifest = manifests.read_manifest(path)
    if not (path / manifests.MODEL).is_file():
        raise UsageError(f"A bundle must hold {manifests.MODEL}. Received: {str(path)!r}")
    return manifest


def ports_of(manifest: dict[str, Any]) -> tuple[Inputs, Port]:
    """Returns the inputs and the first output that a manifest describes."""
    inputs = Inputs([Input.from_json(port) for port in manifest["inputs"]])
    return inputs, Port.from_json(manifest["outputs"][0])


def _generated(
    spec: Spec,
    make: Maker,
    drawing: Drawing,
    origin: dict[str, Any],
    given: Callable[[np.ndarray], dict[str, Any]],
    class_ids: np.ndarray | None = None,
) -> Samples:
    """Returns a generator's samples, from the first seed on.

    Args:
        spec: description of one sample.
        make: function from seeds, labels if there are classes, and further fields to samples.
        drawing: the first seed, and the settings that `make` applies to the latents.
        origin: entries of the protocol that describe the generator.
        given: function from numbers of samples to the further fields that the generator asks for,
            with the labels of the same real samples.
        class_ids: labels of the samples, repeated if there are more samples. By default each
            seed's own label.
    """
    first = drawing.seed

    def read(count: int) -> Iterator[Batch]:
        check_seeds([first, first + count - 1])
        for start in range(0, count, BATCH):
            order = np.arange(start, min(start + BATCH, count), dtype=np.int64)
            seeds, labels, fields = first + order, None, given(order)
            real_labels = fields.pop("labels", None)
            if fields and real_labels is not None and spec.num_classes:
                labels = real_labels
            elif class_ids is not None:
                labels = class_ids[order % len(class_ids)]
            elif spec.num_classes:
                labels = np.asarray(latents.labels_from_seeds(seeds, spec.num_classes))
            samples = make(seeds, labels, fields)
            yield to_bytes(samples) if spec.modality.has_pixels else samples, labels

    protocol = {**origin, "first_seed": first, "truncation": drawing.truncation}
    if not spec.num_classes:
        return Samples(spec, None, read, protocol)
    protocol["labels"] = "seed modulo classes" if class_ids is None else "those of the real samples"

    def with_labels(labels: np.ndarray) -> Samples:
        return _generated(spec, make, drawing, origin, given, labels)

    return Samples(spec, None, read, protocol, with_labels=with_labels)
