"""`keras-gan doctor` on planted environments: folders of packages and of the system's files."""

import base64
import contextlib
import hashlib
import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tomllib

import jsonschema_rs
import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from servers import until

from serving import processor
from serving.doctor import bug_report, facts, machine, probes, report, rules
from serving.doctor.packages import FAMILIES
from serving.doctor.requirements import unmet
from serving.doctor.rules import _rule
from serving.doctor.tested import TESTED

ROOT = pathlib.Path(__file__).parents[1]
DOCS = (ROOT / "docs" / "doctor.md").read_text("utf-8")
CLEAN = {k: v for k, v in os.environ.items() if k not in (*facts.VARIABLES, "PYTHONPATH")}
CPUINFO = "processor : 0\nmodel name : A Processor\nflags : fpu {}\n"
DRIVER = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Sat Sep 9 10:04:17 UTC 2023\nGCC: 12\n"
)

# ------------------------------------------------------------------------------- planting


def package(site, name, version, requires=(), files=None):
    """Writes a package as pip installs one: files, METADATA and RECORD."""
    rows = []
    for path, content in (files or {}).items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        rows.append(f"{path},sha256={digest},{len(content)}")
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    extras = {x.split("extra == ")[1].strip("'") for x in requires if "extra ==" in x}
    lines += [f"Provides-Extra: {x}" for x in sorted(extras)]
    lines += [f"Requires-Dist: {x}" for x in requires]
    (folder / "METADATA").write_text("\n".join(lines) + "\n")
    (folder / "RECORD").write_text("\n".join(rows) + "\n")


def remove(site, name):
    for folder in site.glob(f"{name.replace('-', '_')}-*.dist-info"):
        shutil.rmtree(folder)


OURS = (
    *("tensorflow>=2.21,<2.22", "keras>=3.15,<3.16", "onnxruntime>=1.24", "numpy>=2.0"),
    *("pillow>=11.0", "protobuf>=6.31.1", "av>=14.0; extra == 'video'"),
    "tensorflow[and-cuda]>=2.21; extra == 'gpu'",
)
CUDA12 = "nvidia-cuda-runtime-cu12<13,>=12.5.82; extra == 'and-cuda'"


@pytest.fixture
def site(tmp_path):
    """Packages of an environment in which everything is right."""
    site = tmp_path / "site-packages"
    package(site, "keras-gan", "0.1.0", OURS, {"keras_gan/__init__.py": b"__version__ = '0'"})
    package(site, "tensorflow", "2.21.0", [CUDA12])
    package(site, "keras", "3.15.1")
    package(site, "onnxruntime", "1.31.1")
    package(site, "numpy", "2.4.6")
    package(site, "pillow", "13.0.0")
    package(site, "protobuf", "7.36.2")
    return site


