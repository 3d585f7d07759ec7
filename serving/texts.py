"""Controls of networks that sample texts: temperature, prefix and allowed tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.checks import check_number
from serving.errors import UsageError, short_repr

STEP = "step.onnx"  # file of a bundle: from one token to the next
START = -1  # in the place of the token before the first one
FREE = -1  # in a prefix: a token that is not given
MAX_TEMPERATURE = 100.0


def check_controls(
    sizes: tuple[int, int], count: int, temperature: Any = 1.0, prefix: Any = None, mask: Any = None
) -> dict[str, np.ndarray]:
    """Returns the inputs `temperature`, `prefix` and `mask` of a sampler.

    Args:
        sizes: length of the texts, and size of the vocabulary.
        count: number of texts.
        temperature: factor of the noise, from 0 up.
        prefix: token ids with which the texts begin, one list for all or one for each; -1 for a
            token that is free; `None` for no prefix.
        mask: weights of the tokens `(vocabulary,)` or `(batch, vocabulary)`: 1 for those that may
            be chosen, 0 for others; `None` for all.

    Returns:
        float32 `(batch,)`, int32 `(batch, length)` and float32 `(batch, vocabulary)` by name.

    Raises:
        UsageError: a value out of range, a prefix that is longer than the texts, or a mask without
            a token.
    """
    length, vocabulary = sizes
    value = check_number("temperature", temperature, 0.0, MAX_TEMPERATURE)
    tokens = np.full((count, length), FREE, np.int32)
    if prefix is not None:
        given = check_prefix(prefix, length, vocabulary)
        tokens[:, : given.shape[-1]] = given
    allowed = np.ones((count, vocabulary), np.float32)
    if mask is not None:
        allowed[:] = check_mask(mask, vocabulary)
    return {
        "temperature": np.full(count, value, np.float32),
        "prefix": tokens,
        "mask": allowed,
    }


def check_prefix(prefix: Any, length: int, vocabulary: int) -> np.ndarray:
    """Returns a prefix as token ids, int32 `(tokens,)` or `(batch, tokens)`.

    Raises:
        UsageError: no token ids, or more than the texts have tokens.
    """
    given = np.asarray(prefix)
    if not given.size and given.ndim in (1, 2):
        return np.zeros(given.shape, np.int32)
    if given.ndim not in (1, 2) or given.dtype.kind not in "iu":
        raise UsageError(
            f"`prefix` must be a list of token ids. Received: prefix={short_repr(prefix)}"
        )
    if given.shape[-1] > length:
        raise UsageError(
            f"`prefix` must have at most {length} tokens, as many as a text. "
            f"Received: prefix of {given.shape[-1]} tokens"
        )
    if given.min() < FREE or given.max() >= vocabulary:
        raise UsageError(
            f"`prefix` must have token ids below {vocabulary}, or -1 where a token is free. "
            f"Received: prefix with ids from {given.min()} to {given.max()}"
        )
    return given.astype(np.int32)


def check_mask(mask: Any, vocabulary: int) -> np.ndarray:
    """Returns a mask of tokens as float32 of 0 and 1.

    Raises:
        UsageError: another shape, other values, or no token that may be chosen.
    """
    found = np.asarray(mask)
    if found.dtype.kind not in "biuf" or found.ndim not in (1, 2) or found.shape[-1] != vocabulary:
        raise UsageError(
            f"`mask` must be numbers of shape ({vocabulary},). "
            f"Received: mask={short_repr(mask)} of shape {found.shape}"
        )
    if not np.isin(found, (0, 1)).all() or not found.any(axis=-1).all():
        raise UsageError(
            "`mask` must be 0 and 1, with a 1 for at least one token. "
            f"Received: mask={short_repr(mask)}"
        )
    return found.astype(np.float32)
