"""The run folder: what a training leaves, as plain files that are whole at any instant.

```
recipe.yaml        the resolved recipe
environment.json   versions, machine and device
data.json          what the samples look like, how many there are, and a digest of them
metrics.csv        one row for each tick
samples/           grids from fixed seeds
checkpoints/       images-NNNNNNNNN.keras: both players, both optimizers, the average, the counters
                   and a digest, by which a damaged one is found
evaluation.json    by what the samples are measured: metrics, extractor and its hash, counts
best/              best.json, and the checkpoint that it names: the one of the best evaluation
report.html        curves and grids
ending.json        how the training ended; not there while it goes on
```
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import importlib
import io
import json
import math
import os
import pathlib
import platform
import re
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import yaml

from keras_gan import recipe as recipes
from keras_gan._version import __version__
from keras_gan.datasets import Source
from keras_gan.errors import UsageError
from keras_gan.games.gan import GAN
from keras_gan.spec import Spec

_CHECKPOINT = re.compile(r"images-(\d+)\.keras$")
# What a run folder may hold; one with anything else in it is never deleted.
_CONTENT = {"recipe.yaml", "environment.json", "data.json", "metrics.csv", "samples"}
_CONTENT |= {"checkpoints", "best", "report.html", "tensorboard", "bundle", "samples.png"}
_CONTENT |= {"ending.json", "evaluation.json"}
_HALF_WRITTEN = ".*.tmp"  # what `_temporary` leaves where the process is killed


class Run:
    """A run folder, new or existing.

    Args:
        path: the folder.

    Raises:
        UsageError: from `create`, a folder that is not empty or cannot be written; from `open`,
            one that is not a run folder.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(os.path.expanduser(path))

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        recipe: recipes.Recipe,
        data: dict[str, Any],
        replace: bool = False,
    ) -> Run:
        """Makes the folder, with the recipe, the environment and what the data is in it.

        Args:
            path: the folder.
            recipe: the resolved recipe.
            data: what `describe_data` tells of the data.
            replace: delete a run that is there. Nothing but a run is ever deleted.
        """
        run = cls(path)
        check_new(run.path, replace)
        with told_in_one_line(run.path):
            run.path.parent.mkdir(parents=True, exist_ok=True)
            # Made beside its place and renamed, so that there is a whole run or none.
            made = cls(tempfile.mkdtemp(prefix=f".{run.path.name}.", dir=run.path.parent))
            try:
                made.path.chmod(0o777 & ~_umask())
                made.samples.mkdir()
                made.checkpoints.mkdir()
                made.recipe = recipe
                made._write_json("environment.json", describe_environment())
                made._write_json("data.json", data)
                if run.path.exists() and any(run.path.iterdir()):
                    shutil.rmtree(run.path)
                os.replace(made.path, run.path)
            except BaseException:
                shutil.rmtree(made.path, ignore_errors=True)
                raise
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """Opens an existing folder."""
        run = cls(path)
        if not run._recipe.is_file():
            state = "which has no recipe.yaml" if run.path.exists() else "which does not exist"
            raise UsageError(f"A run folder holds a recipe.yaml. Received: {run.path}, {state}")
        return run

    @property
    def _recipe(self) -> pathlib.Path:
        return self.path / "recipe.yaml"

    @property
    def record(self) -> dict[str, Any]:
        """What the checkpoints were trained by, as plain values: its data need not be there."""
        return yaml.safe_load(self._trained_recipe.read_text("utf-8"))

    @property
    def _trained_recipe(self) -> pathlib.Path:
        return self.checkpoints / "recipe.yaml"

    @property
    def recipe(self) -> recipes.Recipe:
        return recipes.load(str(self._recipe))

    @recipe.setter
    def recipe(self, recipe: recipes.Recipe) -> None:
        write_atomically(self._recipe, recipe.to_yaml().encode())
        write_atomically(self._trained_recipe, recipe.to_yaml().encode())

    @property
    def trained_recipe(self) -> recipes.Recipe:
        """What the checkpoints were trained by, however recipe.yaml was edited since."""
        return recipes.load(str(self._trained_recipe))

    @property
    def data(self) -> dict[str, Any]:
        """What the run was trained on, as `describe_data` told it."""
        return _read_json(self.path / "data.json")

    @property
    def spec(self) -> Spec:
        """What a sample of the run's data looks like."""
        spec = dict(self.data["spec"])
        for name in ("shape", "value_range", "class_names"):
            spec[name] = None if spec[name] is None else tuple(spec[name])
        return Spec(**spec)

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        write_atomically(self.path / name, (json.dumps(content, indent=2) + "\n").encode())

    @property
    def samples(self) -> pathlib.Path:
        return self.path / "samples"

    @property
    def checkpoints(self) -> pathlib.Path:
        return self.path / "checkpoints"

    @property
    def metrics(self) -> pathlib.Path:
        return self.path / "metrics.csv"

    # ---------------------------------------------------------------- checkpoints

    def save(self, gan: GAN, keep: int = 2) -> pathlib.Path:
        """Writes the game's state as the newest checkpoint and lets the old ones go.

        Args:
            gan: the game.
            keep: how many checkpoints stay: the newest, and some to fall back on.
        """
        _refuse_non_finite(gan)
        path = self.checkpoints / f"images-{gan.count('examples_seen'):09d}.keras"
        save_atomically(gan, path)
        saved = self._all_checkpoints()
        # One with more images is of a future that was given up: damaged, or rolled back from.
        kept = [old for old in saved if old.name <= path.name][-keep:]
        for old in saved:
            if old not in kept:
                old.unlink()
        _sweep(self.checkpoints)
        for folder in (self.path, self.samples):
            _sweep(folder, _HALF_WRITTEN)
        return path

    def save_best(self, gan: GAN, record: dict[str, Any]) -> None:
        """Writes the game's state as the best one, with the evaluation that made it so."""
        _refuse_non_finite(gan)
        folder = self.path / "best"
        folder.mkdir(exist_ok=True)
        path = folder / f"images-{gan.count('examples_seen'):09d}.keras"
        save_atomically(gan, path)
        # From here on it is the best: the record names its file.
        self._write_json("best/best.json", {**record, "file": path.name})
        for old in folder.glob("images-*.keras"):
            if old != path:
                old.unlink()
        _sweep(folder)

    @property
    def best_record(self) -> dict[str, Any] | None:
        """The best evaluation with its `examples_seen` and `file`, or `None` before the first."""
        path = self.path / "best" / "best.json"
        return _read_json(path) if path.is_file() else None

    def checkpoint(self, which: str = "last") -> pathlib.Path:
        """Path of a checkpoint: "last", "best", or a .keras file of one's own.

        Raises:
            UsageError: there is none.
        """
        if which == "last":
            saved = self._all_checkpoints()
            if not saved:
                raise UsageError(
                    f"{self.path} has no checkpoint: it was ended before the first was written. "
                    "Start it anew"
                )
            return saved[-1]
        path = pathlib.Path(which)
        if which == "best":
            path = self.path / "best" / (self.best_record or {}).get("file", "best.json")
        if not path.is_file():
            raise UsageError(
                "A checkpoint is last, best, or a .keras file. "
                f"Received: {which!r}, and there is no {path}"
            )
        return path

    def load(self, which: str = "last", into: GAN | None = None) -> GAN:
        """The game as a checkpoint holds it, ready to play on.

        Where the last one is damaged, the one before it is taken, with a warning.

        Args:
            which: see `checkpoint`.
            into: a compiled game that takes over the numbers of the checkpoint's, instead of the
                checkpoint's game itself.

        Raises:
            UsageError: no such checkpoint, or none that can be read.
        """
        paths = [self.checkpoint(which)]
        if which == "last":
            paths += reversed(self._all_checkpoints()[:-1])
        for i, path in enumerate(paths):
            try:
                return load_game(path, into)
            except DamagedError as error:
                if path == paths[-1]:
                    raise
                earlier = paths[i + 1].name
                warnings.warn(f"{error}. Taking {earlier}, the one before", stacklevel=2)
        raise AssertionError  # the last path has given a game or an error

    @property
    def has_checkpoint(self) -> bool:
        return bool(self._all_checkpoints())

    def _all_checkpoints(self) -> list[pathlib.Path]:
        found = self.checkpoints.glob("images-*.keras") if self.checkpoints.is_dir() else ()
        return sorted(path for path in found if _CHECKPOINT.search(path.name))

    # ---------------------------------------------------------------- record

    @property
    def ending(self) -> dict[str, Any] | None:
        """How the last training ended: `reason`, `examples_seen`, `roll_backs`; `None` before."""
        path = self.path / "ending.json"
        return _read_json(path) if path.is_file() else None

    @ending.setter
    def ending(self, ending: dict[str, Any] | None) -> None:
        if ending is None:
            (self.path / "ending.json").unlink(missing_ok=True)
        else:
            self._write_json("ending.json", ending)

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """By what the training measures its samples; `None` before it has begun."""
        path = self.path / "evaluation.json"
        return _read_json(path) if path.is_file() else None

    @evaluation.setter
    def evaluation(self, protocol: dict[str, Any]) -> None:
        self._write_json("evaluation.json", protocol)

    def rows(self) -> list[dict[str, float]]:
        """The rows of metrics.csv as numbers; empty cells are left out."""
        if not self.metrics.is_file():
            return []
        try:
            with self.metrics.open(newline="") as file:
                return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
        except (ValueError, TypeError, csv.Error):
            raise UsageError(f"A metrics.csv holds numbers. Received: {self.metrics}") from None

    def write_rows(self, rows: list[dict[str, float]]) -> None:
        """Writes metrics.csv anew; a key that a row lacks, or NaN, is an empty cell."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.9g}" for k, v in row.items() if not math.isnan(v)})
        write_atomically(self.metrics, text.getvalue().encode())


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise UsageError(f"A run's {path.name} must be readable JSON. Received: {path}")
    return content


class DamagedError(UsageError):
    """A checkpoint cannot be read; an earlier one may."""


def load_game(path: pathlib.Path, into: GAN | None = None) -> GAN:
    """The game in a `.keras` file, or another one that takes over its numbers.

    Raises:
        DamagedError: it cannot be read.
        UsageError: it is no game, or does not fit the other one.
    """
    if not zipfile.is_zipfile(path) or _damaged(path):
        raise DamagedError(f"The checkpoint {path} is damaged, or no .keras file")
    try:
        if into is not None:
            _load_numbers(into, path)
            return into
        gan = keras.saving.load_model(path)
    except UsageError:  # of the game that is to take over the numbers
        raise
    except (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:200]
        raise DamagedError(f"The checkpoint {path} cannot be read: {reason}") from None
    if not isinstance(gan, GAN):
        raise UsageError(f"A checkpoint holds a GAN. Received: {path}, {type(gan).__name__}")
    return gan


def _load_numbers(gan: GAN, path: pathlib.Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras warns of weights that it leaves out
            gan.load_weights(path)
    except (ValueError, KeyError, UserWarning) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"What is changed must leave every weight and moment in its place. Received: {path}, "
            f"of which Keras says: {reason}"
        ) from None


def check_new(path: pathlib.Path, replace: bool = False) -> None:
    """Refuses a folder that a new run must not take.

    Args:
        path: where the run is to be.
        replace: whether a run that is there may be replaced.

    Raises:
        UsageError: it is a file, or holds anything else than such a run.
    """
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise UsageError(f"A run needs a folder. Received: {path}, which is a file")
    half_written = set(path.glob(_HALF_WRITTEN))  # by a process that was killed
    present = {entry.name for entry in path.iterdir() if entry not in half_written}
    if not present:
        return
    is_run = {"recipe.yaml", "environment.json", "checkpoints"} <= present
    if replace and is_run and present <= _CONTENT:
        return
    if replace:
        odd = sorted(present - _CONTENT) or ["no recipe.yaml"]
        raise UsageError(f"Only a run folder is replaced. Received: {path}, with {odd[0]}")
    resume = f"; go on with --resume {path}" if is_run else ""
    raise UsageError(
        f"A new run needs a new or empty folder. Received: {path}, which exists{resume}"
    )


def describe_data(source: Source) -> dict[str, Any]:
    """What a run records of its data: spec, counts, and a digest of 1,000 samples of each split."""
    counts = {split: source.count(split) for split in source.split_names}
    digest = hashlib.sha256()
    for split, count in counts.items():
        rows = np.linspace(0, count - 1, min(count, 1000)).astype(int)
        for array in source.rows(split, rows):
            if array is not None:
                digest.update(np.ascontiguousarray(array).tobytes())
    return {
        "description": source.description,
        "spec": dataclasses.asdict(source.spec),
        "counts": counts,
        "digest": digest.hexdigest(),
    }


class FiniteWeights:
    """Says which weight of a game is no finite number any more, or `None`.

    Args:
        gan: a compiled game.
    """

    def __init__(self, gan: GAN):
        owners = {
            "the generator": gan.generator,
            "the discriminator": gan.discriminator,
            "the averaged generator": gan.average_generator,
            "the generator's optimizer": gan.generator_optimizer,
            "the discriminator's optimizer": gan.discriminator_optimizer,
        }
        self._named = [
            (f"{variable.path} of {owner}", variable)
            for owner, of in owners.items()
            for variable in of.variables
            if keras.backend.is_float_dtype(variable.dtype)
        ]
        self._named += [
            (f"{key} that {name} remembers", variable)
            for name, memory in gan.states.items()
            for key, variable in memory.items()
            if keras.backend.is_float_dtype(variable.dtype)
        ]

    def flags(self) -> tf.Tensor:
        """Whether each is finite, as one tensor: one transfer from whatever device they are on."""
        return tf.stack([tf.reduce_all(tf.math.is_finite(v.value)) for _, v in self._named])

    def __call__(self) -> str | None:
        finite = np.asarray(self.flags())
        if finite.all():
            return None
        return f"{self._named[int(np.argmin(finite))][0]} is no finite number any more"


def _refuse_non_finite(gan: GAN) -> None:
    broken = FiniteWeights(gan)()
    if broken:
        raise UsageError(f"A checkpoint holds finite weights alone. Received: {broken}")


def save_atomically(model: keras.Model, path: pathlib.Path) -> None:
    """Saves a model so that `path` is at any instant the old file or the whole new one.

    The file ends with a digest of itself, as the comment of the zip archive that it is.
    """
    with told_in_one_line(path), _temporary(path, suffix=".keras") as temporary:
        model.save(temporary)
        _keep_what_keras_skips()
        _seal(temporary)
        _replace(temporary, path)


def _keep_what_keras_skips() -> None:
    """Lets Keras find the lists of attributes that it has made in saving.

    Keras 3.15 files them under one name and asks for them by another, so that every save makes an
    optimizer anew to list its attributes, whose variables leave 70 KiB behind for each player's.
    """
    with contextlib.suppress(ImportError, AttributeError):  # there is no public way to them
        state: Any = importlib.import_module("keras.src.backend.common.global_state")
        for kind in (
            "Functional",
            "Layer",
            "Loss",
            "Metric",
            "Operation",
            "Optimizer",
            "Sequential",
        ):
            found = state.get_global_attribute(f"saving_attr_skipset_{kind}")
            if found is not None:
                state.set_global_attribute(f"saving_attr_skiplist_{kind}", found)


_SEAL = b"sha256:"
_SEALED = len(_SEAL) + 64  # bytes of the comment


def _seal(path: pathlib.Path) -> None:
    """Gives a zip archive without a comment its digest as the comment."""
    digest = _sha256(path, path.stat().st_size)
    with path.open("rb+") as file:
        file.seek(-2, os.SEEK_END)  # the length of the comment, until now 0
        file.write(_SEALED.to_bytes(2, "little") + _SEAL + digest)


def _damaged(path: pathlib.Path) -> bool:
    """Whether a file has a digest that is not its own; one that was never sealed has none."""
    try:
        with zipfile.ZipFile(path) as archive:
            comment = archive.comment
    except (zipfile.BadZipFile, NotImplementedError, ValueError):  # of a broken directory
        return True
    if not comment.startswith(_SEAL):
        return False
    return _SEAL + _sha256(path, path.stat().st_size - _SEALED) != comment


def _sha256(path: pathlib.Path, size: int) -> bytes:
    """Digest of the first `size` bytes, the last two, a length, taken for 0: hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for start in range(0, size - 2, 2**20):
            digest.update(file.read(min(2**20, size - 2 - start)))
    digest.update(bytes(2))
    return digest.hexdigest().encode()


