"""Makes any number of samples, in shards: `keras-gan sample BUNDLE --count 1000000 --out FOLDER/`.

A shard is a function of the command's arguments and its number, so that it can be left out, lost
or made elsewhere, and made again byte for byte. A worker holds one batch at a time, and the memory
does not depend on the count.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import importlib
import io
import json
import math
import multiprocessing
import os
import re
import signal
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from serving import pictures, tfrecord
from serving.bundle import Bundle
from serving.errors import UsageError
from serving.provenance import NOTICE, provenance

FORMATS = ("webdataset", "npz", "tfrecord")
ENGINES = ("processes", "ray")
INDEX = "index.json"
SCHEMA_VERSION = 1
_SHARD_BYTES = 2**27  # before compression; what object stores and readers like
_MOST_IN_A_SHARD = 10_000
_MOST_SHARDS = 1_000_000  # of which an index can still be written
# What `Place.writing` names, and nothing that somebody else may have put there.
_TEMPORARY = re.compile(r"\..+\.(?:tar|npz|tfrecord-\d+-of-\d+|json|txt)\.\d+\.part")


class Stopped(BaseException):
    """The work was asked to stop; what is complete is in its place."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What decides the bytes of every shard.

    Args:
        bundle: folder of a bundle.
        seed: of the first sample; sample i has seed + i.
        count: number of samples.
        form: `"webdataset"`, `"npz"` or `"tfrecord"`.
        labels: class ids that take turns over the samples; `None` for the seeds' own.
        truncation: factor on the latents.
        batch_size: samples made at a time; the last bits of a sample may depend on it.
        shard_size: samples in a shard; by default 10000, fewer of large ones.
        metadata: whether pictures say that a model made them.
        precision: of the bundle's model.
    """

    bundle: str
    seed: int
    count: int
    form: str = "webdataset"
    labels: tuple[int, ...] | None = None
    truncation: float = 1.0
    batch_size: int = 64
    shard_size: int = _MOST_IN_A_SHARD
    metadata: bool = True
    precision: str = "float32"
    name: str = ""
    sha256: str = ""

    @property
    def shards(self) -> int:
        """How many there are."""
        return math.ceil(self.count / self.shard_size)

    def rows(self, number: int) -> range:
        """Gives the places of a shard's samples in the whole."""
        start = number * self.shard_size
        return range(start, min(start + self.shard_size, self.count))

    def file_name(self, number: int) -> str:
        """Gives the name of a shard's file."""
        if self.form == "tfrecord":
            return tfrecord.file_name(self.name, number, self.shards)
        ending = "tar" if self.form == "webdataset" else "npz"
        return f"{self.name}-{number:06d}.{ending}"

    def arguments(self) -> dict[str, Any]:
        """What a folder of shards remembers, and a later start must agree with."""
        content = dataclasses.asdict(self)
        del content["bundle"]
        content["labels"] = None if self.labels is None else list(self.labels)
        return {"model": content.pop("name"), "format": content.pop("form"), **content}


