"""Declared ports of a network: facts from the caller, and those that follow by themselves."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from export.model_inputs import ModelInput
from export.output_ranges import with_range
from keras_gan import Spec, UsageError
from serving import kinds
from serving.errors import short_repr
from serving.inputs import DTYPES, FILLS, SEEDED, Input, Port

Facts = Mapping[str, Any]  # what is declared of one port

INPUT_FACTS = ("fill", "stream", "value", "kind", "meta")
OUTPUT_FACTS = ("kind", "meta")
RESERVED = ("seeds",)  # names with another meaning in a bundle

_LATENTS = re.compile(r"latents?|z|noise\w*")
_LABELS = re.compile(r"label|class")
_TRUNCATION = re.compile(r"truncation(_psi)?")


@dataclasses.dataclass(frozen=True)
class Declarations:
    """Declarations of a caller about a network.

    Args:
        role: `generator`, `translator`, `classifier` or another word; `None` to infer it.
        inputs: facts by the name of an input: `fill`, `stream`, `value`, `kind`, `meta`.
        outputs: facts by the name of an output: `kind`, `meta`.
        kind: kind of the first output; by default that of its shape.
        value_range: smallest and largest value of the first output.
        num_classes: number of classes of the class input; 0 if not known.
        class_names: name of each class.
        spec: fields of the training data, which describe the ports of the same names.
    """

    role: str | None = None
    inputs: Mapping[str, Facts] = dataclasses.field(default_factory=dict)
    outputs: Mapping[str, Facts] = dataclasses.field(default_factory=dict)
    kind: str | None = None
    value_range: Sequence[float] | None = None
    num_classes: int = 0
    class_names: Sequence[str] = ()
    spec: Spec | None = None

    def __post_init__(self) -> None:
        for group, facts in (("inputs", INPUT_FACTS), ("outputs", OUTPUT_FACTS)):
            ports = getattr(self, group)
            declared_all = ports.values() if isinstance(ports, Mapping) else [None]
            if not all(isinstance(declared, Mapping) for declared in declared_all):
                raise UsageError(
                    f"`{group}` must be a dictionary of dictionaries, such as "
                    f"{{'latents': {{'fill': 'normal'}}}}. Received: {group}={short_repr(ports)}"
                )
            for name, declared in ports.items():
                for fact in declared:
                    if fact not in facts:
                        raise UsageError(
                            f"`{group}` may declare {', '.join(facts)} of a port. "
                            f"Received: {fact!r} of {name!r}"
                        )
        for name, declared in self.inputs.items():
            if declared.get("fill", "given") not in FILLS:
                raise UsageError(
                    f"`fill` must be one of {', '.join(FILLS)}. "
                    f"Received: fill={declared['fill']!r} of {name!r}"
                )

    def field_facts(self, name: str) -> dict[str, Any]:
        """Returns what the spec says of the port of this name; nothing if it has no such field."""
        field = None if self.spec is None else self.spec.fields.get(name)
        return {} if field is None else {"kind": field.kind, "meta": field.meta}


# ------------------------------------------------------------------------ roles of inputs


def find_roles(
    ports: Mapping[Any, ModelInput], declared: Declarations
) -> dict[Any, tuple[str, str]]:
    """Returns the name and the fill of every input, by its key in the model.

    Args:
        ports: inputs of the model, each under its own name.
        declared: what the caller declares.
    """
    found: dict[Any, tuple[str, str]] = {}
    for key, port in ports.items():
        facts = declared.inputs.get(port.name, {})
        if "fill" in facts:
            found[key] = port.name, facts["fill"]
        elif _TRUNCATION.fullmatch(port.name) and port.is_column and port.is_float:
            found[key] = _renamed(port, "truncation", declared), "constant"
    rest = {key: port for key, port in ports.items() if key not in found}
    fills = [fill for _, fill in found.values()]
    labels = None if "class" in fills else _find_labels(rest, len(ports))
    random = "normal" in fills or "uniform" in fills
    latents = None if random else _find_latents(rest, labels, declared)
    if labels is None and "class" not in fills:
        labels = _find_unnamed_labels(rest, latents, declared.num_classes, len(ports))
    for key, port in rest.items():
        if key == latents:
            found[key] = _renamed(port, "latents", declared), "normal"
        elif key == labels:
            found[key] = _renamed(port, "labels", declared), "class"
        else:
            is_noise = port.is_float and _LATENTS.fullmatch(port.name)
            found[key] = port.name, "normal" if is_noise else "given"
    # The order of a bundle: latents, labels, then all others in the order of the model.
    first = [key for key in (latents, labels) if key is not None]
    return {key: found[key] for key in (*first, *(k for k in ports if k not in first))}


def _renamed(port: ModelInput, name: str, declared: Declarations) -> str:
    """Returns the name of a role, or the own name of an input that is declared under it."""
    return port.name if port.name in declared.inputs else name


def _find_latents(ports: Mapping[Any, ModelInput], labels: Any, declared: Declarations) -> Any:
    """Finds the latents by their name, else as the first vector of a generator without pictures."""
    floats = {key: port for key, port in ports.items() if port.is_float and key != labels}
    named = {key: bool(_LATENTS.fullmatch(port.name)) for key, port in floats.items()}
    noise = {key: port.name.startswith("noise") for key, port in floats.items()}
    vectors = [key for key, port in floats.items() if port.is_vector]
    fixed = [key for key in floats if all(floats[key].shape[1:]) and len(floats[key].shape) > 1]
    candidates = [key for key in fixed if named[key] and not noise[key]]
    candidates += [key for key in vectors if noise[key]]
    if not candidates and len(floats) == 1:  # a map of noise and nothing else
        candidates = [key for key in fixed if named[key]]
    pictures = any(len(p.shape) > 2 and not p.is_vector and not named[k] for k, p in floats.items())
    if not candidates and not pictures and declared.role in (None, "generator"):
        candidates = [key for key in vectors if floats[key].name not in declared.inputs]

    def rank(key: Any) -> tuple:
        width = math.prod(floats[key].shape[1:])
        # Beside a `z`, `noise` is usually the input of a layer.
        return (not named[key], noise[key], width == 1, width == declared.num_classes)

    return min(candidates, key=rank, default=None)


def _find_labels(ports: Mapping[Any, ModelInput], count: int) -> Any:
    """Finds the labels by their name, otherwise by their dtype."""
    if count == 1:
        return None
    for key, port in ports.items():
        one_hot = len(port.shape) == 2 and port.is_float
        if _LABELS.search(port.name) and (port.is_column or one_hot):
            return key
    columns = (key for key, port in ports.items() if port.is_column and not port.is_float)
    return next(columns, None)


def _find_unnamed_labels(
    ports: Mapping[Any, ModelInput], latents: Any, num_classes: int, count: int
) -> Any:
    """Finds labels among floats: a column, or a vector of as many values as there are classes."""
    others = [key for key in ports if key != latents]
    if num_classes:
        ids = [key for key in others if ports[key].is_column]
        one_hot = [key for key in others if ports[key].shape[1:] == (num_classes,)]
        return next(iter(ids + one_hot), None)
    if count == 2 and len(others) == 1 and latents is not None and ports[others[0]].dtype is None:
        return others[0] if ports[others[0]].is_column else None  # of a subclassed model
    return None


# ------------------------------------------------------------------------ inputs


def declare_inputs(
    model: keras.Model, ports: Mapping[Any, ModelInput], declared: Declarations
) -> dict[Any, Input]:
    """Returns the declared input for every input of a model; sizes that are free are `None`.

    Args:
        model: the model, for error messages.
        ports: its inputs, by their key in the structure that it takes.
        declared: what the caller declares.

    Raises:
        UsageError: a declaration of an unknown input, or one that does not fit the input.
    """
    roles = find_roles(ports, declared)
    names = [name for name, _ in roles.values()]
    check_names(model, names, "inputs", RESERVED)
    check_declared(declared.inputs, names, "input")
    if [fill for _, fill in roles.values()].count("class") > 1:
        raise UsageError(
            "A network has at most one input of fill 'class'. Received: "
            + ", ".join(repr(name) for name, fill in roles.values() if fill == "class")
        )
    streams = _number_streams(roles.values(), declared.inputs)
    return {
        key: _declare_input(ports[key], name, fill, streams.get(name, 0), declared)
        for key, (name, fill) in roles.items()
    }


def _number_streams(
    roles: Collection[tuple[str, str]], inputs: Mapping[str, Facts]
) -> dict[str, int]:
    """Returns the stream of each seeded input: the declared one, else the next that is free."""
    streams: dict[str, int] = {}
    seeded = [name for name, fill in roles if fill in SEEDED]
    for name in seeded:
        if "stream" in inputs.get(name, {}):
            stream = inputs[name]["stream"]
            if type(stream) is not int or not 0 <= stream < 2**32 or stream in streams.values():
                raise UsageError(
                    "`stream` must be an integer from 0 that no other input has. "
                    f"Received: stream={stream!r} of {name!r}"
                )
            streams[name] = stream
    for name in seeded:
        if name not in streams:
            streams[name] = next(n for n in range(100) if n not in streams.values())
    return streams


def _declare_input(
    port: ModelInput, name: str, fill: str, stream: int, declared: Declarations
) -> Input:
    facts = dict(declared.inputs.get(name, {}))
    if fill == "class":
        return _declare_classes(port, name, stream, facts, declared)
    shape = tuple(port.shape[1:])
    if name == "latents" and fill == "normal" and port.name not in declared.inputs:
        shape = (math.prod(shape),)
    dtype = "float32" if port.is_float else str(port.dtype)
    if dtype not in DTYPES or not port.shape:
        raise UsageError(
            f"An input must have a batch dimension and numbers. Received: {name!r}, "
            f"dtype={port.dtype}, shape={port.shape}"
        )
    if fill in ("normal", "uniform") and not port.is_float:
        raise UsageError(
            f"An input of fill {fill!r} must be of floating point. "
            f"Received: {name!r}, dtype={dtype}"
        )
    known = declared.field_facts(name) | facts
    plain = "array" if fill != "given" or not port.is_float else kinds.of_shape(shape)
    kind = known.get("kind") or plain
    meta = describe_values(kind, shape, known.get("meta"), name)
    value = _check_value(fill, facts.get("value"), shape, name)
    return Input(name, dtype, shape, kind, meta, fill, stream, value)


def _declare_classes(
    port: ModelInput, name: str, stream: int, facts: Facts, declared: Declarations
) -> Input:
    one_hot = len(port.shape) == 2 and port.is_float
    if port.dtype is not None and not port.is_float and "int" not in port.dtype:
        raise UsageError(
            "An input of fill 'class' must be of integers, or of floats. "
            f"Received: {name!r}, dtype={port.dtype}"
        )
    if not port.is_column and not one_hot:
        raise UsageError(
            "An input of fill 'class' must be class ids (batch,) or one-hot (batch, classes). "
            f"Received: {name!r}, shape={port.shape}"
        )
    meta = dict(declared.field_facts(name).get("meta", {})) | dict(facts.get("meta") or {})
    names = meta.get("class_names") or declared.class_names
    own = 0 if port.is_column else int(port.shape[-1])
    count = declared.num_classes or meta.get("num_classes") or own or len(names)
    if meta.get("num_classes", count) != count:
        raise UsageError(
            "num_classes must be the same where it is declared twice. "
            f"Received: num_classes={count} and {meta['num_classes']} in the meta of {name!r}"
        )
    if own and count != own:
        raise UsageError(
            f"num_classes must be the model's own, {own}. Received: num_classes={count}"
        )
    if type(count) is not int or count < 1:
        raise UsageError(
            "A network with an input of class ids needs num_classes. "
            f"Received: num_classes={count!r}, input {name!r}"
        )
    if port.dtype and "int" in port.dtype and count - 1 > np.iinfo(port.dtype).max:
        raise UsageError(
            "The dtype of an input of class ids must hold every id. "
            f"Received: num_classes={count}, {name!r} of dtype {port.dtype}"
        )
    meta |= {"num_classes": count} | ({"class_names": names} if names else {})
    meta = describe_values("label", (), meta, name)
    frequencies = meta.get("frequencies")
    if frequencies and len(frequencies) != count:
        raise UsageError(
            f"`frequencies` must have a number for each of the {count} classes. "
            f"Received: {len(frequencies)} numbers of {name!r}"
        )
    return Input(name, "int64", (), "label", meta, "class", stream)


def _check_value(fill: str, value: Any, shape: Sequence[int | None], name: str) -> Any:
    """Returns the value of an input as JSON holds it; 1 is the default of a constant."""
    if fill not in ("constant", "uniform"):
        if value is not None:
            raise UsageError(
                "`value` is for inputs of fill 'constant' or 'uniform'. "
                f"Received: value={value!r} of {name!r}, fill={fill!r}"
            )
        return None
    if value is None:
        return 1.0 if fill == "constant" else None
    rule = "the two limits in ascending order" if fill == "uniform" else "a number, or one for each"
    try:
        array = np.asarray(value, np.float64)
        np.broadcast_shapes(array.shape, [1 if n is None else n for n in shape])
        fits = bool(np.isfinite(array).all()) and array.ndim <= min(1, len(shape))
        if fill == "uniform":
            fits = array.shape == (2,) and bool(array[0] < array[1])
    except (TypeError, ValueError):
        fits = fill == "uniform" and np.shape(value) == (2,) and value[0] < value[1]
    if not fits:
        raise UsageError(f"`value` must be {rule}. Received: value={value!r} of {name!r}")
    return np.asarray(value, np.float64).tolist()


# ------------------------------------------------------------------------ outputs


def declare_outputs(
    specs: Mapping[str, tuple[str, tuple[int | str, ...]]],
    declared: Declarations,
    ranges: Mapping[str, tuple[float, float] | None] | None = None,
    data: tuple[float, float] | None = None,
) -> tuple[Port, ...]:
    """Returns the declared outputs of a network.

    Args:
        specs: dtype and shape of each output by name, without the batch, the first one first.
        declared: what the caller declares.
        ranges: smallest and largest value of outputs by name, where the network bounds them.
        data: range of the data that the first output was trained on, if it is known.

    Raises:
        UsageError: a declaration of an unknown output, or one that does not fit the output.
    """
    check_declared(declared.outputs, list(specs), "output")
    ports = []
    for name, (dtype, shape) in specs.items():
        known = declared.field_facts(name)
        if not ports:
            known |= {"kind": declared.kind} if declared.kind else {}
            if declared.value_range is not None:
                check_range(declared.value_range)
                limits = {"value_range": declared.value_range}
                known["meta"] = dict(known.get("meta", {})) | limits
        known |= declared.outputs.get(name, {})
        sizes = tuple(None if isinstance(n, str) else n for n in shape)
        kind = known.get("kind") or kinds.of_shape(sizes)
        by_caller = "value_range" in (declared.outputs.get(name, {}).get("meta") or {})
        by_caller = by_caller or (not ports and declared.value_range is not None)
        own = (ranges or {}).get(name)
        trained = None if ports else data
        facts = with_range(name, known.get("meta"), own, trained, kind, sizes, by_caller)
        meta = describe_values(kind, sizes, facts, name)
        ports.append(Port(name, dtype, shape, kind, meta))
    return tuple(ports)


def describe_values(
    kind: str, shape: Sequence[int | None], meta: Facts | None, name: str
) -> dict[str, Any]:
    """Checks the kind and the properties of a port; returns the properties as JSON holds them.

    A kind whose values have a range has it in the properties.
    """
    known = {key: value for key, value in dict(meta or {}).items() if value is not None}
    found = kinds.get(kind)
    if found.value_range is not None:
        known.setdefault("value_range", found.value_range)
    if "value_range" in known:
        check_range(known["value_range"])
        known["value_range"] = tuple(map(float, known["value_range"]))
    try:
        found.check(shape, known)
    except UsageError as error:
        raise UsageError(f"Port {name!r}: {error}") from None
    return {key: _listed(value) for key, value in known.items()}


def check_range(value_range: Any) -> None:
    """Checks the limits of values.

    Raises:
        UsageError: not two finite numbers in ascending order.
    """
    low, high = float(value_range[0]), float(value_range[1])
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(
            "value_range must be the smallest and the largest value of a sample. "
            f"Received: value_range={value_range!r}"
        )


def _listed(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


# ------------------------------------------------------------------------ names


def check_declared(declared: Collection[str], names: Sequence[str], group: str) -> None:
    """Checks that every declaration is of a port that exists."""
    for name in declared:
        if name not in names:
            raise UsageError(
                f"The {group}s of this network are {', '.join(names)}. "
                f"Received: a declaration of the {group} {name!r}"
            )


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
        if name in reserved or name in names[:i] or name.endswith("_bytes"):
            raise UsageError(
                f"The {group} of a network must have unique names, none of them 'seeds' or ending "
                f"in _bytes. Received: {name!r} of model {model.name!r}"
            )
