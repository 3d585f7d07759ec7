"""How the program `python -m keras_gan` starts; without effect where the package is imported."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


def is_program() -> bool:
    """Whether this process was started as `python -m keras_gan`."""
    return "-m" in sys.orig_argv and sys.orig_argv[sys.orig_argv.index("-m") + 1] == "keras_gan"


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keeps the greetings of TensorFlow's libraries, written to file descriptor 2, from users.

    They are printed before any log level is read. An exception within passes as ever.
    """
    if not is_program():
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
