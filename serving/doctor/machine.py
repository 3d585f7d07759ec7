"""The machine: processor, memory, disk and GPUs, read from the files of the system."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from serving import main_memory, processor, system_files

DRIVER = "proc/driver/nvidia"
UNKNOWN = "unknown"  # version of a driver, which WSL2 has in no file
# WSL2 has one device for the GPUs of all makers; the library of CUDA is there with NVIDIA's driver.
_WSL = "dev/dxg"
_WSL_CUDA = ("usr/lib/wsl/lib", "usr/lib/wsl/drivers/*", "usr/lib/x86_64-linux-gnu")


class Machine(NamedTuple):
    """Facts of the machine. Sizes are in bytes; None is unknown.

    Args:
        system: name of the operating system.
        processor: name of the processor.
        flags: its feature flags, as Linux lists them.
        cpus: number of CPUs that a process may use.
        memory: size of the memory, or the limit of the container if that is smaller.
        free_memory: memory that a program can get.
        disk: free bytes of folders: the current one and that of temporary files.
        driver: version of NVIDIA's driver; empty without one, and `UNKNOWN` in WSL2.
        gpus: names of the GPUs that the driver lists.
        device_files: number of GPUs that this process can open; 1 in WSL2.
        temporary: the folder of temporary files; empty if none can be written.
    """

    system: str
    processor: str
    flags: frozenset[str]
    cpus: int
    memory: int | None
    free_memory: int | None
    disk: dict[str, int]
    driver: str
    gpus: tuple[str, ...]
    device_files: int
    temporary: str

    @property
    def has_gpu(self) -> bool:
        """True if there is a driver and a GPU that this process can open."""
        return bool(self.driver and self.device_files)

    @property
    def lists_gpus(self) -> bool:
        """True on Linux, the only system whose files show the driver and the GPUs."""
        return self.system.startswith("Linux")

    def as_dict(self) -> dict[str, Any]:
        """Returns the facts for `--json`, the features in place of the flags."""
        found = self._asdict()
        del found["flags"]
        found["features"] = processor.features(self.flags)
        return found | {"gpus": list(self.gpus)}


def read(root: Path) -> Machine:
    """Reads the facts of the machine.

    Args:
        root: folder in which the system's files are, `/` for this machine.
    """
    total, free = main_memory.read(root)
    temporary = _temporary()
    driver, device_files = (
        driver_version(system_files.read(root / DRIVER / "version")),
        _device_files(root),
    )
    if not driver and not device_files and _is_wsl_with_cuda(root):
        driver, device_files = UNKNOWN, 1
    return Machine(
        system=platform.platform(),
        processor=processor.name(root),
        flags=frozenset(processor.flags(root)),
        cpus=processor.cpus(),
        memory=total,
        free_memory=free,
        disk=_disk(temporary),
        driver=driver,
        gpus=tuple(_gpus(root)),
        device_files=device_files,
        temporary=temporary,
    )


def driver_version(text: str) -> str:
    """Returns the version in the driver's file `version`; empty if there is none.

    Its first line is `NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat ...`, and
    `NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build ...` of open modules.
    """
    found = re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", text)
    return found[1] if found else ""


def _temporary() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return ""


def _disk(temporary: str) -> dict[str, int]:
    found = {}
    with contextlib.suppress(OSError):  # the current folder may have been removed
        found[os.getcwd()] = shutil.disk_usage(os.getcwd()).free
    with contextlib.suppress(OSError):
        found[temporary] = shutil.disk_usage(temporary).free
    return found


def _gpus(root: Path) -> Iterator[str]:
    for path in sorted((root / DRIVER / "gpus").glob("*/information")):
        found = re.search(r"^Model:\s*(.+)$", system_files.read(path), re.MULTILINE)
        yield found[1].strip() if found else path.parent.name


def _device_files(root: Path) -> int:
    names = (path.name for path in (root / "dev").glob("nvidia*"))
    return sum(re.fullmatch(r"nvidia\d+", name) is not None for name in names)


def _is_wsl_with_cuda(root: Path) -> bool:
    libraries = (found for x in _WSL_CUDA for found in root.glob(f"{x}/libcuda.so*"))
    return (root / _WSL).exists() and next(libraries, None) is not None
