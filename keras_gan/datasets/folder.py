"""Images in a folder (all formats that Pillow decodes), with a class for each subfolder.

All subfolders are searched; files that are not images are counted and left out. Images are known
by their suffix, others by their content. If two or more subfolders hold images, they are the
classes, in the order of their names; numbers in names are in the order of their values. If the
folder has subfolders named as splits, such as `train` and `test`, or `Training` and `val`, the
classes are below them. A folder that is alone in its folder is passed through.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_gan.datasets import (
    decoding,
    folder_files,
    folder_layout,
    images,
    near_duplicates,
    pair_layout,
    side_by_side,
)
from keras_gan.datasets.source import MEMORY_LIMIT, Source
from keras_gan.datasets.splits import (
    Split,
    compile_pattern,
    divide,
    join_groups,
    match_pattern,
    refuse_groups,
)
from keras_gan.errors import UsageError
from keras_gan.spec import Spec

_KEPT_SIZE = 64  # images of one size up to this height and width are not resized by default


def open(
    path: str | os.PathLike[str],
    *,
    size: int | str | list[int] | tuple[int, int] | None = None,
    channels: int | None = None,
    value_range: Sequence[float] | None = None,
    labels: bool = True,
    held_out: float | None = None,
    near_duplicates: bool = True,
    group_pattern: str | None = None,
    skip_corrupt: bool = False,
    memory_limit: int = MEMORY_LIMIT,
    cache: str | os.PathLike[str] | None = None,
) -> Source:
    """Opens a folder of images and decodes all of them.

    Args:
        path: the folder.
        size: height and width of the images in pixels as one integer, or `[height, width]`, also
            as text. Images are cropped around their center to the aspect ratio and resized with
            an antialiasing filter. By default images that all have one size keep it if height and
            width are divisible by 4 and at most 64; all others become 64x64.
        channels: 1 (gray), 3 (RGB) or 4 (RGBA). By default 1 if all files are gray, else 3.
            Transparent pixels are composited onto white unless it is 4.
        value_range: stored values that become black and white, such as `[0, 4095]`. By default the
            whole range of 8 and 16 bits, unless the largest value shows another, see
            `keras_gan.datasets.levels`. In a folder with images of more than 8 bits a channel it
            is for those alone.
        labels: whether subfolders are classes.
        held_out: share of the images to hold out, 0.1 by default; not allowed for a folder that
            has its own splits.
        near_duplicates: whether images that look alike, and the frames of an animation, are all
            held out or all trained on, see `keras_gan.datasets.near_duplicates`. Otherwise a
            held-out image may hardly differ from a training image.
        group_pattern: a regular expression, such as `"^[^_]+"`, that is searched in the names of
            the files. Images of the same match (of its first group, if it has one) are all held
            out or all trained on. By default only those that look alike are.
        skip_corrupt: whether damaged files are skipped instead of refused.
        memory_limit: largest size in bytes of decoded images that are kept in memory; larger
            ones are kept in a file in the cache folder, which later runs use again.
        cache: the cache folder; by default the user's.

    Raises:
        UsageError: a folder without images, a damaged or far too large file, images both in
            subfolders and beside them, or an option outside its range.
    """
    root = Path(os.path.expanduser(path))
    reading = _read(root, labels, skip_corrupt)
    given = decoding.GivenOptions(size, channels, value_range, skip_corrupt, memory_limit, cache)
    earlier = functools.partial(_open_earlier, root, given, labels, held_out)
    division = _Division(held_out, near_duplicates, compile_pattern(group_pattern))
    return _to_source(root, reading, given, division, earlier)


def _open_earlier(
    root: Path, given: decoding.GivenOptions, labels: bool, held_out: float | None
) -> Source:
    """Opens a folder as version 0.1.0 did: fewer formats, layouts and levels."""
    listing = _list_earlier(root, labels, given.skip_corrupt)
    reading = _Reading(listing, _headers(listing, given.skip_corrupt))
    is_deep = any(header.is_deep for header in reading.headers)
    whole = dataclasses.replace(given, value_range=decoding.whole_range(is_deep))
    return _to_source(root, reading, whole, _Division(held_out))


def _to_source(
    root: Path,
    reading: _Reading,
    given: decoding.GivenOptions,
    division: _Division,
    earlier: Any = None,
) -> Source:
    """Decodes the images of a folder."""
    listing, headers = reading.listing, reading.headers
    options = _options(root, reading, given)
    if enlarging := images.describe_enlarging(reading.found, options.size):
        warnings.warn(enlarging, stacklevel=3)
    capacity = sum(header.frames for header in headers)
    decoded = decoding.decode_all(listing.items, capacity, options)
    splits, lines = _split(decoded, listing, division)
    spec = Spec("image", options.shape, (-1.0, 1.0), len(listing.classes), listing.classes)
    composited = sum(header.alpha for header in headers) if options.channels < 4 else 0
    if composited:
        lines.append(f"{composited:,} images with an alpha channel are composited onto white")
    resizing = images.describe_resizing(headers, options.size)
    form = "x".join(map(str, options.shape)) + (f" ({resizing})" if resizing else "")
    return Source(
        spec,
        splits,
        _describe(root, form, splits, decoded, [*listing.lines, *lines]),
        skipped=decoded.skipped,
        resized=images.FILTER if resizing else None,
        composited=composited,
        earlier=earlier,
    )


def _options(root: Path, reading: _Reading, given: decoding.GivenOptions) -> decoding.DecodeOptions:
    """Returns the options with which the images are decoded, found from them where not given."""
    headers = reading.headers
    size = _default_size(headers) if given.size is None else images.check_size(given.size)
    channels = images.usual_channels(headers) if given.channels is None else given.channels
    options = decoding.DecodeOptions(
        size=size,
        channels=images.check_channels(channels),
        frames=True,
        skip_corrupt=given.skip_corrupt,
        memory_limit=given.memory_limit,
        cache=given.cache,
        key="",
        levels=decoding.find_levels_of_files(reading.found, given.value_range, str(root)),
    )
    return dataclasses.replace(options, key=_key(root, reading.listing, options))


FORM = "the path of a folder of images"


PARSED_LAST = True  # other data sets recognize folders by what they hold


def parse(source: str) -> dict[str, Any] | None:
    """Returns the options that a data set's name stands for: the path of a folder."""
    return {"path": source} if Path(os.path.expanduser(source)).is_dir() else None


