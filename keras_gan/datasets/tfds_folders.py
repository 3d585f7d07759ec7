"""Prepared TensorFlow Datasets on disk: names, folders and builders."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_gan.errors import UsageError

PREFIX = "tfds:"

_NAME = re.compile(r"(?P<name>\w+)(/(?P<config>[\w.+-]+))?(:(?P<version>\d+\.\d+\.\d+))?")


@dataclasses.dataclass(frozen=True)
class Name:
    """The name of a TFDS data set, `name[/config][:version]`.

    Raises:
        UsageError: `text` is not such a name.
    """

    name: str
    config: str | None = None
    version: str | None = None

    @classmethod
    def parse(cls, text: str) -> Name:
        match = _NAME.fullmatch(text.removeprefix(PREFIX))
        if match is None:
            raise UsageError(
                "A TFDS data set must be called tfds:NAME[/config][:version], with a version "
                "such as 1.0.0. "
                f"Received: {text!r}"
            )
        return cls(**match.groupdict())

    def __str__(self) -> str:
        config = f"/{self.config}" if self.config else ""
        return self.name + config + (f":{self.version}" if self.version else "")


def find(name: str | Name, data_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """Returns the folder of the newest prepared version that matches a name; `None` if missing.

    The search of TensorFlow Datasets runs the code of its builders, which may use the network.
    """
    name = Name.parse(name) if isinstance(name, str) else name
    folder = data_root(data_dir) / name.name
    config = name.config or _default_config(folder)
    folder = folder / config if config else folder
    if not folder.is_dir():
        return None
    versions = [
        path
        for path in folder.iterdir()
        if re.fullmatch(r"\d+\.\d+\.\d+", path.name) and (path / "features.json").is_file()
    ]
    if name.version:
        versions = [path for path in versions if path.name == name.version]
    newest = max(versions, key=lambda path: [int(n) for n in path.name.split(".")], default=None)
    return newest


def data_root(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Returns the folder of prepared data sets."""
    given = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(os.path.expanduser(given))


def _default_config(folder: Path) -> str | None:
    """Returns the configuration that is used when none is named."""
    with contextlib.suppress(OSError, ValueError):
        metadata = json.loads((folder / ".config" / "metadata.json").read_text("utf-8"))
        return metadata.get("default_config_name")
    return None


def import_tfds() -> Any:
    """Imports TensorFlow Datasets, which is slow to import, when it is first needed."""
    import tensorflow_datasets

    return tensorflow_datasets


def prepared(name: Name, data_dir: str | os.PathLike[str] | None, download: bool) -> Path:
    """Returns the folder of a data set, downloading it first if that is allowed.

    Raises:
        UsageError: the data set is missing or its preparation failed.
    """
    folder = find(name, data_dir)
    if folder is not None:
        return folder
    if not download:
        raise UsageError(
            "The TFDS data set must be prepared on this machine, or download=true must allow "
            f"TensorFlow Datasets to download it. Received: {name}, which is not in "
            f"{data_root(data_dir)}"
        )
    tfds = import_tfds()
    try:
        builder = tfds.builder(str(name), data_dir=str(data_root(data_dir)))
        builder.download_and_prepare()
    except Exception as error:  # each data set has download errors of its own
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UsageError(
            f"TensorFlow Datasets must be able to prepare the data set. Received: {name}: {reason}"
        ) from error
    return Path(builder.data_dir)


def open_builder(folder: Path) -> Any:
    """Opens the builder of a prepared data set.

    Raises:
        UsageError: damaged metadata.
    """
    try:
        return import_tfds().builder_from_directory(str(folder))
    except Exception as error:  # any of several parsers may fail on damaged metadata
        raise UsageError(
            f"The prepared data set must be whole and readable. Received: {folder}: {error}"
        ) from error


def read_examples(builder: Any, **options: Any) -> Iterator[dict[str, Any]]:
    """Yields the examples of a data set in a fixed order.

    Raises:
        UsageError: a damaged file.
    """
    try:
        dataset = builder.as_dataset(shuffle_files=False, **options)
        yield from dataset.as_numpy_iterator()
    except tf.errors.OpError as error:
        raise UsageError(
            "The prepared data set must be whole and readable. "
            f"Received: {builder.data_dir}: {error.message}"
        ) from error
