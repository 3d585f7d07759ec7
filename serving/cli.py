"""Command line `keras-gan`.

The commands of `_HERE` run here and start fast: heavy modules are imported only where they are
used. Every other command belongs to the library and is handed to `python -m keras_gan`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from serving import balance_options, programs, shard_options, text_options
from serving.errors import UsageError

COMMANDS = {
    "quickstart": "Train on built-in data, export and sample, in minutes",
    "train": "Train a GAN from a recipe into a run folder",
    "average": "Average a run's generator over another share of its training",
    "evaluate": "Measure samples against data: distances, recall and more",
    "export": "Export a run's generator to a bundle: SavedModel and ONNX",
    "verify": "Check a bundle's files and the outputs of its models",
    "sample": "Make samples from a bundle, without TensorFlow",
    "walk": "Animate a walk between seeds of a bundle, without TensorFlow",
    "translate": "Translate pictures of any size, without TensorFlow",
    "vocode": "Turn sounds or spectrograms into sound, without TensorFlow",
    "classify": "Print the classes of pictures, without TensorFlow",
    "play": "Play a policy in its environment, without TensorFlow",
    "serve": "Serve bundles over HTTP, without TensorFlow",
    "prepare": "Prepare a data set once, before training",
    "record": "Record an expert's episodes in an environment",
    "sound-classifier": "Train a classifier of sounds, whose features are compared",
    "video-classifier": "Train a classifier of videos, whose features are compared",
    "doctor": "Check packages, machine and GPU, and name what breaks",
    "list": "List recipes, architectures, losses, data sets and more",
}
_MODULES = ("translate", "vocode", "classify", "play")  # of modules of their own
_HERE = ("sample", "walk", *_MODULES, "serve", "doctor")
_LIBRARY = tuple(name for name in COMMANDS if name not in _HERE)

HELP = """usage: keras-gan [--help] [--version] COMMAND ...

Generative adversarial networks as ordinary Keras models.

commands:
{commands}

options:
  -h, --help  Show this text; `keras-gan COMMAND --help` shows a command's own
  --version   Show the version

