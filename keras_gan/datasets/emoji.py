"""Emoji of the font Noto Color Emoji on white: 64x64, color, 9 classes (Debian packages)."""

from __future__ import annotations

import dataclasses
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_gan.datasets import decoding, images
from keras_gan.datasets.source import MEMORY_LIMIT, Source
from keras_gan.datasets.splits import Split, hold_out
from keras_gan.errors import UsageError, one_line
from keras_gan.spec import Spec

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
LIST = Path("/usr/share/unicode/emoji/emoji-test.txt")
_SIDE = 136  # width of the pictures in the font, in pixels; they are 128 high
_SELECTOR = 0xFE0F  # requests a picture instead of a letter; the font ignores it
_LINE = re.compile(r"([0-9A-F ]+?)\s*; fully-qualified\s*# \S+ E[\d.]+ (.+)")


@dataclasses.dataclass(frozen=True)
class _Emoji:
    """One entry of Unicode's list: its code points, name and group."""

    points: tuple[int, ...]
    name: str
    group: str

    @property
    def base(self) -> str:
        """The name without skin tones, which emoji of different tones share."""
        head, _, rest = self.name.partition(": ")
        # A couple of two persons has no entry of that name without tones.
        kept = [p for p in rest.split(", ") if p not in ("", "person") and "skin tone" not in p]
        return ": ".join([head, *([", ".join(kept)] if kept else [])])


def open(
    *,
    size: int = 64,
    skin_tones: bool = True,
    labels: bool = True,
    held_out: float = 0.1,
    font: str | os.PathLike[str] = FONT,
    emoji_list: str | os.PathLike[str] = LIST,
    memory_limit: int = MEMORY_LIMIT,
    cache: str | os.PathLike[str] | None = None,
) -> Source:
    """Renders the emoji of Noto Color Emoji on white, in the order of Unicode's list.

    Debian's packages fonts-noto-color-emoji (pictures: SIL Open Font License 1.1) and unicode-data
    (groups: Unicode license) must be installed. Version 2.042 of the font has 3,641 pictures,
    1,861 of them without skin tones. Emoji that draw the picture of an earlier one, such as some
    flags, are left out.

    Args:
        size: height and width in pixels, at most 136, the width of the pictures in the font. They
            are 128 pixels high, and padded with white to a square.
        skin_tones: whether emoji with skin tones are included.
        labels: whether batches come with the Unicode group as class.
        held_out: share of the emoji to hold out. All skin tones of one emoji are held out, or none.
        font: a font with color bitmaps (table CBDT).
        emoji_list: Unicode's emoji-test.txt.
        memory_limit: see `keras_gan.datasets.folder`.
        cache: see there.

    Raises:
        UsageError: a package is not installed, another font or list, or an option out of range.
    """
    font, emoji_list = Path(os.path.expanduser(font)), Path(os.path.expanduser(emoji_list))
    height, width = _checked(size, font, emoji_list)
    listed = _read_list(emoji_list)
    if not skin_tones:
        listed = [emoji for emoji in listed if "skin tone" not in emoji.name]
    drawn = list(_drawn(listed, font))
    options = decoding.DecodeOptions(
        size=(height, width),
        channels=3,
        frames=False,
        skip_corrupt=False,
        memory_limit=memory_limit,
        cache=cache,
        key=decoding.cache_key([font, emoji_list], "padded emoji", height, skin_tones),
    )
    whole, classes = _render(drawn, options)
    whole = whole if labels else Split(whole.samples)
    splits = hold_out(whole, held_out, np.array([emoji.base for emoji, _ in drawn]))
    names = classes if labels else ()
    counts = " + ".join(f"{len(part):,}" for part in splits.values())
    return Source(
        Spec("image", options.shape, (-1.0, 1.0), len(names), names),
        splits,
        f"emoji: {counts} pictures of {font}, as {height}x{width}x3; "
        f"{len(listed) - len(drawn)} of the list without a picture of their own left out",
        resized="Lanczos" if height != _SIDE else None,
    )


