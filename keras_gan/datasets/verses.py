"""Verses of the King James Bible by words, lower case, 8,700 of up to 20 (Debian package)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from keras_gan.datasets.source import Source
from keras_gan.datasets.text_source import TextOptions, Texts, clean, make
from keras_gan.errors import UsageError
from serving.errors import one_line

KIND = "text"
# Options that a recipe keeps if another file or folder takes the place of these texts.
FOLDER_OPTIONS = ("unit", "length", "longer", "vocabulary", "lowercase")
_PROGRAM = "bible"
_ALL = "Gen1:1-Rev22:21"


def open(
    *,
    unit: str = "words",
    length: int | None = 20,
    longer: str = "drop",
    vocabulary: int | None = 2_000,
    lowercase: bool = True,
    held_out: float | None = 0.1,
) -> Source:
    """Opens the verses of the King James Version, each one text.

    Debian's package bible-kjv must be installed, whose program reads the compressed text of
    bible-kjv-text. The copyright of the text is expired, says the package; the translation is of
    1611. There are 31,102 verses, most of which are longer than 20 words. Verses of the same words
    are never separated by the split; similar ones, as of parallel accounts, may be.

    Args:
        unit: `"words"`, which includes punctuation marks, or `"characters"`.
        length: tokens of one sample; `None` for what 95 % of the verses fit into.
        longer: `"drop"` leaves longer verses out, `"cut"` cuts them.
        vocabulary: largest number of tokens, see `keras_gan.datasets.text`.
        lowercase: whether letters become lower case.
        held_out: share of the verses to hold out.

    Raises:
        UsageError: the package is not installed, or an option out of range.
    """
    options = TextOptions(unit, length, longer, vocabulary, lowercase, held_out)
    options.check()
    texts = [text for line in _lines() if (text := clean(line.partition(" ")[2], lowercase))]
    return make(Texts("verses: King James Version", texts, "verses"), options)


def _lines() -> list[str]:
    """Returns all verses, each after its place: `Ge1:1 In the beginning ...`."""
    program = shutil.which(_PROGRAM)
    if program is None:
        raise UsageError(
            "The program of Debian's package bible-kjv must be installed (apt install bible-kjv). "
            f"Received: no {_PROGRAM} on the PATH"
        )
    lines, reason = [], ""
    try:
        done = subprocess.run([program, "-f", _ALL], capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = one_line(error)
    else:
        lines = [] if done.returncode else done.stdout.decode("utf-8", "replace").splitlines()
        reason = done.stderr.decode(errors="replace").strip() or "no output"
    if not lines:
        raise UsageError(
            "The text of Debian's package bible-kjv-text must be readable (apt install "
            f"bible-kjv-text). Received: {program}: {reason:.200}"
        )
    return lines


def folder_source(section: Mapping[str, Any]) -> str:
    """Returns the data set that reads a file or a folder in place of these texts."""
    return "text"
