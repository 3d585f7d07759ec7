"""Options of `keras-gan sample` for texts token by token."""

from __future__ import annotations

import argparse

ENDINGS = (".txt", ".jsonl")
OPTIONS = ("seeds", "temperature", "prefix", "pattern", "vocabulary", "length", "exclude")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of texts to those of `keras-gan sample`."""
    add = parser.add_argument_group("texts, token by token").add_argument
    add("--seeds", metavar="SEEDS", help="seeds of texts, such as 1-20 or 3,7,10-12")
    add(
        "--temperature",
        type=float,
        help="factor of the noise: 0 for the most probable tokens, above 1 for more variety "
        "(default: 1)",
    )
    add("--prefix", metavar="TEXT", help="beginning of all texts")
    add("--pattern", metavar="REGEX", help="regular expression that the whole texts match")
    add("--vocabulary", metavar="FILE", help="file of the only allowed tokens, one in each line")
    add("--exclude", metavar="FILE", help="file of texts to leave out, one in each line")
    add("--length", type=int, help="most tokens of a text (default: that of the model)")


def is_wanted(options: argparse.Namespace) -> bool:
    """Returns whether an option of texts is used."""
    return any(getattr(options, name) is not None for name in OPTIONS)


def writes_lines(options: argparse.Namespace) -> bool:
    """Returns whether texts go to a file of lines."""
    return (options.out or "").endswith(ENDINGS) and options.each is None