@pytest.fixture
def root(tmp_path):
    """The system's files of a machine with 16 GiB and without a GPU."""
    root = tmp_path / "root"
    write(root / "proc/cpuinfo", CPUINFO.format("avx2 avx512f"))
    write(root / "proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
    return root


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def gpu(root, driver="580.65.06", devices=1):
    write(root / "proc/driver/nvidia/version", DRIVER.format(driver))
    write(
        root / "proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t NVIDIA L4\nIRQ: 4\n"
    )
    for number in range(devices):
        write(root / f"dev/nvidia{number}", "")
    write(root / "dev/nvidiactl", "")


def doctor(*arguments, python=(sys.executable,), path=ROOT, **variables):
    return subprocess.run(
        [*map(str, python), "-m", "serving.cli", "doctor", *map(str, arguments)],
        env={**CLEAN, "KERAS_HOME": "/nonexistent", "PYTHONPATH": str(path), **variables},
        capture_output=True,
        text=True,
        timeout=250,
    )


def judge(site, root, *arguments, **variables):
    """Returns findings by name, the whole object, and the exit status."""
    places = ("--packages", site, "--root", root)
    done = doctor(*places, "--no-imports", "--json", *arguments, **variables)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    names = {(x["name"], x["concerns"]): x for x in found["findings"]}
    assert len(names) == len(found["findings"])
    return {name: x for (name, _), x in names.items()}, found, done.returncode


# -------------------------------------------------------------------------- CUDA libraries


def cublas(generation, size):
    """Bytes of a part of cuDNN, which names the cuBLAS that it opens."""
    return b"\x7fELF" + b"\0" * size + b"libcublasLt.so.%d\0" % generation


def cudart(site, generation):
    folder = {12: "cuda_runtime", 13: "cu13"}[generation]
    name = {12: "nvidia-cuda-runtime-cu12", 13: "nvidia-cuda-runtime"}[generation]
    files = {f"nvidia/{folder}/lib/libcudart.so.{generation}": b"cudart"}
    package(site, name, f"{generation}.9.79", files=files)


def cudnn(site, generation, speaks=True):
    """Installs cuDNN; without `speaks` only its package's RECORD shows the generation."""
    content = cublas(generation, 100 * generation) if speaks else b"adv for %d" % generation
    lib = "nvidia/cudnn/lib"
    files = {
        f"{lib}/libcudnn.so.9": b"shim of one size for %d" % generation,
        f"{lib}/libcudnn_adv.so.9": content,
        f"{lib}/libcudnn_ops.so.9": b"ops" * generation,
    }
    package(site, f"nvidia-cudnn-cu{generation}", "9.28.0", files=files)


def cuda12(site):
    """Installs all that TensorFlow opens."""
    cudart(site, 12)
    cudnn(site, 12)
    names = ("cublas.so.12", "cublasLt.so.12", "cufft.so.11", "cusolver.so.11", "cusparse.so.12")
    package(site, "nvidia-x-cu12", "12.5", files={f"nvidia/x/lib/lib{x}": b"x" for x in names})


def onnxruntime_gpu(site, generation, remove_other=True):
    if remove_other:
        remove(site, "onnxruntime")
    wanted = {12: "nvidia-cuda-runtime-cu12~=12.0", 13: "nvidia-cuda-runtime~=13.0"}[generation]
    version = {12: "1.26.0", 13: "1.31.1"}[generation]
    package(site, "onnxruntime-gpu", version, [f"{wanted}; extra == 'cuda'"])


def plant_two_cudarts(site, root):
    gpu(root)
    cuda12(site)
    onnxruntime_gpu(site, 13)
    cudart(site, 13)


def plant_two_cudarts_without_gpu(site, root):
    cuda12(site)
    onnxruntime_gpu(site, 13)
    cudart(site, 13)


def plant_wrong_cudnn(site, root):
    gpu(root)
    cuda12(site)
    cudnn(site, 13)  # overwrites the files of the former


def plant_wrong_cudnn_by_record(site, root):
    gpu(root)
    cudart(site, 12)
    cudnn(site, 12, speaks=False)
    cudnn(site, 13, speaks=False)


def serve_only(site, root):
    gpu(root)
    remove(site, "keras-gan")
    shutil.rmtree(site / "keras_gan")
    onnxruntime_gpu(site, 13)
    package(site, "httptools", "0.9.0")
    package(site, "orjson", "3.13.0")
    package(site, "uvloop", "0.23.0")
    cudart(site, 13)


def plant_wrong_cudnn_of_serving(site, root):
    serve_only(site, root)
    cudnn(site, 12)


def plant_two_cudarts_of_serving(site, root):
    serve_only(site, root)
    cudnn(site, 13)
    cudart(site, 12)


def plant_mixed_cudnn(site, root):
    gpu(root)
    cudart(site, 12)
    cudnn(site, 12)
    cudnn(site, 13)
    (site / "nvidia/cudnn/lib/libcudnn_ops.so.9").write_bytes(b"ops" * 12)


def plant_two_cudnn_packages(site, root):
    gpu(root)
    cudnn(site, 13)
    cuda12(site)


def plant_both_onnxruntimes(site, root):
    onnxruntime_gpu(site, 12, remove_other=False)
    write(site / "onnxruntime/capi/build_and_package_info.py", "package_name = 'onnxruntime'\n")


def plant_mismatch(site, root):
    gpu(root)
    cuda12(site)
    onnxruntime_gpu(site, 13)


def plant_old_driver(site, root):
    gpu(root, "470.82.01")
    cuda12(site)


def plant_old_driver_of_serving(site, root):
    gpu(root, "570.86.10")
    onnxruntime_gpu(site, 13)
    cudart(site, 13)


def plant_gpu_without_libraries(site, root):
    gpu(root)


def plant_onnxruntime_without_libraries(site, root):
    gpu(root)
    onnxruntime_gpu(site, 13)


def plant_serving_without_libraries(site, root):
    serve_only(site, root)
    remove(site, "nvidia-cuda-runtime")
    shutil.rmtree(site / "nvidia")


def plant_serving_that_refuses_the_gpu(site, root):
    """All files are those of CUDA 13; the name of another cuDNN's package is left."""
    serve_only(site, root)
    cudnn(site, 12)
    cudnn(site, 13)
    names = ("cublas.so.13", "cublasLt.so.13", "cufft.so.12")
    package(site, "nvidia-x", "13.0", files={f"nvidia/x/lib/lib{x}": b"x" for x in names})


def plant_wsl(site, root):
    write(root / "dev/dxg", "")
    write(root / "usr/lib/wsl/lib/libcuda.so.1", "")


def plant_container_without_gpu(site, root):
    gpu(root, devices=0)


# ---------------------------------------------------------------------- packages, settings


def replace(name, version):
    def plant(site, root):
        remove(site, name)
        if version:
            package(site, name, version)

    return plant


def plant_untested_without_bounds(site, root):
    remove(site, "keras-gan")  # a checkout: the folder keras_gan alone
    replace("tensorflow", "2.22.0")(site, root)


def plant_nightly(site, root):
    package(site, "tf-nightly", "2.22.0.dev20261101")


def plant_keras_nightly(site, root):
    package(site, "keras-nightly", "3.15.0.dev2026")


def only_nightly(name, version):
    def plant(site, root):
        remove(site, name)
        package(site, {"keras": "keras-nightly", "tensorflow": "tf-nightly"}[name], version)

    return plant


def plant_later_python(site, root):
    (path,) = site.glob("keras_gan-*/METADATA")
    path.write_text(path.read_text().replace("Name:", "Requires-Python: >=3.99\nName:"))


def plant_two_releases(site, root):
    package(site, "numpy", "2.3.1")


def plant_container_limit(site, root):
    write(root / "proc/self/cgroup", "0::/docker/a\n")
    write(root / "sys/fs/cgroup/docker/a/memory.max", f"{2**30}\n")
    write(root / "sys/fs/cgroup/docker/a/memory.current", f"{2**28}\n")


def plant_container_limit_version_1(site, root):
    write(root / "proc/self/cgroup", "4:memory:/docker/a\n0::/\n")
    write(root / "sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes", f"{2**30}\n")
    write(root / "sys/fs/cgroup/memory/docker/a/memory.usage_in_bytes", f"{2**28}\n")


def plant_little_free_memory(site, root):
    write(root / "proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 524288 kB\n")


def plant_empty_library(site, root):
    gpu(root)
    cuda12(site)
    (site / "nvidia/cudnn/lib/libcudnn_ops.so.9").write_bytes(b"")


def plant_dangling_library(site, root):
    gpu(root)
    cuda12(site)
    path = site / "nvidia/x/lib/libcufft.so.11"
    path.unlink()
    path.symlink_to("none")


CASES = {
    # planted: (name, level, exit status, words of the line)
    plant_two_cudarts: ("two-cudarts", "error", 1, "nvidia-cuda-runtime-cu12"),
    plant_two_cudarts_without_gpu: ("two-cudarts", "warning", 0, "libcudart.so.13"),
    plant_two_cudarts_of_serving: ("two-cudarts", "warning", 0, "nvidia-cuda-runtime-cu12"),
    plant_wrong_cudnn: ("cudnn-wrong-generation", "error", 1, "is for CUDA 13"),
    plant_wrong_cudnn_by_record: ("cudnn-wrong-generation", "error", 1, "needs CUDA 12"),
    plant_wrong_cudnn_of_serving: ("cudnn-wrong-generation", "error", 1, "onnxruntime-gpu 1.31.1"),
    plant_mixed_cudnn: ("cudnn-mixed", "error", 1, "CUDA 12 and 13"),
    plant_two_cudnn_packages: ("two-cudnn-packages", "warning", 0, "those of CUDA 12"),
    plant_both_onnxruntimes: ("both-onnxruntimes", "warning", 0, "the files of onnxruntime are"),
    plant_mismatch: ("onnxruntime-cuda-mismatch", "note", 0, "built for CUDA 13"),
    plant_old_driver: ("driver-too-old", "error", 1, "470.82.01"),
    plant_old_driver_of_serving: ("driver-too-old", "error", 1, "needs 580"),
    plant_gpu_without_libraries: ("gpu-unused-by-tensorflow", "warning", 0, "libcusolver.so.11"),
    plant_onnxruntime_without_libraries: (
        "gpu-unused-by-onnxruntime",
        "note",
        0,
        "cudart.so.13",
    ),
    plant_serving_without_libraries: (
        "gpu-unused-by-onnxruntime",
        "warning",
        0,
        "lacks libcudart.so.13",
    ),
    plant_serving_that_refuses_the_gpu: (
        "gpu-unused-by-onnxruntime",
        "warning",
        0,
        "cuDNN for CUDA 12 is installed in this environment",
    ),
    plant_wsl: ("gpu-unused-by-tensorflow", "warning", 0, "libcudart.so.12"),
    plant_container_without_gpu: ("gpu-not-passed", "note", 0, "/dev/nvidia0"),
    plant_empty_library: ("cuda-library-empty", "error", 1, "nvidia/cudnn/lib/libcudnn_ops.so.9"),
    plant_dangling_library: ("gpu-unused-by-tensorflow", "warning", 0, "lacks libcufft.so.11:"),
    replace("keras", "3.16.0"): ("keras-newer-than-tested", "warning", 0, "keras>=3.15,<3.16"),
    replace("keras", "3.12.0"): ("keras-too-old", "error", 1, "keras 3.12.0"),
    only_nightly("keras", "3.16.0.dev20261101"): (
        "keras-newer-than-tested",
        "warning",
        0,
        "keras-nightly 3.16.0.dev20261101",
    ),
    only_nightly("tensorflow", "2.22.0.dev20261101"): (
        "tensorflow-newer-than-tested",
        "warning",
        0,
        "tf-nightly 2.22.0.dev20261101",
    ),
    plant_untested_without_bounds: ("tensorflow-newer-than-tested", "warning", 0, "2.21"),
    plant_nightly: ("several-tensorflows", "warning", 0, "tf-nightly 2.22.0.dev20261101"),
    replace("numpy", "1.26.4"): ("numpy-too-old", "error", 1, "numpy>=2.0"),
    replace("protobuf", "5.29.0"): ("protobuf-too-old", "error", 1, "protobuf>=6.31.1"),
    replace("pillow", ""): ("pillow-missing", "error", 1, "pillow>=11.0"),
    plant_keras_nightly: ("several-keras", "warning", 0, "keras-nightly"),
    plant_later_python: ("python-too-old", "error", 1, ">=3.99"),
    plant_two_releases: ("installed-twice", "warning", 0, "2.3.1"),
    plant_container_limit: ("little-memory", "warning", 0, "1.0 GiB"),
    plant_container_limit_version_1: ("little-memory", "warning", 0, "1.0 GiB"),
    plant_little_free_memory: ("little-free-memory", "warning", 0, "0.5 GiB"),
}


@pytest.mark.parametrize(
    ("plant", "expected"), CASES.items(), ids=[expected[0] for expected in CASES.values()]
)
def test_a_planted_mixture_is_named(site, root, plant, expected):
    plant(site, root)
    name, level, status, words = expected
    found, _, returncode = judge(site, root)
    assert name in found, found
    assert found[name]["level"] == level
    assert words in found[name]["found"]
    assert returncode == status
    assert (status == 1) == any(x["level"] == "error" for x in found.values())


def test_a_healthy_environment_is_silent(site, root):
    found, everything, status = judge(site, root)
    assert (found, status) == ({}, 0)
    assert everything["machine"]["memory"] == 2**34
    assert everything["machine"]["free_memory"] == 2**33
    done = doctor("--packages", site, "--root", root, "--no-imports")
    assert "Findings\n  none\n" in done.stdout
    assert done.returncode == 0


def test_a_healthy_gpu_is_silent_but_for_serving_on_the_cpu(site, root):
    """The extra gpu on Linux: TensorFlow with CUDA 12, and an onnxruntime-gpu for CUDA 13."""
    gpu(root, "525.60.13")
    cuda12(site)
    onnxruntime_gpu(site, 13)
    found, everything, status = judge(site, root)
    # No import has shown that TensorFlow sees the GPU; with its libraries nothing speaks against.
    assert set(found) == {"gpu-unused-by-onnxruntime", "onnxruntime-cuda-mismatch"}
    for finding in found.values():
        assert finding["level"] == "note"
        assert finding["concerns"] == "serving"
        assert finding["found"].endswith("onnxruntime runs on the CPU here, as intended")
        assert "serving/requirements-gpu.txt" in finding["advice"]
        assert "pip install 'keras-gan[cuda12]'" in finding["advice"]
    assert status == 0
    assert everything["cuda"]["onnxruntime_package"] == "onnxruntime-gpu"
    assert (everything["cuda"]["tensorflow"], everything["cuda"]["onnxruntime"]) == (12, 13)
    assert everything["machine"]["gpus"] == ["NVIDIA L4"]
    assert everything["cuda"]["cudnn"][0]["generations"] == {
        "libcudnn.so.9": 12,
        "libcudnn_adv.so.9": 12,
        "libcudnn_ops.so.9": 12,
    }


def test_one_environment_for_both_halves_on_cuda_12_is_silent(site, root):
    gpu(root)
    cuda12(site)
    onnxruntime_gpu(site, 12)
    assert judge(site, root)[::2] == ({}, 0)


@pytest.mark.parametrize("plant", [plant_serving_that_refuses_the_gpu, plant_mismatch])
def test_the_reason_is_the_one_of_serving(site, root, plant):
    """`keras-gan serve` gives it to whom asks for the GPU in these packages."""
    plant(site, root)
    program = "from serving.cuda import obstacle; print(obstacle('13.0'))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={**CLEAN, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=True,
    )
    reason = done.stdout.strip()
    assert "cuDNN for CUDA 12" in reason
    assert f": {reason};" in judge(site, root)[0]["gpu-unused-by-onnxruntime"]["found"]


