"""CUDA versions in an environment and in a process: which onnxruntime can use the GPU there.

TensorFlow 2.21 brings CUDA 12, onnxruntime-gpu CUDA 13 from version 1.27 on. cuDNN does not support
two CUDA runtimes in a process, and its packages for the two overwrite each other's files.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import re
import sys
from collections.abc import Callable, Set
from pathlib import Path

from serving import system_files

_MAPS = Path("/proc/self/maps")
_KNOWN = range(11, 20)  # major versions of CUDA that a package of cuDNN may be named after


def has_driver() -> bool:
    """Looks for the CUDA driver, without which onnxruntime would print an error."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def loaded_runtimes() -> set[int]:
    """Returns the major versions of the CUDA runtimes in this process; on Linux only."""
    libraries = system_files.read(_MAPS)
    return {int(version) for version in re.findall(r"/libcudart\.so\.(\d+)", libraries)}


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def installed_cudnn(is_installed: Callable[[str], bool] = _is_installed) -> set[int]:
    """Returns the major versions of CUDA that the installed cuDNN packages are built for.

    Args:
        is_installed: returns True for the name of an installed package; by default it looks in
            this environment.
    """
    return {version for version in _KNOWN if is_installed(f"nvidia-cudnn-cu{version}")}


def obstacle(
    version: str | None, loaded: Set[int] | None = None, cudnn: Set[int] | None = None
) -> str | None:
    """Returns why onnxruntime must leave the GPU alone in a process, or `None`.

    Args:
        version: the CUDA version that onnxruntime is built for, `onnxruntime.cuda_version`.
        loaded: major versions of the CUDA runtimes in the process; by default those of this one.
        cudnn: major versions of CUDA of the installed cuDNN packages; by default those of this
            environment.
    """
    if not version:
        return "an onnxruntime that is built without CUDA"
    wanted = int(version.partition(".")[0])
    built = f"and onnxruntime is built for CUDA {wanted}"
    for other in sorted((loaded_runtimes() if loaded is None else loaded) - {wanted}):
        return f"CUDA {other} is loaded in this process, as by TensorFlow, {built}"
    for other in sorted((installed_cudnn() if cudnn is None else cudnn) - {wanted}):
        return f"cuDNN for CUDA {other} is installed in this environment, {built}"
    return None
