"""Programs in forks behave as in processes of their own, and exports are still isolated."""

import os
import resource
import signal
import subprocess
import sys

import forks
import pytest

PROGRAM = """
import os, resource, sys
limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
print(sys.argv[1:], os.getcwd(), os.environ["A"], limit, flush=True)
print("said", file=sys.stderr)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), 9)
if sys.argv[1] == "fails":
    1 / 0
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("end", ["0", "3", "fails", "killed"])
def test_a_fork_runs_a_program_as_python_does(end, tmp_path):
    status = {"fails": 1, "killed": -signal.SIGKILL}.get(end)
    status = int(end) if status is None else status
    said = []
    for python in ([sys.executable], forks.python("without_keras")):
        done = subprocess.run(
            [*python, "-c", PROGRAM, end, "x y"],
            cwd=tmp_path,
            env=os.environ | {"A": "b"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (7000, 7000)),
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
        said.append((done.stdout, done.stderr.splitlines()[0], done.stderr.splitlines()[-1]))
    assert said[0] == said[1]
    assert said[0][:2] == (f"['{end}', 'x y'] {tmp_path} b 7000\n", "said")


def test_an_export_is_checked_without_keras():
    program = "import sys, tensorflow; print('keras' in sys.modules); import keras"
    done = subprocess.run(
        [*forks.python("without_keras"), "-c", program], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "False\n")
    assert done.stderr.splitlines()[-1] == "ImportError"
