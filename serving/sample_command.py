"""`keras-gan sample` into files: one file of all samples, or one for each."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from serving import extras, kinds
from serving.checks import check_samples, describe_not_finite, describe_sample
from serving.errors import UsageError
from serving.given_files import (
    GivenInputs,
    check_seed_option,
    count_samples,
    draw,
    find_files,
)
from serving.kinds import Kind, Lines
from serving.lists import parse_labels
from serving.output_files import write_file

COUNT = 64  # samples, where neither --count nor an input says how many
_SHEET, _ARCHIVE = "png", "npz"  # formats of all samples together, which every kind has
_SHARDS = ("tar", "tfrecord")  # endings of shards


def is_ending(text: str) -> bool:
    """Returns True for the ending of a file of samples or of a shard, without the dot."""
    return text in kinds.endings() or text in _SHARDS


class SampleCommand:
    """A checked command; nothing is generated before everything is known to fit.

    Args:
        bundle: the opened bundle, or a model on a server.
        options: parsed by `serving.cli`.

    Raises:
        UsageError: options that do not fit the bundle or each other.
    """

    def __init__(self, bundle: Any, options: Any):
        self._bundle, self._options = bundle, options
        self._port = bundle.outputs[0]
        self._kind: Kind = kinds.get(self._port.kind)
        self._given = GivenInputs(find_files(options.input), bundle.inputs)
        self._folder, self._out, self._format = self._places()
        single = self._out is not None and not self._is_joint(self._format)
        self._seed = check_seed_option(bundle, options.seed)
        self._labels = options.labels and parse_labels(options.labels, bundle.class_names)
        default = 1 if single else COUNT
        self._count = count_samples(bundle, self._given, options.count, default, self._labels)
        if single and self._count > 1:
            raise UsageError(
                f"A .{self._format} file holds one sample: pass --count 1, or --each for one file "
                f"each. Received: --out {self._out} for {self._count} samples"
            )
        if self._out is not None and self._format == _SHEET:
            sizes = tuple(n or 1 for n in self._port.sizes)  # a size that may be any is at least 1
            self._kind.check_sheet(self._count, sizes)
        self._check_folder()

    def run(self) -> str:
        """Generates and writes the samples; returns a line that says so."""
        options, start = self._options, time.perf_counter()
        try:
            batches = draw(
                self._bundle,
                self._given,
                range(self._count),
                self._seed,
                self._labels,
                options.truncation,
                options.batch_size,
            )
            drawn = list(batches)
        except MemoryError as error:
            raise UsageError(
                f"The samples must fit in memory. Received: --count {self._count}"
            ) from error
        rate = self._count / (time.perf_counter() - start)
        self._check_finite(drawn)
        written = []
        try:
            if self._folder:
                written.append(self._write_each(drawn))
            if self._out:
                write_file(self._out, self._encode(drawn))
                written.append(str(self._out))
        except OSError as error:
            raise UsageError(f"The output must be writable. Received: {error}") from error
        plural = "sample" if self._count == 1 else "samples"
        return (
            f"Wrote {' and '.join(written)}: {self._count} {plural} of {self._bundle.name}, "
            f"{rate:.0f} samples/s on {self._bundle.device}"
        )

    # ----------------------------------------------------------------------------- checks

    def _places(self) -> tuple[Path | None, Path | None, str]:
        """Returns the folder of --each, the file of --out, and its format."""
        options = self._options
        form = options.format
        if options.each is True:  # --each without a folder: that of --out
            if options.out is None:
                raise UsageError("--each must name a folder, or --out must. Received: --each")
            return Path(options.out), None, self._writable(form or self._preferred())
        folder = Path(options.each) if options.each else None
        if options.out is None:
            if folder is not None:
                return folder, None, self._writable(form or self._preferred())
            form = self._writable(form or _SHEET, _SHEET)
            return None, Path(f"samples.{form}"), form
        out = Path(options.out)
        form = form or out.suffix.lower().removeprefix(".")
        if out.is_dir():
            raise UsageError(f"--out must name a file. Received: --out {out}, a folder")
        form = self._writable(form, _SHEET)
        if options.format is not None:
            self._check_ending(out, form)
        return folder, out, form

    def _check_ending(self, out: Path, form: str) -> None:
        """Checks that the ending of a file does not name another format than --format.

        Endings that no format has are the user's own choice.
        """
        ending = out.suffix.lower().removeprefix(".")
        own, other = self._kind.all_formats().get(form), self._kind.format_of_file(out.name)
        if ending in ("", form) or (own is not None and ending in own.endings):
            return
        if own is not None and other is not None and own.decode is other.decode:
            return  # two endings of one format
        if is_ending(ending):
            raise UsageError(
                "The ending of --out must be that of --format: leave --format out, or name the "
                f"file {out.stem}.{form}. Received: --format {self._options.format} --out {out}"
            )

    def _preferred(self) -> str:
        return next(name for name, form in self._kind.all_formats().items() if form.encode)

    def _writable(self, form: str, *more: str) -> str:
        """Returns the name of a format by its name or its file ending.

        Args:
            form: the format.
            more: formats that are allowed beside those of the kind.
        """
        if form in more:
            return form
        found = self._kind.format_of_file(f"x.{form}")
        if found is None or found.encode is None:
            writable = [name for name, x in self._kind.all_formats().items() if x.encode]
            valid = [*more, *(name for name in writable if name not in more)]
            raise UsageError(
                f"The format of samples of kind {self._kind.name!r} must be one of "
                f"{', '.join(valid)}. Received: format={form!r}"
            )
        extras.check(found.name, found.module, found.extra)
        return found.name

    def _is_joint(self, form: str) -> bool:
        """Checks whether a file of a format holds all samples."""
        if form in (_SHEET, _ARCHIVE):
            return True
        found = self._kind.all_formats()[form]
        return found.several or found.lines is not None

    def _check_folder(self) -> None:
        folder = self._folder
        if folder is None:
            return
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--each must name a folder. Received: --each {folder}")
        if folder.is_dir() and any(folder.iterdir()) and not self._options.overwrite:
            raise UsageError(
                "The folder of --each must be empty, or pass --overwrite. "
                f"Received: --each {folder}"
            )

    def _check_finite(self, drawn: list[tuple[range, dict[str, np.ndarray]]]) -> None:
        """Refuses values that a format cannot hold, before any file is written, or warns of them.

        Raises:
            NotFiniteError: NaN or infinity for a format without them.
        """
        forms = set() if self._folder is None else {self._each_format()}
        forms |= set() if self._out is None else {self._format}
        formats, first = self._kind.all_formats(), self._port.name
        several = _ARCHIVE in forms and self._out is not None
        batches = []
        for rows, batch in drawn:
            describe = self._describe(rows, batch)
            for form in forms:
                if form == _SHEET or not formats[form].any_value:
                    hint = "npy and npz have NaN and infinity"
                    check_samples({first: batch[first]}, form, hint, describe)
            names = [port.name for port in self._bundle.outputs] if several else [first]
            batches.append(({name: batch[name] for name in names}, describe))
        if (line := describe_not_finite(batches)) is not None:
            print(f"keras-gan: warning: {line}", file=sys.stderr)

    def _describe(self, rows: range, batch: dict[str, np.ndarray]) -> Callable[[int], str]:
        port = self._bundle.inputs.classes
        labels = None if port is None else batch.get(port.name)
        truncation = self._options.truncation
        if not self._bundle.inputs.seeded:
            return lambda row: describe_sample(rows[row], None, labels, truncation)
        return lambda row: describe_sample(row, batch["seeds"], labels, truncation)

    # ----------------------------------------------------------------------------- files

    def _texts(self, **facts: object) -> dict[str, str] | None:
        """Returns the texts that make a file reproducible; `None` with --no-metadata."""
        if self._options.no_metadata:
            return None
        from serving.provenance import provenance

        if self._options.truncation != 1:
            facts["truncation"] = self._options.truncation
        return provenance(self._bundle.name, self._bundle.sha256, **facts)

    def _encode(self, drawn: list[tuple[range, dict[str, np.ndarray]]]) -> bytes:
        """Encodes all samples as one file."""
        facts: dict[str, object] = {}
        if self._options.labels is not None:
            facts["labels"] = self._options.labels
        if self._bundle.inputs.seeded:
            facts |= {"first_seed": self._seed}
        texts = self._texts(**facts, count=self._count)
        if self._format == _ARCHIVE:
            buffer = io.BytesIO()
            arrays: dict[str, Any] = _join([batch for _, batch in drawn])
            np.savez(buffer, **arrays)
            return buffer.getvalue()
        form = self._kind.all_formats().get(self._format)
        if form is not None and form.lines is not None:
            if self._count > 1:
                return b"".join(line + b"\n" for line in self._lines(form.lines, drawn))
            texts = self._texts(**self._facts_of(0, drawn[0][1], 0))
        samples = _join([{"samples": batch[self._port.name]} for _, batch in drawn])["samples"]
        if self._format == _SHEET:
            from serving import pictures

            return pictures.to_png(self._kind.sheet(samples, self._port.meta), texts)
        whole = samples if form is not None and form.several else samples[0]
        return self._kind.encode(whole, self._format, self._port.meta, texts)

    def _lines(
        self, lines: Lines, drawn: list[tuple[range, dict[str, np.ndarray]]]
    ) -> Iterator[bytes]:
        """Yields the line of each sample."""
        for rows, batch in drawn:
            samples = batch[self._port.name]
            for at, (number, sample) in enumerate(zip(rows, samples, strict=True)):
                facts = self._facts_of(number, batch, at)
                yield lines.write(sample, self._port.meta, facts)

    def _facts_of(self, number: int, batch: dict[str, np.ndarray], row: int) -> dict[str, int]:
        """Returns the seed and the class id of one sample, those of the two that it has."""
        port = self._bundle.inputs.classes
        labels = None if port is None else batch.get(port.name)
        facts = {"seed": self._seed + number} if self._bundle.inputs.seeded else {}
        return facts if labels is None else {**facts, "label": int(labels[row])}

    def _write_each(self, drawn: list[tuple[range, dict[str, np.ndarray]]]) -> str:
        folder = self._folder or Path()
        folder.mkdir(parents=True, exist_ok=True)
        form = self._each_format()
        for rows, batch in drawn:
            for at, (number, sample) in enumerate(zip(rows, batch[self._port.name], strict=True)):
                texts = self._texts(**self._facts_of(number, batch, at))
                content = self._kind.encode(sample, form, self._port.meta, texts)
                write_file(folder / f"{self._name(number)}.{form}", content)
        return f"{self._count} files in {folder}"

    def _each_format(self) -> str:
        return self._format if self._out is None else self._preferred()

    def _name(self, number: int) -> str:
        """Returns a sample's file name without its ending: that of its input, else its seed."""
        for source in self._given.sources:
            if source.is_folder:
                stems = {Path(name).stem for name in source.names}
                name = source.names[number]
                return Path(name).stem if len(stems) == len(source.names) else name
        return f"seed{self._seed + number:06d}"


def _join(batches: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Joins the arrays of batches by name.

    Raises:
        UsageError: samples of different shapes.
    """
    if len(batches) == 1:
        return batches[0]
    for name, first in batches[0].items():
        for batch in batches:
            if batch[name].shape[1:] != first.shape[1:]:
                raise UsageError(
                    "Samples of one file must have one shape; write one file each, with --each. "
                    f"Received: {name} of {first.shape[1:]} and {batch[name].shape[1:]}"
                )
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
