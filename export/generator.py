"""What is exported: one function from latents, and labels if it takes any, to samples."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import UsageError

# Ops that make a generator something else than a function of its inputs, or that only the Python
# process that traced them can run.
_NOT_A_FUNCTION = re.compile(
    r"Random|Rng|Multinomial|TruncatedNormal|Stateful|^Assign.*Variable|PyFunc|PyFuncStateless"
)


@dataclasses.dataclass(frozen=True)
class Generator:
    """A Keras generator with one calling convention, whatever the model's own is.

    Always runs with `training=False`, and always gives float32.

    Args:
        model: a built Keras model with float32 weights.
        pack: puts latents and labels into the arguments of the model.
        latent_dim: length of a latent vector.
        conditional: whether it takes labels.
        sample_shape: shape of one sample.
    """

    model: keras.Model
    pack: Callable[[Any, Any], tuple[tuple, dict]]
    latent_dim: int
    conditional: bool
    sample_shape: tuple[int, ...] = ()

    def __call__(self, latents: Any, labels: Any = None) -> tf.Tensor:
        args, kwargs = self.pack(latents, labels)
        samples = self.model(*args, **kwargs, training=False)
        if isinstance(samples, list | tuple | dict):
            raise UsageError(
                "A generator must have one output. "
                f"Received: {len(samples)} outputs of model {self.model.name!r}"
            )
        samples = tf.cast(samples, tf.float32)
        samples.set_shape((None, *self.sample_shape) if self.sample_shape else samples.shape)
        return samples

    def input_specs(self) -> list[tf.TensorSpec]:
        """Describes the inputs as every bundle names them."""
        latents = tf.TensorSpec((None, self.latent_dim), tf.float32, name="latents")
        labels = tf.TensorSpec((None,), tf.int64, name="labels")
        return [latents, labels] if self.conditional else [latents]

    def layer_of(self, op_name: str) -> keras.layers.Layer | None:
        """Finds the innermost Keras layer in whose scope an op was made, by the op's name."""
        layers = {layer.name: layer for layer in self.model._flatten_layers(include_self=False)}
        for scope in reversed(op_name.split("/")):
            # A scope that is entered again gets a number: "dense" becomes "dense_1".
            for name in (scope, re.sub(r"_\d+$", "", scope)):
                if name in layers:
                    return layers[name]
        return None


def open_generator(model: Any, *, average: bool = True) -> Generator:
    """Finds the generator in what the user gave, and how it is called.

    Args:
        model: a `keras_gan.GAN`, or a built Keras model with an input of latents and, if it is
            conditional, one of labels.
        average: of a GAN, the averaged generator instead of the one in training.

    Raises:
        UsageError: not a model, not built, inputs of another kind, state that changes on a call.
    """
    model = _generator_of(model, average)
    generator = _as_float32(_describe_inputs(model, _input_structure(model)))
    return dataclasses.replace(generator, sample_shape=_sample_shape(generator))


def check_is_function(generator: Generator, graph: tf.types.experimental.GenericFunction) -> None:
    """Refuses a generator whose graph draws random numbers or changes variables.

    Raises:
        UsageError: names the Keras layer and the op.
    """
    concrete: Any = graph.get_concrete_function()
    definition = concrete.graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    for node in nodes:
        if _NOT_A_FUNCTION.search(node.op):
            raise UsageError(
                "A generator must be a function of its inputs alone: with training=False no layer "
                "may draw random numbers, change a variable or call Python. "
                f"Received: {describe_op(generator, node.name, node.op)}"
            )


def describe_op(generator: Generator, op_name: str, op_type: str) -> str:
    """Names an op the way a user knows it: by the Keras layer that made it."""
    layer = generator.layer_of(op_name)
    if layer is None:
        return f"op {op_type} ({op_name}) of model {generator.model.name!r}"
    return f"op {op_type} in layer {layer.name!r} ({type(layer).__name__})"


@contextlib.contextmanager
def unchanged(model: keras.Model) -> Iterator[None]:
    """Puts every variable that training does not touch back to what it was, whatever happens."""
    trained = {id(variable) for variable in model.trainable_variables}
    saved = [(v, v.numpy()) for v in model.variables if id(v) not in trained]
    try:
        yield
    finally:
        for variable, value in saved:
            variable.assign(value)


