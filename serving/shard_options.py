"""Options of `keras-gan sample` for many samples in shards."""

from __future__ import annotations

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options to those of `keras-gan sample`."""
    add = parser.add_argument
    add("--workers", type=int, help="processes that make shards (default: one for each processor)")
    add("--shard-size", type=int, help="samples in a shard (default: 10000, fewer if large)")
    add("--engine", metavar="processes|ray", help="engine that makes shards (default: processes)")
    add(
        "--overwrite",
        action="store_true",
        help="allow --each and shards to use a folder that is not empty",
    )
