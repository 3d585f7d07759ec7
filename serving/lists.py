"""Lists in one text: values separated by commas, on the command line and in queries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from serving.errors import UsageError, short_repr
from serving.labels import TextLabel

# A value in double quotes, or all up to the next comma; then the comma or the end.
_VALUE = r'\s*(?:"((?:[^"]|"")*)"\s*|([^,]*))(,|\Z)'


def parse_list(text: str) -> list[str]:
    """Returns the values of a list, without the spaces around them.

    A value with a comma is in double quotes, in which a double quote is doubled, as in a CSV file:
    `"shirt, short",bag` holds `shirt, short` and `bag`.
    """
    values, start, value = [], 0, re.compile(_VALUE)  # not at import: most commands have no list
    while (found := value.match(text, start)) is not None:
        quoted, plain, comma = found.groups()
        values.append(plain.strip() if quoted is None else quoted.replace('""', '"'))
        if not comma:
            break
        start = found.end()
    return values


def join_list(values: Iterable[object]) -> str:
    """Returns the text of a list that `parse_list` reads."""
    texts = map(str, values)
    return ",".join(x if _is_plain(x) else '"' + x.replace('"', '""') + '"' for x in texts)


def _is_plain(text: str) -> bool:
    return not ("," in text or text.startswith('"') or text != text.strip())


def parse_labels(text: str, class_names: Sequence[str] = ()) -> list[TextLabel]:
    """Returns the labels of a list: class ids or names.

    Raises:
        UsageError: the name of a class with a comma, without quotes.
    """
    labels = [TextLabel(x) for x in parse_list(text)]
    parts = [x for x in labels if not x.isdecimal() and x not in class_names]
    if len(labels) > 1 and parts and text.strip() in class_names:
        quoted = join_list([text.strip()])
        raise UsageError(
            f"A label with a comma must be in double quotes: --labels '{quoted}'. "
            f"Received: --labels {short_repr(text)}"
        )
    return labels
