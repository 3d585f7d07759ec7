"""Checks of the arguments of `generate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_gan import data_spec, latents
from keras_gan.errors import UsageError
from keras_gan.spec import Field

# ------------------------------------------------------------------------ generate


def labels(given: Any, seeds: np.ndarray, num_classes: int) -> np.ndarray | None:
    """Returns class ids `(count,)` for the samples of a conditional game, None of any other.

    Raises:
        UsageError: labels without classes, of another shape or type, or out of range.
    """
    if not num_classes:
        if given is not None:
            raise UsageError(
                f"`labels` cannot be used: the generator has no classes. Received: labels={given!r}"
            )
        return None
    if given is None:
        return np.asarray(latents.labels_from_seeds(seeds, num_classes))
    array = data_spec.to_array("labels", given)
    if array.dtype.kind not in "iu" or array.shape not in ((), (len(seeds),)):
        raise UsageError(
            f"`labels` must be one class id, or one for each of the {len(seeds)} seeds. "
            f"Received: shape {array.shape}, {array.dtype}"
        )
    data_spec.check_ids(array, num_classes)
    return np.broadcast_to(array, (len(seeds),))


def given_fields(
    fields: Mapping[str, Any],
    asked: Mapping[str, tf.TensorSpec],
    count: int,
    stated: Mapping[str, Field],
) -> dict[str, Any]:
    """Returns the given fields of a generator as arrays with one row for each sample.

    Args:
        fields: arrays by name; one row serves for all samples.
        asked: shape and dtype of the fields that the generator asks for.
        count: number of samples.
        stated: kind and properties of the fields of which the generator states these.

    Raises:
        UsageError: one that is missing, not asked for, or of another length, shape or dtype, or
            values that its kind does not have.
    """
    for name in asked:
        if name not in fields:
            raise UsageError(
                f"The generator needs the field {name!r}: pass {name}=..., one for each seed. "
                f"Received: {', '.join(fields) or 'no fields'}"
            )
    arrays = {}
    for name, value in fields.items():
        if name not in asked:
            raise UsageError(
                f"The generator takes these fields: {', '.join(asked) or 'none'}. "
                f"Received: {name}=..."
            )
        array = _given(name, data_spec.to_array(name, value), asked[name])
        if name in stated:
            stated[name].modality.check_given(array, stated[name].meta, name)
        if array.shape[0] not in (1, count):
            raise UsageError(
                f"`{name}` must have one row for each of the {count} seeds, or one for all. "
                f"Received: shape {array.shape}"
            )
        arrays[name] = np.broadcast_to(array, (count, *array.shape[1:]))
    return arrays


def _given(name: str, array: np.ndarray, spec: tf.TensorSpec) -> np.ndarray:
    """Returns the values of a field in its dtype.

    Raises:
        UsageError: another shape, a dtype of another sort, NaN or infinity.
    """
    shape, wanted = tf.TensorShape(array.shape), tf.as_dtype(spec.dtype)
    is_whole = array.dtype.kind in "iub"
    if not (is_whole or (array.dtype.kind == "f" and wanted.is_floating)):
        raise UsageError(f"`{name}` must be of dtype {wanted.name}. Received: {array.dtype}")
    if array.ndim == 0 or not spec.shape.is_compatible_with(shape):
        expected = ", ".join("any" if size is None else str(size) for size in spec.shape[1:])
        raise UsageError(
            f"`{name}` must have rows of shape ({expected}). Received: shape {array.shape}"
        )
    data_spec.extremes(array, f"Values of {name!r}")
    return array.astype(wanted.as_numpy_dtype)
