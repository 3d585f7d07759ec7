"""The commands `list` and `prepare`."""

from __future__ import annotations

import inspect
import pathlib
from typing import Annotated

import typer

from keras_gan import (
    architectures,
    augment,
    constraints,
    datasets,
    losses,
    metrics,
    rewards,
    schedules,
    terms,
)
from keras_gan import recipe as recipes
from keras_gan.commands._app import Imports, Settings, SkipCorrupt, app, out, print_line
from serving import kinds


@app.command("list")
def list_all(imports: Imports = []) -> None:  # noqa: B006 - typer does not change it
    """List the names that a recipe can use: losses, terms, data sets and more."""
    parts = (
        ("Recipes", recipes.names()),
        ("Games", {n: _first_line(game) for n, game in recipes.game_classes().items()}),
        ("Architectures", architectures.names()),
        ("Losses", losses.names()),
        ("Rewards", rewards.names()),
        ("Terms", terms.names()),
        ("Augmentations", augment.names()),
        ("Constraints", constraints.names()),
        ("Schedules", schedules.names()),
        ("Data sets", datasets.names()),
        ("Metrics", metrics.names()),
        ("Kinds", {name: _first_line(type(kinds.get(name))) for name in kinds.names()}),
    )
    width = 2 + max(len(name) for _, names in parts for name in names)
    for title, names in parts:
        out.print(title, style="bold")
        for name, line in names.items():
            print_line(f"  {name:<{width}}{line}")


def _first_line(cls: type) -> str:
    return (inspect.getdoc(cls) or "").split("\n")[0]


@app.command("prepare")
def prepare_command(
    source: Annotated[str, typer.Argument(help="A folder of files, x.npz, or a data set.")],
    to: Annotated[str, typer.Option(help="tfds:NAME")],
    settings: Settings = [],  # noqa: B006 - typer reads the list and does not change it
    data_dir: Annotated[
        pathlib.Path | None, typer.Option(help="TFDS's data folder. Default: TFDS's own.")
    ] = None,
    skip_corrupt: SkipCorrupt = False,
) -> None:
    """Write any supported data as a TFDS data set on disk, which tfds.load reads."""
    options = recipes.parse_data(source, settings)
    if skip_corrupt:
        options["skip_corrupt"] = True
    opened = datasets.open(source, **options)
    print_line(opened.description)
    path = datasets.prepare(opened, to, data_dir=data_dir)
    print_line(f"Wrote {path}")
