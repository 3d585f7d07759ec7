"""Export of a generator to a SavedModel that TensorFlow loads without Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2

from export.generator import Generator
from export.png import add_chunks
from export.to_onnx import as_function
from export.warmup import write_warmup
from keras_gan.latents import latents_from_seeds

WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"


def to_saved_model(
    generator: Generator,
    to: Path,
    *,
    name: str,
    value_range: tuple[float, float] | None,
    images: bool,
    chunks: bytes = b"",
) -> None:
    """Writes a SavedModel with the signatures of a bundle and its warm-up requests.

    Args:
        generator: generator to save.
        to: folder of the version, `.../NAME/1`.
        name: name of the model on a server.
        value_range: smallest and largest value of an image.
        images: whether to add the signature `generate_png`.
        chunks: chunks for its PNG files, as `export.png.provenance_chunks` returns them; empty
            for pixels alone.
    """
    functions = {
        "serving_default": as_function(generator),
        "generate": _generate(generator),
    }
    if images:
        functions["generate_png"] = _generate_png(generator, value_range or (-1.0, 1.0), chunks)
    signatures = {key: function.get_concrete_function() for key, function in functions.items()}

    module = tf.Module(name="generator")  # must be a Python name, unlike the name of a bundle
    module.functions = list(functions.values())  # type: ignore[attr-defined]
    module.held = _variables(signatures.values())  # type: ignore[attr-defined]
    tf.saved_model.save(module, str(to), signatures=signatures)
    _name_by_content(to / "fingerprint.pb")
    write_warmup(to / WARMUP, name, signatures)


def _name_by_content(path: Path) -> None:
    """Replaces the random identifier of a SavedModel by the checksum of its graph."""
    fingerprint: Any = fingerprint_pb2.FingerprintDef.FromString(path.read_bytes())
    fingerprint.uuid = str(fingerprint.saved_model_checksum)
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))


def _generate(generator: Generator) -> tf.types.experimental.GenericFunction:
    def generate(seeds, *others):
        return generator.run(_inputs(generator, seeds, others))

    return tf.function(generate, input_signature=_seed_specs(generator), autograph=False)


def _generate_png(generator: Generator, value_range: tuple[float, float], chunks: bytes):
    low, high = value_range

    def generate_png(seeds, *others):
        samples = generator.run(_inputs(generator, seeds, others))["samples"]
        pixels = tf.round((samples - low) / (high - low) * 255.0)
        pixels = tf.cast(tf.clip_by_value(pixels, 0.0, 255.0), tf.uint8)
        string = tf.TensorSpec((), tf.string)
        png = tf.map_fn(tf.io.encode_png, pixels, fn_output_signature=string)
        if chunks:
            labels = {"Label": others[0]} if generator.conditional else {}
            png = add_chunks(png, chunks, {"Seed": seeds, **labels})
        return {"png_bytes": png}

    return tf.function(generate_png, input_signature=_seed_specs(generator), autograph=False)


def _inputs(generator: Generator, seeds: Any, others: tuple) -> dict[str, Any]:
    """Returns the inputs of the generator by name, with the latents drawn from the seeds."""
    names = [spec.name for spec in generator.input_specs()]
    return dict(zip(names, (latents_from_seeds(seeds, generator.latent_dim), *others), strict=True))


def _seed_specs(generator: Generator) -> list[tf.TensorSpec]:
    seeds = tf.TensorSpec((None,), tf.int64, name="seeds")
    return [seeds, *generator.input_specs()[1:]]


def _variables(functions: Any) -> list[tf.Variable]:
    """Collects the variables that the graphs read, so that no optimizer or Keras object is saved.

    They are in the order of their first use: a graph itself holds them in a set.
    """
    found: dict[int, tf.Variable] = {}
    for function in functions:
        variables = {id(variable.handle): variable for variable in function.graph.variables}
        read = [id(outer) for outer, _ in function.graph.captures]
        found |= {key: variables[key] for key in read if key in variables}
    return list(found.values())
