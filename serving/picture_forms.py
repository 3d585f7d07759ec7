"""Pictures in Python: paths, images of Pillow, arrays; each is answered in its own form."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from serving import file_contents, uploads
from serving.errors import UsageError
from serving.inputs import Input, Port, check_array
from serving.kinds.image import STORED
from serving.translation import AUTO, Plan, Translation, choose_tile

Run = Callable[[np.ndarray], np.ndarray]  # from `(1, height, width, channels)` to the answer
ENDINGS = ("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff")  # of the files of a folder
_COLOR = ("RGB", "RGBA")


class _Network(NamedTuple):
    """The network that translates, see `translate`."""

    facts: Mapping[str, Any]
    source: Input
    target: Port
    run: Run


def translate(
    facts: Mapping[str, Any], source: Input, target: Port, run: Run, picture: Any, tile: Any = AUTO
) -> Any:
    """Translates a picture, and returns the answer in its form.

    Args:
        facts: `translation` of a manifest.
        source: the network's input that the facts name.
        target: the network's output that the facts name.
        run: the network.
        picture: a path, an image of Pillow, or an array `(height, width)` or `(height, width,
            channels)`, of uint8 or of floats in the range of the input.
        tile: as for `serving.translation.choose_tile`.

    Raises:
        UsageError: a picture of another form, or as for `Translation`.
    """
    network, limits = _Network(facts, source, target, run), source.meta.get(STORED)
    if isinstance(picture, str | os.PathLike):
        return _answer_image(network, read_file(Path(picture), limits=limits), tile, "")
    if isinstance(picture, Image.Image):
        return _answer_image(network, uploads.from_image(picture, limits), tile, picture.mode)
    array = np.asarray(picture)
    if array.dtype == np.uint8 and array.size:
        return _answer_pixels(network, array, tile)
    if array.dtype.kind == "f" and array.size:
        return _answer_values(network, array, tile)
    raise UsageError(
        "A picture must be a path, an image of Pillow, or an array of uint8 or of floats. "
        f"Received: {type(picture).__name__} of dtype {array.dtype}, shape={array.shape}"
    )


def read_file(
    path: Path, max_pixels: int = uploads.MAX_PIXELS, limits: Sequence[float] | None = None
) -> uploads.Picture:
    """Reads the file of a picture, see `uploads.read`.

    Raises:
        UsageError: the file cannot be read, or as for `uploads.read`.
    """
    return uploads.read(file_contents.read(path, "A picture"), max_pixels, limits)


def is_image(value: Any) -> bool:
    """Checks for an image of Pillow."""
    return isinstance(value, Image.Image)


def image_of(array: np.ndarray) -> Image.Image:
    """Returns pixels as an image of Pillow.

    Args:
        array: uint8 `(height, width)` or `(height, width, channels)` with 1, 3 or 4 channels.

    Raises:
        UsageError: an array of another shape.
    """
    pixels = array[..., np.newaxis] if array.ndim == 2 else array
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3, 4):
        raise UsageError(
            "A picture must be of the shape (height, width) or (height, width, 1, 3 or 4). "
            f"Received: shape={array.shape}"
        )
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def find_pictures(arguments: list[str]) -> tuple[list[Path], list[str], bool]:
    """Returns the files, a line for each folder with others in it, and whether one is a folder.

    Raises:
        UsageError: a path that does not exist, or a folder without pictures.
    """
    found: list[Path] = []
    lines: list[str] = []
    has_folder = False
    for text in arguments:
        path = Path(os.path.expanduser(text))
        if path.is_dir():
            has_folder = True
            shown = [x for x in sorted(path.iterdir()) if x.name[0] != "."]
            files, folders = [x for x in shown if x.is_file()], [x for x in shown if x.is_dir()]
            pictures = [x for x in files if x.suffix.lower().removeprefix(".") in ENDINGS]
            if not pictures:
                raise UsageError(
                    f"A folder must have files that end in {', '.join(ENDINGS)}. "
                    f"Received: {text!r} with {len(files)} other files and "
                    f"{_count(folders)}, which are not read"
                )
            if folders:
                lines.append(
                    f"{text}: {_count(folders)} skipped, such as {folders[0].name}; name a folder "
                    "itself to read its pictures"
                )
            found += pictures
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(f"A picture must exist. Received: {text!r}")
    return found, lines, has_folder or len(found) > 1


def _count(folders: list[Path]) -> str:
    return f"{len(folders)} {'subfolder' if len(folders) == 1 else 'subfolders'}"


def _answer_image(network: _Network, picture: uploads.Picture, tile: Any, mode: str) -> Image.Image:
    translation = Translation(network.facts, network.source, network.target, picture, tile)
    answer = translation.answer(map(network.run, translation.inputs()))
    image = Image.fromarray(answer.pixels)
    if answer.gray and mode not in _COLOR:
        image = image.convert("L")
    if answer.alpha is not None:
        image.putalpha(Image.fromarray(answer.alpha))
    return image


def _answer_pixels(network: _Network, array: np.ndarray, tile: Any) -> np.ndarray:
    image = image_of(array)
    answer = np.asarray(_answer_image(network, uploads.from_image(image), tile, image.mode))
    return answer[..., np.newaxis] if answer.ndim < array.ndim else answer


def _answer_values(network: _Network, array: np.ndarray, tile: Any) -> np.ndarray:
    """Answers floats as the network does: without pixels between, alpha or a rule for gray."""
    facts, source = network.facts, network.source
    values = array[..., np.newaxis] if array.ndim == 2 and source.shape[-1] == 1 else array
    checked = check_array(source, values[np.newaxis])[0]
    height, width = checked.shape[:2]
    plan = Plan(facts, height, width, choose_tile(facts, height, width, tile))
    answer = plan.assemble(map(network.run, plan.inputs(checked)))
    return answer[..., 0] if array.ndim == 2 and answer.shape[-1] == 1 else answer
