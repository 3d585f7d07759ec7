"""The command `train`."""

from __future__ import annotations

import pathlib
import signal
import sys
import warnings
from typing import Annotated

import typer

from keras_gan import automatic, datasets, memory, report, train, workers
from keras_gan import recipe as recipes
from keras_gan.commands._app import (
    Imports,
    Minutes,
    Settings,
    SkipCorrupt,
    app,
    out,
    print_line,
    table,
)
from keras_gan.errors import UsageError
from keras_gan.places import open_place
from keras_gan.run import check_new

RecipeName = Annotated[str | None, typer.Argument(help="A preset, or a YAML file.")]
Data = Annotated[
    str | None,
    typer.Option(
        help="Other data: a folder of images, x.npz, x.csv, tfds:NAME, or a name. With --resume, "
        "the new place of the same data."
    ),
]
RunFolder = Annotated[
    pathlib.Path | None, typer.Option(help="The new run folder. Default: runs/RECIPE.")
]
Resume = Annotated[pathlib.Path | None, typer.Option(help="Resume this run folder instead.")]
Override = Annotated[
    list[str], typer.Option(help="With --resume: a key of the recipe that may change.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print recipe, networks and memory; do not train.")
]
Tensorboard = Annotated[
    bool, typer.Option("--tensorboard", help="Write TensorBoard logs into the run folder as well.")
]
Workers = Annotated[
    str | None,
    typer.Option("--workers", help="All workers: host:port,host:port, the chief first."),
]
Index = Annotated[int | None, typer.Option(help="Index of this worker, from 0.")]


@app.command("train")
def train_command(
    recipe: RecipeName = None,
    settings: Settings = [],  # noqa: B006 - typer reads the list and does not change it
    data: Data = None,
    run: RunFolder = None,
    resume: Resume = None,
    override: Override = [],  # noqa: B006
    minutes: Minutes = None,
    skip_corrupt: SkipCorrupt = False,
    dry_run: DryRun = False,
    tensorboard: Tensorboard = False,
    workers_: Workers = None,
    index: Index = None,
    imports: Imports = [],  # noqa: B006
) -> None:
    """Train a recipe into a run folder, or resume one."""
    workers.configure(workers_, index)
    if workers.are_several() and not dry_run:
        workers.join()  # before the recipe is loaded, which uses TensorFlow
    if recipe is not None and resume is not None:
        raise UsageError("train takes a recipe, or --resume RUN. Received: both")
    if recipe is None and resume is None and data is None:
        raise UsageError(
            "train takes a recipe, --data FOLDER of pictures, or --resume RUN. Received: none"
        )
    if minutes is not None and (recipe or resume):
        settings = [*settings, f"training.minutes={minutes}"]
    device = train.name_devices()
    if resume is not None:
        given = {"run": run, "dry-run": dry_run, "skip-corrupt": skip_corrupt}
        rejected = [f"--{option}" for option, value in given.items() if value not in (None, False)]
        if rejected:
            raise UsageError(
                "--resume can be combined only with --data, --set, --override, --minutes, "
                f"--tensorboard, --workers and --index. Received: {', '.join(rejected)}"
            )
        print_line(f"Resuming {open_place(resume).folder} on {device}")
        print_outcome(train.resume(resume, tuple(settings), tensorboard, tuple(override), data))
        return
    if override:
        raise UsageError(f"--override needs --resume. Received: --override {override[0]}")
    if skip_corrupt:
        settings = [*settings, "data.skip_corrupt=true"]
    name = str(recipe or data)
    to = run or _default_run(name)
    if recipe is None or (data is not None and not dry_run):
        check_new(to)  # before the data are read
    resolved, source, misfit = _resolve(name, recipe is not None, data, minutes, settings)
    if dry_run:
        _print_plan(train.choose_precision(resolved)[0], source, misfit)
        return
    resolved = choose_precision(resolved)
    print_line(f"Training {name} into {to} on {device}")
    print_outcome(train.train(resolved, to, tensorboard, source=source, misfit=misfit))


