"""Probes: processes that import the packages of one part, with a timeout."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from serving import programs
from serving.doctor.imports import MARK

PROGRAM = Path(__file__).with_name("imports.py")


class Probe(NamedTuple):
    """Result of a probe.

    Args:
        status: "ok", "failed", "crashed", "timeout", or "skipped".
        package: the package whose import, or use, was the last one.
        error: line that names the exception if it failed; the signal if it crashed.
        seconds: duration.
        values: what the packages reported, by their names.
    """

    status: str
    package: str = ""
    error: str = ""
    seconds: float = 0.0
    values: dict[str, dict[str, Any]] = {}

    def value(self, package: str, key: str, default: Any = None) -> Any:
        """Returns a value that a package reported."""
        return self.values.get(package, {}).get(key, default)


SKIPPED = Probe("skipped")
_TRACEBACK = "Traceback (most recent call last):"


def run(parts: Sequence[str], folders: Sequence[Path] | None, timeout: float) -> dict[str, Probe]:
    """Runs the probes of parts side by side.

    Args:
        parts: names of `serving.doctor.imports.PARTS`.
        folders: folders of packages in place of those of this Python; None for its own.
        timeout: seconds after which a probe is ended.
    """
    processes: dict[str, subprocess.Popen[str]] = {}
    threads = ThreadPoolExecutor(max_workers=max(1, len(parts)))
    try:
        for part in parts:
            processes[part] = _start(part, folders)
        jobs = {part: threads.submit(_result, x, timeout) for part, x in processes.items()}
        return {part: job.result() for part, job in jobs.items()}
    except KeyboardInterrupt:
        # It reaches no process of another session, also while the others are being started.
        for process in processes.values():
            if process.poll() is None:
                _end(process)
        raise
    finally:
        threads.shutdown()  # which waits for the jobs, and so for the processes


def _start(part: str, folders: Sequence[Path] | None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        _command(part, folders),
        env=_environment(folders),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=sys.platform != "win32",
    )


def _result(process: subprocess.Popen[str], timeout: float) -> Probe:
    start = time.monotonic()
    try:
        out, err = process.communicate(timeout=timeout)
        status, error = _outcome(process.returncode, err)
    except subprocess.TimeoutExpired:
        _end(process)
        out, _ = process.communicate()
        status, error = "timeout", f"no result after {timeout:g} s"
    package, values = _values(out)
    return Probe(status, package, error, round(time.monotonic() - start, 2), values)


def _command(part: str, folders: Sequence[Path] | None) -> list[str]:
    # -S: without the packages of this Python.
    return programs.command(*([] if folders is None else ["-S"]), str(PROGRAM), part)


def _environment(folders: Sequence[Path] | None) -> dict[str, str]:
    found = programs.environment()
    found.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    found["PYTHONFAULTHANDLER"] = ""  # its last line would hide the error of a crash
    if folders is not None:
        found["PYTHONPATH"] = os.pathsep.join(map(str, folders))
    return found


def _outcome(status: int, err: str) -> tuple[str, str]:
    if status == 0:
        return "ok", ""
    if status < 0:
        with contextlib.suppress(ValueError):
            return "crashed", signal.Signals(-status).name
        return "crashed", f"signal {-status}"
    return "failed", _error(err)[:300] or f"exit status {status}"


def _error(err: str) -> str:
    """Returns the line of an error output that names the exception.

    It is the first one below the last traceback, not the last one of all: the message of
    TensorFlow's ImportError has a traceback in it and ends in advice on how to report it.
    """
    lines = [line.rstrip() for line in err.splitlines() if line.strip()]
    below = [n for n, line in enumerate(lines, 1) if line.endswith(_TRACEBACK)][-1:]
    for line in lines[below[0] :] if below else ():
        if not line.startswith(" ") and not line.endswith(":"):
            return line
    return lines[-1].strip() if lines else ""


def _end(process: subprocess.Popen[str]) -> None:
    """Ends a probe and the processes that it started, which hold its output open."""
    if sys.platform == "win32":
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _values(out: str) -> tuple[str, dict[str, dict[str, Any]]]:
    package, values = "", {}
    for line in out.splitlines():
        if line.startswith(MARK):
            with contextlib.suppress(ValueError):
                found = json.loads(line.removeprefix(MARK))
                package = found.pop("package")
                values.setdefault(package, {}).update(found)
    return package, {name: found for name, found in values.items() if found}
