"""The command `quickstart`."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import tempfile
import time
from typing import Annotated, Any

import typer

import export
from keras_gan import recipe as recipes
from keras_gan import train
from keras_gan.commands._app import Minutes, Settings, app, out, print_line, table
from keras_gan.commands.exporting import export_run, parity_of
from keras_gan.commands.training import choose_precision, print_outcome
from keras_gan.errors import UsageError
from serving import programs

# Runs in a process of its own, which imports serving but not TensorFlow.
_MEASURE = """
import json, sys, time
import serving
path, count, to = sys.argv[1], int(sys.argv[2]), sys.argv[3]
bundle = serving.Bundle(path)
began = time.perf_counter()
bundle.sample(range(count))
speed = count / (time.perf_counter() - began)
with open(to, "w") as file:
    json.dump({"samples_per_second": speed}, file)
"""


@app.command("quickstart")
def quickstart_command(
    run: Annotated[
        pathlib.Path, typer.Option(help="The run folder; an existing run is replaced.")
    ] = pathlib.Path("runs/quickstart"),
    minutes: Minutes = None,
    settings: Settings = [],  # noqa: B006 - typer reads the list and does not change it
) -> None:
    """Train on the built-in data, export, verify, and generate samples with onnxruntime."""
    if minutes is not None:
        settings = [*settings, f"training.minutes={minutes}"]
    run = pathlib.Path(os.path.expanduser(run))
    recipe = choose_precision(recipes.load("quickstart", settings))
    print_line(f"Training quickstart into {run} on {train.name_devices()}")
    outcome = train.train(recipe, run, replace=True)
    if outcome.signal or outcome.collapsed:
        print_outcome(outcome)
    bundle = export_run(outcome.run, run / "bundle")
    report = export.verify_bundle(bundle.path)
    pictures = run / "samples.png"
    _sample(bundle.path, pictures, recipe.samples.count)
    summary = table()
    last = outcome.run.rows()[-1]
    for name, value in (
        ("samples", str(pictures)),
        ("run", f"{run}, report in {run / 'report.html'}"),
        ("bundle", str(bundle.path)),
        ("trained", f"{last['examples_seen']:,.0f} examples in {outcome.seconds / 60:.1f} minutes"),
        ("last losses", f"d_loss {last['d_loss']:.3f}, g_loss {last['g_loss']:.3f}"),
        *parity_of(bundle).items(),
        ("verified", "yes" if report.ok else "no"),
        ("Keras", f"{_keras_speed(outcome.gan):,.0f} samples/s"),
        ("onnxruntime", f"{_onnxruntime_speed(bundle.path):,.0f} samples/s"),
    ):
        summary.add_row(name, value)
    out.print(summary)


def _sample(bundle: pathlib.Path, to: pathlib.Path, count: int) -> None:
    """Generates samples with the command `keras-gan sample`, which does not import TensorFlow."""
    options = ["--count", str(count), "--seed", "0", "--out", str(to)]
    done = _run("-m", "serving.cli", "sample", str(bundle), *options)
    if done.returncode:
        raise UsageError(done.stderr.strip().removeprefix("keras-gan: error: "))


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    program, environment = programs.command(*arguments), programs.environment()
    return subprocess.run(
        program, env=environment, capture_output=True, text=True, errors="replace", check=False
    )


def _keras_speed(gan: Any, count: int = 1024) -> float:
    """Returns samples per second of Keras, in batches of 64."""
    gan.generate(range(64))  # traces the graph
    began = time.perf_counter()
    gan.generate(range(count))
    return count / (time.perf_counter() - began)


def _onnxruntime_speed(bundle: pathlib.Path, count: int = 1024) -> float:
    """Returns samples per second of onnxruntime, in batches of 64."""
    with tempfile.TemporaryDirectory() as folder:
        measured = pathlib.Path(folder) / "speed.json"
        done = _run("-c", _MEASURE, str(bundle), str(count), str(measured))
        if done.returncode:
            raise UsageError(f"{bundle} cannot be sampled: {done.stderr.strip().splitlines()[-1]}")
        return json.loads(measured.read_text("utf-8"))["samples_per_second"]
