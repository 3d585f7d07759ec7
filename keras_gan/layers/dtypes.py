"""Number formats that layers compute in."""

from __future__ import annotations

import keras


def at_least_float32(dtype) -> str:
    """Returns float32, or float64 if the dtype is float64.

    In half precision, sums lose digits and squares overflow.
    """
    return keras.backend.result_type(dtype, "float32")
