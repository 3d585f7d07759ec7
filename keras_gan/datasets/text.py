"""Texts in a .txt file or a folder of such files: lines or documents, by characters or words.

Subfolders are classes, and splits if their names say so, as in the data set `folder`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_gan.datasets import folder_files, folder_layout, images, sound_files
from keras_gan.datasets.classes import natural_key
from keras_gan.datasets.source import Source
from keras_gan.datasets.text_source import TextOptions, Texts, check_choice, clean, make
from keras_gan.errors import UsageError

KIND = "text"
READS_FOLDERS = True  # a recipe with this source takes the folder of --data, and keeps its options
FORM = "the path of a .txt file or of a folder of such files"
BY = ("line", "document")
SUFFIX = ".txt"
_WANTED = folder_files.Wanted("texts", lambda: (SUFFIX,), lambda path: False, f"{SUFFIX} files")


def open(
    path: str | os.PathLike[str],
    *,
    unit: str = "characters",
    by: str = "line",
    length: int | None = None,
    longer: str = "cut",
    vocabulary: int | None = None,
    lowercase: bool = False,
    labels: bool | str = True,
    held_out: float | None = None,
) -> Source:
    """Opens texts as ids of tokens, one-hot in batches.

    Files are UTF-8, with or without a byte order mark, with line ends of any system. White space
    becomes single spaces, and empty lines are skipped. Token 0 is the end token, the empty string,
    which also fills up shorter texts. Copies of one text are never separated by the split; the
    description says how many there are.

    Args:
        path: a .txt file, or a folder of such files.
        unit: `"characters"` or `"words"`, which includes punctuation marks.
        by: `"line"`, each line one text; or `"document"`: each file of a folder, or the parts of
            one file that blank lines separate. Longer documents are divided into windows, and the
            split divides documents.
        length: tokens of one sample, at least 1; by default what 95 % of the texts fit into, at
            most 128.
        longer: `"cut"` cuts longer lines at the length, `"drop"` leaves them out.
        vocabulary: largest number of tokens, at least 3: the most frequent ones, besides the end
            token and one for all unknown ones. By default all characters, up to 1,000 (more are
            refused); of words those that occur at least twice, up to 5,000.
        lowercase: whether letters become lower case.
        labels: whether subfolders are classes; `"tab"` for lines `label<TAB>text`.
        held_out: share of the texts to hold out, 0.1 by default; not allowed for a folder that has
            its own splits.

    Raises:
        UsageError: no texts, a file that is not UTF-8, or an option out of range.
    """
    options = TextOptions(unit, length, longer, vocabulary, lowercase, held_out)
    options.check()
    check_choice("by", by, BY)
    if labels not in (True, False, "tab"):
        raise UsageError(f"`labels` must be true, false or 'tab'. Received: labels={labels!r}")
    if labels == "tab" and by != "line":
        raise UsageError(f"labels='tab' is for texts by line. Received: by={by!r}")
    return make(_read(Path(os.path.expanduser(path)), by, labels, lowercase), options)


def parse(source: str) -> dict[str, Any] | None:
    """Returns the options that a data set's name stands for: the path of texts."""
    path = Path(os.path.expanduser(source))
    is_file = path.suffix.lower() == SUFFIX and path.is_file()
    return {"path": source} if is_file or (path.is_dir() and _holds_texts(path)) else None


def decode(path: Path) -> str:
    """Returns the content of a file of UTF-8, without a byte order mark.

    Raises:
        UsageError: a file that cannot be read, is empty, is not UTF-8, or holds NUL bytes.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"A file of texts must be readable. Received: {path}: {error.strerror}"
        ) from error
    if not content.strip():
        raise UsageError(f"A file of texts must not be empty. Received: {path}")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            "A file of texts must be UTF-8 (iconv -f LATIN1 -t UTF-8 converts Latin-1). "
            f"Received: {path} with the byte 0x{content[error.start]:02x} at offset {error.start}"
        ) from None
    if "\0" in text:
        raise UsageError(
            "A file of texts must not hold NUL bytes, as binary files and UTF-16 do. "
            f"Received: {path} with one at offset {content.index(0)}"
        )
    return text.removeprefix("\ufeff")


def _holds_texts(root: Path) -> bool:
    """Returns whether more of the first files of a folder are texts than images and sounds."""
    others = {*images.suffixes(), *sound_files.SUFFIXES}
    texts = 0
    for _, names in folder_files.look(root):
        suffixes = [os.path.splitext(name)[1].lower() for name in names]
        texts += sum((suffix == SUFFIX) - (suffix in others) for suffix in suffixes)
    return texts > 0


def _read(root: Path, by: str, labels: bool | str, lowercase: bool) -> Texts:
    """Reads the texts of a file or of a folder."""
    if not root.exists():
        raise UsageError(f"The file or folder of texts must exist. Received: path={str(root)!r}")
    texts: list[str] = []
    of_tab: list[str] = []
    windows, noun = by == "document", f"{by}s"
    if root.is_file():
        layout, files = None, [root]
    else:
        layout = _layout(root, labels is True)
        files = [root.joinpath(*parts) for parts in layout.files]
    owners: list[int] = []
    for number, file in enumerate(files):
        parts = _parts(decode(file), by, whole=layout is not None)
        if labels == "tab":
            names, parts = _split_labels(file, parts)
            kept = [bool(clean(part)) for part in parts]
            of_tab += [name for name, keep in zip(names, kept, strict=True) if keep]
        found = [text for part in parts if (text := clean(part, lowercase))]
        texts += found
        owners += [number] * len(found)
    lines = layout.lines if layout else ()
    held = [bool(layout.split_of[o]) for o in owners] if layout and layout.has_splits else []
    ids, classes = _classes(of_tab, [layout.label_of[o] for o in owners] if layout else [], layout)
    return Texts(f"text: {root}", texts, noun, ids, classes, held, windows, tuple(lines))


def _layout(root: Path, labels: bool) -> folder_layout.Layout:
    return folder_layout.read(root, _WANTED, labels, False, stacklevel=4)[0]


def _parts(text: str, by: str, whole: bool) -> Sequence[str]:
    """Returns the lines of a text, the documents that blank lines separate, or the whole."""
    if by == "line":
        return re.split(r"\r\n|\n|\r", text)
    return [text] if whole else re.split(r"(?:\r\n|\n|\r)(?:[ \t]*(?:\r\n|\n|\r))+", text)


def _split_labels(file: Path, lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns labels and texts of lines `label<TAB>text`."""
    names, texts = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, tab, text = line.partition("\t")
        if not tab or not name.strip():
            raise UsageError(
                "With labels='tab' every line must be a label, a tab and a text. "
                f"Received: {file} with line {number}: {line!r:.80}"
            )
        names.append(clean(name))
        texts.append(text)
    return names, texts


def _classes(
    of_tab: Sequence[str], of_folders: Sequence[int], layout: folder_layout.Layout | None
) -> tuple[Sequence[int], tuple[str, ...]]:
    """Returns the class id of each text and the names of the classes; nothing without classes."""
    if of_tab:
        classes = tuple(sorted(set(of_tab), key=natural_key))
        numbers = {name: number for number, name in enumerate(classes)}
        return [numbers[name] for name in of_tab], classes
    if layout is None or not layout.classes:
        return (), ()
    return of_folders, tuple(
        os.fsencode(name).decode("utf-8", "backslashreplace") for name in layout.classes
    )
