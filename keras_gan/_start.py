"""How the program `python -m keras_gan` starts; without effect where the package is imported."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


def is_program() -> bool:
    """Whether this is the import that `python -m keras_gan` begins with."""
    return sys.argv[:1] == ["-m"]  # Python's own mark, until the module to run has been found


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
    except KeyboardInterrupt:
        os._exit(130)  # nothing has begun yet
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
