"""make test TRY=...: other releases of TensorFlow and Keras, in an environment of their own."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(*arguments, cwd=ROOT, **environment):
    usual = {name: value for name, value in os.environ.items() if name not in ("TRY", "VENV")}
    return subprocess.run(
        ["make", *arguments],
        cwd=cwd,
        env=usual | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_other_releases_have_an_environment_of_their_own(way):
    chosen = "tensorflow==2.20.0 keras==3.14.0"
    given = ([f"TRY={chosen}"], {}) if way == "argument" else ([], {"TRY": chosen})
    lines = make("-n", "test", *given[0], **given[1]).stdout
    assert ".venv/" not in lines
    usual = lines.index("install -q -c constraints.txt -e '.[dev]'")
    removed = lines.index("uninstall -q -y tensorflow keras tf-nightly keras-nightly")
    others = lines.index("install -q --upgrade 'tensorflow==2.20.0' 'keras==3.14.0'")
    assert usual < removed < others < lines.index(".venv-try/bin/python -m pytest")
    assert "pyright --pythonpath .venv-try/bin/python" in lines


def test_nightly_names_the_nightly_packages():
    lines = make("-n", "quickstart", "TRY=nightly").stdout
    assert "--dry-run --no-deps 'tf-nightly' 'keras-nightly'" in lines
    assert "install -q --upgrade 'tf-nightly' 'keras-nightly'" in lines
    assert ".venv-try/bin/keras-gan quickstart" in lines


@pytest.mark.parametrize(
    ("chosen", "installed"),
    [
        ("keras==3.14.0", "'keras==3.14.0' 'tensorflow=={tensorflow}'"),
        ("tensorflow>=2.20,<2.22", "'tensorflow>=2.20,<2.22' 'keras=={keras}'"),
        ("nightly keras==3.14.0", "'tf-nightly' 'keras==3.14.0'"),
    ],
)
def test_a_release_of_one_keeps_the_other(chosen, installed):
    """All are uninstalled before; Keras alone would leave no TensorFlow."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    done = make("-n", "test", f"TRY={chosen}")
    assert f"install -q --upgrade {installed.format(**pins)}\n" in done.stdout


def test_without_the_variable_nothing_is_exchanged():
    for empty in ("TRY=", "TRY= "):
        lines = make("-n", "-B", "test", empty).stdout
        assert ".venv/bin/python -m pytest" in lines
        assert "uninstall" not in lines
        assert ".venv-try" not in lines


def test_a_release_that_the_index_lacks_is_refused_in_one_line(tmp_path):
    """Before anything is installed, with the usual environment untouched."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    done = make("-s", "test", "TRY=keras==0.0.0", cwd=tmp_path)
    assert done.returncode == 2
    rule = "TRY must name releases that pip can install. Received: TRY=keras==0.0.0; ERROR: "
    assert done.stdout.startswith(rule)
    assert done.stdout.count("\n") == 1
    if "Temporary failure" in (tmp_path / ".venv-try" / "try.log").read_text():
        pytest.skip("no package index was reached")
    assert "keras==0.0.0" in done.stdout.removeprefix(rule)
    of_make = re.compile(r"make(\[\d+\])?: \*\*\* ")
    assert [line for line in done.stderr.splitlines() if not of_make.match(line)] == []
    assert not (tmp_path / ".venv").exists()
    assert not (tmp_path / ".venv-try" / ".try").exists()
