"""Recipe -> GAN -> fit -> run folder."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import signal
import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import architectures, callbacks, datasets, metrics, workers
from keras_gan import precision as precisions
from keras_gan import recipe as recipes
from keras_gan.errors import UsageError
from keras_gan.games.gan import GAN
from keras_gan.registry import nearest
from keras_gan.run import Run, check_new, describe_data

# What may differ at a resume: how long to train and when to end, not what is trained.
_ENDINGS = ("training.minutes", "training.collapse_guard", "training.equilibrium")
_RESUMABLE = ("training.examples", *_ENDINGS)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Args:
        run: its run folder.
        gan: the game as it ended.
        reason: "finished", "out of time", "interrupted", "equilibrium: ..." or "collapsed: ...",
            with what was seen.
        signal: the signal that interrupted it, if one did.
        seconds: wall-clock time of the training, without the building before it.
        team: the workers that took part.
    """

    run: Run
    gan: GAN
    reason: str
    signal: signal.Signals | None
    seconds: float
    team: workers.Team

    @property
    def collapsed(self) -> bool:
        """Whether the guard stopped it; the game is then its last good state."""
        return self.reason.startswith("collapsed")


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """What a training is measured by.

    Args:
        samples: real samples that it does not see, `(count, ...)`.
        labels: their class ids in a conditional game, else `None`.
        comparison: what measures generated samples against them.
    """

    samples: np.ndarray
    labels: np.ndarray | None
    comparison: metrics.Comparison


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
            or cannot be written, or, with the guard off, a loss that is no number any more.
    """
    team = workers.join()
    with team.together():
        team.agree({"command": "train"})
        if team.chief:
            check_new(pathlib.Path(os.path.expanduser(to)), replace)
        recipe, _ = choose_precision(recipe)
        source, gan, _, held_out = prepare(recipe, team)
        data = describe_data(source)
        team.agree({"recipe": recipe.model_dump(), "data set": data["digest"]})
        run = Run.create(to, recipe, data, replace) if team.chief else workers.NullRun()
        return _fit(gan, recipe, source, held_out, run, tensorboard, team)


def resume(
    run: str | os.PathLike[str],
    settings: tuple[str, ...] = (),
    tensorboard: bool = False,
    override: tuple[str, ...] = (),
) -> Outcome:
    """Goes on from the last checkpoint of a run folder; from its start if there is none yet.

    Args:
        run: the run folder.
        settings: overrides as in `keras_gan.recipe.load`; how long to train may change.
        tensorboard: as in `train`.
        override: what else may change: keys or sections of the recipe, by their paths. The game
            is then built anew, and takes over the numbers of the checkpoint.

    Raises:
        UsageError: no run folder, no readable checkpoint, or a changed recipe, with the list of
            the differences.
    """
    team = workers.join()
    with team.together():
        team.agree({"command": "resume"})
        return _resume(Run.open(run), settings, tensorboard, override, team)


def _resume(
    opened: Run,
    settings: tuple[str, ...],
    tensorboard: bool,
    override: tuple[str, ...],
    team: workers.Team,
) -> Outcome:
    before = opened.trained_recipe
    after = recipes.load(str(opened.path / "recipe.yaml"), settings)
    allowed = _RESUMABLE
    if before.open_ended():
        allowed = _ENDINGS  # a schedule is laid out over all images
    after, _ = choose_precision(after)
    _check_override(override, before, after)
    changed = before.diff(after)
    permitted = _among(changed, allowed + override)
    differences = [difference for difference in changed if difference not in permitted]
    if differences:
        raise UsageError(
            f"A run goes on under the recipe it began with, but for {', '.join(allowed)}; "
            f"--override KEY lets another one change. Received: {'; '.join(differences)}"
        )
    _check_batch(after, team.replicas)
    source = open_data(after)
    _check_data(opened, source)
    anew = bool(_among(changed, override))
    with team.strategy.scope():
        if not opened.has_checkpoint:  # it was killed before the first was written
            gan = build(after, source.spec)
        else:
            gan = _load_anew(opened, after, source, changed) if anew else opened.load()
    done = gan.count("iteration")
    if done >= total_steps(after):
        raise UsageError(
            f"{opened.path} has seen all of its {after.training.examples:,} images. Train on with "
            f"--set training.examples={2 * after.training.examples}"
        )
    held_out = _held_out(after, source, team.replicas)
    rows = opened.rows()
    found = {"recipe": after.model_dump(), "checkpoint": workers.state(gan), "metrics.csv": rows}
    team.agree(found)
    if team.chief:
        if anew and opened.has_checkpoint:  # the record and the game change together
            opened.save(gan, keep=1)  # nothing to fall back on is of the game as it was
        opened.recipe = after
    target = opened if team.chief else workers.NullRun(rows)
    return _fit(gan, after, source, held_out, target, tensorboard, team)


def _load_anew(
    opened: Run, recipe: recipes.Recipe, source: datasets.Source, changed: list[str]
) -> GAN:
    """The recipe's game with the numbers of the last checkpoint."""
    gan = build(recipe, source.spec)
    optimizers = _optimizers(gan)
    rates = {role: callbacks.learning_rate(given) for role, given in optimizers.items()}
    opened.load(into=gan)
    factors = _roll_backs_of(opened)
    for role, rate in rates.items():
        keys = (f"optimizers.{role}.learning_rate", f"optimizers.{role}.lazy_interval")
        new = bool(_among(changed, keys))
        # Keras counts a constant learning rate among the numbers, and a schedule not: a constant
        # that was changed must win over them, and a schedule that was not must be lowered again.
        if new == isinstance(rate, float):
            callbacks.set_learning_rate(optimizers[role], rate, 1.0 if new else factors[role])
    return gan


