"""Reading of .npy, .npz and .csv files, without ever loading pickled objects."""

from __future__ import annotations

import contextlib
import csv
import itertools
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from keras_gan.errors import UsageError, one_line

_DAMAGE = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, MemoryError)
_PICKLE_PROTOCOL = b"\x80"  # first byte of every pickle of protocol 2 or later


def read(file: Path, memory_limit: int) -> dict[str, np.ndarray]:
    """Reads all arrays of a file by name; the array of a .npy file is called `x`.

    Args:
        file: the file.
        memory_limit: bytes above which the array of a .npy file is memory-mapped.

    Raises:
        UsageError: a file that is missing, damaged or holds pickled objects.
    """
    if not file.is_file():
        raise UsageError(f"The file of arrays must exist. Received: path={str(file)!r}")
    try:
        if file.suffix == ".npy" and not zipfile.is_zipfile(file):
            return {"x": _read_npy(file, memory_limit)}
        return _read_npz(file)
    except _DAMAGE as error:
        if _holds_objects(file):
            raise UsageError(
                "Arrays must hold numbers: pickled objects are never loaded, because loading "
                f"one can run any program. Received: {file}"
            ) from error
        raise UsageError(
            f"A file of arrays must be whole and readable. Received: {file}: {error}"
        ) from error


def read_csv(file: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Reads a table of numbers.

    Returns:
        float32 array `(rows, columns)`, and the names of the columns, which are in the first line
        if that does not hold numbers; else none.

    Raises:
        UsageError: a file that is missing or not UTF-8, or rows that are not numbers of one count.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            lines = csv.reader(stream)
            first = next(lines, [])
            names = () if _are_numbers(first) else tuple(name.strip() for name in first)
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ValueError(f"columns of the same name, {', '.join(repeated)}")
            body = filter(None, lines if names else itertools.chain([first], lines))
            rows = [[float(value) for value in line] for line in body]
        if not rows or not rows[0] or {len(row) for row in rows} != {len(names or rows[0])}:
            raise ValueError(f"{len(rows)} rows with {len(names or first)} columns or others")
        return _without_index(np.array(rows, np.float64), names, file)
    except (OSError, ValueError, csv.Error) as error:
        line = one_line(error)
        raise UsageError(
            "A .csv file must be UTF-8 text with rows of as many numbers as there are columns, "
            "each of which has a name of its own or none. "
            f"Received: {file}: {line}"
        ) from error


def _without_index(
    table: np.ndarray, names: tuple[str, ...], file: Path
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns a table as float32 without the row numbers that pandas writes as a first column."""
    is_index = names and names[0] in ("", "Unnamed: 0") and len(names) > 1
    if is_index and (table[:, 0] == np.arange(len(table))).all():
        warnings.warn(
            f"A first column without a name that counts the rows is left out (pandas writes none "
            f"with index=False). Received: {file}",
            stacklevel=4,
        )
        table, names = table[:, 1:], names[1:]
    return table.astype(np.float32), names


def _are_numbers(line: list[str]) -> bool:
    try:
        return bool([float(value) for value in line])
    except ValueError:
        return False


def _read_npy(file: Path, memory_limit: int) -> np.ndarray:
    content = np.load(file, "r", allow_pickle=False)
    return content if content.nbytes > memory_limit else np.array(content)


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    # numpy leaves a damaged .npz file open unless it is given an open file.
    with file.open("rb") as stream:
        content = np.load(stream, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {"x": np.array(content)}
        with content:
            return {name: content[name] for name in content.files}


def _holds_objects(file: Path) -> bool:
    """Returns whether a file that numpy refused is a pickle or has arrays of Python objects."""
    with contextlib.suppress(*_DAMAGE), file.open("rb") as stream:
        if not zipfile.is_zipfile(stream):
            stream.seek(0)
            return _is_pickled(stream)
        with zipfile.ZipFile(stream) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    if _is_pickled(member):
                        return True
    return False


def _is_pickled(stream: IO[bytes]) -> bool:
    """Returns whether a stream is a pickle, or a .npy array of Python objects by its header."""
    prefix = np.lib.format.MAGIC_PREFIX
    start = stream.read(len(prefix) + 2)
    if not start.startswith(prefix):
        return start.startswith(_PICKLE_PROTOCOL)
    version = start[len(prefix)]
    read_header = {
        1: np.lib.format.read_array_header_1_0,
        2: np.lib.format.read_array_header_2_0,
    }.get(version)
    return read_header is not None and read_header(stream)[2].hasobject
