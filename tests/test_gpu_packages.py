"""Packages for GPUs: each set has one CUDA version, and onnxruntime mixes no two in a process."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import onnxruntime
import pytest

ROOT = Path(__file__).parents[1]
PYTHON = "3.11"
# Arguments that name a set of packages, as README.md installs it, and its CUDA version.
SETS = {
    "train": (["pyproject.toml", "--extra", "gpu", "-c", "constraints.txt"], 12),
    "serve": (["serving/requirements-gpu.txt"], 13),
    "both": (["pyproject.toml", "--extra", "cuda12", "-c", "constraints-cuda12.txt"], 12),
}


# ----------------------------------------------------------------------- sets of packages


def normalized(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text):
    """Returns the versions in lines `name==version`, by normalized names."""
    lines = (line.partition("==") for line in text.splitlines() if "==" in line)
    return {normalized(name): version.strip() for name, _, version in lines if name[0] != "#"}


def cuda_versions(packages):
    """Returns the major versions of CUDA that a set of packages brings.

    A suffix names it, such as `-cu12`. From CUDA 13 on, most names have no suffix; the versions of
    the runtime and of the tools are then those of CUDA.
    """
    found = set()
    for name, version in packages.items():
        suffix = re.search(r"-cu(\d+)$", name)
        if suffix:
            found.add(int(suffix[1]))
        elif re.fullmatch(r"nvidia-(cuda-\w+|nvjitlink)", name):
            found.add(int(version.split(".")[0]))
    return found


def resolve(arguments):
    """Resolves a set from the metadata of an index, without downloading the packages.

    pip's dry run would download them, 3 GB for CUDA.
    """
    try:
        from uv import find_uv_bin

        program = find_uv_bin()
    except ImportError:
        program = shutil.which("uv")
    if program is None:
        pytest.skip("needs uv, which the extra dev installs")
    command = [program, "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    command += ["--python-version", PYTHON, "--python-platform", "linux", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Skips the test if no package index can be reached."""
    one = tmp_path_factory.mktemp("index") / "one.in"
    one.write_text("packaging\n")
    done = resolve(["--no-cache", str(one)])
    if done.returncode:
        pytest.skip("the package index must be reachable to resolve packages, and is not")


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("name", SETS)
def test_a_set_has_one_cuda_version(name):
    arguments, version = SETS[name]
    done = resolve(arguments)
    assert done.returncode == 0, done.stderr
    packages = pins(done.stdout)
    assert cuda_versions(packages) == {version}, packages
    release = [int(part) for part in packages["onnxruntime-gpu"].split(".")]
    assert ("tensorflow" in packages) == (name != "serve")
    if name != "train":  # where onnxruntime runs on the CPU
        assert (release >= [1, 27]) == (version == 13)
        assert {n for n in packages if n.startswith("nvidia-cudnn")} == {
            f"nvidia-cudnn-cu{version}"
        }


@pytest.mark.usefixtures("index")
def test_a_mixture_is_found(tmp_path):
    """TensorFlow's libraries beside those of the newest onnxruntime: what the sets avoid."""
    mixed = tmp_path / "mixed.in"
    mixed.write_text("tensorflow[and-cuda]==2.21.0\nonnxruntime-gpu[cuda,cudnn]==1.31.1\n")
    assert cuda_versions(pins(resolve([str(mixed)]).stdout)) == {12, 13}


def test_cuda_versions_of_names():
    new = {"nvidia-cuda-runtime": "13.5.37", "nvidia-cublas": "13.10.0.20", "numpy": "2.4.6"}
    assert cuda_versions(new) == {13}
    assert cuda_versions(new | {"nvidia-curand": "10.4.5.25", "nvidia-cufft": "12.5.0.14"}) == {13}
    assert cuda_versions(new | {"nvidia-cudnn-cu12": "9.28.0.42"}) == {12, 13}
    assert cuda_versions({"nvidia-nvjitlink": "14.0.1", "nvidia-cudnn-cu13": "9"}) == {13, 14}
    assert cuda_versions({"onnxruntime-gpu": "1.31.1", "nvidia-ml-py": "13.1"}) == set()


