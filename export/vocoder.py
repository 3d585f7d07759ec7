"""Ports of an exported vocoder, which follow from its first layer."""

from __future__ import annotations

import dataclasses

import keras

from export.declare import Declarations
from keras_gan.errors import UsageError
from keras_gan.layers import VocoderInput
from serving.kinds.mel import definition_of
from serving.vocoding import ROLE


def with_facts(model: keras.Model, declared: Declarations) -> Declarations:
    """Returns declarations in which the ports of a vocoder have their kinds and properties.

    Args:
        model: a built Keras model; any but a vocoder is left alone.
        declared: what the caller declares; it takes precedence.

    Raises:
        UsageError: the data's spectrograms have another definition than those of the vocoder.
    """
    found = find(model)
    if found is None:
        return declared
    mel, name = found[0].mel, found[1]
    inputs, outputs = dict(declared.inputs), dict(declared.outputs)
    known = definition_of(declared.field_facts(name).get("meta") or {})
    if known is not None and known.to_meta() != mel.to_meta():
        raise UsageError(
            "The data and the vocoder must have one definition of the spectrograms. Received: "
            f"{known.to_meta()} of the data, {mel.to_meta()} of the vocoder"
        )
    if known is None:
        inputs[name] = {"kind": "mel", "meta": {"mel": mel.to_meta()}, **inputs.get(name, {})}
    if not declared.field_facts("samples") and declared.kind is None and not outputs:
        outputs["samples"] = {"kind": "audio", "meta": {"sample_rate": mel.sample_rate}}
    role = declared.role or ROLE
    return dataclasses.replace(declared, role=role, inputs=inputs, outputs=outputs)


def find(model: keras.Model) -> tuple[VocoderInput, str] | None:
    """Returns the first layer of a vocoder and the name of its input."""
    if len(getattr(model, "inputs", None) or ()) != 1:
        return None
    given = model.inputs[0]
    for layer in model._flatten_layers():
        if isinstance(layer, VocoderInput) and given.shape[1:] == (None, layer.mel.mels):
            return layer, given.name
    return None
