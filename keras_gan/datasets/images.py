"""Decoding of image files to uint8 arrays of one size and number of channels."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from keras_gan.arguments import is_integer
from keras_gan.datasets.levels import EIGHT_BITS, SIXTEEN_BITS
from keras_gan.errors import UsageError
from serving.kinds.image import MODES
from serving.value_ranges import Range

MAX_PIXELS = 64 * 2**20  # 64 megapixels; a larger image may be a decompression bomb
DEFAULT_SIZE = (64, 64)
FILTER = "Lanczos, cropped to the aspect ratio"  # resizes images

# Formats that are known by the first bytes of a file, whatever its name is.
_SIGNED = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "QOI", "SGI")
_SIGNED += ("PSD", "DDS", "ICO", "ICNS")
# Not read: EPS runs Ghostscript; of the others Pillow only reads headers, or needs a plug-in.
_NOT_READ = ("EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "IPTC", "MCIDAS", "IMT")
_ANIMATIONS = ("GIF", "WEBP")  # all frames are samples
# Further frames of these are previews, layers or sizes of the one picture.
_SINGLE = ("MPO", "PSD", "ICO", "ICNS", "DDS")
_GRAY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_TRANSPOSED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_ORIENTATION = 0x0112


class CorruptImage(Exception):
    """Error for a file that is not a whole image, with the reason as its message."""


@dataclasses.dataclass(frozen=True)
class Header:
    """Properties of an image that are read without decoding it.

    Args:
        height: rows of pixels, after the EXIF orientation is applied.
        width: columns of pixels, likewise.
        gray: whether the file stores gray values.
        frames: number of frames that are samples.
        pages: number of frames in the file, of which only the first is read if `frames` is 1.
        is_deep: whether it stores more than 8 bits a channel.
        alpha: whether it has an alpha channel, or a transparent color.
    """

    height: int
    width: int
    gray: bool
    frames: int
    pages: int = 1
    is_deep: bool = False
    alpha: bool = False


@dataclasses.dataclass(frozen=True)
class Levels:
    """Stored values that become black and white.

    Args:
        deep: of images with more than 8 bits a channel.
        shallow: of images with 8 bits a channel, palettes aside.
    """

    deep: Range = SIXTEEN_BITS
    shallow: Range = EIGHT_BITS


WHOLE_RANGE = Levels()


@functools.cache
def suffixes() -> Mapping[str, str]:
    """Returns the file suffixes of images, such as `.png`, each with Pillow's name of its format.

    Formats that run other programs, or that Pillow identifies but does not decode, are left out.
    """
    known = Image.registered_extensions()
    return {
        suffix: form
        for suffix, form in known.items()
        if form in Image.OPEN and form not in _NOT_READ
    }


def is_image(file: Path) -> bool:
    """Returns whether a file begins as an image does, whatever its name is."""
    try:
        with opened(file):
            return True
    except CorruptImage:
        return False


def extremes(file: Path | bytes) -> tuple[float, float, bool]:
    """Returns the smallest and largest stored value of an image, and whether it is floating point.

    Values of colors in 16 bits, which Pillow reads as 8, are estimated from those. The whole range
    is returned for images with a palette.
    """
    with opened(file) as image:
        if image.mode in ("P", "1", "PA"):
            return *EIGHT_BITS, False
        if _is_deep(image) and not _is_wide(image):
            pixels = _deep_colors(image, file)
        else:
            _draft(image, (64, 64))
            pixels = np.asarray(image)
            alpha = "A" in image.getbands() and pixels.ndim == 3
            pixels = pixels[..., :-1] if alpha else pixels
        low, high = float(pixels.min()), float(pixels.max())
        return low, high, image.mode == "F"


def read_header(file: Path | bytes) -> Header:
    """Reads size, color and number of frames.

    Raises:
        CorruptImage: the file is not an image, or is too large.
    """
    with opened(file) as image:
        width, height = image.size
        if _orientation(image) in _TRANSPOSED:
            width, height = height, width
        pages = 1 if image.format in _SINGLE else getattr(image, "n_frames", 1)
        frames = pages if image.format in _ANIMATIONS else 1
        alpha = image.has_transparency_data
        return Header(height, width, is_gray(image), frames, pages, _is_deep(image), alpha)


def decode(
    file: Path | bytes,
    size: tuple[int, int],
    channels: int,
    frames: bool = True,
    levels: Levels = WHOLE_RANGE,
    half: int = 0,
) -> list[np.ndarray]:
    """Decodes an image to uint8 arrays of shape `(*size, channels)`, one for each frame.

    Args:
        file: path or content of the file.
        size: height and width. The image is cropped around its center to this aspect ratio and
            resized with an antialiasing filter.
        channels: 1 (gray), 3 (RGB) or 4 (RGBA). Transparent pixels are composited onto white if
            it is 1 or 3.
        frames: whether all frames of a GIF or WebP animation are decoded, or only the first.
        levels: stored values that become black and white.
        half: 1 to decode the left half of the image alone, 2 for the right half.

    Raises:
        CorruptImage: the file is not a whole image, or is too large.
    """
    with opened(file) as image:
        animated = frames and image.format in _ANIMATIONS
        count = getattr(image, "n_frames", 1) if animated else 1
        if count == 1 and not half:  # a reduced image may have an odd width
            _draft(image, size)
        pixels = []
        for frame in range(count):
            if count > 1:
                image.seek(frame)
            upright = ImageOps.exif_transpose(_to_levels(image, file, levels))
            part = _half(to_channels(upright, channels), half)
            pixels.append(np.asarray(resize(part, size)))
        return [p.reshape(*size, channels) for p in pixels]


def describe_resizing(headers: Sequence[Any], size: tuple[int, int]) -> str:
    """Returns the stored sizes and the size that images get, such as `128x128 -> 64x64`.

    Sizes are height x width. The smallest and the largest area are named if there are several. The
    text is empty if no image is resized.
    """
    stored = {(header.height, header.width) for header in headers}
    if stored <= {size}:
        return ""
    ordered = sorted(stored, key=lambda pair: (pair[0] * pair[1], pair))
    ends = dict.fromkeys((ordered[0], ordered[-1]))
    return f"{' to '.join(map(size_text, ends))} -> {size_text(size)}"


def describe_enlarging(
    found: Sequence[tuple[Path, Any]], size: tuple[int, int], noun: str = "images"
) -> str:
    """Returns one sentence about images that are smaller than the size that they get.

    Args:
        found: the files with their headers.
        size: height and width that the images get.
        noun: plural noun for them.

    Returns:
        The sentence; empty if no image is smaller.
    """
    small = [(file, h) for file, h in found if h.height < size[0] or h.width < size[1]]
    if not small:
        return ""
    file, header = small[0]
    return (
        f"{noun.capitalize()} smaller than {size_text(size)} are enlarged, which adds no detail; "
        f"`size` sets another size. Received: {len(small):,} of {len(found):,} {noun}, such as "
        f"{file.name} of {size_text((header.height, header.width))}"
    )


def size_text(size: tuple[int, int]) -> str:
    """Returns height and width in words, such as `32x48`."""
    return f"{size[0]}x{size[1]}"


@contextlib.contextmanager
def strict_pillow() -> Iterator[None]:
    """Turns Pillow's warning of decompression bombs into an error, in all threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


