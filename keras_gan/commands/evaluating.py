"""The command `evaluate`."""

from __future__ import annotations

import os
import pathlib
from typing import Annotated, Any

import rich.table
import typer

from keras_gan import metrics
from keras_gan import recipe as recipes
from keras_gan.commands._app import (
    Checkpoint,
    Imports,
    Live,
    Settings,
    app,
    out,
    print_line,
    table,
)
from keras_gan.errors import UsageError
from serving.lists import parse_list

Source = Annotated[
    str, typer.Argument(help="A run, a bundle, a folder of images, x.npz, x.csv, or a data set.")
]
Data = Annotated[
    str | None,
    typer.Option(help="Data to compare with. Default: the data of the run or bundle."),
]
Features = Annotated[
    str | None,
    typer.Option(
        help="fashion_mnist, inception:PATH, pixels, reduced_pixels, spectrum, sound_classifier, "
        "video_classifier, an ONNX or .keras file. Default: fashion_mnist for Fashion-MNIST, "
        "spectrum for audio, else pixels up to 4096 values, reduced_pixels for larger images."
    ),
]
SampleCount = Annotated[
    int | None,
    typer.Option(help="Number of samples. Default: 10000, or all if there are fewer."),
]
RealCount = Annotated[
    int | None,
    typer.Option(help="Number of real samples. Default: the same, or all if there are fewer."),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        help=f"Names, separated by commas: {', '.join(metrics.names())}. Default: all that apply; "
        "for images without --features those that need no network.",
    ),
]
Truncation = Annotated[
    float, typer.Option(help="Factor of the latents: below 1 more typical, less varied.")
]
Network = Annotated[
    str | None,
    typer.Option(
        help="Of a run with several generators, the one to evaluate, such as backward; a bundle's "
        "direction is known."
    ),
]
Nearest = Annotated[
    pathlib.Path | None,
    typer.Option(help="Write a PNG of samples next to their nearest training images."),
]
Control = Annotated[
    list[str],
    typer.Option(
        "--control",
        help="A run or bundle whose values are shown beside those of the source; may be repeated. "
        "For pairs of pictures the conditions themselves, resized if need be, are always shown; "
        "for sounds of spectrograms Griffin-Lim and the real sounds.",
    ),
]
Luma = Annotated[bool, typer.Option("--luma", help="PSNR and SSIM of the luma of color pictures.")]
Shave = Annotated[int, typer.Option(help="Pixels at each border that PSNR and SSIM leave out.")]
Json = Annotated[pathlib.Path | None, typer.Option(help="Write values and protocol to this file.")]
Cache = Annotated[
    str | None,
    typer.Option(help="Folder for the statistics of real samples, or off. Default: the user's."),
]


@app.command("evaluate")
def evaluate_command(
    source: Source,
    data: Data = None,
    features: Features = None,
    count: SampleCount = None,
    real_count: RealCount = None,
    metrics_: Metrics = None,
    split: Annotated[str, typer.Option(help="Real samples: held_out, train, or all.")] = "held_out",
    seed: Annotated[int, typer.Option(help="The first seed of the samples.")] = 0,
    live: Live = False,
    truncation: Truncation = 1.0,
    checkpoint: Checkpoint = "last",
    network: Network = None,
    nearest: Nearest = None,
    json: Json = None,
    cache: Cache = None,
    epochs: Annotated[int, typer.Option(help="Epochs of classification_accuracy.")] = 5,
    control: Control = [],  # noqa: B006
    luma: Luma = False,
    shave: Shave = 0,
    settings: Settings = [],  # noqa: B006 - typer reads the list and does not change it
    imports: Imports = [],  # noqa: B006
) -> None:
    """Compare samples with data: distances, precision and recall, diversity, memorization."""
    if json is not None:
        metrics.check_target(json)
    found = metrics.evaluate(
        os.path.expanduser(source),
        data,
        features,
        count,
        metrics=parse_list(metrics_) if metrics_ else None,
        split=split,
        real_count=real_count,
        seed=seed,
        average=not live,
        truncation=truncation,
        checkpoint=os.path.expanduser(checkpoint),
        network=network,
        nearest_picture=nearest,
        cache={None: True, "off": False}.get(cache, cache or True),
        epochs=epochs,
        data_options=_data_options(data, settings),
        controls=[os.path.expanduser(path) for path in control],
        luma=luma,
        shave=shave,
    )
    _show(found)
    if json is not None:
        found.save(json)
        print_line(f"Wrote {json}")
    if nearest is not None:
        print_line(f"Wrote {nearest}")


def _data_options(data: str | None, settings: list[str]) -> dict[str, Any]:
    """Returns the options of `--data`. The options of a run's own data come from its recipe."""
    if data is not None:
        return recipes.parse_data(data, settings)
    if settings:
        raise UsageError(f"--set needs --data in this command. Received: --set {settings[0]}")
    return {}


def _show(found: metrics.EvaluationResult) -> None:
    out.print(_values(found))
    protocol = found.protocol
    hashed = f", sha256 {protocol['extractor_sha256'][:8]}" if protocol["extractor_sha256"] else ""
    print_line(
        f"features: {protocol['extractor']}{hashed}, {protocol['features']} numbers, "
        f"resized by: {protocol['resize']}"
    )
    if "note" in protocol:
        print_line(f"note: {protocol['note']}")
    described = {which: protocol[which] for which in ("generated", "real")}
    count = protocol["generated"]["count"]
    for name, of in protocol.get("controls", {}).items():
        described[f"control {name}"] = {"count": count, **of}
    for which, of in described.items():
        rest = {k: v for k, v in of.items() if k not in ("source", "count", "sha256")}
        notes = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in rest.items() if v is not None)
        print_line("; ".join(filter(None, [f"{which}: {of['count']:,} of {of['source']}", notes])))


def _values(found: metrics.EvaluationResult) -> rich.table.Table:
    """Returns the table of the values, with a column for each control."""
    values = table()
    columns = [found.values, *found.controls.values()]
    if found.controls:
        values.show_header = True
        for name in ("", "samples", *found.controls):
            values.add_column(name, overflow="fold")
    for name in found.values:
        values.add_row(name, *(f"{of[name]:.6g}" if name in of else "" for of in columns))
    return values
