"""Models run in a separate process without Keras, as in a server."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
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
_MOST_RUNS = 50  # of one process, so that what TensorFlow does not free is freed
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
    with _LOCK:
        process = _Process.started(programs.environment() | quiet_cpu)
        try:
            answered = process.run(runs_file)
        except BaseException:  # an interruption leaves an answer that nobody has read
            process.close()
            raise
        if answered:
            return
        status, last = process.close()
    if status is None:
        raise UsageError(
            f"{subject} must finish its samples within {_TIMEOUT} s. Received: no result"
        )
    raise UsageError(
        f"{subject} must load and run in TensorFlow without Keras. "
        f"Received: exit status {status}, {last[:300]}"
    )


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

    def run(self, runs_file: Path) -> bool:
        """Runs a file of runs; returns whether it was answered."""
        self.runs += 1
        requests: Any = self._process.stdin
        answers: Any = self._process.stdout
        with contextlib.suppress(BrokenPipeError):  # it has ended; its status shows why
            requests.write(f"{runs_file}\n".encode())
            requests.flush()
        if not select.select([answers], [], [], _TIMEOUT)[0]:
            return False
        return answers.readline() == b"done\n"

    def close(self) -> tuple[int | None, str]:
        """Ends the process; returns its status, None if it had to be stopped, and its last line."""
        type(self).current = None
        if self.owner != os.getpid():  # of the process that this one was forked from
            return None, ""
        status = None
        with contextlib.suppress(subprocess.TimeoutExpired, BrokenPipeError):
            self._process.communicate(timeout=_END)
            status = self._process.returncode
        if status is None:
            self._process.kill()
            self._process.communicate()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        self._errors.close()
        return status, (lines or ["no message"])[-1]


@atexit.register
def _close() -> None:
    if _Process.current is not None:
        _Process.current.close()


def _load(file: str | Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)
