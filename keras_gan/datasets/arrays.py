"""Arrays in a .npz or .npy file: samples of any kind, with labels and other fields.

The arrays of a .npz file are named by fields: `samples`, `labels`, and any further ones, such
as `condition`; arrays of test examples have the same names with `_test` appended. Also read
are files whose samples are called `x`, `images` or `data` and whose labels are called `y`,
where any other array is ignored, with a warning; Keras's own files, with `x_train`, `y_train`,
`x_test` and `y_test`; and a single array of any other name, with a warning that names it. Pickled
objects are never loaded. A .csv file holds the rows of a table, under a line with the names of its
columns or none.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_gan.datasets import array_files, levels
from keras_gan.datasets.array_fields import FieldOptions, find_ranges, to_array, to_field
from keras_gan.datasets.classes import Classes, check_labels, number_classes
from keras_gan.datasets.decoding import check_memory_limit
from keras_gan.datasets.source import MEMORY_LIMIT, Source
from keras_gan.datasets.splits import Split, divide
from keras_gan.errors import UsageError
from keras_gan.registry import check_names
from keras_gan.spec import Field, Spec, label_field
from serving.value_ranges import Range

_SAMPLE_KEYS = ("x", "images", "samples", "data")
_LABEL_KEYS = ("y", "labels")
_TEST = "_test"  # suffix of the arrays that hold test examples

_Arrays = dict[str, np.ndarray]  # by the names of fields


def open(
    path: str | os.PathLike[str],
    *,
    kind: str | Mapping[str, str] | None = None,
    layout: str = "NHWC",
    value_range: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
    labels: bool = True,
    class_names: Sequence[str] = (),
    keep_ids: bool = False,
    sample_rate: float | Mapping[str, float] | None = None,
    frame_rate: float | Mapping[str, float] | None = None,
    columns: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    vocabulary: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    mel: Mapping[str, Mapping[str, Any]] | None = None,
    held_out: float | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Source:
    """Opens a .npy or .csv file with samples, or a .npz file with samples and other fields.

    The description of the module says which arrays are read, and by which names.

    Options that a field may have are for the samples, or a mapping from names of fields to
    values, such as `kind: {samples: audio, condition: series}`.

    Args:
        path: the file. A .npy file larger than `memory_limit` is read from the disk as needed.
        kind: kind of the samples, see `keras_gan.spec.Field`; by default images, points (floats of
            rank 2), video or a table (.csv files). Required for others, and for floats of rank 3.
        layout: `"NHWC"`, or `"NCHW"` for images with the channels first.
        value_range: smallest and largest stored value of images, audio or video; required for
            floating-point values unless they are in [-1, 1]. That of integer pixels is found from
            their values, see `keras_gan.datasets.levels`.
        labels: whether labels are used.
        class_names: names of the classes, in the order of the ids.
        keep_ids: whether labels stay class ids. By default those of the training samples are the
            classes: 1 to 10 become ids 0 to 9.
        sample_rate: samples per second, of audio.
        frame_rate: frames per second, of video.
        columns: names of the features, of series and tables; by default those of a .csv file.
        vocabulary: tokens in the order of their ids, of text. Texts are token ids `(count, time)`,
            which become one-hot, or weights `(count, time, vocabulary)` in [0, 1].
        held_out: share of the samples to hold out, 0.1 by default; not allowed for a file that
            has test samples.
        memory_limit: bytes up to which a .npy file is read into memory.

    Raises:
        UsageError: a file that cannot be read, or arrays that are not samples as described in
            `from_arrays`.
    """
    file = Path(os.path.expanduser(path))
    check_memory_limit(memory_limit)
    train, test, names = _read(file, memory_limit, labels)
    meta = _meta(sample_rate, frame_rate, columns, vocabulary, mel)
    if file.suffix == ".csv" and kind is None:
        kind, meta = "table", _meta(columns=names or None) | meta
    options = FieldOptions(kind, layout, value_range, meta)
    labeling = _Labeling(class_names, keep_ids)
    return _source(train, test, options, labeling, held_out, str(file))


def from_arrays(
    x: np.ndarray,
    y: np.ndarray | None = None,
    *,
    x_test: np.ndarray | None = None,
    y_test: np.ndarray | None = None,
    fields: Mapping[str, np.ndarray] | None = None,
    fields_test: Mapping[str, np.ndarray] | None = None,
    class_names: Sequence[str] = (),
    keep_ids: bool = False,
    held_out: float | None = None,
    **options: Any,
) -> Source:
    """Makes a data set of arrays in memory.

    Args:
        x: samples. Images are integers, floating point or Boolean, `(count, height, width)` or
            `(count, height, width, channels)`; points are floating point, `(count, features)`;
            video is `(count, frames, height, width, channels)`; other samples need the option
            `kind` and have the shape of `keras_gan.spec.Field`.
        y: labels, integers of at least 0 or texts, `(count,)`; `None` without labels.
        x_test: samples to hold out.
        y_test: their labels.
        fields: arrays of further fields by name, `(count, ...)`.
        fields_test: the same for the samples to hold out.
        class_names: names of the classes, in the order of the ids.
        keep_ids: whether labels stay the class ids that they are, see `open`.
        held_out: share of the samples to hold out, 0.1 by default; not allowed with `x_test`.
        **options: `kind`, `layout`, `value_range`, `sample_rate`, `frame_rate`, `columns`,
            `vocabulary` and `mel`, see `open`.

    Raises:
        UsageError: arrays of the wrong dtype, rank or range, values that are not finite, or
            labels that do not fit the samples.
    """
    train, test = _by_field(x, y, fields), _by_field(x_test, y_test, fields_test)
    check_names(open, options, "arrays", skip=_GIVEN)
    read = {name: options.pop(name) for name in _READING & options.keys()}
    meta = _meta(**options)
    labeling = _Labeling(class_names, keep_ids)
    return _source(train, test, FieldOptions(**read, meta=meta), labeling, held_out, "memory")


_ENDINGS = (".npz", ".npy", ".csv")
FORM = f"the path of a {', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]} file"


def parse(source: str) -> dict[str, Any] | None:
    """Returns the options that a data set's name stands for: the path of a file of arrays."""
    path = Path(os.path.expanduser(source))
    return {"path": source} if path.suffix in _ENDINGS and path.is_file() else None


