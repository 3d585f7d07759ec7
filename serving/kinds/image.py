"""Images: `(height, width, channels)` with 1, 3 or 4 channels, values in [-1, 1]."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from serving import pictures
from serving.errors import UsageError, one_line
from serving.kinds._formats import Format, Meta
from serving.kinds._kind import Kind

MAX_PIXELS = 2**24  # of a picture that is sent; its memory is at most 20 times as many bytes
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
STORED = "stored_range"  # values of pictures of more than 8 bits that are black and white
SIXTEEN_BITS = (0.0, 65535.0)


def pixels(sample: np.ndarray, meta: Meta) -> np.ndarray:
    """Returns a sample as uint8 pixels, with the range of the field mapped to 0..255."""
    return pictures.to_uint8(sample[np.newaxis], KIND.range_of(meta))[0]


def from_pixels(array: np.ndarray, meta: Meta) -> np.ndarray:
    """Returns uint8 pixels as float32 values in the range of the field."""
    low, high = KIND.range_of(meta)
    values = np.multiply(array, np.float32((high - low) / 255.0), dtype=np.float32)
    values += np.float32(low)  # in place: a new array would take longer than the arithmetic
    return values


def _to_png(sample: np.ndarray, meta: Meta, texts: Mapping[str, str]) -> bytes:
    return pictures.to_png(pixels(sample, meta), texts)


def _to_webp(sample: np.ndarray, meta: Meta, texts: Mapping[str, str]) -> bytes:
    array = pixels(sample, meta)
    image = Pillow.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, exact=True)
    return buffer.getvalue()


def _reader(*formats: str):
    def decode(content: bytes, shape: Sequence[int | None], meta: Meta) -> np.ndarray:
        channels = shape[-1] if len(shape) == 3 and shape[-1] in MODES else 3
        limits = meta.get(STORED)
        return from_pixels(read(content, channels or 3, formats, limits), meta)

    return decode


def read(
    content: bytes,
    channels: int,
    formats: Sequence[str],
    limits: Sequence[float] | None = None,
) -> np.ndarray:
    """Reads a picture as uint8 `(height, width, channels)`, upright by its EXIF orientation.

    Args:
        content: a file.
        channels: 1, 3 or 4.
        formats: formats that are read, as Pillow names them.
        limits: see `eight_bits`.

    Raises:
        UsageError: not a picture of these formats, damaged, or larger than 2^24 pixels; or one of
            color with 16 bits where `limits` are not the whole range.
    """
    from PIL import ImageOps  # only needed where pictures are sent

    try:
        with Pillow.open(io.BytesIO(content), formats=list(formats)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UsageError(
                    f"A picture must have at most {MAX_PIXELS} pixels. "
                    f"Received: {image.width} x {image.height}"
                )
            check_depth(image, content, limits)
            image = ImageOps.exif_transpose(image)
            array = np.asarray(eight_bits(image, limits).convert(MODES[channels]))
    except UsageError:
        raise
    except Exception as error:  # Pillow's readers raise many
        line = describe_damage(error, content)
        names = " or ".join(formats)
        raise UsageError(f"A picture must be a readable {names} file. Received: {line}") from None
    return array[..., np.newaxis] if channels == 1 else array


def eight_bits(image: Pillow.Image, limits: Sequence[float] | None = None) -> Pillow.Image:
    """Returns a gray image of 16 bits with 8, and any other as it is.

    Pillow itself would clip 16 bits to 8 instead of scaling.

    Args:
        image: the image.
        limits: stored values that become black and white; by default the whole range.
    """
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    if limits is None:
        return Pillow.fromarray((values >> 8).astype(np.uint8))
    low, high = limits
    scaled = (values.astype(np.float64) - low) / ((high - low) / 255)  # as the data sets do
    return Pillow.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def has_16_bits(image: Pillow.Image, content: bytes) -> bool:
    """Returns True for a picture of more than 8 bits, which Pillow may already have reduced."""
    if image.mode.startswith("I"):
        return True
    if image.format == "PNG":
        return content[24] == 16  # the bit depth in IHDR, which is always the first chunk
    # Files of TIFF alone have tags.
    bits = getattr(image, "tag_v2", {}).get(258, 8) if image.format == "TIFF" else 8
    return max(bits if isinstance(bits, tuple) else (bits,)) > 8


def check_depth(image: Pillow.Image, content: bytes, limits: Sequence[float] | None) -> None:
    """Checks that a picture can be read by stored values that become black and white.

    Raises:
        UsageError: colors of 16 bits, of which Pillow has kept the upper 8.
    """
    if limits is None or tuple(limits) == SIXTEEN_BITS:
        return
    if not image.mode.startswith("I") and has_16_bits(image, content):
        raise UsageError(
            "Colors must have 8 bits for a network whose pictures of more bits are from "
            f"{limits[0]:g} to {limits[1]:g}. Received: 16 bits, mode {image.mode}"
        )


def describe_damage(error: Exception, content: bytes) -> str:
    """Returns what an error message says of a file that Pillow could not read."""
    if isinstance(error, UnidentifiedImageError):  # its text has the address of an object
        return f"{len(content)} bytes of another format"
    return one_line(error, 120)


class Image(Kind):
    """Images."""

    axes = ("height", "width", "channels")
    value_range = (-1.0, 1.0)
    plural = "images"
    meta = (STORED,)
    is_animated = True
    stored = {"uint8": (0.0, 255.0)}
    metrics = (
        "patch_distance",
        "nyquist_ratio",
        "pair_distance",
        "feature_sliced_wasserstein",
        "ms_ssim",
        "nearest",
    )
    training_metrics = (
        "patch_distance",
        "nyquist_ratio",
        "pair_distance_ratio",
        "nearest_ratio",
        "sliced_wasserstein",
    )
    pair_metrics = (
        "l1",
        "psnr",
        "ssim",
        "gmsd",
        "gradient_ratio",
        "spectrum_error",
        "consistency",
        "cycle_l1",
        "nyquist_ratio",
        "patch_distance",
    )
    formats = (
        Format("png", "image/png", _to_png, _reader("PNG")),
        Format("webp", "image/webp", _to_webp, _reader("WEBP")),
        Format("jpeg", "image/jpeg", None, _reader("JPEG"), ("jpg",)),
    )

    def check(self, shape: Sequence[int | None], meta: Meta | None = None) -> None:
        super().check(shape, meta)
        if shape[-1] not in MODES:
            raise UsageError(
                "Images must have 1 (gray), 3 (RGB) or 4 (RGBA) channels. "
                f"Received: shape={tuple(shape)}"
            )

    def from_stored(self, array: np.ndarray, meta: Meta) -> np.ndarray:
        return from_pixels(array, meta)

    def check_sheet(self, count: int, shape: Sequence[int], columns: int | None = None) -> None:
        pictures.check_grid(count, tuple(shape), columns)

    def sheet_size(
        self, count: int, shape: Sequence[int], columns: int | None = None
    ) -> tuple[int, int]:
        return pictures.grid_size(count, tuple(shape), columns)

    def sheet(
        self, samples: np.ndarray, meta: Meta | None = None, columns: int | None = None
    ) -> np.ndarray:
        return pictures.grid(pictures.to_uint8(samples, self.range_of(meta)), columns)


KIND = Image()