def _sweep(folder: pathlib.Path, pattern: str = ".*") -> None:
    """Deletes what a killed process has left half written."""
    for left in folder.glob(pattern):
        left.unlink(missing_ok=True)


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Writes a file so that `path` is at any instant the old file or the whole new one."""
    with told_in_one_line(path), _temporary(path) as temporary:
        temporary.write_bytes(content)
        _replace(temporary, path)


@contextlib.contextmanager
def _temporary(path: pathlib.Path, suffix: str = ".tmp") -> Iterator[pathlib.Path]:
    handle, name = tempfile.mkstemp(prefix=".", suffix=suffix, dir=path.parent)
    os.close(handle)
    temporary = pathlib.Path(name)
    temporary.chmod(0o666 & ~_umask())  # mkstemp's files are private, a run folder's are not
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _replace(temporary: pathlib.Path, path: pathlib.Path) -> None:
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    if os.name == "posix":  # the new name, too, survives a loss of power
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def told_in_one_line(path: pathlib.Path) -> Iterator[None]:
    """Turns a full disk, a read-only folder and the like into a `UsageError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())[:200]
        raise UsageError(f"{path} cannot be written: {reason}") from error


def describe_environment() -> dict[str, Any]:
    """Versions, machine and devices, for the record."""
    return {
        "keras_gan": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "devices": [device.name for device in tf.config.list_physical_devices()],
        "command": [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def processor() -> str:
    """The processor's name, where the system tells it."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
