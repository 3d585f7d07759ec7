"""The golden samples of a bundle: what every runtime must reproduce."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np

from export.generator import one_line
from export.manifest import Manifest

FILE_NAME = "golden.npz"


def load_golden(bundle: Path) -> dict[str, np.ndarray]:
    """Reads the golden seeds, inputs and outputs of a bundle that was checked."""
    with np.load(bundle / FILE_NAME, allow_pickle=False) as golden:
        return dict(golden)


def check_golden(bundle: Path, manifest: Manifest) -> list[str]:
    """Says what is wrong with the golden samples: a line, or none.

    The headers are held against the manifest before any array is read, so that a file from a
    stranger can neither claim more memory than it has bytes nor run a pickle.
    """
    try:
        with zipfile.ZipFile(bundle / FILE_NAME) as archive:
            problem = _check_headers(archive, manifest)
        return [problem] if problem else _check_values(load_golden(bundle), manifest)
    except Exception as error:  # zipfile and numpy have many
        return [f"{FILE_NAME} must be readable by numpy: {one_line(error)}"]


def _check_headers(archive: zipfile.ZipFile, manifest: Manifest) -> str | None:
    expected = {"seeds": ("int64", ())} | {
        port["name"]: (port["dtype"], tuple(port["shape"][1:]))
        for port in (*manifest.inputs, *manifest.outputs)
    }
    names = sorted(info.filename for info in archive.infolist())
    if names != sorted(f"{name}.npy" for name in expected):
        return f"{FILE_NAME} must hold {', '.join(sorted(expected))}: it holds {names!r:.80}"
    counts = set()
    for name, (dtype, rest) in expected.items():
        shape, found, whole = _read_header(archive, f"{name}.npy")
        if found != np.dtype(dtype) or shape[1:] != rest or not shape or shape[0] < 1:
            return f"{name} of {FILE_NAME} must fit the manifest: {found} {shape!r:.80}"
        if not whole:
            return f"{name} of {FILE_NAME} must have the bytes that its header claims"
        counts.add(shape[0])
    return None if len(counts) == 1 else f"{FILE_NAME} must have as many of each: {sorted(counts)}"


def _read_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Gives shape and dtype, and whether just as many bytes follow, stored as they are."""
    info = archive.getinfo(name)
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        one = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if one else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        size = file.tell() + math.prod(shape) * dtype.itemsize
    return shape, dtype, info.file_size == size and info.compress_type == zipfile.ZIP_STORED


def _check_values(golden: dict[str, np.ndarray], manifest: Manifest) -> list[str]:
    rules = {name: np.isfinite(values).all() for name, values in golden.items()}
    rules["seeds"] = (golden["seeds"] >= 0).all()
    if "labels" in golden:
        labels = golden["labels"]
        rules["labels"] = ((labels >= 0) & (labels < manifest.classes["count"])).all()
    return [f"{name} of {FILE_NAME} must be in range" for name, ok in rules.items() if not ok]
