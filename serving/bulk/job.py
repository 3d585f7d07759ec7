"""Description of a job: everything that determines the bytes of its shards."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from serving import kinds, tfrecord
from serving.bundle import Bundle
from serving.errors import UsageError
from serving.given_files import GivenFiles, GivenInputs, count_samples, draw
from serving.inputs import Port
from serving.kinds import Format

FORMATS = ("webdataset", "npz", "tfrecord")
_SHARD_BYTES = 2**27  # before compression; object stores and readers work well with this size
_LARGEST_SHARD = 10_000  # samples
_MOST_SHARDS = 1_000_000  # an index of more could not be written in reasonable time


class Stopped(BaseException):
    """Raised in a worker that was asked to stop; complete shards are at their destination."""


@dataclasses.dataclass(frozen=True)
class BulkJob:
    """Bulk job: all arguments that determine the bytes of its shards.

    Args:
        bundle: folder of a bundle.
        seed: of the first sample; sample i has seed + i.
        count: number of samples.
        form: `"webdataset"`, `"npz"` or `"tfrecord"`.
        labels: class ids, repeated cyclically over the samples; `None` for each seed's own.
        truncation: factor on the latents, or value of the input of this name.
        batch_size: samples of one batch; the last bits of a sample may depend on it.
        shard_size: samples in a shard; by default 10000, fewer of large ones.
        metadata: files say that a model made them.
        given: files of the given inputs.
        given_sha256: SHA-256 of the files of each.
        precision: of the bundle's model.
        name: of the model.
        sha256: of its `model.onnx`.
    """

    bundle: str
    seed: int
    count: int
    form: str = "webdataset"
    labels: tuple[int, ...] | None = None
    truncation: float = 1.0
    batch_size: int = 64
    shard_size: int = _LARGEST_SHARD
    metadata: bool = True
    given: tuple[GivenFiles, ...] = ()
    given_sha256: tuple[str, ...] = ()
    precision: str = "float32"
    name: str = ""
    sha256: str = ""

    @property
    def shards(self) -> int:
        """Number of shards."""
        return math.ceil(self.count / self.shard_size)

    def rows(self, number: int) -> range:
        """Returns the positions of a shard's samples among all samples."""
        start = number * self.shard_size
        return range(start, min(start + self.shard_size, self.count))

    def file_name(self, number: int) -> str:
        """Returns the file name of a shard."""
        if self.form == "tfrecord":
            return tfrecord.file_name(self.name, number, self.shards)
        ending = "tar" if self.form == "webdataset" else "npz"
        return f"{self.name}-{number:06d}.{ending}"

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments that the index records, and that a later run must repeat."""
        content = dataclasses.asdict(self)
        for key in ("bundle", "given", "given_sha256"):
            del content[key]
        content["labels"] = None if self.labels is None else list(self.labels)
        for source, digest in zip(self.given, self.given_sha256, strict=True):
            content[f"input {source.name}"] = digest
        return {"model": content.pop("name"), "format": content.pop("form"), **content}

    def given_inputs(self, bundle: Bundle) -> GivenInputs:
        """Returns the given inputs of the opened bundle."""
        return GivenInputs(self.given, bundle.inputs)

    def open_bundle(self) -> Bundle:
        """Opens the bundle, on one thread.

        Raises:
            UsageError: the folder holds another bundle than when the job was planned.
        """
        bundle = Bundle(self.bundle, precision=self.precision, threads=1, device="cpu")
        if bundle.sha256 != self.sha256:
            raise UsageError(
                "A bundle must not change while its shards are made. Received: sha256="
                f"{bundle.sha256!r:.20} (was {self.sha256!r:.20}) in {self.bundle!r}"
            )
        return bundle


def plan(
    bundle: Bundle,
    shard_size: int | None = None,
    given: Sequence[GivenFiles] = (),
    count: int | None = None,
    **options: Any,
) -> BulkJob:
    """Checks the arguments of a job against its bundle, before any shard is made.

    Args:
        bundle: the opened bundle.
        shard_size: as in `BulkJob`.
        given: files of the given inputs.
        count: number of samples; by default that of the files, else 64.
        options: the other arguments of `BulkJob`; `labels` as `Bundle.generate` takes them.

    Raises:
        UsageError: a label, truncation, size, format or given input that is not allowed.
    """
    if (form := options.setdefault("form", "webdataset")) not in FORMATS:
        raise UsageError(
            f"The format of shards must be {either(FORMATS)}. Received: format={form!r}"
        )
    inputs = GivenInputs(given, bundle.inputs)
    if form == "tfrecord" and any(port.is_dynamic for port in bundle.outputs):
        raise UsageError(
            "The tfrecord format holds samples of one shape: use webdataset. "
            f"Received: {bundle.name!r} with samples of {bundle.shape}"
        )
    if shard_size is None:
        shard_size = max(1, min(_LARGEST_SHARD, _SHARD_BYTES // _sample_bytes(bundle, form)))
    if shard_size < 1:
        raise UsageError(f"--shard-size must be at least 1. Received: --shard-size {shard_size}")
    labels = options.pop("labels", None)
    count = count_samples(bundle, inputs, count, 64, labels)
    if labels is not None:
        ids = bundle.label_ids(np.zeros(len(labels), np.int64), labels)
        options["labels"] = None if ids is None else tuple(ids.tolist())
    job = BulkJob(
        str(bundle.path.resolve()),  # a link such as `latest` may move while the job runs
        count=count,
        shard_size=shard_size,
        given=tuple(given),
        given_sha256=tuple(source.sha256() for source in given),
        precision=bundle.precision,
        name=bundle.name,
        sha256=bundle.sha256,
        **options,
    )
    if job.shards > _MOST_SHARDS:
        raise UsageError(
            f"A job must have at most {_MOST_SHARDS} shards: raise --shard-size. "
            f"Received: {job.shards} shards of {job.shard_size}"
        )
    next(draw(bundle, inputs, range(1), job.seed, None, job.truncation, job.batch_size))
    return job


def _sample_bytes(bundle: Bundle, form: str) -> int:
    """Estimates the bytes of a sample before compression; a size may be any, such as 256."""
    first, *others = (
        math.prod(n or 256 for n in port.sizes) * np.dtype(port.dtype).itemsize
        for port in bundle.outputs
    )
    is_file = form != "npz" and file_format(bundle.outputs[0]) is not None
    return max(1, first // (4 if is_file else 1) + sum(others))


def file_format(port: Port) -> Format | None:
    """Returns the file format in which shards hold a sample; `None` for its numbers.

    It is the preferred one of the kind, among those that can be read again.
    """
    formats = kinds.get(port.kind).formats
    return next((form for form in formats if form.encode and form.decode), None)


def either(names: Iterable[str]) -> str:
    """Joins names as in "a, b or c"."""
    *first, last = names
    return f"{', '.join(first)} or {last}"
