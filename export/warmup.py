"""Warm-up requests of TF Serving: a TFRecord of `tensorflow.serving.PredictionLog`.

The package that defines these messages depends on TensorFlow under one package name, which breaks
other builds of it. So the few that are needed are declared here, with the field numbers of
`tensorflow_serving/apis`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorflow.core.framework import tensor_pb2  # its classes are created at run time

from export.network import Network
from export.sizes import resolve

_PACKAGE = "keras_gan.tensorflow_serving"  # differs from that of the real messages
_Field = descriptor_pb2.FieldDescriptorProto


def write_warmup(path: Path, name: str, signatures: Mapping[str, Any], network: Network) -> None:
    """Writes one request of one sample for each signature.

    Args:
        path: `assets.extra/tf_serving_warmup_requests` in the folder of the version.
        name: name of the model.
        signatures: concrete function of each signature.
        network: the network, whose named sizes have tested values.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = {port.name: resolve(port.shape, network.sizes[0]) for port in network.inputs}
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, function in signatures.items():
            specs = function.structured_input_signature[0]
            inputs = {
                spec.name: np.zeros((1, *shapes.get(spec.name, ())), spec.dtype.as_numpy_dtype)
                for spec in specs
            }
            writer.write(
                prediction_log(name, signature, inputs).SerializeToString(deterministic=True)
            )


def prediction_log(name: str, signature: str, inputs: Mapping[str, np.ndarray]) -> Any:
    """Builds the PredictionLog of one predict request."""
    log = message_class("PredictionLog")()
    request = log.predict_log.request
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return log


@functools.cache
def message_class(name: str) -> Any:
    """Returns the class of a message: ModelSpec, PredictRequest, PredictLog or PredictionLog."""
    pool = descriptor_pool.Default()
    try:
        found = pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")
    except KeyError:
        pool.Add(_file())  # type: ignore[attr-defined]
        found = pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")
    return message_factory.GetMessageClass(found)


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="keras_gan/prediction_log.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[tensor_pb2.DESCRIPTOR.name],
    )
    spec = file.message_type.add(name="ModelSpec")
    spec.field.append(_field("name", 1, _Field.TYPE_STRING))
    spec.field.append(_field("signature_name", 3, _Field.TYPE_STRING))

    request = file.message_type.add(name="PredictRequest")
    entry = request.nested_type.add(name="InputsEntry")
    entry.options.map_entry = True
    entry.field.append(_field("key", 1, _Field.TYPE_STRING))
    entry.field.append(_message("value", 2, "tensorflow.TensorProto"))
    request.field.append(_message("model_spec", 1, f"{_PACKAGE}.ModelSpec"))
    inputs = _message("inputs", 2, f"{_PACKAGE}.PredictRequest.InputsEntry")
    inputs.label = _Field.LABEL_REPEATED
    request.field.append(inputs)

    predict = file.message_type.add(name="PredictLog")
    predict.field.append(_message("request", 1, f"{_PACKAGE}.PredictRequest"))
    log = file.message_type.add(name="PredictionLog")
    log.field.append(_message("predict_log", 6, f"{_PACKAGE}.PredictLog"))
    return file


def _field(name: str, number: int, kind: Any) -> descriptor_pb2.FieldDescriptorProto:
    return _Field(name=name, number=number, type=kind, label=_Field.LABEL_OPTIONAL)


def _message(name: str, number: int, kind: str) -> descriptor_pb2.FieldDescriptorProto:
    field = _field(name, number, _Field.TYPE_MESSAGE)
    field.type_name = f".{kind}"
    return field
