"""Interval arithmetic of TensorFlow's operations."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Interval:
    """A range of values.

    Args:
        low: the smallest value, or -inf.
        high: the largest value, or inf.
        by: name of the layer that bounds it; empty for the caller to fill in.
        function: the operation that bounds it, such as "sigmoid".
    """

    low: float = -math.inf
    high: float = math.inf
    by: str = ""
    function: str = ""

    @property
    def is_finite(self) -> bool:
        """True if both limits are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def pair(self) -> tuple[float, float]:
        """Both limits."""
        return self.low, self.high

    @classmethod
    def of(cls, values: Any) -> Interval:
        """Returns the range of an array."""
        array = np.asarray(values, np.float64)
        return cls(float(array.min()), float(array.max())) if array.size else cls()


FREE = Interval(by="-")

Bounds = Callable[[Any], Interval]  # from a tensor of the graph to its range

# Operations whose values are among those of one input, by the number of that input.
_PASSING = dict.fromkeys(
    (
        *("Identity", "StopGradient", "PreventGradient", "Snapshot", "CheckNumerics", "Cast"),
        *("Reshape", "Squeeze", "ExpandDims", "Transpose", "Tile", "BroadcastTo", "ReverseV2"),
        *("StridedSlice", "Slice", "SplitV", "Unpack", "GatherV2", "MirrorPad", "EnsureShape"),
        *("ResizeNearestNeighbor", "ResizeBilinear", "ResizeArea", "DepthToSpace", "SpaceToDepth"),
        *("MaxPool", "MaxPool3D", "AvgPool", "AvgPool3D", "Max", "Min", "Mean", "Roll"),
    ),
    0,
) | {"Split": 1, "ResizeNearestNeighborV2": 0}


def _logistic(x: float) -> float:
    return 0.0 if x < -700 else 1.0 / (1.0 + math.exp(-x))


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _sqrt(x: float) -> float:
    return math.sqrt(max(x, 0.0))


# Functions of one number that never fall.
_RISING: dict[str, Callable[[float], float]] = {
    "Tanh": math.tanh,
    "Sigmoid": _logistic,
    "Relu": lambda x: max(x, 0.0),
    "Relu6": lambda x: min(max(x, 0.0), 6.0),
    "Softplus": _softplus,
    "Softsign": lambda x: math.copysign(1.0, x) if math.isinf(x) else x / (1 + abs(x)),
    "Exp": _exp,
    "Elu": lambda x: x if x > 0 else math.expm1(x),
    "Erf": math.erf,
    "Atan": math.atan,
    "Sqrt": _sqrt,
    "Floor": lambda x: x if math.isinf(x) else math.floor(x),
    "Ceil": lambda x: x if math.isinf(x) else math.ceil(x),
    "Round": lambda x: x if math.isinf(x) else round(x),
    "Rint": lambda x: x if math.isinf(x) else round(x),
}
_FIXED = {
    "Softmax": (0.0, 1.0),
    "LogSoftmax": (-math.inf, 0.0),
    "Sin": (-1.0, 1.0),
    "Cos": (-1.0, 1.0),
    "Sign": (-1.0, 1.0),
}


def of_operation(operation: Any, index: int, bounds: Bounds) -> Interval:
    """Returns the range of an output of an operation; the unbounded one of an unknown operation.

    Args:
        operation: of a TensorFlow graph.
        index: number of the output.
        bounds: function that returns the ranges of the inputs.
    """
    name, inputs = operation.type, operation.inputs
    if name in _PASSING:
        return bounds(inputs[_PASSING[name]])
    if name == "IdentityN":
        return bounds(inputs[index])
    if name == "Const":
        value = tf.get_static_value(operation.outputs[0])
        return Interval.of(value) if value.dtype.kind in "iuf" else FREE
    if name in _FIXED:
        return Interval(*_FIXED[name], function=name.lower())
    if name in _RISING:
        return _rising(name, bounds(inputs[0]))
    if name in _PAIRS:
        return _PAIRS[name](bounds(inputs[0]), bounds(inputs[1]))
    if name in _OTHERS:
        return _OTHERS[name](operation, bounds)
    return FREE


def _rising(name: str, x: Interval) -> Interval:
    low, high = _RISING[name](x.low), _RISING[name](x.high)
    if (low, high) == x.pair:  # changes nothing: the range is due to what comes before
        return x
    return Interval(low, high, function="clip" if name == "Relu6" else name.lower())


def _due_to(low: float, high: float, *parts: Interval) -> Interval:
    """Returns a range that is due to the first of its parts that a function bounds."""
    if math.isnan(low) or math.isnan(high):
        return FREE
    cause = next((p for p in parts if p.function and p.is_finite), None)
    cause = cause or next((p for p in parts if p.function), parts[0])
    return Interval(low, high, cause.by, cause.function)


def _add(a: Interval, b: Interval) -> Interval:
    return _due_to(a.low + b.low, a.high + b.high, a, b)


def _subtract(a: Interval, b: Interval) -> Interval:
    return _due_to(a.low - b.high, a.high - b.low, a, b)


