"""Inputs and outputs of a Keras model: shapes, dtypes, names and nesting."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import keras
import tensorflow as tf

from keras_gan import UsageError

_AUTOMATIC = re.compile(r"(keras_tensor|input_layer|input)(_\d+)?")  # numbered by the process


@dataclasses.dataclass(frozen=True)
class ModelInput:
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
        """True if it holds one vector of floats for each sample; (1, 1, n) counts."""
        sizes = self.shape[1:]
        return bool(sizes) and all(sizes) and self.is_float and sum(n > 1 for n in sizes) <= 1


class Arguments(dict):
    """Inputs that a model takes as separate arguments."""


# ------------------------------------------------------------------------ reading a model


def read_inputs(model: keras.Model) -> Any:
    """Returns a `ModelInput` for each input, nested as the model takes them.

    A subclassed model that takes several arguments yields `Arguments`.

    Raises:
        UsageError: the shapes of the inputs are not known.
    """
    if getattr(model, "inputs", None):
        struct = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
        return keras.tree.map_structure(
            lambda x: ModelInput(tuple(x.shape), keras.backend.standardize_dtype(x.dtype), x.name),
            struct,
        )
    config = model.get_build_config() or {}
    shapes = config.get("shapes_dict") or config.get("input_shape")
    if not shapes:
        raise UsageError(
            "A subclassed model must have been called once before it is exported, so that the "
            f"shapes of its inputs are known. Received: model {model.name!r}"
        )
    if isinstance(shapes, dict) and all(key.endswith("_shape") for key in shapes):
        ports = {key.removesuffix("_shape"): _nested_ports(shape) for key, shape in shapes.items()}
        return Arguments(ports) if len(ports) > 1 else next(iter(ports.values()))
    return _nested_ports(shapes)


def _nested_ports(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {key: _nested_ports(value) for key, value in shape.items()}
    if all(n is None or isinstance(n, int) for n in shape):
        return ModelInput(tuple(shape), None)
    return [_nested_ports(value) for value in shape]


def name_inputs(model: keras.Model, structure: Any) -> dict[Any, ModelInput]:
    """Flattens the inputs and names them independently of what else the process has built.

    Args:
        model: the model, for error messages.
        structure: inputs as `read_inputs` returns them.

    Returns:
        The inputs by their key in the structure.

    Raises:
        UsageError: the inputs are nested more than one level deep.
    """
    nested = [structure] if isinstance(structure, ModelInput) else structure
    ports = dict(nested if isinstance(nested, dict) else enumerate(nested))
    if not all(isinstance(port, ModelInput) for port in ports.values()):
        raise UsageError(
            "The inputs of a network must be one tensor, a list or a dict of tensors. "
            f"Received: nested inputs of model {model.name!r}"
        )
    named = {}
    for position, (key, port) in enumerate(ports.items()):
        name = key if isinstance(key, str) else port.name
        if not name or _AUTOMATIC.fullmatch(name):
            name = f"input_{position}"
        named[key] = dataclasses.replace(port, name=re.sub(r"\W", "_", name))
    return named


# ------------------------------------------------------------------------ outputs and labels


def name_outputs(model: keras.Model, outputs: Any, first: str | None) -> dict[str, Any]:
    """Returns the outputs of a model by name, the one that is shown and returned first.

    That is the one named `samples`, or else the first one. Lists beside samples are left out:
    they are features of a generator, which terms read in training.

    Args:
        model: the model.
        outputs: what it returned.
        first: name for the first one; `None` leaves it its own, where it has one.
    """
    if isinstance(outputs, dict):
        named = {str(name): value for name, value in outputs.items()}
        if "samples" in named:
            named = {n: value for n, value in named.items() if not isinstance(value, list | tuple)}
    elif isinstance(outputs, list | tuple):
        own = list(getattr(model, "output_names", None) or [])
        usable = len(set(own)) == len(outputs)
        names = own if usable else [f"output_{i}" for i in range(len(outputs))]
        named = dict(zip(names, outputs, strict=True))
    else:
        return {first or "samples": outputs}
    chosen = "samples" if "samples" in named else next(iter(named), "")
    others = {re.sub(r"\W", "_", n): value for n, value in named.items() if n != chosen}
    return {first or re.sub(r"\W", "_", chosen): named.get(chosen), **others}


def encode_labels(labels: Any, port: ModelInput) -> tf.Tensor:
    """Encodes class ids `(batch,)` as the model takes them: ids, a column of ids, or one-hot."""
    if not port.is_column:
        return tf.one_hot(labels, port.shape[-1])
    labels = tf.cast(labels, port.dtype or "int32")
    return tf.expand_dims(labels, -1) if len(port.shape) == 2 else labels
