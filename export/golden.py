"""The golden samples of a bundle, which every runtime must reproduce."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from export.draws import fill_inputs
from export.errors import one_line, writing
from export.layer_outputs import recorded_layers
from export.manifest import MAX_SIZES, Manifest
from export.network import Network
from export.sizes import Sizes, resolve
from keras_gan import UsageError
from serving import kinds
from serving.inputs import SEEDED, Input

FILE_NAME = "golden.npz"
# Of a network with named sizes: the same at other sizes, more of them of one for pictures.
OTHER_SIZES = ("golden_sizes.npz", *(f"golden_sizes_{n}.npz" for n in range(2, MAX_SIZES)))
FILES = (FILE_NAME, *OTHER_SIZES)
# Small seeds, and two that need more than 32 bits.
_SEEDS = (*range(14), 2**32, 2**63 - 1)
_PICTURES = 4  # examples at each of the further sizes of a network for pictures
_MAX_BYTES = 64 * 2**20  # of the samples


def golden_files(manifest: Manifest) -> tuple[str, ...]:
    """Returns the names of the golden files of a bundle, one for each tested set of sizes."""
    return FILES[: len(manifest.sizes)]


def write_golden(network: Network, folder: Path) -> None:
    """Writes golden seeds, inputs and outputs, as Keras computes them on the CPU.

    Raises:
        UsageError: an output is not finite.
    """
    for file, sizes in zip(FILES, network.sizes, strict=False):
        shapes = [resolve(port.shape, sizes) for port in (*network.inputs, *network.outputs)]
        per_sample = 4 * sum(math.prod(shape) for shape in shapes[len(network.inputs) :])
        most = len(_SEEDS) if file in (FILE_NAME, OTHER_SIZES[0]) else _PICTURES
        count = min(most, max(2, _MAX_BYTES // max(per_sample, 1)))
        seeds = np.array(_SEEDS[-count:], np.int64)
        inputs = example_inputs(network.inputs, seeds, sizes, np.random.default_rng(0))
        outputs = _run_checked(network, inputs)
        for name, values in outputs.items():
            if not np.isfinite(values).all():
                raise UsageError(
                    f"The {name} of a network must be finite. Received: "
                    f"{int((~np.isfinite(values)).sum())} of {values.size} values not finite"
                )
        arrays: dict[str, Any] = {**inputs, **outputs}
        seeded = {"seeds": seeds} if _is_seeded(network.inputs) else {}
        with writing(folder / file):
            np.savez(folder / file, **seeded, **arrays)


def _run_checked(network: Network, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Runs a network; an error names the layer that fails."""
    with recorded_layers(network.model, keep=False) as calls:
        try:
            return run_exactly(network, inputs)
        except Exception as error:  # the user's layers may raise anything
            where = calls.describe(calls.failed) if calls.failed else "a computation"
            raise UsageError(
                "A network must run on its example inputs. "
                f"Received: model {network.model.name!r}, where {where} fails: {one_line(error)}"
            ) from error


def _is_seeded(inputs: tuple[Input, ...]) -> bool:
    return any(port.fill in SEEDED for port in inputs)


