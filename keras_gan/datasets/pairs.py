"""Pairs of pictures in a folder: a condition (A) and the picture to generate from it (B).

The layouts are A and B side by side in one file, in `train` and `val` or `test` or in one folder;
`A/train` and `B/train`; and `trainA` and `trainB`. Partners have equal names but for their suffix.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_gan.datasets import images, pair_files, pair_layout
from keras_gan.datasets.folder_files import Parts
from keras_gan.datasets.images import size_text
from keras_gan.datasets.pair_files import Domain, Picture
from keras_gan.datasets.source import MEMORY_LIMIT, Source
from keras_gan.datasets.splits import Split, divide
from keras_gan.errors import UsageError

_Pair = tuple[Picture, Picture]  # of A and of B


def open(
    *,
    path: str | os.PathLike[str] | None = None,
    direction: str = "a_to_b",
    size: int | str | list[int] | tuple[int, int] | None = None,
    channels: int | list[int] | None = None,
    value_range: list[Any] | None = None,
    crop: int | list[int] | None = None,
    flip: bool = True,
    rotate: bool = False,
    held_out: float | None = None,
    near_duplicates: bool = True,
    skip_corrupt: bool = False,
    memory_limit: int = MEMORY_LIMIT,
    cache: str | os.PathLike[str] | None = None,
) -> Source:
    """Opens a folder of pairs of pictures.

    Args:
        path: the folder.
        direction: `a_to_b` (left to right) or `b_to_a`: which picture is the condition.
        size: height and width of each picture in pixels, see `keras_gan.datasets.folder`. By
            default pictures are not resized, unless their sizes differ: then they become squares.
        channels: 1 (gray), 3 (RGB) or 4 (RGBA), or [condition, samples]. By default 1 for a domain
            of which all files are gray, else 3.
        value_range: stored values that become black and white, see `keras_gan.datasets.folder`; or
            a range of the condition and one of the samples.
        crop: height and width in pixels of random crops, at the same place of both pictures; by
            default pictures are trained on as a whole.
        flip: whether half of the training pairs are flipped left to right.
        rotate: whether training pairs are rotated by 0, 90, 180 or 270 degrees.
        held_out: share of the pairs to hold out, 0.1 by default; not allowed for a folder that has
            its own splits.
        near_duplicates: whether pairs that look alike are all held out or all trained on.
        skip_corrupt: whether pairs with a damaged file are skipped instead of refused.
        memory_limit: see `keras_gan.datasets.folder`.
        cache: see there.

    Raises:
        UsageError: a folder without pairs, pictures without partners or with partners of another
            size, files of odd width, or an option outside its range.
    """
    form = pair_files.Form(size, channels, value_range)
    reading = pair_files.Reading(skip_corrupt, memory_limit, cache)
    change = pair_files.Change(crop, flip, rotate)
    division = pair_files.Division(held_out, near_duplicates)
    return _open(path, direction, form, reading, change, division)


def _open(
    path: str | os.PathLike[str] | None,
    direction: str,
    form: pair_files.Form,
    reading: pair_files.Reading,
    change: pair_files.Change,
    division: pair_files.Division,
) -> Source:
    swapped = pair_files.check_direction(direction)
    root, files, left_out = pair_files.list_images(path, "pairs", reading.skip_corrupt)
    layout = pair_layout.understand(files)
    pair_files.warn_of(layout)
    pairs, split_of, skipped = _pairs(root, layout, reading.skip_corrupt)
    if swapped:
        pairs = [(second, first) for first, second in pairs]
    everything = [picture for pair in pairs for picture in pair]
    size = pair_files.choose_size(everything, form.size)
    resizing = pair_files.describe_resizing(everything, size)
    first, second = zip(*pairs, strict=True)
    condition, samples = pair_files.decode_both(first, second, size, form, reading)
    splits, notes = _split(condition, samples, split_of, division, root)
    text = f"pairs: {pair_files.counts_text(splits)} pairs from {root}, "
    text += f"{pair_layout.describe_direction(layout, swapped)}, as "
    text += pair_files.shape_text(condition.pixels, samples.pixels)
    return pair_files.make_source(
        splits,
        [text, *layout.lines, resizing, *left_out, *notes],
        change,
        stored=(condition.stored, samples.stored),
        skipped=list(dict.fromkeys([*skipped, *condition.skipped, *samples.skipped])),
        resized=images.FILTER if resizing else None,
    )


def _pairs(
    root: Path, layout: pair_layout.Layout, skip_corrupt: bool
) -> tuple[list[_Pair], list[int], list[str]]:
    """Returns the pairs of all splits, the split of each, and lines about damaged files."""
    paths: list[tuple[Parts, Parts]] = []
    split_of: list[int] = []
    for number, split in enumerate(layout.places):
        if layout.has_domains:
            _check_both(layout, split)
            hint = "; for pictures without partners use the recipe cyclegan"
            matched = pair_layout.match(layout.of(split, "A"), layout.of(split, "B"), hint)
            paths += [(a.parts, b.parts) for a, b in matched]
        else:
            paths += [(place.parts, place.parts) for place in layout.of(split, "")]
        split_of += [number] * (len(paths) - len(split_of))
    unique = list(dict.fromkeys(parts for pair in paths for parts in pair))
    headers, skipped = pair_files.read_headers(root, unique, skip_corrupt)
    whole = [at for at, pair in enumerate(paths) if all(parts in headers for parts in pair)]
    if not whole:
        raise UsageError(
            "A folder of pairs must hold readable ones. "
            f"Received: {len(skipped)} damaged files, such as {skipped[0]}"
        )
    halves = (0, 0) if layout.has_domains else (1, 2)
    pairs = [
        (
            Picture(root.joinpath(*paths[at][0]), headers[paths[at][0]], halves[0]),
            Picture(root.joinpath(*paths[at][1]), headers[paths[at][1]], halves[1]),
        )
        for at in whole
    ]
    (_check_sizes if layout.has_domains else _check_widths)(root, pairs)
    return pairs, [split_of[at] for at in whole], skipped


def _check_both(layout: pair_layout.Layout, split: str) -> None:
    if found := layout.empty_domain(split):
        raise UsageError(
            "Both domains must have pictures in each split. "
            f"Received: {found} in {layout.names[split] or 'the folder'}"
        )


def _check_sizes(root: Path, pairs: Sequence[_Pair]) -> None:
    """Checks that partners have one size."""
    wrong = [pair for pair in pairs if pair[0].size != pair[1].size]
    if wrong:
        shown = [
            " and ".join(f"{p.file.relative_to(root)} of {size_text(p.size)}" for p in pair)
            for pair in wrong
        ]
        raise UsageError(
            "Partners must have the same height and width. "
            f"Received: {len(wrong):,} of {len(pairs):,} pairs that differ: "
            f"{pair_files.first_three(shown)}"
        )


def _check_widths(root: Path, pairs: Sequence[_Pair]) -> None:
    """Checks that files can be divided into halves, and warns if they do not look like pairs."""
    wrong = [a for a, _ in pairs if a.header.width % 2]
    if wrong:
        shown = [f"{p.file.relative_to(root)} of width {p.header.width}" for p in wrong]
        raise UsageError(
            "Files with A and B side by side must have an even width; other pairs belong in "
            "folders named A and B, or trainA and trainB. "
            f"Received: {len(wrong):,} of {len(pairs):,} files of odd width: "
            f"{pair_files.first_three(shown)}"
        )
    narrow = [a for a, _ in pairs if a.header.width <= a.header.height]
    if 2 * len(narrow) > len(pairs):
        first = narrow[0]
        warnings.warn(
            "Each file is divided into A, its left half, and B, its right half, and most are not "
            "wider than high. If they are whole pictures, put them into folders named A and B, or "
            f"trainA and trainB. Received: {len(narrow):,} of {len(pairs):,} files, such as "
            f"{first.file.relative_to(root)} of "
            f"{size_text((first.header.height, first.header.width))}",
            stacklevel=4,
        )


def _split(
    condition: Domain,
    samples: Domain,
    split_of: Sequence[int],
    division: pair_files.Division,
    root: Path,
) -> tuple[dict[str, Split], list[str]]:
    """Returns the splits, and lines about pairs that are left out or kept together."""
    # Damaged files are skipped in each domain; a pair needs both of its pictures.
    both = np.intersect1d(condition.items, samples.items)
    pixels = [
        domain.pixels
        if len(both) == len(domain.items)
        else domain.pixels[np.searchsorted(domain.items, both)]
        for domain in (condition, samples)
    ]
    whole = Split(pixels[1], others={"condition": pixels[0]})
    numbers = np.asarray(split_of)[both]
    if numbers.any():
        splits = {
            name: dataclasses.replace(whole, index=np.flatnonzero(numbers == number))
            for number, name in enumerate(pair_layout.SPLITS)
        }
        divide(splits, division.held_out, "pairs")
        splits, line = pair_files.without_copies(splits, str(root))
        return splits, [line]
    return pair_files.hold_out_pairs(whole, division, "pairs")