def _product(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b  # the limit 0 * inf is not reached


def _multiply(a: Interval, b: Interval) -> Interval:
    corners = [_product(x, y) for x in a.pair for y in b.pair]
    return _due_to(min(corners), max(corners), a, b)


def _divide(a: Interval, b: Interval) -> Interval:
    if b.low <= 0 <= b.high:
        return FREE
    return _multiply(a, Interval(1 / b.high, 1 / b.low, b.by, b.function))


def _clipped(low: float, high: float, a: Interval, b: Interval) -> Interval:
    whole = a if (low, high) == a.pair else b
    if (low, high) == whole.pair:
        return whole
    return Interval(low, high, function="clip")


def _maximum(a: Interval, b: Interval) -> Interval:
    return _clipped(max(a.low, b.low), max(a.high, b.high), a, b)


def _minimum(a: Interval, b: Interval) -> Interval:
    return _clipped(min(a.low, b.low), min(a.high, b.high), a, b)


def _hull(*parts: Interval) -> Interval:
    return _due_to(min(p.low for p in parts), max(p.high for p in parts), *parts)


def _clip(operation: Any, bounds: Bounds) -> Interval:
    x, low, high = map(bounds, operation.inputs)
    return _minimum(_maximum(x, low), high)


# Comparisons with their opposites.
_OPPOSITE = {
    "Less": "GreaterEqual",
    "GreaterEqual": "Less",
    "Greater": "LessEqual",
    "LessEqual": "Greater",
}


def _select(operation: Any, bounds: Bounds) -> Interval:
    """Returns the range of a choice; `where(x >= 10, 9, x)` is at most 9 for integers x."""
    condition, chosen, other = operation.inputs
    compared = condition.op.type
    if compared not in _OPPOSITE:
        return _hull(bounds(chosen), bounds(other))
    a, b = condition.op.inputs
    ways = [
        way
        for value, relation in ((chosen, compared), (other, _OPPOSITE[compared]))
        if (way := _where(value, relation, a, b, bounds)) is not None
    ]
    return _hull(*ways) if ways else FREE


def _where(value: Any, relation: str, a: Any, b: Any, bounds: Bounds) -> Interval | None:
    """Returns the range of a value where `a relation b` holds; None if that is never so."""
    left, right = bounds(a), bounds(b)
    if relation in ("Greater", "GreaterEqual"):
        low, high, lowest, highest = right.low, left.high, b, a
    else:
        low, high, lowest, highest = left.low, right.high, a, b
    step = 1.0 if a.dtype.is_integer else 0.0
    strict = relation in ("Less", "Greater")
    if low > high or (strict and low == high):
        return None
    found = bounds(value)
    margin = step if strict else 0.0
    value = source_of(value)
    if value is source_of(lowest):
        found = dataclasses.replace(found, high=min(found.high, high - margin))
    elif value is source_of(highest):
        found = dataclasses.replace(found, low=max(found.low, low + margin))
    return found


def source_of(tensor: Any) -> Any:
    """Returns the tensor whose values a tensor has, before copies and casts."""
    while tensor.op.type in ("Identity", "Cast"):
        tensor = tensor.op.inputs[0]
    return tensor


def _pad(operation: Any, bounds: Bounds) -> Interval:
    filled = bounds(operation.inputs[2]) if len(operation.inputs) > 2 else Interval(0.0, 0.0)
    return _hull(bounds(operation.inputs[0]), filled)


def _leaky(operation: Any, bounds: Bounds) -> Interval:
    x, slope = bounds(operation.inputs[0]), operation.get_attr("alpha")
    low, high = (v if v > 0 else slope * v for v in x.pair)
    return _due_to(low, high, x)


def _negate(operation: Any, bounds: Bounds) -> Interval:
    x = bounds(operation.inputs[0])
    return _due_to(-x.high, -x.low, x)


def _square(operation: Any, bounds: Bounds) -> Interval:
    x = bounds(operation.inputs[0])
    ends = [x.low * x.low, x.high * x.high]
    return Interval(0.0 if x.low <= 0 <= x.high else min(ends), max(ends), function="square")


def _absolute(operation: Any, bounds: Bounds) -> Interval:
    x = bounds(operation.inputs[0])
    ends = [abs(x.low), abs(x.high)]
    return Interval(0.0 if x.low <= 0 <= x.high else min(ends), max(ends), function="abs")


_PAIRS: dict[str, Callable[[Interval, Interval], Interval]] = {
    **dict.fromkeys(("Add", "AddV2", "BiasAdd"), _add),
    "Sub": _subtract,
    "Mul": _multiply,
    **dict.fromkeys(("RealDiv", "Div"), _divide),
    "Maximum": _maximum,
    "Minimum": _minimum,
}
_OTHERS: dict[str, Callable[[Any, Bounds], Interval]] = {
    "ClipByValue": _clip,
    "SelectV2": _select,
    **dict.fromkeys(("Pad", "PadV2"), _pad),
    "LeakyRelu": _leaky,
    "Neg": _negate,
    "Square": _square,
    "Abs": _absolute,
    "Pack": lambda operation, bounds: _hull(*map(bounds, operation.inputs)),
    "ConcatV2": lambda operation, bounds: _hull(*map(bounds, list(operation.inputs)[:-1])),
}
