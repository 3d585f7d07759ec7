"""Videos in a folder (GIF, WebP, APNG; with the extra `video` MP4, WebM, AVI, MOV), by class.

All subfolders are searched, and splits and classes are found in them as the data set `folder` does.
A sample is a window of a fixed number of frames. Also read is one file of video.
"""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_gan.arguments import check_integer, is_number
from keras_gan.datasets import decoding, folder_files, folder_layout, images
from keras_gan.datasets import video_files as files
from keras_gan.datasets.source import MEMORY_LIMIT, Source
from keras_gan.datasets.splits import (
    Split,
    compile_pattern,
    divide,
    match_pattern,
    refuse_groups,
)
from keras_gan.datasets.video_files import Header
from keras_gan.errors import UsageError
from keras_gan.spec import Field, Spec, label_field
from serving.checks import short_repr

KIND = "video"
READS_FOLDERS = True  # a recipe with this source takes the folder of --data, and keeps its options
FORM = "the path of a folder of videos or of a video"
WINDOWS = ("all", "first")
_OPENED = 4  # of them, those that are opened to know whether they are animated
_KEPT_SIZE = 64  # videos of one size up to this height and width are not resized by default
_DECODED = 2**28  # bytes of samples of the files that are decoded together
_SAME_RATE = 0.01  # relative difference of frame rates that count as equal


def open(
    path: str | os.PathLike[str],
    *,
    frames: int = 16,
    stride: int = 1,
    windows: str = "all",
    size: int | str | list[int] | tuple[int, int] | None = None,
    channels: int | None = None,
    frame_rate: float | None = None,
    labels: bool = True,
    held_out: float | None = None,
    group_pattern: str | None = None,
    skip_corrupt: bool = False,
    memory_limit: int = MEMORY_LIMIT,
    cache: str | os.PathLike[str] | None = None,
) -> Source:
    """Opens videos and decodes all of them, to 8 bits.

    Args:
        path: a folder, or a file of video.
        frames: frames of one sample, at least 2.
        stride: distance of the frames that are taken: 2 takes every second one.
        windows: `"all"` divides each video into samples that follow each other without overlap;
            `"first"` takes the first sample of each.
        size: height and width of the frames in pixels, see `keras_gan.datasets.folder`. By default
            videos that all have one size keep it if height and width are divisible by 4 and at most
            64; all others become 64x64.
        channels: 1 (gray), 3 (RGB) or 4 (RGBA). By default 1 if all files are gray, else 3.
            Transparent pixels are composited onto white unless it is 4.
        frame_rate: frame rate of the samples in Hz; by default that of the files divided by the
            stride, if the files have one.
        labels: whether subfolders are classes.
        held_out: share of the samples to hold out, 0.1 by default, as whole files; nothing of a
            single file. Not allowed, like the next one, for a folder that has its own splits.
        group_pattern: a regular expression, see `keras_gan.datasets.folder`.
        skip_corrupt: whether files that are damaged or have too few frames are skipped.
        memory_limit: largest size in bytes of decoded videos that are kept in memory; larger ones
            are kept in a file in the cache folder, which later runs use again.
        cache: the cache folder; by default the user's.

    Raises:
        UsageError: no videos, a damaged file, one with too few frames, a missing extra, or an
            option outside its range.
    """
    cut = _Cut(frames, stride, windows, frame_rate)
    cut.check()
    given = decoding.GivenOptions(size, channels, None, skip_corrupt, memory_limit, cache)
    pattern = compile_pattern(group_pattern)
    listing = _list(Path(os.path.expanduser(path)), labels, skip_corrupt)
    listing, headers, skipped = _headers(listing, cut.span, skip_corrupt)
    options = _options(listing, headers, cut, given)
    decoded = decoding.decode_all(listing.items, sum(options.counts.values()), options)
    decoded = dataclasses.replace(decoded, skipped=[*skipped, *decoded.skipped])
    splits = _split(listing, decoded, held_out, pattern)
    return _to_source(listing, headers, options, cut, decoded, splits)


@dataclasses.dataclass(frozen=True)
class _Cut:
    """Options of `open` by which videos are cut into samples."""

    frames: int
    stride: int
    windows: str
    frame_rate: float | None

    @property
    def span(self) -> int:
        """Frames of a file from the first one of a sample to the last one."""
        return (self.frames - 1) * self.stride + 1

    def count(self, frames: int) -> int:
        """Returns the number of samples of a file."""
        if self.windows == "first":
            return 1
        return 1 + (frames - self.span) // (self.frames * self.stride)

    def check(self) -> None:
        """Checks the options."""
        check_integer("frames", self.frames, 2)
        check_integer("stride", self.stride)
        if self.windows not in WINDOWS:
            raise UsageError(
                f"`windows` must be {' or '.join(WINDOWS)}. "
                f"Received: windows={short_repr(self.windows)}"
            )
        rate = self.frame_rate
        if rate is not None and not (is_number(rate) and 0 < rate <= 1000):
            raise UsageError(
                "`frame_rate` must be in Hz, above 0 and at most 1000. "
                f"Received: frame_rate={rate!r}"
            )


