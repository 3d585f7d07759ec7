"""Keras's backend and configuration, checked before Keras is imported."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import NoReturn

from keras_gan._start import is_program
from keras_gan.errors import UsageError

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