def _default_run(name: str) -> pathlib.Path:
    return pathlib.Path("runs") / (pathlib.Path(name).stem or "pictures")


def _resolve(
    name: str, is_recipe: bool, data: str | None, minutes: float | None, settings: list[str]
) -> tuple[recipes.Recipe, datasets.Source | None, str]:
    """Returns the recipe, its data if they are open, and a line if they do not fit it."""
    if not is_recipe:
        return *_choose(name, minutes, settings), ""
    resolved = recipes.load(name, settings, data)
    if data is None:
        return resolved, None, ""
    source = train.open_data(resolved)
    automatic.check_kind(name, source)
    return resolved, source, automatic.describe_misfit(name, data, source)


def _choose(
    data: str, minutes: float | None, settings: list[str]
) -> tuple[recipes.Recipe, datasets.Source]:
    """Chooses a recipe for pictures, and prints it as a table."""
    print_line(f"Looking at {data}, and timing some steps")
    plan = automatic.plan(data, minutes, settings)
    rows = table()
    for row in plan.rows:
        rows.add_row(row.name, row.value, row.reason)
    out.print(rows)
    for line in plan.warnings:
        print(f"keras-gan: warning: {line}", file=sys.stderr)
    return plan.recipe, plan.source


def choose_precision(recipe: recipes.Recipe) -> recipes.Recipe:
    """Returns the recipe with its precision resolved, and prints the reason."""
    chosen, line = train.choose_precision(recipe)
    print_line(line[0].upper() + line[1:])
    return chosen


def _print_plan(recipe: recipes.Recipe, source: datasets.Source | None, misfit: str) -> None:
    source, gan, _, _ = train.prepare(recipe, source=source)
    if misfit:
        warnings.warn(misfit, stacklevel=2)
    print_line(recipe.to_yaml())
    print_line(f"data: {source.description}")
    print_line(f"samples: {source.spec.kind} of shape {source.spec.shape}")
    print_line(f"steps: {train.total_steps(recipe):,}")
    for name in recipe.networks:
        print_line(f"{name}: {getattr(gan, name).count_params():,} parameters")
    for line in memory.estimate(gan, recipe.training.batch_size):
        print_line(line)


def print_outcome(outcome: train.Outcome) -> None:
    """Prints how a training ended and the next command.

    Exits with status 1 after a collapse and 130 after Ctrl-C.
    """
    if not outcome.team.chief:
        chief = outcome.team.addresses[0]
        print_line(f"{outcome.reason.capitalize()}: {outcome.team}, chief {chief}")
        if outcome.collapsed:  # the status of the chief, for programs that restart all workers
            raise SystemExit(1)
        raise SystemExit(130 if outcome.signal == signal.SIGINT else 0)
    path = outcome.run.path
    seen = f"{outcome.gan.count('examples_seen'):,} examples in {outcome.seconds / 60:.1f} minutes"
    if outcome.collapsed:
        print(f"keras-gan: error: The training {outcome.reason}", file=sys.stderr)
        print_line(f"Kept: the last good state, after {seen}, in {path}")
        lower = "training.collapse_guard.action=roll_back"
        print_line(f"Try: keras-gan train --resume {path} --set {lower}")
        raise SystemExit(1)
    if outcome.signal:
        print_line(f"Stopped after {seen}; saved.")
        print_line(f"Resume with: keras-gan train --resume {path}")
        raise SystemExit(130 if outcome.signal == signal.SIGINT else 0)
    short, _, found = outcome.reason.partition(": ")
    print_line(f"{short.capitalize()}: {seen}, in {path}")
    if found:
        print_line(f"  {found}")
        longer = f"keras-gan train --resume {path} --set training.equilibrium=null"
        print_line(f"  To continue the training: {longer}")
    for line in report.best_and_last(outcome.run, outcome.run.rows()):
        print_line(line)
    print_line(f"Next: keras-gan export {path}")
