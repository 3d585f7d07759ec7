"""Pictures that users send: any common file to pixels with alpha and notes, and back to a file.

A file comes from a stranger. Its format is decided by its content, its size is checked by its
header before anything is decoded, and whatever cannot be read is one line.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow

from serving import png
from serving.errors import TooLargeError, UsageError
from serving.kinds import image as image_kind

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")  # that `read` reads, as Pillow names them
MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}  # of `write`
MAX_PIXELS = 2**26  # of a picture, where the caller names no other bound
_MAX_EXTENT = {"png": 2**31 - 1, "jpeg": 65_500, "webp": 16_383}  # of height and width
_GRAY = {"1", "L", "LA", "La", "I"}  # and those of 16 bits
_ORIENTATION = 0x0112  # of EXIF
_QUALITY = 95  # of JPEG, without subsampling of colors
_UNSHIFTED = 1  # levels of 255; a color profile that changes colors by no more is sRGB


class Picture(NamedTuple):
    """A picture in memory.

    Args:
        pixels: uint8 `(height, width, 3)`, sRGB; where alpha is below 255, composited over white.
        alpha: uint8 `(height, width)`, or `None` for a picture without alpha.
        gray: whether the picture has no color: its three channels are equal.
        notes: what reading changed, one sentence each.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    gray: bool
    notes: tuple[str, ...] = ()


def read(
    content: bytes,
    max_pixels: int = MAX_PIXELS,
    limits: Sequence[float] | None = None,
    reason: str = "",
) -> Picture:
    """Reads a picture: upright by its EXIF orientation, in sRGB, with 8 bits, its first frame.

    Args:
        content: a PNG, JPEG, WebP, GIF, BMP or TIFF file.
        max_pixels: largest number of pixels, checked before the picture is decoded.
        limits: values that become black and white in a picture of 16 bits, `stored_range` of the
            network's input; by default the whole range.
        reason: clause about the number of pixels, for the error.

    Raises:
        UsageError: no picture of these formats, a damaged or truncated one, or one of color with
            16 bits where `limits` are not the whole range.
        TooLargeError: one of more pixels.
    """
    if not content:
        raise UsageError("A picture must be a file with content. Received: 0 bytes")
    try:
        with Pillow.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_pixels(image, max_pixels, reason)
            image.load()
            _check_pixels(image, max_pixels, reason)  # a frame may be larger than the header said
            image_kind.check_depth(image, content, limits)
            return _decode(image, image_kind.has_16_bits(image, content), limits)
    except UsageError:
        raise
    except Pillow.DecompressionBombError as error:  # beyond what Pillow opens at all
        line = image_kind.describe_damage(error, content)
        raise TooLargeError(
            f"A picture must have at most {max_pixels} pixels{reason}. Received: {line}"
        ) from None
    except Exception as error:  # Pillow's readers raise many
        line = image_kind.describe_damage(error, content)
        raise UsageError(
            f"A picture must be a readable {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file. "
            f"Received: {line}"
        ) from None


def from_image(image: Pillow.Image, limits: Sequence[float] | None = None) -> Picture:
    """Converts an image of Pillow as `read` converts a file.

    Raises:
        UsageError: an image of floating-point numbers or of 32 bits, or a damaged file.
    """
    try:
        image.load()
        return _decode(image, image.mode.startswith("I"), limits)
    except (OSError, SyntaxError) as error:  # of a file that was opened lazily
        line = image_kind.describe_damage(error, b"")
        raise UsageError(f"A picture must be readable. Received: {line}") from None


def _check_pixels(image: Pillow.Image, max_pixels: int, reason: str) -> None:
    if image.width * image.height > max_pixels:
        raise TooLargeError(
            f"A picture must have at most {max_pixels} pixels{reason}. "
            f"Received: {image.width} x {image.height}"
        )


def _decode(
    image: Pillow.Image, has_16_bits: bool, limits: Sequence[float] | None = None
) -> Picture:
    notes = []
    if image.format in ("GIF", "PNG", "WEBP", "TIFF") and getattr(image, "is_animated", False):
        notes.append("Of an animation, the first frame is used.")
    if has_16_bits:
        by = f" from {limits[0]:g} to {limits[1]:g}, as in training" if limits else ""
        notes.append(f"16 bits per channel were reduced to 8{by}.")
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise UsageError(
            f"A picture must have 8 or 16 bits per channel. Received: {image.mode} of Pillow"
        )
    upright, profile = _upright(image, notes), image.info.get("icc_profile")
    upright = image_kind.eight_bits(upright, limits)
    alpha = None
    if upright.has_transparency_data:
        gray = upright.mode in _GRAY
        rgba = upright.convert("RGBA")
        alpha, upright = rgba.getchannel("A"), rgba.convert("RGB")
        upright = upright.convert("L") if gray else upright
    elif upright.mode in ("1", "P", "PA"):
        upright = upright.convert("L" if upright.mode == "1" else "RGB")
    color = _to_srgb(upright, profile, notes)
    pixels = np.asarray(color if alpha is None else _over_white(color, alpha))
    return Picture(
        pixels, None if alpha is None else np.asarray(alpha), _is_gray(pixels), (*notes,)
    )


def _is_gray(pixels: np.ndarray) -> bool:
    """Returns True if the three channels are equal."""
    for rows in (pixels[:1], pixels):  # color nearly always shows in the first row
        first, second, third = (rows[..., channel] for channel in range(3))
        if not (np.array_equal(first, second) and np.array_equal(first, third)):
            return False
    return True


