"""The command `record`."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

import serving
from keras_gan.commands._app import app, print_line
from keras_gan.control import recording
from keras_gan.control.spaces import check_name
from keras_gan.errors import UsageError
from serving.output_files import check_writable


@app.command("record")
def record_command(
    environment: Annotated[
        str, typer.Argument(help="Name of an environment of gymnasium.", metavar="ENV")
    ],
    out: Annotated[pathlib.Path, typer.Option(help="The .npz file.")] = pathlib.Path("expert.npz"),
    expert: Annotated[
        str | None,
        typer.Option(
            help="FILE.py:FUNCTION or a policy bundle; by default the environment's scripted one."
        ),
    ] = None,
    episodes: Annotated[int, typer.Option(help="Number of episodes.")] = 60,
    seed: Annotated[int, typer.Option(help="Seed of the environment's resets.")] = 0,
) -> None:
    """Record an expert's episodes for the data set trajectories."""
    if out.suffix != ".npz":
        raise UsageError(f"`out` must end in .npz. Received: out={str(out)!r}")
    check_name(environment)
    if not out.parent.is_dir():
        raise UsageError(f"`out` must be in a folder that exists. Received: out={str(out)!r}")
    check_writable(out)
    acting, name = recording.named(expert, environment, serving.Bundle)
    found = recording.record(environment, acting, episodes, seed, name)
    found.save(out)
    returns = found.returns
    print_line(
        f"Wrote {out}: {len(returns)} episodes of {name}, {len(found.actions):,} steps, returns "
        f"{returns.min():.1f} to {returns.max():.1f}, mean {returns.mean():.1f}"
    )
    print_line(f"keras-gan train RECIPE --set data.path={out}")
