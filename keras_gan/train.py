"""Recipe -> GAN -> fit -> run folder."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import signal
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import architectures, callbacks, datasets
from keras_gan import precision as precisions
from keras_gan import recipe as recipes
from keras_gan.errors import UsageError
from keras_gan.gan import GAN
from keras_gan.run import Run, check_new, describe_data

# What may differ at a resume: how long to train, not what is trained.
_RESUMABLE = ("training.images", "training.minutes")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Args:
        run: its run folder.
        gan: the game as it ended.
        reason: "finished", "out of time" or "interrupted".
        signal: the signal that interrupted it, if one did.
        seconds: wall-clock time of the training, without the building before it.
    """

    run: Run
    gan: GAN
    reason: str
    signal: signal.Signals | None
    seconds: float


def train(
    recipe: recipes.Recipe,
    to: str | os.PathLike[str],
    tensorboard: bool = False,
    replace: bool = False,
) -> Outcome:
    """Trains a recipe into a new run folder.

    Args:
        recipe: a resolved recipe, see `keras_gan.recipe.load`.
        to: the run folder, new or empty.
        tensorboard: whether to log for TensorBoard too, into the run folder's `tensorboard/`.
        replace: whether to delete a run that is there, once the new one is ready to start.

    Returns:
        How it ended.

    Raises:
        UsageError: data that cannot be read, players that do not fit it, a folder that exists
            or cannot be written, or a loss that is not a number any more.
    """
    check_new(pathlib.Path(os.path.expanduser(to)), replace)
    recipe, _ = choose_precision(recipe)
    source, gan, stream, held_out = prepare(recipe)
    run = Run.create(to, recipe, describe_data(source), replace)
    return _fit(gan, recipe, stream, held_out, run, tensorboard)


def resume(
    run: str | os.PathLike[str], settings: tuple[str, ...] = (), tensorboard: bool = False
) -> Outcome:
    """Goes on from the last checkpoint of a run folder.

    Args:
        run: the run folder.
        settings: overrides as in `keras_gan.recipe.load`; only how long to train may change.
        tensorboard: as in `train`.

    Raises:
        UsageError: no run folder, no readable checkpoint, or a changed recipe, with the list of
            the differences.
    """
    opened = Run.open(run)
    before = opened.trained_recipe
    after = recipes.load(str(opened.path / "recipe.yaml"), settings)
    allowed = _RESUMABLE
    if "cosine" in (after.optimizers.generator.schedule, after.optimizers.discriminator.schedule):
        allowed = ("training.minutes",)  # the schedule is laid out over all images
    differences = [d for d in before.diff(after) if d.partition(":")[0] not in allowed]
    if differences:
        raise UsageError(
            f"A run goes on under the recipe it began with, but for {' and '.join(allowed)}. "
            f"Received: {'; '.join(differences)}"
        )
    gan, source = opened.load(), open_data(after)
    _check_data(opened, source)
    done = gan.count("iteration")
    if done >= total_steps(after):
        raise UsageError(
            f"{opened.path} has seen all of its {after.training.images:,} images. Train on with "
            f"--set training.images={2 * after.training.images}"
        )
    opened.recipe = after
    stream, held_out = _batches(after, source, done), _held_out(after, source)
    return _fit(gan, after, stream, held_out, opened, tensorboard)


def prepare(
    recipe: recipes.Recipe,
) -> tuple[datasets.Source, GAN, tf.data.Dataset, tuple[np.ndarray, Any]]:
    """All that a training needs, made and checked: what it refuses, a training would.

    Returns:
        The data, the compiled game, the stream of batches, and the held-out samples and labels.
    """
    source = open_data(recipe)
    gan = build(recipe, source.spec)
    return source, gan, _batches(recipe, source, done=0), _held_out(recipe, source)


def _check_data(run: Run, source: datasets.Source) -> None:
    before, now = run.data, json.loads(json.dumps(describe_data(source)))
    changed = [name for name in ("spec", "counts", "digest") if before[name] != now[name]]
    if changed:
        raise UsageError(
            f"A run goes on with the data it began with, {before['description']}. "
            f"Received: {now['description']}, with another {' and '.join(changed)}"
        )


def open_data(recipe: recipes.Recipe) -> datasets.Source:
    """Opens the recipe's data."""
    return datasets.open(recipe.data.source, **recipe.data.options)