def example_inputs(
    inputs: tuple[Input, ...], seeds: np.ndarray, sizes: Sizes, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Returns the inputs that seeds determine, and example values of the given ones.

    Args:
        inputs: the inputs of a network.
        seeds: int64 `(batch,)`.
        sizes: a value of every named size.
        rng: source of the example values.
    """
    given = {
        port.name: example_values(rng, (len(seeds), *resolve(port.shape, sizes)), port)
        for port in inputs
        if port.fill == "given"
    }
    filled = fill_inputs(inputs, given, tf.constant(seeds, tf.int64))
    return {port.name: np.asarray(filled[port.name]) for port in inputs}


def example_values(rng: np.random.Generator, shape: tuple[int, ...], port: Input) -> np.ndarray:
    """Returns values for an input that no seed determines.

    They are those of its kind, if it has examples. Otherwise floats are normal, or uniform in the
    range of the port; integers are 0 and 1.
    """
    examples = kinds.get(port.kind).examples(rng, shape, port.meta)
    if examples is not None:
        return examples.astype(port.dtype)
    if not port.dtype.startswith("float"):
        values = rng.integers(0, 2, shape)
    elif port.meta.get("value_range"):
        low, high = port.meta["value_range"]
        values = rng.uniform(low, high, shape)
    else:
        values = rng.normal(size=shape)
    return values.astype(port.dtype)


def run_exactly(network: Network, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs of a network as Keras computes them on the CPU in full float32."""
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        return run_on_cpu(network, inputs)
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(tf32)


def run_on_cpu(network: Network, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs of a network as Keras computes them on the CPU, by name."""
    with tf.device("/CPU:0"):
        return {name: x.numpy() for name, x in network.run(inputs).items()}


def load_golden(bundle: Path, file: str = FILE_NAME) -> dict[str, np.ndarray]:
    """Reads the golden seeds, inputs and outputs of a bundle that was checked."""
    with np.load(bundle / file, allow_pickle=False) as golden:
        return dict(golden)


def rows_of(golden: Mapping[str, np.ndarray], batch: int) -> np.ndarray:
    """Returns the rows of a batch: the first ones, repeated as needed."""
    return np.resize(np.arange(len(next(iter(golden.values())))), batch)


def check_golden(bundle: Path, manifest: Manifest) -> list[str]:
    """Checks the golden samples; returns at most one line for each file that has a problem.

    The headers are compared with the manifest before any array is read, so that a file from a
    stranger can neither claim more memory than it has bytes nor run a pickle.
    """
    problems = []
    for file, sizes in zip(golden_files(manifest), manifest.sizes, strict=True):
        try:
            with zipfile.ZipFile(bundle / file) as archive:
                problem = _check_headers(archive, manifest, sizes, file)
            if problem is None:
                problems += _check_values(load_golden(bundle, file), manifest, file)
            else:
                problems.append(problem)
        except Exception as error:  # zipfile and numpy raise many classes
            problems.append(f"{file} must be readable by numpy: {one_line(error)}")
    return problems


def _check_headers(
    archive: zipfile.ZipFile, manifest: Manifest, sizes: Sizes, file: str
) -> str | None:
    expected = {"seeds": ("int64", ())} if _is_seeded(manifest.inputs) else {}
    expected |= {
        port.name: (port.dtype, resolve(port.shape, sizes))
        for port in (*manifest.inputs, *manifest.outputs)
    }
    names = sorted(info.filename for info in archive.infolist())
    if names != sorted(f"{name}.npy" for name in expected):
        return f"{file} must hold {', '.join(sorted(expected))}: it holds {names!r:.80}"
    counts = set()
    for name, (dtype, rest) in expected.items():
        shape, found, complete = _read_header(archive, f"{name}.npy")
        if found != np.dtype(dtype) or shape[1:] != rest or not shape or shape[0] < 1:
            return f"{name} of {file} must fit the manifest: {found} {shape!r:.80}"
        if not complete:
            return f"{name} of {file} must have the bytes that its header claims"
        counts.add(shape[0])
    if len(counts) == 1:
        return None
    return f"The arrays of {file} must have the same length: {sorted(counts)}"


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


def _check_values(golden: dict[str, np.ndarray], manifest: Manifest, file: str) -> list[str]:
    rules = {name: np.isfinite(values).all() for name, values in golden.items()}
    if "seeds" in golden:
        rules["seeds"] = (golden["seeds"] >= 0).all()
    if manifest.classes is not None:
        labels = golden[manifest.classes.name]
        rules[manifest.classes.name] = (
            (labels >= 0) & (labels < manifest.classes.num_classes)
        ).all()
    return [f"{name} of {file} must be in range" for name, ok in rules.items() if not ok]