def _roll_backs_of(opened: Run) -> dict[str, float]:
    """What roll backs have made of each player's learning rate schedule, as a factor."""
    with warnings.catch_warnings():  # of damaged checkpoints the user has been told
        warnings.simplefilter("ignore")
        gan = opened.load()
    return {role: callbacks.lowered_by(of) for role, of in _optimizers(gan).items()}


def _optimizers(gan: GAN) -> dict[str, Any]:
    """The optimizers, as the recipe calls them."""
    return {role: getattr(gan, f"{role}_optimizer") for role in ("generator", "discriminator")}


# Where the data stands is counted in batches: of another size, it would be somewhere else.
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
                "A run keeps its data and the size of its batches, by which it knows where it "
                f"stands. Received: --override {key}"
            )


def _among(differences: list[str], keys: tuple[str, ...]) -> list[str]:
    """Those of `Recipe.diff` that are of these keys or sections."""
    return [d for d in differences if _is_one_of(d.partition(":")[0], keys)]


def _is_one_of(path: str, keys: tuple[str, ...]) -> bool:
    """Whether a key of a recipe is one of these, or lies in one of these sections."""
    return any(path == key or path.startswith(f"{key}.") for key in keys)


def prepare(
    recipe: recipes.Recipe, team: workers.Team | None = None
) -> tuple[datasets.Source, GAN, tf.data.Dataset, HeldOut]:
    """All that a training needs, made and checked: what it refuses, a training would.

    Args:
        recipe: a resolved recipe.
        team: what `keras_gan.workers.join` gives; by default this process on one device.

    Returns:
        The data, the compiled game, the stream of batches, and what it is measured by.
    """
    team = team or workers.Team(tf.distribute.get_strategy(), [""], 0)
    _check_batch(recipe, team.replicas)
    source = open_data(recipe)
    with team.strategy.scope():
        gan = build(recipe, source.spec)
    held_out = _held_out(recipe, source, team.replicas)
    return source, gan, _batches(recipe, source, 0, team), held_out


def _check_batch(recipe: recipes.Recipe, replicas: int) -> None:
    """Refuses a batch that cannot be dealt out to the replicas and their steps."""
    batch, steps, pac = (
        recipe.training.batch_size,
        recipe.game.discriminator_steps,
        recipe.game.pac,
    )
    if batch % (replicas * steps * pac):
        each = f", and each part by game.discriminator_steps={steps}" if steps > 1 else ""
        each += f" and game.pac={pac}" if pac > 1 else ""
        raise UsageError(
            f"training.batch_size is the batch of all {replicas} devices together and must divide "
            f"by their number{each}. Received: training.batch_size={batch}"
        )