def plan(bundle: Bundle, shard_size: int | None = None, **options: Any) -> Job:
    """Checks what a job needs of its bundle, before any work is done.

    Args:
        bundle: the opened bundle.
        shard_size: as in `Job`.
        options: the other arguments of `Job`; `labels` as `Bundle.generate` takes them.

    Raises:
        UsageError: a label, truncation, size or format that is not allowed.
    """
    if (form := options.setdefault("form", "webdataset")) not in FORMATS:
        raise UsageError(f"The format of shards must be {_either(FORMATS)}. Received: {form!r}")
    if shard_size is None:
        size = math.prod(bundle.shape) * (1 if _as_pictures(bundle, form) else 4)
        shard_size = max(1, min(_MOST_IN_A_SHARD, _SHARD_BYTES // size))
    if shard_size < 1:
        raise UsageError(f"--shard-size must be at least 1. Received: {shard_size}")
    if (labels := options.pop("labels", None)) is not None:
        ids = bundle.label_ids(np.zeros(len(labels), np.int64), labels)
        options["labels"] = None if ids is None else tuple(ids.tolist())
    job = Job(
        str(bundle.path.resolve()),  # a link as `latest` may be moved while the job runs
        shard_size=shard_size,
        precision=bundle.precision,
        name=bundle.name,
        sha256=bundle.sha256,
        **options,
    )
    if job.shards > _MOST_SHARDS:
        raise UsageError(
            f"There may be {_MOST_SHARDS} shards at most: raise --shard-size. "
            f"Received: {job.shards} shards of {job.shard_size}"
        )
    bundle.sample(np.array([job.seed]), None, job.truncation, job.batch_size)
    return job


def run(
    job: Job,
    out: str,
    workers: int | None = None,
    engine: str = "processes",
    overwrite: bool = False,
    tell: Callable[[Job, int, int], None] | None = None,
) -> dict[str, Any]:
    """Makes the shards that are not there yet; gives what `index.json` then holds.

    Args:
        job: what to make.
        out: a folder, or a URL that fsspec knows.
        workers: processes that make shards at the same time; by default one for each processor.
        engine: `"processes"` of this machine, or `"ray"`: Ray Data, on its cluster.
        overwrite: whether the folder may hold other files.
        tell: called after each shard with the job and the samples that are there and made now.

    Raises:
        UsageError: a folder of other arguments, of other files, or not writable; a worker that
            could not go on.
        Stopped: a signal came.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"--workers must be at least 1. Received: {workers}")
    if engine not in ENGINES:
        raise UsageError(f"--engine must be {_either(ENGINES)}. Received: {engine!r}")
    if engine == "ray":
        _import_ray()  # before there is a folder
    place = open_place(out)
    try:
        with place.held():
            return _run(job, place, workers, engine, overwrite, tell)
    except OSError as error:
        raise UsageError(f"The output must be writable. Received: {error}") from error


def _run(
    job: Job,
    place: Place,
    workers: int | None,
    engine: str,
    overwrite: bool,
    tell: Callable[[Job, int, int], None] | None,
) -> dict[str, Any]:
    sizes = place.sizes()
    done = _done(job, place, sizes, overwrite)
    place.clean(sizes)
    there = sum(record["count"] for record in done.values())
    missing = [number for number in range(job.shards) if number not in done]
    index = _Index(job, place, done)
    index.save()
    made = 0

    def add(number: int, record: dict[str, Any]) -> None:
        nonlocal made
        made += record["count"]
        index.add(number, record)
        if tell:
            tell(job, there + made, made)

    makers = {"processes": _by_processes, "ray": _by_ray}
    try:
        if missing:
            makers[engine](job, place, missing, workers, add)
    except BaseException:
        index.save()
        raise
    _finish(job, place, index.done)
    return index.save(complete=True) | {"made": made}


def _done(
    job: Job, place: Place, sizes: dict[str, int], overwrite: bool
) -> dict[int, dict[str, Any]]:
    """Finds the shards that need not be made; refuses a folder of something else."""
    content = place.read_index()
    if content is None:
        others = [name for name in sizes if not _TEMPORARY.fullmatch(name)]
        if others and not overwrite:
            raise UsageError(
                "A folder for shards must be new, empty, or one that the same command began; or "
                f"pass --overwrite. Received: {place}, which holds {min(others)!r}"
            )
        return {}
    _check_same(job, content, place)
    done = {}
    records = {record["name"]: record for record in content["shards"]}
    for number in range(job.shards):
        record = records.get(job.file_name(number))
        if record and sizes.get(record["name"]) == record["bytes"]:
            done[number] = record
    return done


def _check_same(job: Job, content: Any, place: Place) -> None:
    try:
        known = content["schema_version"] == SCHEMA_VERSION
        before = {**content["arguments"], **content["software"]}
        now = {**job.arguments(), **_software()}
        known = known and all(
            isinstance(r["name"], str) and type(r["bytes"]) is int and type(r["count"]) is int
            for r in content["shards"]
        )
    except (KeyError, TypeError, ValueError):
        known, before, now = False, {}, {}
    if not known:
        raise UsageError(
            f"{INDEX} must be one that keras-gan sample wrote. Received: {place}/{INDEX}"
        )
    keys = sorted(before.keys() | now.keys())
    changed = [key for key in keys if before.get(key) != now.get(key)]
    if changed:
        told = (f"{key}={now.get(key)!r:.80} (was {before.get(key)!r:.80})" for key in changed)
        raise UsageError(
            "A folder of shards goes on with the arguments and releases that it was begun with; "
            f"choose another folder. Received: {', '.join(told)} in {place}"
        )


class _Index:
    """`index.json`, written often enough that a killed run repeats a few seconds at most."""

    def __init__(self, job: Job, place: Place, done: dict[int, dict[str, Any]]):
        self._job, self._place = job, place
        self.done = done
        self._next = 0.0

    def add(self, number: int, record: dict[str, Any]) -> None:
        self.done[number] = record
        if time.monotonic() >= self._next:
            self.save()

    def save(self, complete: bool = False) -> dict[str, Any]:
        start = time.monotonic()
        shards = [self.done[number] for number in sorted(self.done)]
        content = {
            "schema_version": SCHEMA_VERSION,
            "notice": NOTICE,
            "arguments": self._job.arguments(),
            "software": _software(),
            "complete": complete,
            "count": sum(record["count"] for record in shards),
            "bytes": sum(record["bytes"] for record in shards),
            "shards": shards,
        }
        self._place.write_text(INDEX, json.dumps(content, indent=1) + "\n")
        now = time.monotonic()
        self._next = now + max(2.0, 20.0 * (now - start))  # of many shards it takes a while
        return content


def _software() -> dict[str, str]:
    """What else has a say in the bytes: other releases may round or compress otherwise."""
    import onnxruntime
    import PIL

    return {
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
        "pillow": PIL.__version__,
    }


def _finish(job: Job, place: Place, done: dict[int, dict[str, Any]]) -> None:
    """Writes what TensorFlow Datasets reads, when all it tells of is there."""
    if job.form != "tfrecord":
        return
    bundle = _open(job)
    told = f"{job.count} samples of {job.name}, seeds from {job.seed}. {NOTICE}"
    files = tfrecord.metadata(
        job.name,
        bundle.kind,
        bundle.shape,
        bundle.num_classes,
        bundle.class_names,
        lengths=[done[number]["count"] for number in range(job.shards)],
        size=sum(record["bytes"] for record in done.values()),
        description=told,
    )
    for name, text in files.items():
        place.write_text(name, text)


# ----------------------------------------------------------------------------------- a shard


def _open(job: Job) -> Bundle:
    """Opens the job's bundle, which may have become another one since the plan."""
    bundle = Bundle(job.bundle, precision=job.precision, threads=1, device="cpu")
    if bundle.sha256 != job.sha256:
        raise UsageError(
            "A bundle must stay what it is while its shards are made. Received: sha256="
            f"{bundle.sha256!r:.20} (was {job.sha256!r:.20}) in {job.bundle!r}"
        )
    return bundle


def make_shard(
    bundle: Bundle, job: Job, number: int, path: Path, stop: Callable[[], bool] = bool
) -> dict[str, Any]:
    """Writes one shard; gives its record in the index.

    Args:
        bundle: the job's bundle.
        job: the job.
        number: which shard.
        path: file to write.
        stop: asked between batches whether to give up, with `Stopped`.
    """
    rows = job.rows(number)
    with path.open("wb") as file:
        writer = _WRITERS[job.form](file, bundle, job, len(rows))
        for start in range(rows.start, rows.stop, job.batch_size):
            if stop():
                raise Stopped
            places = range(start, min(start + job.batch_size, rows.stop))
            seeds = np.arange(places.start, places.stop, dtype=np.int64) + job.seed
            labels = job.labels and [job.labels[i % len(job.labels)] for i in places]
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
    def __init__(self, file: Any, bundle: Bundle, job: Job, count: int):
        self.file, self.bundle, self.job, self.count = file, bundle, job, count

    def each(self, drawn: dict[str, np.ndarray]) -> Iterator[tuple[int, int | None, Any]]:
        """Gives seed, label and content of each sample: a PNG file, or its numbers."""
        samples: Iterable[Any] = drawn["samples"]
        seeds = drawn["seeds"].tolist()
        labels = drawn["labels"].tolist() if "labels" in drawn else [None] * len(seeds)
        if _as_pictures(self.bundle, self.job.form):
            pixels = pictures.to_uint8(drawn["samples"], self.bundle.value_range)
            samples = map(self.png, pixels, seeds, labels)
        return zip(seeds, labels, samples, strict=True)

    def png(self, picture: np.ndarray, seed: int, label: int | None) -> bytes:
        if not self.job.metadata:
            return pictures.to_png(picture)
        facts: dict[str, object] = {"seed": seed}
        facts |= {} if label is None else {"label": label}
        facts |= {} if self.job.truncation == 1 else {"truncation": self.job.truncation}
        return pictures.to_png(picture, provenance(self.job.name, self.job.sha256, **facts))


class _WebDataset(_Writer):
    """A tar of files that share a key up to their first dot: PNG or .npy, label, JSON."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.tar = tarfile.TarFile(fileobj=self.file, mode="w", format=tarfile.USTAR_FORMAT)

    def add(self, drawn: dict[str, np.ndarray]) -> None:
        for seed, label, content in self.each(drawn):
            facts = {"seed": seed, "model": self.job.name}
            if isinstance(content, bytes):
                self.member(seed, "png", content)
            else:
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, content, allow_pickle=False)
                self.member(seed, "npy", buffer.getvalue())
            if label is not None:
                facts["label"] = label
                self.member(seed, "cls", str(label).encode())
            self.member(seed, "json", json.dumps(facts).encode())

    def member(self, seed: int, ending: str, content: bytes) -> None:
        info = tarfile.TarInfo(f"{seed:019d}.{ending}")  # of no time and no owner
        info.size = len(content)
        self.tar.addfile(info, io.BytesIO(content))
        self.tar.getmembers().clear()  # it would remember them all

    def close(self) -> None:
        self.tar.close()


class _Npz(_Writer):
    """An .npz of `samples` float32, `seeds` and, of a conditional generator, `labels`."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.zip = zipfile.ZipFile(self.file, "w")
        self.rest: dict[str, list[np.ndarray]] = {"seeds": [], "labels": []}
        self.samples = self.zip.open("samples.npy", "w", force_zip64=True)
        shape = (self.count, *self.bundle.shape)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.samples, header)

    def add(self, drawn: dict[str, np.ndarray]) -> None:
        self.samples.write(drawn["samples"].astype("<f4").tobytes())
        for name, parts in self.rest.items():
            parts += [drawn[name]] if name in drawn else []

    def close(self) -> None:
        self.samples.close()
        for name, parts in self.rest.items():
            if parts:
                with self.zip.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.concatenate(parts), allow_pickle=False)
        self.zip.close()


