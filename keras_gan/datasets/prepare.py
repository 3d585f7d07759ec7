"""Writing of data sets as TensorFlow Datasets, for any program that reads those."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_gan.datasets import shards, tfds_folders
from keras_gan.datasets.source import Source
from keras_gan.errors import UsageError

_SPLITS = {"train": "train", "held_out": "test"}  # our names and TFDS's


def prepare(
    source: Source,
    to: str,
    data_dir: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Writes a data set to disk so that `tfds.load(NAME, data_dir=...)` reads it.

    Images become the feature `image` (PNG, which is lossless), points the feature `features`,
    samples of other kinds the feature `samples`, class ids the feature `label`, and further
    fields features of their own names; held-out samples are the split `test`. Of windows that
    overlap, as those of long sounds do, only those are written that do not.

    Args:
        source: the data set.
        to: `tfds:NAME[:version]`, the version being 1.0.0 by default.
        data_dir: folder of prepared data sets; `TFDS_DATA_DIR` from the environment or
            `~/tensorflow_datasets` by default.
        progress: called every 1,000 samples with the split, the samples written, and their total.

    Returns:
        The folder that was written.

    Raises:
        UsageError: a name that is taken or not allowed, or a folder that cannot be written to.
    """
    name = _check_name(to)
    source = source.without_overlap()
    target = tfds_folders.data_root(data_dir) / name.name / (name.version or "1.0.0")
    if target.exists():
        raise UsageError(
            f"A prepared data set is never overwritten: choose another name or version, or "
            f"remove the folder first. Received: to={to!r}, which is in {target}"
        )
    try:
        target.parent.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{name.name}.partial-", dir=target.parent.parent))
    except OSError as error:
        raise UsageError(
            f"The folder of prepared data sets must be writable. Received: {error}"
        ) from error
    try:
        _store(source, name.name, target.name, partial, progress)
        target.parent.mkdir(exist_ok=True)
        try:
            (partial / name.name / target.name).rename(target)
        except OSError as error:
            raise UsageError(
                f"A prepared data set is never overwritten. Received: {target}: {error.strerror}"
            ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _check_name(to: str) -> tfds_folders.Name:
    if not to.startswith(tfds_folders.PREFIX):
        raise UsageError(f"A data set is prepared to tfds:NAME[:version]. Received: to={to!r}")
    name = tfds_folders.Name.parse(to)
    if name.config or not name.name.islower() or not name.name[0].isalpha():
        raise UsageError(
            "The name of a prepared data set must be made of lower-case letters, digits and _, "
            f"start with a letter and have no /config. Received: to={to!r}"
        )
    if name.name in tfds_folders.import_tfds().list_builders(with_community_datasets=False):
        raise UsageError(
            "The name must not be that of a data set of TensorFlow Datasets: tfds.load would "
            f"prepare its own instead of reading this one. Received: to={to!r}"
        )
    return name


def _store(
    source: Source,
    name: str,
    version: str,
    data_dir: Path,
    progress: Callable[[str, int, int], None] | None,
) -> None:
    """Writes the shards and, where TFDS features do not describe all fields, their record."""
    report = _reporter(progress)
    record = shards.record_of(source)
    splits = {
        _SPLITS[split]: _examples(source, split, record, report) for split in source.split_names
    }
    module = tfds_folders.import_tfds()
    module.disable_progress_bar()
    # TFDS reports a download that does not take place.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        module.dataset_builders.store_as_tfds_dataset(
            name=name,
            version=version,
            features=shards.features_of(source, record),
            split_datasets=splits,
            data_dir=str(data_dir),
            description=f"Prepared by keras_gan from {source.description}",
            disable_shuffling=True,
        )
    if not shards.is_plain(source.spec):
        shards.write_record(record, data_dir / name / version)


def _reporter(progress: Callable[[str, int, int], None] | None) -> Callable[[str, int, int], None]:
    """Returns a function that calls `progress` with the present standard output."""
    stdout = sys.stdout

    def report(split: str, done: int, total: int) -> None:
        if progress is not None and (done % 1000 == 0 or done == total):
            with contextlib.redirect_stdout(stdout):
                progress(split, done, total)

    return report


def _examples(
    source: Source,
    split: str,
    record: shards.Record,
    report: Callable[[str, int, int], None],
) -> Iterator[tuple[int, dict[str, Any]]]:
    total = source.count(split)
    for number, fields in enumerate(source.examples(split)):
        example = shards.to_example(source, record, fields)
        for name, field in source.spec.fields.items():
            if field.modality.has_pixels:
                key = record.features[name]
                example[key] = _to_png(example[key])
        yield number, example
        report(split, number + 1, total)


def _to_png(sample: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(sample[..., 0] if sample.shape[-1] == 1 else sample).save(file, "PNG")
    file.seek(0)
    return file
