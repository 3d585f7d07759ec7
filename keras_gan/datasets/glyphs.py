"""Letters of seven font families, regular and bold: 32x32, gray (three Debian packages)."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_gan.datasets import pair_files
from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split, digests_of
from keras_gan.errors import UsageError, one_line

SHAPE = (32, 32, 1)  # of a sample

ROOT = Path("/usr/share/fonts/truetype")
_PACKAGES = "fonts-dejavu-core fonts-dejavu-extra fonts-liberation"
_FAMILIES = (
    ("dejavu/DejaVuSans.ttf", "dejavu/DejaVuSans-Bold.ttf"),
    ("dejavu/DejaVuSansMono.ttf", "dejavu/DejaVuSansMono-Bold.ttf"),
    ("dejavu/DejaVuSerif.ttf", "dejavu/DejaVuSerif-Bold.ttf"),
    ("dejavu/DejaVuSansCondensed.ttf", "dejavu/DejaVuSansCondensed-Bold.ttf"),
    ("liberation/LiberationSans-Regular.ttf", "liberation/LiberationSans-Bold.ttf"),
    ("liberation/LiberationMono-Regular.ttf", "liberation/LiberationMono-Bold.ttf"),
    ("liberation/LiberationSerif-Regular.ttf", "liberation/LiberationSerif-Bold.ttf"),
)
_SIDE = 32
_POINTS = 22  # size of the type in pixels
_CATEGORIES = ("Lu", "Ll")  # upper-case and lower-case letters
_TEST = (10, 7)  # a character of code point 7 (mod 10) is held out


class _Glyphs(NamedTuple):
    """Letters drawn in both weights.

    Args:
        regular: uint8, `(count, 32, 32, 1)`.
        bold: likewise.
        characters: code point of each row, `(count,)`.
    """

    regular: np.ndarray
    bold: np.ndarray
    characters: np.ndarray


def folder_source(section: Mapping[str, Any]) -> str:
    """Returns the data set that reads a folder in place of this one, see `datasets.with_folder`."""
    return "pairs" if section.get("paired", True) else "unpaired"


def open(
    *,
    paired: bool = True,
    direction: str = "a_to_b",
    root: str | os.PathLike[str] = ROOT,
) -> Source:
    """Draws letters of DejaVu and Liberation in regular (A) and bold (B), black on white.

    Debian's packages fonts-dejavu-core, fonts-dejavu-extra (license of Bitstream Vera) and
    fonts-liberation (SIL Open Font License 1.1) must be installed. The letters are those of Latin,
    Greek, Cyrillic and others that a family has in both weights. A tenth of the characters is held
    out, in all families. Other letters that look exactly like a held-out one in regular or in bold,
    such as the A of Cyrillic like that of Latin, are not trained on.

    Args:
        paired: whether training examples are pairs. Otherwise the regular letters to train on are
            of other characters than the bold ones, and are drawn independently; held-out examples
            are pairs always.
        direction: `a_to_b`, from regular to bold, or `b_to_a`.
        root: folder of the packages' fonts.

    Raises:
        UsageError: a package is not installed, a damaged font, or an option out of range.
    """
    swapped = pair_files.check_direction(direction)
    root = Path(os.path.expanduser(root))
    glyphs = _draw(root)
    condition, samples = glyphs.regular, glyphs.bold
    test, kept = _divide(glyphs)
    is_odd = glyphs.characters % 2 == 1
    train = [np.flatnonzero(kept & (is_odd | paired)), np.flatnonzero(kept & (~is_odd | paired))]
    if swapped:
        condition, samples = samples, condition
        train.reverse()
    others, held = {"condition": condition}, np.flatnonzero(test)
    own = {} if paired else {"condition": train[0]}
    splits = {
        "train": Split(samples, None, train[1], True, others, own),
        "held_out": Split(samples, None, held, True, others),
    }
    counts = f"{len(train[1]):,}" if paired else f"{len(train[0]):,} and {len(train[1]):,}"
    what = "pairs" if paired else "letters without partners"
    line = (
        f"glyphs: {counts} {what}, {len(held):,} held-out pairs of {len(_FAMILIES)} font families "
        f"in {root}, {direction}, as {_SIDE}x{_SIDE}x1; "
        f"{len(test) - test.sum() - kept.sum():,} that look like a held-out letter left out"
    )
    return pair_files.make_source(splits, [line], pair_files.Change(None, False, False))


def _divide(glyphs: _Glyphs) -> tuple[np.ndarray, np.ndarray]:
    """Returns masks of the letters to hold out and of those to train on."""
    modulus, rest = _TEST
    test = glyphs.characters % modulus == rest
    kept = ~test
    for pictures in (glyphs.regular, glyphs.bold):
        # Either picture of a pair would give the other one away, also in unpaired training.
        digests = digests_of(pictures, range(len(pictures)))
        kept &= ~np.isin(digests, digests[test])
    return test, kept


def _draw(root: Path) -> _Glyphs:
    """Draws all letters of all families, in the order of the families and code points."""
    regular, bold, characters = [], [], []
    for names in _FAMILIES:
        files = [root / name for name in names]
        for file in files:
            if not file.is_file():
                raise UsageError(
                    "glyphs must be drawn with fonts of Debian's packages: `apt install "
                    f"{_PACKAGES}`. Received: no file {file}"
                )
        fonts = [_open_font(file) for file in files]
        for character in sorted(_letters(files[0]) & _letters(files[1])):
            first, second = (_drawn(font, character) for font in fonts)
            if (first != second).any():
                regular.append(first)
                bold.append(second)
                characters.append(character)
    return _Glyphs(np.stack(regular), np.stack(bold), np.array(characters))


def _open_font(file: Path) -> ImageFont.FreeTypeFont:
    try:
        # Basic layout: the glyph of one character, in every build of Pillow.
        return ImageFont.truetype(file, _POINTS, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise UsageError(f"A font must be readable. Received: {file}: {one_line(error)}") from error


def _letters(file: Path) -> set[int]:
    """Returns the code points of the letters that a font has."""
    from fontTools import ttLib  # here, as it takes a third of a second

    try:
        with ttLib.TTFont(file, lazy=True) as font:
            known = font.getBestCmap() or {}
    except Exception as error:  # fontTools raises many types on damaged files
        raise UsageError(f"A font must be readable. Received: {file}: {one_line(error)}") from error
    return {point for point in known if unicodedata.category(chr(point)) in _CATEGORIES}


def _drawn(font: ImageFont.FreeTypeFont, character: int) -> np.ndarray:
    image = Image.new("L", (_SIDE, _SIDE), 255)
    middle = (_SIDE // 2, _SIDE // 2)
    ImageDraw.Draw(image).text(middle, chr(character), fill=0, font=font, anchor="mm")
    return np.asarray(image)[..., np.newaxis]
