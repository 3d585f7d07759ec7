"""Given inputs of `keras-gan sample`: files, and folders of one file per sample."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from serving import file_contents, kinds
from serving.checks import check_batch_size, check_repeated_labels
from serving.errors import NotFiniteWarning, UsageError, short_repr
from serving.inputs import Inputs, Port, decode_given

_SUBJECT = "A file of --input"


class GivenFiles(NamedTuple):
    """Files of a given input: one for all samples, or one for each.

    Args:
        name: of the input.
        path: of the file, or of the folder.
        names: file names in the folder, sorted; empty for a single file.
    """

    name: str
    path: str
    names: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of samples; 1 serves for all."""
        return len(self.names) or 1

    @property
    def is_folder(self) -> bool:
        """True if every sample has a file of its own."""
        return bool(self.names)

    def file(self, number: int) -> Path:
        """Returns the path of a sample's file."""
        return Path(self.path, self.names[number]) if self.names else Path(self.path)

    def sha256(self) -> str:
        """Returns the SHA-256 of the names and contents of all files."""
        digest = hashlib.sha256()
        for number in range(self.count):
            content = file_contents.read(self.file(number), _SUBJECT, self.name)
            name = self.names[number] if self.names else ""
            digest.update(f"{name}\n{len(content)}\n".encode() + content)
        return digest.hexdigest()

    def read(self, port: Port, number: int) -> np.ndarray:
        """Decodes the file of a sample, `(1, ...)`.

        Raises:
            UsageError: a file that is not of the input's kind, dtype and shape.
        """
        path = self.file(number)
        form = kinds.get(port.kind).format_of_file(path.name)
        if form is None or form.decode is None:
            formats = kinds.get(port.kind).all_formats().values()
            raise UsageError(
                f"The input {port.name!r}, of kind {port.kind!r}, takes files of "
                f"{', '.join(x.name for x in formats if x.decode)}. Received: {str(path)!r}"
            )
        content = file_contents.read(path, _SUBJECT, self.name)
        try:
            return decode_given(port, content, form.media_type)
        except UsageError as error:
            raise UsageError(f"{error} in {str(path)!r}") from error


class GivenInputs:
    """All given inputs of a command.

    Args:
        sources: files of each input.
        inputs: of the network.

    Raises:
        UsageError: an unknown input, one without files, or folders of different lengths.
    """

    def __init__(self, sources: Sequence[GivenFiles], inputs: Inputs):
        self.sources = tuple(sources)
        self._inputs = inputs
        named = {source.name for source in sources}
        for name in named - inputs.by_name.keys():
            valid = ", ".join(inputs.by_name) or "none"
            raise UsageError(f"The inputs are {valid}. Received: --input {short_repr(name)}")
        for port in inputs.given:
            if port.name not in named:
                raise UsageError(
                    f"The input {port.name!r} of kind {port.kind!r} must be given: "
                    f"--input {port.name}=FILE_OR_FOLDER. Received: none"
                )
        counts = {source.count for source in sources if source.is_folder}
        if len(counts) > 1:
            raise UsageError(
                "All folders of --input must have as many files. "
                f"Received: {', '.join(f'{s.name} with {s.count}' for s in sources)}"
            )
        self._constant: dict[str, np.ndarray] = {}

    @property
    def count(self) -> int | None:
        """Number of samples that the folders have files for; `None` without folders."""
        return next((source.count for source in self.sources if source.is_folder), None)

    def names(self, number: int) -> dict[str, str]:
        """Returns the file name of each input of a sample."""
        return {source.name: source.file(number).name for source in self.sources}

    def batches(self, rows: range, size: int) -> Iterator[tuple[range, dict[str, np.ndarray]]]:
        """Yields batches of rows and their arrays; files of one batch have one shape."""
        if self.count is None:
            found = {source.name: self._read(source, 0) for source in self.sources}
            for start in range(rows.start, rows.stop, size):
                yield range(start, min(start + size, rows.stop)), found
            return
        start, parts = rows.start, []
        for row in rows:
            part = {source.name: self._read(source, row) for source in self.sources}
            shapes = {name: x.shape for name, x in part.items()}
            if parts and (
                len(parts) == size or shapes != {name: x.shape for name, x in parts[0].items()}
            ):
                yield range(start, row), _stack(parts)
                start, parts = row, []
            parts.append(part)
        yield range(start, rows.stop), _stack(parts)

    def _read(self, source: GivenFiles, number: int) -> np.ndarray:
        if source.is_folder:
            return source.read(self._inputs.by_name[source.name], number)
        if source.name not in self._constant:
            self._constant[source.name] = source.read(self._inputs.by_name[source.name], 0)
        return self._constant[source.name]


