"""Example pictures of a bundle, which servers offer on their page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from export.errors import writing
from export.manifest import Manifest
from keras_gan import UsageError
from serving import uploads
from serving.examples import FOLDER, MAX_BYTES, MAX_EXAMPLES

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


def read_examples(pictures: Sequence[Any] | str | os.PathLike[str]) -> list[bytes]:
    """Returns examples as PNG files, without their metadata.

    Args:
        pictures: a folder, of which the first 16 PNG, JPEG and WebP files are taken; or paths,
            images of Pillow, or uint8 arrays `(height, width, 1, 3 or 4)`, at most 16.

    Raises:
        UsageError: no pictures, more than 16, or one that cannot be read or has more than 4 MiB.
    """
    listed = _list_files(Path(pictures)) if isinstance(pictures, str | os.PathLike) else pictures
    if not 1 <= len(listed) <= MAX_EXAMPLES:
        raise UsageError(
            f"`examples` must be 1 to {MAX_EXAMPLES} pictures. Received: {len(listed)} pictures"
        )
    return [_encode(picture) for picture in listed]


def write_examples(examples: Sequence[bytes], folder: Path, manifest: Manifest) -> None:
    """Writes the files of `read_examples` into a bundle.

    Raises:
        UsageError: a network that does not translate pictures of any size.
    """
    if not examples:
        return
    if manifest.translation is None:
        raise UsageError(
            "`examples` are for a network that translates pictures of any height and width. "
            f"Received: {len(examples)} examples for a {manifest.role} of "
            f"{', '.join(port.name for port in manifest.inputs)}"
        )
    with writing(folder):
        (folder / FOLDER).mkdir()
        for number, content in enumerate(examples):
            (folder / FOLDER / f"{number}.png").write_bytes(content)


def _list_files(path: Path) -> list[Path]:
    try:
        files = sorted(x for x in path.iterdir() if x.suffix.lower() in _ENDINGS)
    except OSError as error:
        raise UsageError(
            f"`examples` must be a folder of pictures. Received: {str(path)!r} ({error.strerror})"
        ) from error
    return [x for x in files if not x.name.startswith(".")][:MAX_EXAMPLES]


def _encode(picture: Any) -> bytes:
    if isinstance(picture, str | os.PathLike):
        try:
            found = uploads.read(Path(picture).read_bytes())
        except (OSError, UsageError) as error:
            raise UsageError(f"An example must be a picture. {error} in {picture!s}") from error
    elif isinstance(picture, Image.Image):
        found = uploads.from_image(picture)
    else:
        array = np.asarray(picture)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] not in (1, 3, 4):
            raise UsageError(
                "An example must be a path, an image of Pillow, or a uint8 array (height, width, "
                f"1, 3 or 4). Received: dtype={array.dtype}, shape={array.shape}"
            )
        found = uploads.from_image(
            Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
        )
    content = uploads.write(found.pixels, found.alpha, found.gray)
    if len(content) > MAX_BYTES:
        raise UsageError(
            f"An example must have at most {MAX_BYTES} bytes as PNG. Received: {len(content)} bytes"
        )
    return content
