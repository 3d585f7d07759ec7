"""Decoding of image files to uint8 arrays of one size and number of channels."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from keras_gan.arguments import is_integer
from keras_gan.errors import UsageError
from serving.kinds.image import MODES

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".gif")
MAX_PIXELS = 64 * 2**20  # 64 megapixels; a larger image may be a decompression bomb
DEFAULT_SIZE = (64, 64)
FILTER = "Lanczos, cropped to the aspect ratio"  # resizes images

# Only these decoders run, so that no other decoder of Pillow sees untrusted files.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
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
        frames: number of frames.
    """

    height: int
    width: int
    gray: bool
    frames: int


def read_header(file: Path | bytes) -> Header:
    """Reads size, color and number of frames.

    Raises:
        CorruptImage: the file is not an image, or is too large.
    """
    with _opened(file) as image:
        width, height = image.size
        if _orientation(image) in _TRANSPOSED:
            width, height = height, width
        return Header(height, width, _is_gray(image), _frame_count(image))


def decode(
    file: Path | bytes, size: tuple[int, int], channels: int, frames: bool = True
) -> list[np.ndarray]:
    """Decodes an image to uint8 arrays of shape `(*size, channels)`, one for each frame.

    Args:
        file: path or content of the file.
        size: height and width. The image is cropped around its center to this aspect ratio and
            resized with an antialiasing filter.
        channels: 1 (gray), 3 (RGB) or 4 (RGBA). Transparent pixels are composited onto white if
            it is 1 or 3.
        frames: whether all frames of a GIF or WebP animation are decoded, or only the first.

    Raises:
        CorruptImage: the file is not a whole image, or is too large.
    """
    with _opened(file) as image:
        count = _frame_count(image) if frames else 1
        if count == 1:
            _draft(image, size)
        pixels = []
        for frame in range(count):
            if count > 1:
                image.seek(frame)
            upright = ImageOps.exif_transpose(image)
            pixels.append(np.asarray(_resize(_to_channels(upright, channels), size)))
        return [p.reshape(*size, channels) for p in pixels]


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


def check_channels(channels: Any) -> int:
    """Returns the option `channels` once it is checked: 1, 3 or 4."""
    if not is_integer(channels) or channels not in MODES:
        raise UsageError(
            f"`channels` must be 1 (gray), 3 (RGB) or 4 (RGBA). Received: channels={channels!r}"
        )
    return int(channels)


@contextlib.contextmanager
def _opened(file: Path | bytes) -> Iterator[Image.Image]:
    """Opens an image; turns any error within the block into a `CorruptImage`."""
    try:
        if isinstance(file, Path) and file.exists() and not file.is_file():
            raise CorruptImage("not a regular file")  # reading a pipe would block
        stream = io.BytesIO(file) if isinstance(file, bytes) else file
        with Image.open(stream, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise CorruptImage(f"{width}x{height} pixels, more than {MAX_PIXELS:,}")
            yield image
    except CorruptImage:
        raise
    except Image.UnidentifiedImageError as error:
        raise CorruptImage("not a PNG, JPEG, WebP or GIF image") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise many types on damaged files
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CorruptImage(str(reason) or type(error).__name__) from error


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the whole image to find the EXIF data
    return image.getexif().get(_ORIENTATION, 1)


def _frame_count(image: Image.Image) -> int:
    return getattr(image, "n_frames", 1) if image.format in ("GIF", "WEBP") else 1


def _is_gray(image: Image.Image) -> bool:
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


def _to_channels(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if channels < 4:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
    return image.convert(MODES[channels])


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scales 16-bit gray values to 8 bits; Pillow's own conversion clips them at 255."""
    values = np.asarray(image).astype(np.float64)
    return Image.fromarray(np.clip(np.rint(values / 257), 0, 255).astype(np.uint8))


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
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
