"""The command `sound-classifier`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from keras_gan import datasets, metrics
from keras_gan import recipe as recipes
from keras_gan.commands._app import Settings, app, print_line
from keras_gan.metrics.sound_classifier import EPOCHS


@app.command("sound-classifier")
def sound_classifier_command(
    data: Annotated[
        str, typer.Argument(help="A folder of sounds with a folder for each class, or a data set.")
    ],
    epochs: Annotated[int, typer.Option(help="Passes over the training clips.")] = EPOCHS,
    seed: Annotated[int, typer.Option(help="Seed of the weights and of the order.")] = 0,
    settings: Settings = [],  # noqa: B006 - typer reads the list and does not change it
) -> None:
    """Train a classifier of sounds for evaluate --features sound_classifier."""
    opened = datasets.open(data, **recipes.parse_data(data, settings))
    print_line(opened.description)
    start = time.perf_counter()
    found = metrics.train_sound_classifier(opened, epochs, seed)
    seconds = time.perf_counter() - start
    print_line(f"Held-out accuracy {found.accuracy:.4f}, after {seconds:.0f} s")
    print_line(f"Wrote {found.path}")
    print_line(f"keras-gan evaluate RUN --features sound_classifier:{found.path.stem[:8]}")
