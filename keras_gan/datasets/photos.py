"""Crops of the photographs among Debian's wallpapers: 128x128, color (three Debian packages)."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from keras_gan.datasets import decoding, images
from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split, hold_out
from keras_gan.errors import UsageError
from keras_gan.spec import Spec

ROOT = Path("/usr/share")
_SHORTER = 768  # pixels of the shorter of height and width of a photograph that is cut
_CROP = 128
_LEAST_DEVIATION = 20.0  # standard deviation of a crop's gray levels (0 to 255); below it is flat
# The photographs among the pictures of each package; the others are drawings.
_PACKAGES = {
    "mate-backgrounds": (
        "backgrounds/mate/nature/{}.jpg",
        "Aqua Blinds Dune FreshFlower Garden GreenMeadow LadyBird RainDrops Storm TwoWings Wood "
        "YellowFlower",
    ),
    "lomiri-wallpapers-16.04": (
        "backgrounds/{}.jpg",
        "Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly Picture_0B_by_freespace "
        "Picture_1A_by_freespace Wine_by_Jakkub_Mede aitzgorri_by_Aitzol_Berasategi "
        "analogpattern_by_Peter_Nerlich free_by_Peter_Nerlich friends_by_Aitzol_Berasategi "
        "greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi picosdeeuropa_by_Aitzol_Berasategi "
        "seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi",
    ),
    "plasma-workspace-wallpapers": (
        "wallpapers/{}/contents/images/2560x1600.jpg",
        "BytheWater ColdRipple ColorfulCups DarkestHour EveningGlow FallenLeaf Grey Kite "
        "OneStandsOut Path summer_1am",
    ),
}


def open(
    *,
    size: int = _CROP,
    held_out: float = 0.2,
    root: str | os.PathLike[str] = ROOT,
    cache: str | os.PathLike[str] | None = None,
) -> Source:
    """Cuts the photographs of three Debian packages into crops, without their flat parts.

    The packages are mate-backgrounds and plasma-workspace-wallpapers (GPL 2 or later) and
    lomiri-wallpapers-16.04 (CC BY 4.0 and CC BY-SA 4.0). Each photograph is resized, the
    shorter of height and width to 768 pixels, and cut into crops of 128x128 that do not overlap.
    Crops whose gray levels have a standard deviation below 20 (of 0 to 255) are left out. The
    crops are kept in the cache folder.

    Args:
        size: height and width in pixels, at most 128: the crops are resized.
        held_out: share of the crops to hold out: all crops of a photograph, or none.
        root: folder of the packages' files.
        cache: the cache folder; by default the user's.

    Raises:
        UsageError: a package is not installed, or an option out of range.
    """
    root = Path(os.path.expanduser(root))
    files = _photographs(root)
    height, width = images.check_size(size)
    if not height == width <= _CROP:
        raise UsageError(f"`size` of photos must be at most {_CROP}. Received: size={size!r}")
    settings = [_SHORTER, _CROP, _LEAST_DEVIATION, height]
    options = decoding.DecodeOptions(
        size=(height, width),
        channels=3,
        frames=False,
        skip_corrupt=False,
        memory_limit=0,  # decoding the photographs takes much longer than reading the crops
        cache=cache,
        key=decoding.cache_key(files, "photos", *settings),
    )
    decoded = decoding.decode_all(_crops(files), _capacity(files), options)
    samples, photographs = np.array(decoded.samples), decoded.labels
    names = np.array([str(file.relative_to(root)) for file in files])
    splits = hold_out(Split(samples), held_out, names[photographs])
    counts = " + ".join(f"{len(part):,}" for part in splits.values())
    description = (
        f"photos: {counts} crops of {len(np.unique(photographs))} photographs in {root}, "
        f"as {height}x{width}x3"
    )
    return Source(
        Spec("image", options.shape, (-1.0, 1.0)),
        splits,
        description,
        resized=images.FILTER if height != _CROP else None,
    )


def _photographs(root: Path) -> list[Path]:
    """Returns the files of all photographs, each of which must exist."""
    files = []
    for package, (form, names) in _PACKAGES.items():
        files += [root / form.format(name) for name in names.split()]
        if not all(file.is_file() for file in files):
            missing = next(file for file in files if not file.is_file())
            raise UsageError(
                "photos must be cut from the pictures of Debian's packages: `apt install "
                f"{' '.join(_PACKAGES)}`. Received: no file {missing} of {package}"
            )
    return files


def _size(width: int, height: int) -> tuple[int, int]:
    """Returns the width and height of a photograph that is resized to be cut."""
    scale = _SHORTER / min(width, height)
    return round(width * scale), round(height * scale)


def _capacity(files: Sequence[Path]) -> int:
    """Returns the number of crops, flat ones included."""
    headers = [images.read_header(file) for file in files]
    sizes = [_size(header.width, header.height) for header in headers]
    return sum((width // _CROP) * (height // _CROP) for width, height in sizes)


def _crops(files: Sequence[Path]) -> Iterator[decoding.Item]:
    """Yields the crops of the photographs that are not flat, labeled by their photograph."""
    for number, found in enumerate(decoding.in_threads(_cut, files, chunk=4)):
        for position, crop in found:
            yield decoding.Item(f"{files[number]} at {position}", crop, number)


def _cut(file: Path) -> list[tuple[tuple[int, int], bytes]]:
    """Returns the crops of a photograph as PPM files, each with its left and top."""
    with Image.open(file) as image:
        size = _size(*image.size)
        image.draft("RGB", size)
        resized = image.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    found = []
    for top in range(0, size[1] - _CROP + 1, _CROP):
        for left in range(0, size[0] - _CROP + 1, _CROP):
            crop = resized.crop((left, top, left + _CROP, top + _CROP))
            if np.asarray(crop).mean(axis=-1).std() >= _LEAST_DEVIATION:
                stream = io.BytesIO()
                crop.save(stream, "PPM")
                found.append(((left, top), stream.getvalue()))
    return found
