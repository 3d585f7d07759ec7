"""Inputs that control a sampler of texts, and what the manifest says of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from export.declare import Declarations
from keras_gan import layers
from serving.texts import FREE, MAX_TEMPERATURE

_FILLS = {"temperature": 1.0, "prefix": float(FREE), "mask": 1.0}


def with_controls(model: keras.Model, declared: Declarations) -> tuple[keras.Model, Declarations]:
    """Returns a sampler of texts with its controls, and the declarations with these inputs.

    The inputs `temperature`, `prefix` and `mask` are constants by default. Any other model is
    returned as it is.

    Args:
        model: a built Keras model.
        declared: what the caller declares; of these inputs it takes precedence.
    """
    model = layers.with_controls(model)
    names = [tensor.name for tensor in getattr(model, "inputs", None) or ()]
    sampler = layers.find_sampler(model)
    if sampler is None or "prefix" not in names:
        return model, declared
    limits = {"temperature": MAX_TEMPERATURE, "prefix": sampler.vocabulary - 1, "mask": 1}
    facts = {
        name: {
            "fill": "constant",
            "value": value,
            "meta": {"value_range": (FREE if name == "prefix" else 0, limits[name])},
        }
        for name, value in _FILLS.items()
    }
    known = {name: {**own, **declared.inputs.get(name, {})} for name, own in facts.items()}
    outputs = dict(declared.outputs)
    if declared.kind is None and not declared.field_facts("samples") and not outputs:
        outputs["samples"] = {"kind": "text"}
    inputs = {**declared.inputs, **known}
    return model, dataclasses.replace(declared, inputs=inputs, outputs=outputs)


def describe(network: Any) -> dict[str, Any] | None:
    """Returns `text` of the manifest of a sampler; `None` of another network.

    | fact | meaning |
    |---|---|
    | `width` | numbers in each state of the step |
    | `ends` | true if token 0 ends a text |
    """
    sampler = layers.find_sampler(network.model)
    names = {port.name for port in network.inputs}
    if sampler is None or not {"latents", *_FILLS} <= names:
        return None
    return {"width": sampler.width, "ends": sampler.ends}
