"""The command `video-classifier`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from keras_gan import datasets, metrics
from keras_gan import recipe as recipes
from keras_gan.commands._app import Settings, app, print_line
from keras_gan.metrics.video_classifier import EPOCHS


@app.command("video-classifier")
def video_classifier_command(
    data: Annotated[
        str, typer.Argument(help="A folder of videos with a folder for each class, or a data set.")
    ],
    epochs: Annotated[int, typer.Option(help="Passes over the training clips.")] = EPOCHS,
    seed: Annotated[int, typer.Option(help="Seed of the weights and of the order.")] = 0,
    settings: Settings = [],  # noqa: B006 - typer reads the list and does not change it
) -> None:
    """Train a classifier of videos for evaluate --features video_classifier."""
    opened = datasets.open(data, **recipes.parse_data(data, settings))
    print_line(opened.description)
    start = time.perf_counter()
    found = metrics.train_video_classifier(opened, epochs, seed)
    seconds = time.perf_counter() - start
    of_each = ", ".join(f"{name} {value:.4f}" for name, value in found.accuracies.items())
    print_line(f"Held-out accuracy: {of_each}, after {seconds:.0f} s")
    print_line(f"Wrote {found.path}")
    print_line(f"keras-gan evaluate RUN --features video_classifier:{found.path.stem[:8]}")