def test_wsl_has_a_gpu_with_a_driver_of_unknown_version(site, root):
    plant_wsl(site, root)
    cuda12(site)
    found, everything, _ = judge(site, root)
    assert set(found) == {"gpu-unused-by-onnxruntime"}
    of_machine = everything["machine"]
    assert (of_machine["driver"], of_machine["device_files"]) == ("unknown", 1)
    lines = doctor("--packages", site, "--root", root, "--no-imports", "--brief").stdout
    assert "GPU 1 device, driver unknown;" in lines
    (root / "usr/lib/wsl/lib/libcuda.so.1").unlink()  # a GPU of another maker
    found, everything, _ = judge(site, root)
    assert (set(found), everything["machine"]["driver"]) == (set(), "")


def test_a_system_without_files_of_gpus_is_not_said_to_have_none(site, root):
    known = facts.gather([site], root, imports=False)
    assert "GPU none (NVIDIA's driver was not found);" in report.brief(known, [])[1]
    other = known.machine._replace(system="Windows-11-10.0.26100")
    known = facts.Facts(**{**vars(known), "machine": other})
    assert "GPU not listed by this system;" in report.brief(known, [])[1]


@pytest.mark.parametrize(
    ("variables", "name", "status"),
    [
        ({"KERAS_BACKEND": "jax"}, "keras-backend", 1),
        ({"TF_USE_LEGACY_KERAS": "1"}, "legacy-keras", 0),
        ({"KERAS_BACKEND": "tensorflow", "TF_USE_LEGACY_KERAS": "0"}, None, 0),
    ],
)
def test_variables_of_keras(site, root, variables, name, status):
    found, everything, returncode = judge(site, root, **variables)
    assert (list(found), returncode) == ([name] if name else [], status)
    assert everything["variables"] == variables