@contextlib.contextmanager
def randomized_batch_statistics(model: keras.Model) -> Iterator[bool]:
    """Gives moving means and variances random values for a while; yields whether there are any.

    A fresh model has means 0 and variances 1, with which a normalization that is lost, doubled
    or run in training mode can go unseen.
    """
    statistics = [v for v in model.non_trainable_variables if _is_statistic(v)]
    saved = [(v, v.numpy()) for v in statistics]
    rng = np.random.default_rng(0)
    try:
        for variable, value in saved:
            low, high = (0.5, 2.0) if "var" in variable.name else (-0.5, 0.5)
            variable.assign(rng.uniform(low, high, value.shape).astype(value.dtype))
        yield bool(saved)
    finally:
        for variable, value in saved:
            variable.assign(value)


def _is_statistic(variable: Any) -> bool:
    moving = variable.name.startswith(("moving_", "running_"))
    return moving and "float" in keras.backend.standardize_dtype(variable.dtype)


def _generator_of(model: Any, average: bool) -> keras.Model:
    if hasattr(model, "generator") and hasattr(model, "latent_dim"):
        averaged = getattr(model, "average_generator", None)
        model = averaged if average and averaged is not None else model.generator
    if not isinstance(model, keras.Model):
        raise UsageError(
            "model must be a keras_gan.GAN or a Keras model that maps latents to samples. "
            f"Received: {type(model).__name__}"
        )
    if not model.built:
        raise UsageError(
            "A generator must be built before it is exported: call it once on a batch of latents. "
            f"Received: model {model.name!r}, not built"
        )
    return model


def _input_structure(model: keras.Model) -> Any:
    """Gives shape and dtype of the inputs, nested as the model takes them.

    A subclassed model that takes several arguments gives a dict that is marked as arguments.
    """
    if getattr(model, "inputs", None):
        struct = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
        return keras.tree.map_structure(
            lambda x: _Port(tuple(x.shape), keras.backend.standardize_dtype(x.dtype)), struct
        )
    config = model.get_build_config() or {}
    shapes = config.get("shapes_dict") or config.get("input_shape")
    if not shapes:
        raise UsageError(
            "A subclassed generator must have been called once before it is exported, so that the "
            f"shapes of its inputs are known. Received: model {model.name!r}"
        )
    if isinstance(shapes, dict) and all(key.endswith("_shape") for key in shapes):
        ports = {key.removesuffix("_shape"): _port_of(shape) for key, shape in shapes.items()}
        return next(iter(ports.values())) if len(ports) == 1 else _Arguments(ports)
    return _port_of(shapes)


@dataclasses.dataclass(frozen=True)
class _Port:
    shape: tuple
    dtype: str | None  # None: a subclassed model does not say


class _Arguments(dict):
    """Inputs that the model takes as separate arguments."""


