"""The command `average`."""

from __future__ import annotations

import pathlib
import warnings
from typing import Annotated

import rich.table
import typer

from keras_gan import post_hoc
from keras_gan import run as runs
from keras_gan.commands._app import Imports, app, out, print_line
from keras_gan.errors import UsageError

_LARGE = 0.1  # error of a profile that is worth a warning

RunFolder = Annotated[
    pathlib.Path, typer.Argument(help="A run, trained with game.average_deviations.")
]
Deviation = Annotated[
    float | None,
    typer.Option(help="Standard deviation of the average, as a share of the training."),
]
Choose = Annotated[
    bool,
    typer.Option(
        "--choose",
        help="Try deviations from 0.02 to 0.14 on the held-out samples, and take the best.",
    ),
]
Data = Annotated[str | None, typer.Option(help="With --choose: the new place of the run's data.")]


@app.command("average")
def average_command(
    run: RunFolder,
    deviation: Deviation = None,
    choose: Choose = False,
    data: Data = None,
    imports: Imports = [],  # noqa: B006 - typer reads the list and does not change it
) -> None:
    """Average the generator of a finished run over another share of its training."""
    if choose == (deviation is not None):
        got = "both" if choose else "neither"
        raise UsageError(f"average takes --deviation, or --choose. Received: {got}")
    if data is not None and not choose:
        raise UsageError(f"--data needs --choose. Received: --data {data}")
    opened = runs.Run.open(run)
    if deviation is not None:
        found = post_hoc.average(opened, deviation)
    else:
        metric, tried, found = post_hoc.choose(opened, data=data)
        _show(metric, tried)
    if found.error > _LARGE:
        warnings.warn(
            f"The stored averages approximate the profile of deviation {found.deviation:g} with an "
            f"error of {found.error:.0%}: the snapshots are too far apart",
            stacklevel=2,
        )
    value = "" if found.value is None else f", {metric} {found.value:.6g}"
    print_line(f"Wrote {opened.path / 'averaged'}: deviation {found.deviation:g}{value}")
    print_line(f"Next: keras-gan export {opened.path} --checkpoint averaged")


def _show(metric: str, tried: list[post_hoc.Tried]) -> None:
    rows = rich.table.Table(box=None, padding=(0, 2, 0, 0))
    for name in ("deviation", metric, "error of the profile"):
        rows.add_column(name)
    for each in tried:
        is_own = each.deviation is None
        name = "the training's average" if is_own else f"{each.deviation:g}"
        rows.add_row(name, f"{each.value:.6g}", "" if is_own else f"{each.error:.1%}")
    out.print(rows)
