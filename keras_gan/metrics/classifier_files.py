"""Files of trained classifiers in the user's cache, named by their hash."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras

from keras_gan import run as runs
from keras_gan.datasets import decoding
from keras_gan.errors import UsageError
from keras_gan.metrics.extractor import file_sha256


class TrainedClassifier(NamedTuple):
    """A classifier in the cache.

    Args:
        path: its file.
        accuracy: share of the held-out clips whose class it names; NaN without held-out clips.
        accuracies: the same for each of its outputs, of a classifier with several.
    """

    path: pathlib.Path
    accuracy: float
    accuracies: Mapping[str, float] = {}


@dataclasses.dataclass(frozen=True)
class ClassifierFiles:
    """The files of one family of classifiers, each with its description beside it as JSON.

    Args:
        name: name of the family as an extractor of features.
        noun: name of one of them, for errors.
        command: command that trains one.
    """

    name: str
    noun: str
    command: str

    def write(
        self,
        model: keras.Model,
        content: Mapping[str, Any],
        cache: str | os.PathLike[str] | None = None,
    ) -> pathlib.Path:
        """Writes a classifier under the first digits of its hash and returns the path.

        Args:
            model: the network.
            content: its description, plain JSON values.
            cache: folder of the files; by default the user's cache.

        Raises:
            UsageError: a folder that cannot be written to.
        """
        target = folder(cache)
        try:
            target.mkdir(parents=True, exist_ok=True)
            temporary = target / f".{os.getpid()}.keras"
            model.save(temporary)
            sha256 = file_sha256(temporary)
            path = target / f"{sha256[:16]}.keras"
            text = json.dumps({**content, "sha256": sha256}, indent=2) + "\n"
            runs.write_atomically(path.with_suffix(".json"), text.encode())
            os.replace(temporary, path)
        except OSError as error:
            raise UsageError(
                f"The folder of classifiers must be writable. Received: {target}: {error.strerror}"
            ) from error
        return path

    def find(
        self,
        digits: str,
        fits: Callable[[dict[str, Any]], bool],
        wanted: str,
        cache: str | os.PathLike[str] | None = None,
    ) -> tuple[pathlib.Path, dict[str, Any]]:
        """Returns the path and the description of the last classifier that fits.

        Args:
            digits: first digits of its hash; empty for any.
            fits: function from a description to whether the classifier is one of the data.
            wanted: phrase for the data, for the error.
            cache: folder of the files; by default the user's cache.

        Raises:
            UsageError: none fits, or its file is damaged.
        """
        # A file's name has the first digits of its hash, and protocols have all of them.
        fitting = [
            entry
            for entry in _entries(folder(cache))
            if any(text.startswith(digits) for text in (entry[0].stem, str(entry[1]["sha256"])))
            and fits(entry[1])
        ]
        if not fitting:
            which = "of that name for these data" if digits else "for these data"
            received = f"{self.name}:{digits}" if digits else self.name
            raise UsageError(
                f"There must be a {self.noun} {which} in {folder(cache)}; train one by "
                f"{self.command}. Received: features={received!r} for {wanted}"
            )
        path, content = max(fitting, key=lambda entry: entry[0].stat().st_mtime_ns)
        if file_sha256(path) != content["sha256"]:
            raise UsageError(
                f"A {self.noun} must have the hash that names it; train one by {self.command}. "
                f"Received: {path}"
            )
        return path, content


def folder(cache: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Returns the folder that keeps classifiers, by default in the user's cache."""
    return pathlib.Path(cache or decoding.cache_folder().parent / "classifiers")


def _entries(target: pathlib.Path) -> list[tuple[pathlib.Path, dict[str, Any]]]:
    """Returns the classifiers of a folder with their descriptions."""
    found = []
    for file in sorted(target.glob("*.json")):
        try:
            content, path = json.loads(file.read_text("utf-8")), file.with_suffix(".keras")
        except (OSError, ValueError):
            continue
        if path.is_file() and isinstance(content, dict) and "sha256" in content:
            found.append((path, content))
    return found