@dataclasses.dataclass(frozen=True)
class _Listing:
    """The image files of a folder, in a fixed order, their classes, and facts about them."""

    items: list[decoding.Item]
    classes: tuple[str, ...]
    has_splits: bool
    lines: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Division:
    """Options of `open` that choose the held-out images."""

    held_out: float | None
    near_duplicates: bool = False
    pattern: re.Pattern[str] | None = None


@dataclasses.dataclass(frozen=True)
class _Reading:
    """A listing with the headers of its readable files."""

    listing: _Listing
    found: list[tuple[Path, images.Header]]

    @property
    def headers(self) -> list[images.Header]:
        return [header for _, header in self.found]


def _read(root: Path, labels: bool, skip_corrupt: bool) -> _Reading:
    """Lists the images of a folder and reads their headers; warns of what is left out."""
    folder_files.check_folder(root)
    files = folder_files.find(root, skip_corrupt)
    _check_any(root, files)
    domains = pair_layout.describe(root, files.images)
    layout = folder_layout.understand(root, files.images, labels, domains)
    for line in layout.dropped:
        warnings.warn(line, stacklevel=3)
    lines = [*layout.lines, *([f"left out: {files.line}"] if files.line else [])]
    if files.empty:
        shown = ", ".join("/".join(parts) for parts in files.empty[:5])
        warnings.warn(
            f"Folders without images are not classes. Received: {len(files.empty)} in {root}, such "
            f"as {shown}",
            stacklevel=3,
        )
    if files.pictures:
        warnings.warn(
            f"Pictures of other formats than those of Pillow are not read. Left out in {root}: "
            f"{files.line}",
            stacklevel=3,
        )
    listing = _to_listing(root, layout)
    found = _headers(listing, skip_corrupt)
    if halves := side_by_side.describe(root, found):
        warnings.warn(halves, stacklevel=3)
    animated = [header.frames for _, header in found if header.frames > 1]
    if animated:
        lines.append(f"all {sum(animated):,} frames of {len(animated):,} animations are samples")
    pages = [file.name for file, header in found if header.pages > header.frames]
    if pages:
        warnings.warn(
            f"Of images with several pages or frames other than GIF and WebP the first is read. "
            f"Received: {len(pages):,} in {root}, such as {pages[0]}",
            stacklevel=3,
        )
    return _Reading(dataclasses.replace(listing, lines=tuple(lines)), found)


def _list_earlier(root: Path, labels: bool, skip_corrupt: bool) -> _Listing:
    folder_files.check_folder(root)
    files = folder_files.find_earlier(root, skip_corrupt)
    _check_any(root, files)
    return _to_listing(root, folder_layout.understand_earlier(root, files.images, labels))


def _check_any(root: Path, files: folder_files.Files) -> None:
    if not files.images:
        raise UsageError(
            "A folder of images must hold at least 2 files of a format that Pillow decodes, such "
            f"as .png, .jpg or .tif. Received: none in {root}"
            + (f", which holds {files.line}" if files.line else "")
        )


