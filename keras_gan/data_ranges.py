"""Ranges of a game's data: checks against the generator's, and the values that were seen."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

from keras_gan.errors import UsageError
from serving import value_ranges
from serving.value_ranges import Range, shown

if TYPE_CHECKING:
    from keras_gan.data_spec import DataSpec

_MARGIN = 0.1  # share of the generator's range by which data may leave it
_OVERSHOOT = 0.15  # share of a range by which bicubic resizing overshoots


class SeenValues:
    """Smallest and largest value of the samples that a game was trained on.

    Args:
        extremes: those of an earlier training.
    """

    def __init__(self, extremes: Range | None = None):
        self.extremes = extremes

    def add(self, low: float, high: float) -> None:
        """Adds the smallest and largest value of more samples."""
        known = self.extremes or (low, high)
        self.extremes = min(low, known[0]), max(high, known[1])


def check_range(low: float, high: float, spec: DataSpec) -> None:
    """Checks that samples lie in the range of their kind, and of the generator's output.

    Raises:
        UsageError: they do not.
    """
    if spec.value_range is None:
        return
    name, received = spec.modality.plural.capitalize(), f"values from {low:g} to {high:g}"
    if value_ranges.leaves_rounded(low, high, spec.value_range):
        meant = _meant_range(spec, spec.value_range)
        hint = value_ranges.rescaling(low, high, meant) or _hint(low, high, meant, spec)
        raise UsageError(f"{name} must have values in {shown(meant)}{hint}. Received: {received}")
    own = spec.output_range
    # A generator may stay a little within the range of the data.
    if own and value_ranges.leaves(low, high, own, _margin(own, spec.value_range)):
        raise UsageError(
            f"{name} must lie in the range of the generator's output, {shown(own)}. "
            f"Received: {received}"
        )


def _meant_range(spec: DataSpec, stated: Range) -> Range:
    """Returns the part of the stated range that the generator can return."""
    own = spec.output_range or stated
    low, high = max(stated[0], own[0]), min(stated[1], own[1])
    return (low, high) if low < high else stated


def _hint(low: float, high: float, meant: Range, spec: DataSpec) -> str:
    """Returns what to do with values that are in no usual range."""
    least, most = meant
    if not value_ranges.leaves(low, high, meant, _OVERSHOOT * (most - least)):
        return f"; clip what resizing has added: np.clip(x, {least:g}, {most:g})"
    if spec.kind is not None:
        return ""
    return "; rescale them, or state gan.sample_kind = 'array' if they are not pictures"


def _margin(own: Range, data: Range) -> float:
    """Returns the distance by which data may leave the range of a generator."""
    width = own[1] - own[0]
    return _MARGIN * (width if math.isfinite(width) else data[1] - data[0])


def warn_unreached(low: float, high: float, spec: DataSpec) -> None:
    """Warns of samples without a range of their own that the generator's last layer cannot return.

    Args:
        low: smallest value of many samples.
        high: largest value.
        spec: what the game needs.
    """
    own = spec.output_range
    if spec.value_range is not None or own is None:
        return
    if value_ranges.leaves(low, high, own, _margin(own, (low, high))):
        warnings.warn(
            f"Samples should lie in the range of the generator's output, {shown(own)}, as it "
            "cannot return others: scale them, or end it without an activation. "
            f"Received: values from {low:g} to {high:g}",
            stacklevel=3,
        )


def check_sign(low: float, high: float, spec: DataSpec) -> None:
    """Checks that samples are not in [0, 1] where the generator's range is another one.

    Args:
        low: smallest value of many samples.
        high: largest value.
        spec: what the game needs.

    Raises:
        UsageError: none of the values is negative where those of the generator are, or all of
            them are in [0, 1] where those of the generator are in [0, 255].
    """
    own, usual = spec.output_range, spec.modality.range_for(spec.sample_shape)
    if spec.kind is not None or spec.value_range is None or own is None or usual is None:
        return
    name, received = spec.modality.plural.capitalize(), f"values from {low:g} to {high:g}"
    in_0_1 = low < high and value_ranges.usual_range(low, high) == (0, 1)
    if in_0_1 and spec.is_wide(usual):
        hint = value_ranges.rescaling(low, high, own) or ", or the generator end in a sigmoid"
        raise UsageError(
            f"{name} must fill the range of the generator's output, {shown(own)}{hint}. "
            f"Received: {received}"
        )
    if math.isfinite(own[1] - own[0]) and value_ranges.is_unsigned(low, high, own):
        raise UsageError(
            f"{name} must have values in [-1, 1], with negative ones"
            f"{value_ranges.rescaling(low, high)}; if these have none in [-1, 1], state "
            f"gan.sample_kind = {spec.modality.name!r}. Received: {received}"
        )
