"""Training of a recipe into a run folder, and resuming of runs."""

from __future__ import annotations

import json
import os
import pathlib
import sys
import warnings
from typing import Any

import tensorflow as tf

from keras_gan import datasets, workers
from keras_gan import precision as precisions
from keras_gan import recipe as recipes
from keras_gan.building import HeldOut, build, open_data, open_held_out, prepare, total_steps
from keras_gan.data_record import (
    as_recorded,
    check_place,
    check_same,
    describe_data,
    moved_place,
    reading_moved,
)
from keras_gan.errors import UsageError
from keras_gan.fitting import Fitting, Outcome
from keras_gan.games.gan import GAN
from keras_gan.optimizers import learning_rate, lowered_by, optimizers_of, set_learning_rate
from keras_gan.registry import nearest
from keras_gan.run import Run, check_new

__all__ = [
    "HeldOut",
    "Outcome",
    "build",
    "choose_precision",
    "name_devices",
    "open_data",
    "prepare",
    "resume",
    "total_steps",
    "train",
]

# Keys that may change at a resume: the length and the end of the training.
_ENDINGS = ("training.minutes", "training.collapse_guard", "training.equilibrium")
_RESUMABLE = ("training.examples", *_ENDINGS)


def train(
    recipe: recipes.Recipe,
    to: str | os.PathLike[str],
    tensorboard: bool = False,
    replace: bool = False,
    source: datasets.Source | None = None,
    misfit: str = "",
) -> Outcome:
    """Trains a recipe into a new run folder.

    Args:
        recipe: a resolved recipe, see `keras_gan.recipe.load`.
        to: the run folder, new or empty.
        tensorboard: write logs for TensorBoard into the run folder's `tensorboard/` as well.
        replace: delete an existing run once the new one is ready to start.
        source: the recipe's data, if it is open.
        misfit: a line about data that the recipe was not made for, to warn of before the first
            step; errors about the same are not joined by a warning.

    Returns:
        The outcome.

    Raises:
        UsageError: data that cannot be read, networks that do not fit it, a folder that exists
            or cannot be written, or, without the guard, a loss that is not finite.
    """
    team = workers.join()
    with team.together():
        team.agree({"command": "train"})
        if team.chief:
            check_new(pathlib.Path(os.path.expanduser(to)), replace)
        recipe, _ = choose_precision(recipe)
        source, gan, _, held_out = prepare(recipe, team, source)
        if misfit:
            warnings.warn(misfit, stacklevel=2)
        data = describe_data(source)
        team.agree({"recipe": _without_places(recipe), "data set": data["digest"]})
        run = Run.create(to, recipe, data, replace) if team.chief else workers.NullRun()
        if team.chief:
            print(f"data: {source.description}", file=sys.stderr, flush=True)
        return Fitting(gan, recipe, source, held_out, run, team).fit(tensorboard)


def resume(
    run: str | os.PathLike[str],
    settings: tuple[str, ...] = (),
    tensorboard: bool = False,
    override: tuple[str, ...] = (),
    data: str | os.PathLike[str] | None = None,
) -> Outcome:
    """Resumes a run from its last checkpoint, or from its start if it has none.

    Args:
        run: the run folder.
        settings: overrides as in `keras_gan.recipe.load`, for the length and end of the training.
        tensorboard: as in `train`.
        override: paths of other keys or sections of the recipe that may change. The game is then
            built from the changed recipe and loads the weights of the checkpoint.
        data: new place of data that has moved. Its content must be that of the training.

    Returns:
        The outcome.

    Raises:
        UsageError: no run folder, no readable checkpoint, or a changed recipe, with a list of
            the differences.
    """
    team = workers.join()
    with team.together():
        team.agree({"command": "resume"})
        opened = Run.open(run)
        _check_named(opened)
        place = moved_place(opened.data, opened.record.get("data"), data)
        after, changed = _resumed_recipe(opened, _with_place(opened, settings, place), override)
        recipes.check_batches(after, team.replicas)
        with reading_moved(opened.data, opened.record.get("data"), place):
            source = as_recorded(opened.data, open_data(after))
        described = check_same(opened.data, source)
        overridden = bool(_among(changed, override))
        with team.strategy.scope():
            gan = _load(opened, after, source, changed if overridden else [])
        seen = gan.count("examples_seen")
        if gan.count("iteration") >= total_steps(after):
            raise UsageError(
                f"{opened.path} has seen all of its {seen:,} examples. Continue "
                f"it with --set training.examples={2 * seen}"
            )
        held_out = open_held_out(after, source, team.replicas)
        rows = opened.rows()
        state = {"recipe": _without_places(after), "checkpoint": workers.state(gan)}
        team.agree({**state, "metrics.csv": rows})
        if team.chief:
            if overridden and opened.has_checkpoint:  # the recipe and the checkpoints change
                opened.save(gan, keep=1)  # the older ones are of the previous game
            opened.recipe = after
            opened.data = described
            opened.record_imports()
        target = opened if team.chief else workers.NullRun(rows)
        return Fitting(gan, after, source, held_out, target, team).fit(tensorboard)


# Keys that say where data is. The digest decides whether it is the data of the training.
_PLACES = ("data.source", "data.path", "data.data_dir", "data.cache")


def _with_place(opened: Run, settings: tuple[str, ...], place: str | None) -> tuple[str, ...]:
    if place is None:
        return settings
    return (*settings, f"data.{opened.data_place[0]}={json.dumps(place)}")