examples:
  keras-gan train fashion-mnist --set training.batch_size=128
  keras-gan export runs/fashion-mnist
  keras-gan sample runs/fashion-mnist --count 64 --out grid.png
  keras-gan serve runs/fashion-mnist
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 2 for a user error, or the command's own."""
    argv = list(sys.argv[1:] if argv is None else argv)
    programs.escape_output()
    try:
        programs.check_arguments(argv)
        status = _run(argv)
        if sys.stdout:
            sys.stdout.flush()  # here, where a closed pipe can still be handled
        return status
    except UsageError as error:
        print(f"keras-gan: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe; the interpreter must not flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if sys.stdout:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"keras-gan: error: The operating system reported an error: {error}", file=sys.stderr)
        return 2


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        lines = (f"  {name:<16}  {line}" for name, line in COMMANDS.items())
        print(HELP.format(commands="\n".join(lines)), end="")
        return 0
    if argv[0] == "--version":
        print(f"keras-gan {_version()}")
        return 0
    if argv[0] in _MODULES:
        return _run_module(argv[0], argv[1:])
    if argv[0] in _HERE:
        commands = {"sample": sample, "walk": walk, "serve": serve, "doctor": doctor}
        return commands[argv[0]](argv[1:])
    if argv[0] in _LIBRARY:
        return _hand_over(argv)
    raise UsageError(_unknown(argv[0]))


def _hand_over(argv: list[str]) -> int:
    command, environment = programs.command("-m", "keras_gan", *argv), programs.environment()
    if sys.platform == "win32":  # exec returns to the shell before the program ends
        import subprocess

        return subprocess.run(command, env=environment, check=False).returncode
    os.execve(command[0], command, environment)


def _unknown(command: str) -> str:
    from serving.nearest_names import nearest  # not at import: --help need not wait for it

    return f"The command must be a known one. Received: {command!r}. {nearest(command, COMMANDS)}"


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("keras-gan")
    except metadata.PackageNotFoundError:  # a checkout that was not installed
        path = Path(__file__).parents[1] / "keras_gan" / "_version.py"
        return path.read_text(encoding="utf-8").split('"')[-2]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[:1].upper()}{message[1:]}; see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="keras-gan sample",
        description="Make samples from a bundle. Sample i has the seed --seed + i; it is the same "
        "in every batch and on every server.",
        epilog="examples: keras-gan sample runs/fashion-mnist --count 64 --seed 7 --out grid.png; "
        "keras-gan sample http://localhost:8000/fashion-mnist --out grid.png; "
        "keras-gan sample runs/night --input picture=photos/ --out night --each; "
        "keras-gan sample runs/fashion-mnist --count 1000000 --out shards/ --workers 8",
    )
    add = parser.add_argument
    _add_bundle(parser)
    add(
        "--count",
        type=int,
        help="number of samples (default: 64; that of the files of --input; 1 for a single file)",
    )
    add("--seed", type=int, help="seed of the first sample (default: 0)")
    add(
        "--frames",
        type=int,
        help="frames of one video of any length, for a generator of video with content and motion "
        "apart; --out is a .webp, .gif, .apng, .mp4, .npy or .raw file, or FOLDER/ for PNG files",
    )
    _add_input_options(parser)
    _add_output_options(parser)
    shard_options.add_options(parser)
    balance_options.add_options(parser)
    text_options.add_options(parser)
    return parser


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundle",
        metavar="BUNDLE",
        help="folder of a bundle or of an exported run; or a server's http://HOST:PORT/NAME (with "
        "its bearer token, if it requires one, in KERAS_GAN_TOKEN)",
    )


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--out",
        metavar="FILE",
        help="file to write (default: samples.png); FOLDER/, with a slash, or a URL such as "
        "s3://bucket/folder for shards, of up to 1000 sounds for one file each; the same command "
        "continues an interrupted run",
    )
    add(
        "--format",
        metavar="png|npz|wav|...",
        help="png: one picture of all samples; npz: all outputs and inputs; or a format of the "
        "samples' kind, such as wav, gif, csv, txt, npy (default: by the extension of --out); "
        "for shards webdataset (default), npz or tfrecord",
    )
    add(
        "--each",
        nargs="?",
        const=True,
        metavar="FOLDER",
        help="write each sample to a file of its own in FOLDER, or in the folder of --out",
    )
    _add_no_metadata(parser)


def _add_no_metadata(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-metadata",
        action="store_true",
        help="omit from files that a model made them, which one and from which seed",
    )


def _add_input_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--input",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="file of an input that must be given, such as a PNG to translate; or a folder of "
        "files, one for each sample, in the order of their names",
    )
    add(
        "--labels",
        metavar="LABELS",
        help="class ids or names, such as 3 or 0,1,2; several are repeated cyclically; a name with "
        "a comma is in double quotes: '\"shirt, short\",bag'",
    )
    add(
        "--truncation",
        type=float,
        default=1.0,
        help="factor on the latents, or value of the input truncation; below 1 gives more typical, "
        "less varied samples (default: 1)",
    )
    add(
        "--precision",
        default="float32",
        metavar="float32|float16|int8",
        help="precision of the model, for a bundle exported with --precision: float16 for GPUs, "
        "int8 for CPUs (default: float32)",
    )
    add("--batch-size", type=int, default=64, help="samples of one batch (default: 64)")


