"""Messages of TensorFlow Serving and Triton that the tests need.

Written from the public .proto files: names and numbers of fields, which are all that text and
bytes depend on. Where `tensorflow-serving-api` is installed, `test_tf_serving.py` holds the real
ones against these.
"""

import functools

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorflow.core.framework import tensor_pb2

Field = descriptor_pb2.FieldDescriptorProto

# message: {field: (number, type)}; a type is a scalar, a message here, or TensorProto.
MESSAGES = {
    "Int64Value": {"value": (1, "int64")},
    # apis/model.proto, apis/predict.proto
    "ModelSpec": {
        "name": (1, "string"),
        "version": (2, "Int64Value"),
        "signature_name": (3, "string"),
    },
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "map")},
    "PredictResponse": {"outputs": (1, "map"), "model_spec": (2, "ModelSpec")},
    # config/model_server_config.proto, config/monitoring_config.proto
    "ModelServerConfig": {"model_config_list": (1, "ModelConfigList")},
    "ModelConfigList": {"config": (1, "repeated ModelConfig")},
    "ModelConfig": {
        "name": (1, "string"),
        "base_path": (2, "string"),
        "model_platform": (4, "string"),
        "model_version_policy": (7, "VersionPolicy"),
    },
    "VersionPolicy": {"latest": (100, "Latest")},
    "Latest": {"num_versions": (1, "uint32")},
    "MonitoringConfig": {"prometheus_config": (1, "PrometheusConfig")},
    "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
    # servables/tensorflow/session_bundle_config.proto
    "BatchingParameters": {
        "max_batch_size": (1, "Int64Value"),
        "batch_timeout_micros": (2, "Int64Value"),
        "max_enqueued_batches": (3, "Int64Value"),
        "num_batch_threads": (4, "Int64Value"),
        "allowed_batch_sizes": (6, "repeated int64"),
    },
    # Triton's model_config.proto
    "TritonConfig": {
        "name": (1, "string"),
        "version_policy": (3, "TritonVersions"),
        "max_batch_size": (4, "int32"),
        "input": (5, "repeated TritonPort"),
        "output": (6, "repeated TritonPort"),
        "instance_group": (7, "repeated TritonInstances"),
        "parameters": (14, "repeated TritonParameter"),
        "dynamic_batching": (11, "TritonBatching"),
        "model_warmup": (16, "repeated TritonWarmup"),
        "backend": (17, "string"),
    },
    "TritonVersions": {"latest": (1, "Latest")},
    "TritonParameter": {"key": (1, "string"), "value": (2, "TritonText")},
    "TritonText": {"string_value": (1, "string")},
    "TritonPort": {
        "name": (1, "string"),
        "data_type": (2, "enum"),
        "dims": (4, "repeated int64"),
        "reshape": (5, "TritonShape"),
    },
    "TritonShape": {"shape": (1, "repeated int64")},
    "TritonInstances": {"kind": (4, "enum")},
    "TritonBatching": {"max_queue_delay_microseconds": (2, "uint64")},
    "TritonWarmup": {
        "name": (1, "string"),
        "batch_size": (2, "uint32"),
        "inputs": (3, "repeated TritonWarmupEntry"),
    },
    "TritonWarmupEntry": {"key": (1, "string"), "value": (2, "TritonWarmupInput")},
    "TritonWarmupInput": {
        "data_type": (1, "enum"),
        "dims": (2, "repeated int64"),
        "zero_data": (3, "bool"),
    },
}
VALUES = {"TYPE_FP32": 11, "TYPE_INT64": 5, "KIND_AUTO": 0, "KIND_CPU": 2}
PACKAGE = "keras_gan.tests"


@functools.cache
def message(name):
    """Returns the class of a message."""
    pool = descriptor_pool.Default()
    try:
        found = pool.FindMessageTypeByName(f"{PACKAGE}.{name}")
    except KeyError:
        pool.Add(file())
        found = pool.FindMessageTypeByName(f"{PACKAGE}.{name}")
    return message_factory.GetMessageClass(found)


def file():
    made = descriptor_pb2.FileDescriptorProto(
        name="keras_gan/tests.proto",
        package=PACKAGE,
        syntax="proto3",
        dependency=[tensor_pb2.DESCRIPTOR.name],
    )
    values = made.enum_type.add(name="Values")
    values.options.allow_alias = True
    for name, number in sorted(VALUES.items(), key=lambda item: item[1]):
        values.value.add(name=name, number=number)
    for name, fields in MESSAGES.items():
        described = made.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            described.field.append(describe(described, field, number, kind))
    return made


def describe(owner, name, number, kind):
    repeated = kind.startswith("repeated ") or kind == "map"
    kind = kind.removeprefix("repeated ")
    label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
    field = Field(name=name, number=number, label=label)
    if kind == "map":
        entry = owner.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        entry.field.append(Field(name="key", number=1, type=Field.TYPE_STRING, label=1))
        value = Field(name="value", number=2, type=Field.TYPE_MESSAGE, label=1)
        value.type_name = ".tensorflow.TensorProto"
        entry.field.append(value)
        kind = f"{owner.name}.{entry.name}"
    if kind == "enum":
        field.type, field.type_name = Field.TYPE_ENUM, f".{PACKAGE}.Values"
    elif hasattr(Field, f"TYPE_{kind.upper()}"):
        field.type = getattr(Field, f"TYPE_{kind.upper()}")
    else:
        field.type, field.type_name = Field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    return field
