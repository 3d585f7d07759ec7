"""The command-line application, its console, and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import rich.console
import rich.table
import typer

from keras_gan import imports

app = typer.Typer(
    name="keras-gan",
    help="Train GANs, export them, and generate samples.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = rich.console.Console(highlight=False, soft_wrap=True, markup=False)  # [labels] is a text

Settings = Annotated[
    list[str], typer.Option("--set", help="Override a key of the recipe: dotted.path=value.")
]
Minutes = Annotated[float | None, typer.Option(help="Time limit of the training, in minutes.")]
SkipCorrupt = Annotated[
    bool, typer.Option("--skip-corrupt", help="Count and skip files that cannot be read.")
]
Imports = Annotated[
    list[str],
    typer.Option(
        "--import",
        help="A .py file or a module of your own to import first, such as one with a game.",
        callback=lambda names: _import(names),
    ),
]
Checkpoint = Annotated[str, typer.Option(help="last, best, averaged, or a .keras file.")]
Live = Annotated[
    bool, typer.Option("--live", help="Use the live generator instead of the averaged one.")
]


def _import(names: list[str]) -> list[str]:
    imports.load(names)
    return names


def print_line(line: str) -> None:
    """Prints a line without markup."""
    out.print(line)


def table() -> rich.table.Table:
    """Returns a table of names and values without lines."""
    return rich.table.Table(show_header=False, box=None, padding=(0, 2, 0, 0))