def _check_data(run: Run, source: datasets.Source) -> None:
    before, now = run.data, json.loads(json.dumps(describe_data(source)))
    changed = [name for name in ("counts", "digest") if before[name] != now[name]]
    if run.spec != source.spec:
        changed.insert(0, "spec")
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
                role, player.architecture, seen, conditional, **player.options
            )
            for role, player, seen in (
                ("generator", recipe.generator, spec),
                ("discriminator", recipe.discriminator, spec.packed(game.pac)),
            )
        ]
    examples = recipe.training.examples  # of a schedule that lasts as long as the training
    gan = GAN(
        *players,
        loss=game.loss,
        terms=recipes.resolve(game.terms, examples),
        augment=recipes.resolve(game.augment, examples),
        constraint=game.constraint,
        discriminator_steps=game.discriminator_steps,
        pac=game.pac,
        top_k=recipes.resolve(game.top_k, examples),
        ema_half_life=recipes.resolve(game.ema_half_life, examples),
        ema_rampup=game.ema_rampup,
        num_classes=spec.num_classes if conditional else 0,
        seed=recipe.training.seed,
    )
    gan.compile(
        recipes.make_optimizer(recipe.optimizers.generator, examples),
        recipes.make_optimizer(recipe.optimizers.discriminator, examples),
        jit_compile=recipe.training.jit_compile,
    )
    return gan


def total_steps(recipe: recipes.Recipe) -> int:
    """Steps until the recipe's number of images has been seen."""
    return math.ceil(recipe.training.examples / recipe.training.batch_size)


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


def _batches(
    recipe: recipes.Recipe, source: datasets.Source, done: int, team: workers.Team
) -> tf.data.Dataset:
    """The endless stream of batches, addressed by the step: a resume begins where it stood."""
    training = recipe.training

    def stream(shard: tuple[int, int]) -> tf.data.Dataset:
        return source.dataset(
            "train",
            batch_size=training.batch_size,
            seed=training.seed,
            repeat=True,
            start=done,
            shard=shard,
        )

    if team.replicas == 1:
        return stream((0, 1))

    def of_worker(context: Any) -> tf.data.Dataset:
        part = stream((context.input_pipeline_id, context.num_input_pipelines))
        return part.rebatch(context.get_per_replica_batch_size(training.batch_size))

    return team.strategy.distribute_datasets_from_function(of_worker)


def _held_out(recipe: recipes.Recipe, source: datasets.Source, replicas: int) -> HeldOut:
    """Samples, and labels in a conditional game, that evaluations compare with."""
    count = min(recipe.evaluation.count, source.count("held_out"))
    if replicas > 1:  # whole batches, as a part of one may leave a replica without samples
        size = recipe.training.batch_size
        count -= count % (size if count >= size else replicas)
    if count == 0:
        raise UsageError(
            f"An evaluation on {replicas} devices needs a held-out sample for each. "
            f"Received: {source.count('held_out')} held out, evaluation.count="
            f"{recipe.evaluation.count}"
        )
    equilibrium = recipe.training.equilibrium
    least = callbacks.least_held_out(equilibrium.tolerance) if equilibrium else 0
    if equilibrium and count < least:
        raise UsageError(
            f"training.equilibrium.tolerance={equilibrium.tolerance} needs at least {least} "
            f"held-out samples, or chance decides. Received: {count}, of evaluation.count="
            f"{recipe.evaluation.count} and {source.count('held_out')} held out"
        )
    # The endless stream's order is a function of the seed alone, not of TensorFlow's global one.
    batch = next(iter(source.dataset("held_out", batch_size=count, seed=0, repeat=True)))
    x, y = batch if isinstance(batch, tuple) else (batch, None)
    labels = np.asarray(y) if recipe.game.conditional else None
    return HeldOut(np.asarray(x), labels, _comparison(recipe, source, np.asarray(x)))