def _without_places(recipe: recipes.Recipe) -> dict[str, Any]:
    """Returns the recipe as workers must agree on it: each finds the data in a place of its own."""
    tree = recipe.model_dump()
    tree["data"] = {k: v for k, v in tree["data"].items() if f"data.{k}" not in _PLACES}
    return tree


def _check_named(opened: Run) -> None:
    """Checks that a run opened by the path of a checkpoint is opened by that of the last one."""
    which = opened.which()
    if which != "last" and not os.path.samefile(opened.checkpoint(which), opened.checkpoint()):
        raise UsageError(
            f"A run is resumed from its last checkpoint, {opened.checkpoint().name}. "
            f"Received: {which}"
        )


def _resumed_recipe(
    opened: Run, settings: tuple[str, ...], override: tuple[str, ...]
) -> tuple[recipes.Recipe, list[str]]:
    """Returns the recipe with which a run is resumed, and its differences from the trained one."""
    key, _ = opened.data_place
    if not any(setting.startswith(f"data.{key}=") for setting in settings):
        check_place(opened.data_place, opened.path)
    after = recipes.load(str(opened.path / "recipe.yaml"), settings)
    _, place = datasets.place_of({"source": after.data.source, **after.data.options})
    before = opened.trained_recipe(place)
    allowed = _RESUMABLE
    if recipes.depends_on_length(before):
        allowed = _ENDINGS
    after, _ = choose_precision(after)
    _check_override(override, before, after)
    changed = before.diff(after)
    permitted = _among(changed, allowed + _PLACES + override)
    differences = [difference for difference in changed if difference not in permitted]
    if differences:
        raise UsageError(
            f"A run can only be resumed with its original recipe, except for {', '.join(allowed)}. "
            "Use --override KEY to change another key. Received: " + "; ".join(differences)
        )
    return after, changed


def _load(
    opened: Run, recipe: recipes.Recipe, source: datasets.Source, overridden: list[str]
) -> GAN:
    """Loads the last checkpoint, into the recipe's game if a part of the recipe is overridden."""
    if not opened.has_checkpoint:  # the process was killed before it wrote the first one
        return build(recipe, source.spec)
    if not overridden:
        return opened.load()
    gan = build(recipe, source.spec)
    optimizers = optimizers_of(gan)
    rates = {role: learning_rate(given) for role, given in optimizers.items()}
    opened.load(into=gan)
    factors = _roll_back_factors(opened)
    for role, rate in rates.items():
        keys = (f"optimizers.{role}.learning_rate", f"optimizers.{role}.lazy_interval")
        new = bool(_among(overridden, keys))
        # Keras stores a constant learning rate among the weights, but not a schedule: a changed
        # constant has to be set again, and an unchanged schedule has to be lowered again.
        if new == isinstance(rate, float):
            set_learning_rate(optimizers[role], rate, 1.0 if new else factors[role])
    return gan


def _roll_back_factors(opened: Run) -> dict[str, float]:
    """Returns the factors by which roll backs have lowered the learning rate schedules."""
    with warnings.catch_warnings():  # a damaged checkpoint has been reported before
        warnings.simplefilter("ignore")
        gan = opened.load()
    optimizers = optimizers_of(gan)
    return {role: lowered_by(of) for role, of in optimizers.items()}


# The position in the data is counted in batches, so that neither may change.
_FIXED = ("training.batch_size", "data")


def _check_override(
    override: tuple[str, ...], before: recipes.Recipe, after: recipes.Recipe
) -> None:
    known = before.keys() | after.keys()
    for key in override:
        if key not in known:
            raise UsageError(
                "--override must name a key or a section of the recipe. "
                f"Received: {key!r}. {nearest(key, known)}"
            )
        if any(_is_one_of(fixed, (key,)) or _is_one_of(key, (fixed,)) for fixed in _FIXED):
            raise UsageError(
                "A run keeps its data and its batch size, on which the position in the data "
                f"depends. Received: --override {key}"
            )
    # The weights of an average would be loaded as those of another deviation.
    if changed := _among(before.diff(after), ("game.average_deviations",)):
        raise UsageError(
            "A run keeps its `average_deviations`, whose averages begin with the training. "
            f"Received: {changed[0]}"
        )


def _among(differences: list[str], keys: tuple[str, ...]) -> list[str]:
    """Returns those entries of `Recipe.diff` that concern these keys or sections."""
    return [d for d in differences if _is_one_of(d.partition(":")[0], keys)]


def _is_one_of(path: str, keys: tuple[str, ...]) -> bool:
    """Checks whether a key is one of these, or part of one of these sections."""
    return any(path == key or path.startswith(f"{key}.") for key in keys)


def name_devices() -> str:
    """Lets GPUs allocate memory as needed, and returns the devices of a training in words."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # RuntimeError: TensorFlow has already initialized the GPUs of this process. ValueError: the
        # GPU is divided into logical devices with memory limits of their own.
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except (RuntimeError, ValueError):
            break
    if not gpus:
        return f"CPU, {os.cpu_count()} cores (TensorFlow finds no GPU)"
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return "GPU: " + ", ".join(d.get("device_name", "unnamed") for d in details)


def choose_precision(recipe: recipes.Recipe) -> tuple[recipes.Recipe, str]:
    """Returns the recipe with precision "auto" resolved for this machine, and the reason.

    A run records the precision, so that a resume on another machine uses the same one.
    """
    chosen, line = precisions.choose(recipe.training.precision)
    training = recipe.training.model_copy(update={"precision": chosen})
    return recipe.model_copy(update={"training": training}), line
