"""Writers of shards: WebDataset, .npz and TFRecord."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from serving import kinds, tfrecord
from serving.bulk.job import BulkJob, Stopped, file_format
from serving.bundle import Bundle
from serving.checks import check_samples, count_not_finite, describe_sample
from serving.errors import UsageError
from serving.given_files import draw
from serving.inputs import Port
from serving.kinds import Format
from serving.provenance import provenance


def make_shard(
    bundle: Bundle, job: BulkJob, number: int, path: Path, stop: Callable[[], bool] = bool
) -> dict[str, Any]:
    """Writes one shard; returns its record in the index.

    Args:
        bundle: the job's bundle.
        job: the job.
        number: of the shard.
        path: file to write.
        stop: called between batches; if it returns true, the shard is given up.

    Raises:
        Stopped: `stop` returned true.
    """
    rows, given = job.rows(number), job.given_inputs(bundle)
    with path.open("wb") as file:
        writer = _WRITERS[job.form](file, bundle, job, len(rows))
        batches = draw(bundle, given, rows, job.seed, job.labels, job.truncation, job.batch_size)
        try:
            while not stop() and (batch := next(batches, None)) is not None:
                writer.add(*batch)
            if stop():
                raise Stopped
        except BaseException:
            writer.discard()
            raise
        writer.close()
        file.flush()
        os.fsync(file.fileno())
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    record = {
        "name": job.file_name(number),
        "seed": job.seed + rows.start,
        "count": len(rows),
        "bytes": path.stat().st_size,
        "sha256": digest,
    }
    return record | ({"not_finite": writer.not_finite} if writer.not_finite else {})


@dataclasses.dataclass(frozen=True)
class _Sample:
    """Content of one sample in a shard.

    Args:
        key: the seed; the position of a sample that has none.
        seed: its seed, if the network has seeded inputs.
        label: its class id, if the network has classes.
        content: the sample as a file or as an array.
        others: the other outputs by name.
    """

    key: int
    seed: int | None
    label: int | None
    content: bytes | np.ndarray
    others: dict[str, np.ndarray]


class _Writer:
    """Base of the writers: the content of each sample.

    Args:
        file: opened for writing.
        bundle: the job's bundle.
        job: the job.
        count: number of samples in the shard.
    """

    def __init__(self, file: Any, bundle: Bundle, job: BulkJob, count: int):
        self.file, self.bundle, self.job, self.count = file, bundle, job, count
        self.first, *others = bundle.outputs
        self.others = [port.name for port in others]
        self.kind = kinds.get(self.first.kind)
        self.form = self.format_of(self.first)
        self.not_finite = 0  # values, of all outputs

    def format_of(self, port: Port) -> Format | None:
        """Returns the file format of the samples; `None` for their numbers."""
        return file_format(port)

    def discard(self) -> None:
        """Releases what the writer has opened, for a shard that is given up."""

    def labels(self, drawn: dict[str, np.ndarray]) -> np.ndarray | None:
        """Returns the class ids of a batch, if the network has classes."""
        port = self.bundle.inputs.classes
        return None if port is None else drawn[port.name]

    def check(
        self, rows: range, drawn: dict[str, np.ndarray], labels: np.ndarray | None = None
    ) -> None:
        """Refuses samples that a file of their kind cannot hold, and counts those of arrays.

        Raises:
            NotFiniteError: NaN or infinity in a sample that is written as a file of its kind.
        """
        names = [self.first.name, *self.others]
        if self.form is not None and not self.form.any_value:
            first = {self.first.name: drawn[self.first.name]}

            def describe(row: int) -> str:
                if "seeds" in drawn:
                    return describe_sample(row, drawn["seeds"], labels, self.job.truncation)
                return describe_sample(rows[row], None, None, self.job.truncation)

            check_samples(first, self.form.name, "the npz format has NaN and infinity", describe)
        self.not_finite += sum(count_not_finite({name: drawn[name] for name in names}).values())

    def contents(self, rows: range, drawn: dict[str, np.ndarray]) -> Iterator[_Sample]:
        """Yields the content of each sample of a batch."""
        labels = self.labels(drawn)
        self.check(rows, drawn, labels)
        for at, (number, sample) in enumerate(zip(rows, drawn[self.first.name], strict=True)):
            seed = int(drawn["seeds"][at]) if "seeds" in drawn else None
            label = None if labels is None else int(labels[at])
            others = {name: drawn[name][at] for name in self.others}
            content = self._encode(sample, seed, label)
            yield _Sample(number if seed is None else seed, seed, label, content, others)

    def _encode(
        self, sample: np.ndarray, seed: int | None, label: int | None
    ) -> bytes | np.ndarray:
        if self.form is None:
            return sample
        texts = None
        if self.job.metadata:
            facts: dict[str, object] = {} if seed is None else {"seed": seed}
            facts |= {} if label is None else {"label": label}
            facts |= {} if self.job.truncation == 1 else {"truncation": self.job.truncation}
            texts = provenance(self.job.name, self.job.sha256, **facts)
        return self.kind.encode(sample, self.form.name, self.first.meta, texts)


class _WebDatasetWriter(_Writer):
    """A tar of files that share a key up to their first dot: the sample, label, JSON.

    The sample is a file of its kind, or .npy; other outputs are `KEY.NAME.npy`.
    """

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._tar = tarfile.TarFile(fileobj=self.file, mode="w", format=tarfile.USTAR_FORMAT)
        self._given = self.job.given_inputs(self.bundle)

    def add(self, rows: range, drawn: dict[str, np.ndarray]) -> None:
        for number, sample in zip(rows, self.contents(rows, drawn), strict=True):
            if isinstance(sample.content, bytes):
                self._add_file(sample.key, self.form.name if self.form else "", sample.content)
            else:
                self._add_file(sample.key, "npy", _to_npy(sample.content))
            for name, array in sample.others.items():
                self._add_file(sample.key, f"{name}.npy", _to_npy(array))
            facts: dict[str, Any] = {} if sample.seed is None else {"seed": sample.seed}
            facts["model"] = self.job.name
            if sample.label is not None:
                facts["label"] = sample.label
                self._add_file(sample.key, "cls", str(sample.label).encode())
            facts |= {"inputs": self._given.names(number)} if self.job.given else {}
            self._add_file(sample.key, "json", json.dumps(facts).encode())

    def _add_file(self, key: int, ending: str, content: bytes) -> None:
        info = tarfile.TarInfo(f"{key:019d}.{ending}")  # without time and owner: same bytes again
        info.size = len(content)
        self._tar.addfile(info, io.BytesIO(content))
        self._tar.getmembers().clear()  # tarfile would keep all members in memory

    def close(self) -> None:
        self._tar.close()


def _to_npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


class _NpzWriter(_Writer):
    """An .npz of all outputs, `seeds` and, of a network with classes, the class ids.

    The first output is written as it is generated. The others wait in temporary files, as an
    archive is written one member after the other.
    """

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._zip = zipfile.ZipFile(self.file, "w")
        self._columns: dict[str, list[np.ndarray]] = {"seeds": []}
        if (port := self.bundle.inputs.classes) is not None:
            self._columns[port.name] = []
        self._samples: Any = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._spools: dict[str, Any] = {}

    def format_of(self, port: Port) -> Format | None:
        return None

    def add(self, rows: range, drawn: dict[str, np.ndarray]) -> None:
        for port in self.bundle.outputs:
            array = drawn[port.name]
            if self._shapes.setdefault(port.name, array.shape[1:]) != array.shape[1:]:
                raise UsageError(
                    "The npz format holds samples of one shape: use webdataset. "
                    f"Received: {port.name} of {self._shapes[port.name]} and {array.shape[1:]}"
                )
        self.check(rows, drawn)
        if self._samples is None:
            self._samples = self._open(self.first)
        self._samples.write(_little(drawn[self.first.name]).tobytes())
        for name in self.others:
            if name not in self._spools:
                self._spools[name] = tempfile.TemporaryFile()  # noqa: SIM115 - until close()
            self._spools[name].write(_little(drawn[name]).tobytes())
        for name, parts in self._columns.items():
            parts += [drawn[name]] if name in drawn else []

    def _open(self, port: Port) -> Any:
        """Opens a member of the archive, and writes its header."""
        member = self._zip.open(f"{port.name}.npy", "w", force_zip64=True)
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(port.dtype).newbyteorder("<")),
            "fortran_order": False,
            "shape": (self.count, *self._shapes[port.name]),
        }
        np.lib.format.write_array_header_1_0(member, header)
        return member

    def close(self) -> None:
        self._samples.close()
        for port in self.bundle.outputs[1:]:
            spool = self._spools[port.name]
            spool.seek(0)
            with self._open(port) as member, spool:
                shutil.copyfileobj(spool, member)
        for name, parts in self._columns.items():
            if parts:
                with self._zip.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.concatenate(parts), allow_pickle=False)
        self._zip.close()

    def discard(self) -> None:
        # A ZipFile that is left open would be completed when its file is closed already.
        with contextlib.suppress(OSError, ValueError, zipfile.BadZipFile):
            if self._samples is not None:
                self._samples.close()
            self._zip.close()
        for spool in self._spools.values():
            spool.close()


def _little(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


class _TFRecordWriter(_Writer):
    """Records of `image` (PNG) or `sample` (numbers), `seed`, `label`, and the other outputs."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._messages: list[bytes] = []
        self._size = 0

    def format_of(self, port: Port) -> Format | None:
        return tfrecord.picture_format(port)

    def add(self, rows: range, drawn: dict[str, np.ndarray]) -> None:
        for sample in self.contents(rows, drawn):
            features: dict[str, Any] = dict(sample.others)
            features |= {} if sample.seed is None else {"seed": sample.seed}
            features["sample" if self.form is None else "image"] = sample.content
            features |= {} if sample.label is None else {"label": sample.label}
            self._messages.append(tfrecord.example(features))
            self._size += len(self._messages[-1])
        if self._size > 2**21:  # checksums are cheaper for many messages together
            self._flush()

    def _flush(self) -> None:
        self.file.write(tfrecord.records(self._messages))
        self._messages, self._size = [], 0

    def close(self) -> None:
        self._flush()


_WRITERS: dict[str, Any] = {
    "webdataset": _WebDatasetWriter,
    "npz": _NpzWriter,
    "tfrecord": _TFRecordWriter,
}
