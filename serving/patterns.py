r"""Regular expressions over characters, compiled to automata of a bounded size.

The language is the part of Python's that automata have: characters, `.`, classes such as `[a-z]`
and `[^0-9]`, `\d`, `\w`, `\s` and escaped characters, groups `(...)` and `(?:...)`, `|`, `*`, `+`,
`?`, `{m}`, `{m,}` and `{m,n}`. `\d`, `\w` and `\s` are those of ASCII. A text matches as a whole.
Positions of the expression become states without empty transitions (Glushkov, 1961), and sets of
them states of the automaton.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from serving.errors import UsageError

MAX_PATTERN = 1000  # characters
MAX_POSITIONS = 1000  # characters of the expression once its repetitions are written out
MAX_STATES = 500  # of the automaton
DEAD = -1  # in the place of a state from which no text matches

_MAX_DEPTH = 40  # of groups
_SPECIAL = "\\.[](){}|*+?^$"
_CLASSES = {
    "d": frozenset(string.digits),
    "w": frozenset(string.ascii_letters + string.digits + "_"),
    "s": frozenset(" \t\n\r\f\v"),
}
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}

# Nodes of an expression: ("set", characters, negated), ("all", nodes), ("one", nodes),
# ("repeat", node, least, most or None).
Node = tuple


class Automaton(NamedTuple):
    """A deterministic automaton over characters, whose first state is 0.

    Args:
        next: int32 `(states, characters)`, the state after a character, or `DEAD`.
        accepts: bool `(states,)`, true if a text may end.
        characters: position of each character in `next`; others are in no text.
    """

    next: np.ndarray
    accepts: np.ndarray
    characters: dict[str, int]


def compile_pattern(pattern: Any, characters: Iterable[str]) -> Automaton:
    """Compiles a regular expression.

    Args:
        pattern: the expression.
        characters: those of which texts consist.

    Raises:
        UsageError: not an expression of this language, or one that is too large.
    """
    if not isinstance(pattern, str) or not 0 < len(pattern) <= MAX_PATTERN:
        length = f"{len(pattern)} characters" if isinstance(pattern, str) else repr(pattern)[:80]
        raise UsageError(
            f"`pattern` must be a regular expression of 1 to {MAX_PATTERN} characters. "
            f"Received: pattern of {length}"
        )
    alphabet = sorted({*characters})
    node = _Parser(pattern, alphabet).parse()
    count = _positions(node)
    if count > MAX_POSITIONS:
        raise UsageError(
            f"`pattern` must have at most {MAX_POSITIONS} characters once its repetitions are "
            f"written out. Received: pattern={pattern!r:.80} with {count}"
        )
    return _determinize(_Glushkov(node), alphabet, pattern)


# ------------------------------------------------------------------------ parsing


class _Parser:
    """Parser of an expression by recursive descent.

    Args:
        pattern: the expression.
        alphabet: characters of which texts consist; a range has no others, so that it is small.
    """

    def __init__(self, pattern: str, alphabet: Sequence[str]):
        self._text, self._at, self._depth = pattern, 0, 0
        self._alphabet = alphabet

    def parse(self) -> Node:
        node = self._alternatives()
        if self._at < len(self._text):
            raise self._wrong("unmatched )")
        return node

    def _wrong(self, what: str) -> UsageError:
        return UsageError(
            "`pattern` must consist of characters, classes, groups, |, *, +, ? and {m,n}. "
            f"Received: pattern={self._text!r:.80}, {what} at character {self._at}"
        )

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        found = self._peek()
        if not found:
            raise self._wrong("nothing")
        self._at += 1
        return found

    def _alternatives(self) -> Node:
        found = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            found.append(self._sequence())
        return found[0] if len(found) == 1 else ("one", found)

    def _sequence(self) -> Node:
        found = []
        while self._peek() not in ("", "|", ")"):
            found.append(self._repeated(self._atom()))
        return ("all", found)

    def _repeated(self, node: Node) -> Node:
        limits: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        sign = self._peek()
        if sign in limits and sign:
            self._at += 1
            node = ("repeat", node, *limits[sign])
        elif sign == "{":
            node = ("repeat", node, *self._limits())
        else:
            return node
        if self._peek() in ("*", "+", "?", "{") and self._peek():
            raise self._wrong(f"{self._peek()} after a repetition")
        return node

    def _limits(self) -> tuple[int, int | None]:
        """Returns the limits of `{m}`, `{m,}` or `{m,n}`."""
        end = self._text.find("}", self._at)
        inside = self._text[self._at + 1 : end] if end > 0 else ""
        least, comma, most = inside.partition(",")
        numbers = [least, *([most] if most else [])]
        if not all(x.isascii() and x.isdigit() and len(x) <= 4 for x in numbers):
            raise self._wrong("{ without m or m,n")
        low = int(least)
        high = int(most) if most else None if comma else low
        if high is not None and high < low:
            raise self._wrong("{m,n} with n below m")
        self._at = end + 1
        return low, high

    def _atom(self) -> Node:
        character = self._take()
        if character == "(":
            return self._group()
        if character == "[":
            return self._class()
        if character == ".":
            return ("set", frozenset("\n"), True)
        if character == "\\":
            return self._escape()
        if character in _SPECIAL:
            self._at -= 1
            raise self._wrong(f"{character} where a character must be")
        return ("set", frozenset(character), False)

    def _group(self) -> Node:
        if self._peek() == "?":
            if self._text[self._at : self._at + 2] != "?:":
                raise self._wrong("a group with (?")
            self._at += 2
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._wrong(f"more than {_MAX_DEPTH} groups in each other")
        node = self._alternatives()
        if self._peek() != ")":
            raise self._wrong("( without )")
        self._at += 1
        self._depth -= 1
        return node

    def _escape(self) -> Node:
        character = self._take()
        if character.lower() in _CLASSES:
            return ("set", _CLASSES[character.lower()], character.isupper())
        return ("set", frozenset(self._literal(character)), False)

    def _literal(self, character: str) -> str:
        """Returns the character that an escaped one stands for."""
        if character in _ESCAPED:
            return _ESCAPED[character]
        if character.isalnum():
            self._at -= 1
            raise self._wrong(f"\\{character}")
        return character

    def _class(self) -> Node:
        negated = self._peek() == "^"
        self._at += negated
        found: set[str] = set()
        first = True
        while first or self._peek() != "]":
            first = False
            low = self._member()
            if len(low) == 1 and self._peek() == "-" and self._text[self._at + 1 :][:1] != "]":
                self._at += 1
                found |= self._range(min(low), self._member())
            else:
                found |= low
        self._at += 1
        return ("set", frozenset(found), negated)

    def _member(self) -> frozenset[str]:
        """Returns the characters of one member of a class."""
        character = self._take()
        if character != "\\":
            return frozenset(character)
        character = self._take()
        if character in _CLASSES:
            return _CLASSES[character]
        return frozenset(self._literal(character))

    def _range(self, low: str, high: frozenset[str]) -> set[str]:
        ends = sorted(high)
        if len(ends) != 1 or ends[0] < low:
            raise self._wrong("a range that does not ascend")
        return {character for character in self._alphabet if low <= character <= ends[0]}


# ------------------------------------------------------------------------ automata


def _positions(node: Node) -> int:
    """Returns the number of characters of an expression once its repetitions are written out.

    An empty part counts as one: repeating it takes time too.
    """
    if node[0] == "set":
        return 1
    if node[0] == "repeat":
        return _positions(node[1]) * max(1, node[2], node[3] or 0)
    return max(1, sum(map(_positions, node[1])))


class _Glushkov:
    """Positions of an expression; sets of them are the bits of integers.

    Attributes:
        sets: characters of each position, and whether they are negated.
        follow: positions that may come after each.
        first: positions that may come first; `last` likewise.
        nullable: true if the empty text matches.
    """

    def __init__(self, node: Node):
        self.sets: list[tuple[frozenset[str], bool]] = []
        self.follow: list[int] = []
        self.nullable, self.first, self.last = self._add(node)

    def _add(self, node: Node) -> tuple[bool, int, int]:
        if node[0] == "set":
            self.sets.append(node[1:])
            self.follow.append(0)
            bit = 1 << (len(self.sets) - 1)
            return False, bit, bit
        if node[0] == "one":
            found = [self._add(each) for each in node[1]]
            first = last = 0
            for _, begin, end in found:
                first, last = first | begin, last | end
            return any(nullable for nullable, _, _ in found), first, last
        if node[0] == "all":
            return self._join(self._add(each) for each in node[1])
        return self._repeat(*node[1:])

    def _join(self, parts: Iterable[tuple[bool, int, int]]) -> tuple[bool, int, int]:
        nullable, first, last = True, 0, 0
        for empty, begin, end in parts:
            self._connect(last, begin)
            first |= begin if nullable else 0
            last = end | (last if empty else 0)
            nullable = nullable and empty
        return nullable, first, last

    def _repeat(self, node: Node, least: int, most: int | None) -> tuple[bool, int, int]:
        if most == 0:
            return True, 0, 0
        parts = []
        for number in range(max(1, least, most or 0)):
            empty, begin, end = self._add(node)
            parts.append((empty or number >= least, begin, end))
        if most is None:
            self._connect(parts[-1][2], parts[-1][1])
        return self._join(parts)

    def _connect(self, sources: int, targets: int) -> None:
        for position in _bits(sources):
            self.follow[position] |= targets


def _bits(number: int) -> Iterable[int]:
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low


def _determinize(source: _Glushkov, alphabet: Sequence[str], pattern: str) -> Automaton:
    """Returns the automaton whose states are sets of positions."""
    masks: dict[str, int] = dict.fromkeys(alphabet, 0)
    for position, (characters, negated) in enumerate(source.sets):
        for character in alphabet:
            if (character in characters) != negated:
                masks[character] |= 1 << position
    by_mask: dict[int, list[int]] = {}  # characters of one mask have equal transitions
    for number, character in enumerate(alphabet):
        by_mask.setdefault(masks[character], []).append(number)
    start = 1 << len(source.sets)  # a state of its own, before the first position
    states, rows, accepts = {start: 0}, [], []
    queue = [start]
    for state in queue:
        following = source.first if state == start else 0
        for position in _bits(state & ~start):
            following |= source.follow[position]
        row = np.full(len(alphabet), DEAD, np.int32)
        for mask, numbers in by_mask.items():
            if target := following & mask:
                if target not in states:
                    states[target] = len(states)
                    queue.append(target)
                row[numbers] = states[target]
        rows.append(row)
        accepts.append(source.nullable if state == start else bool(state & source.last))
        if len(states) > MAX_STATES:
            raise UsageError(
                f"`pattern` must have an automaton of at most {MAX_STATES} states. "
                f"Received: pattern={pattern!r:.80}"
            )
    table = np.stack(rows) if alphabet else np.zeros((1, 0), np.int32)
    characters = {character: number for number, character in enumerate(alphabet)}
    return Automaton(table, np.array(accepts), characters)
