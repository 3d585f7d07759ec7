"""CUDA's libraries in packages and folders, and the generation of CUDA that each needs.

`nvidia-cudnn-cu12` and `nvidia-cudnn-cu13` unpack to the same files, so that the list of installed
packages does not say which of them is there. The files do: cuDNN opens cuBLAS by a name that ends
in the generation, and each package records the size and the hash of its files.
"""

from __future__ import annotations

import base64
import contextlib
import glob
import hashlib
import mmap
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from serving import system_files
from serving.doctor.packages import Package, Packages, RecordedFile

CUDNN = "libcudnn.so.9"
# Parts of cuDNN that name the cuBLAS they open, the smaller one first.
_NAMES_CUBLAS = ("libcudnn_adv.so.9", "libcudnn_engines_precompiled.so.9")
_CUBLAS = b"libcublasLt.so."
_MOST_HASHED = 2**20  # bytes; larger files are compared by their size
_SYSTEM = ("usr/local/cuda/lib64", "usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib/wsl/lib")

# Libraries that a build for a generation of CUDA opens (TensorFlow 2.21, onnxruntime-gpu 1.26
# and 1.31), whose names differ from one generation to the next.
TENSORFLOW = {
    12: (
        *("libcudart.so.12", "libcublas.so.12", "libcublasLt.so.12", "libcufft.so.11"),
        *("libcusolver.so.11", "libcusparse.so.12", CUDNN),
    )
}
ONNXRUNTIME = {
    12: ("libcudart.so.12", "libcublas.so.12", "libcublasLt.so.12", "libcufft.so.11", CUDNN),
    13: ("libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13", "libcufft.so.12", CUDNN),
}


class Library(NamedTuple):
    """File of a library.

    Args:
        name: name of the file, such as `libcudart.so.12`.
        path: its place.
        source: "package", "conda", "LD_LIBRARY_PATH" or "system".
        size: its bytes.
    """

    name: str
    path: Path
    source: str
    size: int


class Cudnn(NamedTuple):
    """A folder with cuDNN.

    Args:
        folder: the folder.
        source: as of `Library`.
        generations: the generation of CUDA that each file is for, as far as the file or the
            package that it belongs to says so.
    """

    folder: Path
    source: str
    generations: dict[str, int]

    @property
    def generation(self) -> int | None:
        """The generation of CUDA of all files; None if it is unknown, or if they differ."""
        found = set(self.generations.values())
        return found.pop() if len(found) == 1 else None


class Cuda(NamedTuple):
    """CUDA's libraries, and the generations that the packages are built for.

    Args:
        libraries: the libraries that were found, those of packages first.
        cudnns: the folders with cuDNN, in the same order.
        tensorflow: generation of CUDA that TensorFlow is built for; None for a build without CUDA.
        onnxruntime: the same of onnxruntime.
        onnxruntime_package: name of the package whose files of onnxruntime are installed.
    """

    libraries: list[Library]
    cudnns: list[Cudnn]
    tensorflow: int | None
    onnxruntime: int | None
    onnxruntime_package: str

    def missing(self, names: Sequence[str]) -> list[str]:
        """Returns which of these libraries were not found."""
        return [name for name in names if all(name != x.name for x in self.libraries)]

    def has_runtime(self, generation: int | None) -> bool:
        """Returns True if the CUDA runtime of a generation was found."""
        return not self.missing([f"libcudart.so.{generation}"])

    def of_packages(self, prefix: str) -> list[Library]:
        """Returns the libraries of packages whose names begin so."""
        found = (x for x in self.libraries if x.source == "package")
        return [x for x in found if x.name.startswith(prefix)]

    def as_dict(self) -> dict[str, Any]:
        """Returns the facts for `--json`."""
        cudnns = [
            {"folder": str(x.folder), "source": x.source, "generations": x.generations}
            for x in self.cudnns
        ]
        cudarts = [x for x in self.libraries if x.name.startswith("libcudart.")]
        return {
            "tensorflow": self.tensorflow,
            "onnxruntime": self.onnxruntime,
            "onnxruntime_package": self.onnxruntime_package,
            "cudart": [{"file": str(x.path), "source": x.source} for x in cudarts],
            "cudnn": cudnns,
        }


def read(packages: Packages, variables: Mapping[str, str], root: Path) -> Cuda:
    """Finds the libraries of CUDA.

    Args:
        packages: the installed packages.
        variables: the environment, for LD_LIBRARY_PATH.
        root: folder in which the system's files are.
    """
    libraries = list(_libraries(packages, variables, root))
    folders = {x.path.parent: x.source for x in libraries if x.name.startswith("libcudnn")}
    name, onnxruntime = _onnxruntime(packages)
    return Cuda(
        libraries,
        [_cudnn(folder, source, packages) for folder, source in folders.items()],
        _tensorflow(packages),
        onnxruntime,
        name,
    )