_READING = {"kind", "layout", "value_range"}
_GIVEN = ("path", "labels", "class_names", "held_out", "memory_limit")  # not of `from_arrays`
_PLAIN = ("samples", "labels")  # fields that the description counts or implies


def _read(file: Path, memory_limit: int, labels: bool) -> tuple[_Arrays, _Arrays, tuple[str, ...]]:
    """Returns the training and the test arrays of a file, and the columns of a .csv file."""
    if file.suffix == ".csv":
        rows, names = array_files.read_csv(file)
        return {"samples": rows}, {}, names
    train, test = _choose(array_files.read(file, memory_limit), file)
    if not labels:
        train.pop("labels", None)
        test.pop("labels", None)
    return train, test, ()


def _meta(
    sample_rate: Any = None,
    frame_rate: Any = None,
    columns: Any = None,
    vocabulary: Any = None,
    mel: Any = None,
) -> dict[str, Any]:
    meta = {
        "sample_rate": sample_rate,
        "frame_rate": frame_rate,
        "columns": columns,
        "vocabulary": vocabulary,
        "mel": mel,
    }
    return {name: value for name, value in meta.items() if value is not None}


def _by_field(x: Any, y: Any, others: Mapping[str, np.ndarray] | None) -> _Arrays:
    """Returns the arrays that are given, by the names of their fields."""
    arrays = {"samples": x, "labels": y, **(others or {})}
    return {name: array for name, array in arrays.items() if array is not None}


def _choose(arrays: _Arrays, file: Path) -> tuple[_Arrays, _Arrays]:
    """Returns the training and the test arrays of a file by the names of their fields."""
    if "x_train" in arrays:
        x, y, x_test, y_test = map(arrays.get, ("x_train", "y_train", "x_test", "y_test"))
        return _by_field(x, y, None), _by_field(x_test, y_test, None)
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
    y = arrays[names[0]] if names else None
    if samples != ["samples"]:
        _say_chosen(samples[0], [*names, samples[0]], arrays, file)
        return _by_field(arrays[samples[0]], y, None), {}
    rest = _numbers({name: array for name, array in arrays.items() if name not in names}, file)
    test = {
        name.removesuffix(_TEST): rest.pop(name)
        for name in list(rest)
        if name.endswith(_TEST) and name.removesuffix(_TEST) in arrays
    }
    return {**_by_field(None, y, None), **rest}, test


def _numbers(arrays: _Arrays, file: Path) -> _Arrays:
    """Returns the arrays that can be fields; warns of the others, such as texts and notes."""
    others = [
        name
        for name, array in arrays.items()
        if name != "samples" and (array.dtype.kind not in "biuf" or not array.ndim)
    ]
    if others:
        warnings.warn(
            "Arrays other than of a number or an array of numbers for each sample are no fields. "
            f"Ignored in {file}: {', '.join(others)}",
            stacklevel=5,
        )
    return {name: array for name, array in arrays.items() if name not in others}