class _TFRecord(_Writer):
    """Records with `image` (PNG) or `sample` (float32), `seed`, and `label` if there are any."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.messages: list[bytes] = []
        self.size = 0

    def add(self, drawn: dict[str, np.ndarray]) -> None:
        for seed, label, content in self.each(drawn):
            features: dict[str, Any] = {"seed": seed}
            features["image" if isinstance(content, bytes) else "sample"] = content
            features |= {} if label is None else {"label": label}
            self.messages.append(tfrecord.example(features))
            self.size += len(self.messages[-1])
        if self.size > 2**21:  # the checksums of many messages together cost less
            self.flush()

    def flush(self) -> None:
        self.file.write(tfrecord.records(self.messages))
        self.messages, self.size = [], 0

    def close(self) -> None:
        self.flush()


_WRITERS: dict[str, Any] = {"webdataset": _WebDataset, "npz": _Npz, "tfrecord": _TFRecord}


def _as_pictures(bundle: Bundle, form: str) -> bool:
    return bundle.kind == "image" and form != "npz"


# ----------------------------------------------------------------------------------- workers

Add = Callable[[int, dict[str, Any]], None]  # is told of each shard and its record


def _by_processes(
    job: Job, place: Place, missing: list[int], workers: int | None, add: Add
) -> None:
    workers = min(workers or _processors(), len(missing))
    if workers == 1:
        bundle = _open(job)
        for number in missing:
            add(number, _make(bundle, job, place, number))
        return
    context = multiprocessing.get_context("spawn")  # a fork would share onnxruntime's threads
    stop = context.Event()
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, context, initializer=_start_worker, initargs=(job, place, stop)
    )
    waiting: set[concurrent.futures.Future] = set()
    numbers = iter(missing)
    try:
        while True:
            while len(waiting) < 2 * workers and (number := next(numbers, None)) is not None:
                waiting.add(pool.submit(_work, number))
            if not waiting:
                break
            over, waiting = concurrent.futures.wait(
                waiting, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in over:
                add(*future.result())
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UsageError(
            "A worker process must live; the system may have ended it for its memory: try fewer "
            f"--workers. Received: {workers} workers"
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        for future in waiting:  # what was finished while the others were being stopped
            if not future.cancelled() and future.exception() is None and future.result()[1]:
                add(*future.result())


# Of a worker process: bundle, job, place and the event that stops, or why there are none.
_worker: Any = None


def _start_worker(job: Job, place: Place, stop: Any) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells all; the parent decides
    if hasattr(signal, "SIGTERM"):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        _worker = _open(job), job, place, stop
    except Exception as error:  # what ends here is a pool without a reason
        told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        opening = UsageError(f"A worker must be able to open the bundle. Received: {told}")
        _worker = error if isinstance(error, UsageError) else opening


def _die_with_parent() -> None:
    """A parent that was killed leaves its workers waiting for a word from it for ever."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _work(number: int) -> tuple[int, dict[str, Any]]:
    if isinstance(_worker, UsageError):
        raise _worker
    bundle, job, place, stop = _worker
    try:
        return number, _make(bundle, job, place, number, stop.is_set)
    except Stopped:
        return number, {}  # nobody waits for it