def _libraries(packages: Packages, variables: Mapping[str, str], root: Path) -> Iterator[Library]:
    given = [Path(x) for x in variables.get("LD_LIBRARY_PATH", "").split(os.pathsep) if x]
    places = [
        (top / name, "package")
        for top in packages.folders
        for name in glob.glob("nvidia/*/lib", root_dir=top)
    ]
    places += [(top.parents[1], "conda") for top in packages.folders if _is_of_conda(top)]
    places += [(x, "LD_LIBRARY_PATH") for x in given]
    places += [(root / x, "system") for x in _SYSTEM]
    seen = set()
    for folder, source in places:
        resolved = os.path.realpath(folder)
        if resolved not in seen:  # LD_LIBRARY_PATH may name the folders of packages
            seen.add(resolved)
            # Unlike Path.glob, this does not fail in a folder that must not be read.
            names = sorted(glob.glob("libcu*.so*", root_dir=folder))
            for path in map(folder.joinpath, names):
                with contextlib.suppress(OSError):  # a link to nothing
                    yield Library(path.name, path, source, path.stat().st_size)


def _is_of_conda(folder: Path) -> bool:
    """Returns True for `ENVIRONMENT/lib/python3.N/site-packages` of conda."""
    return len(folder.parents) > 2 and os.path.isdir(folder.parents[2] / "conda-meta")


# ------------------------------------------------------------------------------ cuDNN


def _cudnn(folder: Path, source: str, packages: Packages) -> Cudnn:
    generations = {}
    for path in sorted(folder.glob("libcudnn*.so.9")):
        found = _generation_of_file(path) if path.name in _NAMES_CUBLAS else None
        if found is None:
            owners = {_generation_of_name(x.name) for x in owners_of(path, packages)} - {None}
            found = owners.pop() if len(owners) == 1 else None
        if found is not None:
            generations[path.name] = found
    return Cudnn(folder, source, generations)


def _generation_of_file(path: Path) -> int | None:
    """Returns the generation of CUDA whose cuBLAS a part of cuDNN opens."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            at = data.find(_CUBLAS)
            found = re.match(rb"\d+", data[at + len(_CUBLAS) :][:4]) if at >= 0 else None
    except (OSError, ValueError):  # ValueError: an empty file
        return None
    return int(found[0]) if found else None


def _generation_of_name(name: str) -> int | None:
    found = re.search(r"-cu(\d+)$", name)
    return int(found[1]) if found else None


def owners_of(path: Path, packages: Packages) -> list[Package]:
    """Returns the packages that list this file and recorded the content that it has."""
    return [x for x, entry in _entries(path, packages) if _matches(path, entry)]


def listed_by(path: Path, packages: Packages) -> list[Package]:
    """Returns the packages that list this file, whichever of them it was installed from."""
    return [package for package, _ in _entries(path, packages)]


def _entries(path: Path, packages: Packages) -> Iterator[tuple[Package, RecordedFile]]:
    for package in packages:
        with contextlib.suppress(ValueError):  # the file is not in the folder of the package
            name = path.relative_to(package.folder).as_posix()
            if name in package.files:
                yield package, package.files[name]


def _matches(path: Path, entry: RecordedFile) -> bool:
    try:
        size = path.stat().st_size
        if entry.size and int(entry.size) != size:
            return False
        if size > _MOST_HASHED or not entry.hash.startswith("sha256="):
            return True
        digest = hashlib.sha256(path.read_bytes()).digest()
    except (OSError, ValueError):
        return False
    encoded = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return entry.hash == f"sha256={encoded}"


# --------------------------------------------------------- generations of the builds


def _tensorflow(packages: Packages) -> int | None:
    """Reads it from TensorFlow's record of its build, or from the packages that it asks for."""
    path = packages.find("tensorflow/python/platform/build_info.py")
    text = system_files.read(path) if path else ""
    if text:
        return _major(r"'cuda_version', '(\d+)", text)
    package = packages.any_of("tensorflow")
    return _asked_for(package) if package else None


def _onnxruntime(packages: Packages) -> tuple[str, int | None]:
    """Returns the name of the package that is there, and its generation of CUDA."""
    path = packages.find("onnxruntime/capi/build_and_package_info.py")
    text = system_files.read(path) if path else ""
    installed = packages.all_of("onnxruntime")
    names = re.search(r"^package_name = '([^']+)'", text, re.MULTILINE)
    name = names[1] if names else installed[-1].name if installed else ""
    found = _major(r"^cuda_version = '(\d+)", text)
    package = packages.get(name)
    if found is None and not text and package is not None and name == "onnxruntime-gpu":
        found = _asked_for(package)
    return name, found


def _major(pattern: str, text: str) -> int | None:
    found = re.search(pattern, text, re.MULTILINE)
    return int(found[1]) if found else None


def _asked_for(package: Package) -> int | None:
    """Returns the generation of the CUDA runtime among a package's requirements."""
    for line in package.requires:
        found = re.match(r"nvidia-cuda-runtime(?:-cu(\d+)|\D*(\d+))", line)
        if found:
            return int(found[1] or found[2])
    return None
