"""English words of a to z, half of them held out, 61,000 of up to 12 letters (Debian package)."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_gan.arguments import check_integer, check_number
from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split
from keras_gan.datasets.text import decode
from keras_gan.errors import UsageError
from keras_gan.spec import Field, Spec
from serving.kinds.text import END

KIND = "text"
ROOT = Path("/usr/share/dict")
FILES = ("american-english", "words")  # the first that exists
VOCABULARY = (END, *string.ascii_lowercase)
FOLDER_OPTIONS = ("length",)  # that a recipe keeps if another file takes the place of the words


def open(
    *,
    length: int = 12,
    held_out: float = 0.5,
    data_seed: int = 0,
    root: str | os.PathLike[str] = ROOT,
) -> Source:
    """Opens the words of a dictionary, those of the letters a to z alone.

    Debian's package wamerican must be installed (its copyright file allows any use of the list,
    SCOWL). Names and abbreviations, which have capital letters, and words with apostrophes or
    accents are left out. No word is in both halves, but inflected forms of one word may be.

    Args:
        length: most letters of a word, which are the tokens of a sample; longer words are left
            out.
        held_out: share of the words to hold out, above 0 and below 1. With a half, a generator
            that has learned the language and one that copies differ the most in `real_words`.
        data_seed: non-negative integer that fixes the choice of the held-out words.
        root: folder of the dictionary.

    Raises:
        UsageError: the package is not installed, or an option out of range.
    """
    check_integer("length", length, 2)
    check_integer("data_seed", data_seed, 0)
    check_number("held_out", held_out, above=0, below=1)
    folder = Path(os.path.expanduser(root))
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        raise UsageError(
            "Debian's package wamerican must be installed (apt install wamerican). "
            f"Received: no {' or '.join(FILES)} in {folder}"
        )
    plain = re.compile(rf"[a-z]{{1,{length}}}")
    words = sorted({line for line in decode(file).split() if plain.fullmatch(line)})
    if len(words) < 4:
        raise UsageError(
            f"A dictionary must have at least 4 words of up to {length} letters. "
            f"Received: {file} with {len(words)}"
        )
    ids = np.zeros((len(words), length), np.uint8)
    for row, word in enumerate(words):
        ids[row, : len(word)] = [ord(letter) - ord("a") + 1 for letter in word]
    order = np.random.default_rng(data_seed).permutation(len(words))
    count = min(max(1, round(held_out * len(words))), len(words) - 2)
    splits = {
        "train": Split(ids, index=np.sort(order[count:]), disjoint=True),
        "held_out": Split(ids, index=np.sort(order[:count]), disjoint=True),
    }
    description = (
        f"words: {len(words) - count:,} + {count:,} words of up to {length} letters of {file}, "
        f"divided with seed {data_seed}"
    )
    meta = {"vocabulary": VOCABULARY}
    spec = Spec(fields={"samples": Field("text", (length, len(VOCABULARY)), meta=meta)})
    return Source(spec, splits, description)


def folder_source(section: Mapping[str, Any]) -> str:
    """Returns the data set that reads a file or a folder in place of these texts."""
    return "text"
