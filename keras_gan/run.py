"""The run folder: plain files that a training writes atomically.

```
recipe.yaml        the resolved recipe
environment.json   versions, machine and device
data.json          spec, counts, stored ranges and a digest of the data
imports.json       modules of --import, with their paths and digests; absent without any
metrics.csv        one row for each tick
samples/           previews of fixed seeds
checkpoints/       examples-NNNNNNNNN.keras: networks, optimizers, average, counters, and a digest
                   by which damage is detected
evaluation.json    protocol of the evaluations: metrics, extractor and its hash, counts
best/              best.json, and the checkpoint of the best evaluation, which it names
averages/          examples-NNNNNNNNN.npz: snapshots of the power-function averages, if it has any
averaged/          averaged.json, and the state with an average of them, made by `average`
report.html        curves and previews
ending.json        the reason why the training ended; absent while it runs
```
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
import pathlib
import re
import shutil
import tempfile
import warnings
from typing import Any

import yaml

from keras_gan import datasets, imports
from keras_gan import recipe as recipes
from keras_gan.checkpoints import DamagedError, check_finite, load_game, save_atomically
from keras_gan.environment import describe_environment
from keras_gan.errors import UsageError, one_line
from keras_gan.files import HALF_WRITTEN, delete_leftovers, umask, write_atomically, write_errors
from keras_gan.games.gan import GAN
from keras_gan.places import CHOSEN, Place, open_place
from keras_gan.spec import Spec

_CHECKPOINT = re.compile(r"examples-(\d+)\.keras$")
# Everything that a run folder may hold. A folder with anything else is never deleted.
_CONTENT = {"recipe.yaml", "environment.json", "data.json", "metrics.csv", "samples"}
_CONTENT |= {"checkpoints", "best", "report.html", "tensorboard", "bundle", "samples.png"}
_CONTENT |= {"ending.json", "evaluation.json", "imports.json", "averages", "averaged"}


class Run:
    """A run folder, new or existing.

    Args:
        path: the folder.

    Raises:
        UsageError: from `create`, a folder that is not empty or cannot be written; from `open`,
            a folder that is not a run folder.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(os.path.expanduser(path))
        self._place: Place | None = None  # by which it was opened

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        recipe: recipes.Recipe,
        data: dict[str, Any],
        replace: bool = False,
    ) -> Run:
        """Creates the folder with the recipe, the environment and the description of the data.

        Args:
            path: the folder.
            recipe: the resolved recipe.
            data: the description, see `describe_data`.
            replace: delete an existing run. Nothing but a run is ever deleted.
        """
        run = cls(path)
        check_new(run.path, replace)
        with write_errors(run.path):
            run.path.parent.mkdir(parents=True, exist_ok=True)
            # A temporary folder is renamed at the end, so that a run is never incomplete.
            new = cls(tempfile.mkdtemp(prefix=f".{run.path.name}.", dir=run.path.parent))
            try:
                new.path.chmod(0o777 & ~umask())
                new.samples.mkdir()
                new.checkpoints.mkdir()
                new.recipe = recipe
                new._write_json("environment.json", describe_environment())
                new.data = data
                new.record_imports()
                if run.path.exists() and any(run.path.iterdir()):
                    shutil.rmtree(run.path)
                os.replace(new.path, run.path)
            except BaseException:
                shutil.rmtree(new.path, ignore_errors=True)
                raise
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """Opens an existing folder, and imports the modules that it was trained with.

        The path may also be that of a folder or file in it. See `which` for a checkpoint's.
        """
        place = open_place(path)
        run = cls(place.folder)
        run._place = place
        if run._imports.is_file():
            imports.reload(_read_json(run._imports).get("modules", []), str(run.path))
        return run

    @property
    def _imports(self) -> pathlib.Path:
        return self.path / "imports.json"

    def record_imports(self) -> None:
        """Records the modules that `keras_gan.imports` has loaded in this process."""
        if loaded := imports.describe():
            self._write_json("imports.json", {"modules": loaded})

    @property
    def _recipe(self) -> pathlib.Path:
        return self.path / "recipe.yaml"

    @property
    def record(self) -> dict[str, Any]:
        """The recipe of the checkpoints as plain values, which needs no access to the data."""
        return _read_yaml(self._trained_recipe)

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
    def data_place(self) -> tuple[str, str]:
        """Key and place of the data in recipe.yaml, see `datasets.place_of`; it need not exist."""
        tree = _read_yaml(self._recipe)
        source = tree["data"].get("source") if isinstance(tree.get("data"), dict) else None
        if not isinstance(source, str):
            raise UsageError(f"data.source must name data. Received: {source!r} in {self._recipe}")
        return datasets.place_of(tree["data"])

    def trained_recipe(self, place: str | None = None) -> recipes.Recipe:
        """Returns the recipe of the checkpoints, regardless of later edits of recipe.yaml.

        Args:
            place: the place of its data, if that has moved.
        """
        moved = () if place is None else (f"data.{self.data_place[0]}={json.dumps(place)}",)
        return recipes.load(str(self._trained_recipe), moved)

    @property
    def data(self) -> dict[str, Any]:
        """The description of the run's data, see `describe_data`."""
        return _read_json(self.path / "data.json")

    @data.setter
    def data(self, data: dict[str, Any]) -> None:
        self._write_json("data.json", data)

    @property
    def spec(self) -> Spec:
        """The spec of the run's data."""
        return Spec.from_json(self.data["spec"])

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        write_atomically(self.path / name, (json.dumps(content, indent=2) + "\n").encode())

    @property
    def samples(self) -> pathlib.Path:
        return self.path / "samples"

    @property
    def checkpoints(self) -> pathlib.Path:
        return self.path / "checkpoints"

    @property
    def averages(self) -> pathlib.Path:
        return self.path / "averages"

    @property
    def metrics(self) -> pathlib.Path:
        return self.path / "metrics.csv"

    # ---------------------------------------------------------------- checkpoints

    def save(self, gan: GAN, keep: int = 2) -> pathlib.Path:
        """Writes the game's state as the newest checkpoint and deletes old ones.

        Args:
            gan: the game.
            keep: number of checkpoints that are kept, the newest included, from 1 up.
        """
        check_finite(gan)
        path = self.checkpoints / f"examples-{gan.count('examples_seen'):09d}.keras"
        save_atomically(gan, path)
        saved = self._all_checkpoints()
        # Checkpoints with more examples are invalid: damaged, or discarded by a roll back.
        kept = [old for old in saved if old.name <= path.name][-keep:]
        for old in saved:
            if old not in kept:
                old.unlink()
        delete_leftovers(self.checkpoints)
        for folder in (self.path, self.samples):
            delete_leftovers(folder, HALF_WRITTEN)
        return path

    def save_best(self, gan: GAN, record: dict[str, Any]) -> None:
        """Writes the game's state as the best one, with the record of its evaluation."""
        self._save_chosen("best", gan, record)

    @property
    def best_record(self) -> dict[str, Any] | None:
        """The best evaluation with its `examples_seen` and `file`, or `None` before the first."""
        return self._chosen_record("best")

    def save_averaged(self, gan: GAN, record: dict[str, Any]) -> None:
        """Writes a state whose average was reconstructed, with its deviation and evaluation."""
        self._save_chosen("averaged", gan, record, f"-{record['deviation']}")

    @property
    def averaged_record(self) -> dict[str, Any] | None:
        """The record of `save_averaged` with its `file`, or `None` if there is none."""
        return self._chosen_record("averaged")

    def is_averaged(self, checkpoint: str) -> bool:
        """Returns whether a checkpoint, as in `checkpoint`, is that of `save_averaged`."""
        if checkpoint in ("last", *CHOSEN):
            return checkpoint == "averaged"
        chosen = self.path / "averaged" / (self.averaged_record or {}).get("file", "")
        return chosen.is_file() and os.path.samefile(self.checkpoint(checkpoint), chosen)

    def _save_chosen(self, name: str, gan: GAN, record: dict[str, Any], suffix: str = "") -> None:
        """Writes a state and its record.

        Args:
            name: the folder.
            gan: the game.
            record: the record of the state.
            suffix: end of the file's name, for states of the same number of examples.
        """
        check_finite(gan)
        folder = self.path / name
        with write_errors(folder):
            folder.mkdir(exist_ok=True)
        path = folder / f"examples-{gan.count('examples_seen'):09d}{suffix}.keras"
        save_atomically(gan, path)
        # The state becomes the chosen one when the record names its file.
        self._write_json(f"{name}/{name}.json", {**record, "file": path.name})
        with write_errors(folder):
            for old in folder.glob("examples-*.keras"):
                if old != path:
                    old.unlink()
            delete_leftovers(folder)

    def _chosen_record(self, name: str) -> dict[str, Any] | None:
        path = self.path / name / f"{name}.json"
        return _read_json(path) if path.is_file() else None

    def which(self, checkpoint: str = "last") -> str:
        """Returns the checkpoint that is meant: the one whose path the run was opened by, if any.

        Raises:
            UsageError: another checkpoint besides.
        """
        return checkpoint if self._place is None else self._place.choose(checkpoint)

    def checkpoint(self, which: str = "last") -> pathlib.Path:
        """Returns the path of a checkpoint.

        Args:
            which: "last", "best", "averaged", or the path of a .keras file, or its name in the
                run.

        Raises:
            UsageError: a checkpoint that does not exist.
        """
        if which == "last":
            saved = self._all_checkpoints()
            if not saved:
                raise UsageError(
                    f"{self.path} has no checkpoint: the training ended before the first one was "
                    "written. Start it again"
                )
            return saved[-1]
        path = pathlib.Path(os.path.expanduser(which))
        if which in CHOSEN:
            record = self._chosen_record(which) or {}
            path = self.path / which / record.get("file", f"{which}.json")
        elif not path.is_file() and (self.checkpoints / which).is_file():
            path = self.checkpoints / which
        if not path.is_file():
            raise UsageError(
                "A checkpoint must be last, best, averaged, or a .keras file. "
                f"Received: {which!r}, and {path} does not exist"
            )
        return path

    def load(self, which: str = "last", into: GAN | None = None) -> GAN:
        """Loads the game of a checkpoint, ready to be trained further.

        Where the last checkpoint is damaged, the previous one is used, with a warning.

        Args:
            which: see `checkpoint`.
            into: a compiled game that receives the weights of the checkpoint, and is returned.

        Raises:
            UsageError: a checkpoint that does not exist, or none that can be read.
        """
        paths = [self.checkpoint(which)]
        if which == "last":
            paths += reversed(self._all_checkpoints()[:-1])
        for path, earlier in itertools.pairwise(paths):
            try:
                return load_game(path, into)
            except DamagedError as error:
                warnings.warn(f"{error}. Using {earlier.name}, the previous one", stacklevel=2)
        return load_game(paths[-1], into)

    @property
    def has_checkpoint(self) -> bool:
        return bool(self._all_checkpoints())

    def _all_checkpoints(self) -> list[pathlib.Path]:
        found = self.checkpoints.glob("examples-*.keras") if self.checkpoints.is_dir() else ()
        return sorted(path for path in found if _CHECKPOINT.search(path.name))

    # ---------------------------------------------------------------- record

    @property
    def ending(self) -> dict[str, Any] | None:
        """The end of the last training: `reason`, `examples_seen`, `roll_backs`, or `None`."""
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
        """The protocol of the run's evaluations, or `None` before the first training."""
        path = self.path / "evaluation.json"
        return _read_json(path) if path.is_file() else None

    @evaluation.setter
    def evaluation(self, protocol: dict[str, Any]) -> None:
        self._write_json("evaluation.json", protocol)

    def rows(self) -> list[dict[str, float]]:
        """Returns the rows of metrics.csv as numbers, without empty cells."""
        if not self.metrics.is_file():
            return []
        try:
            with self.metrics.open(newline="", encoding="utf-8") as file:
                return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
        except (ValueError, TypeError, csv.Error):
            raise UsageError(f"A metrics.csv must hold numbers. Received: {self.metrics}") from None

    def write_rows(self, rows: list[dict[str, float]]) -> None:
        """Writes all rows of metrics.csv. A missing key, or NaN, becomes an empty cell."""
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