def _port_of(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {key: _port_of(value) for key, value in shape.items()}
    if all(n is None or isinstance(n, int) for n in shape):
        return _Port(tuple(shape), None)
    return [_port_of(value) for value in shape]


def _describe_inputs(model: keras.Model, structure: Any) -> Generator:
    ports: dict[Any, _Port]
    if isinstance(structure, _Port):
        ports = {0: structure}
    else:
        ports = dict(structure if isinstance(structure, dict) else enumerate(structure))
    latents = _find_latents(model, ports)
    labels = next((key for key in ports if key != latents), None) if len(ports) == 2 else None
    if labels is not None:
        _check_labels(model, ports[labels])

    def pack(z: Any, y: Any) -> tuple[tuple, dict]:
        values = {
            latents: tf.cast(z, "float64" if ports[latents].dtype == "float64" else "float32")
        }
        if labels is not None:
            y = tf.cast(y, ports[labels].dtype or "int32")
            values[labels] = tf.expand_dims(y, -1) if len(ports[labels].shape) == 2 else y
        if isinstance(structure, _Port):
            return (values[latents],), {}
        if isinstance(structure, _Arguments):
            return (), values
        if isinstance(structure, dict):
            return ({key: values[key] for key in structure},), {}
        return ([values[key] for key in ports],), {}

    return Generator(model, pack, int(ports[latents].shape[-1]), labels is not None)


def _find_latents(model: keras.Model, ports: dict) -> Any:
    rule = (
        "A generator must take latents (batch, latent_dim), alone or with labels (batch,), as "
        "one tensor, a list or a dict."
    )
    received = f"Received: inputs {[port.shape for port in ports.values()]} of model {model.name!r}"
    if len(ports) not in (1, 2):
        raise UsageError(f"{rule} {received}")
    fitting = [
        key
        for key, port in ports.items()
        if len(port.shape) == 2
        and port.shape[-1]
        and (port.dtype is None or "float" in port.dtype)
        and "label" not in str(key)
    ]
    if not fitting:
        raise UsageError(f"{rule} {received}")
    wide = [key for key in fitting if ports[key].shape[-1] > 1]
    return (wide or fitting)[0]


def _check_labels(model: keras.Model, port: _Port) -> None:
    if len(port.shape) not in (1, 2) or (len(port.shape) == 2 and port.shape[-1] != 1):
        raise UsageError(
            "The labels input of a generator must hold class ids, shape (batch,) or (batch, 1). "
            f"Received: shape {port.shape} of model {model.name!r}"
        )


def _sample_shape(generator: Generator) -> tuple[int, ...]:
    labels = np.zeros(2, np.int64) if generator.conditional else None
    try:
        with unchanged(generator.model):
            samples = generator(np.zeros((2, generator.latent_dim), np.float32), labels)
    except UsageError:
        raise
    except Exception as error:  # whatever the user's layers may raise
        given = "latents and labels" if generator.conditional else "latents alone"
        raise UsageError(
            "A generator must run on latents (batch, latent_dim), alone or with labels (batch,) "
            f"in a list or dict. Received: model {generator.model.name!r}, which fails on {given}: "
            f"{one_line(error)}"
        ) from error
    if len(samples.shape) < 2 or samples.shape[0] != 2:
        raise UsageError(
            "A generator must give one sample for each latent vector. "
            f"Received: output of shape {tuple(samples.shape)} for 2 vectors"
        )
    return samples.numpy().shape[1:]


def _as_float32(generator: Generator) -> Generator:
    """Copies a mixed precision model into one that computes in float32; others stay as they are.

    ONNX and the servers' CPUs know little of bfloat16, and float16 is a step of its own that is
    measured by itself.
    """
    model = generator.model
    if not _reduced(model):
        return generator
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("float32")  # for layers that the constructor makes
        copy = type(model).from_config(_float32_config(model.get_config()))
        generator = dataclasses.replace(generator, model=copy)
        _sample_shape(generator)  # builds the copy
        for new, old in zip(copy.variables, model.variables, strict=True):
            new.assign(keras.ops.cast(old.value, new.dtype))
    except Exception as error:  # whatever the user's get_config and constructor may raise
        raise UsageError(
            "A generator in mixed precision is exported as a float32 copy, made by get_config and "
            f"from_config. Received: model {model.name!r}, whose copy fails: {one_line(error)}"
        ) from error
    finally:
        keras.config.set_dtype_policy(policy)
    if left := _reduced(copy):
        raise UsageError(
            "A generator is exported in float32, and its get_config must name the dtype of each "
            f"layer. Received: layer {left!r}, still in reduced precision"
        )
    return generator


def _reduced(model: keras.Model) -> str | None:
    for layer in model._flatten_layers():
        if layer.compute_dtype in ("float16", "bfloat16"):
            return layer.name
    return None


def _float32_config(config: Any) -> Any:
    if isinstance(config, dict):
        if config.get("class_name") in ("DTypePolicy", "FloatDTypePolicy"):
            return {**config, "config": {**config.get("config", {}), "name": "float32"}}
        return {
            key: "float32"
            if key == "dtype" and isinstance(value, str) and "float16" in value
            else _float32_config(value)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return type(config)(_float32_config(value) for value in config)
    return config


def one_line(error: BaseException) -> str:
    """Cuts an error of another library down to one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
