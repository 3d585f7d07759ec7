"""Images in a folder (PNG, JPEG, WebP, GIF), with a class for each subfolder.

All subfolders are searched; hidden files and files with other extensions are ignored. If two
or more subfolders of the folder hold images, they are the classes, in the order of their names. If
the folder has a subfolder `train` and one of `held_out`, `test`, `validation`, `valid` or `val`
(the first of these that exists), they are the splits.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_gan.datasets import decoding, images
from keras_gan.datasets.source import MEMORY_LIMIT, Source
from keras_gan.datasets.splits import Split, divide
from keras_gan.errors import UsageError
from keras_gan.spec import Spec

_HELD_OUT_NAMES = ("held_out", "test", "validation", "valid", "val")
_KEPT_SIZE = 64  # images of one size up to this height and width are not resized by default


def open(
    path: str | os.PathLike[str],
    *,
    size: int | str | list[int] | tuple[int, int] | None = None,
    channels: int | None = None,
    labels: bool = True,
    held_out: float | None = None,
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
        labels: whether subfolders are classes.
        held_out: share of the images to hold out, 0.1 by default; not allowed for a folder that
            has its own splits.
        skip_corrupt: whether damaged files are skipped instead of refused.
        memory_limit: largest size in bytes of decoded images that are kept in memory; larger
            ones are kept in a file in the cache folder, which later runs use again.
        cache: the cache folder; by default the user's.

    Raises:
        UsageError: a folder without images, a damaged or far too large file, images both in
            subfolders and beside them, or an option outside its range.
    """
    root = Path(os.path.expanduser(path))
    listing = _list(root, labels, skip_corrupt)
    headers = _headers(listing, skip_corrupt)
    size = _default_size(headers) if size is None else images.check_size(size)
    if channels is None:
        channels = 1 if all(header.gray for header in headers) else 3
    options = decoding.DecodeOptions(
        size=size,
        channels=images.check_channels(channels),
        frames=True,
        skip_corrupt=skip_corrupt,
        memory_limit=memory_limit,
        cache=cache,
        key="",
    )
    options = dataclasses.replace(options, key=_key(root, listing, options))
    decoded = decoding.decode_all(listing.items, sum(h.frames for h in headers), options)
    splits = _split(decoded, listing, held_out)
    spec = Spec("image", options.shape, (-1.0, 1.0), len(listing.classes), listing.classes)
    changed = any((header.height, header.width) != options.size for header in headers)
    return Source(
        spec,
        splits,
        _describe(root, options, splits, decoded),
        skipped=decoded.skipped,
        resized=images.FILTER if changed else None,
    )


FORM = "the path of a folder of images"


def parse(source: str) -> dict[str, Any] | None:
    """Returns the options that a data set's name stands for: the path of a folder."""
    return {"path": source} if Path(os.path.expanduser(source)).is_dir() else None


@dataclasses.dataclass(frozen=True)
class _Listing:
    """The image files of a folder, in a fixed order, and their classes."""

    items: list[decoding.Item]
    classes: tuple[str, ...]
    has_splits: bool


def _list(root: Path, labels: bool, skip_corrupt: bool) -> _Listing:
    if not root.is_dir():
        raise UsageError(f"The folder of images must exist. Received: path={str(root)!r}")
    files = sorted(_walk(root, skip_corrupt), key=lambda parts: parts)
    if not files:
        raise UsageError(
            f"A folder of images must hold at least 2 files ({', '.join(images.EXTENSIONS)}). "
            f"Received: none in {root}"
        )
    tops = {parts[0] for parts in files if len(parts) > 1}
    held_out = next((name for name in _HELD_OUT_NAMES if name in tops), None)
    has_splits = "train" in tops and held_out is not None
    if has_splits:
        roots = ("train", held_out)
        files = [parts for parts in files if len(parts) > 1 and parts[0] in roots]
        split_of = [roots.index(parts[0]) for parts in files]
        inner = [parts[1:] for parts in files]
    else:
        split_of = [0] * len(files)
        inner = files
    classes = _classes(root, inner) if labels else ()
    ids = {name: number for number, name in enumerate(classes)}
    items = [
        decoding.Item(
            name=str(root.joinpath(*parts)),
            file=root.joinpath(*parts),
            label=ids[rest[0]] if classes else -1,
            split=split,
        )
        for parts, rest, split in zip(files, inner, split_of, strict=True)
    ]
    # A folder's name may be any bytes, but the name of a class is text.
    names = tuple(os.fsencode(name).decode("utf-8", "backslashreplace") for name in classes)
    return _Listing(items, names, has_splits)


