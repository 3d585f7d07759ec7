"""Export of a network to a SavedModel that TensorFlow loads without Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2

from export.draws import draws_from_seeds, fill_inputs
from export.encoders import Encoder, Origin, encoder_of
from export.errors import writing
from export.network import Network
from export.to_onnx import as_function
from export.warmup import write_warmup

WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"


def to_saved_model(network: Network, to: Path, *, name: str, chunks: bytes = b"") -> None:
    """Writes a SavedModel with the signatures of a bundle and its warm-up requests.

    Args:
        network: network to save.
        to: folder of the version, `.../NAME/1`.
        name: name of the model on a server.
        chunks: chunks for its PNG files, as `export.png_chunks.provenance_chunks` returns them;
            empty for pixels alone.
    """
    functions = {"serving_default": as_function(network), "generate": _generate(network)}
    if encoder := encoder_of(network.outputs[0]):
        functions[encoder.signature] = _generate_files(network, encoder, chunks)
    signatures = {key: function.get_concrete_function() for key, function in functions.items()}

    module = tf.Module(name="generator")  # must be a Python name, unlike the name of a bundle
    module.functions = list(functions.values())  # type: ignore[attr-defined]
    module.held = _variables(signatures.values())  # type: ignore[attr-defined]
    with writing(to):
        tf.saved_model.save(module, str(to), signatures=signatures)
        _name_by_content(to / "fingerprint.pb")
        write_warmup(to / WARMUP, name, signatures, network)


def _name_by_content(path: Path) -> None:
    """Replaces the random identifier of a SavedModel by the checksum of its graph."""
    fingerprint: Any = fingerprint_pb2.FingerprintDef.FromString(path.read_bytes())
    fingerprint.uuid = str(fingerprint.saved_model_checksum)
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))


def _generate(network: Network) -> tf.types.experimental.GenericFunction:
    specs = request_specs(network)

    def generate(*values):
        return network.run(_inputs(network, specs, values))

    return tf.function(generate, input_signature=specs, autograph=False)


def _generate_files(
    network: Network, encoder: Encoder, chunks: bytes
) -> tf.types.experimental.GenericFunction:
    specs = request_specs(network)
    port = network.outputs[0]
    classes = next((x.name for x in network.inputs if x.fill == "class"), None)
    keywords = {"seeds": "Seed", classes: "Label"}

    def generate(*values):
        samples = network.run(_inputs(network, specs, values))[port.name]
        numbers = {
            keywords[spec.name]: value
            for spec, value in zip(specs, values, strict=True)
            if spec.name in keywords
        }
        return {encoder.output: encoder.encode(samples, port, Origin(chunks, numbers))}

    return tf.function(generate, input_signature=specs, autograph=False)


def request_specs(network: Network) -> list[tf.TensorSpec]:
    """Describes the inputs of `generate`: seeds where inputs are drawn, classes, given inputs."""
    seeds = tf.TensorSpec((None,), tf.int64, name="seeds")
    asked = [
        spec
        for spec, port in zip(network.input_specs(), network.inputs, strict=True)
        if port.fill in ("class", "given")
    ]
    return [seeds, *asked] if draws_from_seeds(network.inputs) else asked


def _inputs(network: Network, specs: list[tf.TensorSpec], values: tuple) -> dict[str, Any]:
    """Returns the inputs of the network by name, drawn from the seeds where they are not given."""
    given = {str(spec.name): value for spec, value in zip(specs, values, strict=True)}
    seeds = given.pop("seeds", None)
    return fill_inputs(network.inputs, given, seeds)


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
