"""Models run in a separate process without Keras, as in a server."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.errors import one_line
from keras_gan import UsageError
from serving import programs

_PROGRAM = Path(__file__).with_name("without_keras.py")  # never imported: it blocks Keras
_TIMEOUT = 600  # seconds, for samples
_END = 10  # seconds, for the process to end by itself
_MOST_RUNS = 50  # of one process: TensorFlow does not free all memory
_LOCK = threading.Lock()


def run_isolated(runs: Sequence[dict[str, Any]], subject: str) -> list[dict[str, np.ndarray]]:
    """Runs models in a separate process, which a forged one may crash; returns their outputs.

    Args:
        runs: the runs, as `export/without_keras.py` describes them, without their `output`.
        subject: what is run, for error messages.

    Raises:
        UsageError: the process fails, for example because a SavedModel needs Keras.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            outputs = [os.path.join(folder, f"{number}.npz") for number in range(len(runs))]
            numbered = [r | {"output": output} for r, output in zip(runs, outputs, strict=True)]
            runs_file = Path(folder, "runs.json")
            runs_file.write_text(json.dumps(numbered), encoding="utf-8")
            _run_without_keras(runs_file, subject)
            return [_load(output) for output in outputs]
    except OSError as error:
        raise UsageError(
            "The folder of temporary files must be writable, with room for samples; TMPDIR names "
            f"another. Received: {tempfile.gettempdir()} ({one_line(error)})"
        ) from error


def absolute(path: Path) -> str:
    """Returns a path for the other process, which may start elsewhere."""
    return str(path.resolve())


def _run_without_keras(runs_file: Path, subject: str) -> None:
    # No GPU: kernels in TF32 differ by more than the tolerance, and the GPU may be in use.
    quiet_cpu = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment = programs.environment() | quiet_cpu
    with _LOCK:
        answer = _Process.started(environment).run(runs_file)
        if answer.status == 0:  # it was about to end, having waited for long
            answer = _Process.started(environment).run(runs_file)
    if answer.done:
        return
    if answer.status is None:
        raise UsageError(
            f"{subject} must finish its samples within {_TIMEOUT} s. Received: no result"
        )
    raise UsageError(
        f"{subject} must load and run in TensorFlow without Keras. "
        f"Received: exit status {answer.status}, {answer.line[:300]}"
    )


@dataclasses.dataclass(frozen=True)
class _Answer:
    """The end of a file of runs: done, or the status of the process that ended instead.

    Args:
        done: whether the outputs are written.
        status: exit status; None if the process runs on, or had to be stopped.
        line: the last line that the process printed since it was asked.
    """

    done: bool
    status: int | None = None
    line: str = ""


class _Process:
    """A process without Keras. It is kept for the next runs, as importing TensorFlow takes seconds.

    Args:
        environment: its environment variables.
    """

    current: _Process | None = None

    def __init__(self, environment: dict[str, str]):
        self.environment = environment
        self.owner = os.getpid()
        self.runs = 0
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - until the process ends
        self._process = subprocess.Popen(
            programs.command(str(_PROGRAM)),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    @classmethod
    def started(cls, environment: dict[str, str]) -> _Process:
        """Returns the process that waits, or a new one."""
        kept = cls.current
        if kept is not None and not kept._serves(environment):
            kept.close()
        if cls.current is None:
            cls.current = cls(environment)
        return cls.current

    def _serves(self, environment: dict[str, str]) -> bool:
        same = self.owner == os.getpid() and self.environment == environment
        return same and self.runs < _MOST_RUNS and self._process.poll() is None

    def run(self, runs_file: Path) -> _Answer:
        """Runs a file of runs."""
        self.runs += 1
        printed = os.fstat(self._errors.fileno()).st_size
        try:
            answered = self._ask(runs_file)
        except BaseException:  # an interruption leaves an answer that nobody has read
            self.close(kill=True)
            raise
        if answered == b"done\n":
            return _Answer(True)
        status = self.close(kill=answered is None)
        self._errors.seek(printed)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return _Answer(False, None if answered is None else status, (lines or ["no message"])[-1])

    def _ask(self, runs_file: Path) -> bytes | None:
        """Returns the answer: empty if the process ends, None after too long a time."""
        requests: Any = self._process.stdin
        answers: Any = self._process.stdout
        with contextlib.suppress(BrokenPipeError):  # it has ended; its status shows why
            requests.write(json.dumps(str(runs_file)).encode() + b"\n")
            requests.flush()
        found: list[bytes] = []
        # In a thread, as on some systems a pipe cannot be waited for with a limit.
        reader = threading.Thread(target=lambda: found.append(answers.readline()), daemon=True)
        reader.start()
        reader.join(_TIMEOUT)
        return found[0] if found else None

    def close(self, kill: bool = False) -> int | None:
        """Ends the process; returns its status, None for that of another process."""
        type(self).current = None
        if self.owner != os.getpid():  # of the process that this one was forked from
            return None
        if kill:
            self._process.kill()
        try:
            self._process.communicate(timeout=_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        return self._process.returncode


@atexit.register
def _close() -> None:
    if _Process.current is not None:
        _Process.current.close()


def _load(file: str | Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)
