"""The input of codes that an exported generator gets, see `keras_gan.layers.LatentCodes`."""

from __future__ import annotations

import dataclasses

import keras

from export.declare import Declarations
from keras_gan.layers import find_codes, with_codes_input
from serving.kinds.codes import FROM_SEED

NAME = "codes"


def with_codes(model: keras.Model, declared: Declarations) -> tuple[keras.Model, Declarations]:
    """Returns a generator with an input of its codes, and the declarations with that input.

    The input is a constant by default, which leaves all codes to the seed. A model without codes
    is returned as it is.

    Args:
        model: a built Keras model.
        declared: what the caller declares; of the input `codes` it takes precedence.
    """
    model = with_codes_input(model)
    layer = find_codes(model)
    if layer is None or NAME not in [tensor.name for tensor in model.inputs]:
        return model, declared
    meta = {"categorical": list(layer.categorical), "continuous": layer.continuous}
    facts = {"fill": "constant", "value": FROM_SEED, "kind": "codes", "meta": meta}
    own = {**facts, **declared.inputs.get(NAME, {})}
    return model, dataclasses.replace(declared, inputs={**declared.inputs, NAME: own})
