"""Startup of the program `python -m keras_gan`; no effect when the package is imported."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


def is_program() -> bool:
    """Returns True during the package import that `python -m keras_gan` starts with."""
    return sys.argv[:1] == ["-m"]  # Python sets this until it has found the module to run


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Suppresses startup messages of TensorFlow's libraries within the context.

    The libraries write them to file descriptor 2 before they read any log level. Exceptions pass
    through.
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
        os._exit(130)  # no work has started yet
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
