"""The run folder: what a training leaves, as plain files that are whole at any instant.

```
recipe.yaml        the resolved recipe
environment.json   versions, machine and device
metrics.csv        one row for each tick
samples/           grids from fixed seeds
checkpoints/       images-NNNNNNNNN.keras: both players, both optimizers, the average, the counters
best/              best.keras and best.json: the checkpoint with the best evaluation
report.html        curves and grids
```
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pathlib
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_gan import recipe as recipes
from keras_gan._version import __version__
from keras_gan.errors import UsageError
from keras_gan.gan import GAN

_CHECKPOINT = re.compile(r"images-(\d+)\.keras$")
_KEPT = 2  # the newest, and one to fall back on


class Run:
    """A run folder, new or existing.

    Args:
        path: the folder.

    Raises:
        UsageError: from `create`, a folder that is not empty or cannot be written; from `open`,
            one that is not a run folder.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path).expanduser()

    @classmethod
    def create(cls, path: str | os.PathLike[str], recipe: recipes.Recipe) -> Run:
        """Makes the folder with the recipe and the environment in it."""
        run = cls(path)
        if run.path.exists() and not run.path.is_dir():
            raise UsageError(f"A run needs a folder. Received: {run.path}, which is a file")
        if run.path.is_dir() and any(run.path.iterdir()):
            resume = f"; go on with --resume {run.path}" if run._recipe.is_file() else ""
            raise UsageError(
                f"A new run needs a new or empty folder. Received: {run.path}, which exists{resume}"
            )
        with told_in_one_line(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
            run.samples.mkdir()
            run.checkpoints.mkdir()
            run.recipe = recipe
            environment = json.dumps(describe_environment(), indent=2) + "\n"
            write_atomically(run.path / "environment.json", environment.encode())
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
    def recipe(self) -> recipes.Recipe:
        return recipes.load(str(self._recipe))

    @recipe.setter
    def recipe(self, recipe: recipes.Recipe) -> None:
        write_atomically(self._recipe, recipe.to_yaml().encode())

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

    def save(self, gan: GAN) -> pathlib.Path:
        """Writes the game's state as the newest checkpoint and lets the old ones go."""
        path = self.checkpoints / f"images-{gan.count('images_seen'):09d}.keras"
        save_atomically(gan, path)
        for old in self._all_checkpoints()[:-_KEPT]:
            old.unlink()
        return path

    def save_best(self, gan: GAN, record: dict[str, Any]) -> None:
        """Writes the game's state as the best one, with the evaluation that made it so."""
        (self.path / "best").mkdir(exist_ok=True)
        save_atomically(gan, self.path / "best" / "best.keras")
        write_atomically(self.path / "best" / "best.json", json.dumps(record, indent=2).encode())

    @property
    def best_record(self) -> dict[str, Any] | None:
        path = self.path / "best" / "best.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def checkpoint(self, which: str = "last") -> pathlib.Path:
        """Path of a checkpoint: "last", "best", or a .keras file of one's own.

        Raises:
            UsageError: there is none.
        """
        if which == "last":
            saved = self._all_checkpoints()
            if not saved:
                raise UsageError(
                    f"{self.path} has no checkpoint yet: it was stopped before its first tick. "
                    "Start it anew in another folder"
                )
            return saved[-1]
        path = self.path / "best" / "best.keras" if which == "best" else pathlib.Path(which)
        if not path.is_file():
            raise UsageError(
                "A checkpoint is last, best, or a .keras file. "
                f"Received: {which!r}, and there is no {path}"
            )
        return path

    def load(self, which: str = "last") -> GAN:
        """The game as a checkpoint holds it, ready to play on.

        Raises:
            UsageError: no such checkpoint, or one that cannot be read.
        """
        path = self.checkpoint(which)
        try:
            gan = keras.saving.load_model(path)
        except (ValueError, OSError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"The checkpoint {path} cannot be read: {reason}") from None
        if not isinstance(gan, GAN):
            raise UsageError(f"A checkpoint holds a GAN. Received: {path}, {type(gan).__name__}")
        return gan

    def _all_checkpoints(self) -> list[pathlib.Path]:
        found = self.checkpoints.glob("images-*.keras") if self.checkpoints.is_dir() else ()
        return sorted(path for path in found if _CHECKPOINT.search(path.name))

    # ---------------------------------------------------------------- record

    def rows(self) -> list[dict[str, float]]:
        """The rows of metrics.csv as numbers; empty cells are left out."""
        if not self.metrics.is_file():
            return []
        with self.metrics.open(newline="") as file:
            return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]

    def write_rows(self, rows: list[dict[str, float]]) -> None:
        """Writes metrics.csv anew; a key that a row lacks is an empty cell."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.9g}" for k, v in row.items()})
        write_atomically(self.metrics, text.getvalue().encode())


def is_replaceable(path: pathlib.Path) -> bool:
    """Whether a folder is a run folder, or nothing: what may be deleted to start anew."""
    return not path.exists() or (path / "recipe.yaml").is_file()


def remove(path: pathlib.Path) -> None:
    """Deletes a run folder.

    Raises:
        UsageError: the folder is something else.
    """
    if not is_replaceable(path):
        raise UsageError(f"Only a run folder is replaced. Received: {path}, without recipe.yaml")
    if path.exists():
        shutil.rmtree(path)


def save_atomically(model: keras.Model, path: pathlib.Path) -> None:
    """Saves a model so that `path` is at any instant the old file or the whole new one."""
    with told_in_one_line(path), _temporary(path, suffix=".keras") as temporary:
        model.save(temporary)
        _replace(temporary, path)


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
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)  # mkstemp's files are private, a run folder's are not
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _replace(temporary: pathlib.Path, path: pathlib.Path) -> None:
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


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
    import numpy

    return {
        "keras_gan": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": numpy.__version__,
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
