"""scripts/pack-gpu.sh and scripts/unpack-gpu.sh, between two folders."""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PARTS = re.compile(r"(\d+) parts of at most 1M, (\d+) MiB with (\d+) wheels for Python ([\d.]+): ")

# A checkout whose test for GPUs needs an installed package.
PROJECT = """
[project]
name = "small"
dependencies = []
[tool.pytest.ini_options]
addopts = "--strict-markers -m 'not gpu'"
markers = ["gpu: needs a GPU"]
"""
TEST = """
import pathlib
import pygments
import pytest

@pytest.mark.gpu
def test_packages_come_from_the_parts():
    here = pathlib.Path(__file__).parents[2]
    assert pathlib.Path(pygments.__file__).is_relative_to(here / "packages")
    assert not (here / "checkout" / "untracked.txt").exists()

def test_another():
    raise RuntimeError("is not marked gpu")
"""


def call(*command, cwd, **environment):
    """Runs a script; returns its exit status, output and errors."""
    # Without the plugins of this environment, which a GPU machine need not have.
    usual = {"PYTHON": sys.executable, "PYTHONPATH": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        ["bash", *map(str, command)],
        cwd=cwd,
        env=os.environ | usual | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(SCRIPTS, root / "scripts")
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "tests").mkdir()
    (root / "tests" / "test_small.py").write_text(TEST)
    (root / "small.txt").write_text("pytest\npygments\n")
    (root / "has.txt").write_text("")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    (root / "untracked.txt").write_text("")
    (root / "has.txt").unlink()  # a tracked file that is deleted
    return root


@pytest.fixture(scope="module")
def packed(checkout):
    """A folder of parts; without uv or an index, the test is skipped by name."""
    try:
        import uv

        program = uv.find_uv_bin()
    except ImportError:
        program = shutil.which("uv")
    if program is None:
        pytest.skip("needs uv, which the extra dev installs")
    probe = [program, "pip", "compile", "-q", "--no-cache", "-"]
    if subprocess.run(probe, input="packaging", text=True, capture_output=True).returncode:
        pytest.skip("the package index must be reachable to pack packages, and is not")
    has = checkout.parent / "has.txt"
    has.write_bytes(b"Package Version\n------- -------\nnothing 1.0\nj\xfc @ file:///j\xfc\n")
    options = ("--requirements", "small.txt", "--has", has)
    code, out, err = call("scripts/pack-gpu.sh", *options, "1M", "parts", cwd=checkout)
    assert code == 0, err
    said = PARTS.match(out)
    assert said, out
    parts = sorted((checkout / "parts").glob("part-*"))
    assert (len(parts), said[4]) == (int(said[1]), PYTHON)
    assert len(parts) >= 2
    assert all(part.stat().st_size <= 2**20 for part in parts)
    assert int(said[3]) >= 5  # pytest, pygments, and what they need
    return checkout / "parts"


def copied(packed, to, names="*"):
    to.mkdir()
    for path in packed.glob(names):
        shutil.copy(path, to)
    return to