def _make(
    bundle: Bundle, job: Job, place: Place, number: int, stop: Callable[[], bool] = bool
) -> dict[str, Any]:
    with place.writing(job.file_name(number)) as path:
        return make_shard(bundle, job, number, path, stop)


def _import_ray() -> Any:
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.data")
    except ImportError as error:
        raise UsageError(
            "--engine ray needs Ray: pip install 'keras-gan[scale]'. "
            f"Received: an environment without it ({error})"
        ) from error
    return ray


class _RayWorker:
    """Opens the bundle once, then makes one shard a row."""

    def __init__(self, job: Job, place: Place):
        self._job, self._place = job, place
        self._bundle = _open(job)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        number = int(row["number"])
        return {"number": number, **_make(self._bundle, self._job, self._place, number)}


def _by_ray(job: Job, place: Place, missing: list[int], workers: int | None, add: Add) -> None:
    ray = _import_ray()
    if not ray.is_initialized():  # RAY_ADDRESS names a cluster; without it, one starts here
        ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    context: Any = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    workers = min(workers or int(ray.cluster_resources().get("CPU", 1)), len(missing))
    rows = ray.data.from_items(
        [{"number": number} for number in missing],
        override_num_blocks=min(len(missing), 10_000),  # a block is done as a whole
    )
    made = rows.map(_RayWorker, fn_constructor_args=(job, place), concurrency=workers, num_cpus=1)
    try:
        for row in made.iter_rows():
            number = int(row.pop("number"))
            add(number, {key: x.item() if hasattr(x, "item") else x for key, x in row.items()})
    except ray.exceptions.RayError as error:
        # A worker's traceback ends with what was wrong.
        *_, last = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"Ray's workers must be able to go on. Received: {last[:300]}") from error


