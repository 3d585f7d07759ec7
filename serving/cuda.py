"""CUDA versions in an environment and in a process: which onnxruntime can use the GPU there.

TensorFlow 2.21 brings CUDA 12, onnxruntime-gpu CUDA 13 from version 1.27 on. cuDNN does not support
two CUDA runtimes in a process, and its packages for the two overwrite each other's files.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import re
import sys
from pathlib import Path

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
    try:
        libraries = _MAPS.read_text("utf-8", "replace")
    except OSError:
        return set()
    return {int(version) for version in re.findall(r"/libcudart\.so\.(\d+)", libraries)}


def installed_cudnn() -> set[int]:
    """Returns the major versions of CUDA that the installed cuDNN packages are built for."""
    return {version for version in _KNOWN if _is_installed(f"nvidia-cudnn-cu{version}")}


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def obstacle(version: str | None) -> str | None:
    """Returns why onnxruntime must leave the GPU alone in this process, or `None`.

    Args:
        version: the CUDA version that onnxruntime is built for, `onnxruntime.cuda_version`.
    """
    if not version:
        return "an onnxruntime that is built without CUDA"
    wanted = int(version.partition(".")[0])
    built = f"and onnxruntime is built for CUDA {wanted}"
    for other in sorted(loaded_runtimes() - {wanted}):
        return f"CUDA {other} is loaded in this process, as by TensorFlow, {built}"
    for other in sorted(installed_cudnn() - {wanted}):
        return f"cuDNN for CUDA {other} is installed in this environment, {built}"
    return None
