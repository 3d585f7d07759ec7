"""Nearest valid name to one that a user has misspelled, for the hints of errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_CLOSE = 0.6  # similarity of names from which one may be a misspelling of the other
_LONGEST = 100  # characters of a received name that are compared
_FEWEST = 3  # characters of a name that may be the beginning of another


def find_nearest(
    name: str, valid: Iterable[str], others: Mapping[str, str] | None = None
) -> str | None:
    """Returns the valid name that may be meant; `None` if there is none.

    A name that differs in case, hyphens and underscores alone is nearest, then one that is known
    by another name, then one with few other letters, then the only one that begins alike.

    Args:
        name: the name that was received.
        valid: the valid names.
        others: valid names by other names of them, in lower case and without separators.
    """
    import difflib  # not at import: most commands have no error

    name, names = name[:_LONGEST], list(valid)
    plain = _plain(name)
    known = dict(others or {}) | {_plain(each): each for each in reversed(names)}
    if plain and plain in known:
        return known[plain]
    if close := difflib.get_close_matches(name, names, n=1, cutoff=_CLOSE):
        return close[0]
    longer = [each for each in names if len(name) >= _FEWEST and each.startswith(name)]
    return longer[0] if len(longer) == 1 else None


def nearest(name: str, valid: Iterable[str], others: Mapping[str, str] | None = None) -> str:
    """Returns a closing hint for an error: the nearest valid name, or all of them.

    For the arguments see `find_nearest`.
    """
    names = list(valid)
    if not names:
        return "It has none"
    best = find_nearest(name, names, others)
    return f"Did you mean {best!r}?" if best else f"Valid: {', '.join(names)}"


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()
