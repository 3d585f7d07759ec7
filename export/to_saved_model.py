"""A generator as a SavedModel that TensorFlow loads without Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

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
    pictures: bool,
    chunks: bytes = b"",
) -> None:
    """Writes a SavedModel with the signatures of a bundle and its warm-up requests.

    Args:
        generator: what to save.
        to: folder of the version, `.../NAME/1`.
        name: name under which a server will know the model.
        value_range: smallest and largest value of a picture.
        pictures: whether to add the signature `generate_png`.
        chunks: what its PNG files hold beside their seeds and pixels, as
            `export.png.provenance_chunks` gives it; nothing for pixels alone.
    """
    functions = {
        "serving_default": as_function(generator),
        "generate": _generate(generator),
    }
    if pictures:
        functions["generate_png"] = _generate_png(generator, value_range or (-1.0, 1.0), chunks)
    signatures = {key: function.get_concrete_function() for key, function in functions.items()}

    module = tf.Module(name=name)
    module.functions = list(functions.values())  # type: ignore[attr-defined]
    module.held = _variables(signatures.values())  # type: ignore[attr-defined]
    tf.saved_model.save(module, str(to), signatures=signatures)
    write_warmup(to / WARMUP, name, signatures)


def _generate(generator: Generator) -> tf.types.experimental.GenericFunction:
    def generate(seeds, *labels):
        latents = latents_from_seeds(seeds, generator.latent_dim)
        return {"samples": generator(latents, *labels)}

    return tf.function(generate, input_signature=_seed_specs(generator), autograph=False)


def _generate_png(generator: Generator, value_range: tuple[float, float], chunks: bytes):
    low, high = value_range

    def generate_png(seeds, *labels):
        samples = generator(latents_from_seeds(seeds, generator.latent_dim), *labels)
        pixels = tf.round((samples - low) / (high - low) * 255.0)
        pixels = tf.cast(tf.clip_by_value(pixels, 0.0, 255.0), tf.uint8)
        string = tf.TensorSpec((), tf.string)
        png = tf.map_fn(tf.io.encode_png, pixels, fn_output_signature=string)
        if chunks:
            numbers = {"Seed": seeds, **dict(zip(("Label",), labels, strict=False))}
            png = add_chunks(png, chunks, numbers)
        return {"png_bytes": png}

    return tf.function(generate_png, input_signature=_seed_specs(generator), autograph=False)


def _seed_specs(generator: Generator) -> list[tf.TensorSpec]:
    seeds = tf.TensorSpec((None,), tf.int64, name="seeds")
    return [seeds, *generator.input_specs()[1:]]


def _variables(functions: Any) -> list[tf.Variable]:
    """Collects what the graphs read: only these are saved, so no optimizer or Keras object is."""
    found = {id(v): v for function in functions for v in function.graph.variables}
    return list(found.values())
