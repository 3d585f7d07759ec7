"""Arrays in a .npz or .npy file: images or points, with or without labels."""

from __future__ import annotations

import dataclasses
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_gan.datasets.decoding import check_memory_limit
from keras_gan.datasets.source import (
    MEMORY_LIMIT,
    OwnSplitsError,
    Source,
    Split,
    UnknownRangeError,
    hold_out,
    is_number,
)
from keras_gan.errors import UsageError
from keras_gan.spec import Spec

_SAMPLE_KEYS = ("x", "images", "samples", "data")
_LABEL_KEYS = ("y", "labels")


def open(
    path: str | os.PathLike[str],
    *,
    layout: str = "NHWC",
    value_range: Sequence[float] | None = None,
    labels: bool = True,
    class_names: Sequence[str] = (),
    held_out: float | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Source:
    """Opens a .npy file with samples, or a .npz file with samples and perhaps labels.

    In a .npz file samples are called `x`, `images`, `samples` or `data`, labels `y` or
    `labels`; or, as in Keras's own files, `x_train`, `y_train`, `x_test` and `y_test`. An
    only array may have any name. Pickled objects are never loaded.

    Args:
        path: the file. A .npy file larger than `memory_limit` is read from the disk as needed.
        layout: `"NHWC"`, or `"NCHW"` for images with the channels first.
        value_range: smallest and largest value of the images; needed for floating-point images
            unless they are in [-1, 1]; (0, 255) for uint8.
        labels: whether labels are used.
        class_names: names of the classes, in the order of the ids.
        held_out: share of the samples to hold out, 0.1 by default; not to be given for a file
            that has test samples.
        memory_limit: bytes up to which a .npy file is read into memory.

    Raises:
        UsageError: a file that cannot be read, or arrays that are not samples as described in
            `from_arrays`.
    """
    check_memory_limit(memory_limit)
    file = Path(os.path.expanduser(path))
    arrays = _read(file, memory_limit)
    x, y, x_test, y_test = _choose(arrays, file)
    options = _Options(layout, value_range, class_names, held_out)
    return _source(x, y if labels else None, x_test, y_test if labels else None, options, str(file))


def from_arrays(
    x: np.ndarray,
    y: np.ndarray | None = None,
    *,
    x_test: np.ndarray | None = None,
    y_test: np.ndarray | None = None,
    layout: str = "NHWC",
    value_range: Sequence[float] | None = None,
    class_names: Sequence[str] = (),
    held_out: float | None = None,
) -> Source:
    """Makes a data set of arrays in memory.

    Args:
        x: images, uint8 or floating point, `(count, height, width)` or `(count, height, width,
            channels)`; or points, floating point, `(count, features)`.
        y: class ids, integers from 0, `(count,)`; `None` without labels.
        x_test: samples to hold out.
        y_test: their class ids.
        layout: see `open`; `value_range`, `class_names` and `held_out` likewise.

    Raises:
        UsageError: arrays of another type, shape or range, values that are not finite numbers,
            or labels that are not class ids of the samples.
    """
    options = _Options(layout, value_range, class_names, held_out)
    return _source(x, y, x_test, y_test, options, "memory")


def load(
    split: str = "train", batch_size: int = 64, seed: int = 0, **options: Any
) -> tf.data.Dataset:
    """Batches of one epoch; `options` are those of `open`."""
    return open(**options).dataset(split, batch_size, seed)


def parse(source: str) -> dict[str, Any] | None:
    """The options that a data set's name stands for: the path of a .npz or .npy file."""
    path = Path(os.path.expanduser(source))
    return {"path": source} if path.suffix in (".npz", ".npy") and path.is_file() else None


@dataclasses.dataclass(frozen=True)
class _Options:
    layout: str
    value_range: Sequence[float] | None
    class_names: Sequence[str]
    held_out: float | None


def _read(file: Path, memory_limit: int) -> dict[str, np.ndarray]:
    """All arrays in a file, by name."""
    if not file.is_file():
        raise UsageError(f"The file of arrays must exist. Received: path={str(file)!r}")
    try:
        # From an open file, because numpy leaves a damaged .npz open; but that cannot be mapped.
        with file.open("rb") as stream:
            mapped = file.suffix == ".npy"
            content = np.load(
                file if mapped else stream, "r" if mapped else None, allow_pickle=False
            )
            if isinstance(content, np.ndarray):
                large = content.nbytes > memory_limit
                return {"x": content if large else np.array(content)}
            with content:
                return {name: content[name] for name in content.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        if "pickle" in str(error) or "Python objects" in str(error):
            raise UsageError(
                "Arrays must hold numbers: pickled objects are never loaded, because loading "
                f"one can run any program. Received: {file}"
            ) from error
        raise UsageError(
            f"A file of arrays must be whole and readable. Received: {file}: {error}"
        ) from error


def _choose(arrays: dict[str, np.ndarray], file: Path) -> tuple[np.ndarray | None, ...]:
    """Samples, labels, test samples and test labels from the arrays of a file."""
    if "x_train" in arrays:
        x, y, x_test, y_test = (
            arrays.get(name) for name in ("x_train", "y_train", "x_test", "y_test")
        )
        return x, y, x_test, y_test
    samples = [name for name in _SAMPLE_KEYS if name in arrays]
    names = [name for name in _LABEL_KEYS if name in arrays]
    if not samples and len(arrays) - len(names) == 1:
        samples = [name for name in arrays if name not in names]
    if len(samples) != 1 or len(names) > 1:
        raise UsageError(
            f"A .npz file must have one array of samples ({', '.join(_SAMPLE_KEYS)}) and at most "
            f"one of labels ({', '.join(_LABEL_KEYS)}), or x_train, y_train, x_test and y_test. "
            f"Received: {file} with {', '.join(arrays) or 'no arrays'}"
        )
    return arrays[samples[0]], arrays[names[0]] if names else None, None, None


def _source(
    x: np.ndarray | None,
    y: np.ndarray | None,
    x_test: np.ndarray | None,
    y_test: np.ndarray | None,
    options: _Options,
    origin: str,
) -> Source:
    value_range = _check_range(options.value_range)
    samples = _to_samples(x, options.layout, "x")
    labels = _to_labels(y, len(samples), "y")
    kind = "points" if samples.ndim == 2 else "image"
    if kind == "points" and value_range is not None:
        raise UsageError(f"value_range is for images only. Received: value_range={value_range}")
    if kind == "image" and value_range is None and samples.dtype != np.uint8:
        _check_normalized(samples)
    if x_test is None:
        splits = hold_out(samples, labels, 0.1 if options.held_out is None else options.held_out)
    elif options.held_out is not None:
        raise OwnSplitsError(
            "held_out must not be given for arrays that bring their own test samples. "
            f"Received: held_out={options.held_out!r}"
        )
    else:
        test = _to_samples(x_test, options.layout, "x_test")
        splits = {
            "train": Split(samples, labels),
            "held_out": Split(test, _to_labels(y_test, len(test), "y_test")),
        }
    num_classes = _count_classes(splits, options.class_names)
    spec = Spec(
        kind,
        tuple(samples.shape[1:]),
        (-1.0, 1.0) if kind == "image" else None,
        num_classes,
        tuple(options.class_names) if num_classes else (),
    )
    counts = " + ".join(f"{len(part):,}" for part in splits.values())
    description = f"arrays: {counts} {'points' if kind == 'points' else 'images'} from {origin}"
    return Source(spec, splits, description, raw_range=value_range)


def _check_range(value_range: Any) -> tuple[float, float] | None:
    if value_range is None:
        return None
    is_pair = isinstance(value_range, Sequence) and len(value_range) == 2
    if not is_pair or not all(map(is_number, value_range)) or value_range[0] >= value_range[1]:
        raise UsageError(
            "value_range must be [smallest, largest], two numbers in ascending order. "
            f"Received: value_range={value_range!r}"
        )
    return float(value_range[0]), float(value_range[1])


def _to_samples(x: Any, layout: str, name: str) -> np.ndarray:
    """Checks the type and the shape of samples; gives them NHWC or (count, features)."""
    if not isinstance(x, np.ndarray):
        raise UsageError(f"Samples must be a numpy array. Received: {name} of type {type(x)}")
    is_float = np.issubdtype(x.dtype, np.floating)
    if not is_float and x.dtype != np.uint8:
        raise UsageError(
            "Samples must be uint8 or floating point; for whole numbers from 0 to 255 write "
            f'{name}.astype("uint8"). Received: {name}.dtype={x.dtype}'
        )
    if is_float and x.dtype != np.float32 and not isinstance(x, np.memmap):
        x = x.astype(np.float32)
    if x.ndim == 2 and is_float:
        return x
    if x.ndim not in (3, 4):
        raise UsageError(
            "Images must have the shape (count, height, width) or (count, height, width, "
            "channels), and points be floating point, (count, features). "
            f"Received: {name}.shape={x.shape}, dtype={x.dtype}"
        )
    return _to_nhwc(x, layout, name)


def _to_nhwc(x: np.ndarray, layout: str, name: str) -> np.ndarray:
    if layout not in ("NHWC", "NCHW"):
        raise UsageError(f'layout must be "NHWC" or "NCHW". Received: layout={layout!r}')
    if x.ndim == 3:
        if x.shape[-1] in (1, 3, 4) and x.shape[1] != x.shape[2]:
            raise UsageError(
                "Images must have a first dimension that counts them; write "
                f"{name}[np.newaxis] for a single one. Received: {name}.shape={x.shape}"
            )
        return x[..., np.newaxis]
    if layout == "NCHW":
        return np.moveaxis(x, 1, -1)
    if x.shape[-1] not in (1, 3, 4) and x.shape[1] in (1, 3, 4):
        raise UsageError(
            'Images must have their channels last; write layout: "NCHW" for images with the '
            f"channels first. Received: {name}.shape={x.shape}"
        )
    return x


def _check_normalized(x: np.ndarray) -> None:
    """Refuses floating-point images whose range has to be guessed."""
    low, high = (float(f(x)) if x.size else 0.0 for f in (np.nanmin, np.nanmax))
    if (-1 <= low < 0 and high <= 1) or not np.isfinite([low, high]).all():
        return  # values that are not finite are refused later, with their place
    advice = "[0, 1]" if low >= 0 and high <= 1 else "[0, 255]"
    if low < 0 or high > 255:
        advice = "[smallest, largest]"
    raise UnknownRangeError(
        "Floating-point images must be in [-1, 1], with negative values, or have their range "
        f"stated: write value_range: {advice}. Received: values from {low:g} to {high:g}",
        low,
        high,
    )


def _to_labels(y: Any, count: int, name: str) -> np.ndarray | None:
    if y is None:
        return None
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2:
        raise UsageError(
            "Labels must be class ids, (count,); for one-hot labels write "
            f"{name}.argmax(axis=1). Received: {name}.shape={y.shape}"
        )
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise UsageError(
            f'Labels must be integers, (count,); write {name}.astype("int32") if they are whole '
            f"numbers. Received: {name}.dtype={y.dtype}, shape={y.shape}"
        )
    if len(y) != count:
        raise UsageError(
            f"There must be one label for each sample. Received: {count} samples and {len(y)} "
            f"labels in {name}"
        )
    if count and not 0 <= y.min() <= y.max() < 2**31:
        raise UsageError(
            "Labels must be class ids from 0 to the number of classes minus 1. "
            f"Received: {name} from {y.min()} to {y.max()}"
        )
    return y.astype(np.int32)


def _count_classes(splits: dict[str, Split], class_names: Sequence[str]) -> int:
    labels = [part.labels for part in splits.values() if part.labels is not None]
    if not labels:
        return 0
    return len(class_names) or 1 + max(int(y.max()) for y in labels if len(y))