def _render(
    drawn: list[tuple[_Emoji, bytes]], options: decoding.DecodeOptions
) -> tuple[Split, tuple[str, ...]]:
    """Returns the pictures of emoji with their class ids, and the names of the classes."""
    classes = tuple(dict.fromkeys(emoji.group for emoji, _ in drawn))
    items = (  # one at a time, and only if they are not in the cache
        decoding.Item(emoji.name, _padded(picture, emoji.name), classes.index(emoji.group))
        for emoji, picture in drawn
    )
    decoded = decoding.decode_all(items, len(drawn), options)
    return Split(decoded.samples, decoded.labels), classes


def _checked(size: Any, font: Path, emoji_list: Path) -> tuple[int, int]:
    """Returns height and width; the files must exist."""
    for path in (font, emoji_list):
        if not path.is_file():
            raise UsageError(
                "emoji must be rendered from Debian's packages: `apt install "
                f"fonts-noto-color-emoji unicode-data`. Received: no file {path}"
            )
    height, width = images.check_size(size)
    if not height == width <= _SIDE:
        raise UsageError(f"`size` of emoji must be at most {_SIDE}. Received: size={size!r}")
    return height, width


def _read_list(path: Path) -> list[_Emoji]:
    """Returns the emoji of Unicode's list that are meant for display, in its order."""
    found, group = [], ""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"`emoji_list` must be readable. Received: {path}: {error}") from error
    for line in lines:
        if line.startswith("# group:"):
            group = line.partition(":")[2].strip()
        elif match := _LINE.fullmatch(line.strip()):
            points = (int(point, 16) for point in match[1].split())
            found.append(_Emoji(tuple(p for p in points if p != _SELECTOR), match[2], group))
    if not found:
        raise UsageError(
            f"`emoji_list` must be Unicode's emoji-test.txt. Received: {path} without emoji"
        )
    return found


def _drawn(listed: list[_Emoji], path: Path) -> Iterator[tuple[_Emoji, bytes]]:
    """Yields the emoji for which the font has a picture of their own, each with its PNG."""
    pictures, characters, ligatures = _read_font(path)
    seen = set()
    for emoji in listed:
        glyphs = tuple(characters.get(point) for point in emoji.points)
        glyph = glyphs[0] if len(glyphs) == 1 else ligatures.get(glyphs)
        bitmap = pictures.get(glyph)
        if bitmap is not None and bitmap.imageData not in seen:
            seen.add(bitmap.imageData)
            yield emoji, bitmap.imageData


def _padded(picture: bytes, name: str) -> bytes:
    """Returns a PNG in the middle of a transparent square, so that no edge of it is cropped."""
    try:
        image = Image.open(io.BytesIO(picture)).convert("RGBA")
    except Exception as error:  # Pillow raises many types on damaged files
        raise UsageError(
            f"`font` must have pictures that can be read. Received: {name}: {one_line(error)}"
        ) from error
    side = max(image.size)
    square = Image.new("RGBA", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    written = io.BytesIO()
    square.save(written, "PNG", compress_level=1)
    return written.getvalue()


def _read_font(path: Path) -> tuple[dict[Any, Any], dict[int, str], dict[Any, str]]:
    """Returns a font's bitmaps by glyph, its glyphs by character, and its ligatures by glyphs."""
    from fontTools import ttLib  # here, as it takes a third of a second

    try:
        font = ttLib.TTFont(path, lazy=True)
        strikes = font["CBDT"].strikeData
        tables = [t for lookup in font["GSUB"].table.LookupList.Lookup for t in lookup.SubTable]
        ligatures = {
            (first, *ligature.Component): ligature.LigGlyph
            for table in tables
            if hasattr(table, "ligatures")
            for first, entries in table.ligatures.items()
            for ligature in entries
        }
        return strikes[0], font.getBestCmap() or {}, ligatures
    except Exception as error:  # fontTools raises many types on damaged files
        raise UsageError(
            "`font` must be a font with color bitmaps (table CBDT), as Debian's "
            f"fonts-noto-color-emoji is. Received: {path}: {type(error).__name__}: {error}"
        ) from error