def _processors() -> int:
    with contextlib.suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# ------------------------------------------------------------------------------------ places


class Place:
    """A folder that shards go to.

    Args:
        path: the folder, made if there is none.
    """

    def __init__(self, path: str):
        self.path = Path(os.path.abspath(path))

    def __str__(self) -> str:
        return str(self.path)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps a second run out, whose temporary files the first would take for leavings."""
        self.path.mkdir(parents=True, exist_ok=True)
        if sys.platform == "win32":
            yield
            return
        import fcntl

        handle = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(
                    f"Only one run at a time may write into a folder. Received: {self}"
                ) from error
            except OSError:
                pass  # a file system without locks
            yield
        finally:
            os.close(handle)

    def sizes(self) -> dict[str, int]:
        """Gives the size of each file by its name."""
        with os.scandir(self.path) as entries:
            return {entry.name: entry.stat(follow_symlinks=False).st_size for entry in entries}

    def clean(self, names: Iterable[str]) -> None:
        """Removes what a killed run left half written."""
        for name in names:
            if _TEMPORARY.fullmatch(name):
                (self.path / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Gives a file to write, which is renamed when all has gone well."""
        temporary = self.path / f".{name}.{os.getpid()}.part"
        try:
            yield temporary
            os.replace(temporary, self.path / name)
        finally:
            temporary.unlink(missing_ok=True)

    def write_text(self, name: str, text: str) -> None:
        with self.writing(name) as path, path.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def read_index(self) -> Any:
        """Gives the content of `index.json`, `None` where there is none."""
        try:
            return json.loads((self.path / INDEX).read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            return {}


class RemotePlace(Place):
    """A place that fsspec knows; a shard is made here and put there whole.

    Args:
        url: as `s3://bucket/folder`.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self._open()

    def _open(self) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise UsageError(
                "A URL as --out needs fsspec: pip install 'keras-gan[bulk]'. "
                f"Received: {self.url!r}"
            ) from error
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError, OSError) as error:
            told = " ".join(str(error).split())[:200]
            raise UsageError(
                "A URL as --out needs the file system's package for fsspec, as s3fs for s3://. "
                f"Received: {self.url!r} ({told})"
            ) from error

    def __str__(self) -> str:
        return self.url

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url}  # each process connects for itself

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.url = state["url"]
        self._open()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with self._told():
            self._files.makedirs(self._root, exist_ok=True)
        yield

    def sizes(self) -> dict[str, int]:
        found: list[Any] = []
        with self._told(), contextlib.suppress(FileNotFoundError):  # no folder is no file in it
            self._files.invalidate_cache()
            found = self._files.ls(self._root, detail=True)
        entries = ((entry["name"].rstrip("/").rpartition("/")[2], entry) for entry in found)
        return {name: int(entry.get("size") or 0) for name, entry in entries if name}

    def clean(self, names: Iterable[str]) -> None:
        pass  # nothing is written there in parts

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            yield path
            with self._told():
                self._files.put_file(str(path), f"{self._root}/{name}")

    def read_index(self) -> Any:
        try:
            with self._told():
                return json.loads(self._files.cat_file(f"{self._root}/{INDEX}"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            if isinstance(error, UsageError):
                raise
            return {}

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Every file system has failures of its own."""
        try:
            yield
        except (OSError, ValueError):
            raise
        except Exception as error:
            told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise UsageError(f"The output must be writable. Received: {self} ({told})") from error


def open_place(out: str) -> Place:
    """Opens a folder or a URL.

    Raises:
        UsageError: a URL without fsspec or its file system, a file where the folder is to be.
    """
    if re.match(r"[a-z][a-z0-9+.-]*://", out):
        return RemotePlace(out)
    if os.path.exists(out) and not os.path.isdir(out):
        raise UsageError(f"--out must name a folder. Received: {out!r}")
    return Place(out)


# ------------------------------------------------------------------------------ command line


def command(options: Any) -> int:
    """Runs `keras-gan sample` into a folder of shards."""
    if options.each or not options.out:
        raise UsageError(
            "Shards go to --out FOLDER/, and pictures of their own to --each without it. "
            f"Received: --out {options.out} --each {options.each}"
        )
    if "://" in options.bundle:
        raise UsageError(f"Shards are made from a bundle on disk. Received: {options.bundle!r}")
    labels = options.labels and [name.strip() for name in options.labels.split(",")]
    job = plan(
        Bundle(options.bundle, precision=options.precision, threads=1, device="cpu"),
        options.shard_size,
        seed=options.seed,
        count=options.count,
        form=options.format or "webdataset",
        labels=labels,
        truncation=options.truncation,
        batch_size=options.batch_size,
        metadata=not options.no_metadata,
    )
    progress = _Progress()
    engine = options.engine or "processes"
    try:
        with _terminated():
            index = run(job, options.out, options.workers, engine, options.overwrite, progress.tell)
    except KeyboardInterrupt as signalled:
        progress.end()
        print(
            "keras-gan: stopped; the same command goes on from the shards that are complete",
            file=sys.stderr,
        )
        return 143 if signalled.args else 130
    finally:
        progress.end()
    made, seconds = index["made"], time.monotonic() - progress.start
    told = f"{made / seconds:.0f} samples/s" if made else "all of it was there"
    print(
        f"Wrote {options.out}: {job.count} samples of {job.name} in {job.shards} "
        f"{'shard' if job.shards == 1 else 'shards'}, {told}"
    )
    return 0


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """Lets a cluster's SIGTERM end the work as Ctrl-C does."""

    def stop(number: int, _: Any) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Progress:
    """One line on a terminal, which is written over; elsewhere a line twice a minute."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._next = self.start + (0.0 if self._terminal else 30.0)
        self._shown = 0

    def tell(self, job: Job, there: int, made: int) -> None:
        now = time.monotonic()
        if now < self._next or sys.stderr is None:
            return
        self._next = now + (0.2 if self._terminal else 30.0)
        rate = made / max(now - self.start, 1e-9)
        left = (job.count - there) / max(rate, 1e-9)
        line = f"{there} of {job.count} samples, {rate:.0f}/s, {_duration(left)} left"
        if self._terminal:
            print(f"\r{line:<{self._shown}}", end="", file=sys.stderr, flush=True)
            self._shown = len(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._shown:
            print(f"\r{'':<{self._shown}}\r", end="", file=sys.stderr, flush=True)
            self._shown = 0


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _either(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}"