def test_the_file_of_keras(site, root, tmp_path):
    write(tmp_path / "home/keras.json", '{"backend": "torch"}')
    found, _, status = judge(site, root, KERAS_HOME=str(tmp_path / "home"))
    assert "'torch'" in found["keras-backend"]["found"]
    assert str(tmp_path / "home/keras.json") in found["keras-backend"]["found"]
    assert status == 1
    chosen = {"KERAS_HOME": str(tmp_path / "home"), "KERAS_BACKEND": "tensorflow"}
    assert judge(site, root, **chosen)[0] == {}


def test_libraries_in_front_of_those_of_packages(site, root, tmp_path):
    gpu(root)
    cuda12(site)
    front = tmp_path / "front"
    for name, content in {
        "libcudnn.so.9": b"shim",
        "libcudnn_adv.so.9": cublas(13, 10),
        "libcudart.so.12": b"another",
        "libcudart.so.11.0": b"of a name that nothing opens",
    }.items():
        front.mkdir(exist_ok=True)
        (front / name).write_bytes(content)
    found, _, status = judge(site, root, LD_LIBRARY_PATH=f"{tmp_path}:{front}")
    assert {"library-path-cudnn", "library-path-cudart"} <= set(found)
    assert "for CUDA 13" in found["library-path-cudnn"]["found"]
    assert str(front / "libcudart.so.12") in found["library-path-cudart"]["found"]
    assert status == 0
    own = site / "nvidia/cudnn/lib"  # the folder of the package itself
    assert set(judge(site, root, LD_LIBRARY_PATH=str(own))[0]) == {"gpu-unused-by-onnxruntime"}


def test_libraries_of_the_system_are_found(site, root):
    gpu(root)
    lib = root / "usr/local/cuda/lib64"
    write(lib / "libcudart.so.12.9.79", "cudart")
    (lib / "libcudart.so.12").symlink_to("libcudart.so.12.9.79")
    (lib / "libcudart.so").symlink_to("libcudart.so.12")
    line = judge(site, root)[0]["gpu-unused-by-tensorflow"]["found"]
    assert "libcublas.so.12" in line
    assert "libcudart" not in line


@pytest.mark.parametrize(
    ("visible", "hides"),
    [
        *(("", True), ("-1", True), ("-1,0", True), ("NoDevFiles", True), ("1", True)),
        *(("0", False), ("0,-1", False), ("GPU-8932f937", False), ("MIG-GPU-8932f937", False)),
    ],
)
def test_hidden_gpus(site, root, visible, hides):
    """Slurm sets NoDevFiles; CUDA sees no device from the first unknown one on."""
    gpu(root)
    known = facts.gather([site], root, imports=False)
    variables = {"CUDA_VISIBLE_DEVICES": visible}
    found = rules.judge(facts.Facts(**{**vars(known), "variables": variables}))
    names = {"gpu-hidden"} if hides else {"gpu-unused-by-tensorflow", "gpu-unused-by-onnxruntime"}
    assert {x.name for x in found} == names


def test_the_libraries_of_conda_are_found(site, root, tmp_path):
    gpu(root)
    cuda12(site)
    (tmp_path / "conda/conda-meta").mkdir(parents=True)
    of_conda = tmp_path / "conda/lib/python3.12/site-packages"
    shutil.copytree(site, of_conda)
    cufft = "libcufft.so.11"
    shutil.move(of_conda / "nvidia/x/lib" / cufft, tmp_path / "conda/lib" / cufft)
    assert set(judge(of_conda, root)[0]) == {"gpu-unused-by-onnxruntime"}
    (tmp_path / "conda/lib" / cufft).unlink()
    assert cufft in judge(of_conda, root)[0]["gpu-unused-by-tensorflow"]["found"]