def _fit(
    gan: GAN,
    recipe: recipes.Recipe,
    source: datasets.Source,
    held_out: HeldOut,
    run: Run,
    tensorboard: bool,
    team: workers.Team,
) -> Outcome:
    training, steps = recipe.training, total_steps(recipe)
    history = run.rows()
    limits = callbacks.Limits(steps, training.minutes, hold=True)
    if team.several:
        limits = workers.Limits(team, steps, training.minutes, hold=True)
    progress = callbacks.Progress(training.examples, training.minutes)
    guard = _guard(training.collapse_guard, held_out, history, team)
    equilibrium = _equilibrium(training.equilibrium, held_out, history, guard)

    def reason() -> str:
        if guard and guard.reason:
            return guard.reason
        if limits.interrupted and gan.count("iteration") < steps:
            return "interrupted"
        if equilibrium and equilibrium.reason:
            return equilibrium.reason
        return "out of time" if limits.out_of_time else "finished"

    first = recipe.samples.seed
    grid = callbacks.SampleGrid(
        run.samples,
        seeds=range(first, first + recipe.samples.count),
        every_seconds=recipe.samples.every_seconds,
    )
    # On every worker, as the discriminator's verdicts are taken by all of them together.
    evaluation = callbacks.Evaluation(
        run,
        held_out.samples,
        held_out.labels,
        held_out.comparison,
        every_examples=recipe.evaluation.every_examples,
        batch_size=min(training.batch_size, len(held_out.samples)),
        last_step=steps,
        limits_reached=lambda: bool(limits.out_of_time or (equilibrium and equilibrium.reason)),
        guard=guard,
    )
    # The limits come first, and what may end the training before what looks at its end: each
    # sees what those before it have found.
    listeners: list[keras.callbacks.Callback | None] = [limits, guard, equilibrium]
    if team.chief:
        record = callbacks.RunWriter(
            run,
            every_seconds=training.checkpoint_seconds,
            keep=training.keep_checkpoints,
            guard=guard,
            ending=reason,
        )
        listeners += [progress, grid, evaluation, record]
        if tensorboard:
            listeners.append(keras.callbacks.TensorBoard(str(run.path / "tensorboard")))
    else:
        listeners += [evaluation, workers.WorkerCallbacks(run, guard=guard)]
    if team.several:
        listeners.append(workers.Agreement(team))
    throughout = callbacks.SingleRunCallbackList(listeners, gan)
    tick = max(1, min(steps, round(training.tick_examples / training.batch_size)))

    def play(steps: int, ticks: float) -> None:
        done = gan.count("iteration")
        with precisions.graphs(training.precision):
            gan.fit(
                _batches(recipe, source, done, team),
                steps_per_epoch=steps,
                initial_epoch=done // tick,
                # The limits end it, at the very step, however often it is rolled back before.
                epochs=min(done // tick + ticks, 2**62),
                verbose=0,
                callbacks=throughout,
            )

    begun = gan.count("iteration") % tick
    try:
        if begun:  # stopped within a tick: to its end, so that the next rows are as they would be
            play(tick - begun, 1)
        if not (begun and gan.stop_training):
            play(tick, math.inf)
        throughout.end()
    finally:
        progress.close()
        limits.close()
    team.gather([0])  # nobody leaves before the chief has written all
    rows = run.rows()
    seconds = rows[-1]["seconds"] if rows else 0.0
    ended = reason()
    interrupted = limits.interrupted if ended == "interrupted" else None
    return Outcome(run, gan, ended, interrupted, seconds, team)


def _comparison(
    recipe: recipes.Recipe, source: datasets.Source, held_out: np.ndarray
) -> metrics.Comparison:
    keys = recipe.evaluation
    extractor = metrics.open_features(keys.features, source.spec) if keys.features else None
    return metrics.Comparison(held_out, keys.metric, keys.others, extractor)


def _guard(
    keys: recipes.CollapseGuard,
    held_out: HeldOut,
    history: list[dict[str, float]],
    team: workers.Team,
) -> callbacks.CollapseGuard | None:
    if keys.action == "off":
        return None
    seen = held_out.samples, held_out.labels
    if team.several:
        return workers.CollapseGuard(team, *seen, **keys.model_dump(), history=history)
    return callbacks.CollapseGuard(*seen, **keys.model_dump(), history=history)


def _equilibrium(
    keys: recipes.Equilibrium | None,
    held_out: HeldOut,
    history: list[dict[str, float]],
    guard: callbacks.CollapseGuard | None,
) -> callbacks.Equilibrium | None:
    if keys is None:
        return None
    seen = held_out.samples, held_out.labels
    return callbacks.Equilibrium(*seen, **keys.model_dump(), history=history, guard=guard)