def _say_chosen(samples: str, used: Sequence[str], arrays: _Arrays, file: Path) -> None:
    """Warns of samples of an unknown name, and of arrays that are not used."""
    ignored = [name for name in arrays if name not in used]
    if samples not in _SAMPLE_KEYS and file.suffix == ".npz" and len(arrays) > 1:
        warnings.warn(
            f"The array {samples!r} of {file} is read as the samples, as no array is called "
            f"{', '.join(_SAMPLE_KEYS)}",
            stacklevel=4,
        )
    if ignored:
        warnings.warn(
            f"Arrays beside {samples!r} are fields only if the samples are called 'samples'. "
            f"Ignored in {file}: {', '.join(ignored)}",
            stacklevel=4,
        )


@dataclasses.dataclass(frozen=True)
class _Labeling:
    """Options for reading labels: names of the classes, and whether labels stay class ids."""

    class_names: Sequence[str] = ()
    keep_ids: bool = False


def _source(
    train: _Arrays,
    test: _Arrays,
    options: FieldOptions,
    labeling: _Labeling,
    held_out: float | None,
    origin: str,
) -> Source:
    """Converts arrays to splits and opens them."""
    options.check_names(tuple(train))
    splits = {"train": _split(train, "", options)}
    if test:
        splits["held_out"] = _split(test, _TEST, options)
    ranges = find_ranges(splits["train"].arrays, options)
    splits = {name: _compacted(part, ranges) for name, part in splits.items()}
    splits, classes = number_classes(splits, labeling.class_names, labeling.keep_ids)
    spec = Spec(fields=_fields(splits, options, classes))
    splits = divide(splits, held_out, "a set of arrays")
    counts = " + ".join(f"{len(part):,}" for part in splits.values())
    others = [f"{name} ({spec.fields[name].kind})" for name in spec.fields if name not in _PLAIN]
    description = f"arrays: {counts} {spec.modality.plural} from {origin}"
    description += f", with {', '.join(others)}" if others else ""
    return Source(
        spec,
        splits,
        description,
        raw_ranges=ranges,
        earlier_options=_earlier(ranges, options, classes),
    )


def _earlier(
    ranges: Mapping[str, Range], options: FieldOptions, classes: Classes | None
) -> dict[str, Any]:
    """Returns the options with which version 0.1.0's reading is the present one."""
    found: dict[str, Any] = {}
    stated = {
        name: limits if options.range_of(name) or limits != levels.MASK else levels.EIGHT_BITS
        for name, limits in ranges.items()
    }
    if stated != ranges:
        found["value_range"] = stated
    if classes is not None and classes.line:
        found["keep_ids"] = True
    return found


def _split(arrays: _Arrays, suffix: str, options: FieldOptions) -> Split:
    """Converts the arrays of one split; `suffix` is that of their names in errors."""
    samples = to_array(arrays.get("samples"), f"x{suffix}", "samples", options)
    labels = arrays.get("labels")
    if labels is not None:
        labels = check_labels(labels, len(samples), f"y{suffix}")
    others = {
        name: to_array(array, f"{name}{suffix}", name, options)
        for name, array in arrays.items()
        if name not in ("samples", "labels")
    }
    return Split(samples, labels, others=others)


def _compacted(part: Split, ranges: Mapping[str, Range]) -> Split:
    """Returns a split with its integer pixels in small dtypes."""
    samples = levels.compact(part.samples, ranges.get("samples"))
    others = {
        name: levels.compact(array, ranges[name]) if name in ranges else array
        for name, array in part.others.items()
    }
    return dataclasses.replace(part, samples=samples, others=others)


def _fields(
    splits: dict[str, Split], options: FieldOptions, classes: Classes | None
) -> dict[str, Field]:
    """Returns the fields of the arrays; other ids than classes are counted over all splits."""
    arrays = splits["train"].arrays
    fields = {
        name: to_field(array, name, options, _largest(splits, name))
        for name, array in arrays.items()
        if name != "labels"
    }
    if classes is not None:
        fields["labels"] = label_field(len(classes), classes.names)
    return fields


def _largest(splits: dict[str, Split], name: str) -> int:
    """Returns the largest id of a field in all splits; 0 for values that are not ids."""
    arrays = [part.arrays[name] for part in splits.values() if name in part.arrays]
    if not np.issubdtype(arrays[0].dtype, np.integer):
        return 0
    return max((int(array.max()) for array in arrays if array.size), default=0)
