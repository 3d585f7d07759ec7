"""Constraints on the tokens of a text: a prefix, allowed tokens, a regular expression, a length.

A token is allowed where, after it, the text can still be completed within the length: the number
of tokens that a state of the pattern needs to its end is known before the first token is sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.errors import UsageError, short_repr
from serving.patterns import DEAD, Automaton, compile_pattern
from serving.texts import TextSampler, check_mask

END = 0  # id of the token that ends a text, of a sampler whose texts end


class Constraint:
    """The tokens that a text may have, step by step, by the state of its pattern.

    Args:
        sampler: facts about the network.
        length: most tokens of a text, the end not counted; exactly so many where no token ends a
            text.
        prefix: ids of the first tokens.
        pattern: regular expression that a whole text matches, `None` for any text.
        allowed: mask of the tokens after the prefix, `(vocabulary,)`, `None` for all.

    Raises:
        UsageError: a pattern that is not allowed, a prefix that it excludes, or texts that cannot
            be completed in `length` tokens.
    """

    def __init__(
        self,
        sampler: TextSampler,
        length: int,
        prefix: Sequence[int] = (),
        pattern: str | None = None,
        allowed: Any = None,
    ):
        self.length, self.prefix = length, tuple(prefix)
        self._ends = sampler.ends
        size = len(sampler.tokens)
        mask = np.ones(size, bool) if allowed is None else check_mask(allowed, size) > 0
        if mask.ndim != 1:
            raise UsageError(
                f"`mask` must be one for all texts here. Received: mask of shape {mask.shape}"
            )
        self._mask = mask & (np.arange(size) != END) if self._ends else mask
        self.start = 0
        if pattern is None:
            self._next = np.zeros((1, size), np.int32)
            accepts = np.ones(1, bool)
        else:
            characters = {c for token in (*sampler.tokens, sampler.separator) for c in token}
            automaton = compile_pattern(pattern, characters)
            self._next, accepts = _token_table(automaton, sampler)
            self.start = len(accepts) - 1
        self._accepts = accepts
        self._reach = self._reachable()
        self._check(pattern)

    def _reachable(self) -> np.ndarray:
        """Returns whether a text can end, by the number of tokens that are left and the state.

        The array is bool `(length + 1, states + 1)`; its last state, `DEAD`, never can.
        """
        count = len(self._accepts)
        follows = np.zeros((count, count), bool)
        allowed = self._next[:, self._mask]
        for state, row in enumerate(allowed):
            follows[state, row[row != DEAD]] = True
        reach = np.zeros((self.length + 1, count + 1), bool)
        reach[0, :count] = self._accepts
        for left in range(1, self.length + 1):
            reach[left, :count] = follows @ reach[left - 1, :count]
            if self._ends:
                reach[left, :count] |= self._accepts
            if left > 1 and (reach[left] == reach[left - 1]).all():
                reach[left:] = reach[left]  # more tokens change nothing
                break
        return reach

    def _check(self, pattern: str | None) -> None:
        if len(self.prefix) > self.length:
            raise UsageError(
                f"`prefix` must have at most `length` tokens, {self.length}. "
                f"Received: prefix of {len(self.prefix)} tokens"
            )
        state = self.start
        for at, token in enumerate(self.prefix):
            state = int(self._next[state, token])
            if state == DEAD:
                raise UsageError(
                    "`prefix` must begin a text that matches `pattern`. "
                    f"Received: prefix of {len(self.prefix)} tokens, no match from token {at} on, "
                    f"pattern={short_repr(pattern)}"
                )
        if not self._reach[self.length - len(self.prefix), state]:
            what = "most" if self._ends else "exactly"
            raise UsageError(
                f"A text must be possible within `length`, at {what} {self.length} tokens. "
                f"Received: length={self.length}, pattern={short_repr(pattern)}, "
                f"{int(self._mask.sum())} allowed tokens"
            )

    def allowed(self, step: int, states: np.ndarray) -> np.ndarray:
        """Returns the mask of the next tokens, float32 `(batch, vocabulary)`.

        Args:
            step: number of tokens so far.
            states: state of each text, int `(batch,)`.
        """
        if step < len(self.prefix):
            mask = np.zeros((len(states), self._next.shape[1]), np.float32)
            mask[:, self.prefix[step]] = 1.0
            return mask
        following = self._next[states]
        mask = self._reach[self.length - step - 1][following] & self._mask
        if self._ends:
            mask[:, END] = self._accepts[states]
        return mask.astype(np.float32)

    def advance(self, states: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Returns the states after the next tokens; those of a text that has ended stay."""
        after = self._next[states, tokens]
        return np.where(tokens == END, states, after) if self._ends else after


def _token_table(automaton: Automaton, sampler: TextSampler) -> tuple[np.ndarray, np.ndarray]:
    """Returns the states after each token, and whether a text may end in each.

    The state behind those of the automaton is the start of a text, where no separator precedes a
    token. Its table has the shape `(states + 1, vocabulary)`.
    """
    count = len(automaton.accepts)
    # One more row and column for DEAD, which -1 indexes.
    step = np.full((count + 1, automaton.next.shape[1]), DEAD, np.int32)
    step[:count] = automaton.next
    table = np.full((count + 1, len(sampler.tokens)), DEAD, np.int32)
    states = np.arange(count)
    for character in sampler.separator:
        states = step[states, automaton.characters[character]]
    for token, text in enumerate(sampler.tokens):
        after, begin = states, np.array([0])
        for character in text:
            number = automaton.characters[character]
            after, begin = step[after, number], step[begin, number]
        if text:
            table[:count, token], table[count, token] = after, begin[0]
    return table, np.append(automaton.accepts, automaton.accepts[0])
