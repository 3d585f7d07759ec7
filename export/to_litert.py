"""Export of a network to LiteRT (TensorFlow Lite), for phones and small devices."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export.errors import WriteError, one_line, writing
from export.isolated import absolute, run_isolated
from export.network import Network
from export.sizes import resolve
from keras_gan import UsageError

FILE_NAME = "model.tflite"
# Other errors of TensorFlow are those of the conversion.
_DISK_ERRORS = (OSError, tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError)


class _ByName(keras.Model):
    """Keras model with the inputs and outputs of a network by their names."""

    def __init__(self, network: Network):
        super().__init__(name="named")
        self.inner = network.model  # for Keras to find the weights
        self._network = network

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        return self._network.run(inputs)


def to_litert(network: Network, to: Path) -> None:
    """Converts a network with Keras's own exporter.

    Only LiteRT's own operations are used, so a device does not need TensorFlow's.

    Raises:
        UsageError: an operation that LiteRT lacks, or a disk that is full or not writable.
    """
    specs: dict[str, Any] = {str(spec.name): spec for spec in network.input_specs()}
    model = _ByName(network)
    shapes = {port.name: resolve(port.shape, network.sizes[0]) for port in network.inputs}
    model({name: tf.zeros((1, *shapes[name]), spec.dtype) for name, spec in specs.items()})
    target = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    try:
        with (
            writing(to, _DISK_ERRORS),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            model.export(to, "litert", verbose=False, input_signature=[specs], target_spec=target)
    except WriteError:
        raise
    except Exception as error:  # the converter raises anything
        raise UsageError(
            "Every operation of a network must exist in LiteRT. "
            f"Received: model {network.model.name!r} ({one_line(error)})"
        ) from error


def run_litert(
    path: Path, batches: Sequence[Mapping[str, np.ndarray]]
) -> list[dict[str, np.ndarray]]:
    """Runs a LiteRT model in the interpreter that TensorFlow includes, without Keras.

    Raises:
        UsageError: the model does not load or run.
    """
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for number, inputs in enumerate(batches):
            file = Path(folder, f"inputs_{number}.npz")
            np.savez(file, **inputs)  # type: ignore[arg-type]
            count = len(next(iter(inputs.values())))
            run = {"litert": absolute(path), "inputs": absolute(file), "batch": count}
            runs.append(run)
        return run_isolated(runs, path.name)
