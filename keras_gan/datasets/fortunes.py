"""Fortune cookies: 800 short quotations, jokes and riddles by characters (Debian package)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_gan.datasets.source import Source
from keras_gan.datasets.text import decode
from keras_gan.datasets.text_source import TextOptions, Texts, clean, make
from keras_gan.errors import UsageError

KIND = "text"
# Options that a recipe keeps if another file or folder takes the place of these texts.
FOLDER_OPTIONS = ("unit", "length", "vocabulary", "lowercase")
ROOT = Path("/usr/share/games/fortunes")


def open(
    *,
    files: Sequence[str] | None = None,
    unit: str = "characters",
    length: int | None = 64,
    vocabulary: int | None = None,
    lowercase: bool = False,
    held_out: float | None = 0.1,
    root: str | os.PathLike[str] = ROOT,
) -> Source:
    """Opens the fortunes of installed packages, each one document.

    One of Debian's packages fortunes-min and fortunes must be installed, and those of other
    languages are read as well. The collection is free; the quotations are of many authors, and for
    training on the machine that has them, not to be distributed. Longer fortunes are divided into
    windows, and the split divides fortunes.

    Args:
        files: names of files, such as `[fortunes, riddles]`; by default all in the folder.
        unit: `"characters"`, or `"words"`, which includes punctuation marks.
        length: tokens of one sample; `None` for what 95 % of the fortunes fit into, at most 128.
        vocabulary: largest number of tokens, see `keras_gan.datasets.text`.
        lowercase: whether letters become lower case.
        held_out: share of the windows to hold out, as whole fortunes.
        root: folder of the fortunes.

    Raises:
        UsageError: no package is installed, a file that is not there, or an option out of range.
    """
    options = TextOptions(unit, length, "cut", vocabulary, lowercase, held_out)
    options.check()
    folder = Path(os.path.expanduser(root))
    # Every file of fortunes has an index beside it.
    known = sorted(path.stem for path in folder.glob("*.dat") if path.with_suffix("").is_file())
    if not known:
        raise UsageError(
            "Debian's package fortunes-min or fortunes must be installed (apt install "
            f"fortunes-min). Received: no fortunes in {folder}"
        )
    chosen = known if files is None else list(files)
    for name in chosen:
        if name not in known:
            raise UsageError(
                f"`files` must be names of {', '.join(known)}. Received: files={chosen!r}"
            )
    texts = []
    for name in chosen:
        plain = re.sub(r".\x08", "", decode(folder / name))  # letters that are struck over
        texts += re.split(r"^%.*$", plain, flags=re.MULTILINE)
    cleaned = [text for each in texts if (text := clean(each, lowercase))]
    return make(Texts(f"fortunes: {', '.join(chosen)}", cleaned, "fortunes", windows=True), options)


def folder_source(section: Mapping[str, Any]) -> str:
    """Returns the data set that reads a file or a folder in place of these texts."""
    return "text"
