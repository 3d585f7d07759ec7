"""Reading of image files of two domains into one array for each domain."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_gan.datasets import decoding, folder_files, images, near_duplicates, transforms
from keras_gan.datasets.folder_files import Parts
from keras_gan.datasets.pair_layout import SHOWN, Layout
from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split, digests_of, divide, join_groups
from keras_gan.errors import UsageError
from keras_gan.spec import Field, Spec
from serving.value_ranges import Range

_STATE = "state the range of each domain, null to find it (--set 'data.value_range={ranges}')"
_LENGTHS = (256, 128, 64, 32)  # sizes that pictures of several sizes are resized to by default


@dataclasses.dataclass(frozen=True)
class Form:
    """Options of the form that pictures get, as they are given.

    Args:
        size: height and width, in any form that `images.check_size` takes.
        channels: 1, 3 or 4, or one for the condition and one for the samples.
        value_range: stored values that become black and white, or two such ranges.
    """

    size: Any
    channels: Any
    value_range: Any


@dataclasses.dataclass(frozen=True)
class Reading:
    """Options of reading.

    Args:
        skip_corrupt: whether damaged files are skipped instead of refused.
        memory_limit, cache: see `decoding.DecodeOptions`.
    """

    skip_corrupt: bool
    memory_limit: int
    cache: str | os.PathLike[str] | None


@dataclasses.dataclass(frozen=True)
class Change:
    """Options of the transformation of training pictures, see `transforms.make`."""

    crop: Any
    flip: bool
    rotate: bool


@dataclasses.dataclass(frozen=True)
class Division:
    """Options that choose the held-out examples.

    Args:
        held_out: share to hold out; `None` for 0.1, or for the folder's own splits.
        near_duplicates: whether pictures that look alike are kept together.
    """

    held_out: float | None
    near_duplicates: bool


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture to decode: a file, or one half of a file.

    Args:
        file: path of the file.
        header: properties of the file.
        half: 0 for the whole picture, 1 for its left half, 2 for its right half.
    """

    file: Path
    header: images.Header
    half: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture."""
        return self.header.height, self.header.width // (2 if self.half else 1)


@dataclasses.dataclass(frozen=True)
class Domain:
    """The decoded pictures of one domain.

    Args:
        pixels: uint8, `(count, height, width, channels)`.
        items: position of each row's picture among those that were to be decoded.
        skipped: one line for each damaged file.
        stored: stored values that are black and white in the files of more than 8 bits; `None`
            without such files.
    """

    pixels: np.ndarray
    items: np.ndarray
    skipped: list[str]
    stored: Range | None = None


def image_field(shape: Sequence[int | None], stored: Range | None = None) -> Field:
    """Returns a field of images in [-1, 1], with the range of its files of more than 8 bits."""
    meta = {"value_range": (-1.0, 1.0)}
    return Field("image", tuple(shape), meta=meta | ({"stored_range": stored} if stored else {}))


def stored_range(pictures: Iterable[Picture], levels: images.Levels) -> Range | None:
    """Returns the range of those pictures that have more than 8 bits; `None` without such."""
    return levels.deep if any(picture.header.is_deep for picture in pictures) else None


def list_images(
    path: str | os.PathLike[str] | None, name: str, skip_corrupt: bool
) -> tuple[Path, list[Parts], list[str]]:
    """Returns a folder, its images in order, and a line about other files.

    Args:
        path: the option `path`.
        name: name of the data set.
        skip_corrupt: whether folders that cannot be read are skipped.

    Raises:
        UsageError: no folder, or one without images.
    """
    if path is None or not os.fspath(path):
        raise UsageError(
            f"The data set {name} needs a folder: `--data FOLDER`, or data.path in the recipe. "
            f"Received: path={path!r}"
        )
    root = Path(os.path.expanduser(path))
    folder_files.check_folder(root)
    files = folder_files.find(root, skip_corrupt)
    if not files.images:
        raise UsageError(
            "The folder must hold images of a format that Pillow decodes, such as .png, .jpg or "
            f".tif. Received: none in {root}"
            + (f", which holds {files.line}" if files.line else "")
        )
    return root, files.images, [f"left out: {files.line}"] if files.line else []


def warn_of(layout: Layout) -> None:
    """Warns of the images that a layout leaves out."""
    for line in layout.dropped:
        warnings.warn(line, stacklevel=4)


def read_headers(
    root: Path, files: Sequence[Parts], skip_corrupt: bool
) -> tuple[dict[Parts, images.Header], list[str]]:
    """Reads the headers of images.

    Returns:
        The headers by path, and one line for each damaged file.

    Raises:
        UsageError: a damaged file, unless such are skipped.
    """

    def read(parts: Parts) -> images.Header | str:
        try:
            return images.read_header(root.joinpath(*parts))
        except images.CorruptImage as error:
            return str(error)

    found, skipped = {}, []
    results = zip(files, decoding.in_threads(read, files), strict=True)
    for parts, result in decoding.progress(results, len(files), "Reading headers"):
        name = str(root.joinpath(*parts))
        if isinstance(result, images.Header):
            found[parts] = result
        elif skip_corrupt:
            skipped.append(f"{name}: {result}")
        else:
            raise decoding.refuse_corrupt(name, result)
    several = [parts for parts, header in found.items() if header.pages > 1]
    if several:
        warnings.warn(
            "Of images with several frames or pages the first is read. "
            f"Received: {len(several):,} in {root}, such as {'/'.join(several[0])}",
            stacklevel=4,
        )
    return found, skipped


def choose_size(pictures: Sequence[Picture], size: Any) -> tuple[int, int]:
    """Returns the height and width that pictures get.

    Args:
        pictures: pictures of all domains.
        size: the option. By default pictures of one size keep it; others become squares of the
            median of their shorter axis, rounded down to 256, 128, 64 or 32 pixels.
    """
    if size is not None:
        return images.check_size(size)
    sizes = {picture.size for picture in pictures}
    if len(sizes) == 1:
        return sizes.pop()
    median = float(np.median([min(picture.size) for picture in pictures]))
    side = next((side for side in _LENGTHS if side <= median), _LENGTHS[-1])
    return side, side


def describe_resizing(pictures: Sequence[Picture], size: tuple[int, int]) -> str:
    """Returns which sizes become which, in words; empty if no picture is resized."""
    headers = [
        dataclasses.replace(picture.header, height=picture.size[0], width=picture.size[1])
        for picture in pictures
    ]
    found = [(picture.file, header) for picture, header in zip(pictures, headers, strict=True)]
    if enlarging := images.describe_enlarging(found, size):
        warnings.warn(enlarging, stacklevel=4)
    resizing = images.describe_resizing(headers, size)
    return f"resized {resizing} ({images.FILTER})" if resizing else ""


def decode(
    pictures: Sequence[Picture],
    size: tuple[int, int],
    channels: int | None,
    value_range: Any,
    reading: Reading,
    state: str,
) -> Domain:
    """Decodes the pictures of one domain.

    Args:
        pictures: the pictures.
        size: height and width that they get.
        channels: 1, 3 or 4; by default 1 if all are gray, else 3.
        value_range: stored values that become black and white; found from the files by default.
        reading: the other options.
        state: how to state another range, see `levels.range_of_values`.
    """
    if channels is None:
        channels = images.usual_channels(picture.header for picture in pictures)
    found = [(picture.file, picture.header) for picture in pictures]
    name = f"{pictures[0].file.parent}"
    options = decoding.DecodeOptions(
        size=size,
        channels=images.check_channels(channels),
        frames=False,
        skip_corrupt=reading.skip_corrupt,
        memory_limit=reading.memory_limit,
        cache=reading.cache,
        key="",
        levels=decoding.find_levels_of_files(found, value_range, name, state),
    )
    settings = ["pictures", *options.shape, options.skip_corrupt, pictures[0].half]
    settings += [options.levels.deep, options.levels.shallow]
    key = decoding.cache_key([picture.file for picture in pictures], *settings)
    items = [decoding.Item(str(p.file), p.file, half=p.half) for p in pictures]
    decoded = decoding.decode_all(items, len(items), dataclasses.replace(options, key=key))
    stored = stored_range(pictures, options.levels)
    return Domain(decoded.samples, decoded.items, decoded.skipped, stored)


def decode_both(
    condition: Sequence[Picture],
    samples: Sequence[Picture],
    size: tuple[int, int],
    form: Form,
    reading: Reading,
) -> tuple[Domain, Domain]:
    """Decodes the pictures of both domains, see `decode`."""
    channels = _each(form.channels, "channels")
    given = form.value_range
    is_one = not isinstance(given, list | tuple) or all(isinstance(x, int | float) for x in given)
    ranges = (given, given) if is_one else _each(given, "value_range")
    # The range of one domain, stated for both, would make the other one black or white.
    states = [_STATE.format(ranges=each) for each in ("[[0,{white}],null]", "[null,[0,{white}]]")]
    return (
        decode(condition, size, channels[0], ranges[0], reading, states[0]),
        decode(samples, size, channels[1], ranges[1], reading, states[1]),
    )


def _each(value: Any, name: str) -> tuple[Any, Any]:
    """Returns the values of an option for the condition and for the samples."""
    if not isinstance(value, list | tuple):
        return value, value
    if len(value) != 2:
        raise UsageError(
            f"`{name}` must be one value, or [condition, samples]. Received: {name}={value!r}"
        )
    return value[0], value[1]


def check_direction(direction: str) -> bool:
    """Returns whether pictures are translated from B to A.

    Raises:
        UsageError: another direction than `a_to_b` and `b_to_a`.
    """
    if direction not in ("a_to_b", "b_to_a"):
        raise UsageError(f"`direction` must be a_to_b or b_to_a. Received: direction={direction!r}")
    return direction == "b_to_a"


def hold_out_pairs(
    whole: Split, division: Division, noun: str
) -> tuple[dict[str, Split], list[str]]:
    """Divides pairs into training and held-out ones.

    Returns:
        The splits, and a line about pairs that are kept together because they look alike.
    """
    groups, lines = None, []
    if division.near_duplicates and division.held_out != 0:
        groups = alike(list(whole.arrays.values()))
    if groups is not None and (together := np.bincount(groups)[groups] > 1).any():
        lines = [f"{together.sum():,} pairs that look alike are kept together"]
    return divide({"train": whole}, division.held_out, noun, groups), lines


def alike(arrays: Sequence[np.ndarray]) -> np.ndarray | None:
    """Returns the number of the group of each row, of which any of the pictures look alike.

    Returns:
        The groups; `None` if the hashes distinguish no array's pictures.
    """
    groups = None
    for array in arrays:
        found = near_duplicates.groups(array)
        if 2 * np.bincount(found).max() <= len(found):
            groups = found if groups is None else join_groups(groups, found)
    return groups


def without_copies(splits: Mapping[str, Split], name: str) -> tuple[dict[str, Split], str]:
    """Removes the held-out pairs that are also training pairs.

    Args:
        splits: training and held-out pairs, with the field `condition`.
        name: what the data are, for the error.

    Returns:
        The splits, and a line about the pairs that were left out.
    """
    digests = {
        split: list(
            zip(
                digests_of(part.samples, part.row_numbers),
                digests_of(part.others["condition"], part.row_numbers),
                strict=True,
            )
        )
        for split, part in splits.items()
    }
    seen = set(digests["train"])
    held = splits["held_out"]
    keep = np.array([pair not in seen for pair in digests["held_out"]], bool)
    if not keep.any():
        raise UsageError(
            f"Held-out pairs must not be training pairs. Received: {len(keep)} held-out pairs in "
            f"{name}, all of which are trained on"
        )
    lost = int((~keep).sum())
    line = f"{lost:,} held-out copies of training pairs left out" if lost else ""
    kept = {
        "train": dataclasses.replace(splits["train"], disjoint=True),
        "held_out": dataclasses.replace(held, index=held.row_numbers[keep], disjoint=True),
    }
    return kept, line


def make_source(
    splits: Mapping[str, Split],
    lines: Sequence[str],
    change: Change,
    *,
    stored: Sequence[Range | None] = (None, None),
    skipped: Sequence[str] = (),
    resized: str | None = None,
) -> Source:
    """Returns the data set of two domains.

    Args:
        splits: splits with the field `condition`.
        lines: clauses of the description; empty ones are left out.
        change: transformation of the training pictures. Where it crops, height and width of the
            fields are not fixed.
        stored: of the condition and of the samples, see `Domain`.
        skipped: one line for each damaged file.
        resized: name of the filter by which pictures were resized, or `None`.
    """
    arrays = {name: splits["train"].arrays[name] for name in ("samples", "condition")}
    sizes = {name: array.shape[1:3] for name, array in arrays.items()}
    transform = transforms.make(sizes, change.crop, change.flip, change.rotate)
    cropped = transform is not None and transform.crop is not None
    ranges: dict[str, Range | None] = {"condition": stored[0], "samples": stored[1]}
    fields = {
        name: image_field(
            (None, None, array.shape[-1]) if cropped else array.shape[1:], ranges[name]
        )
        for name, array in arrays.items()
    }
    said = [f"{len(skipped):,} damaged files skipped"] if skipped else []
    return Source(
        Spec(fields=fields),
        splits,
        "; ".join(filter(None, [*lines, *said])),
        skipped=skipped,
        resized=resized,
        transform=transform,
    )


def shape_text(condition: np.ndarray, samples: np.ndarray) -> str:
    """Returns the shapes of a pair in words, such as `32x32x1 -> 32x32x3`."""
    shapes = ["x".join(map(str, array.shape[1:])) for array in (condition, samples)]
    return shapes[0] if shapes[0] == shapes[1] else " -> ".join(shapes)


def counts_text(splits: Mapping[str, Split]) -> str:
    """Returns the numbers of examples in words, such as `100 + 20`."""
    return " + ".join(f"{len(part):,}" for part in splits.values())


def first_three(lines: Sequence[str]) -> str:
    """Returns the first three of some lines, joined."""
    return ", ".join(lines[:SHOWN]) + ", ..." * (len(lines) > SHOWN)
