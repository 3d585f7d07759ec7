"""Options of `keras-gan sample --balance`."""

from __future__ import annotations

import argparse

from serving.errors import UsageError

_DEPENDENT = ("keep_if_recognized", "classifier", "classifier_range", "classifier_classes", "tries")
_EXCLUDED = ("each", "format", "input", "workers", "shard_size", "engine")
TRIES = 20  # samples tried for each picture that is missing


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options to those of `keras-gan sample`."""
    group = parser.add_argument_group("balanced classes")
    add = group.add_argument
    add(
        "--balance",
        metavar="FOLDER",
        help="folder with a subfolder of pictures for each class: writes as many samples of each "
        "class to subfolders of --out as make all classes equal; --count is the number of "
        "pictures of a class (default: that of the largest one), --labels are some classes",
    )
    add(
        "--with-real",
        action="store_true",
        help="put the pictures of --balance into --out as well, as hard links where possible",
    )
    add(
        "--keep-if-recognized",
        type=float,
        metavar="P",
        help="keep only samples of whose class --classifier is at least this sure, 0 to 1",
    )
    add(
        "--classifier",
        metavar="FILE",
        help="classifier of the same classes: a .keras or .onnx file, or a bundle",
    )
    add(
        "--classifier-range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="smallest and largest pixel value that the classifier takes, such as 0 255; a bundle "
        "states it itself",
    )
    add(
        "--classifier-classes",
        metavar="NAMES",
        help="names of the classes in the order of the classifier's outputs (default: the order "
        "of the folders' names)",
    )
    add(
        "--tries",
        type=int,
        help=f"most samples tried for each picture that is missing (default: {TRIES})",
    )


def is_wanted(options: argparse.Namespace) -> bool:
    """Returns whether --balance is given, and checks the options that belong to it.

    Raises:
        UsageError: options that need --balance without it, or that exclude it.
    """
    if options.balance is None:
        given = [name for name in _DEPENDENT if getattr(options, name) is not None]
        given += ["with_real"] if options.with_real else []
        if given:
            raise UsageError(f"{_flag(given[0])} needs --balance. Received: {_flag(given[0])}")
        return False
    for name in _EXCLUDED:
        if getattr(options, name):
            raise UsageError(
                f"--balance writes one PNG file a sample, to local folders: leave {_flag(name)} "
                f"out. Received: {_flag(name)}"
            )
    _check_recognition(options)
    return True


def _check_recognition(options: argparse.Namespace) -> None:
    share, path = options.keep_if_recognized, options.classifier
    if (share is None) != (path is None):
        given = "--classifier" if share is None else "--keep-if-recognized"
        raise UsageError(
            f"--keep-if-recognized and --classifier go together. Received: {given} alone"
        )
    if share is None:
        needs = [name for name in _DEPENDENT if getattr(options, name) is not None]
        if needs:
            raise UsageError(f"{_flag(needs[0])} needs --classifier. Received: {_flag(needs[0])}")
    elif not 0 < share <= 1:
        raise UsageError(
            "--keep-if-recognized must be a number above 0 and at most 1. "
            f"Received: --keep-if-recognized {share:g}"
        )
    if options.tries is not None and options.tries < 1:
        raise UsageError(f"--tries must be at least 1. Received: --tries {options.tries}")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
