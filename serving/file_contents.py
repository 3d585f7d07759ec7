"""Contents of files that users name in Python and in commands."""

from __future__ import annotations

import os
from pathlib import Path

from serving.errors import UsageError, one_line, short_repr


def read(path: str | os.PathLike[str], subject: str, name: str = "") -> bytes:
    """Returns the bytes of a file; `~` is the folder of the user.

    Args:
        path: the file.
        subject: subject of the error's sentence, such as "A sound" or "`sound`".
        name: name of the argument or option that holds the path, for the error; empty for none.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        return Path(os.path.expanduser(path)).read_bytes()
    except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
        reason = getattr(error, "strerror", None) or one_line(error)
        received = f"{name}={short_repr(str(path))}" if name else short_repr(str(path))
        raise UsageError(
            f"{subject} must be a readable file. Received: {received} ({reason})"
        ) from None
