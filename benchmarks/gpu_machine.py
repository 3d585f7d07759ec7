"""The machine that `gpu.py` runs on: its GPU, processor, memory and number formats."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import platform
import subprocess

from serving import main_memory, processor


@dataclasses.dataclass(frozen=True)
class Machine:
    """The device of the measurements and the machine that it is in.

    Args:
        device: "gpu" or "cpu".
        name: of the GPU or the processor.
        driver: version of the GPU's driver; "" for a CPU.
        gib: memory of the device.
        cores: processor cores that this process may use.
        formats: precisions in which the device has products.
        why: reason for which the CPU is used; "" if it was asked for.
    """

    device: str
    name: str
    driver: str
    gib: float
    cores: int
    formats: tuple[str, ...]
    why: str = ""
    system: str = dataclasses.field(default_factory=platform.platform)

    @property
    def line(self) -> str:
        """A line about the device."""
        if self.device == "gpu":
            return f"device: {self.name}, {self.gib:.0f} GiB, driver {self.driver}"
        why = f" ({self.why})" if self.why else ""
        return (
            f"device: CPU{why}: {self.name}, {self.cores} cores; small batches, and no figure of "
            "this table is one of a GPU"
        )

    @property
    def processes(self) -> int:
        """Number of processes that are prepared together.

        On a CPU it is one, because one that waits for its turn still compiles and allocates.
        """
        return max(1, min(8, self.cores // 2)) if self.device == "gpu" else 1


def find(device: str) -> Machine:
    """Returns the machine.

    Args:
        device: "auto" for the first GPU if there is one, "gpu" or "cpu".

    Raises:
        ValueError: a GPU was asked for, and there is none.
    """
    found, why = _gpu() if device != "cpu" else (None, "")
    if found is None and device == "gpu":
        raise ValueError(f"--device gpu needs a GPU. Received: {why}")
    return found or _cpu(why)


def _gpu() -> tuple[Machine | None, str]:
    """Returns the first visible GPU, or None and the reason."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    which = visible.split(",")[0].strip()
    if which in ("", "-1"):  # both hide all of them from CUDA, not from nvidia-smi
        return None, f"CUDA_VISIBLE_DEVICES={visible}"
    fields = "name,driver_version,memory.total,compute_cap"
    query = ["nvidia-smi", "-i", which, f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return None, "no nvidia-smi, so no GPU"
    except subprocess.TimeoutExpired:
        return None, "nvidia-smi did not answer in 20 s"
    if done.returncode or done.stdout.count(",") != 3:
        said = " ".join((done.stdout + done.stderr).split())[:100]
        return None, f"nvidia-smi finds no GPU: {said}"
    return from_query(done.stdout), ""


def from_query(line: str) -> Machine:
    """Returns the machine with a GPU from what nvidia-smi prints: name, driver, MiB, capability."""
    name, driver, memory, capability = (part.strip() for part in line.strip().split(","))
    # TF32 and bfloat16 came with the compute capability 8.0 (Ampere). Either field may be [N/A].
    major = capability.split(".")[0]
    ampere = not major.isdigit() or int(major) >= 8
    formats = ("float32", "tf32", "bfloat16") if ampere else ("float32",)
    # A GPU without memory of its own shares the machine's.
    gib = float(memory) / 1024 if memory.isdigit() else _memory_gib()
    return Machine("gpu", name, driver, gib, processor.cpus(), formats)


def _cpu(why: str) -> Machine:
    has_bfloat16 = processor.multiplies_bfloat16(processor.flags())
    formats = ("float32", "bfloat16") if has_bfloat16 else ("float32",)
    return Machine("cpu", processor.name(), "", _memory_gib(), processor.cpus(), formats, why)


def _memory_gib() -> float:
    size, _ = main_memory.read(pathlib.Path("/"))
    if size is None:  # not on Linux
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return size / 2**30
