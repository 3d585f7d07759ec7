"""Ports of an exported vocoder, and generators of spectrograms that are followed by one."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from export.declare import Declarations
from keras_gan import Game
from keras_gan.errors import UsageError
from keras_gan.layers import VocoderInput
from keras_gan.spec import Field, Spec
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


def with_vocoder(
    model: Any, vocoder: Any, spec: Spec, *, average: bool = True
) -> tuple[keras.Model, Spec]:
    """Returns a generator of sound: one of spectrograms, of whose samples a vocoder makes sound.

    Args:
        model: a game whose generator makes log-mel spectrograms, or that generator.
        vocoder: a game whose generator is a vocoder, or a vocoder.
        spec: the data of the generator, whose samples are of kind "mel".
        average: of games, the averaged generators rather than the live ones.

    Returns:
        The model, from the inputs of the generator to waves `(batch, frames * hop, 1)`, and the
        spec of its samples, of kind "audio". The weights are shared with the two networks.

    Raises:
        UsageError: samples of another kind, a network other than a vocoder, or another definition
            of the spectrograms.
    """
    made = definition_of(spec.samples.meta)
    if made is None:
        raise UsageError(
            "A vocoder takes the samples of a generator of mel spectrograms, which a recipe makes "
            f"with data.samples=mel. Received: samples of kind {spec.kind!r}"
        )
    generator, synthesizer = (_network(each, average) for each in (model, vocoder))
    found = find(synthesizer)
    if found is None:
        raise UsageError(
            "A vocoder must be a network of the architecture vocoder or hifi. Received: the model "
            f"{synthesizer.name!r} of inputs {[tuple(x.shape) for x in synthesizer.inputs or ()]}"
        )
    if found[0].mel.to_meta() != made.to_meta():
        raise UsageError(
            "The generator and the vocoder must have one definition of the spectrograms. Received: "
            f"{made.to_meta()} of the generator, {found[0].mel.to_meta()} of the vocoder"
        )
    made_shape = tuple(generator.outputs[0].shape[1:])
    if len(generator.outputs) != 1 or made_shape != spec.shape:
        raise UsageError(
            f"The generator must have one output of the shape of the samples, {spec.shape}. "
            f"Received: {[tuple(x.shape[1:]) for x in generator.outputs]}"
        )
    waves = synthesizer(generator.outputs[0])
    whole = keras.Model(generator.inputs, waves, name=generator.name)
    samples = Field("audio", waves.shape[1:], meta={"sample_rate": made.sample_rate})
    return whole, Spec(fields={**spec.fields, "samples": samples})


def _network(model: Any, average: bool) -> keras.Model:
    return model.exported(None, average) if isinstance(model, Game) else model
