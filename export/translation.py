"""Measured facts of a network that translates pictures of any height and width.

`serving.translation` pads, tiles and assembles pictures by these facts. They are measured on the
network itself, whatever its architecture, and tiles are compared with whole pictures before a
network is called tileable.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from export.draws import fill_inputs
from export.network import Network
from export.sizes import Sizes
from export.variables import positive_weights, preserved_state
from serving import kinds
from serving.inputs import Input, Port
from serving.translation import KEEP, Plan, round_up

CHANNELS = {1: "L", 3: "RGB"}
ROLES = ("translator", "restoration")
_MULTIPLES = tuple(2**i for i in range(9))
_BASES = (32, 128)  # least height and width at which multiples are tried
_MAX_LEAST = 512  # of `min_side`
_LONGEST = 2048  # pixels, or 8 multiples, along which an effect is followed
_MAX_PHASES = 64
_CHUNK = 2**18  # pixels of one batch of probes
_CHANGED = 1e-4  # relative; rounding differs between batches
_EXACT = 1e-4  # of the range of the output, within which tiles equal the whole picture


def measure_translation(network: Network) -> dict[str, Any] | None:
    """Returns `translation` of a manifest; `None` for a network that does not translate pictures.

    | fact | meaning |
    |---|---|
    | `input`, `output` | names of the picture and of its answer |
    | `scale` | height and width of the answer, over those of the picture |
    | `multiple_of` | the network takes heights and widths that are multiples of this |
    | `min_side` | smallest height and width that it takes |
    | `radius` | largest distance in input pixels at which a pixel has an effect |
    | `tileable` | tiles with a margin of `radius` equal the whole picture |
    | `input_channels`, `output_channels` | `"RGB"` or `"L"`: order of the channels |
    | `gray` | `"keep"` where gray pictures have gray answers; absent otherwise |

    `gray` is `"keep"` for a network that keeps the meaning of color: with as many channels in its
    answer as in its picture, and either a `scale` above 1 or the role `restoration`. Any other
    network may give color to a gray picture, such as a drawing.

    Args:
        network: a network of a role of `ROLES`, with one given picture of 1 or 3 channels and free
            height and width, and a picture as its first output.
    """
    run = _Runner.of(network)
    if run is None:
        return None
    with preserved_state(network.model):
        found = _find_multiple(run)
        least = None if found is None else _find_least(run, *found)
        if found is None or least is None:
            return None
        multiple, scale = found
        grid = _Grid(multiple, scale, least)
        radius = None if run.has_sized_inputs else _find_radius(run, grid)
        facts: dict[str, Any] = {
            "input": run.source.name,
            "output": run.target.name,
            "scale": scale,
            "multiple_of": multiple,
            "min_side": least,
            "radius": radius,
            "tileable": radius is not None,
            "input_channels": CHANNELS[int(run.source.shape[-1])],
            "output_channels": CHANNELS[int(run.target.shape[-1])],
        }
        if radius is not None and not _tiles_are_exact(run, facts):
            facts |= {"radius": None, "tileable": False}
    same_channels = run.source.shape[-1] == run.target.shape[-1]
    if same_channels and (scale > 1 or network.role == "restoration"):
        facts["gray"] = KEEP
    return facts


def picture_sizes(network: Network, facts: dict[str, Any]) -> tuple[Sizes, ...]:
    """Returns sizes at which a translator is compared with Keras, beside those of any network.

    They are the smallest, an uneven one, and a wide one.
    """
    source = next(port for port in network.inputs if port.name == facts["input"])
    target, multiple, least = network.outputs[0], facts["multiple_of"], facts["min_side"]
    height, width = (round_up(max(n, least), multiple) for n in (17, 23))
    pictures = [(least, least), (height, width + (width == height) * multiple)]
    height, width = (round_up(max(n, least), multiple) for n in (50, 33))
    pictures.append((height + (width == height) * multiple, width))
    found = []
    for picture in pictures:
        sizes: Sizes = {}
        for axis, size in enumerate(picture):
            for port, factor in ((source, 1), (target, facts["scale"])):
                name = port.shape[axis]
                if isinstance(name, str) and sizes.setdefault(name, size * factor) != size * factor:
                    return ()  # one name for both axes, which these sizes do not fit
        if sizes not in (*network.sizes, *found):
            found.append(sizes)
    named = {n for p in (*network.inputs, *network.outputs) for n in p.shape if isinstance(n, str)}
    return tuple(found) if all(x.keys() == named for x in found) else ()


class _Grid(NamedTuple):
    """Sizes that a network takes: `multiple_of`, `scale` and `min_side`."""

    multiple: int
    scale: int
    least: int


class _Runner:
    """A network as a function from pictures to pictures.

    Args:
        network: the network.
        source: its picture.
        target: its answer.
    """

    def __init__(self, network: Network, source: Input, target: Port):
        self.network, self.source, self.target = network, source, target
        others = [port for port in network.inputs if port is not source]
        # Noise of the picture's own size differs between a tile and the whole picture.
        self.has_sized_inputs = any(port.is_dynamic for port in others)

    @classmethod
    def of(cls, network: Network) -> _Runner | None:
        """Returns the function of a network; `None` if it does not translate pictures."""
        given = [port for port in network.inputs if port.fill == "given"]
        if network.role not in ROLES or len(given) != 1:
            return None
        source, target = given[0], network.outputs[0]
        fits = _is_picture(source) and _is_picture(target) and source.dtype == target.dtype
        free = all(isinstance(size, str) for size in (*source.shape[:2], *target.shape[:2]))
        return cls(network, source, target) if fits and free else None

    def __call__(self, pictures: np.ndarray) -> np.ndarray | None:
        """Returns the answers; `None` where the network fails on pictures of this size."""
        given = {self.source.name: pictures.astype(self.source.dtype)}
        seeds = tf.zeros(len(pictures), tf.int64)
        try:
            values = fill_inputs(self.network.inputs, given, seeds)
            with tf.device("/CPU:0"):
                return self.network.run(values)[self.target.name].numpy()
        except Exception:  # layers raise a class for each failure
            return None

    def scale(self, height: int, width: int) -> int | None:
        """Returns the scale at a size; `None` where the network fails or has none."""
        answer = self(self.example(1, height, width))
        if answer is None or not np.isfinite(answer).all():
            return None
        scale = answer.shape[1] // height
        exact = answer.shape[1:3] == (height * scale, width * scale)
        return scale if exact and scale >= 1 else None

    def example(self, count: int, height: int, width: int) -> np.ndarray:
        """Returns random pictures in the range of the input."""
        low, high = self.source.meta.get("value_range") or (-1.0, 1.0)
        rng = np.random.default_rng(0)
        shape = (count, height, width, int(self.source.shape[-1]))
        return rng.uniform(low, high, shape).astype(np.float32)


def _is_picture(port: Port) -> bool:
    kind = kinds.get(port.kind)
    is_image = kind.has_pixels and len(kind.axes) == len(port.shape) == 3
    return is_image and port.shape[-1] in (1, 3) and port.dtype == "float32"


# ------------------------------------------------------------------------ sizes


def _find_multiple(run: _Runner) -> tuple[int, int] | None:
    """Returns `multiple_of` and `scale`; `None` if none fits."""
    for base in _BASES:
        for multiple in _MULTIPLES:
            # Odd numbers of multiples: another power of two must not divide the sizes.
            count = math.ceil(base / multiple) | 1
            short, long = count * multiple, (count + 2) * multiple
            scales = {run.scale(short, long), run.scale(long, short)}
            if len(scales) == 1 and (scale := scales.pop()) is not None:
                return multiple, scale
    return None


def _find_least(run: _Runner, multiple: int, scale: int) -> int | None:
    """Returns `min_side`, a multiple of `multiple_of`; `None` if there is none up to 512."""
    large = round_up(64, multiple)
    for size in range(multiple, max(_MAX_LEAST, multiple) + 1, multiple):
        sizes = ((size, size), (size, large), (large, size))
        if all(run.scale(*each) == scale for each in sizes):
            return size
    return None


# ------------------------------------------------------------------------ radius


def _find_radius(run: _Runner, grid: _Grid) -> int | None:
    """Returns the largest distance at which a pixel has an effect; `None` if it has no bound.

    NaN passes through every sum, zero weights included. Maxima drop it, so infinity is followed as
    well, through random positive weights that cannot cancel it.
    """
    multiple = grid.multiple
    # All phases of a multiple, or those next to one: tiles round their margin up to a multiple.
    phases = [p for p in range(multiple) if min(p, multiple - 1 - p) < _MAX_PHASES // 2]
    found = _follow(run, np.nan, phases, grid, max(64, 4 * multiple))
    if found is None:
        return None
    radius, length = found
    with positive_weights(run.network.model):
        large = round_up(64, multiple)
        if run.scale(large, large) is None:  # not finite with these weights
            return radius
        found = _follow(run, np.inf, sorted({0, multiple - 1}), grid, length)
    return None if found is None else max(radius, found[0])


def _follow(
    run: _Runner, value: float, phases: list[int], grid: _Grid, length: int
) -> tuple[int, int] | None:
    """Follows the effect of a pixel of this value along both axes.

    The picture is long along an axis and narrow across it.

    Args:
        run: the network.
        value: NaN or infinity.
        phases: distances of the pixels from a multiple of `multiple_of`.
        grid: its sizes.
        length: length to begin with; it is doubled until the effect ends before the border.

    Returns:
        The largest distance of a change and the length; `None` if every length is too short.
    """
    across = round_up(max(grid.least, 16), grid.multiple)
    radius = 0
    for axis in (1, 2):
        while (reach := _reach(run, value, axis, (length, across), phases, grid)) is None:
            length *= 2
            if length > max(_LONGEST, 8 * grid.multiple):
                return None
        radius = max(radius, reach)
    return radius, length


def _reach(
    run: _Runner, value: float, axis: int, size: tuple[int, int], phases: list[int], grid: _Grid
) -> int | None:
    """Returns the largest distance of a change from its pixel; `None` if one is at the border."""
    length, across = size
    shape = (length, across) if axis == 1 else (across, length)
    picture = run.example(1, *shape)
    center, found = length // 2 // grid.multiple * grid.multiple, 0
    for chunk in _chunks(phases, max(1, _CHUNK // (length * across))):
        pictures = np.repeat(picture, 1 + len(chunk), axis=0)  # the first one has no such pixel
        for number, phase in enumerate(chunk):
            place = center + phase
            pixel = (place, across // 2) if axis == 1 else (across // 2, place)
            pictures[number + 1][pixel] = value
        answer = run(pictures)
        if answer is None or not np.isfinite(answer[0]).all():
            return None
        with np.errstate(invalid="ignore"):
            same = np.abs(answer[1:] - answer[0]) <= _CHANGED * (1 + np.abs(answer[0]))
        changed = np.array(~same.all(axis=(3 - axis, 3)))  # NaN is not the same
        if changed[:, [0, -1]].any():
            return None
        for number, phase in enumerate(chunk):
            for at in np.flatnonzero(changed[number]) // grid.scale:
                found = max(found, abs(int(at) - center - phase))
    return found


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _tiles_are_exact(run: _Runner, facts: dict[str, Any]) -> bool:
    """Compares tiles with whole pictures, long ones and wide ones.

    A network may pass all probes and still have other answers for a tile, for example if it adds
    the position in the picture.
    """
    multiple = facts["multiple_of"]
    margin = round_up(facts["radius"], multiple)
    tile = round_up(max(16, margin // 2), multiple)
    length, across = 2 * margin + 3 * tile - 1, max(16, facts["min_side"])
    for height, width in ((length, across), (across, length)):
        picture = run.example(1, height, width)[0]
        answers = []
        for size in (None, tile):
            plan = Plan(facts, height, width, size)
            outputs = run(np.concatenate(list(plan.inputs(picture))))  # tiles have one shape
            if outputs is None:
                return False
            answers.append(plan.assemble(outputs[:, np.newaxis]))
        whole, tiled = answers
        if np.abs(whole - tiled).max() > _EXACT * max(float(np.ptp(whole)), 1e-6):
            return False
    return True
