"""Pictures of any size through a network of free height and width: padding, tiles, assembling.

A manifest has the measured facts of such a network under `translation` (see `RULES`). A picture is
padded at its bottom and right edge to a size that the network takes, and the answer is cropped, so
that its height and width are exactly `scale` times those of the picture. A large picture is cut
into tiles whose margin is the distance at which a pixel has an effect. Tiles are therefore equal to
the same part of the whole picture; nothing is blended.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from serving import uploads
from serving.checks import is_finite
from serving.errors import NotFiniteError, TooLargeError, UsageError, short_repr
from serving.inputs import Port
from serving.kinds import image as image_kind

AUTO = "auto"
TILE = 512  # input pixels of height and width of a tile, where the caller names no size
MAX_UNTILED = 2**20  # input pixels of a picture that `auto` leaves whole
KEEP = "keep"  # value of `gray`
MAX_WHOLE = 2**22  # input pixels of a picture for a network that cannot be tiled


class Tile(NamedTuple):
    """One run of the network.

    Args:
        rows: rows of its input, in the padded picture; likewise `columns`.
        columns: columns of its input.
        crop: rows and columns of its output that belong to the answer.
        place: rows and columns of the answer that they fill.
    """

    rows: slice
    columns: slice
    crop: tuple[slice, slice]
    place: tuple[slice, slice]


class Plan:
    """Runs of a network that answer one picture.

    Args:
        facts: `translation` of a manifest.
        height: height of the picture, at least 1.
        width: width of the picture, at least 1.
        tile: height and width of the tiles in input pixels, without their margins, rounded up to
            what the network takes; `None` runs the whole picture.
        max_whole: largest number of pixels of a picture for a network that cannot be tiled.

    Attributes:
        tiles: the runs; all inputs have one shape.
        size: height and width of the answer.

    Raises:
        UsageError: tiles of a network that cannot be tiled, or a size that is not an integer above
            0.
        TooLargeError: a picture too large for a network that cannot be tiled.
    """

    def __init__(
        self,
        facts: Mapping[str, Any],
        height: int,
        width: int,
        tile: int | None = None,
        max_whole: int = MAX_WHOLE,
    ):
        self._shape = (_at_least_1("height", height), _at_least_1("width", width))
        self._scale = int(facts["scale"])
        self.size = (height * self._scale, width * self._scale)
        if tile is not None:
            _at_least_1("tile", tile)
            if not facts["tileable"]:
                raise UsageError(
                    "This network cannot be tiled, because every pixel of its answer depends on "
                    f"the whole picture: leave `tile` out. Received: tile={tile}"
                )
        elif not facts["tileable"] and height * width > max_whole:
            raise TooLargeError(
                f"This network cannot be tiled and takes pictures of at most {max_whole} pixels. "
                f"Received: {width} x {height}"
            )
        rows, columns = (list(self._axis(facts, n, tile)) for n in self._shape)
        self.tiles = tuple(
            Tile(a.window, b.window, (a.crop, b.crop), (a.place, b.place))
            for a in rows
            for b in columns
        )

    def _axis(self, facts: Mapping[str, Any], size: int, tile: int | None) -> Iterator[_Span]:
        """Yields the spans of one axis of the picture."""
        multiple, scale = int(facts["multiple_of"]), self._scale
        padded = round_up(max(size, int(facts["min_side"])), multiple)
        step = padded if tile is None else round_up(tile, multiple)
        margin = round_up(int(facts["radius"] or 0), multiple)
        # All windows have one length, so that tiles can share a batch: those at the border have
        # more margin on their inner edge than they need.
        length = max(step + 2 * margin, round_up(int(facts["min_side"]), multiple))
        length = min(padded, length)
        for start in range(0, size, step):
            first = min(max(start - margin, 0), padded - length)
            stop = min(start + step, size)
            yield _Span(
                slice(first, first + length),
                slice((start - first) * scale, (stop - first) * scale),
                slice(start * scale, stop * scale),
            )

    def cut(self, picture: np.ndarray, tile: Tile) -> np.ndarray:
        """Returns the input of a run, `(1, height, width, channels)`, padded by the edge.

        Args:
            picture: array `(height, width, channels)` of any dtype.
            tile: one of `tiles`.
        """
        if picture.shape[:2] != self._shape:
            raise ValueError(f"a picture of {picture.shape[:2]}, not {self._shape}")
        for axis, span in enumerate((tile.rows, tile.columns)):
            if span.stop <= self._shape[axis]:
                picture = picture[span] if axis == 0 else picture[:, span]
            else:
                indices = np.minimum(np.arange(span.start, span.stop), self._shape[axis] - 1)
                picture = picture.take(indices, axis)
        return picture[np.newaxis]

    def inputs(self, picture: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the input of every run, `(1, height, width, channels)`, as it is asked for.

        Args:
            picture: array `(height, width, channels)` of any dtype.
        """
        for tile in self.tiles:
            yield np.ascontiguousarray(self.cut(picture, tile))

    def crop(self, tile: Tile, output: np.ndarray) -> np.ndarray:
        """Returns the part of a run's output that belongs to the answer.

        Args:
            tile: one of `tiles`.
            output: the output, `(1, height, width, channels)`.

        Raises:
            UsageError: an output that is not `scale` times its input.
        """
        wanted = tuple((s.stop - s.start) * self._scale for s in (tile.rows, tile.columns))
        if output.ndim != 4 or output.shape[:3] != (1, *wanted):
            raise UsageError(
                f"The network must return {self._scale} times the height and width of its "
                f"input, (1, {wanted[0]}, {wanted[1]}, channels). "
                f"Received: shape={output.shape}"
            )
        return output[0][tile.crop]

    def assemble(self, outputs: Iterable[np.ndarray]) -> np.ndarray:
        """Returns the answer `(height * scale, width * scale, channels)`, without the padding.

        Args:
            outputs: output of every run, `(1, height, width, channels)`, in the order of `tiles`;
                each is written to its place and not kept.

        Raises:
            UsageError: an output that is not `scale` times its input.
        """
        answer = np.empty((0, 0, 0))
        for tile, output in zip(self.tiles, outputs, strict=True):
            part = self.crop(tile, output)
            if not answer.size:  # the first part names channels and dtype
                answer = np.empty((*self.size, part.shape[-1]), part.dtype)
            answer[tile.place] = part
        return answer


