"""Startup of the program `python -m keras_gan`; no effect when the package is imported.

The import of this module removes the current folder from the module path, before the package is
searched for any other module.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


def is_program() -> bool:
    """Returns True during the package import that `python -m keras_gan` starts with."""
    # Python sets the first argument to -m until it has found the module to run.
    module = sys.orig_argv[-len(sys.argv)].removeprefix("-m") if sys.argv[:1] == ["-m"] else ""
    return module.partition(".")[0] == "keras_gan"


def leave_current_folder() -> None:
    """Removes the current folder from the module path of `python -m keras_gan`.

    `serving.programs` says why, and does the same for its own programs. It cannot be imported
    before, as the current folder may have another `serving`.
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if is_program() and not sys.flags.safe_path:
        sys.path[:1] = [] if root in sys.path[1:] else [root]
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if is_program() and "" in entries and len(entries) > 1:
        sys.path[:] = [place for place in sys.path if place == root or place != os.getcwd()]


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


leave_current_folder()
