"""A generator as an ONNX model with the names and shapes that the manifest promises."""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Collection, Iterator

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf

from export.generator import Generator, check_is_function, describe_op, one_line
from export.passes import optimize
from keras_gan import UsageError

OPSETS = range(13, 19)  # what tf2onnx 1.17 converts to and onnxruntime runs
_MAX_BYTES = 2**31 - 2**20  # a protobuf message ends at 2 GB
_UNSUPPORTED = re.compile(r"Tensorflow op \[(?P<name>[^:\]]+): (?P<type>\w+)\] is not supported")


def to_onnx(
    generator: Generator, opset: int = 17, without: Collection[str] = ()
) -> onnx.ModelProto:
    """Converts a generator to ONNX, optimizes it, and loads the result to know that it is valid.

    Args:
        generator: what to convert.
        opset: ONNX operator set, 13 to 18.
        without: names of `export.passes.PASSES` to leave out.

    Raises:
        UsageError: an operation that ONNX cannot express; names the Keras layer and the op.
    """
    if opset not in OPSETS:
        raise UsageError(
            f"opset must be {OPSETS.start} to {OPSETS.stop - 1}. Received: opset={opset!r}"
        )
    size = sum(int(np.prod(weight.shape)) * 4 for weight in generator.model.weights)
    if size > _MAX_BYTES:
        raise UsageError(
            "A model in one ONNX file holds at most 2 GB. "
            f"Received: {size / 2**30:.1f} GB of weights"
        )
    function = as_function(generator)
    check_is_function(generator, function)
    model = _convert(generator, function, opset)
    _name_dimensions(model, generator)
    optimize(model, without)
    _check(model, generator)
    return model


def as_function(generator: Generator) -> tf.types.experimental.GenericFunction:
    """Makes the function that both formats export: latents[, labels] to a dict of samples."""

    def samples(latents, *labels):
        return {"samples": generator(latents, *labels)}

    return tf.function(samples, input_signature=generator.input_specs(), autograph=False)


def _convert(generator: Generator, function: tf.types.experimental.GenericFunction, opset: int):
    with _captured_log() as log:
        import tf2onnx  # half a second that `import export` need not take

        error = None
        try:
            model, _ = tf2onnx.convert.from_function(
                function, input_signature=generator.input_specs(), opset=opset
            )
        except Exception as raised:  # tf2onnx raises whatever its handlers happen to meet
            error, model = raised, None
    unsupported = [match for line in log if (match := _UNSUPPORTED.search(line))]
    if unsupported:
        first = unsupported[0]
        raise UsageError(
            "Every operation of a generator must exist in ONNX. "
            f"Received: {describe_op(generator, first['name'], first['type'])}"
        )
    if model is None or any("ERROR" in line for line in log):
        reason = one_line(error) if error else next(line for line in log if "ERROR" in line)
        raise UsageError(_refusal(generator, reason))
    return model


def _name_dimensions(model: onnx.ModelProto, generator: Generator) -> None:
    """Says in the file what tf2onnx leaves open: a batch of any size, everything else fixed."""
    shapes: dict[str, tuple[int, ...]] = {
        "latents": (generator.latent_dim,),
        "labels": (),
        "samples": generator.sample_shape,
    }
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape
        dims.ClearField("dim")
        dims.dim.add().dim_param = "batch"
        for size in shapes[value.name]:
            dims.dim.add().dim_value = int(size)


def _check(model: onnx.ModelProto, generator: Generator) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
        open_session(model.SerializeToString())
    except Exception as error:  # onnx and onnxruntime have a class for each failure
        raise UsageError(_refusal(generator, one_line(error))) from error


def open_session(model: bytes | str) -> onnxruntime.InferenceSession:
    """Opens a session on the CPU, the place where results are compared."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _refusal(generator: Generator, reason: str) -> str:
    where = _first_failing_layer(generator) or f"model {generator.model.name!r}"
    return f"A generator must be convertible to ONNX. Received: {where} ({reason})"


def _first_failing_layer(generator: Generator) -> str | None:
    """Bisects a model made of layers in a row for the first one that does not convert."""
    layers = [layer for layer in generator.model.layers if _one_output(layer)]
    if not getattr(generator.model, "inputs", None) or not layers:
        return None
    low, high = 0, len(layers) - 1
    while low < high:
        middle = (low + high) // 2
        if _converts(generator, layers[middle]):
            low = middle + 1
        else:
            high = middle
    return f"layer {layers[low].name!r} ({type(layers[low]).__name__})"


def _one_output(layer: keras.layers.Layer) -> bool:
    try:
        return isinstance(layer.output, keras.KerasTensor) and not isinstance(
            layer, keras.layers.InputLayer
        )
    except (AttributeError, ValueError):
        return False


def _converts(generator: Generator, layer: keras.layers.Layer) -> bool:
    model = generator.model
    try:
        part = keras.Model(model.inputs, layer.output)
        specs = [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in model.inputs]
        function = tf.function(lambda *x: part(list(x), training=False), autograph=False)
        with _captured_log() as log:
            import tf2onnx

            converted, _ = tf2onnx.convert.from_function(function, input_signature=specs)
        open_session(converted.SerializeToString())
    except Exception:  # any failure means no
        return False
    return not any("ERROR" in line for line in log)


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname}: {record.getMessage()}")


@contextlib.contextmanager
def _captured_log() -> Iterator[list[str]]:
    """Keeps what tf2onnx only logs, such as an operation it has left out of the model."""
    handler, logger = _Lines(), logging.getLogger("tf2onnx")
    propagate = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
