"""The data set of some texts: tokens, vocabulary, length, windows, split, and the report."""

from __future__ import annotations

import collections
import dataclasses
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_gan.arguments import check_integer
from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split, digests_of, divide
from keras_gan.errors import UsageError
from keras_gan.spec import Field, Spec, label_field
from serving.kinds import text as kind

UNITS = ("characters", "words")
LONGER = ("cut", "drop")
MOST_CHARACTERS = 1_000  # of a vocabulary that is not given
MOST_WORDS = 5_000
LONGEST = 128  # tokens, of a length that is not given
_FITTING = 95  # percent of the texts, by which the length is chosen


@dataclasses.dataclass(frozen=True)
class TextOptions:
    """Options that all data sets of texts have, see `text.open`."""

    unit: str = "characters"
    length: int | None = None
    longer: str = "cut"
    vocabulary: int | None = None
    lowercase: bool = False
    held_out: float | None = None

    def check(self) -> None:
        """Raises an error for an option outside its range."""
        check_choice("unit", self.unit, UNITS)
        check_choice("longer", self.longer, LONGER)
        if self.length is not None:
            check_integer("length", self.length, 1)
        if self.vocabulary is not None:
            check_integer("vocabulary", self.vocabulary, 3)


@dataclasses.dataclass(frozen=True)
class Texts:
    """Texts that were read.

    Args:
        name: the data set and where it was read, for the report.
        texts: the texts, as `clean` returns them.
        noun: plural noun for one of them: `"lines"` or `"documents"`.
        labels: class id of each text; empty without classes.
        classes: names of the classes.
        held_out: whether each text is held out; empty where the data have no such split.
        windows: whether longer texts are divided into windows.
        lines: clauses of the report.
    """

    name: str
    texts: Sequence[str]
    noun: str = "lines"
    labels: Sequence[int] = ()
    classes: tuple[str, ...] = ()
    held_out: Sequence[bool] = ()
    windows: bool = False
    lines: tuple[str, ...] = ()


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raises an error for an option that is none of its choices."""
    if value not in choices:
        valid = " or ".join(map(repr, choices))
        raise UsageError(f"`{name}` must be {valid}. Received: {name}={value!r}")


def clean(text: str, lowercase: bool = False) -> str:
    """Returns a text in Unicode's form NFC, with single spaces for white space and control codes.

    Args:
        text: any text.
        lowercase: whether letters become lower case.
    """
    text = unicodedata.normalize("NFC", text)
    text = text.lower() if lowercase else text
    shown = (c if c.isprintable() else " " if c.isspace() or c < " " else "" for c in text)
    return " ".join("".join(shown).split())


def make(found: Texts, options: TextOptions) -> Source:
    """Makes the data set of texts: ids of tokens, which are one-hot in batches.

    Raises:
        UsageError: fewer than 2 different texts, or too many distinct characters.
    """
    tokens = [list(t) if options.unit == "characters" else kind.split_words(t) for t in found.texts]
    rows = [row for row, each in enumerate(tokens) if each]
    if len({found.texts[row] for row in rows}) < 2:
        raise UsageError(
            f"A data set of texts must have at least 2 different {found.noun}. "
            f"Received: {found.name} with {len(rows)}"
        )
    length, of_length = _length([len(tokens[row]) for row in rows], options)
    kept, of_longer = rows, ""
    if not found.windows:
        kept, of_longer = _keep(rows, tokens, length, found.noun, options)
    vocabulary, of_vocabulary = _vocabulary([tokens[row] for row in kept], options)
    known = {token: number for number, token in enumerate(vocabulary)}
    pieces = [(row, piece) for row in kept for piece in _pieces(tokens[row], length, found.windows)]
    ids = np.zeros((len(pieces), length), smallest_dtype(len(vocabulary)))
    for number, (_, piece) in enumerate(pieces):
        ids[number, : len(piece)] = [known.get(token, 1) for token in piece]
    owners = np.array([row for row, _ in pieces])
    splits, of_copies = _divide(ids, owners, found, options)
    fields = {"samples": Field("text", (length, len(vocabulary)), meta={"vocabulary": vocabulary})}
    if found.classes:
        fields["labels"] = label_field(len(found.classes), found.classes)
    counts = " + ".join(f"{len(part):,}" for part in splits.values())
    samples = "windows" if found.windows else found.noun
    clauses = (f"{found.name}: {counts} {samples} of {len(rows):,} {found.noun}", *found.lines)
    clauses += (of_vocabulary, of_length, of_longer, of_copies)
    return Source(Spec(fields=fields), splits, "; ".join(filter(None, clauses)))


def smallest_dtype(size: int) -> type[np.integer]:
    """Returns the smallest integer dtype that holds the ids of a vocabulary of a size."""
    return np.uint8 if size <= 2**8 else np.uint16 if size <= 2**16 else np.int32


# ------------------------------------------------------------------------ tokens


def _vocabulary(
    tokens: Sequence[Sequence[str]], options: TextOptions
) -> tuple[tuple[str, ...], str]:
    """Returns the tokens in the order of their ids, and a clause of the report."""
    counts = collections.Counter(token for each in tokens for token in each)
    of_words, wanted = options.unit == "words", options.vocabulary
    unknown = kind.UNKNOWN_WORD if of_words else kind.UNKNOWN_CHARACTER
    counts.pop(unknown, None) if of_words else None
    ordered = sorted(counts, key=lambda token: (-counts[token], token))
    if wanted is None and not of_words and len(counts) > MOST_CHARACTERS:
        kept = sum(counts[c] for c in ordered[: MOST_CHARACTERS - 2]) / counts.total()
        raise UsageError(
            f"Texts of more than {MOST_CHARACTERS:,} distinct characters need the option "
            f"vocabulary: {MOST_CHARACTERS} keeps the most frequent ones, {kept:.1%} of the text, "
            f"in place of the others is {unknown}. Received: {len(counts):,} distinct characters"
        )
    if of_words:
        # A word that occurs once cannot be learned.
        often = [word for word in ordered if counts[word] > 1] or ordered
        ordered = often[: MOST_WORDS - 2] if wanted is None else ordered[: wanted - 2]
    elif wanted is not None and len(counts) > wanted - 1:
        # A text may have the character that stands for those left out.
        ordered = [token for token in ordered if token != unknown][: wanted - 2]
    else:
        return (kind.END, *sorted(ordered)), f"{len(counts) + 1} tokens, the end among them"
    known = sum(counts[token] for token in ordered) / max(1, counts.total())
    chosen = ordered if of_words else sorted(ordered)
    line = f"{len(chosen) + 2:,} tokens, which are {known:.1%} of the {options.unit}"
    return (kind.END, unknown, *chosen), line


def _length(counts: Sequence[int], options: TextOptions) -> tuple[int, str]:
    """Returns the number of tokens of a sample, and a clause of the report."""
    if options.length is not None:
        return options.length, f"length {options.length}"
    fitting = int(np.percentile(counts, _FITTING, method="higher"))
    length = max(1, min(fitting, LONGEST))
    share = float(np.mean(np.array(counts) <= length))
    return length, f"length {length} chosen: {share:.0%} fit"


def _keep(
    rows: Sequence[int],
    tokens: Sequence[Sequence[str]],
    length: int,
    noun: str,
    options: TextOptions,
) -> tuple[Sequence[int], str]:
    """Returns the texts that are kept, by their rows, and a clause of the report."""
    fitting = [row for row in rows if len(tokens[row]) <= length]
    longer = len(rows) - len(fitting)
    if options.longer == "cut":
        return rows, f"longer {noun} cut: {longer:,}" if longer else ""
    if not fitting:
        raise UsageError(
            "`length` must leave some texts if longer ones are dropped. "
            f"Received: length={length}, {len(rows):,} {noun} that are all longer"
        )
    return fitting, f"longer {noun} left out: {longer:,}" if longer else ""


def _pieces(tokens: Sequence[str], length: int, windows: bool) -> list[Sequence[str]]:
    """Returns the tokens of each sample of a text: of its windows, or of the text cut."""
    starts = range(0, len(tokens), length) if windows else (0,)
    return [tokens[start : start + length] for start in starts]


# ------------------------------------------------------------------------ splits


def _divide(
    ids: np.ndarray, owners: np.ndarray, found: Texts, options: TextOptions
) -> tuple[dict[str, Split], str]:
    """Returns the splits, none of which separates equal texts, and a clause of the report."""
    labels = np.array(found.labels, np.int32)[owners] if found.classes else None
    if len(found.held_out):
        held = np.array(found.held_out)[owners]
        whole = {"train": np.flatnonzero(~held), "held_out": np.flatnonzero(held)}
        splits = {name: Split(ids, labels, rows) for name, rows in whole.items()}
    else:
        splits = {"train": Split(ids, labels)}
    copies = len(ids) - len(np.unique(digests_of(ids, range(len(ids)))))
    line = f"equal to an earlier one, never separated by the split: {copies:,}"
    groups = owners if found.windows else None
    if groups is not None and options.held_out != 0 and len(set(owners)) < 2:
        raise UsageError(
            "Documents are held out whole, so that there must be at least 2 of them; held_out=0 "
            "holds none out, by=line divides a text by its lines. "
            f"Received: {found.name} with 1 document"
        )
    return divide(splits, options.held_out, "texts", groups), line if copies else ""