@dataclasses.dataclass(frozen=True)
class VideoOptions(decoding.DecodeOptions):
    """Size of samples of videos, and how many of each file there are.

    Args:
        length: frames of a sample.
        stride: distance of the frames that are taken.
        counts: number of samples of each file, by its name.
    """

    length: int = 2
    stride: int = 1
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)

    noun = "video"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length, *self.size, self.channels)

    @property
    def chunk(self) -> int:
        longest = max(self.counts.values(), default=1) * math.prod(self.shape)
        return min(decoding.CHUNK, max(1, _DECODED // longest))

    def decode(self, item: decoding.Item) -> list[np.ndarray]:
        count = self.counts[item.name]
        found = files.read(
            Path(item.name), self.stride, count * self.length, self.size, self.channels
        )
        return list(found.reshape(count, *self.shape))


def parse(source: str) -> dict[str, Any] | None:
    """Returns the options that a data set's name stands for: the path of videos."""
    path = Path(os.path.expanduser(source))
    suffix = path.suffix.lower()
    is_file = path.is_file() and (
        suffix in files.CONTAINERS or (suffix in files.ANIMATIONS and bool(files.is_animated(path)))
    )
    return {"path": source} if is_file or (path.is_dir() and _holds_videos(path)) else None


def _holds_videos(root: Path) -> bool:
    """Returns whether the first files of a folder are videos, and none of them a still picture."""
    pictures, containers, opened = images.suffixes(), 0, []
    for folder, names in folder_files.look(root):
        for name in sorted(names):
            suffix = os.path.splitext(name)[1].lower()
            if suffix in files.ANIMATIONS:
                if len(opened) < _OPENED:
                    opened.append(files.is_animated(Path(folder, name)))
                if False in opened:  # a still picture, as the first one of most folders is
                    return False
            elif suffix in pictures and suffix not in files.CONTAINERS:
                return False
            containers += suffix in files.CONTAINERS
    return containers > 0 or True in opened


# ------------------------------------------------------------------------ files


@dataclasses.dataclass(frozen=True)
class _Listing:
    """The videos of a folder in order, their classes, and facts about them."""

    where: str
    items: list[decoding.Item]
    classes: tuple[str, ...] = ()
    has_splits: bool = False
    lines: tuple[str, ...] = ()


def _list(root: Path, labels: bool, skip_corrupt: bool) -> _Listing:
    if root.is_file():
        return _Listing(str(root), [decoding.Item(str(root), root)])
    layout, others = folder_layout.read(root, files.WANTED, labels, skip_corrupt, stacklevel=4)
    paths = [root.joinpath(*parts) for parts in layout.files]
    items = [
        decoding.Item(str(path), path, label, split)
        for path, label, split in zip(paths, layout.label_of, layout.split_of, strict=True)
    ]
    # A folder's name may be any bytes, but the name of a class is text.
    names = [os.fsencode(name).decode("utf-8", "backslashreplace") for name in layout.classes]
    lines = (*layout.lines, *([f"left out: {others}"] if others else []))
    return _Listing(str(root), items, tuple(names), layout.has_splits, lines)


def _headers(
    listing: _Listing, span: int, skip_corrupt: bool
) -> tuple[_Listing, list[Header], list[str]]:
    """Returns the readable files, their headers, and a line for each of the others.

    Raises:
        UsageError: a file that is damaged or too short, unless such are skipped; or no other one.
    """

    def look(item: decoding.Item) -> Header | str:
        try:
            return files.read_header(Path(item.name))
        except files.CorruptVideo as error:
            return str(error)

    kept, headers, damaged = [], [], []
    results = zip(listing.items, decoding.in_threads(look, listing.items), strict=True)
    for item, found in decoding.progress(results, len(listing.items), "Reading headers"):
        if isinstance(found, Header) and found.frames >= span:
            kept.append(item)
            headers.append(found)
        elif skip_corrupt:
            said = f"{found.frames} frames" if isinstance(found, Header) else found
            damaged.append(f"{item.name}: {said}")
        elif isinstance(found, Header):
            raise UsageError(
                f"Every video must have at least {span} frames (set `frames` or `stride`; "
                "skip_corrupt=true skips shorter ones). "
                f"Received: {item.name} with {found.frames} frames"
            )
        else:
            raise decoding.refuse_corrupt(item.name, found, VideoOptions.noun)
    if not kept:
        raise UsageError(
            f"Videos must be readable. Received: 0 of {len(damaged):,} files, such as {damaged[0]}"
        )
    return dataclasses.replace(listing, items=kept), headers, damaged


def _options(
    listing: _Listing, headers: Sequence[Header], cut: _Cut, given: decoding.GivenOptions
) -> VideoOptions:
    """Returns the options with which the videos are decoded, found from them where not given."""
    usual = 1 if all(header.gray for header in headers) else 3
    channels = usual if given.channels is None else given.channels
    items = zip(listing.items, headers, strict=True)
    options = VideoOptions(
        size=_default_size(headers) if given.size is None else images.check_size(given.size),
        channels=images.check_channels(channels),
        frames=True,
        skip_corrupt=given.skip_corrupt,
        memory_limit=given.memory_limit,
        cache=given.cache,
        key="",
        length=cut.frames,
        stride=cut.stride,
        counts={item.name: cut.count(header.frames) for item, header in items},
    )
    settings = (options.shape, cut.stride, cut.windows, given.skip_corrupt)
    key = decoding.cache_key([Path(name) for name in options.counts], *settings)
    return dataclasses.replace(options, key=f"video-{key}")


def _default_size(headers: Sequence[Header]) -> tuple[int, int]:
    sizes = {(header.height, header.width) for header in headers}
    first = next(iter(sizes))
    is_kept = all(length % 4 == 0 and length <= _KEPT_SIZE for length in first)
    return first if len(sizes) == 1 and is_kept else images.DEFAULT_SIZE


def _frame_rate(headers: Sequence[Header], cut: _Cut) -> tuple[float | None, str]:
    """Returns the frame rate of the samples, and a clause if the files do not have one rate."""
    rates = [header.rate for header in headers]
    known = [rate for rate in rates if rate is not None]
    if cut.frame_rate is not None:
        return float(cut.frame_rate), ""
    if not known:
        return None, "the files state no frame rate, 8 Hz is assumed"
    low, high = min(known), max(known)
    if len(known) < len(rates):
        return None, f"{len(rates) - len(known):,} files state no frame rate, 8 Hz is assumed"
    if high > low * (1 + _SAME_RATE):
        return (
            None,
            f"frame rates from {low:g} to {high:g} Hz, none of which is taken: 8 Hz is assumed",
        )
    return round(float(np.median(known)) / cut.stride, 3), ""


# ------------------------------------------------------------------------ data


def _to_source(
    listing: _Listing,
    headers: Sequence[Header],
    options: VideoOptions,
    cut: _Cut,
    decoded: decoding.Decoded,
    splits: dict[str, Split],
) -> Source:
    found = [(Path(item.name), header) for item, header in zip(listing.items, headers, strict=True)]
    if enlarging := images.describe_enlarging(found, options.size, files.WANTED.noun):
        warnings.warn(enlarging, stacklevel=3)
    rate, said = _frame_rate(headers, cut)
    meta = {"value_range": (-1.0, 1.0), "frame_rate": rate}
    fields = {"samples": Field(KIND, options.shape, meta=meta)}
    if listing.classes:
        fields["labels"] = label_field(len(listing.classes), listing.classes)
    composited = sum(header.alpha for header in headers) if options.channels < 4 else 0
    resizing = images.describe_resizing(headers, options.size)
    counts = " + ".join(f"{len(part):,}" for part in splits.values())
    of_each = "all windows" if cut.windows == "all" else "the first window"
    every = f", stride {options.stride}" if options.stride > 1 else ""
    text = (
        f"video: {counts} clips, {of_each} of {len(headers):,} files from {listing.where}{every}, "
        f"as {'x'.join(map(str, options.shape))}" + (f" ({resizing})" if resizing else "")
    )
    text += f" at {rate:g} Hz" if rate is not None else ""
    if isinstance(decoded.samples, np.memmap):
        text += ", kept in the cache folder"
    lines = [*listing.lines, *([said] if said else [])]
    if composited:
        lines.append(f"{composited:,} videos with an alpha channel are composited onto white")
    if decoded.skipped:
        shown = decoded.skipped[:3] + ["..."] * (len(decoded.skipped) > 3)
        lines.append(f"{len(decoded.skipped)} files skipped ({'; '.join(shown)})")
    return Source(
        Spec(fields=fields),
        splits,
        "; ".join([text, *lines]),
        skipped=decoded.skipped,
        resized=images.FILTER if resizing else None,
        composited=composited,
    )


def _split(
    listing: _Listing, decoded: decoding.Decoded, held_out: float | None, pattern: Any
) -> dict[str, Split]:
    """Returns the splits, which never divide the samples of one file."""
    labels = decoded.labels if listing.classes else None
    if listing.has_splits:
        refuse_groups("videos", group_pattern=pattern.pattern if pattern is not None else None)
        rows = [np.flatnonzero(decoded.splits == at) for at in range(len(decoding.SPLITS))]
        splits = {
            name: Split(decoded.samples, labels, own)
            for name, own in zip(decoding.SPLITS, rows, strict=True)
        }
        return divide(splits, held_out, "a folder")
    if len(listing.items) == 1 and held_out is None:
        return {"train": Split(decoded.samples, labels)}
    # Relative, so that the choice does not depend on the place of the folder.
    names = np.array([os.path.relpath(item.name, listing.where) for item in listing.items])
    if pattern is not None:
        names = np.array([match_pattern(pattern, name) for name in names])
    groups = names[decoded.items]
    return divide({"train": Split(decoded.samples, labels)}, held_out, "a folder", groups)
