"""Networks of a game: the fields that their inputs ask for, and their outputs by name."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_gan import ranges
from keras_gan.intervals import FREE, Interval
from keras_gan.spec import Field

# Names of inputs by which a network is recognized as one that asks for fields by name.
FIELDS = ("latents", "samples", "labels", "condition", "mask", "mel", "observation")
_AUTOMATIC = re.compile(r"(keras_tensor|input_layer|input)(_\d+)?(CLONE)*")

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


class Network:
    """A built Keras model, called with the fields of a batch, that returns its outputs by name.

    A Functional model whose inputs are named after fields gets the fields of these names. Any
    other model is called by position.

    Args:
        role: name of the network in its game, such as "generator".
        model: the model.
        positional: fields of the inputs of a model that is called by position, in their order.
        output: name of the output of a model that returns a tensor or a list of tensors.
    """

    def __init__(self, role: str, model: keras.Model, positional: tuple[str, ...], output: str):
        self.role, self.model, self.output = role, model, output
        self.output_names: tuple[str, ...] = (output,)  # until `describe` has seen them
        self._specs: Any = None  # of the inputs, as the model takes them
        self._intervals: dict[str, Any] | None = None  # of the outputs, once they are asked for
        self._stated: dict[str, Field] | None = None  # inputs whose kind is stated, likewise
        names = input_names(model)
        self.by_name = (
            bool(names)
            and any(name in FIELDS for name in names)
            and not any(_AUTOMATIC.fullmatch(name) for name in names)
        )
        if self.by_name or not names:
            self.fields = names or positional
        else:  # as many as there are; those beyond the known positions ask for their own names
            self.fields = (*positional[: len(names)], *names[len(positional) :])
        # A Functional model warns of inputs in another structure than that of its own.
        structure = getattr(model, "_inputs_struct", None)
        self._keys = names if isinstance(structure, dict) else None
        if isinstance(structure, dict) and not self.by_name:  # positions are those of the user
            field_of = dict(zip(structure, self.fields, strict=True))
            self.fields = tuple(field_of[name] for name in names)
        self._listed = isinstance(structure, (list, tuple)) or len(self.fields) > 1

    def with_model(self, model: keras.Model) -> Network:
        """Returns a network of the same inputs and outputs that another model computes."""
        other = copy.copy(self)
        other.model, other._intervals, other._stated = model, None, None
        return other

    def inputs(self, fields: Mapping[str, Any]) -> Any:
        """Returns the model's inputs as it takes them: a tensor, a list or a dictionary."""
        found = [fields[name] for name in self.fields]
        if self._keys is not None:
            return dict(zip(self._keys, found, strict=True))
        return found if self._listed else found[0]

    def outputs(self, returned: Any) -> dict[str, Any]:
        """Returns what the model has returned as a dictionary."""
        return dict(returned) if isinstance(returned, Mapping) else {self.output: returned}

    def __call__(self, fields: Mapping[str, Any], training: bool) -> dict[str, Any]:
        return self.outputs(self.model(self.inputs(fields), training=training))

    def describe(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the outputs by name as symbolic tensors, of inputs given as such."""
        specs = getattr(self.model, "inputs", None)
        given = dict(zip(self.fields, specs, strict=True)) if specs else fields
        inputs = self.inputs(given)
        self._specs, self._intervals = keras.tree.map_structure(_of_two_examples, inputs), None
        outputs = self.outputs(self.model.compute_output_spec(inputs))
        self.output_names = tuple(outputs)
        return outputs

    def field_specs(self) -> dict[str, tf.TensorSpec]:
        """Returns the inputs of two examples as TensorSpecs, by the names of their fields."""
        return dict(zip(self.fields, keras.tree.flatten(self._specs), strict=True))

    def describe_two(self) -> dict[str, Any]:
        """Returns the outputs by name as symbolic tensors, for a batch of two examples."""
        inputs = keras.tree.map_structure(
            lambda spec: keras.KerasTensor(tuple(spec.shape), spec.dtype.name), self._specs
        )
        return self.outputs(self.model.compute_output_spec(inputs))

    def stated_fields(self) -> dict[str, Field]:
        """Returns the inputs of which a layer states the kind, as `VocoderInput` does, by name."""
        if self._stated is None:  # every single batch is checked against them
            self._stated = self._find_stated()
        return self._stated

    def _find_stated(self) -> dict[str, Field]:
        tensors: Any = getattr(self.model, "inputs", None)
        found: dict[str, Field] = {}
        for layer in self.model._flatten_layers() if tensors else ():
            field = getattr(layer, "field", None)
            if isinstance(field, Field):
                pairs = zip(self.fields, tensors, strict=True)
                fitting = [name for name, x in pairs if field.accepts_shape(tuple(x.shape[1:]))]
                if len(fitting) == 1:
                    found[fitting[0]] = field
        return found

    def output_intervals(self) -> dict[str, Any]:
        """Returns the range of each output by name, as far as it follows from the last layers."""
        if self._intervals is None:  # traced once: every single batch is checked against them
            found = ranges.output_intervals(self.model, self._specs)
            self._intervals = {} if found is None else self.outputs(found)
        return self._intervals

    def output_range(self) -> tuple[float, float] | None:
        """Returns the smallest and largest value of the samples, see `output_range`."""
        return finite_range(self.output_intervals().get(self.output))

    def output_limits(self) -> tuple[float, float] | None:
        """Returns the same, of which one limit may be infinite, as of a relu; None if both are."""
        return limits(self.output_intervals().get(self.output))

    def lookups(self, known: Mapping[str, tuple[float, float]]) -> list[ranges.Lookup]:
        """Returns the tables in which the network looks up fields of a known range.

        Args:
            known: smallest and largest value of fields by name.
        """
        given = [Interval(*known[name]) if name in known else FREE for name in self.fields]
        return ranges.lookups(self.model, self._specs, given)


def input_names(model: keras.Model) -> tuple[str, ...]:
    """Returns the names of a Functional or Sequential model's inputs in their order.

    Of other models, nothing.
    """
    structure = getattr(model, "_inputs_struct", None)
    if isinstance(structure, dict):  # Keras sorts its keys
        return tuple(keras.tree.flatten({name: name for name in structure}))
    return tuple(tensor.name for tensor in getattr(model, "inputs", None) or ())


def output_range(model: keras.Model, output: str = "samples") -> tuple[float, float] | None:
    """Returns the smallest and largest value that a network can return.

    They follow from its last layers and operations: (-1, 1) of a last tanh, (0, 1) of a sigmoid,
    (0, 255) of a sigmoid times 255.

    Args:
        model: a built generator.
        output: name of the output, of a network that returns a dictionary.

    Returns:
        The range, or None of a network whose last layers leave a limit open, such as linear ones,
        or whose limits cannot be seen.
    """
    found = ranges.output_intervals(model)
    return finite_range(found.get(output) if isinstance(found, Mapping) else found)


def finite_range(found: Any) -> tuple[float, float] | None:
    """Returns the limits of an interval; None if it is none, or has an infinite limit."""
    return limits(found) if isinstance(found, Interval) and found.is_finite else None


def limits(found: Any) -> tuple[float, float] | None:
    """Returns the limits of an interval; None if it is none, or has two infinite limits."""
    bounded = isinstance(found, Interval) and not (math.isinf(found.low) and math.isinf(found.high))
    return found.pair if bounded and found.low < found.high else None


def as_float32(outputs: dict[str, Any]) -> dict[str, Any]:
    """Returns outputs with all floating tensors, also those in lists, in float32."""
    return {name: keras.tree.map_structure(_as_float32, value) for name, value in outputs.items()}


def stop_gradient(outputs: Any) -> Any:
    """Returns a tensor, or a list of them, as constants for the gradient."""
    return keras.tree.map_structure(ops.stop_gradient, outputs)


def _of_two_examples(tensor: Any) -> tf.TensorSpec:
    return tf.TensorSpec((2, *tensor.shape[1:]), keras.backend.standardize_dtype(tensor.dtype))


def _as_float32(tensor):
    floating = keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))
    return ops.cast(tensor, "float32") if floating else tensor


def update_power_iteration(model: keras.Model) -> None:
    """Updates, once in a training step, the state that the model's forward passes only read.

    A layer that has such a state defines a method `update_power_iteration()`, see
    `keras_gan.layers.SpectralNormalization`.
    """
    for layer in model._flatten_layers():
        update = getattr(layer, "update_power_iteration", None)
        if update is not None:
            update()


# ------------------------------------------------------------------------ values of outputs


def mean_per_sample(values):
    """Returns the means over all axes but the first, `(batch,)`."""
    axes = tuple(range(1, len(values.shape)))
    return ops.mean(values, axis=axes) if axes else values


def mean_over_outputs(function: Callable, *outputs: Any):
    """Returns a function of outputs, which is the mean of its values where they are lists.

    Args:
        function: from tensors to a tensor, whose shape must not depend on which element it gets.
        *outputs: tensors, or lists of equally many tensors, such as the logits of a multi-scale
            discriminator.
    """
    if not isinstance(outputs[0], (list, tuple)):
        return function(*outputs)
    values = [function(*each) for each in zip(*outputs, strict=True)]
    return sum(values[1:], values[0]) / len(values)


# ------------------------------------------------------------------------ fields of the data


def fields_of(data: Any) -> dict[str, Any]:
    """Returns the fields of a batch by name.

    A dictionary holds them by name, `x` is `samples`, and `(x, y)` is `samples, labels`.
    """
    parts = data if isinstance(data, tuple) else (data,)
    fields = dict(parts[0]) if isinstance(parts[0], Mapping) else {"samples": parts[0]}
    if len(parts) > 1 and parts[1] is not None:
        fields["labels"] = parts[1]
    return fields