# "64", "64,48", "(64, 48)" or "[64, 48]"; "64x64", but not "64x48", which has no known order.
_SIZE = re.compile(r"[(\[]?\s*(\d{1,9})\s*(?:,\s*(\d{1,9})\s*)?[)\]]?")
_PRODUCT = re.compile(r"(\d{1,9})\s*[xX*\u00d7]\s*(\d{1,9})")


def check_size(size: Any) -> tuple[int, int]:
    """Returns height and width from the option `size`: an integer, or height and width."""
    pair: Any = _read_size(size.strip()) if isinstance(size, str) else size
    pair = pair if isinstance(pair, Sequence) and not isinstance(pair, str) else (pair, pair)
    if len(pair) != 2 or not all(_is_whole(x) and x > 0 for x in pair):
        raise UsageError(
            "`size` must be a positive integer or [height, width], in pixels. "
            f"Received: size={size!r}"
        )
    return int(pair[0]), int(pair[1])


def _is_whole(value: Any) -> bool:
    return is_integer(value) or (isinstance(value, float) and value.is_integer())


def _read_size(text: str) -> tuple[int, ...] | str:
    """Returns the numbers of a size that is given as text; other text unchanged."""
    if found := _SIZE.fullmatch(text):
        return tuple(int(x) for x in (found[1], found[2] or found[1]))
    if found := _PRODUCT.fullmatch(text):
        first, second = int(found[1]), int(found[2])
        if first != second:
            raise UsageError(
                f"`size` must be [height, width], as the order in {text!r} is not known: "
                f"[{first}, {second}] has a height of {first} pixels, [{second}, {first}] a width "
                f"of {first}. Received: size={text!r}"
            )
        return first, second
    return text


def usual_channels(headers: Iterable[Header]) -> int:
    """Returns the channels that images get by default: 1 if all files are gray, else 3."""
    return 1 if all(header.gray for header in headers) else 3


def check_channels(channels: Any) -> int:
    """Returns the option `channels` once it is checked: 1, 3 or 4."""
    if not is_integer(channels) or channels not in MODES:
        raise UsageError(
            f"`channels` must be 1 (gray), 3 (RGB) or 4 (RGBA). Received: channels={channels!r}"
        )
    return int(channels)