def sample(argv: list[str]) -> int:
    """Runs `keras-gan sample`."""
    options = _parser().parse_args(argv)
    if options.count is not None and options.count < 1:
        raise UsageError(f"--count must be at least 1. Received: --count {options.count}")
    if options.seed is not None and not 0 <= options.seed <= 2**63 - (options.count or 1):
        count = "" if options.count is None else f" --count {options.count}"
        raise UsageError(
            f"All seeds must be at least 0 and below 2**63. Received: --seed {options.seed}{count}"
        )
    options.bundle = os.path.expanduser(options.bundle)
    if isinstance(options.each, str):
        options.each = os.path.normpath(os.path.expanduser(options.each))
    options.out = options.out and os.path.expanduser(options.out)
    if options.frames is not None:
        from serving.frames_command import FramesCommand

        print(FramesCommand(_open(options.bundle, options.precision), options).run())
        return 0
    if balance_options.is_wanted(options):
        from serving.balance_command import BalanceCommand

        return BalanceCommand(_open(options.bundle, options.precision), options).run()
    if text_options.is_wanted(options):
        from serving import text_command

        return text_command.run(_open(options.bundle, options.precision), options)
    if shard_options.wants_shards(options) and shard_options.wants_files(options):
        options.each, options.out = os.path.normpath(options.out), None
    elif shard_options.wants_shards(options):
        from serving import bulk

        return bulk.command(options)
    from serving.sample_command import SampleCommand

    bundle = _open(options.bundle, options.precision)
    if getattr(bundle, "text_sampler", None) and text_options.writes_lines(options):
        from serving import text_command

        return text_command.run(bundle, options)
    print(SampleCommand(bundle, options).run())
    return 0


def walk(argv: list[str]) -> int:
    """Runs `keras-gan walk`."""
    from serving import walk_options

    parser = _Parser(
        prog="keras-gan walk", description=walk_options.ABOUT, epilog=walk_options.EXAMPLES
    )
    _add_bundle(parser)
    walk_options.add_options(parser)
    _add_no_metadata(parser)
    _add_input_options(parser)
    options = parser.parse_args(argv)
    options.out = os.path.expanduser(options.out)
    from serving.walk_command import WalkCommand

    bundle = _open(os.path.expanduser(options.bundle), options.precision)
    print(WalkCommand(bundle, options).run())
    return 0


def _run_module(name: str, argv: list[str]) -> int:
    """Runs a command that has a module of its own, such as `keras-gan vocode`.

    The module `serving.NAME_command` has `ABOUT`, `EXAMPLES`, `add_options(parser)`, and a class
    `NameCommand(options)` whose `run()` returns the exit status.
    """
    module = importlib.import_module(f"serving.{name}_command")
    parser = _Parser(prog=f"keras-gan {name}", description=module.ABOUT, epilog=module.EXAMPLES)
    module.add_options(parser)
    return getattr(module, f"{name.capitalize()}Command")(parser.parse_args(argv)).run()


def _open(bundle: str, precision: str) -> Any:
    if "://" in bundle:
        from serving.client import RemoteBundle

        if precision != "float32":
            raise UsageError(
                "--precision must be float32 for a server, which chooses the precision itself. "
                f"Received: --precision {precision} for {bundle!r}"
            )
        return RemoteBundle(bundle)
    from serving.bundle import Bundle

    return Bundle(bundle, precision=precision)


def _serve_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="keras-gan serve",
        description="Serve bundles over HTTP, with a page to explore their samples. New versions "
        "are loaded as they appear. On SIGTERM the server completes open requests, then ends.",
        epilog="example: keras-gan serve models/ --port 8000; then open http://127.0.0.1:8000",
    )
    add = parser.add_argument
    add(
        "paths",
        nargs="+",
        metavar="PATH",
        help="folder of a bundle, of an exported run, of versions, or of several of these",
    )
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=int, default=8000, help="port, 0 for a free one (default: 8000)")
    add("--tokens", metavar="FILE", help="require a bearer token from this file, one on each line")
    add(
        "--cors",
        action="append",
        metavar="ORIGIN",
        help="allow pages of this origin; * for all",
    )
    add(
        "--trusted-host",
        action="append",
        metavar="NAME",
        help="accept this Host header too, behind a proxy on 127.0.0.1",
    )
    for name, about in _LIMITS.items():
        add("--" + name.replace("_", "-"), type=float if "seconds" in name else int, help=about)
    add("--timeout", type=float, metavar="SECONDS", help="timeout of one request (default: 30)")
    add("--device", metavar="auto|cpu|cuda|tensorrt", help="device to run on (default: auto)")
    add(
        "--precision",
        metavar="float32|float16|int8",
        help="precision of the models, for bundles exported with --precision (default: float32)",
    )
    add(
        "--log-format",
        metavar="text|json",
        help="format of the log (default: text)",
    )
    add("--no-access-log", action="store_true", help="log failed requests only")
    return parser


