"""The golden samples of a bundle, which every runtime must reproduce."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from export.errors import one_line
from export.generator import Generator
from export.manifest import Manifest
from keras_gan import UsageError
from keras_gan.latents import labels_from_seeds, latents_from_seeds

FILE_NAME = "golden.npz"
# Small seeds, and two that need more than 32 bits.
_SEEDS = (*range(14), 2**32, 2**63 - 1)
_MAX_BYTES = 64 * 2**20  # of the samples


def write_golden(generator: Generator, folder: Path, num_classes: int) -> None:
    """Writes golden seeds, inputs and outputs, as Keras computes them on the CPU.

    Raises:
        UsageError: an output is not finite.
    """
    sample_bytes = sum(4 * math.prod(spec.shape[1:]) for spec in generator.output_specs)
    count = min(len(_SEEDS), max(2, _MAX_BYTES // sample_bytes))
    seeds = np.array(_SEEDS[-count:], np.int64)
    inputs = {"latents": latents_from_seeds(seeds, generator.latent_dim).numpy()}
    if generator.conditional:
        inputs["labels"] = labels_from_seeds(seeds, num_classes).numpy()
    rng = np.random.default_rng(0)
    for spec in generator.extra_inputs:
        inputs[spec.name] = example_values(rng, (count, *spec.shape[1:]), spec.dtype.as_numpy_dtype)
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        outputs = run_on_cpu(generator, inputs)
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(tf32)
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            raise UsageError(
                f"The {name} of a generator must be finite. Received: "
                f"{int((~np.isfinite(values)).sum())} of {values.size} values not finite"
            )
    arrays: dict[str, Any] = {"seeds": seeds, **inputs, **outputs}
    np.savez(folder / FILE_NAME, **arrays)


def run_on_cpu(generator: Generator, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs of a generator as Keras computes them on the CPU, by name."""
    with tf.device("/CPU:0"):
        return {name: x.numpy() for name, x in generator.run(inputs).items()}


def example_values(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Returns values for an input that no seed determines: normal floats, or integers 0 and 1."""
    floats = np.issubdtype(np.dtype(dtype), np.floating)
    values = rng.normal(size=shape) if floats else rng.integers(0, 2, shape)
    return values.astype(dtype)


def load_golden(bundle: Path) -> dict[str, np.ndarray]:
    """Reads the golden seeds, inputs and outputs of a bundle that was checked."""
    with np.load(bundle / FILE_NAME, allow_pickle=False) as golden:
        return dict(golden)


def check_golden(bundle: Path, manifest: Manifest) -> list[str]:
    """Checks the golden samples; returns at most one line that describes a problem.

    The headers are compared with the manifest before any array is read, so that a file from a
    stranger can neither claim more memory than it has bytes nor run a pickle.
    """
    try:
        with zipfile.ZipFile(bundle / FILE_NAME) as archive:
            problem = _check_headers(archive, manifest)
        return [problem] if problem else _check_values(load_golden(bundle), manifest)
    except Exception as error:  # zipfile and numpy raise many classes
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
        shape, found, complete = _read_header(archive, f"{name}.npy")
        if found != np.dtype(dtype) or shape[1:] != rest or not shape or shape[0] < 1:
            return f"{name} of {FILE_NAME} must fit the manifest: {found} {shape!r:.80}"
        if not complete:
            return f"{name} of {FILE_NAME} must have the bytes that its header claims"
        counts.add(shape[0])
    if len(counts) == 1:
        return None
    return f"The arrays of {FILE_NAME} must have the same length: {sorted(counts)}"


def _read_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Returns shape and dtype, and whether exactly that many bytes follow, uncompressed."""
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
