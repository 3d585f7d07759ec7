"""`python -m keras_gan`: train, evaluate, export, verify, prepare, list, quickstart.

The program `keras-gan` hands these commands to this module and runs `sample` by itself, without
TensorFlow.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from typing import Annotated, Any, Literal, NoReturn

import rich.console
import rich.table
import typer

import export
from keras_gan import (
    architectures,
    augment,
    constraints,
    datasets,
    losses,
    memory,
    metrics,
    report,
    schedules,
    terms,
    train,
    workers,
)
from keras_gan import recipe as recipes
from keras_gan import run as runs
from keras_gan.errors import UsageError, WorkerLostError

app = typer.Typer(
    name="keras-gan",
    help="Train GANs, export them, and make samples.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = rich.console.Console(highlight=False, soft_wrap=True)

Settings = Annotated[
    list[str], typer.Option("--set", help="Override a key of the recipe: dotted.path=value.")
]
Minutes = Annotated[float | None, typer.Option(help="Train at most so many minutes.")]


@app.command("list")
def list_all() -> None:
    """List what a recipe can name: losses, penalties, data sets and the rest."""
    parts = (
        ("Recipes", recipes.names()),
        ("Architectures", architectures.names()),
        ("Losses", losses.names()),
        ("Terms", terms.names()),
        ("Augmentations", augment.names()),
        ("Constraints", constraints.names()),
        ("Schedules", schedules.names()),
        ("Data sets", datasets.names()),
    )
    width = 2 + max(len(name) for _, names in parts for name in names)
    for title, names in parts:
        out.print(title, style="bold")
        for name, line in names.items():
            out.print(f"  {name:<{width}}{line}", markup=False)


@app.command("train")
def train_command(
    recipe: Annotated[str | None, typer.Argument(help="A preset, or a YAML file.")] = None,
    settings: Settings = [],  # noqa: B006 - typer reads it, nobody writes it
    data: Annotated[
        str | None,
        typer.Option(help="Other data: a folder of images, x.npz, tfds:NAME, or a name."),
    ] = None,
    run: Annotated[
        pathlib.Path | None, typer.Option(help="The run folder, new. Default: runs/RECIPE.")
    ] = None,
    resume: Annotated[
        pathlib.Path | None, typer.Option(help="Go on with this run folder instead.")
    ] = None,
    override: Annotated[
        list[str],
        typer.Option(help="With --resume: a key of the recipe that may have changed."),
    ] = [],  # noqa: B006 - as above
    minutes: Minutes = None,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Count and skip files that cannot be read.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be trained; train nothing.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Log for TensorBoard too, into the run folder.")
    ] = False,
    workers_: Annotated[
        str | None,
        typer.Option("--workers", help="Train together: host:port,host:port, the chief first."),
    ] = None,
    index: Annotated[
        int | None, typer.Option(help="Which of the workers this one is, from 0.")
    ] = None,
) -> None:
    """Train a recipe into a run folder, or go on with one."""
    workers.configure(workers_, index)
    if workers.are_several() and not dry_run:
        workers.join()  # before a recipe is read, in which TensorFlow computes a little
    if (recipe is None) == (resume is None):
        got = "both" if recipe else "neither"
        raise UsageError(f"train takes a recipe, or --resume RUN. Received: {got}")
    if minutes is not None:
        settings = [*settings, f"training.minutes={minutes}"]
    if skip_corrupt:
        settings = [*settings, "data.skip_corrupt=true"]
    device = train.name_devices()
    if resume is not None:
        if data is not None or run is not None or dry_run or skip_corrupt:
            raise UsageError(
                "--resume goes with --set, --override, --minutes, --tensorboard, --workers and "
                "--index alone"
            )
        out.print(f"Going on with {resume} on {device}", markup=False)
        _tell(train.resume(resume, tuple(settings), tensorboard, tuple(override)))
        return
    if override:
        raise UsageError(f"--override goes with --resume. Received: --override {override[0]}")
    resolved = recipes.load(str(recipe), settings, data)
    if dry_run:
        _dry_run(train.choose_precision(resolved)[0])
        return
    resolved = _choose_precision(resolved)
    to = run or pathlib.Path("runs") / pathlib.Path(str(recipe)).stem
    out.print(f"Training {recipe} into {to} on {device}", markup=False)
    _tell(train.train(resolved, to, tensorboard))


@app.command("export")
def export_command(
    run: Annotated[
        pathlib.Path | None, typer.Argument(help="A run folder; a bundle for --layout triton.")
    ] = None,
    to: Annotated[
        pathlib.Path | None, typer.Option(help="The bundle, new. Default: RUN/bundle.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model. Default: the run folder's.")
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="last, best, or a .keras file.")] = "last",
    live: Annotated[
        bool, typer.Option("--live", help="The live generator, not the averaged one.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle.")] = False,
    version: Annotated[
        str | None,
        typer.Option(help="next, or a number: add a version to the folder --to, with its latest."),
    ] = None,
    layout: Annotated[
        str, typer.Option(help="bundle, or triton: a model repository of Triton.")
    ] = "bundle",
    formats: Annotated[
        list[str], typer.Option("--format", help="litert: model.tflite beside the others.")
    ] = [],  # noqa: B006 - typer reads it, nobody writes it
    precision: Annotated[
        list[str],
        typer.Option(
            help="float16 (for GPUs), int8 (for CPUs): the ONNX model in these too; refused where "
            "it would not pay."
        ),
    ] = [],  # noqa: B006
    license: Annotated[str | None, typer.Option(help="License of the weights.")] = None,
    intended_use: Annotated[
        str | None, typer.Option(help="What the model is for, for its card.")
    ] = None,
    no_metadata: Annotated[
        bool,
        typer.Option("--no-metadata", help="Servers' pictures do not tell that a model made them."),
    ] = False,
    check: Annotated[
        pathlib.Path | None, typer.Option(help="Check this bundle instead, as verify does.")
    ] = None,
) -> None:
    """Export the averaged generator of a run: SavedModel, ONNX, manifest, golden samples."""
    if (run is None) == (check is None):
        got = "neither" if run is None else "both"
        raise UsageError(f"export takes a run, or --check BUNDLE. Received: {got}")
    if check is not None or run is None:
        _verify(pathlib.Path(check or "."))
        return
    options = {
        "checkpoint": os.path.expanduser(checkpoint),
        "average": not live,
        "name": name,
        "license": license,
        "intended_use": intended_use,
        "metadata": not no_metadata,
        "formats": tuple(formats),
        "precision": tuple(precision),
    }
    run = pathlib.Path(os.path.expanduser(run))
    number = _version(version)
    if layout == "triton":
        if precision:
            raise UsageError(
                "--precision goes with --layout bundle; a model repository has float32 alone. "
                f"Received: --precision {','.join(precision)}"
            )
        _export_triton(run, to, number or "next", overwrite, options)
        return
    if layout != "bundle":
        raise UsageError(f"--layout must be bundle or triton. Received: --layout {layout}")
    if number is not None and to is None:
        raise UsageError(
            f"--version goes with --to, the folder of versions. Received: --version {version}"
        )
    opened = runs.Run.open(run)
    target = pathlib.Path(os.path.expanduser(to)) if to else opened.path / "bundle"
    bundle = _export(opened, target, overwrite=overwrite, version=number, **options)
    out.print(f"Wrote {bundle.path}", markup=False)
    for name, figure in _parity(bundle).items():
        out.print(f"  {name}: {figure}", markup=False)
    for line in export.summarize_precisions(bundle.manifest):
        out.print(f"  {line}", markup=False)


def _version(text: str | None) -> int | Literal["next"] | None:
    if text is None or text == "next":
        return text
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise UsageError(f"--version must be next, or a number from 1. Received: --version {text}")
    return int(text)


def _export_triton(
    run: pathlib.Path,
    to: pathlib.Path | None,
    version: int | Literal["next"],
    overwrite: bool,
    options: dict[str, Any],
) -> None:
    if overwrite:
        raise UsageError("A model repository gets a new version. Received: --overwrite")
    target = pathlib.Path(os.path.expanduser(to)) if to else run / "model_repository"
    with tempfile.TemporaryDirectory() as folder:
        bundle = run
        if not (run / "manifest.json").exists():
            bundle = _export(runs.Run.open(run), pathlib.Path(folder, "bundle"), **options).path
        written = export.export_triton(bundle, target, version)
    out.print(f"Wrote {written}", markup=False)
    out.print(f"Next: tritonserver --model-repository={target}", markup=False)


@app.command("verify")
def verify_command(
    bundle: Annotated[pathlib.Path, typer.Argument(help="A bundle.")],
) -> None:
    """Check a bundle: hashes, onnxruntime and TensorFlow against its golden samples."""
    _verify(bundle)


def _verify(bundle: pathlib.Path) -> None:
    bundle = pathlib.Path(os.path.expanduser(bundle))
    inside = (bundle, bundle / "bundle", bundle / "latest")  # of a run folder, of versions
    found = next((path for path in inside if (path / "manifest.json").exists()), bundle)
    report = export.verify_bundle(found)
    out.print(str(report), markup=False)
    if not report.ok:
        raise SystemExit(1)


@app.command("evaluate")
def evaluate_command(
    source: Annotated[
        str, typer.Argument(help="A run, a bundle, a folder of images, x.npz, or a data set.")
    ],
    data: Annotated[
        str | None,
        typer.Option(help="What to compare with. Default: what the run or bundle was trained on."),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="fashion_mnist, inception:PATH, pixels, an ONNX or .keras file. "
            "Default: fashion_mnist for gray images of 28x28, else pixels up to 4096 values."
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="Number of samples. Default: 10000, or as many as there are.")
    ] = None,
    real_count: Annotated[
        int | None, typer.Option(help="Number of real samples. Default: as many, or all.")
    ] = None,
    metrics_: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            help=f"Names, separated by commas: {', '.join(metrics.names())}. "
            "Default: all that fit.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Real samples: held_out, train, or all.")] = "held_out",
    seed: Annotated[int, typer.Option(help="The first seed of the samples.")] = 0,
    live: Annotated[
        bool, typer.Option("--live", help="The live generator, not the averaged one.")
    ] = False,
    truncation: Annotated[
        float, typer.Option(help="Factor on the latents: below 1 more typical, less varied.")
    ] = 1.0,
    checkpoint: Annotated[str, typer.Option(help="last, best, or a .keras file.")] = "last",
    nearest: Annotated[
        pathlib.Path | None,
        typer.Option(help="Write a PNG of samples beside their nearest training images."),
    ] = None,
    json: Annotated[
        pathlib.Path | None, typer.Option(help="Write values and protocol to this file.")
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(help="Folder for the real side's statistics, or off. Default: the user's."),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Of the classifiers of classification_accuracy.")] = 5,
    settings: Settings = [],  # noqa: B006 - typer reads it, nobody writes it
) -> None:
    """Measure samples against data: distances, precision and recall, diversity, memorization."""
    if json is not None:
        metrics.check_target(json)
    found = metrics.evaluate(
        os.path.expanduser(source),
        data,
        features,
        count,
        metrics=metrics_.split(",") if metrics_ else None,
        split=split,
        real_count=real_count,
        seed=seed,
        average=not live,
        truncation=truncation,
        checkpoint=os.path.expanduser(checkpoint),
        nearest_picture=nearest,
        cache={None: True, "off": False}.get(cache, cache or True),
        epochs=epochs,
        data_options=_data_options(data, settings),
    )
    _show(found)
    if json is not None:
        found.save(json)
        out.print(f"Wrote {json}", markup=False)
    if nearest is not None:
        out.print(f"Wrote {nearest}", markup=False)


def _data_options(data: str | None, settings: list[str]) -> dict[str, Any]:
    """Options of `--data`; a run's own data takes none but its recipe's."""
    if data is not None:
        return recipes.parse_data(data, settings)
    if settings:
        raise UsageError(f"evaluate takes --set with --data. Received: --set {settings[0]}")
    return {}


def _show(found: metrics.EvaluationResult) -> None:
    table = rich.table.Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in found.values.items():
        table.add_row(name, f"{value:.6g}")
    out.print(table)
    protocol = found.protocol
    hashed = f", sha256 {protocol['extractor_sha256'][:8]}" if protocol["extractor_sha256"] else ""
    out.print(
        f"features: {protocol['extractor']}{hashed}, {protocol['features']} numbers, "
        f"resized by: {protocol['resize']}",
        markup=False,
    )
    for side in ("generated", "real"):
        told = {k: v for k, v in protocol[side].items() if k not in ("source", "count", "sha256")}
        notes = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in told.items() if v is not None)
        line = f"{side}: {protocol[side]['count']:,} of {protocol[side]['source']}; {notes}"
        out.print(line, markup=False)


@app.command("prepare")
def prepare_command(
    source: Annotated[str, typer.Argument(help="A folder of images, x.npz, or a data set's name.")],
    to: Annotated[str, typer.Option(help="tfds:NAME")],
    settings: Settings = [],  # noqa: B006 - typer reads it, nobody writes it
    data_dir: Annotated[
        pathlib.Path | None, typer.Option(help="TFDS's data folder. Default: TFDS's own.")
    ] = None,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Count and skip files that cannot be read.")
    ] = False,
) -> None:
    """Write any supported data as a TFDS data set on disk, which tfds.load reads."""
    options = recipes.parse_data(source, settings)
    if skip_corrupt:
        options["skip_corrupt"] = True
    opened = datasets.open(source, **options)
    out.print(opened.description, markup=False)
    path = datasets.prepare(opened, to, data_dir=data_dir)
    out.print(f"Wrote {path}", markup=False)


@app.command("quickstart")
def quickstart_command(
    run: Annotated[pathlib.Path, typer.Option(help="The run folder; replaced.")] = pathlib.Path(
        "runs/quickstart"
    ),
    minutes: Minutes = None,
    settings: Settings = [],  # noqa: B006 - typer reads it, nobody writes it
) -> None:
    """Train on the embedded data, export, verify, and draw samples through onnxruntime."""
    if minutes is not None:
        settings = [*settings, f"training.minutes={minutes}"]
    recipe = _choose_precision(recipes.load("quickstart", settings))
    out.print(f"Training quickstart into {run} on {train.name_devices()}", markup=False)
    outcome = train.train(recipe, run, replace=True)
    if outcome.signal or outcome.collapsed:
        _tell(outcome)
    bundle = _export(outcome.run, run / "bundle")
    report = export.verify_bundle(bundle.path)
    pictures = run / "samples.png"
    _sample(bundle.path, pictures, recipe.samples.count)
    keras_speed, onnx_speed = _speeds(outcome.gan, bundle.path)

    table = rich.table.Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    last = outcome.run.rows()[-1]
    for name, value in (
        ("pictures", str(pictures)),
        ("run", f"{run}, report in {run / 'report.html'}"),
        ("bundle", str(bundle.path)),
        ("trained", f"{last['examples_seen']:,.0f} images in {outcome.seconds / 60:.1f} minutes"),
        ("last losses", f"d_loss {last['d_loss']:.3f}, g_loss {last['g_loss']:.3f}"),
        *_parity(bundle).items(),
        ("verified", "yes" if report.ok else "no"),
        ("Keras", f"{keras_speed:,.0f} samples/s"),
        ("onnxruntime", f"{onnx_speed:,.0f} samples/s"),
    ):
        table.add_row(name, value)
    out.print(table)


def _export(
    run: runs.Run,
    to: pathlib.Path,
    checkpoint: str = "last",
    average: bool = True,
    name: str | None = None,
    **options: Any,
) -> export.Bundle:
    gan = run.load(checkpoint)
    spec = run.spec
    rows = [row for row in run.rows() if row["examples_seen"] <= gan.count("examples_seen")]
    return export.export_bundle(
        gan,
        to,
        kind=spec.kind,
        # A folder's name may hold what a model's may not, spaces for instance.
        name=name or re.sub(r"[^A-Za-z0-9_.-]+", "-", run.path.resolve().name).strip("-."),
        class_names=spec.class_names if gan.num_classes else (),
        value_range=spec.value_range,
        average=average,
        training={
            "recipe": run.record,
            "examples_seen": gan.count("examples_seen"),
            "checkpoint": checkpoint,
            "weights": metrics.which_weights(gan, average),
            "data": {k: run.data[k] for k in ("description", "digest")},
            "metrics": rows[-1] if rows else {},
        },
        **options,
    )


def _parity(bundle: export.Bundle) -> dict[str, str]:
    return {
        f"parity {name}": f"at most {figure:.1e} from Keras"
        for name, figure in bundle.manifest.worst_parity().items()
    }


def _speeds(gan: Any, bundle: pathlib.Path, count: int = 1024) -> tuple[float, float]:
    """Samples per second in batches of 64, of Keras and of onnxruntime."""
    gan.generate(range(64))  # traces the graph
    began = time.perf_counter()
    gan.generate(range(count))
    keras_speed = count / (time.perf_counter() - began)
    with tempfile.TemporaryDirectory() as folder:
        told = _sample(bundle, pathlib.Path(folder) / "samples.npz", count)
    rate = re.search(r"([\d.]+) samples/s", told)
    return keras_speed, float(rate[1]) if rate else 0.0


def _sample(bundle: pathlib.Path, to: pathlib.Path, count: int) -> str:
    """Draws through the program that a user types, in which TensorFlow is never imported."""
    program = [sys.executable, "-m", "serving.cli", "sample", str(bundle)]
    program += ["--count", str(count), "--seed", "0", "--out", str(to)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(done.stderr.strip().removeprefix("keras-gan: error: "))
    return done.stdout.strip()


def _tell(outcome: train.Outcome) -> None:
    """Says how a training ended and what to type next; an interrupted one ends the program."""
    if not outcome.team.chief:
        out.print(
            f"{outcome.reason.capitalize()}: {outcome.team}, chief {outcome.team.addresses[0]}"
        )
        if outcome.collapsed:  # as the chief ends, so that whoever watches both starts both again
            raise SystemExit(1)
        raise SystemExit(130 if outcome.signal == signal.SIGINT else 0)
    path = outcome.run.path
    images = outcome.gan.count("examples_seen")
    seen = f"{images:,} images in {outcome.seconds / 60:.1f} minutes"
    if outcome.collapsed:
        print(f"keras-gan: error: The training {outcome.reason}", file=sys.stderr)
        out.print(f"Kept: the last good state, after {seen}, in {path}", markup=False)
        lower = "training.collapse_guard.action=roll_back"
        out.print(f"Try: keras-gan train --resume {path} --set {lower}", markup=False)
        raise SystemExit(1)
    if outcome.signal:
        out.print(f"Stopped after {seen}; saved.", markup=False)
        out.print(f"Go on with: keras-gan train --resume {path}", markup=False)
        raise SystemExit(130 if outcome.signal == signal.SIGINT else 0)
    short, _, found = outcome.reason.partition(": ")
    out.print(f"{short.capitalize()}: {seen}, in {path}", markup=False)
    if found:
        out.print(f"  {found}", markup=False)
        longer = f"keras-gan train --resume {path} --set training.equilibrium=null"
        out.print(f"  To train on regardless: {longer}", markup=False)
    for line in report.best_and_last(outcome.run, outcome.run.rows()):
        out.print(line, markup=False)
    out.print(f"Next: keras-gan export {path}", markup=False)


def _choose_precision(recipe: recipes.Recipe) -> recipes.Recipe:
    chosen, line = train.choose_precision(recipe)
    out.print(line[0].upper() + line[1:], markup=False)
    return chosen


def _dry_run(recipe: recipes.Recipe) -> None:
    source, gan, _, _ = train.prepare(recipe)
    out.print(recipe.to_yaml(), markup=False)
    out.print(f"data: {source.description}", markup=False)
    out.print(f"samples: {source.spec.kind} of shape {source.spec.shape}", markup=False)
    out.print(f"steps: {train.total_steps(recipe):,}", markup=False)
    for role in ("generator", "discriminator"):
        out.print(f"{role}: {getattr(gan, role).count_params():,} parameters", markup=False)
    for line in memory.estimate(gan, recipe.training.batch_size):
        out.print(line, markup=False)


def _warn(message: Any, category: Any, filename: Any, lineno: Any, *rest: Any) -> None:
    if issubclass(category, UserWarning):  # others are for developers
        print(f"keras-gan: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _fail(line: str, status: int = 2) -> NoReturn:
    print(f"keras-gan: error: {' '.join(line.split())}", file=sys.stderr)
    _leave(status)


def _leave(status: int) -> NoReturn:
    """Ends the program that something has gone wrong in."""
    if workers.have_met():
        sys.stdout.flush()
        sys.stderr.flush()
        # In an orderly end TensorFlow would wait a minute for the other workers, and they for it.
        os._exit(status)
    raise SystemExit(status)


def main(arguments: list[str] | None = None) -> None:
    """Runs a command; a user's mistake is one line on stderr and status 2."""
    warnings.showwarning = _warn
    with contextlib.suppress(ValueError):  # not in the main thread, where signals are taken
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # in order, cleaning up
    try:
        status = app(arguments, standalone_mode=False)
        sys.stdout.flush()
        if status:  # typer's own for an interruption
            raise SystemExit(status)
    except UsageError as error:
        _fail(str(error))
    except WorkerLostError as error:
        _fail(str(error), status=1)
    except typer.TyperException as error:  # an unknown option, a value of a wrong type
        message = getattr(error, "format_message", None)
        _fail(message() if message else str(error))
    except BrokenPipeError:
        # The reader has gone, as `head` does; the interpreter must not try to flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except OSError as error:
        _fail(f"The system refused: {error}")
    except KeyboardInterrupt:
        _leave(130)
    except Exception:
        if not workers.have_met():
            raise
        traceback.print_exc()
        _leave(1)


if __name__ == "__main__":
    main()
