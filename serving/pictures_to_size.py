"""Pictures for a network of one size: cropped to its shape, resized, in its channels."""

from __future__ import annotations

import numpy as np
from PIL import Image

from serving.translation import to_channels
from serving.uploads import Picture


def fit(
    picture: Picture, size: tuple[int | None, int | None], channels: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns the pixels of a picture in a size, and notes about what was changed.

    The picture is cropped around its center to the shape of the size and resized by the Lanczos
    filter, as the pictures of a folder are for training.

    Args:
        picture: the picture.
        size: height and width; `None` for any.
        channels: 1 for gray, the luma of the picture, or 3.

    Returns:
        uint8 array `(height, width, channels)`, and one sentence for each change.
    """
    notes = []
    if picture.alpha is not None and (picture.alpha < 255).any():
        notes.append("Transparent parts are shown over white.")
    pixels = picture.pixels
    height, width = (own if n is None else n for own, n in zip(pixels.shape[:2], size, strict=True))
    if pixels.shape[:2] != (height, width):
        pixels, is_cropped = _resize(pixels, height, width)
        did = "cropped around its center and resized" if is_cropped else "resized"
        high, wide = picture.pixels.shape[:2]
        notes.append(f"The picture was {did} from {wide} x {high} to {width} x {height} pixels.")
    if channels == 1 and not picture.gray:
        notes.append("The colors were reduced to gray.")
    return to_channels(pixels, channels), tuple(notes)


def _resize(pixels: np.ndarray, height: int, width: int) -> tuple[np.ndarray, bool]:
    """Returns resized pixels, and whether they were cropped."""
    image = Image.fromarray(pixels)
    # The largest box of the shape, in whole pixels.
    scale = max(width / image.width, height / image.height)
    box = (
        min(image.width, max(1, round(width / scale))),
        min(image.height, max(1, round(height / scale))),
    )
    left, top = (image.width - box[0]) // 2, (image.height - box[1]) // 2
    cropped = box != image.size
    if cropped:
        image = image.crop((left, top, left + box[0], top + box[1]))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(image), cropped
