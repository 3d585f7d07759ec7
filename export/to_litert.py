"""A generator as a LiteRT (TensorFlow Lite) model, for phones and small devices."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from export.generator import Generator, one_line
from keras_gan import UsageError

FILE_NAME = "model.tflite"


class _Named(keras.Model):
    """A generator that takes and gives its tensors by their names."""

    def __init__(self, generator: Generator):
        super().__init__(name="named")
        self.inner = generator.model  # for Keras to find the weights
        self._generator = generator

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        return self._generator.run(inputs)


def to_litert(generator: Generator, to: Path) -> None:
    """Converts a generator by Keras's own exporter.

    Every operation is one of LiteRT's own: a device need not have TensorFlow's.

    Raises:
        UsageError: an operation that LiteRT does not have.
    """
    specs: dict[str, Any] = {str(spec.name): spec for spec in generator.input_specs()}
    model = _Named(generator)
    model({name: tf.zeros((1, *spec.shape[1:]), spec.dtype) for name, spec in specs.items()})
    own = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            model.export(to, "litert", verbose=False, input_signature=[specs], target_spec=own)
    except Exception as error:  # the converter raises whatever it meets
        raise UsageError(
            "Every operation of a generator must exist in LiteRT. "
            f"Received: model {generator.model.name!r} ({one_line(error)})"
        ) from error
