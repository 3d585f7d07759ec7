"""Startup: Keras's backend, and the silence of the program `python -m keras_gan`."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import NoReturn

from keras_gan.errors import UsageError


def is_program() -> bool:
    """Returns True during the package import that `python -m keras_gan` starts with."""
    # Python sets the first argument to -m until it has found the module to run.
    module = sys.orig_argv[-len(sys.argv)].removeprefix("-m") if sys.argv[:1] == ["-m"] else ""
    return module.partition(".")[0] == "keras_gan"


def leave_current_folder() -> None:
    """Removes the current folder from the module path, if `python -m keras_gan` has put it there.

    `serving.programs` says why, and does the same for its own programs. It cannot be imported
    before, as the current folder may have another `serving`.
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if is_program() and not sys.flags.safe_path:
        sys.path[:1] = [] if root in sys.path[1:] else [root]


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


# Values of keras.json that Keras accepts; it raises an error at its import for others.
_ACCEPTED = {
    "floatx": ("float16", "float32", "float64"),
    "image_data_format": ("channels_last", "channels_first"),
}


@contextlib.contextmanager
def keras_on_tensorflow() -> Iterator[None]:
    """Checks, before Keras is imported in the context, that it can be, and runs on TensorFlow.

    Raises:
        UsageError: another backend, or a configuration file that Keras rejects. The program
            prints the line and exits with status 2.
    """
    path, content = _keras_json(), {}
    with contextlib.suppress(OSError, ValueError):  # Keras ignores such a file as well
        content = json.loads(path.read_text())
    backend, source = content.get("backend", "tensorflow"), str(path)
    if chosen := os.environ.get("KERAS_BACKEND"):
        backend, source = chosen, "the environment variable KERAS_BACKEND"
    if "keras" in sys.modules:  # too late for all of these
        backend, source = sys.modules["keras"].backend.backend(), "the import of keras"
    if backend != "tensorflow":
        _fail(
            "keras_gan needs Keras on TensorFlow: set KERAS_BACKEND=tensorflow before the first "
            f"import of keras. Received: the backend {backend!r}, from {source}"
        )
    for name, accepted in _ACCEPTED.items():
        if content.get(name, accepted[0]) not in accepted:
            _fail(
                f"`{name}` of {path} must be {' or '.join(accepted)}. "
                f"Received: {name}={content[name]!r}"
            )
    yield


def _fail(line: str) -> NoReturn:
    if not is_program():
        raise UsageError(line)
    print(f"keras-gan: error: {line}", file=sys.stderr)
    raise SystemExit(2)


def _keras_json() -> pathlib.Path:
    """Returns the path of Keras's configuration file."""
    base = os.environ.get("KERAS_HOME")
    if base is None:
        home = os.path.expanduser("~")
        base = os.path.join(home if os.access(home, os.W_OK) else "/tmp", ".keras")
    return pathlib.Path(os.path.expanduser(os.path.join(base, "keras.json")))