def _over_white(image: Pillow.Image, alpha: Pillow.Image) -> Pillow.Image:
    white = Pillow.new(image.mode, image.size, "white")
    white.paste(image, mask=alpha)
    return white


def _upright(image: Pillow.Image, notes: list[str]) -> Pillow.Image:
    from PIL import ImageOps

    try:
        if image.getexif().get(_ORIENTATION, 1) == 1:
            return image  # Pillow would copy it
        upright = ImageOps.exif_transpose(image)
        notes.append("The picture was turned upright by its EXIF orientation.")
        return upright
    except Exception:  # a damaged EXIF block raises many
        notes.append("The EXIF data could not be read and were ignored.")
        return image


def _to_srgb(image: Pillow.Image, profile: bytes | None, notes: list[str]) -> Pillow.Image:
    """Converts the colors of an image to RGB, by its ICC profile where it has one."""
    if not profile:
        return image if image.mode == "RGB" else image.convert("RGB")
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        to_srgb = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), image.mode, "RGB")
        cube = _color_cube(image.mode)
        shift = np.asarray(to_srgb.apply(cube), np.int16) - np.asarray(cube.convert("RGB"))
        if image.mode != "CMYK" and np.abs(shift).max() <= _UNSHIFTED:
            return image.convert("RGB")
        converted = to_srgb.apply(image)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        notes.append("The ICC profile is not usable and was ignored.")
        return image.convert("RGB")
    notes.append("The colors were converted to sRGB by the ICC profile.")
    # A gray profile maps gray to gray, within rounding.
    return converted.convert("L").convert("RGB") if image.mode == "L" else converted


def _color_cube(mode: str) -> Pillow.Image:
    """Returns an image of colors all over the range of a mode."""
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    if mode == "L":
        return Pillow.fromarray(levels[np.newaxis])
    channels = len(mode)
    cube = np.stack(np.meshgrid(*[levels[:: max(1, channels - 2)]] * channels), axis=-1)
    return Pillow.frombytes(mode, (cube.size // channels, 1), cube.tobytes())


def write(
    pixels: np.ndarray,
    alpha: np.ndarray | None = None,
    gray: bool = False,
    format: str = "png",
    texts: Mapping[str, str] | None = None,
) -> bytes:
    """Encodes a picture; a format without alpha gets it over white.

    Args:
        pixels: uint8 `(height, width, 3)`, or `(height, width, 1)`.
        alpha: uint8 `(height, width)`, or `None`.
        gray: write one channel, the mean of the three.
        format: `"png"`, `"jpeg"` (quality 95) or `"webp"` (lossless).
        texts: text chunks of a PNG by key.

    Raises:
        UsageError: another format, or a picture higher or wider than the format holds.
    """
    if format not in MEDIA_TYPES:
        raise UsageError(
            f"`format` must be one of {', '.join(MEDIA_TYPES)}. Received: format={format!r:.80}"
        )
    height, width = pixels.shape[:2]
    check_extent(height, width, format)
    if gray:
        pixels = mean_of_channels(pixels)
    if format == "png":
        if alpha is not None:
            pixels = np.concatenate([pixels, alpha[..., np.newaxis]], axis=-1)
        return png.encode(pixels, texts)
    image = Pillow.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    buffer = io.BytesIO()
    if format == "webp":
        if alpha is not None:
            image = image.convert("RGB")
            image.putalpha(Pillow.fromarray(alpha))
        # Without loss, both numbers are effort. Method 1 takes three times the time for files that
        # are smaller by 8 percent, and the default quality as long for equal files.
        image.save(buffer, "WEBP", lossless=True, exact=True, method=0, quality=0)
        return buffer.getvalue()
    if alpha is not None:
        image = _over_white(image, Pillow.fromarray(alpha))
    image.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()


def check_extent(height: int, width: int, format: str) -> None:
    """Checks that a format of `MEDIA_TYPES` holds pictures of a height and width.

    Raises:
        UsageError: a picture higher or wider than the format holds.
    """
    if max(height, width) > _MAX_EXTENT[format]:
        raise UsageError(
            f"A {format} picture must be at most {_MAX_EXTENT[format]} pixels high and wide; "
            f"choose png. Received: {width} x {height}"
        )


def mean_of_channels(array: np.ndarray) -> np.ndarray:
    """Returns the mean of the channels of an array `(..., channels)` as one, in its dtype."""
    if array.shape[-1] == 1:
        return array
    mean = np.zeros(array.shape[:-1], np.float32)
    for channel in range(array.shape[-1]):
        mean += array[..., channel]
    mean /= np.float32(array.shape[-1])
    mean = np.rint(mean) if array.dtype.kind in "iu" else mean
    return mean.astype(array.dtype)[..., np.newaxis]


def resize_alpha(alpha: np.ndarray, scale: int) -> np.ndarray:
    """Returns an alpha channel resized by the bicubic filter.

    Args:
        alpha: uint8 `(height, width)`.
        scale: factor of height and width; 1 returns the same array.
    """
    if scale == 1:
        return alpha
    height, width = (size * scale for size in alpha.shape)
    if (alpha == alpha.flat[0]).all():  # such as fully opaque, which stays so to the last level
        return np.full((height, width), alpha.flat[0], np.uint8)
    resized = Pillow.fromarray(alpha).resize((width, height), Pillow.Resampling.BICUBIC)
    return np.asarray(resized)
