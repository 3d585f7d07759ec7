"""Networks that sample texts token by token: facts about one, and its controls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from serving.checks import check_integer, check_number
from serving.errors import UsageError, short_repr
from serving.inputs import Inputs, Port
from serving.kinds.text import ids_of, is_of_characters

STEP = "step.onnx"  # file of a bundle: from one token to the next
START = -1  # in the place of the token before the first one
FREE = -1  # in a prefix: a token that is not given
MAX_TEMPERATURE = 100.0
MAX_LENGTH = 1024  # tokens of a text


class TextSampler(NamedTuple):
    """Facts about a network that samples texts.

    Args:
        tokens: the vocabulary; texts of ids in the place of tokens that are not known.
        length: tokens of a text of the whole network.
        width: numbers in each state of the step.
        ends: true if token 0 ends a text.
        stream: number of the stream of its noise.
        meta: properties of its texts.
    """

    tokens: tuple[str, ...]
    length: int
    width: int
    ends: bool
    stream: int
    meta: Mapping[str, Any]

    @property
    def separator(self) -> str:
        """Text between two tokens: none between characters, a space between longer ones."""
        return "" if is_of_characters(self.tokens) else " "

    def text_of(self, ids: Iterable[int]) -> str:
        """Returns a text by its token ids, up to its end."""
        found = []
        for token in ids:
            if self.ends and token == 0:
                break
            found.append(self.tokens[token])
        return self.separator.join(found)

    def check_length(self, length: Any = None) -> int:
        """Returns the most tokens of a text, by default those of the whole network.

        Raises:
            UsageError: not an integer from 1 to `MAX_LENGTH`.
        """
        return self.length if length is None else check_integer("length", length, 1, MAX_LENGTH)

    def check_text(self, prefix: Any) -> tuple[int, ...]:
        """Returns the token ids of a prefix, a text or a list of ids.

        Raises:
            UsageError: a token that the vocabulary does not have.
        """
        if isinstance(prefix, str):
            try:
                return tuple(ids_of(prefix, {"vocabulary": self.tokens}).tolist())
            except UsageError as error:
                raise UsageError(f"`prefix`: {error}") from None
        given = check_prefix(prefix, MAX_LENGTH, len(self.tokens))
        if given.ndim != 1 or (given < self.ends).any():
            raise UsageError(
                "`prefix` must be a text, or ids of tokens that do not end it. "
                f"Received: prefix={short_repr(prefix)}"
            )
        return tuple(given.tolist())

    def check_vocabulary(self, tokens: Any) -> np.ndarray:
        """Returns the mask of the tokens that may be chosen, float32 `(vocabulary,)`.

        Args:
            tokens: texts of the tokens.

        Raises:
            UsageError: none, or one that the vocabulary does not have.
        """
        known = {token: number for number, token in enumerate(self.tokens)}
        if not isinstance(tokens, list | tuple) or not tokens:
            raise UsageError(
                f"`vocabulary` must be a list of tokens. Received: {short_repr(tokens)}"
            )
        mask = np.zeros(len(self.tokens), np.float32)
        for token in tokens:
            if not isinstance(token, str) or token not in known or not token:
                raise UsageError(
                    f"`vocabulary` must have tokens of the network, of which there are "
                    f"{len(self.tokens)}. Received: {short_repr(token)}"
                )
            mask[known[token]] = 1.0
        return mask

    def describe(self) -> dict[str, Any]:
        """Returns the entry of the model in `/v1/models`."""
        return {
            "length": self.length,
            "max_length": MAX_LENGTH,
            "vocabulary": len(self.tokens),
            "ends": self.ends,
        }


def find_sampler(
    inputs: Inputs, outputs: Sequence[Port], text: Mapping[str, Any] | None
) -> TextSampler | None:
    """Returns the facts about a network that samples texts, `None` for another network.

    Args:
        inputs: its inputs.
        outputs: its outputs.
        text: `text` of the manifest, whose rules `serving.port_rules` has checked.
    """
    if text is None:
        return None
    length, size = (int(n) for n in outputs[0].shape)
    tokens = outputs[0].meta.get("vocabulary") or map(str, range(size))
    stream = inputs.by_name["latents"].stream
    meta = outputs[0].meta
    return TextSampler(tuple(tokens), length, text["width"], text["ends"], stream, meta)


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
        UsageError: a value out of range, a prefix that is longer than the texts, a mask without a
            token, or rows that are not one for each text.
    """
    length, vocabulary = sizes
    value = check_number("temperature", temperature, 0.0, MAX_TEMPERATURE)
    tokens = np.full((count, length), FREE, np.int32)
    if prefix is not None:
        given = check_prefix(prefix, length, vocabulary)
        _check_rows("prefix", given, count)
        tokens[:, : given.shape[-1]] = given
    allowed = np.ones((count, vocabulary), np.float32)
    if mask is not None:
        given = check_mask(mask, vocabulary)
        _check_rows("mask", given, count)
        allowed[:] = given
    return {
        "temperature": np.full(count, value, np.float32),
        "prefix": tokens,
        "mask": allowed,
    }


def _check_rows(name: str, given: np.ndarray, count: int) -> None:
    if given.ndim == 2 and len(given) not in (1, count):
        raise UsageError(
            f"`{name}` must have one row for all texts, or one for each of {count}. "
            f"Received: {name} of {len(given)} rows"
        )


def _as_array(name: str, value: Any) -> np.ndarray:
    """Returns nested lists as an array.

    Raises:
        UsageError: lists of different lengths.
    """
    try:
        return np.asarray(value)
    except ValueError:  # a list of other lists, or of too many dimensions
        raise UsageError(
            f"`{name}` must be a list of numbers, or lists of equal lengths. "
            f"Received: {name}={short_repr(value)}"
        ) from None


def check_prefix(prefix: Any, length: int, vocabulary: int) -> np.ndarray:
    """Returns a prefix as token ids, int32 `(tokens,)` or `(batch, tokens)`.

    Raises:
        UsageError: no token ids, or more than the texts have tokens.
    """
    given = _as_array("prefix", prefix)
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
    found = _as_array("mask", mask)
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
