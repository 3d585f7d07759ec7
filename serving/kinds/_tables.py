"""CSV files of rows of numbers, for tables and series."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from serving.errors import UsageError, short_repr
from serving.kinds._formats import Format, Meta, numeric


def header(count: int, meta: Meta) -> list[str]:
    """Returns the names of the columns: those of the field, else numbered ones."""
    names: list[str] = list(meta.get("columns") or [])
    return names if len(names) == count else [f"column_{i}" for i in range(count)]


def to_csv(sample: np.ndarray, meta: Meta, texts: Mapping[str, str]) -> bytes:
    """Encodes one row `(columns,)`, or several `(rows, columns)`, under a line of names."""
    rows = np.atleast_2d(sample)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header(rows.shape[-1], meta))
    writer.writerows([f"{x:.9g}" for x in row] for row in rows.tolist())
    return buffer.getvalue().encode()


def _from_csv(content: bytes, shape: Sequence[int | None], meta: Meta) -> np.ndarray:
    try:
        rows = [row for row in csv.reader(io.StringIO(content.decode("utf-8-sig"))) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"A CSV file must be readable as UTF-8. Received: {error}") from None
    names: list[str] = list(meta.get("columns") or [])
    if rows and not _is_numbers(rows[0]):
        given = rows.pop(0)
        if names and given != names:
            if sorted(given) != sorted(names):
                raise UsageError(
                    f"The columns must be {', '.join(names)}. Received: {short_repr(given)}"
                )
            order = [given.index(name) for name in names]
            rows = [[row[i] for i in order if i < len(row)] for row in rows]
    if not rows or len({len(row) for row in rows}) != 1 or not all(map(_is_numbers, rows)):
        bad = next((r for r in rows if not _is_numbers(r) or len(r) != len(rows[0])), rows[:1])
        raise UsageError(
            f"A CSV file must hold rows of numbers of one length. Received: {short_repr(bad)}"
        )
    table = numeric(np.array([[float(x) for x in row] for row in rows]))
    return table[0] if len(shape) == 1 and len(table) == 1 else table


def _is_numbers(row: list[str]) -> bool:
    try:
        return bool([float(x) for x in row])
    except ValueError:
        return False


CSV = Format("csv", "text/csv", to_csv, _from_csv)