def test_what_an_interrupted_pip_leaves_behind_is_ignored(site, root):
    write(site / "~umpy-1.20.0.dist-info/METADATA", "Name: numpy\nVersion: 1.20.0\n")
    (site / "half-1.0.dist-info").mkdir()
    assert judge(site, root)[::2] == ({}, 0)


def test_a_folder_that_is_named_twice_holds_its_packages_once(site, root):
    assert judge(site, root, "--packages", f"{site}/")[::2] == ({}, 0)


def test_damaged_files_of_packages_do_not_stop_the_report(site, root):
    gpu(root)
    cuda12(site)
    for name, content in {
        "latin-1.0.dist-info/METADATA": b"Name: latin\nVersion: 1.0\nAuthor: J\xfcrgen\n",
        "empty-1.0.dist-info/METADATA": b"",
        "noversion-1.0.dist-info/METADATA": b"Name: noversion\n",
        "nvidia_cudnn_cu12-9.28.0.dist-info/RECORD": b"x" * 2**18,  # above the limit of csv
        "nvidia_x_cu12-12.5.dist-info/RECORD": b"\0\xff,,\n",
        "keras_gan/_version.py": b"",
        "tensorflow/python/platform/build_info.py/none": b"",  # a folder
    }.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(content)
    found, _, status = judge(site, root)
    assert (set(found), status) == ({"gpu-unused-by-onnxruntime"}, 0)
    remove(site, "keras-gan")
    assert "keras-gan" not in judge(site, root)[1]["versions"]
    # A package of the system may have its metadata in one file.
    remove(site, "pillow")
    write(site / "pillow-13.0.0.egg-info", "Name: pillow\nVersion: 13.0.0\n")
    assert judge(site, root)[1]["versions"]["pillow"] == "13.0.0"


