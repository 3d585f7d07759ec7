"""Python programs that run in forks of a process that has imported TensorFlow.

The import takes seconds, so tests that start many programs of TensorFlow start them here:

    subprocess.run([*forks.python("keras_gan"), "-m", "keras_gan", "list"])

A program is given as to Python: `-c CODE`, `-m MODULE` or a file, after `-P` or alone, and its
arguments. It has the environment, the folder, the limits, the output and the exit status of a
process of its own, but cannot replace the modules that are loaded: a test of how a process starts
or of what it imports uses `sys.executable`.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

from serving import programs

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SERVER = os.path.join(ROOT, "tests", "fork_server.py")
WITHOUT_KERAS = os.path.join(ROOT, "export", "without_keras.py")
PRELOADED = {
    "keras_gan": ["keras_gan.__main__", "export", "serving.cli"],
    "without_keras": [WITHOUT_KERAS],
}
_START = programs.command
_STARTED = {}


def python(name):
    """Returns the command of an interpreter with preloaded modules, a name of `PRELOADED`."""
    if name not in _STARTED:
        _STARTED[name] = _start(name)
    return [sys.executable, "-I", "-S", SERVER, "client", os.path.join(_STARTED[name][1], "s")]


def _start(name):
    folder = tempfile.mkdtemp(prefix="forks-")  # short, as a socket's path must be
    log = os.path.join(folder, "log")
    path = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))
    quiet = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": path}
    with open(log, "wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, SERVER, "server", os.path.join(folder, "s"), *PRELOADED[name]],
            stdin=subprocess.PIPE,  # it ends with the tests, however these end
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            env=os.environ | quiet,
        )
    assert process.stdout.readline() == b"ready\n", pathlib.Path(log).read_text()[-2000:]
    return process, folder


def close():
    """Ends the processes, their forks included."""
    for process, folder in _STARTED.values():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        shutil.rmtree(folder, ignore_errors=True)
    _STARTED.clear()


def check_exports():
    """Lets the exports of this process check their SavedModels in forks."""
    programs.command = _command


@contextlib.contextmanager
def new_processes():
    """Lets exports start their check as they do for users."""
    programs.command = _START
    try:
        yield
    finally:
        programs.command = _command


def _command(*arguments):
    if arguments[0] != WITHOUT_KERAS:
        return _START(*arguments)
    return [*python("without_keras"), "-P", *arguments]