class _Span(NamedTuple):
    """The part of a tile along one axis: input, and where its output is cropped and placed."""

    window: slice
    crop: slice
    place: slice


def round_up(size: int, multiple: int) -> int:
    """Returns the smallest multiple that is at least `size`."""
    return math.ceil(size / multiple) * multiple


def _at_least_1(name: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise UsageError(
            f"`{name}` must be an integer of at least 1. Received: {name}={short_repr(value)}"
        )
    return value


def usual_tile(facts: Mapping[str, Any]) -> int:
    """Returns the height and width of tiles where no size is named, of a network that has tiles."""
    return max(TILE, 2 * int(facts["radius"]))


def choose_tile(facts: Mapping[str, Any], height: int, width: int, tile: Any = AUTO) -> int | None:
    """Returns the size of tiles for a `Plan`, `None` for the whole picture.

    Args:
        facts: `translation` of a manifest.
        height: height of the picture.
        width: width of the picture.
        tile: `"auto"` for tiles of 512 pixels, or twice the network's margin where that is more,
            of pictures of more than 2^20 pixels; an integer of pixels; or `None` for no tiles.

    Raises:
        UsageError: neither of these.
    """
    if tile is None:
        return None
    if isinstance(tile, str) and tile == AUTO:
        if not facts["tileable"] or height * width <= MAX_UNTILED:
            return None
        return usual_tile(facts)
    if type(tile) is not int or tile < 1:
        raise UsageError(
            "`tile` must be 'auto', an integer of at least 1, or None for the whole picture. "
            f"Received: tile={short_repr(tile)}"
        )
    return tile


class Translation:
    """One picture on its way through a network: inputs of the runs, then the answer.

    Args:
        facts: `translation` of the manifest.
        source: the network's input that the facts name.
        target: the network's output that the facts name.
        picture: the picture.
        tile: as for `choose_tile`.
        max_whole: as for `Plan`.

    Attributes:
        plan: the runs.

    Raises:
        UsageError: as for `Plan` and `choose_tile`.
    """

    def __init__(
        self,
        facts: Mapping[str, Any],
        source: Port,
        target: Port,
        picture: uploads.Picture,
        tile: Any = AUTO,
        max_whole: int = MAX_WHOLE,
    ):
        height, width = picture.pixels.shape[:2]
        chosen = choose_tile(facts, height, width, tile)
        self.plan = Plan(facts, height, width, chosen, max_whole)
        self._picture = picture
        self._colors = to_channels(picture.pixels, int(source.shape[-1]))
        self._pixels: np.ndarray | None = None  # the answer, once an output shows its channels
        self._lock = threading.Lock()  # on making it
        self._source, self._target = source, target
        self._scale = int(facts["scale"])
        # A translator such as one from edges to photographs gives color to gray pictures. Only a
        # network that restores pictures says that it keeps the meaning of color.
        self._keeps_gray = picture.gray and facts.get("gray") == KEEP

    def inputs(self) -> Iterator[np.ndarray]:
        """Yields the input of every run in the network's range, `(1, height, width, channels)`."""
        return map(self.input_of, self.plan.tiles)

    def input_of(self, tile: Tile) -> np.ndarray:
        """Returns the input of one run in the network's range, `(1, height, width, channels)`."""
        return self._to_values(self.plan.cut(self._colors, tile))

    def _to_values(self, pixels: np.ndarray) -> np.ndarray:
        return image_kind.from_pixels(pixels, self._source.meta)

    def answer(self, outputs: Iterable[np.ndarray]) -> uploads.Picture:
        """Returns the answered picture, its alpha and notes included.

        Args:
            outputs: output of every run in the network's range, in the order of `inputs`.

        Raises:
            NotFiniteError: an output with NaN or infinity.
        """
        for tile, output in zip(self.plan.tiles, outputs, strict=True):
            self.place(tile, output)
        return self.finish()

    def place(self, tile: Tile, output: np.ndarray) -> None:
        """Writes the output of one run to the answer; runs in any thread and in any order.

        Args:
            tile: one of the tiles of the plan.
            output: the output in the network's range, `(1, height, width, channels)`.

        Raises:
            NotFiniteError: an output with NaN or infinity.
        """
        part = self._to_pixels(self.plan.crop(tile, output))
        with self._lock:
            if self._pixels is None:
                self._pixels = np.empty((*self.plan.size, part.shape[-1]), part.dtype)
        self._pixels[tile.place] = part

    def finish(self) -> uploads.Picture:
        """Returns the answered picture, once every output is in its place."""
        pixels = self._pixels
        if pixels is None:
            raise ValueError("no output is in its place")
        if self._keeps_gray:
            pixels = uploads.mean_of_channels(pixels)
        gray = pixels.shape[-1] == 1
        alpha = self._picture.alpha
        return uploads.Picture(
            np.repeat(pixels, 3, axis=-1) if gray else pixels,
            None if alpha is None else uploads.resize_alpha(alpha, self._scale),
            gray,
            self._picture.notes,
        )

    def _to_pixels(self, values: np.ndarray) -> np.ndarray:
        if not is_finite(values):
            count = int(np.count_nonzero(~np.isfinite(values)))
            raise NotFiniteError(
                f"`{self._target.name}` must be finite numbers in a picture. "
                f"Received: {count} NaN or infinite values of {values.size}"
            )
        return image_kind.pixels(values, self._target.meta)


def to_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Returns RGB pixels with 3 channels, or with 1: the luma of ITU-R BT.601, as Pillow's "L"."""
    if channels == 3:
        return pixels
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).convert("L"))[..., np.newaxis]
