"""What is exported: one function from latents, labels and other inputs to samples."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import UsageError

# Ops that make a generator something else than a function of its inputs, or that only the Python
# process that traced them can run.
_NOT_A_FUNCTION = re.compile(
    r"Random|Rng|Multinomial|TruncatedNormal|Stateful(?!PartitionedCall)|^Assign.*Variable|PyFunc|PyFuncStateless"
)


# What to do instead of each of them.
_INSTEAD = {
    r"Random|Rng|Multinomial|TruncatedNormal|Stateful": "take the noise as an input of the model, "
    "keras.Input(shape, name='noise')",
    r"Assign": "change variables only where training is true",
    r"PyFunc": "write it with keras.ops",
}

_RESERVED = {"seeds", "latents", "labels", "samples", "png_bytes"}  # names with a role in a bundle
_AUTOMATIC = re.compile(r"(keras_tensor|input_layer|input)(_\d+)?")  # numbered by the process
_LATENTS = re.compile(r"latents?|z|(noise)")
_LABELS = re.compile(r"label|class")


@dataclasses.dataclass(frozen=True)
class Generator:
    """A Keras generator with one calling convention, whatever the model's own is.

    Always runs with `training=False`, and always gives float32 where it gives floats.

    Args:
        model: a built Keras model with float32 weights.
        pack: puts values by the names of `input_specs` into the arguments of the model.
        latent_dim: length of a latent vector.
        conditional: whether it takes labels.
        num_classes: number of classes where the shape of the labels tells it (one-hot), else 0.
        extra_inputs: inputs beside latents and labels, under the model's own names.
        output_specs: what it gives: `samples`, then the model's other outputs by their names.
    """

    model: keras.Model
    pack: Callable[[Mapping[str, Any]], tuple[tuple, dict]]
    latent_dim: int
    conditional: bool
    num_classes: int = 0
    extra_inputs: tuple[Any, ...] = ()  # of tf.TensorSpec, each with a name
    output_specs: tuple[Any, ...] = ()

    def __call__(self, latents: Any, labels: Any = None, **extra: Any) -> tf.Tensor:
        return self.run({"latents": latents, "labels": labels, **extra})["samples"]

    def run(self, inputs: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """Gives every output by its name, `samples` first."""
        args, kwargs = self.pack(inputs)
        with _without_xla(self.model):
            outputs = _named_outputs(self.model, self.model(*args, **kwargs, training=False))
        specs = {spec.name: spec for spec in self.output_specs}
        for name, tensor in outputs.items():
            tensor = outputs[name] = tf.convert_to_tensor(tensor)
            if tensor.dtype.is_floating:
                outputs[name] = tensor = tf.cast(tensor, tf.float32)
            tensor.set_shape(specs[name].shape if name in specs else tensor.shape)
        return outputs

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.output_specs[0].shape[1:])

    def input_specs(self) -> list[Any]:
        """Describes the inputs as every bundle names them."""
        latents = tf.TensorSpec((None, self.latent_dim), tf.float32, name="latents")
        labels = tf.TensorSpec((None,), tf.int64, name="labels")
        return [latents, *([labels] if self.conditional else []), *self.extra_inputs]

    def layer_of(self, op_name: str) -> tuple[str, keras.layers.Layer] | None:
        """Finds the innermost Keras layer in whose scope an op was made, and its path."""
        scopes = op_name.split("/")
        layers = list(_layer_paths(self.model))
        for scope in reversed(scopes):
            # A scope that is entered again gets a number: "dense" becomes "dense_1".
            for name in (scope, re.sub(r"_\d+$", "", scope)):
                found = [(path, layer) for path, layer in layers if layer.name == name]
                if found:  # layers of several nested models may share a name
                    return max(found, key=lambda x: sum(n in scopes for n in x[0].split("/")))
        return None


@contextlib.contextmanager
def _without_xla(model: keras.Model) -> Iterator[None]:
    """Keeps Keras from compiling convolutions in groups by XLA, which ONNX and servers lack."""
    convolutions = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
    layers = model._flatten_layers()
    grouped = any(isinstance(layer, convolutions) and layer.groups > 1 for layer in layers)
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(before or grouped)  # a function in a function is then its ops
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _layer_paths(model: keras.layers.Layer, above: str = "") -> Iterator[tuple[str, Any]]:
    for layer in model._flatten_layers(include_self=False, recursive=False):
        yield above + layer.name, layer
        yield from _layer_paths(layer, f"{above}{layer.name}/")


def open_generator(model: Any, *, average: bool = True, num_classes: int = 0) -> Generator:
    """Finds the generator in what the user gave, and how it is called.

    Args:
        model: a `keras_gan.GAN`, or a built Keras model with an input of latents, if it is
            conditional one of labels (ids or one-hot), and any others.
        average: of a GAN, the averaged generator instead of the one in training.
        num_classes: number of classes, 0 if not known; tells one-hot labels from other inputs.

    Raises:
        UsageError: not a model, not built, inputs of another kind, state that changes on a call.
    """
    model = _generator_of(model, average)
    generator = _as_float32(_describe_inputs(model, _input_structure(model), num_classes))
    return dataclasses.replace(generator, output_specs=_output_specs(generator))


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
                f"Received: {describe_op(generator, node.name, node.op)}; {_instead(node.op)}"
            )
        if node.op == "Cast" and node.attr["DstT"].type == tf.bfloat16.as_datatype_enum:
            raise UsageError(
                "A generator is exported in float32, and no layer may cast to bfloat16 by itself. "
                f"Received: {describe_op(generator, node.name, node.op)}; cast to the layer's "
                "compute_dtype, which follows the policy"
            )


def _instead(op_type: str) -> str:
    return next(text for pattern, text in _INSTEAD.items() if re.search(pattern, op_type))


def describe_op(generator: Generator, op_name: str, op_type: str) -> str:
    """Names an op the way a user knows it: by the path of the Keras layer that made it."""
    found = generator.layer_of(op_name)
    if found is None:
        return f"op {op_type} ({op_name}) of model {generator.model.name!r}"
    path, layer = found
    return f"op {op_type} in layer {path!r} ({type(layer).__name__})"


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
    """Moves moving means and variances at random for a while; yields whether there are any.

    A fresh model has means 0 and variances 1, with which a normalization that is lost, doubled
    or run in training mode can go unseen. Those of a trained one move in proportion: variances
    that are not those of its activations at all would let it overflow.
    """
    statistics = [v for v in model.non_trainable_variables if _is_statistic(v)]
    saved = [(v, v.numpy()) for v in statistics]
    deviations = {v.path: np.sqrt(np.abs(value)) for v, value in saved if "var" in v.name}
    rng = np.random.default_rng(0)
    try:
        for variable, value in saved:
            if "var" in variable.name:
                moved = value * rng.uniform(0.5, 2.0, value.shape)
            else:
                deviation = deviations.get(variable.path.replace("mean", "variance"), 1.0)
                moved = value + deviation * rng.uniform(-0.5, 0.5, value.shape)
            variable.assign(moved.astype(value.dtype))
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
            lambda x: _Port(tuple(x.shape), keras.backend.standardize_dtype(x.dtype), x.name),
            struct,
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
    name: str = ""

    @property
    def is_float(self) -> bool:
        return self.dtype is None or "float" in self.dtype

    @property
    def given_dtype(self) -> str | None:
        """What it is given: float32 to a copy of a model of less."""
        return "float32" if self.dtype in ("float16", "bfloat16") else self.dtype

    @property
    def is_column(self) -> bool:
        """Whether it holds one number for each sample, as ids of classes do."""
        return len(self.shape) == 1 or (len(self.shape) == 2 and self.shape[-1] == 1)

    @property
    def is_vector(self) -> bool:
        """Whether it holds one vector for each sample; (1, 1, n) and named latents count."""
        sizes = self.shape[1:]
        if not sizes or not all(sizes) or not self.is_float:
            return False
        return sum(n > 1 for n in sizes) <= 1 or bool(_LATENTS.fullmatch(self.name))


class _Arguments(dict):
    """Inputs that the model takes as separate arguments."""


def _port_of(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {key: _port_of(value) for key, value in shape.items()}
    if all(n is None or isinstance(n, int) for n in shape):
        return _Port(tuple(shape), None)
    return [_port_of(value) for value in shape]


def _describe_inputs(model: keras.Model, structure: Any, num_classes: int) -> Generator:
    ports = _name_ports(model, structure)
    latents, labels = _find_roles(model, ports, num_classes)
    names = {key: port.name for key, port in ports.items()}
    names |= {latents: "latents"} | ({} if labels is None else {labels: "labels"})

    def pack(given: Mapping[str, Any]) -> tuple[tuple, dict]:
        values = {key: given[names[key]] for key in ports}
        values[latents] = tf.reshape(values[latents], (-1, *ports[latents].shape[1:]))
        if labels is not None:
            values[labels] = _encode_labels(values[labels], ports[labels])
        values = {key: tf.cast(x, ports[key].given_dtype or x.dtype) for key, x in values.items()}
        if isinstance(structure, _Port):
            return (values[latents],), {}
        if isinstance(structure, _Arguments):
            return (), values
        if isinstance(structure, dict):
            return ({key: values[key] for key in structure},), {}
        return ([values[key] for key in ports],), {}

    return Generator(
        model,
        pack,
        latent_dim=math.prod(ports[latents].shape[1:]),
        conditional=labels is not None,
        num_classes=0 if labels is None or ports[labels].is_column else ports[labels].shape[-1],
        extra_inputs=_extra_inputs(model, ports, {latents, labels}),
    )


def _name_ports(model: keras.Model, structure: Any) -> dict[Any, _Port]:
    """Gives every input a name that does not depend on what else the process has built."""
    if isinstance(structure, _Port):
        return {0: structure}
    ports = dict(structure if isinstance(structure, dict) else enumerate(structure))
    if not all(isinstance(port, _Port) for port in ports.values()):
        raise UsageError(
            "The inputs of a generator must be one tensor, a list or a dict of tensors. "
            f"Received: nested inputs of model {model.name!r}"
        )
    named = {}
    for position, (key, port) in enumerate(ports.items()):
        name = key if isinstance(key, str) else port.name
        automatic = not name or _AUTOMATIC.fullmatch(name)
        named[key] = dataclasses.replace(port, name=f"input_{position}" if automatic else name)
    return named


def _find_roles(model: keras.Model, ports: dict[Any, _Port], num_classes: int) -> tuple[Any, Any]:
    """Tells which input takes the latents and which the labels, `None` where none does."""
    labels = _find_labels(ports)
    vectors = [key for key, port in ports.items() if port.is_vector and key != labels]
    if not vectors:
        raise UsageError(
            "A generator must take latents (batch, latent_dim), alone or beside labels (batch,) "
            "and other inputs, as one tensor, a list or a dict. Received: inputs "
            f"{[port.shape for port in ports.values()]} of model {model.name!r}"
        )

    def rank(key: Any) -> tuple:
        port = ports[key]
        width = math.prod(port.shape[1:])
        named = _LATENTS.fullmatch(port.name)
        noise = bool(named and named[1])  # beside a z it is more often what a layer adds
        return (not named, noise, width == 1, width == num_classes)

    latents = min(vectors, key=rank)
    others = [key for key in ports if key != latents]
    if labels is None and num_classes:
        ids = [key for key in others if ports[key].is_column]
        one_hot = [key for key in others if ports[key].shape[1:] == (num_classes,)]
        labels = next(iter(ids + one_hot), None)
    if labels is None and len(ports) == 2 and ports[others[0]].dtype is None:
        labels = others[0] if ports[others[0]].is_column else None  # a subclassed model's
    return latents, labels


def _find_labels(ports: dict[Any, _Port]) -> Any:
    """Finds labels by their name, else by their dtype."""
    if len(ports) == 1:
        return None
    for key, port in ports.items():
        one_hot = len(port.shape) == 2 and port.is_float
        if _LABELS.search(port.name) and (port.is_column or one_hot):
            return key
    columns = (key for key, port in ports.items() if port.is_column and not port.is_float)
    return next(columns, None)


def _encode_labels(labels: Any, port: _Port) -> tf.Tensor:
    if not port.is_column:
        return tf.one_hot(labels, port.shape[-1])
    labels = tf.cast(labels, port.dtype or "int32")
    return tf.expand_dims(labels, -1) if len(port.shape) == 2 else labels


def _extra_inputs(model: keras.Model, ports: dict[Any, _Port], known: set) -> tuple:
    extra = {key: port for key, port in ports.items() if key not in known}
    for key, port in extra.items():
        if not all(port.shape[1:]):
            raise UsageError(
                "Every dimension of an input but the batch must be fixed. "
                f"Received: input {port.name!r} of model {model.name!r}, shape {port.shape}"
            )
        extra[key] = dataclasses.replace(port, name=re.sub(r"\W", "_", port.name))
    _check_names(model, [port.name for port in extra.values()], "inputs", _RESERVED)
    return tuple(
        tf.TensorSpec(
            (None, *port.shape[1:]), "float32" if port.is_float else str(port.dtype), name=port.name
        )
        for port in extra.values()
    )


def _named_outputs(model: keras.Model, outputs: Any) -> dict[str, Any]:
    """Names what a model gives; the first, or the one that is named so, are the samples."""
    if isinstance(outputs, dict):
        named = {str(name): value for name, value in outputs.items()}
    elif isinstance(outputs, list | tuple):
        own = list(getattr(model, "output_names", None) or [])
        usable = len(set(own)) == len(outputs)
        names = own if usable else [f"output_{i}" for i in range(len(outputs))]
        named = dict(zip(names, outputs, strict=True))
    else:
        named = {"samples": outputs}
    first = "samples" if "samples" in named else next(iter(named), "")
    others = {re.sub(r"\W", "_", n): value for n, value in named.items() if n != first}
    return {"samples": named.get(first), **others}


def _check_names(model: keras.Model, names: Sequence[str], what: str, taken: set[str]) -> None:
    for i, name in enumerate(names):
        if name in taken or name in names[:i]:
            raise UsageError(
                f"The {what} of a generator beside latents, labels and samples must have names of "
                f"their own. Received: {name!r} of model {model.name!r}"
            )


def _output_specs(generator: Generator) -> tuple[Any, ...]:
    """Runs two samples, to know what comes out."""
    specs = generator.input_specs()
    names = [spec.name for spec in specs]
    given = {spec.name: np.zeros((2, *spec.shape[1:]), spec.dtype.as_numpy_dtype) for spec in specs}
    try:
        with unchanged(generator.model):
            outputs = generator.run(given)
    except UsageError:
        raise
    except Exception as error:  # whatever the user's layers may raise
        told = " and ".join(names) + (" alone" if len(names) == 1 else "")
        raise UsageError(
            "A generator must run on latents (batch, latent_dim), alone or with labels (batch,) "
            "and other inputs in a list or dict. "
            f"Received: model {generator.model.name!r}, which fails on {told}: {one_line(error)}"
        ) from error
    for name, tensor in outputs.items():
        if tensor.shape.rank < (2 if name == "samples" else 1) or tensor.shape[0] != 2:
            raise UsageError(
                "A generator must give one sample for each latent vector. "
                f"Received: output {name!r} of shape {tuple(tensor.shape)} for 2 vectors"
            )
    _check_names(generator.model, [*outputs][1:], "outputs", _RESERVED | set(names))
    return tuple(
        tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=name)
        for name, tensor in outputs.items()
    )


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
        _output_specs(generator)  # builds the copy
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