def test_folders_that_cannot_be_read_hold_nothing(site, root):
    long = "/".join(["", "a" * 300, "lib"])
    path = os.pathsep.join([long, __file__, f"{__file__}/lib", "", "/b" * 3000])
    assert judge(site, root, LD_LIBRARY_PATH=path)[::2] == ({}, 0)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_folders_of_another_user_hold_nothing(site, tmp_path):
    """As in an `LD_LIBRARY_PATH` that the user's shell has from the administrator's."""
    closed = tmp_path / "closed"
    (closed / "lib").mkdir(parents=True)
    closed.chmod(0o700)
    program = (
        "import os, pathlib, sys\n"
        "from serving.doctor import cuda\n"
        "from serving.doctor.packages import Packages\n"
        "os.setuid(65534)\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "found = cuda.read(Packages([folder]), {'LD_LIBRARY_PATH': str(folder)}, folder)\n"
        "print(found.libraries, found.tensorflow)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, closed / "lib"],
        env={**CLEAN, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("[] None\n", "")


@pytest.mark.parametrize(
    ("requirement", "problem"),
    [
        ("numpy!=2.4.6", "excluded"),
        ("numpy<2.4.6", "too-new"),
        ("numpy>2.4.6", "too-old"),
        ("numpy==2.3.*", "too-new"),
        ("numpy~=2.5.0", "too-old"),
        ("Scipy>=1", "missing"),
    ],
)
def test_requirements_that_are_not_met(site, requirement, problem):
    (found,) = unmet(facts.Packages([site]), [requirement])
    assert (found.requirement, found.problem) == (requirement, problem)


def test_a_disk_that_is_full(site, root):
    known = facts.gather([site], root, imports=False)
    for free, level in ((2**20, "error"), (2**29, "warning")):
        small = known.machine._replace(disk={"/runs": free})
        found = rules.judge(facts.Facts(**{**vars(known), "machine": small}))
        assert [(x.name, x.level) for x in found] == [("little-disk", level)]


def test_a_current_folder_that_was_removed(site, root, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    program = "import os; os.rmdir(os.getcwd()); from serving.cli import main; main()"
    options = ["--no-imports", "--json", "--packages", str(site), "--root", str(root)]
    done = subprocess.run(
        [sys.executable, "-c", program, "doctor", *options],
        cwd=gone,
        env={**CLEAN, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert str(gone) not in json.loads(done.stdout)["machine"]["disk"]


def test_no_folder_for_temporary_files(site, root, monkeypatch):
    """As in a container that is read-only."""

    def no_folder():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(machine.tempfile, "gettempdir", no_folder)
    found = rules.judge(facts.gather([site], root, imports=False))
    assert [(x.name, x.level) for x in found] == [("no-temporary-folder", "warning")]


@pytest.mark.parametrize("line", ["4:memory:/docker/a\n", "4:memory,hugetlb:/docker/a\n"])
def test_limits_of_control_groups_whose_use_is_unknown(root, line):
    write(root / "proc/self/cgroup", line)
    folder = root / "sys/fs/cgroup" / line.split(":")[1] / "docker/a"
    write(folder / "memory.limit_in_bytes", f"{2**30}\n")
    write(folder / "memory.usage_in_bytes", "unknown\n")
    assert machine.read(root)[4:6] == (2**30, 2**30)


# --------------------------------------------------------------------------------- imports


def test_codecs_that_are_missing(site, root):
    write(site / "PIL/__init__.py", "")
    write(site / "PIL/features.py", "def check(name): return name == 'zlib'\n")
    write(site / "av/__init__.py", "from av import codec\n")
    write(site / "av/codec.py", "def Codec(name, mode): raise ValueError(name)\n")
    done = doctor("--packages", site, "--root", root, "--json")
    found = {x["name"]: x["level"] for x in json.loads(done.stdout)["findings"]}
    for name in ("pillow-without-webp", "pillow-without-jpg", "av-without-libx264"):
        assert found[name] == "warning"
    assert "pillow-without-zlib" not in found
    # tensorflow and numpy are metadata alone here.
    assert {"tensorflow-fails", "numpy-fails"} <= set(found)
    assert done.returncode == 1


FAKE_GPU = """
from types import SimpleNamespace as of
import contextlib
__version__ = "2.21.0"
gpus = [of(name="/physical_device:GPU:0")]
growing = []
config = of(
    list_physical_devices=lambda kind=None: gpus,
    experimental=of(set_memory_growth=lambda gpu, on: growing.append(gpu)),
)
sysconfig = of(get_build_info=lambda: dict(cuda_version="12.5.1", cudnn_version="9"))
device = contextlib.nullcontext
zeros = lambda shape: None
def conv2d(*_):
    if len(growing) != 1:
        raise RuntimeError("takes the memory of the whole GPU")
    {}
    return of(numpy=lambda: None)
nn = of(conv2d=conv2d)
"""


@pytest.mark.parametrize(
    ("line", "names"),
    [("", []), ("raise RuntimeError('No algorithm worked!')", ["gpu-fails"])],
    ids=["works", "fails"],
)
def test_a_gpu_is_used_by_the_probe(site, root, line, names):
    """TensorFlow's device list is planted; a driver's other facts are those of the folders."""
    gpu(root)
    write(root / "proc/cpuinfo", CPUINFO.format("avx512_bf16"))
    write(site / "tensorflow/__init__.py", FAKE_GPU.format(line))
    write(site / "PIL/__init__.py", "")
    write(site / "PIL/features.py", "def check(name): return True\n")
    write(
        site / "keras/__init__.py",
        "from types import SimpleNamespace as of\n"
        "__version__, backend = '3.15.1', of(backend=lambda: 'tensorflow')\n",
    )
    done = doctor("--packages", site, "--root", root, "--json")
    found = json.loads(done.stdout)
    training = [x for x in found["findings"] if x["concerns"] == "training"]
    assert [x["name"] for x in training] == names  # none says that the GPU is not used
    assert found["training"] == ("fails" if names else "works")
    assert found["precision_auto"] == "float32"
    if names:
        assert "No algorithm worked!" in training[0]["found"]


# tensorflow/python/pywrap_tensorflow.py puts the cause in the middle of its message.
TENSORFLOWS_ERROR = """
import traceback
try:
    raise ImportError('libcudnn.so.9: no')
except ImportError:
    raise ImportError(
        f'{traceback.format_exc()}\\n\\nFailed to load the native TensorFlow runtime.\\n'
        'include the entire stack trace above this error message.')
"""


@pytest.mark.parametrize(
    ("err", "line"),
    [
        ("ValueError: x\n", "ValueError: x"),
        ("Traceback (most recent call last):\n  File x\nValueError: x\nmore\n", "ValueError: x"),
        ("Traceback (most recent call last):\n  File x\nImportError: \nA cause\n", "A cause"),
        ("Traceback (most recent call last):\n", "Traceback (most recent call last):"),
        ("", "exit status 1"),
    ],
)
def test_the_line_that_names_the_exception(err, line):
    assert probes._outcome(1, err) == ("failed", line)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_an_interrupt_ends_the_imports(site, root, tmp_path):
    ready = tmp_path / "ready"
    source = f"open({str(ready)!r}, 'w').close(); import time; time.sleep(100)"
    write(site / "tensorflow/__init__.py", source)
    arguments = ["doctor", "--packages", str(site), "--root", str(root)]
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.cli", *arguments],
        env={**CLEAN, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until(ready.exists, 60)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=50) == (b"", b"")
    assert process.returncode == 130


def test_a_process_that_the_system_killed_lacked_memory(site, root):
    known = facts.gather([site], root, imports=False)
    killed = {"training": probes.Probe("crashed", "tensorflow", "SIGKILL")}
    (found,) = rules.judge(facts.Facts(**{**vars(known), "probes": killed}))
    assert (found.name, found.advice[:16]) == ("tensorflow-crashes", "free some memory")


@pytest.mark.parametrize(
    ("source", "name", "words", "timeout"),
    [
        (TENSORFLOWS_ERROR, "tensorflow-fails", "fails: ImportError: libcudnn.so.9: no", 200),
        ("import os; os.abort()", "tensorflow-crashes", "SIGABRT", 200),
        ("import time; time.sleep(300)", "tensorflow-hangs", "no result after 20 s", 20),
    ],
    ids=["raises", "crashes", "hangs"],
)
def test_a_tensorflow_that_cannot_be_imported(tmp_path, source, name, words, timeout):
    """The serving half works, in this Python's own packages."""
    write(tmp_path / "first/tensorflow/__init__.py", source)
    path = f"{tmp_path / 'first'}{os.pathsep}{ROOT}"
    done = doctor("--json", "--timeout", timeout, path=path)
    found = json.loads(done.stdout)
    (line,) = [x["found"] for x in found["findings"] if x["name"] == name]
    assert words in line
    assert (found["training"], found["serving"]) == ("fails", "works")
    assert done.returncode == 1


def installed_as(name):
    """Returns name and version of the package that brings a folder, such as tf-nightly."""
    for other in (name, *FAMILIES.get(name, ())):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return other, importlib.metadata.version(other)
    raise AssertionError(f"{name} is not installed")


def same_release(first, second):
    """Compares versions: TensorFlow writes its own as 2.22.0-dev20261101."""
    return Version(first) == Version(second)


def pinned():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


@pytest.fixture(scope="module")
def here():
    return doctor("--json", "--timeout", 200)


def test_this_environment_works(here):
    found = json.loads(here.stdout)
    print({part: probe["seconds"] for part, probe in found["imports"].items()})
    installed = {name: installed_as(name) for name in ("tensorflow", "keras", "numpy")}
    # Other releases on purpose (make test TRY=...) are named as such, and nothing else is.
    pins = pinned()
    tried = {name for name in TESTED if installed[name] != (name, pins[name])}
    of_release = re.compile(r"(\w+)-(?:newer-than-tested|too-old)")
    judged = {x["name"]: of_release.fullmatch(x["name"]) for x in found["findings"]}
    untested = {name for name, match in judged.items() if match and match[1] in tried}
    assert not [name for name, match in judged.items() if match and name not in untested]
    errors = {x["name"] for x in found["findings"] if x["level"] == "error"}
    assert errors <= untested, found["findings"]
    assert (found["training"], found["serving"]) == ("fails" if errors else "works", "works")
    assert here.returncode == bool(errors)
    for name, version in installed.values():
        assert found["versions"][name] == version
    values = found["imports"]["training"]["values"]
    assert same_release(values["tensorflow"]["version"], installed["tensorflow"][1])
    assert values["keras"]["backend"] == "tensorflow"
    provider = found["imports"]["serving"]["values"]["a session of onnxruntime"]["provider"]
    assert provider.endswith("ExecutionProvider")


TEXT, FLAG = {"type": "string"}, {"type": "boolean"}
NUMBER = {"type": ["integer", "null"]}
OUTCOME = {"enum": ["works", "fails", "not tried", "not installed"]}


def of(properties):
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def each(schema):
    return {"type": "object", "additionalProperties": schema}


def listed(schema):
    return {"type": "array", "items": schema}


SCHEMA = of(
    {
        "schema": {"const": 1},
        "training": OUTCOME,
        "serving": OUTCOME,
        "findings": listed(
            of(
                {
                    "level": {"enum": list(_rule.LEVELS)},
                    "concerns": {"enum": ["training", "serving", "both"]},
                    "name": {"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)+$"},
                    "found": TEXT,
                    "advice": TEXT,
                }
            )
        ),
        "versions": each(TEXT),
        "machine": of(
            {
                "system": TEXT,
                "processor": TEXT,
                "cpus": NUMBER,
                "memory": NUMBER,
                "free_memory": NUMBER,
                "disk": each(NUMBER),
                "driver": TEXT,
                "gpus": listed(TEXT),
                "device_files": NUMBER,
                "temporary": TEXT,
                "features": of(dict.fromkeys(processor.FEATURES, FLAG)),
            }
        ),
        "precision_auto": {"enum": ["float32", "bfloat16"]},
        "int8_pays_off": FLAG,
        "cuda": of(
            {
                "tensorflow": NUMBER,
                "onnxruntime": NUMBER,
                "onnxruntime_package": TEXT,
                "cudart": listed(of({"file": TEXT, "source": TEXT})),
                "cudnn": listed(of({"folder": TEXT, "source": TEXT, "generations": each(NUMBER)})),
            }
        ),
        "extras": each(of({"lacks": listed(TEXT), "command": TEXT})),
        "variables": each(TEXT),
        "imports": each(
            of(
                {
                    "status": {"enum": ["ok", "failed", "crashed", "timeout"]},
                    "package": TEXT,
                    "error": TEXT,
                    "seconds": {"type": "number"},
                    "values": each({"type": "object"}),
                }
            )
        ),
        "not_checked": listed(TEXT),
    }
)


def test_json_has_its_documented_form(here, site, root):
    plant_two_cudarts(site, root)
    for found in (json.loads(here.stdout), judge(site, root)[1]):
        jsonschema_rs.validate(SCHEMA, found)
    table = DOCS.partition("## JSON")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(SCHEMA["properties"])


def test_every_planted_mixture_is_documented():
    names = {name for name, *_ in CASES.values()}
    assert len(names) > 15
    for name in names:
        general = re.sub(r"^\w+(?=-(?:missing|too-old|newer-than-tested)$)", "PACKAGE", name)
        assert f"`{name}`" in DOCS or f"`{general}`" in DOCS, name


# ---------------------------------------------------------------------------- serving alone

SERVING = ("numpy", "onnxruntime", "PIL", "pillow", "google", "protobuf", "flatbuffers")
SERVING += ("packaging", "httptools", "orjson", "uvloop")


@pytest.fixture
def serving_alone(tmp_path):
    """The folder serving/ and the packages of serving/requirements.txt, without others."""
    shutil.copytree(ROOT / "serving", tmp_path / "app" / "serving")
    site = tmp_path / "serving-packages"
    site.mkdir()
    ours = pathlib.Path(pytest.__file__).parents[1]
    for path in ours.iterdir():
        if path.name.split("-")[0].split(".")[0].removesuffix("_gpu") in SERVING:
            (site / path.name).symlink_to(path)
    return tmp_path / "app", site


def test_serving_alone_is_judged_on_serving(serving_alone, root):
    app, site = serving_alone
    done = doctor("--packages", site, "--root", root, path=app)
    assert done.returncode == 0, done.stdout
    assert "Training: not installed here" in done.stdout
    assert "Serving: works, on the CPU" in done.stdout
    assert not re.search("tensorflow|keras ", done.stdout, re.IGNORECASE)
    (orjson,) = site.glob("orjson-*")
    orjson.unlink()
    found, everything, status = judge(site, root)
    assert list(found) == ["orjson-missing"]
    assert found["orjson-missing"]["concerns"] == "serving"
    assert (everything["training"], everything["serving"], status) == ("not installed", "fails", 1)


def test_without_a_reader_of_requirements_this_is_said(site, root):
    """-S leaves out this Python's packages, `packaging` among them."""
    replace("numpy", "1.26.4")(site, root)
    python = (sys.executable, "-S")
    done = doctor("--packages", site, "--root", root, "--no-imports", python=python)
    assert "Not checked: versions against the requirements" in done.stdout
    assert done.returncode == 0


def test_a_checkout_without_metadata_says_so(site, root):
    remove(site, "keras-gan")
    found, everything, status = judge(site, root)
    assert (found, status) == ({}, 0)
    assert any("bare checkout" in line for line in everything["not_checked"])
    assert everything["extras"] == {}


# ------------------------------------------------------------------------------ the reports


def test_brief_is_three_lines_and_the_bug_report_begins_with_them(site, root):
    places = ("--packages", site, "--root", root, "--no-imports")
    replace("keras", "3.12.0")(site, root)
    lines = doctor(*places, "--brief").stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["Versions", "Machine", "Findings"]
    assert "keras-gan 0.1.0, python 3." in lines[0]
    assert "A Processor" in lines[1]
    assert "AVX2, AVX-512" in lines[1]
    assert "error keras-too-old (training)" in lines[2]
    done = doctor(*places, "--bug-report")
    assert done.stdout.splitlines()[1:4] == lines
    assert done.stdout == bug_report.template("\n".join(lines))
    assert done.returncode == 1


def test_the_template_of_the_repository_is_the_same():
    file = ROOT / ".github" / "ISSUE_TEMPLATE" / "bug_report.md"
    assert file.read_text("utf-8") == bug_report.FRONT_MATTER + bug_report.template()
    assert "keras-gan doctor --brief" in bug_report.template()


def test_extras_name_what_they_lack(site, root):
    _, everything, _ = judge(site, root)
    assert everything["extras"]["video"] == {
        "lacks": ["av>=14.0"],
        "command": "pip install 'keras-gan[video]'",
    }
    assert everything["extras"]["gpu"]["lacks"] == ["nvidia-cuda-runtime-cu12>=12.5.82,<13"]
    package(site, "av", "13.0.0")
    cuda12(site)
    _, everything, _ = judge(site, root)
    assert everything["extras"]["video"]["lacks"] == ["av>=14.0 (av 13.0.0 is installed)"]
    assert everything["extras"]["gpu"] == {"lacks": [], "command": ""}


@pytest.mark.parametrize(
    ("flags", "precision", "int8"),
    [
        ("avx2", "float32", False),
        ("avx2 avx512f avx512_vnni", "float32", True),
        ("avx2 avx_vnni", "float32", True),
        ("avx2 avx512f avx512_bf16 avx512_vnni", "bfloat16", True),
        ("avx512f amx_tile amx_bf16 amx_int8", "bfloat16", True),
    ],
)
def test_what_the_processor_makes_of_precisions(site, root, flags, precision, int8):
    write(root / "proc/cpuinfo", CPUINFO.format(flags))
    _, found, _ = judge(site, root)
    assert (found["precision_auto"], found["int8_pays_off"]) == (precision, int8)
    features = found["machine"]["features"]
    assert features["AVX2"] == ("avx2" in flags.split())
    assert features["BF16"] == (precision == "bfloat16")
    gpu(root)
    cuda12(site)
    assert judge(site, root)[1]["precision_auto"] == "float32"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (DRIVER.format("535.104.05"), "535.104.05"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release",
            "580.65.06",
        ),
        ("", ""),
    ],
)
def test_the_version_of_the_driver(text, version):
    assert machine.driver_version(text) == version


# ------------------------------------------------------------------------------ the command


def test_help_names_the_options_and_mistakes_are_refused(tmp_path):
    done = doctor("--help")
    for option in ("--json", "--brief", "--bug-report", "--no-imports", "--timeout", "--packages"):
        assert option in done.stdout
    assert done.returncode == 0
    for arguments, words in (
        (("--json", "--brief"), "not allowed with"),
        (("--timeout", "0"), "--timeout must be above 0"),
        (("--timeout", "inf"), "--timeout must be above 0, and 86400 at most"),
        (("--packages", "/" + "a" * 300), "--packages must be a folder"),
        (("--root", tmp_path / "none"), "--root must be a folder"),
        (("--packages", tmp_path / "none"), "--packages must be a folder"),
    ):
        done = doctor(*arguments)
        assert done.returncode == 2
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_the_tested_releases_are_those_of_the_constraints():
    pins = pinned()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    required = {re.split("[<>]", x)[0]: x for x in project["dependencies"]}
    for name, tested in TESTED.items():
        assert pins[name].startswith(f"{tested}.")
        bounds = SpecifierSet(required[name].removeprefix(name))
        assert pins[name] in bounds
        major, minor = map(int, tested.split("."))
        assert f"{major}.{minor - 1}.9" not in bounds
        if "<" in required[name]:
            assert f"{major}.{minor + 1}.0" not in bounds


def test_requirements_with_the_package_of_another_name(site):
    """onnxruntime-gpu serves in place of onnxruntime, of the required releases only."""
    remove(site, "onnxruntime")
    package(site, "onnxruntime-gpu", "1.20.0")
    (problem,) = unmet(facts.Packages([site]), ["onnxruntime>=1.24"])
    assert problem.installed == "onnxruntime-gpu 1.20.0"
    assert problem.problem == "too-old"
    assert unmet(facts.Packages([site]), ["onnxruntime>=1.19"]) == []


def test_a_package_of_the_family_serves_under_any_name_but_not_without_the_extras(site):
    """onnxruntime in place of onnxruntime-gpu, as on a machine that runs it on the CPU."""
    packages = facts.Packages([site])
    assert unmet(packages, ["onnxruntime-gpu>=1.24"]) == []
    (problem,) = unmet(packages, ["onnxruntime-gpu>=1.32"])
    assert (problem.installed, problem.problem) == ("onnxruntime 1.31.1", "too-old")
    (problem,) = unmet(packages, ["onnxruntime-gpu[cuda]>=1.24"])  # the one for CPUs has none
    assert (problem.requirement, problem.problem) == ("onnxruntime-gpu[cuda]>=1.24", "missing")


def test_extras_of_a_release_that_is_excluded_are_not_asked_for(site):
    """1.31 asks for CUDA 13, which the extra cuda12 does not lack."""
    onnxruntime_gpu(site, 13)
    (problem,) = unmet(facts.Packages([site]), ["onnxruntime-gpu[cuda]<1.27"])
    assert (problem.installed, problem.problem) == ("onnxruntime-gpu 1.31.1", "too-new")
    remove(site, "onnxruntime-gpu")
    onnxruntime_gpu(site, 12)
    (problem,) = unmet(facts.Packages([site]), ["onnxruntime-gpu[cuda]<1.27"])
    assert (problem.name, problem.problem) == ("nvidia-cuda-runtime-cu12", "missing")