def _stack(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def find_files(arguments: Sequence[str]) -> tuple[GivenFiles, ...]:
    """Returns the files of the options `--input NAME=FILE_OR_FOLDER`.

    Raises:
        UsageError: another form, an input named twice, a path that does not exist, or a folder
            without files.
    """
    found: dict[str, GivenFiles] = {}
    for text in arguments:
        name, equals, path = text.partition("=")
        if not (name and equals and path) or name in found:
            raise UsageError(
                f"--input must be NAME=FILE_OR_FOLDER, once for each input. Received: {text!r:.200}"
            )
        path = os.path.abspath(os.path.expanduser(path))
        names: tuple[str, ...] = ()
        if os.path.isdir(path):
            names = tuple(sorted(x.name for x in os.scandir(path) if _is_sample(x)))
        if not names and not os.path.isfile(path):
            what = "an empty folder" if os.path.isdir(path) else "no such file"
            raise UsageError(
                f"--input must name a file or a folder of files. Received: {text!r:.200} ({what})"
            )
        found[name] = GivenFiles(name, path, names)
    return tuple(found.values())


def _is_sample(entry: Any) -> bool:
    return entry.is_file() and not entry.name.startswith(".")


def draw(
    bundle: Any,
    given: GivenInputs,
    rows: range,
    seed: int,
    labels: Sequence[Any] | None,
    truncation: float,
    batch_size: int,
) -> Iterator[tuple[range, dict[str, np.ndarray]]]:
    """Yields batches of rows with their outputs and inputs, as `Bundle.sample` returns them.

    Args:
        bundle: a bundle, on disk or on a server.
        given: its given inputs.
        rows: positions of the samples; sample i has the seed `seed` + i.
        seed: of the first sample.
        labels: class ids or names, repeated cyclically over the samples; `None` for the default.
        truncation: as for `Bundle.sample`.
        batch_size: largest number of samples of a batch.
    """
    batch_size = check_batch_size(batch_size)
    for batch, arrays in given.batches(rows, batch_size):
        seeds = np.arange(batch.start, batch.stop, dtype=np.int64) + seed
        ids = labels and [labels[i % len(labels)] for i in batch]
        named = seeds if bundle.inputs.seeded else None
        with warnings.catch_warnings():
            # The formats of the files decide: an error, or a warning that counts all batches.
            warnings.simplefilter("ignore", NotFiniteWarning)
            drawn = bundle.sample(named, ids, truncation, batch_size, **arrays)
        yield batch, drawn


def check_seed_option(bundle: Any, seed: int | None) -> int:
    """Returns the seed of the first sample, 0 without --seed.

    Raises:
        UsageError: --seed for a network that no seed changes.
    """
    if seed is not None and not bundle.inputs.seeded:
        raise UsageError(
            "--seed needs a network with random inputs. "
            f"Received: --seed {seed} for the inputs {', '.join(bundle.inputs.by_name)}"
        )
    return seed or 0


def count_samples(
    bundle: Any,
    given: GivenInputs,
    count: int | None,
    default: int,
    labels: Sequence[Any] | None = None,
) -> int:
    """Returns the number of samples: that of the given files, else that of --count.

    Raises:
        UsageError: --count is another number than that of the given files, or there are more
            labels than samples.
    """
    fixed = given.count if given.count is not None else None if bundle.inputs.seeded else 1
    if fixed is not None and count not in (None, fixed):
        raise UsageError(
            f"The files of --input are for {fixed} {'sample' if fixed == 1 else 'samples'}: "
            f"leave --count out. Received: --count {count}"
        )
    found = fixed or count or default
    check_repeated_labels(len(labels or ()), found)
    return found
