"""Inputs and outputs of a Keras model: shapes, dtypes, names, and the role of each in a bundle."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_gan import UsageError

RESERVED = {"seeds", "latents", "labels", "samples", "png_bytes"}  # names with a role in a bundle
_AUTOMATIC = re.compile(r"(keras_tensor|input_layer|input)(_\d+)?")  # numbered by the process
_LATENTS = re.compile(r"latents?|z|(noise)")
_LABELS = re.compile(r"label|class")


@dataclasses.dataclass(frozen=True)
class Port:
    """One input of a model.

    Args:
        shape: shape with the batch dimension; `None` for a size that is not fixed.
        dtype: dtype that the model declares, `None` for a subclassed model, which declares none.
        name: name that does not depend on what else the process has built.
    """

    shape: tuple
    dtype: str | None
    name: str = ""

    @property
    def is_float(self) -> bool:
        return self.dtype is None or "float" in self.dtype

    @property
    def cast_dtype(self) -> str | None:
        """Dtype that values are cast to: float32 for a copy of a model in reduced precision."""
        return "float32" if self.dtype in ("float16", "bfloat16") else self.dtype

    @property
    def is_column(self) -> bool:
        """True if it holds one number for each sample, as class ids do."""
        return len(self.shape) == 1 or (len(self.shape) == 2 and self.shape[-1] == 1)

    @property
    def is_vector(self) -> bool:
        """True if it holds one vector for each sample; (1, 1, n) and named latents count."""
        sizes = self.shape[1:]
        if not sizes or not all(sizes) or not self.is_float:
            return False
        return sum(n > 1 for n in sizes) <= 1 or bool(_LATENTS.fullmatch(self.name))


class Arguments(dict):
    """Inputs that a model takes as separate arguments."""


# ------------------------------------------------------------------------ reading a model


def read_inputs(model: keras.Model) -> Any:
    """Returns a `Port` for each input, nested as the model takes them.

    A subclassed model that takes several arguments yields `Arguments`.

    Raises:
        UsageError: the shapes of the inputs are not known.
    """
    if getattr(model, "inputs", None):
        struct = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
        return keras.tree.map_structure(
            lambda x: Port(tuple(x.shape), keras.backend.standardize_dtype(x.dtype), x.name),
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
        ports = {key.removesuffix("_shape"): _nested_ports(shape) for key, shape in shapes.items()}
        return next(iter(ports.values())) if len(ports) == 1 else Arguments(ports)
    return _nested_ports(shapes)


def _nested_ports(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {key: _nested_ports(value) for key, value in shape.items()}
    if all(n is None or isinstance(n, int) for n in shape):
        return Port(tuple(shape), None)
    return [_nested_ports(value) for value in shape]


def name_ports(model: keras.Model, structure: Any) -> dict[Any, Port]:
    """Flattens the inputs and names them independently of what else the process has built.

    Args:
        model: the model, for error messages.
        structure: inputs as `read_inputs` returns them.

    Returns:
        The inputs by their key in the structure.

    Raises:
        UsageError: the inputs are nested more than one level deep.
    """
    if isinstance(structure, Port):
        return {0: structure}
    ports = dict(structure if isinstance(structure, dict) else enumerate(structure))
    if not all(isinstance(port, Port) for port in ports.values()):
        raise UsageError(
            "The inputs of a generator must be one tensor, a list or a dict of tensors. "
            f"Received: nested inputs of model {model.name!r}"
        )
    named = {}
    for position, (key, port) in enumerate(ports.items()):
        name = key if isinstance(key, str) else port.name
        if not name or _AUTOMATIC.fullmatch(name):
            name = f"input_{position}"
        named[key] = dataclasses.replace(port, name=re.sub(r"\W", "_", name))
    return named


# ------------------------------------------------------------------------ roles of inputs


def find_roles(model: keras.Model, ports: dict[Any, Port], num_classes: int) -> tuple[Any, Any]:
    """Returns the keys of the latents and of the labels, `None` for a model without labels.

    Args:
        model: the model, for error messages.
        ports: its inputs as `name_ports` returns them.
        num_classes: number of classes, 0 if not known.

    Raises:
        UsageError: no input can be the latents.
    """
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
        noise = bool(named and named[1])  # beside a `z`, `noise` is usually the input of a layer
        return (not named, noise, width == 1, width == num_classes)

    latents = min(vectors, key=rank)
    others = [key for key in ports if key != latents]
    if labels is None and num_classes:
        ids = [key for key in others if ports[key].is_column]
        one_hot = [key for key in others if ports[key].shape[1:] == (num_classes,)]
        labels = next(iter(ids + one_hot), None)
    if labels is None and len(ports) == 2 and ports[others[0]].dtype is None:
        labels = others[0] if ports[others[0]].is_column else None  # of a subclassed model
    return latents, labels


def _find_labels(ports: dict[Any, Port]) -> Any:
    """Finds the labels by their name, otherwise by their dtype."""
    if len(ports) == 1:
        return None
    for key, port in ports.items():
        one_hot = len(port.shape) == 2 and port.is_float
        if _LABELS.search(port.name) and (port.is_column or one_hot):
            return key
    columns = (key for key, port in ports.items() if port.is_column and not port.is_float)
    return next(columns, None)


def encode_labels(labels: Any, port: Port) -> tf.Tensor:
    """Encodes class ids `(batch,)` as the model takes them: ids, a column of ids, or one-hot."""
    if not port.is_column:
        return tf.one_hot(labels, port.shape[-1])
    labels = tf.cast(labels, port.dtype or "int32")
    return tf.expand_dims(labels, -1) if len(port.shape) == 2 else labels


def extra_input_specs(model: keras.Model, ports: Iterable[Port]) -> tuple[tf.TensorSpec, ...]:
    """Describes the inputs beside latents and labels as a bundle holds them.

    Raises:
        UsageError: a dimension other than the batch is not fixed, or a name is already in use.
    """
    extra = list(ports)
    for port in extra:
        if not all(port.shape[1:]):
            raise UsageError(
                "Every dimension of an input but the batch must be fixed. "
                f"Received: input {port.name!r} of model {model.name!r}, shape {port.shape}"
            )
    check_names(model, [port.name for port in extra], "inputs", RESERVED)
    return tuple(
        tf.TensorSpec(
            (None, *port.shape[1:]), "float32" if port.is_float else str(port.dtype), name=port.name
        )
        for port in extra
    )


# ------------------------------------------------------------------------ outputs


def name_outputs(model: keras.Model, outputs: Any) -> dict[str, Any]:
    """Names the outputs of a model; the one named `samples`, or else the first, is `samples`."""
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


def check_names(
    model: keras.Model, names: Sequence[str], group: str, reserved: Collection[str]
) -> None:
    """Checks that names are unique and not reserved.

    Args:
        model: the model, for error messages.
        names: names to check.
        group: "inputs" or "outputs", for error messages.
        reserved: names that are already in use.
    """
    for i, name in enumerate(names):
        if name in reserved or name in names[:i]:
            raise UsageError(
                f"The {group} of a generator beside latents, labels and samples must have unique "
                f"names. Received: {name!r} of model {model.name!r}"
            )
