"""`keras-gan sample` of texts token by token, with a temperature and constraints."""

from __future__ import annotations

import argparse
import re
import time
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from serving.checks import MAX_SEED
from serving.errors import UsageError
from serving.kinds.text import to_line
from serving.lists import parse_labels
from serving.output_files import check_writable, write_file
from serving.text_options import ENDINGS
from serving.text_steps import encode_lines

_MAX_COUNT = 10**6
_COUNT = 64  # texts by default, as of other samples
# Options that texts do not take, and their defaults.
_OTHERS = {
    "input": [],
    "each": None,
    "workers": None,
    "shard_size": None,
    "engine": None,
    "truncation": 1.0,
    "no_metadata": False,
    "batch_size": 64,
    "precision": "float32",
}


class TextCommand:
    """A checked command; nothing is sampled before everything is known to fit.

    Args:
        bundle: the opened bundle.
        options: parsed by `serving.cli`.

    Raises:
        UsageError: a bundle that does not sample texts, or options that do not fit.
    """

    def __init__(self, bundle: Any, options: argparse.Namespace):
        for name, default in _OTHERS.items():
            value, option = getattr(options, name), f"--{name.replace('_', '-')}"
            if value != default:
                given = option if value is True else f"{option} {value}"
                raise UsageError(
                    f"{option} cannot be used with texts token by token. Received: {given}"
                )
        steps = getattr(bundle, "text_steps", None)
        if steps is None:
            raise UsageError(
                "--temperature, --prefix, --pattern, --vocabulary, --length, --exclude and --seeds "
                "need a bundle on disk; a server takes all but --exclude as fields of "
                "/v1/generate. "
                f"Received: {options.bundle}"
            )
        self._steps, self._options, self._name = steps, options, bundle.name
        self._seeds = _seeds_of(options)
        labels = options.labels and parse_labels(options.labels, bundle.class_names)
        if labels:
            labels = [labels[i % len(labels)] for i in range(len(self._seeds))]
        self._labels = bundle.label_ids(self._seeds, labels or None)
        vocabulary = _read_lines("--vocabulary", options.vocabulary)
        self._excluded = {_plain(line) for line in _read_lines("--exclude", options.exclude) or ()}
        self._constraint = steps.constraint(
            options.prefix or (), options.pattern, vocabulary, options.length
        )
        self._out = None if options.out is None else Path(options.out)
        self._form = self._read_format(options.format)
        if self._out is not None:
            check_writable(self._out)
        temperature = 1.0 if options.temperature is None else options.temperature
        self._temperature = temperature
        next(steps.tokens(self._seeds[:1], self._constraint, temperature, self._first_label))

    def _read_format(self, form: str | None) -> str:
        """Returns the format of the lines, "txt" or "jsonl".

        Raises:
            UsageError: another one, or one that is not that of the file's ending.
        """
        if self._out is not None and self._out.suffix not in ENDINGS:
            raise UsageError(
                f"Texts are written to files that end in {' or '.join(ENDINGS)}. "
                f"Received: --out {self._out}"
            )
        ending = None if self._out is None else self._out.suffix
        if form is not None and f".{form}" not in ((ending,) if ending else ENDINGS):
            place = "" if ending is None else f" --out {self._out}"
            raise UsageError(
                "--format of texts must be txt or jsonl, and that of the ending of --out. "
                f"Received: --format {form}{place}"
            )
        return form or (ending or ".txt")[1:]

    @property
    def _first_label(self) -> np.ndarray | None:
        return None if self._labels is None else self._labels[:1]

    def run(self) -> str:
        """Samples and writes the texts; returns what is printed, with the end of the last line."""
        start = time.perf_counter()
        texts = self._steps.texts(self._seeds, self._constraint, self._temperature, self._labels)
        asked = len(texts)
        if self._excluded:
            texts = [text for text in texts if self._excluded.isdisjoint(_forms(text.text))]
        lines = encode_lines(texts, self._form)
        if self._out is None:
            return lines.decode()
        rate = asked / (time.perf_counter() - start)
        try:
            write_file(self._out, lines)
        except OSError as error:
            raise UsageError(f"The output must be writable. Received: {error}") from error
        plural = "text" if len(texts) == 1 else "texts"
        without = "" if asked == len(texts) else f" ({asked - len(texts)} excluded)"
        made = f"{len(texts)} {plural} of {self._name}{without}"
        return f"Wrote {self._out}: {made}, {rate:.0f} texts/s\n"


def _seeds_of(options: argparse.Namespace) -> np.ndarray:
    """Returns the seeds of --seeds, or those of --seed and --count.

    Raises:
        UsageError: both, a list that is not of seeds, or too many.
    """
    if options.seeds is None:
        count = _COUNT if options.count is None else options.count
        first = options.seed or 0
        if count > _MAX_COUNT or first + count - 1 > MAX_SEED:
            raise UsageError(
                f"--count must be at most {_MAX_COUNT} texts, with seeds below 2**63. "
                f"Received: --seed {first} --count {count}"
            )
        return np.arange(first, first + count, dtype=np.int64)
    if options.seed is not None or options.count is not None:
        raise UsageError(
            f"--seeds takes the place of --seed and --count. Received: --seeds {options.seeds}"
        )
    found: list[int] = []
    for part in options.seeds.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,19})(?:-([0-9]{1,19}))?\s*", part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not low <= high <= MAX_SEED or len(found) + high - low >= _MAX_COUNT:
            raise UsageError(
                f"--seeds must be at most {_MAX_COUNT} seeds below 2**63, such as 1-20 or 3,7,9. "
                f"Received: --seeds {options.seeds[:80]}"
            )
        found += range(low, high + 1)
    return np.array(found, np.int64)


def _plain(line: str) -> str:
    """Returns a text as data sets of texts clean it: NFC, and single spaces."""
    return " ".join(unicodedata.normalize("NFC", line).split())


def _forms(text: str) -> set[str]:
    """Returns a text as files of texts may have it: as it is, and with escapes."""
    return {_plain(text), _plain(to_line(text))}


def _read_lines(option: str, path: str | None) -> list[str] | None:
    """Returns the lines of a file that are not empty, tokens or texts; `None` without a file.

    Raises:
        UsageError: a file that cannot be read as UTF-8.
    """
    if path is None:
        return None
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} must be a UTF-8 file. Received: {path} ({error})") from None
    return [line for line in lines if line]


def run(bundle: Any, options: argparse.Namespace) -> int:
    """Runs the command on an opened bundle."""
    print(TextCommand(bundle, options).run(), end="")
    return 0
