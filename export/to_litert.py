"""Export of a generator to LiteRT (TensorFlow Lite), for phones and small devices."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from export.errors import one_line
from export.generator import Generator
from keras_gan import UsageError

FILE_NAME = "model.tflite"


class _ByName(keras.Model):
    """Keras model with the inputs and outputs of a generator by their names."""

    def __init__(self, generator: Generator):
        super().__init__(name="named")
        self.inner = generator.model  # for Keras to find the weights
        self._generator = generator

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        return self._generator.run(inputs)


def to_litert(generator: Generator, to: Path) -> None:
    """Converts a generator with Keras's own exporter.

    Only LiteRT's own operations are used, so a device does not need TensorFlow's.

    Raises:
        UsageError: an operation that LiteRT lacks.
    """
    specs: dict[str, Any] = {str(spec.name): spec for spec in generator.input_specs()}
    model = _ByName(generator)
    model({name: tf.zeros((1, *spec.shape[1:]), spec.dtype) for name, spec in specs.items()})
    target = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            model.export(to, "litert", verbose=False, input_signature=[specs], target_spec=target)
    except Exception as error:  # the converter raises anything
        raise UsageError(
            "Every operation of a generator must exist in LiteRT. "
            f"Received: model {generator.model.name!r} ({one_line(error)})"
        ) from error