_LIMITS = {
    "workers": "number of sessions, each of one thread (default: one for each CPU)",
    "max_batch": "largest batch, in samples (default: 16)",
    "queue": "largest number of queued samples; more receive 503 (default: 512)",
    "max_count": "most samples in a response that is not streamed (default: 1024)",
    "max_stream": "most samples in a stream (default: 100000)",
    "max_values": "most numbers or pixels in a response that is not streamed (default: 2**24)",
    "max_pixels": "most pixels of a translation; more receive 413 (default: 2**25)",
    "max_seconds": "longest sound of /v1/vocode; longer ones receive 413 (default: 300)",
    "max_streams": "most concurrent streams of sound, video and text; more receive 503 "
    "(default: 32)",
    "max_body": "largest request body, in bytes (default: 8 MiB)",
    "max_requests": "most concurrent requests; more receive 503 (default: 1024)",
    "max_connections": "most open connections; more receive 503 (default: 2048)",
    "header_seconds": "timeout for receiving a request's line and headers (default: 10)",
    "body_seconds": "timeout for receiving the body and for a stalled response (default: 30)",
    "idle_seconds": "timeout of an idle connection (default: 75)",
    "drain_seconds": "time for open requests to complete after SIGTERM (default: 30)",
    "poll_seconds": "interval between checks for new versions (default: 1)",
    "versions": "newest versions of a model to serve (default: 3)",
}


def serve(argv: list[str]) -> int:
    """Runs `keras-gan serve`."""
    options = _serve_parser().parse_args(argv)
    try:
        from serving import server
        from serving.app import create_app
        from serving.limits import Settings, names
    except ModuleNotFoundError as error:
        raise UsageError(
            "Serving needs extra packages: pip install 'keras-gan[serve]'. "
            f"Received: no module {error.name!r}"
        ) from error
    given = {
        name: value
        for name in (*_LIMITS, "timeout", "device", "precision", "log_format")
        if (value := getattr(options, name)) is not None
    }
    settings = Settings(
        paths=tuple(os.path.expanduser(path) for path in options.paths),
        host=options.host,
        port=options.port,
        tokens=options.tokens and os.path.expanduser(options.tokens),
        access_log=not options.no_access_log,
        cors=names(options.cors),
        hosts=names(options.trusted_host),
        **given,
    )
    app = create_app(settings)
    if not settings.is_local and app.tokens is None:
        app.log.say(
            f"Anyone who can reach {settings.host} can use this server, as --tokens is not set. "
            "In a shared network use --tokens and a proxy with TLS",
            failed=True,
        )

    def announce(running: Any) -> None:
        models = ", ".join(
            f"{served.bundle.name} version {served.version}"
            for _, served in sorted(app.repository.newest.items())
        )
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        print(f"Serving {models} at http://{host}:{running.port}", flush=True)

    server.run(app, announce)
    return 0


def doctor(argv: list[str]) -> int:
    """Runs `keras-gan doctor`; returns 1 if training or serving cannot work here, else 0."""
    from serving.doctor import command

    parser = _Parser(
        prog="keras-gan doctor",
        description="Check the installed packages, the machine and its GPU, and name what keeps "
        "training or serving from working. The exit status is 1 if one of them cannot work.",
        epilog="examples: keras-gan doctor; keras-gan doctor --json; keras-gan doctor --brief",
    )
    command.add_options(parser)
    return command.doctor(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
