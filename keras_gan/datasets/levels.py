"""Levels of stored pixels: the integers that are black and white, found from the values.

A dtype or a file format may hold more bits than its values use: masks of 0 and 1 in 8 bits, or
the 12 bits of a camera or scanner in 16. On the whole range of the dtype they would be nearly
black.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np

from keras_gan.errors import UsageError
from serving.value_ranges import Range

EIGHT_BITS: Range = (0.0, 255.0)
MASK: Range = (0.0, 1.0)
SIXTEEN_BITS: Range = (0.0, 65535.0)

_EXACT = {1023: 10, 4095: 12, 16383: 14}  # largest values that show the number of bits
DARK = 16  # 8-bit pixels that are at most this are nearly black
_SAMPLE_BYTES = 2**26  # values are looked at up to so many bytes
STATE = "state value_range=[black, white] (--set data.value_range=[0,{white}])"


def range_of_array(x: np.ndarray, name: str) -> Range | None:
    """Returns the range of integer or Boolean pixels; `None` for floating point.

    Args:
        x: pixels of the training samples.
        name: their name in messages.

    Raises:
        UsageError: values whose range cannot be known.

    Warns:
        UserWarning: the range is not that of uint8, or the pixels are nearly black.
    """
    if x.dtype == np.bool_:
        return MASK
    if x.dtype.kind not in "iu" or not x.size:
        return None
    low, high = _extremes(_sample(x), x.dtype == np.uint8)
    if x.dtype.itemsize > 2 and low >= 0 and DARK < high <= EIGHT_BITS[1]:
        return EIGHT_BITS  # numpy's default integers
    return range_of_values(low, high, 8 if x.dtype == np.uint8 else 16, f"{name} of {x.dtype}")


def range_of_values(
    low: float, high: float, bits: int, name: str, ask: bool = True, state: str = STATE
) -> Range:
    """Returns the range of pixels from their smallest and largest values.

    Args:
        low: smallest value of a sample of the pixels.
        high: largest value.
        bits: 8 for values of 8 bits; 16 for wider ones, of which it is not known how many bits
            they use.
        name: name of the pixels in messages.
        ask: whether values that may use 10 to 12 bits, or all 16 of dark pictures, are refused;
            else they are read as 16 bits, with a warning.
        state: how to state another range, with a place for `white`.

    Raises:
        UsageError: values whose range cannot be known.

    Warns:
        UserWarning: the range is not that of the dtype, or the pixels are nearly black.
    """
    shown = f"Received: {name} with values from {low:g} to {high:g}"
    if low < 0:
        raise UsageError(
            f"Integer pixels must start at 0, or their range be stated as value_range=[black, "
            f"white]. {shown}"
        )
    if 0 < high <= 1:
        _say(f"Pixels that are 0 or 1 are read as masks, from 0 to 1. {shown}", 255, state)
        return MASK
    if bits == 8:
        if 0 < high <= DARK:
            _say(f"Pixels from 0 to 255 that are nearly black are kept. {shown}", high, state)
        return EIGHT_BITS
    if high == 0 or 16383 < high <= 65535:
        return SIXTEEN_BITS
    if high <= 255 or high in _EXACT:
        used = _EXACT.get(int(high), 8)
        white = 2**used - 1
        other = high if high <= DARK else 65535  # digits of scikit-learn are from 0 to 16
        _say(f"Pixels are read from 0 to {white}, as {used} bits. {shown}", other, state)
        return 0.0, float(white)
    if high <= 65535 and not (ask and high < 4095):
        _say(f"Pixels are read from 0 to 65535, though dark. {shown}", high, state)
        return SIXTEEN_BITS
    raise UsageError(
        "Pixels of more than 8 bits must reach 1023, 4095 or 16383 (10, 12 or 14 bits) or use 16 "
        f"bits, or have their range stated as value_range=[black, white]. {shown}"
    )


def range_of_floats(low: float, high: float, name: str, state: str = STATE) -> Range:
    """Returns the range of floating-point pixels in files, which have no dtype's own range.

    Raises:
        UsageError: values whose range cannot be known.

    Warns:
        UserWarning: always, as the range is a guess.
    """
    fitting = [limits for limits in (MASK, (-1.0, 1.0), EIGHT_BITS, SIXTEEN_BITS)
               if limits[0] <= low and high <= limits[1]]  # fmt: skip
    if not fitting:
        raise UsageError(
            "Floating-point pixels must have their range stated as value_range=[black, white]. "
            f"Received: {name} with values from {low:g} to {high:g}"
        )
    black, white = fitting[0]
    _say(
        f"Floating-point pixels are read from {black:g} to {white:g}. "
        f"Received: {name} with values from {low:g} to {high:g}",
        white,
        state,
    )
    return fitting[0]


def compact(x: np.ndarray, limits: Range | None) -> np.ndarray:
    """Returns integer pixels in memory in the smallest dtype that holds their range."""
    if x.dtype == np.bool_:
        return x.view(np.uint8)
    if isinstance(x, np.memmap) or limits is None or x.dtype.kind not in "iu" or not x.size:
        return x
    inside = limits[0] <= x.min() and x.max() <= limits[1]  # others are refused by the checks
    for dtype in (np.uint8, np.uint16):
        fits = limits[0] >= 0 and limits[1] <= np.iinfo(dtype).max
        if inside and fits and x.dtype.itemsize > np.dtype(dtype).itemsize:
            return x.astype(dtype)
    return x


def _say(line: str, white: float, state: str) -> None:
    warnings.warn(f"{line}. If this is wrong, {state.format(white=f'{white:g}')}", stacklevel=4)


def _sample(x: np.ndarray) -> Iterable[np.ndarray]:
    """Yields evenly spaced parts of an array, the whole of one that is not large."""
    rows = max(1, _SAMPLE_BYTES // max(1, x.nbytes // len(x)))
    if len(x) <= rows:
        yield x
        return
    for first in np.linspace(0, len(x) - 1, 32).astype(int):
        yield x[first : first + max(1, rows // 32)]


def _extremes(parts: Iterable[np.ndarray], is_byte: bool) -> tuple[float, float]:
    """Returns the smallest and largest value; of bytes only until they are known to be bright."""
    low, high = np.inf, -np.inf
    for part in parts:
        if is_byte and part[:64].max() > DARK:
            return 0.0, 255.0
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    return low, high
