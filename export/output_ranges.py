"""Ranges of a network's outputs: those that its last layers give, against those that are stated."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_gan import UsageError, network_checks
from serving import kinds, value_ranges
from serving.inputs import Port
from serving.value_ranges import shown

Range = tuple[float, float]

_FAR = 4.0  # widths of the range by which the samples of a network without bounds may exceed it
_LITTLE = 0.01  # of the range: samples in [-1, 1] are less than that of [0, 255]


def with_range(
    name: str,
    meta: Mapping[str, Any] | None,
    own: Range | None,
    data: Range | None,
    kind: str,
    shape: Sequence[int | None],
    declared: bool,
) -> dict[str, Any]:
    """Returns the properties of an output with its range, where its kind has one.

    Args:
        name: name of the output, for messages.
        meta: properties that are stated.
        own: range that the network's last layers give, of which one limit may be infinite; None if
            they give none.
        data: range of the data that the network was trained on; None if it is unknown.
        kind: kind of the output.
        shape: shape of one sample.
        declared: the caller states the range, not the data that the network was trained on.

    Raises:
        UsageError: a range that the caller states and that is not the network's, or none where that
            of the kind is not the network's.
    """
    known = dict(meta or {})
    stated = known.get("value_range")
    if stated is None:
        usual = kinds.get(kind).range_for(shape)
        return known | ({"value_range": _unstated(name, own, data, usual)} if usual else {})
    low, high = float(stated[0]), float(stated[1])
    known_by = [limits for limits in (own, data) if limits]
    if own and not any(network_checks.agree(limits, (low, high)) for limits in known_by):
        line = (
            f"of output {name!r} must be that of its last layers, {shown(own)}. "
            f"Received: value_range=[{low:g}, {high:g}]"
        )
        if declared:
            raise UsageError(f"The range {line}")
        # The network was trained on such data; its samples are drawn as they are.
        warnings.warn(f"The range in the data's spec {line}", stacklevel=2)
    elif declared and data and not network_checks.agree(data, (low, high)):
        warnings.warn(
            f"The range of output {name!r} should be that of the training data, {shown(data)}. "
            f"Received: value_range=[{low:g}, {high:g}]",
            stacklevel=2,
        )
    return known


def _unstated(name: str, own: Range | None, data: Range | None, usual: Range) -> Range:
    """Returns the range of an output of which none is stated."""
    found = value_ranges.of_samples(own, data)
    if found is None:
        if own and not network_checks.agree(own, usual):
            raise UsageError(
                f"`value_range` must be stated for output {name!r}, whose last layers return "
                f"values in {shown(own)}, and not in {shown(usual)}. Received: value_range=None"
            )
        return usual
    if found not in (own, usual):
        warnings.warn(
            f"The range of output {name!r} is taken from the training data, {shown(found)}; state "
            "`value_range` for another one. Received: value_range=None",
            stacklevel=2,
        )
    return found


def check_sample_range(samples: np.ndarray, port: Port) -> None:
    """Warns of samples that cannot be meant for the range of their port.

    A network without a last activation may exceed it a little, and before its training by more.
    """
    limits = port.meta.get("value_range")
    if limits is None or not samples.size:
        return
    low, high = limits
    least, most, width = float(samples.min()), float(samples.max()), high - low
    far = least < low - _FAR * width or most > high + _FAR * width
    is_default = tuple(limits) == kinds.get(port.kind).value_range
    little = most - least < _LITTLE * width and not is_default
    if far or little:
        warnings.warn(
            f"The samples of a network should fill the range of its output {port.name!r}; state "
            f"another `value_range`. Received: samples from {least:g} to {most:g}, "
            f"value_range=[{low:g}, {high:g}]",
            stacklevel=2,
        )