def _classes(root: Path, files: list[tuple[str, ...]]) -> tuple[str, ...]:
    classes = sorted({parts[0] for parts in files if len(parts) > 1})
    if len(classes) < 2:
        return ()
    loose = [parts[0] for parts in files if len(parts) == 1]
    if loose:
        raise UsageError(
            "Images must be either all in class folders or all in one folder; labels=false reads "
            f"all of them, without classes. Received: {root} with {len(classes)} folders of "
            f"images and {len(loose)} images beside them, such as {loose[0]}"
        )
    return tuple(classes)


def _walk(root: Path, skip_errors: bool) -> list[tuple[str, ...]]:
    """Returns the paths of the image files below a folder, as parts relative to it."""

    def refuse(error: OSError) -> None:
        if not skip_errors or error.filename == str(root):
            raise UsageError(
                f"Every folder must be readable. Received: {error.filename}: {error.strerror}"
            ) from error

    found = []
    seen = set()
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=refuse):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder that has been listed
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        parts = Path(folder).relative_to(root).parts
        found += [
            (*parts, name)
            for name in names
            if name.lower().endswith(images.EXTENSIONS) and not name.startswith(".")
        ]
    return found


def _headers(listing: _Listing, skip_corrupt: bool) -> list[images.Header]:
    def read(item: decoding.Item) -> images.Header | tuple[str, str]:
        try:
            return images.read_header(item.file)
        except images.CorruptImage as error:
            return item.name, str(error)

    headers, corrupt = [], []
    results = decoding.in_threads(read, listing.items)
    for result in decoding.progress(results, len(listing.items), "Reading headers"):
        if isinstance(result, images.Header):
            headers.append(result)
        elif skip_corrupt:
            corrupt.append(result)
        else:
            raise decoding.refuse_corrupt(*result)
    if not headers:
        name, reason = corrupt[0]
        raise UsageError(
            "A folder of images must hold at least 2 readable ones. "
            f"Received: {len(corrupt)} damaged files, such as {name}: {reason}"
        )
    return headers


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
    content = json.dumps([str(root.resolve()), files, options.shape, options.skip_corrupt])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _split(
    decoded: decoding.Decoded, listing: _Listing, held_out: float | None
) -> dict[str, Split]:
    labels = decoded.labels if listing.classes else None
    splits = {"train": Split(decoded.samples, labels)}
    if listing.has_splits:
        splits = {
            name: Split(decoded.samples, labels, np.flatnonzero(decoded.splits == position))
            for position, name in enumerate(decoding.SPLITS)
        }
    return divide(splits, held_out, "a folder")


def _describe(
    root: Path, options: decoding.DecodeOptions, splits: dict[str, Split], decoded: decoding.Decoded
) -> str:
    counts = " + ".join(f"{len(part):,}" for part in splits.values())
    height, width = options.size
    text = f"folder: {counts} images from {root}, as {height}x{width}x{options.channels}"
    if isinstance(decoded.samples, np.memmap):
        text += ", kept in the cache folder"
    if decoded.skipped:
        shown = decoded.skipped[:3] + ["..."] * (len(decoded.skipped) > 3)
        text += f"; {len(decoded.skipped)} damaged files skipped ({'; '.join(shown)})"
    return text
