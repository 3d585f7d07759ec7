"""Writers of shards: WebDataset, .npz and TFRecord."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from serving import pictures, tfrecord
from serving.bulk.job import BulkJob, Stopped, stores_pictures
from serving.bundle import Bundle
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
    rows = job.rows(number)
    with path.open("wb") as file:
        writer = _WRITERS[job.form](file, bundle, job, len(rows))
        for start in range(rows.start, rows.stop, job.batch_size):
            if stop():
                raise Stopped
            batch = range(start, min(start + job.batch_size, rows.stop))
            seeds = np.arange(batch.start, batch.stop, dtype=np.int64) + job.seed
            labels = job.labels and [job.labels[i % len(job.labels)] for i in batch]
            writer.add(bundle.sample(seeds, labels, job.truncation, job.batch_size))
        writer.close()
        file.flush()
        os.fsync(file.fileno())
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "name": job.file_name(number),
        "seed": job.seed + rows.start,
        "count": len(rows),
        "bytes": path.stat().st_size,
        "sha256": digest,
    }


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

    def contents(self, drawn: dict[str, np.ndarray]) -> Iterator[tuple[int, int | None, Any]]:
        """Yields seed, label and content of each sample: a PNG file, or its numbers."""
        samples: Iterable[Any] = drawn["samples"]
        seeds = drawn["seeds"].tolist()
        labels = drawn["labels"].tolist() if "labels" in drawn else [None] * len(seeds)
        if stores_pictures(self.bundle, self.job.form):
            pixels = pictures.to_uint8(drawn["samples"], self.bundle.value_range)
            samples = map(self._png, pixels, seeds, labels)
        return zip(seeds, labels, samples, strict=True)

    def _png(self, picture: np.ndarray, seed: int, label: int | None) -> bytes:
        if not self.job.metadata:
            return pictures.to_png(picture)
        facts: dict[str, object] = {"seed": seed}
        facts |= {} if label is None else {"label": label}
        facts |= {} if self.job.truncation == 1 else {"truncation": self.job.truncation}
        return pictures.to_png(picture, provenance(self.job.name, self.job.sha256, **facts))


class _WebDatasetWriter(_Writer):
    """A tar of files that share a key up to their first dot: PNG or .npy, label, JSON."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._tar = tarfile.TarFile(fileobj=self.file, mode="w", format=tarfile.USTAR_FORMAT)

    def add(self, drawn: dict[str, np.ndarray]) -> None:
        for seed, label, content in self.contents(drawn):
            facts = {"seed": seed, "model": self.job.name}
            if isinstance(content, bytes):
                self._add_file(seed, "png", content)
            else:
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, content, allow_pickle=False)
                self._add_file(seed, "npy", buffer.getvalue())
            if label is not None:
                facts["label"] = label
                self._add_file(seed, "cls", str(label).encode())
            self._add_file(seed, "json", json.dumps(facts).encode())

    def _add_file(self, seed: int, ending: str, content: bytes) -> None:
        info = tarfile.TarInfo(f"{seed:019d}.{ending}")  # without time and owner: same bytes again
        info.size = len(content)
        self._tar.addfile(info, io.BytesIO(content))
        self._tar.getmembers().clear()  # tarfile would keep all members in memory

    def close(self) -> None:
        self._tar.close()


class _NpzWriter(_Writer):
    """An .npz of `samples` float32, `seeds` and, of a conditional generator, `labels`."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._zip = zipfile.ZipFile(self.file, "w")
        self._columns: dict[str, list[np.ndarray]] = {"seeds": [], "labels": []}
        self._samples = self._zip.open("samples.npy", "w", force_zip64=True)
        shape = (self.count, *self.bundle.shape)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._samples, header)

    def add(self, drawn: dict[str, np.ndarray]) -> None:
        self._samples.write(drawn["samples"].astype("<f4").tobytes())
        for name, parts in self._columns.items():
            parts += [drawn[name]] if name in drawn else []

    def close(self) -> None:
        self._samples.close()
        for name, parts in self._columns.items():
            if parts:
                with self._zip.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.concatenate(parts), allow_pickle=False)
        self._zip.close()


class _TFRecordWriter(_Writer):
    """Records with `image` (PNG) or `sample` (float32), `seed`, and `label` if there are any."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._messages: list[bytes] = []
        self._size = 0

    def add(self, drawn: dict[str, np.ndarray]) -> None:
        for seed, label, content in self.contents(drawn):
            features: dict[str, Any] = {"seed": seed}
            features["image" if isinstance(content, bytes) else "sample"] = content
            features |= {} if label is None else {"label": label}
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
