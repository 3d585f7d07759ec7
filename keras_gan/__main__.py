"""`python -m keras_gan`: train, evaluate, export, verify, prepare, list, quickstart.

The program `keras-gan` hands these commands to this module. It runs `sample` and `serve` itself,
without TensorFlow.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import sys
import traceback
import warnings
from typing import Any, NoReturn

import absl.logging
import typer

from keras_gan import workers
from keras_gan.commands import app
from keras_gan.errors import UsageError, WorkerLostError
from serving import programs


def _warn(message: Any, category: Any, filename: Any, lineno: Any, *rest: Any) -> None:
    if issubclass(category, UserWarning):  # other warnings are for developers
        print(f"keras-gan: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _fail(line: str, status: int = 2) -> NoReturn:
    print(f"keras-gan: error: {' '.join(line.split())}", file=sys.stderr)
    _exit(status)


def _exit(status: int) -> NoReturn:
    """Ends the program after an error."""
    if workers.is_joined():
        sys.stdout.flush()
        sys.stderr.flush()
        # A normal exit would wait a minute for the other workers, and they for this one.
        os._exit(status)
    raise SystemExit(status)


def main(arguments: list[str] | None = None) -> None:
    """Runs a command; prints a user error as one line on stderr and exits with status 2."""
    warnings.showwarning = _warn
    absl.logging.set_verbosity(absl.logging.ERROR)  # its warnings are for developers, too
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    programs.escape_output()
    with contextlib.suppress(ValueError):  # only the main thread can handle signals
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a normal exit, with cleanup
    try:
        programs.check_arguments(sys.argv[1:] if arguments is None else arguments)
        status = app(arguments, standalone_mode=False)
        sys.stdout.flush()
        if status:  # typer returns one after an interruption
            raise SystemExit(status)
    except UsageError as error:
        _fail(str(error))
    except WorkerLostError as error:
        _fail(str(error), status=1)
    except typer.TyperException as error:  # an unknown option, or a value of a wrong type
        message = getattr(error, "format_message", None)
        _fail(message() if message else str(error))
    except BrokenPipeError:
        # The reader of the pipe has exited, as `head` does. The interpreter must not flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except OSError as error:
        _fail(f"The system reported an error: {error}")
    except KeyboardInterrupt:
        _exit(130)
    except Exception as error:
        if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
            shape = re.search(r"shape ?\(?(\[[^]]*\])", str(error))
            received = f"an array of shape {shape[1]}" if shape else str(error) or "more"
            _fail(f"The networks and the data must fit into memory. Received: {received}")
        if not workers.is_joined():
            raise
        traceback.print_exc()
        _exit(1)


if __name__ == "__main__":
    main()
