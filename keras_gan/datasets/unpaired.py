"""Pictures of two domains without partners in a folder, to translate from one to the other.

The layouts are `trainA` and `trainB`, with `testA` and `testB` if there are any; `A` and `B`; and
`A/train` and `B/train`. Numbers and sizes of the domains may differ. If the held-out pictures of
both domains have equal names but for their suffix, they are partners, by which a translation can be
measured.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_gan.datasets import images, pair_files, pair_layout
from keras_gan.datasets.pair_files import Domain, Picture
from keras_gan.datasets.pair_layout import Place
from keras_gan.datasets.source import MEMORY_LIMIT, Source
from keras_gan.datasets.splits import Split, digests_of, divide, hold_out
from keras_gan.errors import UsageError

_READ_BYTES = 2**20  # of a file at a time


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
    """Opens a folder with pictures of two domains, which training draws independently.

    Args:
        path: the folder.
        direction: `a_to_b` or `b_to_a`: which domain is the condition.
        size: height and width of all pictures in pixels, see `keras_gan.datasets.folder`. By
            default pictures are not resized, unless their sizes differ: then they become squares.
        channels: 1 (gray), 3 (RGB) or 4 (RGBA), or [condition, samples]. By default 1 for a domain
            of which all files are gray, else 3.
        value_range: see `keras_gan.datasets.pairs`.
        crop: height and width in pixels of random crops; by default pictures are trained on as a
            whole.
        flip: whether half of the training pictures are flipped left to right.
        rotate: whether training pictures are rotated by 0, 90, 180 or 270 degrees.
        held_out: share of each domain to hold out, 0.1 by default; not allowed for a folder that
            has its own splits.
        near_duplicates: whether pictures that look alike are all held out or all trained on.
        skip_corrupt: whether damaged files are skipped instead of refused.
        memory_limit: see `keras_gan.datasets.folder`.
        cache: see there.

    Raises:
        UsageError: a domain without pictures, domains of the same files, or an option outside its
            range.
    """
    form = pair_files.Form(size, channels, value_range)
    reading = pair_files.Reading(skip_corrupt, memory_limit, cache)
    change = pair_files.Change(crop, flip, rotate)
    division = pair_files.Division(held_out, near_duplicates)
    return _open(path, direction, form, reading, change, division)


@dataclasses.dataclass(frozen=True)
class _Listed:
    """The readable pictures of one domain: training pictures first.

    Args:
        places: the files.
        pictures: the same with their headers.
        train: number of training pictures.
    """

    places: list[Place]
    pictures: list[Picture]
    train: int


def _open(
    path: str | os.PathLike[str] | None,
    direction: str,
    form: pair_files.Form,
    reading: pair_files.Reading,
    change: pair_files.Change,
    division: pair_files.Division,
) -> Source:
    swapped = pair_files.check_direction(direction)
    names = ("B", "A") if swapped else ("A", "B")
    root, files, left_out = pair_files.list_images(path, "unpaired", reading.skip_corrupt)
    layout = pair_layout.understand(files)
    _check_domains(layout, root)
    pair_files.warn_of(layout)
    _check_different(root, layout)
    used = [
        place.parts for of in layout.places.values() for places in of.values() for place in places
    ]
    headers, skipped = pair_files.read_headers(root, used, reading.skip_corrupt)
    listed = [_listed(root, layout, name, headers) for name in names]
    everything = [picture for one in listed for picture in one.pictures]
    size = pair_files.choose_size(everything, form.size)
    resizing = pair_files.describe_resizing(everything, size)
    domains = pair_files.decode_both(listed[0].pictures, listed[1].pictures, size, form, reading)
    skipped = [*skipped, *domains[0].skipped, *domains[1].skipped]
    splits, notes = _split(listed, domains, division, len(layout.places) > 1)
    counts = " and ".join(
        f"{' + '.join(f'{len(part.rows_of(field)):,}' for part in splits.values())} of {name}"
        for field, name in zip(("condition", "samples"), names, strict=True)
    )
    text = f"unpaired: {counts} from {root}, {pair_layout.describe_direction(layout, swapped)}, as "
    text += pair_files.shape_text(domains[0].pixels, domains[1].pixels)
    return pair_files.make_source(
        splits,
        [text, *layout.lines, resizing, *left_out, *notes],
        change,
        stored=(domains[0].stored, domains[1].stored),
        skipped=skipped,
        resized=images.FILTER if resizing else None,
    )


def _check_domains(layout: pair_layout.Layout, root: Path) -> None:
    """Checks that both domains have pictures in each split."""
    for split, name in layout.names.items():
        if found := layout.empty_domain(split):
            raise UsageError(
                "Pictures of both domains must be in folders named A and B, or trainA and trainB, "
                "and testA and testB if there are any held-out ones. Received: "
                f"{found} in {f'the split {name} of ' if name else ''}{root}"
            )


def _check_different(root: Path, layout: pair_layout.Layout) -> None:
    """Checks that the training pictures of the domains are not the same files."""
    places = [layout.of("train", domain) for domain in ("A", "B")]
    sizes = [{os.path.getsize(root.joinpath(*p.parts)) for p in of} for of in places]
    common = sizes[0] & sizes[1]  # only files of one length can be equal
    digests: list[dict[bytes, Place]] = []
    for of in places:
        files = [(root.joinpath(*place.parts), place) for place in of]
        digests.append({_digest(f): p for f, p in files if os.path.getsize(f) in common})
    same = [digests[0][digest] for digest in digests[0] if digest in digests[1]]
    if 2 * len(same) >= min(map(len, places)):
        raise UsageError(
            "The domains must have pictures of their own. Received: "
            f"{len(same):,} files of A that are also in B: {pair_layout.listed(same)}"
        )


def _digest(file: Path) -> bytes:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            digest.update(block)
    return digest.digest()


def _listed(
    root: Path, layout: pair_layout.Layout, name: str, headers: dict[Any, images.Header]
) -> _Listed:
    """Returns the readable pictures of a domain."""
    parts = [
        [place for place in layout.of(split, name) if place.parts in headers]
        for split in pair_layout.SPLITS
    ]
    places = [*parts[0], *parts[1]]
    if not parts[0]:
        raise UsageError(
            f"A domain must have readable pictures. Received: none of {name} in {root}"
        )
    pictures = [Picture(root.joinpath(*p.parts), headers[p.parts]) for p in places]
    return _Listed(places, pictures, len(parts[0]))


def _split(
    listed: Sequence[_Listed],
    domains: Sequence[Domain],
    division: pair_files.Division,
    has_splits: bool,
) -> tuple[dict[str, Split], list[str]]:
    """Returns the splits of condition and samples, and lines about them."""
    keys = [
        [one.places[at].key for at in domain.items]
        for one, domain in zip(listed, domains, strict=True)
    ]
    counts = [
        int((domain.items < one.train).sum()) for one, domain in zip(listed, domains, strict=True)
    ]
    pixels = [domain.pixels for domain in domains]
    if not has_splits:
        return _hold_out(keys, pixels, division)
    train = [np.arange(count) for count in counts]
    held = [np.arange(count, len(array)) for count, array in zip(counts, pixels, strict=True)]
    divide({"train": Split(pixels[1]), "held_out": Split(pixels[1])}, division.held_out, "domains")
    partners = _partners(keys, held)
    lines = []
    if partners is not None:
        held = partners
    held, lost = _without_copies(pixels, train, held, partners is not None)
    if lost:
        lines.append(f"{lost:,} held-out copies of training pictures left out")
    lines.append(
        "held-out pictures are partners by their names"
        if partners is not None
        else "held-out pictures have no partners"
    )
    return _to_splits(pixels, train, held, partners is not None), lines


def _hold_out(
    keys: Sequence[Sequence[Any]], pixels: Sequence[np.ndarray], division: pair_files.Division
) -> tuple[dict[str, Split], list[str]]:
    """Holds out pictures of each domain: partners if all names are equal."""
    everything = [np.arange(len(array)) for array in pixels]
    partners = _partners(keys, everything)
    if partners is not None:
        in_order = all((own == np.arange(len(own))).all() for own in partners)
        if not in_order:
            pixels = [array[own] for array, own in zip(pixels, partners, strict=True)]
        whole = Split(pixels[1], others={"condition": pixels[0]})
        splits, lines = pair_files.hold_out_pairs(whole, division, "domains")
        rows = [[part.row_numbers] * 2 for part in splits.values()]
        lines = [*lines, "partners by their names are used as such only where held out"]
    else:
        parts = [_hold_out_of(array, division) for array in pixels]
        rows = [[part[name].row_numbers for part in parts] for name in parts[0]]
        if len(parts[0]) != len(parts[1]):
            raise UsageError(
                "Each domain must have at least two different pictures, one to train on and one to "
                f"hold out. Received: {len(pixels[0]):,} and {len(pixels[1]):,}"
            )
        lines = ["held-out pictures have no partners"]
    held = rows[1] if len(rows) > 1 else None
    return _to_splits(pixels, rows[0], held, partners is not None), lines


def _hold_out_of(array: np.ndarray, division: pair_files.Division) -> dict[str, Split]:
    share = 0.1 if division.held_out is None else division.held_out
    groups = None
    if division.near_duplicates and share:
        groups = pair_files.alike([array])
    return hold_out(Split(array), share, groups)


def _partners(keys: Sequence[Sequence[Any]], rows: Sequence[np.ndarray]) -> list[np.ndarray] | None:
    """Returns rows of both domains in the order of their names, if the names are equal.

    Returns:
        The rows; `None` unless every picture has one partner.
    """
    named = [{of[row]: row for row in own} for of, own in zip(keys, rows, strict=True)]
    unique = all(len(of) == len(own) for of, own in zip(named, rows, strict=True))
    if not unique or named[0].keys() != named[1].keys() or not named[0]:
        return None
    return [np.array([of[key] for key in named[0]]) for of in named]


def _without_copies(
    pixels: Sequence[np.ndarray],
    train: Sequence[np.ndarray],
    held: Sequence[np.ndarray],
    partners: bool,
) -> tuple[list[np.ndarray], int]:
    """Returns the held-out rows that are not trained on, and the number of the others."""
    new = [
        ~np.isin(digests_of(array, own), digests_of(array, seen))
        for array, own, seen in zip(pixels, held, train, strict=True)
    ]
    if partners:
        new = [new[0] & new[1]] * 2
    kept = [own[mask] for own, mask in zip(held, new, strict=True)]
    if not all(map(len, kept)):
        raise UsageError(
            "Held-out pictures must not be training pictures. Received: "
            f"{len(held[0]):,} and {len(held[1]):,} held-out pictures, all of which are trained on"
        )
    return kept, sum(map(len, held)) - sum(map(len, kept))


def _to_splits(
    pixels: Sequence[np.ndarray],
    train: Sequence[np.ndarray],
    held: Sequence[np.ndarray] | None,
    partners: bool,
) -> dict[str, Split]:
    """Returns splits whose conditions are drawn on their own, partners aside.

    Args:
        pixels: pictures of the condition and of the samples.
        train: training rows of each.
        held: held-out rows of each, or `None` without any.
        partners: whether row i of the one belongs to row i of the other.
    """
    others = {"condition": pixels[0]}
    own = {"condition": train[0]}
    splits = {"train": Split(pixels[1], None, train[1], True, others, own)}
    if held is None:
        return splits
    if not partners:
        splits["held_out"] = Split(pixels[1], None, held[1], True, others, {"condition": held[0]})
        return splits
    pairs = {"condition": pixels[0][held[0]]}
    splits["held_out"] = Split(pixels[1][held[1]], None, None, True, pairs)
    return splits
