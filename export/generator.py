"""The exported generator: a Keras model called by the names of its inputs and outputs."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export import ports
from export.errors import one_line
from export.float32_copy import float32_copy
from export.ports import Arguments, Port
from export.variables import preserved_state
from keras_gan import UsageError

Values = Mapping[str, Any]  # tensors or arrays by the name of an input


@dataclasses.dataclass(frozen=True)
class Generator:
    """A Keras generator with one calling convention, whatever the convention of its model.

    It always runs with `training=False`, and returns float32 for every output of floats.

    Args:
        model: a built Keras model with float32 weights.
        pack: converts values by the names of `input_specs` to the arguments of the model.
        latent_dim: length of a latent vector.
        conditional: whether it takes labels.
        num_classes: number of classes if the shape of the labels shows it (one-hot), else 0.
        extra_inputs: inputs beside latents and labels, under the model's own names.
        output_specs: its outputs: `samples`, then the model's other outputs by their names.
    """

    model: keras.Model
    pack: Callable[[Values], tuple[tuple, dict]]
    latent_dim: int
    conditional: bool
    num_classes: int = 0
    extra_inputs: tuple[Any, ...] = ()  # of tf.TensorSpec, each with a name
    output_specs: tuple[Any, ...] = ()

    def __call__(self, latents: Any, labels: Any = None, **extra: Any) -> tf.Tensor:
        return self.run({"latents": latents, "labels": labels, **extra})["samples"]

    def run(self, inputs: Values) -> dict[str, tf.Tensor]:
        """Returns every output by its name, `samples` first."""
        args, kwargs = self.pack(inputs)
        with _without_xla(self.model):
            outputs = ports.name_outputs(self.model, self.model(*args, **kwargs, training=False))
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
        """Describes the inputs under their names in the bundle."""
        latents = tf.TensorSpec((None, self.latent_dim), tf.float32, name="latents")
        labels = tf.TensorSpec((None,), tf.int64, name="labels")
        return [latents, *([labels] if self.conditional else []), *self.extra_inputs]


def open_generator(model: Any, *, average: bool = True, num_classes: int = 0) -> Generator:
    """Finds the generator in a model and its calling convention.

    Args:
        model: a `keras_gan.GAN`, or a built Keras model with an input of latents, if it is
            conditional one of labels (ids or one-hot), and any others.
        average: of a GAN, use the averaged generator instead of the one in training.
        num_classes: number of classes, 0 if not known; distinguishes one-hot labels from other
            inputs.

    Raises:
        UsageError: not a model, not built, unsupported inputs or outputs.
    """
    model = _select_model(model, average)
    generator = _describe_inputs(model, ports.read_inputs(model), num_classes)

    def build(copy: keras.Model) -> None:
        _output_specs(dataclasses.replace(generator, model=copy))

    generator = dataclasses.replace(generator, model=float32_copy(model, build))
    return dataclasses.replace(generator, output_specs=_output_specs(generator))


def _select_model(model: Any, average: bool) -> keras.Model:
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


def _describe_inputs(model: keras.Model, structure: Any, num_classes: int) -> Generator:
    by_key = ports.name_ports(model, structure)
    latents, labels = ports.find_roles(model, by_key, num_classes)
    labels_port = None if labels is None else by_key[labels]
    one_hot = labels_port is not None and not labels_port.is_column
    extra = [port for key, port in by_key.items() if key not in (latents, labels)]
    return Generator(
        model,
        _packer(structure, by_key, latents, labels),
        latent_dim=math.prod(by_key[latents].shape[1:]),
        conditional=labels_port is not None,
        num_classes=labels_port.shape[-1] if labels_port is not None and one_hot else 0,
        extra_inputs=ports.extra_input_specs(model, extra),
    )


def _packer(
    structure: Any, by_key: dict[Any, Port], latents: Any, labels: Any
) -> Callable[[Values], tuple[tuple, dict]]:
    """Returns the function that converts values by name to the arguments of the model."""
    names = {key: port.name for key, port in by_key.items()}
    names |= {latents: "latents"} | ({} if labels is None else {labels: "labels"})

    def pack(given: Values) -> tuple[tuple, dict]:
        values = {key: given[names[key]] for key in by_key}
        values[latents] = tf.reshape(values[latents], (-1, *by_key[latents].shape[1:]))
        if labels is not None:
            values[labels] = ports.encode_labels(values[labels], by_key[labels])
        values = {key: tf.cast(x, by_key[key].cast_dtype or x.dtype) for key, x in values.items()}
        if isinstance(structure, Port):
            return (values[latents],), {}
        if isinstance(structure, Arguments):
            return (), values
        if isinstance(structure, dict):
            return ({key: values[key] for key in structure},), {}
        return ([values[key] for key in by_key],), {}

    return pack


def _output_specs(generator: Generator) -> tuple[Any, ...]:
    """Runs two samples to find the shapes and dtypes of the outputs."""
    specs = generator.input_specs()
    names = [spec.name for spec in specs]
    inputs = {
        spec.name: np.zeros((2, *spec.shape[1:]), spec.dtype.as_numpy_dtype) for spec in specs
    }
    try:
        with preserved_state(generator.model):
            outputs = generator.run(inputs)
    except UsageError:
        raise
    except Exception as error:  # the user's layers may raise anything
        listed = " and ".join(names) + (" alone" if len(names) == 1 else "")
        raise UsageError(
            "A generator must run on latents (batch, latent_dim), alone or with labels (batch,) "
            "and other inputs in a list or dict. "
            f"Received: model {generator.model.name!r}, which fails on {listed}: {one_line(error)}"
        ) from error
    for name, tensor in outputs.items():
        if tensor.shape.rank < (2 if name == "samples" else 1) or tensor.shape[0] != 2:
            raise UsageError(
                "A generator must return one sample for each latent vector. "
                f"Received: output {name!r} of shape {tuple(tensor.shape)} for 2 vectors"
            )
    reserved = ports.RESERVED | set(names)
    ports.check_names(generator.model, [*outputs][1:], "outputs", reserved)
    return tuple(
        tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=name)
        for name, tensor in outputs.items()
    )


@contextlib.contextmanager
def _without_xla(model: keras.Model) -> Iterator[None]:
    """Keeps Keras from compiling grouped convolutions by XLA, which ONNX and servers lack."""
    convolutions = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
    layers = model._flatten_layers()
    grouped = any(isinstance(layer, convolutions) and layer.groups > 1 for layer in layers)
    before = tf.config.functions_run_eagerly()
    # A function called inside a function then adds its plain operations to the graph.
    tf.config.run_functions_eagerly(before or grouped)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
