"""Processor of the machine: its name, its features, and the precisions that they make fast."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection
from pathlib import Path

from serving import system_files

# Flags of Linux, any of which is the feature.
FEATURES: dict[str, tuple[str, ...]] = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "BF16": ("avx512_bf16", "amx_bf16"),
    "AMX": ("amx_tile",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
}


def name(root: Path = Path("/")) -> str:
    """Returns the processor's name, or its architecture where the system does not report one."""
    for line in _lines(root):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def flags(root: Path = Path("/")) -> set[str]:
    """Returns the processor's feature flags as Linux lists them; an empty set elsewhere."""
    for line in _lines(root):
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()


def cpus() -> int:
    """Returns the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _lines(root: Path) -> list[str]:
    return system_files.read(root / "proc" / "cpuinfo").splitlines()


def features(found: Collection[str]) -> dict[str, bool]:
    """Returns which features of `FEATURES` a processor with these flags has."""
    return {key: any(flag in found for flag in any_of) for key, any_of in FEATURES.items()}


def multiplies_bfloat16(found: Collection[str]) -> bool:
    """Returns True if a processor with these flags has native bfloat16 products."""
    return features(found)["BF16"]


def multiplies_bytes(found: Collection[str]) -> bool:
    """Returns True if a processor with these flags has exact products of bytes: VNNI or AMX."""
    return features(found)["VNNI"] or "amx_int8" in found


def automatic_precision(found: Collection[str], has_gpu: bool) -> str:
    """Returns the training precision that "auto" stands for.

    Args:
        found: the processor's flags.
        has_gpu: True if TensorFlow has a GPU, for which "auto" is float32.
    """
    return "bfloat16" if multiplies_bfloat16(found) and not has_gpu else "float32"