def test_parts_in_two_batches_run_the_tests(packed, tmp_path):
    first = copied(packed, tmp_path / "first", "part-*0")
    second = copied(packed, tmp_path / "second", "*[!0]")
    script = second / "unpack-gpu.sh"
    code, out, err = call(script, first, second, "--", "-q", "-rA", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert "PASSED tests/test_small.py::test_packages_come_from_the_parts" in out
    assert "1 passed, 1 deselected" in out
    # Once more, without the parts: they are unpacked. Arguments go to pytest.
    for path in first.iterdir():
        path.unlink()
    code, out, _ = call(script, first, second, "--", "-q", "--collect-only", cwd=tmp_path)
    assert (code, "1/2 tests collected" in out) == (0, True)
    assert sorted(os.listdir(tmp_path / "gpu-suite")) == [
        ".complete",
        "checkout",
        "log",
        "packages",
    ]


def refusal(result, rule):
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert rule in err, err


def test_damaged_and_missing_parts_are_named(packed, tmp_path):
    parts = copied(packed, tmp_path / "parts")
    damaged = bytearray((parts / "part-0001").read_bytes())
    damaged[1000] ^= 1
    (parts / "part-0001").write_bytes(damaged)
    script = parts / "unpack-gpu.sh"
    rule = "must have the sums of SHA256SUMS; copy them once more. Received: parts/part-0001\n"
    refusal(call(script, "parts", cwd=tmp_path), rule)
    (parts / "part-0001").unlink()
    (parts / "part-0000").unlink()
    rule = "files are needed. Received: without part-0000 part-0001\n"
    refusal(call(script, "parts", cwd=tmp_path), rule)
    (parts / "SHA256SUMS").unlink()
    refusal(call(script, "parts", cwd=tmp_path), "SHA256SUMS must be in a folder. Received: parts")
    assert not (tmp_path / "gpu-suite").exists()


@pytest.mark.parametrize("bytes_left", [0, 150, -90])
def test_a_list_of_sums_that_is_cut_off_is_named(packed, tmp_path, bytes_left):
    """-90: without its last lines, so that all files that it names are right."""
    parts = copied(packed, tmp_path / "parts")
    sums = (parts / "SHA256SUMS").read_bytes()
    (parts / "SHA256SUMS").write_bytes(sums[:bytes_left])
    rule = "Files must be complete; copy them once more. Received: parts/SHA256SUMS\n"
    refusal(call(parts / "unpack-gpu.sh", "parts", cwd=tmp_path), rule)
    assert not (tmp_path / "gpu-suite").exists()


def test_a_part_that_was_copied_once_more_is_used(packed, tmp_path):
    """The settings of pip and the paths are those of a GPU machine that has its own."""
    first = copied(packed, tmp_path / "first batch")
    second = copied(packed, tmp_path / "second", "part-0001")
    (first / "part-0001").write_bytes((second / "part-0001").read_bytes()[:100])
    (tmp_path / "large").mkdir()
    (tmp_path / "gpu-suite").symlink_to("large/suite")
    (tmp_path / "elsewhere" / "gpu-suite" / "checkout").mkdir(parents=True)
    (tmp_path / "constraints.txt").write_text("pytest==1.0\n")
    (tmp_path / "python").symlink_to(Path(sys.executable).parent)
    settings = {
        "PIP_CONSTRAINT": str(tmp_path / "constraints.txt"),
        "PIP_USER": "1",
        "CDPATH": str(tmp_path / "elsewhere"),
        "PYTHON": f"python/{Path(sys.executable).name}",
    }
    script = first / "unpack-gpu.sh"
    code, out, err = call(script, first, second, "--", "-q", cwd=tmp_path, **settings)
    assert (code, err) == (0, "")
    assert "1 passed" in out
    assert (tmp_path / "gpu-suite").is_symlink()
    assert (tmp_path / "large" / "suite" / "checkout").is_dir()


def test_a_machine_that_cannot_take_the_parts_is_refused(packed, tmp_path):
    script = packed / "unpack-gpu.sh"
    none = tmp_path / "none"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", none], check=True)
    python = str(none / "bin" / "python")
    refusal(call(script, packed, cwd=tmp_path, PYTHON=python), "PYTHON must have pip")
    refusal(call(script, packed, cwd=tmp_path, PYTHON="no-python"), "PYTHON must be an interpreter")
    # Another version of Python, which only says that it is one.
    other = tmp_path / "python"
    other.write_text('#!/bin/sh\nif [ "$1" = -c ]; then echo 3.99; fi\n')
    other.chmod(0o755)
    rule = f"The parts are for Python {PYTHON}; pack with --python-version, or set PYTHON."
    refusal(call(script, packed, cwd=tmp_path, PYTHON=str(other)), rule)
    # A disk with 5 MiB left.
    full = tmp_path / "full"
    full.mkdir()
    (full / "df").write_text("#!/bin/sh\necho head\necho disk 9 9 5120 1% /\n")
    (full / "df").chmod(0o755)
    path = os.pathsep.join([str(full), os.environ["PATH"]])
    refusal(call(script, packed, cwd=tmp_path, PATH=path), "Received: 5 MiB free in gpu-suite")
    rule = "--into must be a folder that can be written. Received: "
    refusal(call(script, packed, "--into", "python/x", cwd=tmp_path), rule)
    (tmp_path / "mine").mkdir()
    rule = "--into must be a new folder, or one of an earlier call. Received: mine"
    refusal(call(script, packed, "--into", "mine", cwd=tmp_path), rule)
    assert (tmp_path / "mine").exists()


def names_in(parts):
    """Returns the names of the files that parts contain."""
    content = b"".join(part.read_bytes() for part in sorted(parts.glob("part-*")))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return archive.getnames()


def wheels_in(parts):
    """Returns the names and versions of the packages that parts contain."""
    return set(re.findall(r"wheels/([\w.]+)-([\d.]+)-", "\n".join(names_in(parts))))


def test_packages_of_the_machine_are_left_out(packed, checkout, tmp_path):
    """In the version that would be packed; of another version they are packed."""
    packages = dict(wheels_in(packed))
    assert set(packages) >= {"pytest", "pygments", "pluggy"}
    assert "./checkout/tests/test_small.py" in names_in(packed)
    has = packages | {"pygments": "1.0"}
    (tmp_path / "has.txt").write_text("".join(f"{name}=={has[name]}\n" for name in has))
    options = ["--requirements", "small.txt", "--has", tmp_path / "has.txt"]
    command = ["scripts/pack-gpu.sh", *options, "--python-version", "3.12", "64K", tmp_path / "to"]
    code, _, err = call(*command, cwd=checkout)
    assert code == 0, err
    assert "python=3.12\n" in (tmp_path / "to" / "about").read_text()
    assert wheels_in(tmp_path / "to") == {("pygments", packages["pygments"])}


@pytest.mark.usefixtures("packed")
def test_the_cuda_libraries_of_the_machine_stay_with_its_tensorflow(checkout, tmp_path):
    """TensorFlow finds them beside itself only; their versions need not be those of the parts."""
    pins = (ROOT / "constraints-cuda12.txt").read_text()
    requirements, has = tmp_path / "tensorflow.txt", tmp_path / "has.txt"
    requirements.write_text(f"-c {ROOT / 'constraints-cuda12.txt'}\ntensorflow[and-cuda]\n")
    has.write_text(re.sub(r"(?m)^(nvidia-\S+)==.*", r"\1==1.0", pins))
    options = ["--requirements", requirements, "--has", has]
    code, _, err = call("scripts/pack-gpu.sh", *options, "1M", tmp_path / "to", cwd=checkout)
    assert code == 0, err
    packages = {name for name, _ in wheels_in(tmp_path / "to")}
    assert not [name for name in packages if name.startswith(("nvidia", "tensorflow"))]


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ([], "SIZE is needed, such as 60M. Received: nothing"),
        (["60"], "SIZE must be a whole number with K, M or G, such as 60M. Received: 60"),
        (["0M"], "SIZE must be a whole number with K, M or G, such as 60M. Received: 0M"),
        (["6,5M"], "such as 60M. Received: 6,5M"),
        (["1K"], "SIZE must be at least 64K. Received: 1K"),
        (["60M", "tests"], "FOLDER must not exist yet. Received: tests"),
        (["60M", "small.txt/x"], "FOLDER must be in a folder that can be written. Received: small"),
        (["60M", "x", "y"], "SIZE and FOLDER are all arguments. Received: y"),
        (["--has"], "--has needs a value"),
        (["--has", "no.txt", "60M", "x"], "A file must exist. Received: no.txt"),
        (["--quick", "60M"], "Options are --python-version, --has and --requirements"),
        (["--python-version", "3", "60M", "x"], "--python-version must be 3.N, such as 3.12"),
    ],
)
def test_a_mistake_in_packing_is_one_line(arguments, rule, checkout):
    refusal(call("scripts/pack-gpu.sh", *arguments, cwd=checkout), rule)
    assert not (checkout / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ([], "A folder with the parts is needed. Received: none"),
        (["nowhere"], "A folder must exist. Received: nowhere"),
        (["-q", "."], "The option is --into; arguments of pytest follow --. Received: -q"),
        (["--into"], "--into needs a value"),
        (["."], "SHA256SUMS must be in a folder. Received: ."),
    ],
)
def test_a_mistake_in_unpacking_is_one_line(arguments, rule, tmp_path):
    refusal(call(SCRIPTS / "unpack-gpu.sh", *arguments, cwd=tmp_path), rule)
