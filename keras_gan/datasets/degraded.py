"""High-resolution pictures in a folder, and low-resolution ones made of them, to restore detail.

The layouts are a folder of pictures, in `train` and `test` or in one folder; and `HR` and `LR`, or
folders such as `DIV2K_train_HR` and `DIV2K_train_LR_bicubic/X4`, whose files have equal names but
for an `x4`. Pictures are cut into windows, never resized.
"""

from __future__ import annotations

import dataclasses
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_gan.arguments import check_integer, check_number
from keras_gan.datasets import decoding, degradations, images, pair_files, pair_layout
from keras_gan.datasets.folder_files import Parts
from keras_gan.datasets.images import size_text
from keras_gan.datasets.pair_files import Picture
from keras_gan.datasets.source import MEMORY_LIMIT, Source
from keras_gan.datasets.splits import Split, divide
from keras_gan.errors import UsageError

_PICTURES = 4  # decoded at a time


def open(
    *,
    path: str | os.PathLike[str] | None = None,
    scale: int = 4,
    degradation: str | dict[str, Any] = "bicubic",
    window: int = 128,
    crop: int | None = 64,
    flip: bool = True,
    rotate: bool = True,
    channels: int | None = None,
    least_deviation: float = 2.0,
    held_out: float | None = None,
    degradation_seed: int = 0,
    skip_corrupt: bool = False,
    memory_limit: int = MEMORY_LIMIT,
    cache: str | os.PathLike[str] | None = None,
) -> Source:
    """Opens a folder of high-resolution pictures, which are cut into windows.

    Args:
        path: the folder.
        scale: factor between the high and the low resolution; 1 with a degradation that is not
            bicubic, such as noise. Pictures are cropped to a multiple of it.
        degradation: `bicubic` (Pillow's antialiased filter); or also `blur`, `noise` or `jpeg`; or
            ranges of these, such as `{noise: [5, 20], jpeg: [40, 90]}`, see
            `keras_gan.datasets.degradations`. Not for a folder with low-resolution pictures.
        window: height and width in pixels of the windows. Pictures must be as large at least.
        crop: height and width in pixels of random crops of the windows, a multiple of the scale;
            `None` to train on whole windows.
        flip: whether half of the crops are flipped left to right.
        rotate: whether crops are rotated by 0, 90, 180 or 270 degrees.
        channels: 1 (gray) or 3 (RGB). By default 1 if all files are gray, else 3.
        least_deviation: windows whose gray levels (0 to 255) have a smaller standard deviation are
            left out as flat.
        held_out: share of the windows to hold out, 0.1 by default: all windows of a picture, or
            none. Not allowed for a folder that has its own splits.
        degradation_seed: seed of the strengths and of the noise, which are fixed for each window.
        skip_corrupt: whether damaged files are skipped instead of refused.
        memory_limit: see `keras_gan.datasets.folder`.
        cache: see there.

    Raises:
        UsageError: a folder without pictures, pictures that are too small, low-resolution pictures
            of another size than expected, or an option outside its range.
    """
    plan = _plan(scale, degradation, window, least_deviation, degradation_seed)
    reading = pair_files.Reading(skip_corrupt, memory_limit, cache)
    change = pair_files.Change(crop, flip, rotate)
    return _open(path, plan, channels, held_out, reading, change)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Options of cutting and degrading pictures, see `open`."""

    degradation: degradations.Degradation
    window: int
    least_deviation: float
    seed: int

    @property
    def scale(self) -> int:
        return self.degradation.scale


@dataclasses.dataclass(frozen=True)
class _Original:
    """A high-resolution picture, with the low-resolution one if there is a file of it.

    Args:
        high: the picture.
        low: the low-resolution picture, or `None`.
        name: path relative to the folder.
        split: position in `decoding.SPLITS`.
    """

    high: Picture
    low: Picture | None
    name: str
    split: int


def _plan(scale: int, degradation: Any, window: int, least_deviation: float, seed: int) -> _Plan:
    made = degradations.make(scale, degradation)
    check_integer("window", window)
    check_integer("degradation_seed", seed, 0)
    check_number("least_deviation", least_deviation, minimum=0.0)
    if window % made.scale:
        raise UsageError(
            f"`window` must be a multiple of the scale, {made.scale}. Received: window={window}"
        )
    return _Plan(made, window, least_deviation, seed)


def _open(
    path: str | os.PathLike[str] | None,
    plan: _Plan,
    channels: int | None,
    held_out: float | None,
    reading: pair_files.Reading,
    change: pair_files.Change,
) -> Source:
    root, files, left_out = pair_files.list_images(path, "degraded", reading.skip_corrupt)
    files, others = pair_layout.of_scale(files, plan.scale)
    layout = pair_layout.understand(
        files, pair_layout.resolution_role, pair_layout.stem_without(plan.scale)
    )
    pair_files.warn_of(layout)
    originals, skipped = _originals(root, layout, reading.skip_corrupt)
    _check_low(originals, plan)
    _check_large(originals, plan)
    if channels is None:
        channels = images.usual_channels(original.high.header for original in originals)
    if channels not in (1, 3):
        raise UsageError(f"`channels` must be 1 or 3. Received: channels={channels!r}")
    high, low = [o.high for o in originals], [o.low for o in originals if o.low is not None]
    levels = [_levels(high), _levels(low)]
    samples, condition = _decode(originals, plan, channels, levels, reading)
    whole = Split(samples.samples, others={"condition": condition.samples})
    splits, notes = _split(whole, samples, originals, held_out, root)
    skipped = [*skipped, *samples.skipped]
    readable = [o for o in originals if not _is_skipped(o, samples.skipped)]
    flat = sum(_count(original, plan) for original in readable) - len(samples.samples)
    notes += [f"{flat:,} flat windows left out"] if flat else []
    made = "of the folder" if originals[0].low else str(plan.degradation)
    text = (
        f"degraded: {pair_files.counts_text(splits)} windows of {len(readable):,} pictures in "
        f"{root}, as {pair_files.shape_text(condition.samples, samples.samples)}; low resolution "
        f"{made}"
    )
    lines = [text, *layout.lines, *others, *left_out, *notes]
    # Pictures to restore are read like those of the same resolution, or else like the large ones.
    by_size = [pair_files.stored_range(*of) for of in zip((high, low), levels, strict=True)]
    stored = (by_size[1 if low else 0], by_size[0])
    return pair_files.make_source(splits, lines, change, stored=stored, skipped=skipped)


def _is_skipped(original: _Original, lines: Sequence[str]) -> bool:
    """Returns whether one of the lines, which begin with the path of a file, is of a picture."""
    paths = tuple(f"{picture.file}: " for picture in _files(original))
    return any(line.startswith(paths) for line in lines)


# ------------------------------------------------------------------------ layout


def _originals(
    root: Path, layout: pair_layout.Layout, skip_corrupt: bool
) -> tuple[list[_Original], list[str]]:
    """Returns the pictures of all splits, and lines about damaged files."""
    matched: list[tuple[Parts, Parts | None, int]] = []
    has_low = bool(layout.of("train", "LR"))
    for number, split in enumerate(layout.places):
        high, low = layout.of(split, "HR") or layout.of(split, ""), layout.of(split, "LR")
        if not high or bool(low) != has_low:
            raise UsageError(
                "Low-resolution pictures must be there for all splits or for none, and each split "
                f"needs high-resolution pictures. Received: {len(high):,} of high and {len(low):,} "
                f"of low resolution in {layout.names[split] or root}"
            )
        if has_low:
            matched += [(h.parts, w.parts, number) for h, w in pair_layout.match(high, low, "")]
        else:
            matched += [(place.parts, None, number) for place in high]
    paths = [parts for high, low, _ in matched for parts in (high, low) if parts is not None]
    headers, skipped = pair_files.read_headers(root, paths, skip_corrupt)
    found = []
    for high, low, number in matched:
        if high in headers and (low is None or low in headers):
            second = None if low is None else Picture(root.joinpath(*low), headers[low])
            first = Picture(root.joinpath(*high), headers[high])
            found.append(_Original(first, second, "/".join(high), number))
    if not found:
        raise UsageError(
            "A folder of pictures must hold readable ones. "
            f"Received: {len(skipped)} damaged files, such as {skipped[0]}"
        )
    return found, skipped


def _check_low(originals: Sequence[_Original], plan: _Plan) -> None:
    """Checks the size of low-resolution pictures, and that only they or a degradation are given."""
    if originals[0].low is None:
        return
    if plan.degradation.ranges:
        raise UsageError(
            "`degradation` must not be given for a folder with low-resolution pictures. "
            f"Received: degradation={', '.join(plan.degradation.ranges)}"
        )
    wrong = []
    for original in originals:
        height, width = original.high.size
        expected = (height // plan.scale, width // plan.scale)
        if original.low is not None and original.low.size != expected:
            wrong.append(
                f"{original.name} of {size_text(original.high.size)} with "
                f"{original.low.file.name} of {size_text(original.low.size)} instead of "
                f"{size_text(expected)}"
            )
    if wrong:
        raise UsageError(
            "Low-resolution pictures must have the height and width of the others, divided by the "
            f"scale and rounded down. Received: scale={plan.scale} and {len(wrong):,} of "
            f"{len(originals):,} that do not: {pair_files.first_three(wrong)}"
        )


def _check_large(originals: Sequence[_Original], plan: _Plan) -> None:
    small = [o for o in originals if min(_cropped(o, plan.scale)) < plan.window]
    if small:
        shown = [f"{o.name} of {size_text(o.high.size)}" for o in small]
        raise UsageError(
            "Pictures must be as high and wide as a window at least; `window` sets another size. "
            f"Received: window={plan.window} and {len(small):,} of {len(originals):,} smaller "
            f"pictures: {pair_files.first_three(shown)}"
        )


def _files(original: _Original) -> list[Picture]:
    return [original.high, *([original.low] if original.low else [])]


# ------------------------------------------------------------------------ windows


def _cropped(original: _Original, scale: int) -> tuple[int, int]:
    """Returns height and width as multiples of the scale."""
    height, width = original.high.size
    return height - height % scale, width - width % scale


def _starts(length: int, window: int, scale: int) -> list[int]:
    """Returns where windows start on an axis: spread evenly, in multiples of the scale."""
    count = max(1, round(length / window))
    free = (length - window) // scale
    if count == 1:
        return [free // 2 * scale]
    return [round(free * number / (count - 1)) * scale for number in range(count)]


def _places(original: _Original, plan: _Plan) -> list[tuple[int, int]]:
    """Returns top and left of the windows of a picture."""
    height, width = _cropped(original, plan.scale)
    rows = _starts(height, plan.window, plan.scale)
    columns = _starts(width, plan.window, plan.scale)
    return [(top, left) for top in rows for left in columns]


def _count(original: _Original, plan: _Plan) -> int:
    return len(_places(original, plan))


def _decode(
    originals: Sequence[_Original],
    plan: _Plan,
    channels: int,
    levels: Sequence[images.Levels],
    reading: pair_files.Reading,
) -> tuple[decoding.Decoded, decoding.Decoded]:
    """Returns the windows and their low-resolution versions."""
    found = []
    files = [picture.file for original in originals for picture in _files(original)]
    side = {"samples": plan.window, "condition": plan.window // plan.scale}
    for name in ("samples", "condition"):
        settings = ["degraded", name, *dataclasses.astuple(plan.degradation), plan.window]
        settings += [plan.least_deviation, plan.seed, channels, reading.skip_corrupt]
        settings += [[each.deep, each.shallow] for each in levels]
        options = decoding.DecodeOptions(
            size=(side[name], side[name]),
            channels=channels,
            frames=False,
            skip_corrupt=reading.skip_corrupt,
            memory_limit=reading.memory_limit,
            cache=reading.cache,
            key=decoding.cache_key(files, *settings),
        )
        items = _items(originals, plan, channels, levels, name == "condition")
        capacity = sum(_count(original, plan) for original in originals)
        found.append(decoding.decode_all(items, capacity, options))
    if not len(found[0].samples):
        raise UsageError(
            "A folder of pictures must hold windows that are not flat; `least_deviation` sets "
            f"another limit. Received: least_deviation={plan.least_deviation:g}"
        )
    return found[0], found[1]


def _levels(pictures: Sequence[Picture]) -> images.Levels:
    if not pictures:
        return images.WHOLE_RANGE
    found = [(picture.file, picture.header) for picture in pictures]
    return decoding.find_levels_of_files(found, None, str(pictures[0].file.parent))


def _items(
    originals: Sequence[_Original],
    plan: _Plan,
    channels: int,
    levels: Sequence[images.Levels],
    low: bool,
) -> Iterator[decoding.Item]:
    """Yields the windows of all pictures, or their low-resolution versions, in one order."""

    def cut(original: _Original) -> list[bytes] | Path:
        """Returns the windows of a picture as PPM files, or the file that is damaged."""
        pixels: list[np.ndarray] = []
        for picture, of in zip(_files(original), levels, strict=False):
            try:
                found = images.decode(picture.file, picture.size, channels, False, of)
            except images.CorruptImage:
                return picture.file
            pixels.append(found[0])
        return _windows(original, pixels, plan, low)

    results = decoding.in_threads(cut, originals, chunk=_PICTURES)
    for number, (original, found) in enumerate(zip(originals, results, strict=True)):
        if isinstance(found, Path):  # it is decoded again, and refused or skipped with the reason
            yield decoding.Item(str(found), found, number, original.split)
            continue
        for at, content in enumerate(found):
            yield decoding.Item(f"{original.name}, window {at}", content, number, original.split)


def _windows(
    original: _Original, pixels: Sequence[np.ndarray], plan: _Plan, low: bool
) -> list[bytes]:
    """Returns the windows of a picture that are not flat, or their low-resolution versions."""
    height, width = _cropped(original, plan.scale)
    high = pixels[0][:height, :width]
    found = []
    for top, left in _places(original, plan):
        window = high[top : top + plan.window, left : left + plan.window]
        if window.mean(axis=-1).std() < plan.least_deviation:
            continue
        if low and len(pixels) > 1:
            window = pixels[1][top // plan.scale :, left // plan.scale :]
            side = plan.window // plan.scale
            window = window[:side, :side]
        elif low:
            key = [plan.seed, zlib.crc32(os.fsencode(original.name)), top, left]
            window = _degrade(high, (top, left), plan, np.random.default_rng(key))
        found.append(_to_ppm(window))
    return found


def _degrade(
    high: np.ndarray, place: tuple[int, int], plan: _Plan, rng: np.random.Generator
) -> np.ndarray:
    """Returns the low-resolution version of a window, as a part of the whole picture's.

    The window is degraded with its surroundings, so that its borders are as in the whole picture.
    """
    reach, scale = plan.degradation.reach, plan.scale
    first = [max(0, at - reach) for at in place]
    last = [at + plan.window + reach for at in place]
    part = plan.degradation.apply(high[first[0] : last[0], first[1] : last[1]], rng)
    top, left = ((at - begin) // scale for at, begin in zip(place, first, strict=True))
    side = plan.window // scale
    return part[top : top + side, left : left + side]


def _to_ppm(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(stream, "PPM")
    return stream.getvalue()


def _split(
    whole: Split,
    decoded: decoding.Decoded,
    originals: Sequence[_Original],
    held_out: float | None,
    root: Path,
) -> tuple[dict[str, Split], list[str]]:
    """Returns the splits, divided by picture, and lines about windows that are left out."""
    if any(original.split for original in originals):
        splits = {
            name: dataclasses.replace(whole, index=np.flatnonzero(decoded.splits == number))
            for number, name in enumerate(decoding.SPLITS)
        }
        divide(splits, held_out, "pictures")
        splits, line = pair_files.without_copies(splits, str(root))
        return splits, [line]
    names = np.array([original.name for original in originals])
    return divide({"train": whole}, held_out, "pictures", names[decoded.labels]), []
