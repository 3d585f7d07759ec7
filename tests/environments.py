"""Virtual environments of programs that cannot live beside TensorFlow, for slow tests.

They are made in the folder that KERAS_GAN_TEST_ENVIRONMENTS names, where they are found again, or
in a temporary one.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest


def _folder(name):
    root = os.environ.get("KERAS_GAN_TEST_ENVIRONMENTS") or tempfile.mkdtemp()
    return Path(root) / name


def python_with(name, *requirements):
    """Returns the interpreter of an environment with the packages; skips the test without one."""
    python = _folder(name) / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
        install = [python, "-m", "pip", "install", "-q", *requirements]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            python.unlink()
            pytest.skip(f"pip cannot install {', '.join(requirements)}: {done.stderr[-200:]}")
    return python


def node_modules_with(name, *packages):
    """Returns the folder node_modules with the packages; skips the test if npm has none."""
    folder = _folder(name)
    if not (folder / "node_modules").exists():
        folder.mkdir(parents=True, exist_ok=True)
        install = ["npm", "install", "--silent", "--prefix", folder, *packages]
        try:
            subprocess.run(install, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"npm cannot install {', '.join(packages)}: {error}")
    return folder / "node_modules"