def _to_listing(root: Path, layout: folder_layout.Layout) -> _Listing:
    items = [
        decoding.Item(
            name=str(root.joinpath(*parts)), file=root.joinpath(*parts), label=label, split=split
        )
        for parts, label, split in zip(layout.files, layout.label_of, layout.split_of, strict=True)
    ]
    # A folder's name may be any bytes, but the name of a class is text.
    names = [os.fsencode(name).decode("utf-8", "backslashreplace") for name in layout.classes]
    return _Listing(items, tuple(names), layout.has_splits)


def _headers(listing: _Listing, skip_corrupt: bool) -> list[tuple[Path, images.Header]]:
    def read(item: decoding.Item) -> images.Header | tuple[str, str]:
        try:
            return images.read_header(item.file)
        except images.CorruptImage as error:
            return item.name, str(error)

    found, corrupt = [], []
    results = zip(listing.items, decoding.in_threads(read, listing.items), strict=True)
    for item, result in decoding.progress(results, len(listing.items), "Reading headers"):
        if isinstance(result, images.Header):
            found.append((item.file, result))
        elif skip_corrupt:
            corrupt.append(result)
        else:
            raise decoding.refuse_corrupt(*result)
    if not found:
        name, reason = corrupt[0]
        raise UsageError(
            "A folder of images must hold at least 2 readable ones. "
            f"Received: {len(corrupt)} damaged files, such as {name}: {reason}"
        )
    return found


def _default_size(headers: list[images.Header]) -> tuple[int, int]:
    sizes = {(header.height, header.width) for header in headers}
    if len(sizes) == 1:
        size = sizes.pop()
        if all(length % 4 == 0 and length <= _KEPT_SIZE for length in size):
            return size
    return images.DEFAULT_SIZE


def _key(root: Path, listing: _Listing, options: decoding.DecodeOptions) -> str:
    """Returns a key of all that the decoded images depend on: the files and the options."""
    files = []
    for item in listing.items:
        try:
            status = os.stat(item.name)
            files.append((item.name, item.label, item.split, status.st_size, status.st_mtime_ns))
        except OSError:
            files.append((item.name, item.label, item.split, -1, -1))
    settings = [options.shape, options.skip_corrupt]
    if options.levels != images.WHOLE_RANGE:
        settings += [options.levels.deep, options.levels.shallow]
    content = json.dumps([str(root.resolve()), files, *settings])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _split(
    decoded: decoding.Decoded, listing: _Listing, division: _Division
) -> tuple[dict[str, Split], list[str]]:
    """Returns the splits, and a line about images that were kept together."""
    labels = decoded.labels if listing.classes else None
    splits = {"train": Split(decoded.samples, labels)}
    if listing.has_splits:
        splits = {
            name: Split(decoded.samples, labels, np.flatnonzero(decoded.splits == position))
            for position, name in enumerate(decoding.SPLITS)
        }
        pattern = division.pattern.pattern if division.pattern is not None else None
        refuse_groups("images", group_pattern=pattern)
    groups = None if listing.has_splits else _groups(decoded, listing, division)
    lines = []
    if groups is not None:
        together = np.bincount(groups)[groups] > 1
        if together.any():
            reason = "look alike" if division.pattern is None else "look alike or match in name"
            lines = [f"{together.sum():,} images that {reason} are kept together"]
    return divide(splits, division.held_out, "a folder", groups), lines


def _groups(decoded: decoding.Decoded, listing: _Listing, division: _Division) -> np.ndarray | None:
    """Returns the number of the group of each image; `None` if none has to be kept together."""
    if division.held_out == 0 or not (division.near_duplicates or division.pattern):
        return None
    groups = np.asarray(decoded.items)
    if division.near_duplicates:
        alike = near_duplicates.groups(decoded.samples)
        if 2 * np.bincount(alike).max() <= len(alike):  # else the hash does not tell them apart
            groups = join_groups(alike, groups)
    if division.pattern is not None:
        names = [match_pattern(division.pattern, item.name) for item in listing.items]
        groups = join_groups(groups, np.array(names)[decoded.items])
    return groups


def _describe(
    root: Path,
    form: str,
    splits: dict[str, Split],
    decoded: decoding.Decoded,
    lines: list[str],
) -> str:
    counts = " + ".join(f"{len(part):,}" for part in splits.values())
    text = f"folder: {counts} images from {root}, as {form}"
    if isinstance(decoded.samples, np.memmap):
        text += ", kept in the cache folder"
    text = "; ".join([text, *lines])
    if decoded.skipped:
        shown = decoded.skipped[:3] + ["..."] * (len(decoded.skipped) > 3)
        text += f"; {len(decoded.skipped)} damaged files skipped ({'; '.join(shown)})"
    return text
