"""Options of `keras-gan sample` for shards of many samples."""

from __future__ import annotations

import argparse
import os

_FEW = 1000  # sounds that a folder of --out has as files of their own


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


def wants_shards(options: argparse.Namespace) -> bool:
    """Returns True if samples are to be written as shards, or as files of a folder."""
    out = options.out or ""
    if options.each is True:
        return False
    return (
        out.endswith(("/", os.sep))
        or "://" in out
        or options.format in ("webdataset", "tfrecord")
        or any(x is not None for x in (options.workers, options.shard_size, options.engine))
    )


def wants_files(options: argparse.Namespace) -> bool:
    """Returns True if a folder of --out is to have a file of each sample, instead of shards.

    These are few samples that one picture does not show, such as sounds.
    """
    shards = (options.format, options.workers, options.shard_size, options.engine)
    if any(x is not None for x in (*shards, options.each)) or (options.count or 0) > _FEW:
        return False
    if "://" in options.bundle or "://" in options.out:
        return False
    from serving import kinds
    from serving.bundle_folder import find_bundle
    from serving.manifest import read_manifest

    first = read_manifest(find_bundle(options.bundle))["outputs"][0]
    return bool(kinds.get(first["kind"]).previews)
