"""The exported network: a Keras model called by the names of its declared inputs and outputs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export import acting, classifier, codes, model_inputs, sizes, text, vocoder
from export.declare import (
    RESERVED,
    Declarations,
    check_names,
    declare_inputs,
    declare_outputs,
)
from export.errors import one_line
from export.float32_copy import float32_copy
from export.model_inputs import Arguments, ModelInput
from export.variables import preserved_state
from keras_gan import Game, UsageError, networks, ranges
from serving.inputs import Input, Port

Values = Mapping[str, Any]  # tensors or arrays by the name of an input
Shapes = dict[str, tuple[str, tuple[int | str, ...]]]  # dtype and shape by the name of an output
# Roles whose first output is called `samples`, whatever the model calls it.
_SAMPLING = ("generator", "translator", "restoration", "vocoder")


@dataclasses.dataclass(frozen=True)
class Network:
    """A Keras model with one calling convention, whatever the convention of its own.

    It always runs with `training=False`, and returns float32 for every output of floats.

    Args:
        model: a built Keras model with float32 weights.
        pack: converts values by the names of the inputs to the arguments of the model.
        inputs: its inputs: `latents` and `labels` first, where it has them.
        outputs: its outputs; the first one is what `generate` returns and files show.
        role: `generator`, `translator`, `classifier` or another word.
        first: name for the first output; `None` leaves it its own.
        sizes: two tested values of every named size, empty where all sizes are fixed.
    """

    model: keras.Model
    pack: Callable[[Values], tuple[tuple, dict]]
    inputs: tuple[Input, ...]
    outputs: tuple[Port, ...] = ()
    role: str = "generator"
    first: str | None = "samples"
    sizes: tuple[sizes.Sizes, ...] = ({},)

    def __call__(self, *values: Any, **named: Any) -> tf.Tensor:
        """Returns the first output, of values in the order of the inputs or by name."""
        names = [port.name for port in self.inputs]
        return next(iter(self.run({**dict(zip(names, values, strict=False)), **named}).values()))

    def run(self, values: Values) -> dict[str, tf.Tensor]:
        """Returns every output by its name."""
        args, kwargs = self.pack(values)
        with _without_xla(self.model):
            found = self.model(*args, **kwargs, training=False)
        outputs = model_inputs.name_outputs(self.model, found, self.first)
        specs = {str(spec.name): spec for spec in self.output_specs()}
        for name, tensor in outputs.items():
            tensor = outputs[name] = tf.convert_to_tensor(tensor)
            if tensor.dtype.is_floating:
                outputs[name] = tensor = tf.cast(tensor, tf.float32)
            tensor.set_shape(specs[name].shape if name in specs else tensor.shape)
        return outputs

    def input_specs(self) -> list[Any]:
        """Describes the inputs as TensorFlow does."""
        return [_spec(port) for port in self.inputs]

    def output_specs(self) -> list[Any]:
        """Describes the outputs as TensorFlow does."""
        return [_spec(port) for port in self.outputs]


def _spec(port: Port) -> Any:
    return tf.TensorSpec((None, *port.sizes), port.dtype, name=port.name)


def open_network(
    model: Any,
    declared: Declarations | None = None,
    *,
    average: bool = True,
    network: str | None = None,
    environment: acting.Facts | None = None,
    **options: Any,
) -> Network:
    """Finds the network in a model, its calling convention, its inputs and its outputs.

    Args:
        model: a `keras_gan.GAN`, or a built Keras model.
        declared: what the caller declares of its inputs and outputs.
        average: of a GAN, use the averaged generator instead of the one in training.
        network: of a game, the name of the network; by default the one that the game exports.
        environment: of a policy or a reward, `environment` of the manifest.
        options: fields of `Declarations`, instead of `declared`.

    Raises:
        UsageError: not a model, not built, unsupported inputs or outputs, or declarations that do
            not fit it.
    """
    declared = declared or Declarations(**options)
    data = getattr(model, "data_range", None)
    model, is_classifier = _select_model(model, average, network)
    if is_classifier:
        declared = dataclasses.replace(declared, role=declared.role or classifier.ROLE)
    model, declared = _with_ports(model, declared, environment)
    structure = model_inputs.read_inputs(model)
    by_key = model_inputs.name_inputs(model, structure)
    names_outputs = declared.role == classifier.ROLE
    inputs = declare_inputs(
        model, by_key, classifier.without_classes(declared) if names_outputs else declared
    )
    if not any(port.fill != "constant" for port in inputs.values()):
        raise UsageError(
            "A network must have an input that is given or drawn from seeds. "
            f"Received: inputs {[port.name for port in inputs.values()]} of model {model.name!r}"
        )
    pack = _packer(structure, by_key, {key: port.name for key, port in inputs.items()}, inputs)
    first = "samples" if declared.role in (None, *_SAMPLING) else None
    if declared.outputs and "samples" not in declared.outputs:
        first = next(iter(declared.outputs)) if _has_one_output(model) else None
    found = Network(model, pack, tuple(inputs.values()), first=first)

    def build(copy: keras.Model) -> None:
        _find_sizes(dataclasses.replace(found, model=copy))

    found, shapes = _find_sizes(dataclasses.replace(found, model=float32_copy(model, build)))
    if is_classifier:
        classifier.check_alone(found.model)
    _check_numbers(found, shapes)
    if names_outputs:
        declared = classifier.describe(declared, shapes)
    outputs = declare_outputs(shapes, declared, _own_ranges(found), data)
    role = declared.role or _infer_role(found.inputs, outputs, model.name)
    return dataclasses.replace(found, outputs=outputs, role=role)


def _with_ports(
    model: keras.Model, declared: Declarations, environment: acting.Facts | None
) -> tuple[keras.Model, Declarations]:
    """Returns a network with the inputs, outputs and facts that its layers bring."""
    model, declared = codes.with_codes(model, declared)
    model, declared = text.with_controls(model, declared)
    return acting.with_ports(model, vocoder.with_facts(model, declared), environment)


def _check_numbers(network: Network, shapes: Shapes) -> None:
    """Checks that all outputs are numbers, which files and requests can hold.

    Raises:
        UsageError: an output of text or of complex numbers.
    """
    model = network.model
    # A subclassed model has none before a call.
    made = getattr(model, "outputs", None)
    structure = (made[0] if isinstance(model, keras.Sequential) else model.output) if made else {}
    tensors = model_inputs.name_outputs(model, structure, network.first)
    for name, (dtype, _) in shapes.items():
        found = tf.as_dtype(dtype)
        if found.is_floating or found.is_integer or found.is_bool:
            continue
        history = getattr(tensors.get(name), "_keras_history", None)
        owner = f"layer {history.operation.name!r}" if history else f"model {model.name!r}"
        raise UsageError(
            "The outputs of a network must be numbers: export a model without this one. "
            f"Received: output {name!r} of dtype {dtype}, of {owner}"
        )


def _own_ranges(network: Network) -> dict[str, tuple[float, float] | None]:
    """Returns the ranges that the last layers give to the outputs, by name."""
    found = ranges.output_intervals(network.model)
    if found is None:
        return {}
    named = model_inputs.name_outputs(network.model, found, network.first)
    return {name: networks.limits(interval) for name, interval in named.items()}


def _select_model(model: Any, average: bool, name: str | None) -> tuple[keras.Model, bool]:
    """Returns the exported model, and whether it classifies samples of a game."""
    if isinstance(model, Game):
        found, is_classifier = classifier.select(model, name, average)
        return acting.of_game(model, name, found), is_classifier
    if name is not None:
        raise UsageError(f"`network` is for a game. Received: network={name!r}")
    if not isinstance(model, keras.Model):
        raise UsageError(
            f"model must be a keras_gan.GAN or a Keras model. Received: {type(model).__name__}"
        )
    if not model.built:
        raise UsageError(
            "A network must be built before it is exported: call it once on a batch of its inputs. "
            f"Received: model {model.name!r}, not built"
        )
    return model, False


def _infer_role(inputs: tuple[Input, ...], outputs: tuple[Port, ...], name: str) -> str:
    """Returns `translator` or `generator`.

    A translator returns what a given input is, in another form. One with random inputs is a
    generator, unless its answers have the height and width of the picture that it is given.

    Raises:
        UsageError: no random inputs, and none of the rank of the output.
    """
    rank = len(outputs[0].shape)
    similar = [port for port in inputs if port.fill == "given" and len(port.shape) == rank]
    if not any(port.fill in ("normal", "uniform") for port in inputs):
        if similar:
            return "translator"
        raise UsageError(
            "A network without latents, whose output is of another rank than its inputs, needs "
            f"`role`, such as 'classifier'. Received: role=None, model {name!r}"
        )
    of_any_size = rank == 3 and all(isinstance(size, str) for size in outputs[0].shape[:2])
    return "translator" if of_any_size and any(x.is_dynamic for x in similar) else "generator"


def _has_one_output(model: keras.Model) -> bool:
    names = getattr(model, "output_names", None)
    structure = getattr(model, "output", None) if names else None
    return isinstance(structure, keras.KerasTensor)


def _packer(
    structure: Any,
    by_key: dict[Any, ModelInput],
    names: dict[Any, str],
    inputs: Mapping[Any, Input],
) -> Callable[[Values], tuple[tuple, dict]]:
    """Returns the function that converts values by name to the arguments of the model."""

    def convert(key: Any, value: Any) -> Any:
        own, port = by_key[key], inputs[key]
        if port.fill == "class":
            value = model_inputs.encode_labels(value, own)
        elif len(port.shape) != len(own.shape) - 1:  # latents are flat in a bundle
            value = tf.reshape(value, (-1, *own.shape[1:]))
        value = tf.convert_to_tensor(value)
        return tf.cast(value, own.cast_dtype or value.dtype)

    def pack(given: Values) -> tuple[tuple, dict]:
        values = {key: convert(key, given[names[key]]) for key in by_key}
        if isinstance(structure, ModelInput):
            return tuple(values.values()), {}
        if isinstance(structure, Arguments):
            return (), values
        if isinstance(structure, dict):
            return ({key: values[key] for key in structure},), {}
        return ([values[key] for key in by_key],), {}

    return pack


# ------------------------------------------------------------------------ shapes and sizes


def _find_sizes(network: Network) -> tuple[Network, Shapes]:
    """Names the free sizes of the inputs and finds the shapes of the outputs, by running it."""
    free = [port for port in network.inputs if None in port.shape]
    # The given inputs first: they decide the sizes of a call.
    free.sort(key=lambda port: port.fill != "given")
    error: Exception | None = None
    for named in _namings(network, free):
        names = {n: None for port in named.inputs for n in port.shape if isinstance(n, str)}
        for pair in sizes.tested_sizes(names):
            try:
                one = _run_once(named, pair[0])
                other = _run_once(named, pair[1]) if names else one
            except Exception as found:  # layers may raise anything, also for sizes alone
                error = error or found
                if not names:
                    break
                continue
            return _with_shapes(named, one, other, pair)
    if isinstance(error, UsageError):
        raise error
    listed = [f"{port.name} {port.shape}" for port in network.inputs]
    raise UsageError(
        "A network must run on a batch of its inputs, in one tensor, a list or dict. "
        f"Received: model {network.model.name!r}, which fails on {' and '.join(listed)}: "
        f"{one_line(error) if error else 'no output'}"
    ) from error


def _namings(network: Network, free: list[Input]) -> Iterator[Network]:
    """Yields the network with named sizes: each given input with its own, then all with shared."""
    given = [port for port in free if port.fill == "given"]
    for own in ([port.name for port in given[1:]], []) if len(given) > 1 else ([],):
        yield dataclasses.replace(
            network, inputs=tuple(_named(port, own) for port in network.inputs)
        )


def _named(port: Input, own: list[str]) -> Input:
    shape: list[int | str] = []
    for axis, size in enumerate(port.shape):
        if size is None:
            name = sizes.axis_name(port.shape, axis, port.kind)
            shape.append(sizes.own_name(port.name, name) if port.name in own else name)
        else:
            shape.append(size)
    return port.replace(shape=tuple(shape))


def _run_once(network: Network, values: sizes.Sizes) -> dict[str, tf.Tensor]:
    """Runs two samples at some sizes."""
    inputs = {
        port.name: np.zeros((2, *sizes.resolve(port.shape, values)), port.dtype)
        for port in network.inputs
    }
    with preserved_state(network.model):
        return network.run(inputs)


def _with_shapes(
    network: Network,
    one: dict[str, tf.Tensor],
    other: dict[str, tf.Tensor],
    pair: tuple[sizes.Sizes, sizes.Sizes],
) -> tuple[Network, Shapes]:
    """Returns the network with all its sizes, those of the outputs included."""
    first = next(iter(one))
    for name, tensor in one.items():
        if tensor.shape.rank < (2 if name == "samples" else 1) or tensor.shape[0] != 2:
            raise UsageError(
                "A network must return one sample for each example of its inputs. "
                f"Received: output {name!r} of shape {tuple(tensor.shape)} for 2 examples"
            )
    reserved = (*RESERVED, *(port.name for port in network.inputs))
    check_names(network.model, list(one), "outputs", reserved)
    shapes: Shapes = {}
    known = tuple(dict(each) for each in pair)
    for name, tensor in one.items():
        a, b = (np.shape(x)[1:] for x in (tensor, other[name]))
        shape = sizes.name_output(name, a, b, pair)
        shapes[name] = (tensor.dtype.name, shape)
        for found, real in zip(known, (a, b), strict=True):
            found |= {n: m for n, m in zip(shape, real, strict=True) if isinstance(n, str)}
    tested = known if known[0] else ({},)
    kept = first if network.first is not None else None
    return dataclasses.replace(network, sizes=tested, first=kept), shapes


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