def _read_yaml(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = one_line(error)
        raise UsageError(f"A recipe must be readable YAML. Received: {path}: {reason}") from None
    if not isinstance(content, dict):
        raise UsageError(f"A run's recipe must hold sections. Received: {path}")
    return content


def check_new(path: pathlib.Path, replace: bool = False) -> None:
    """Checks that a new run may take a folder.

    Args:
        path: folder of the new run.
        replace: allow the folder of an existing run.

    Raises:
        UsageError: a file, or a folder that is not empty and not such a run.
    """
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise UsageError(f"A run must be a folder. Received: {path}, which is a file")
    half_written = set(path.glob(HALF_WRITTEN))  # left by a process that was killed
    present = {entry.name for entry in path.iterdir() if entry not in half_written}
    if not present:
        return
    is_run = {"recipe.yaml", "environment.json", "checkpoints"} <= present
    if replace and is_run and present <= _CONTENT:
        return
    if replace:
        odd = sorted(present - _CONTENT) or ["no recipe.yaml"]
        raise UsageError(f"Only a run folder can be replaced. Received: {path}, with {odd[0]}")
    resume = f"; continue it with --resume {path}" if is_run else ""
    raise UsageError(
        f"A new run needs a new or empty folder. Received: {path}, which exists{resume}"
    )