def test_both_constraints_agree_except_on_cuda():
    usual, cuda12 = (
        pins((ROOT / name).read_text()) for name in ("constraints.txt", "constraints-cuda12.txt")
    )
    different = {name for name in usual if cuda12.get(name) != usual[name]}
    assert different == {"onnxruntime-gpu"}
    assert cuda12["onnxruntime-gpu"] == "1.26.0"
    assert set(cuda12) == set(usual)
    assert cuda_versions(cuda12) == cuda_versions(usual) == {12}


def test_keras_and_tensorflow_are_capped_in_every_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    lines = [line for each in lists for line in each]
    capped = ("keras", "tensorflow", "tensorflow-serving-api")
    found = [line for line in lines if re.split(r"[^\w-]", line)[0] in capped]
    assert len(found) == 4, found
    tested = pins((ROOT / "constraints.txt").read_text())
    for line in found:
        major, minor = tested[re.split(r"[^\w-]", line)[0]].split(".")[:2]
        assert line.split("]")[-1].endswith(f">={major}.{minor},<{major}.{int(minor) + 1}"), line


# ----------------------------------------------------------------------- onnxruntime

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and loads .so files")


def run(program, *arguments, **environment):
    """Runs a program in a process of its own, in which the checkout is first in the path."""
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )


@linux
def test_importing_onnxruntime_loads_no_library_of_cuda():
    """Also where TensorFlow's libraries are installed; only a session with a GPU loads any."""
    done = run(
        "import onnxruntime, re\n"
        "onnxruntime.get_available_providers()\n"
        "print(sorted(re.findall(r'/lib(?:cu|nv)[^/\\n]*', open('/proc/self/maps').read())))\n"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.fixture
def driver(tmp_path):
    """A folder with libraries that have the names of the driver and of another CUDA runtime."""
    some = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_shared.so"
    if not some.exists() or not onnxruntime.cuda_version:
        pytest.skip("needs an onnxruntime that is built for CUDA")
    folder = tmp_path / "lib"
    folder.mkdir()
    other = 12 if onnxruntime.cuda_version.startswith("13") else 13
    for name in ("libcuda.so.1", f"libcudart.so.{other}"):
        shutil.copy(some, folder / name)
    return folder, other


OPEN = """
import ctypes, sys
import serving
bundle, device, *libraries = sys.argv[1:]
for library in libraries:
    ctypes.CDLL(library)
try:
    print(serving.Bundle(bundle, device=device).device)
except serving.UsageError as error:
    print(error)
"""


@linux
def test_onnxruntime_runs_on_the_cpu_beside_another_cuda(clothes, driver):
    folder, other = driver
    runtime = folder / f"libcudart.so.{other}"
    environment = {"LD_LIBRARY_PATH": str(folder)}
    done = run(OPEN, clothes.path, "auto", runtime, **environment)
    assert (done.stdout, done.stderr) == ("cpu\n", "")
    done = run(OPEN, clothes.path, "cuda", runtime, **environment)
    built = onnxruntime.cuda_version.split(".")[0]
    assert done.stdout.endswith(
        f"Received: CUDA {other} is loaded in this process, as by TensorFlow, and onnxruntime is "
        f"built for CUDA {built}\n"
    )
    assert done.stderr == ""


@linux
def test_a_cudnn_of_another_cuda_is_named(clothes, driver, tmp_path):
    folder, other = driver
    package = tmp_path / "site" / f"nvidia_cudnn_cu{other}-9.28.0.dist-info"
    package.mkdir(parents=True)
    lines = f"Metadata-Version: 2.1\nName: nvidia-cudnn-cu{other}\nVersion: 9.28.0\n"
    (package / "METADATA").write_text(lines)
    environment = {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(package.parent)}
    done = run(OPEN, clothes.path, "cuda", **environment)
    assert f"Received: cuDNN for CUDA {other} is installed in this environment" in done.stdout
    assert run(OPEN, clothes.path, "auto", **environment).stdout == "cpu\n"


@linux
def test_libraries_that_do_not_load_are_not_printed(clothes, driver):
    """A driver without CUDA's libraries: `auto` runs on the CPU, `cuda` is refused in one line."""
    environment = {"LD_LIBRARY_PATH": str(driver[0])}
    done = run(OPEN, clothes.path, "auto", **environment)
    assert (done.stdout, done.stderr) == ("cpu\n", "")
    done = run(OPEN, clothes.path, "cuda", **environment)
    assert done.stdout.endswith("Received: libraries that do not load on this machine\n")
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