@contextlib.contextmanager
def opened(file: Path | bytes) -> Iterator[Image.Image]:
    """Opens an image; turns any error within the block into a `CorruptImage`."""
    try:
        if isinstance(file, Path) and file.exists() and not file.is_file():
            raise CorruptImage("not a regular file")  # reading a pipe would block
        stream = io.BytesIO(file) if isinstance(file, bytes) else file
        suffix = "" if isinstance(file, bytes) else file.suffix.lower()
        with Image.open(stream, formats=_formats(suffix)) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise CorruptImage(f"{width}x{height} pixels, more than {MAX_PIXELS:,}")
            yield image
    except CorruptImage:
        raise
    except Image.UnidentifiedImageError as error:
        raise CorruptImage("not a PNG, JPEG or other image that Pillow reads") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise many types on damaged files
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CorruptImage(str(reason) or type(error).__name__) from error


@functools.cache
def _formats(suffix: str) -> tuple[str, ...]:
    """Returns the formats that a file may have: by its first bytes, or by its suffix."""
    by_name = suffixes().get(suffix)  # which also makes all formats known to Pillow
    return tuple(form for form in dict.fromkeys((*_SIGNED, by_name)) if form in Image.OPEN)


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the whole image to find the EXIF data
    return image.getexif().get(_ORIENTATION, 1)


def _is_wide(image: Image.Image) -> bool:
    """Returns whether Pillow keeps more than 8 bits a channel, of gray values."""
    return image.mode.startswith("I") or image.mode == "F"


def _is_deep(image: Image.Image) -> bool:
    """Returns whether a file stores more than 8 bits a channel."""
    return _is_wide(image) or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _deep_colors(image: Image.Image, file: Path | bytes) -> np.ndarray:
    """Returns colors of 16 bits, `(height, width, channels)`."""
    if image.format == "PNG":
        content = file if isinstance(file, bytes) else file.read_bytes()
        return tf.io.decode_png(content, dtype=tf.uint16).numpy()
    # Pillow drops the low byte; the largest value of it keeps the number of bits.
    pixels = np.asarray(image).astype(np.uint16)
    return np.where(pixels == 0, 0, pixels * 256 + 255).astype(np.uint16)


def _to_levels(image: Image.Image, file: Path | bytes, levels: Levels) -> Image.Image:
    """Returns an image of 8 bits whose stored values are mapped from their levels."""
    if _is_wide(image):
        return _mapped(image, np.asarray(image), levels.deep)
    if image.mode in ("P", "1", "PA"):
        return image
    if _is_deep(image):
        if levels.deep == SIXTEEN_BITS:
            return image
        return _mapped(image, _deep_colors(image, file), levels.deep)
    if levels.shallow == EIGHT_BITS:
        return image
    low, high = levels.shallow
    table = np.clip(np.rint((np.arange(256) - low) / (high - low) * 255), 0, 255).astype(int)
    same = list(range(256))
    return image.point([x for b in image.getbands() for x in (same if b == "A" else table)])


def _mapped(image: Image.Image, values: np.ndarray, limits: Range) -> Image.Image:
    """Returns values of an image in 8 bits, with its orientation."""
    low, high = limits
    scaled = (values.astype(np.float64) - low) / ((high - low) / 255)
    mapped = Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))
    mapped.info["exif"] = image.getexif().tobytes()
    return mapped


def is_gray(image: Image.Image) -> bool:
    """Returns whether an image stores gray values."""
    if image.mode != "P":
        return image.mode in _GRAY_MODES
    palette = image.getpalette("RGB")
    colors = np.array(palette or [], np.uint8).reshape(-1, 3)
    return bool((colors == colors[:, :1]).all())


def _draft(image: Image.Image, size: tuple[int, int]) -> None:
    """Lets the JPEG decoder skip detail that resizing would discard."""
    height, width = size
    image_width, image_height = image.size
    if _orientation(image) in _TRANSPOSED:
        height, width = width, height
    scale = max(width / image_width, height / image_height) * 3  # 3, like reducing_gap below
    if scale < 1:
        image.draft(None, (int(image_width * scale) + 1, int(image_height * scale) + 1))


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """Returns an image with 1, 3 or 4 channels; with 1 or 3 it is composited onto white."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if channels < 4:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
    return image.convert(MODES[channels])


def _half(image: Image.Image, half: int) -> Image.Image:
    """Returns the left half of an image (1), the right half (2) or the whole of it (0)."""
    if not half:
        return image
    middle = image.width // 2
    return image.crop((middle * (half - 1), 0, middle * half, image.height))


def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Returns an image cropped around its center and resized to a height and a width."""
    height, width = size
    # The crop is the largest box of the target's aspect ratio. It is in whole pixels, so that an
    # image that already has the target size keeps its values.
    scale = max(width / image.width, height / image.height)
    box_width = min(image.width, max(1, round(width / scale)))
    box_height = min(image.height, max(1, round(height / scale)))
    left = (image.width - box_width) // 2
    top = (image.height - box_height) // 2
    image = image.crop((left, top, left + box_width, top + box_height))
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
