"""Feature extractors from Keras models and .keras files."""

from __future__ import annotations

import hashlib
import json
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan.errors import UsageError, one_line
from keras_gan.games.gan import GAN
from keras_gan.metrics.extractor import Extractor, Outputs, softmax

RUNTIME = f"tensorflow {tf.__version__}"


def load_keras(file: pathlib.Path) -> Any:
    """Loads a model from a .keras file.

    Raises:
        UsageError: Keras cannot load it.
    """
    try:
        return keras.saving.load_model(file, compile=False)
    except Exception as error:  # Keras raises many classes
        line = one_line(error)
        raise UsageError(f"Keras must load the extractor. Received: {file}: {line}") from error


def from_keras(model: Any, name: str, sha256: str | None) -> Extractor:
    """Returns the extractor of a Keras model, see `open_features`.

    Raises:
        UsageError: a `GAN`, a model that is not built, or one with several inputs.
    """
    _check(model, name)
    shape = getattr(model, "input_shape", ())  # a subclassed model has none
    is_classifier = _is_classifier(model)
    if is_classifier:
        last = [layer for layer in model.layers if layer.weights][-1]
        model = keras.Model(model.inputs, [last.input, *model.outputs])
    call = tf.function(lambda x: model(x, training=False), reduce_retracing=True)

    def run(samples: np.ndarray) -> Outputs:
        result = call(tf.constant(samples))
        if isinstance(result, dict):
            result = [result["features"], *(result[k] for k in ("logits",) if k in result)]
        outputs = [np.asarray(x, np.float32) for x in tf.nest.flatten(result)]
        features = outputs[0].reshape(len(outputs[0]), -1)
        if len(outputs) == 1:
            return features, None
        return features, outputs[1] if is_classifier else softmax(outputs[1])

    sizes: Any = tuple(shape[1:]) if len(shape) == 4 else (None, None, None)
    return Extractor(name, run, sha256, sizes, runtime=RUNTIME)


def _check(model: Any, name: str) -> None:
    if isinstance(model, GAN):
        raise UsageError(
            "An extractor must be a single model, such as gan.discriminator. "
            f"Received: the game {model.name!r}"
        )
    if not model.built:
        raise UsageError(
            "A Keras model for features must be built: begin it with keras.Input, or call it once "
            f"on a batch. Received: {name!r} without weights"
        )
    shape = getattr(model, "input_shape", ())
    if isinstance(shape, list | dict) or shape is None:
        raise UsageError(
            f"A Keras model for features must have one input. Received: {name!r} with {shape}"
        )


def _is_classifier(model: Any) -> bool:
    """Returns whether the only output is probabilities: its layer is or ends in a softmax."""
    outputs = getattr(model, "outputs", None)  # a subclassed model has none
    if not isinstance(outputs, list) or len(outputs) != 1:
        return False
    if not any(layer.weights for layer in model.layers):
        return False
    last = model.layers[-1]
    activation = getattr(last, "activation", None)
    return isinstance(last, keras.layers.Softmax) or activation is keras.activations.softmax


def hash_model(model: keras.Model) -> str:
    """Returns the SHA-256 of a model's configuration and weights."""
    digest = hashlib.sha256(json.dumps(model.get_config(), default=str, sort_keys=True).encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def has_only_keras_code(model: Any) -> bool:
    """Returns whether all layers and functions of a model are Keras's own."""
    flatten = getattr(model, "_flatten_layers", None)
    layers = [model] if flatten is None else list(flatten())
    if any(not type(layer).__module__.startswith("keras.") for layer in layers):
        return False
    return not any(isinstance(layer, keras.layers.Lambda) for layer in layers) and _is_plain(
        [layer.get_config() for layer in layers]
    )


def _is_plain(config: Any) -> bool:
    """Returns whether a configuration names only functions and classes of Keras."""
    if isinstance(config, dict):
        module = config.get("module") if "class_name" in config else None
        if module is not None and not str(module).startswith("keras"):
            return False
        return all(_is_plain(value) for value in config.values())
    if isinstance(config, list | tuple):
        return all(_is_plain(value) for value in config)
    return config is None or isinstance(config, str | int | float | bool | np.generic)
