"""Arguments, checks and messages of `translate` and `classify`, in part also of `vocode`."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from serving import uploads
from serving.errors import UsageError
from serving.picture_forms import read_file


def add_pictures(parser: argparse.ArgumentParser, command: str, bundle: str) -> None:
    """Adds the arguments: the bundle, and the pictures.

    Args:
        parser: of the command.
        command: its name.
        bundle: help of the bundle.
    """
    parser.add_argument("bundle", metavar="BUNDLE", help=bundle)
    parser.add_argument(
        "pictures",
        nargs="+",
        metavar="PICTURE",
        help=f"file to {command} (PNG, JPEG, WebP, GIF, BMP, TIFF), or folder of such files",
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Adds the precision of the model."""
    parser.add_argument(
        "--precision",
        default="float32",
        metavar="float32|float16|int8",
        help="precision of the model, for a bundle exported with --precision (default: float32)",
    )


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Adds the precision of the model and the bound on pixels."""
    add_precision(parser)
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=uploads.MAX_PIXELS,
        help=f"largest number of pixels of a picture (default: {uploads.MAX_PIXELS})",
    )


def check_bundle(command: str, does: str, bundle: str) -> None:
    """Checks that a bundle is not the address of a server.

    Args:
        command: the name of the command.
        does: the same in the third person, for the error.
        bundle: the argument.

    Raises:
        UsageError: it is.
    """
    if "://" in bundle:
        raise UsageError(
            f"{command} takes a bundle on this machine. A server {does} at /v1/{command}. "
            f"Received: {bundle!r:.200}"
        )


def check_positive(options: argparse.Namespace, *names: str) -> None:
    """Checks that options are at least 1.

    Raises:
        UsageError: the first that is not.
    """
    for name in names:
        if (number := getattr(options, name)) < 1:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} must be at least 1. Received: {flag} {number}")


def read(path: Path, max_pixels: int, limits: Sequence[float] | None) -> uploads.Picture:
    """Reads a picture, see `picture_forms.read_file`, without Pillow's warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about damage that it can ignore
        return read_file(path, max_pixels, limits)


def say(*lines: str) -> None:
    """Prints lines to standard error."""
    for line in lines:
        print(f"keras-gan: {line}", file=sys.stderr)