def build(recipe: recipes.Recipe, spec: Any) -> GAN:
    """Builds and compiles the recipe's game for data of a given kind.

    Raises:
        UsageError: players that do not fit the data or each other.
    """
    game, conditional = recipe.game, recipe.game.conditional
    keras.utils.set_random_seed(recipe.training.seed % 2**32)  # initial weights
    with precisions.layers(recipe.training.precision):
        players = [
            architectures.build_player(
                role, player.architecture, spec, conditional, **player.options
            )
            for role, player in (
                ("generator", recipe.generator),
                ("discriminator", recipe.discriminator),
            )
        ]
    gan = GAN(
        *players,
        loss=game.loss,
        penalties=game.penalties,
        augment=game.augment,
        discriminator_steps=game.discriminator_steps,
        ema_half_life=game.ema_half_life,
        ema_rampup=game.ema_rampup,
        num_classes=spec.num_classes if conditional else 0,
        seed=recipe.training.seed,
    )
    steps = total_steps(recipe)
    gan.compile(
        recipes.make_optimizer(recipe.optimizers.generator, steps),
        recipes.make_optimizer(
            recipe.optimizers.discriminator, steps * recipe.game.discriminator_steps
        ),
        jit_compile=recipe.training.jit_compile,
    )
    return gan


def total_steps(recipe: recipes.Recipe) -> int:
    """Steps until the recipe's number of images has been seen."""
    return math.ceil(recipe.training.images / recipe.training.batch_size)


def name_devices() -> str:
    """Lets GPUs take memory as they need it, and tells what the training runs on."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # RuntimeError: TensorFlow has already been used in this process, too late to choose.
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            break
    if not gpus:
        return f"CPU, {os.cpu_count()} cores (TensorFlow finds no GPU)"
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return "GPU: " + ", ".join(d.get("device_name", "unnamed") for d in details)


def choose_precision(recipe: recipes.Recipe) -> tuple[recipes.Recipe, str]:
    """The recipe with precision "auto" resolved for this machine, and a line that says why.

    A run records what it was trained with: a resume on another machine goes on in kind.
    """
    chosen, line = precisions.choose(recipe.training.precision)
    training = recipe.training.model_copy(update={"precision": chosen})
    return recipe.model_copy(update={"training": training}), line


def _batches(recipe: recipes.Recipe, source: datasets.Source, done: int) -> tf.data.Dataset:
    """The endless stream of batches, addressed by the step: a resume begins where it stood."""
    training = recipe.training
    return source.dataset(
        "train", batch_size=training.batch_size, seed=training.seed, repeat=True, start=done
    )


def _held_out(recipe: recipes.Recipe, source: datasets.Source) -> tuple[np.ndarray, Any]:
    """Samples, and labels in a conditional game, that evaluations compare with."""
    count = min(recipe.evaluation.count, source.count("held_out"))
    batch = next(iter(source.dataset("held_out", batch_size=count, seed=0)))
    x, y = batch if isinstance(batch, tuple) else (batch, None)
    return np.asarray(x), np.asarray(y) if recipe.game.conditional else None


def _fit(
    gan: GAN,
    recipe: recipes.Recipe,
    stream: tf.data.Dataset,
    held_out: tuple[np.ndarray, Any],
    run: Run,
    tensorboard: bool,
) -> Outcome:
    training, steps = recipe.training, total_steps(recipe)
    limits = callbacks.Limits(steps, training.minutes)
    progress = callbacks.Progress(training.images, training.minutes)
    first = recipe.samples.seed
    # The limits come first: what follows sees that the training is to stop.
    listeners: list[keras.callbacks.Callback] = [
        limits,
        progress,
        callbacks.SampleGrid(
            run.samples,
            seeds=range(first, first + recipe.samples.count),
            every_seconds=recipe.samples.every_seconds,
        ),
        callbacks.Evaluation(
            run,
            *held_out,
            every_images=recipe.evaluation.every_images,
            batch_size=training.batch_size,
            last_step=steps,
            limits_reached=lambda: limits.out_of_time,
        ),
        callbacks.Record(run),
    ]
    if tensorboard:
        listeners.append(keras.callbacks.TensorBoard(str(run.path / "tensorboard")))
    tick = max(1, min(steps, round(training.tick_images / training.batch_size)))
    try:
        with precisions.graphs(training.precision):
            gan.fit(
                stream,
                steps_per_epoch=tick,
                initial_epoch=gan.count("iteration") // tick,
                epochs=math.ceil(steps / tick) + 1,  # the limits end it, at the very step
                verbose=0,
                callbacks=listeners,
            )
    finally:
        progress.close()
        limits.close()
    rows = run.rows()
    reason = "interrupted" if limits.interrupted else "out of time" if limits.out_of_time else ""
    return Outcome(run, gan, reason or "finished", limits.interrupted, rows[-1]["seconds"])
