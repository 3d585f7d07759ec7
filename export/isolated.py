"""Models run in a separate process without Keras, as in a server."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.errors import one_line
from keras_gan import UsageError
from serving import programs

_PROGRAM = Path(__file__).with_name("without_keras.py")  # never imported: it blocks Keras
_TIMEOUT = 600


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
    command = programs.command(str(_PROGRAM), str(runs_file))
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"{subject} must finish its samples within {_TIMEOUT} s. Received: no result"
        ) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(
            f"{subject} must load and run in TensorFlow without Keras. "
            f"Received: exit status {done.returncode}, {last[:300]}"
        )


def _load(file: str | Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)
