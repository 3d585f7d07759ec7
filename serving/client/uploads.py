"""Pictures that a client sends to be translated or classified, and the form of what returns."""

from __future__ import annotations

import dataclasses
import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from serving import file_contents
from serving.checks import MAX_SEED, check_integer, is_integer
from serving.errors import UsageError, short_repr
from serving.output_files import write_to

# Formats of `/v1/translate` by the endings of files.
FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
_ANY = "application/octet-stream"  # the server reads the format from the content
_CHANNELS = (1, 2, 3, 4)


@dataclasses.dataclass(frozen=True)
class Upload:
    """A picture to translate.

    Args:
        content: the file that is sent.
        media_type: its Content-Type.
        form: type of the returned picture: `bytes`, `np.ndarray`, or `None` for a PIL image.
        ndim: number of axes of a given array, 0 for other forms.
        has_color: the given picture is RGB, so that the returned one is.
        format: of the translated file, one of the values of `FORMATS`.
        to: file to write, or `None`.
        model: name of a model, or `None`.
        version: its version, or `None` for the newest.
        tile: height and width of tiles in pixels, 0 for the whole picture, `None` for either.
        seed: seed of the random inputs, or `None` for the server's default.
    """

    content: bytes
    media_type: str
    form: type | None
    ndim: int
    has_color: bool
    format: str
    to: Path | None
    model: str | None
    version: int | None
    tile: int | None
    seed: int | None

    def restore(self, content: bytes) -> Any:
        """Returns the translated picture in the form of the given one; writes a file if asked.

        Args:
            content: the file that the server has sent.

        Raises:
            UsageError: the file cannot be written.
        """
        if self.to is not None:
            write_to(self.to, content)
        if self.form is bytes:
            return content
        from PIL import Image

        image = Image.open(io.BytesIO(content))
        image.load()
        if self.has_color and image.mode in ("L", "LA"):
            image = image.convert("RGB" if image.mode == "L" else "RGBA")
        if self.form is None:
            return image
        array = np.asarray(image)
        return array[..., np.newaxis] if array.ndim < self.ndim else array


def check_upload(
    picture: Any,
    to: str | os.PathLike[str] | None = None,
    *,
    model: str | None = None,
    version: int | None = None,
    tile: int | None = None,
    seed: int | None = None,
) -> Upload:
    """Checks the arguments of `Client.translate`, and encodes a picture that is not a file.

    Raises:
        UsageError: no picture, an unknown ending of `to`, a `tile` that is not a size, or a `seed`
            that is out of range.
    """
    if tile is not None:
        tile = check_integer("tile", tile, 0, 2**14)
    if seed is not None:
        seed = check_integer("seed", int(seed) if is_integer(seed) else seed, 0, MAX_SEED)
    target = None if to is None else Path(to)
    if target is not None and target.suffix.lower() not in FORMATS:
        raise UsageError(
            f"`to` must end in {', '.join(FORMATS)}. Received: to={short_repr(str(target))}"
        )
    format = "png" if target is None else FORMATS[target.suffix.lower()]
    return Upload(*_encode(picture), format, target, model, version, tile, seed)


@dataclasses.dataclass(frozen=True)
class ClassifiedPicture:
    """A picture to classify.

    Args:
        content: the file that is sent.
        media_type: its Content-Type.
        model: name of a model, or `None`.
        version: its version, or `None` for the newest.
    """

    content: bytes
    media_type: str
    model: str | None
    version: int | None


def check_classified(
    picture: Any, *, model: str | None = None, version: int | None = None
) -> ClassifiedPicture:
    """Checks the arguments of `Client.classify`, and encodes a picture that is not a file.

    Raises:
        UsageError: neither a file nor a picture.
    """
    content, media_type, *_ = _encode(picture)
    return ClassifiedPicture(content, media_type, model, version)


def _encode(picture: Any) -> tuple[bytes, str, type | None, int, bool]:
    """Returns the first arguments of an `Upload`: the file to send, and the form of the picture."""
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture), _ANY, bytes, 0, False
    if isinstance(picture, str | os.PathLike):
        return file_contents.read(picture, "`picture`", "picture"), _ANY, None, 0, False
    pillow = sys.modules.get("PIL.Image")  # loaded if there is an image
    if pillow is not None and isinstance(picture, pillow.Image):
        return _save(picture), "image/png", None, 0, picture.mode in ("RGB", "RGBA")
    array = np.asarray(picture)
    ndim = array.ndim
    array = array[..., np.newaxis] if ndim == 2 else array
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] not in _CHANNELS:
        raise UsageError(
            "`picture` must be a file, a PIL image, or a uint8 array (height, width) or (height, "
            f"width, channels) with 1 to 4 channels. Received: picture={short_repr(picture)}"
        )
    if not array.size:
        raise UsageError(f"`picture` must have pixels. Received: shape={array.shape}")
    from serving import png

    content = png.encode(np.ascontiguousarray(array))
    return content, "image/png", np.ndarray, ndim, array.shape[-1] > 2


def _save(image: Any) -> bytes:
    """Encodes a PIL image as PNG, with its orientation and its color profile."""
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    buffer = io.BytesIO()
    profile = image.info.get("icc_profile")
    image.save(buffer, "PNG", compress_level=1, exif=image.getexif(), icc_profile=profile)
    return buffer.getvalue()
