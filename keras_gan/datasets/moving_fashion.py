"""Garments that move and bounce off the edges, made at run time: 32x32 gray videos at 8 Hz.

Every garment keeps its shape and moves by whole pixels, so that its motion is known exactly:

- The content is one of the 10 classes of Fashion-MNIST. An image is halved to 14x14, and what is
  darker than an eighth of white is cut off, so that an edge is reached when the garment is seen to
  touch it (or is one pixel away, as boxes have an even height and width).
- The motion is one of 8 directions at one of 2 speeds, 1 or 2 pixels per frame along each axis on
  which the garment moves: 16 classes. It is the velocity of the first frames.
- At an edge the component of the velocity that points outward changes its sign, and the other one
  stays. A garment reaches an edge exactly on a frame, and never between the first two.

The training videos show the 9,000 training images of `fashion_mnist_10k`, the held-out ones its
1,000 held-out images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_gan.arguments import check_integer
from keras_gan.datasets import bright_object, fashion_mnist_10k
from keras_gan.datasets.source import MEMORY_LIMIT, Source
from keras_gan.datasets.splits import Factor, Split, check_drawn
from keras_gan.errors import UsageError
from keras_gan.spec import Field, Spec, label_field
from serving.checks import short_repr

KIND = "video"
SHAPE = (None, 32, 32, 1)  # of a sample; the option `frames` sets the first size
FRAME_RATE = 8.0  # Hz
CONTENTS = fashion_mnist_10k.CLASS_NAMES
DIRECTIONS = (
    *("right", "down right", "down", "down left"),
    *("left", "up left", "up", "up right"),
)
SPEEDS = (1, 2)  # pixels per frame along an axis
MOTIONS = tuple(f"{name} {pace}" for pace in ("slow", "fast") for name in DIRECTIONS)
# Velocity of each motion in pixels per frame, downward and to the right, `(16, 2)`.
VELOCITIES = np.array(
    [
        (speed * down, speed * right)
        for speed in SPEEDS
        for down, right in ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
    ]
)
LABELS = ("content", "motion")
FOLDER_OPTIONS = ("frames",)
_SIDE, _LARGEST = 32, 14  # pixels of a frame, and of a garment at most


def open(
    *,
    frames: int = 16,
    garments: int = 1,
    labels: str | None = "content",
    count: int = 8_000,
    held_out_count: int = 1_000,
    data_seed: int = 0,
) -> Source:
    """Draws videos of moving garments.

    Images follow successive random permutations, so that every image is used once before any is
    reused; motions and places are uniform. A video of 16 frames takes 16 kB of memory.

    Args:
        frames: frames of a video, at least 2.
        garments: 1 or 2. Two garments of a video are different images of one class; they begin at
            different places with the same velocity, and pass through each other.
        labels: `"content"`, the 10 classes of the garments; `"motion"`, the 16 velocities that
            videos begin with; or `None`.
        count: number of videos to train on.
        held_out_count: number of videos held out.
        data_seed: non-negative integer that fixes the videos (not the order of training).

    Raises:
        UsageError: an option out of range, or more videos than fit in a gigabyte.
    """
    check_drawn(count, held_out_count, data_seed)
    _check(frames, garments, labels, count + held_out_count)
    images = fashion_mnist_10k.open()
    streams = np.random.SeedSequence(data_seed).spawn(2)
    splits = {}
    for split, number, stream in zip(
        ("train", "held_out"), (count, held_out_count), streams, strict=True
    ):
        pictures, classes = images.arrays(split)
        rng = np.random.default_rng(stream)
        videos, content, motion = _draw(
            pictures, np.asarray(classes), number, frames, garments, rng
        )
        factors = {
            "content": Factor(content, CONTENTS, in_frames=True),
            "motion": Factor(motion, MOTIONS),
        }
        ids = None if labels is None else factors[labels].ids
        splits[split] = Split(videos, ids, disjoint=True, factors=factors)
    noun = "a garment that moves" if garments == 1 else "two garments that move"
    description = (
        f"moving-fashion: {count:,} + {held_out_count:,} videos of {noun}, {frames} frames of "
        f"32x32, data_seed={data_seed}"
    )
    return Source(_spec(frames, garments, labels), splits, description)


def _check(frames: int, garments: int, labels: str | None, count: int) -> None:
    """Checks the options of `open`; `count` is that of all videos."""
    check_integer("frames", frames, 2)
    if garments not in (1, 2) or isinstance(garments, bool):
        raise UsageError(f"`garments` must be 1 or 2. Received: garments={garments!r}")
    if labels is not None and labels not in LABELS:
        raise UsageError(
            f"`labels` must be {', '.join(LABELS)} or none. Received: labels={short_repr(labels)}"
        )
    size = count * frames * _SIDE**2
    if size > MEMORY_LIMIT:
        raise UsageError(
            f"The videos must fit in {MEMORY_LIMIT:,} bytes of memory. Received: "
            f"{count:,} of {frames} frames, which take {size:,}"
        )


def folder_source(section: Mapping[str, Any]) -> str:
    """Returns the data set that reads a folder in place of these videos."""
    return "video"


def _spec(frames: int, garments: int, labels: str | None) -> Spec:
    meta = {"value_range": (-1.0, 1.0), "frame_rate": FRAME_RATE, "bouncing_objects": garments}
    fields = {"samples": Field("video", (frames, *SHAPE[1:]), meta=meta)}
    if labels is not None:
        names = {"content": CONTENTS, "motion": MOTIONS}[labels]
        fields["labels"] = label_field(len(names), names)
    return Spec(fields=fields)


# ------------------------------------------------------------------------ drawing


def _draw(
    pictures: np.ndarray,
    classes: np.ndarray,
    count: int,
    frames: int,
    garments: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws videos.

    Args:
        pictures: uint8 images `(images, 28, 28, 1)`.
        classes: their class ids, `(images,)`.
        count: number of videos.
        frames: frames of a video.
        garments: garments in a video.
        rng: source of the random numbers.

    Returns:
        Videos, uint8 `(count, frames, 32, 32, 1)`; content and motion of each, int32 `(count,)`.
    """
    patches, sizes = shrink(pictures)
    orders = [rng.permutation(len(pictures)) for _ in range(-(-count // len(pictures)))]
    chosen = np.concatenate(orders)[:count]
    motion = rng.integers(len(MOTIONS), size=count)
    videos = np.zeros((count, frames, _SIDE, _SIDE, 1), np.uint8)
    for number in range(garments):
        if number:
            chosen = _others(classes, chosen, rng)
        places = places_of(sizes[chosen], VELOCITIES[motion], frames, rng)
        _add(videos, patches[chosen], places)
    return videos, classes[chosen].astype(np.int32), motion.astype(np.int32)


def shrink(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Halves images of garments and moves what is bright to the upper left corner.

    Args:
        pictures: uint8 images `(count, 28, 28, 1)`.

    Returns:
        Patches, uint8 `(count, 14, 14)`, and the height and width of the box that each garment
        takes, even integers `(count, 2)`.
    """
    blocks = pictures.reshape(-1, _LARGEST, 2, _LARGEST, 2)
    small = (blocks.mean(axis=(2, 4), dtype=np.float32) + 0.5).astype(np.uint8)
    small[small < bright_object.DARKEST] = 0
    patches, sizes = np.zeros_like(small), np.empty((len(small), 2), np.int64)
    for row, patch in enumerate(small):
        bright = patch > 0
        (top, bottom), (left, right) = (
            np.flatnonzero(bright.any(axis=axis))[[0, -1]] for axis in (1, 0)
        )
        height, width = bottom + 1 - top, right + 1 - left
        patches[row, :height, :width] = patch[top : bottom + 1, left : right + 1]
        sizes[row] = height + height % 2, width + width % 2
    return patches, sizes


def _others(classes: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns another image of the same class for each chosen image."""
    order = np.argsort(classes, kind="stable")
    starts = np.searchsorted(classes[order], np.arange(len(CONTENTS) + 1))
    first, sizes = starts[classes[chosen]], np.diff(starts)[classes[chosen]]
    place = np.empty(len(classes), np.int64)
    place[order] = np.arange(len(classes))
    steps = rng.integers(1, sizes)
    return order[first + (place[chosen] - first + steps) % sizes]


def places_of(
    sizes: np.ndarray, velocities: np.ndarray, frames: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns the row and the column of the upper left corner in each frame.

    Args:
        sizes: even height and width of each garment, `(count, 2)`.
        velocities: pixels per frame, `(count, 2)`.
        frames: number of frames.
        rng: source of the first places.

    Returns:
        Integers `(count, frames, 2)`.
    """
    room = _SIDE - sizes
    speed = np.maximum(np.abs(velocities), 1)
    # Multiples of the speed, so that an edge is reached on a frame; the first step stays inside.
    least, most = velocities < 0, room // speed - (velocities > 0)
    first = speed * rng.integers(least, most + 1)
    way = first[:, np.newaxis] + velocities[:, np.newaxis] * np.arange(frames)[:, np.newaxis]
    # Reflection at 0 and at `room` is a triangle wave of the straight way.
    folded = way % (2 * room[:, np.newaxis])
    return np.minimum(folded, 2 * room[:, np.newaxis] - folded)


def _add(videos: np.ndarray, patches: np.ndarray, places: np.ndarray) -> None:
    """Draws patches into videos; where two overlap the brighter pixel is seen."""
    axis = np.arange(_LARGEST)
    wide = _SIDE + _LARGEST  # the empty part of a patch may reach beyond the frame
    for frame in range(videos.shape[1]):
        canvas = np.zeros((len(videos), wide, wide), np.uint8)
        down, right = places[:, frame, 0, np.newaxis], places[:, frame, 1, np.newaxis]
        rows, columns = (down + axis)[:, :, np.newaxis], (right + axis)[:, np.newaxis]
        canvas[np.arange(len(videos))[:, np.newaxis, np.newaxis], rows, columns] = patches
        seen = videos[:, frame, :, :, 0]
        np.maximum(seen, canvas[:, :_SIDE, :_SIDE], out=seen)


# ------------------------------------------------------------------------ reading


def track(videos: np.ndarray) -> np.ndarray:
    """Returns the centroid of what is bright in each frame; of two garments, that of both.

    Args:
        videos: uint8, or floating point in [-1, 1], `(count, frames, height, width, channels)`.

    Returns:
        Row and column in pixels, float64 `(count, frames, 2)`; NaN in a frame without anything
        brighter than an eighth of white. In the videos of the data set, the differences from frame
        to frame are those of the garment's place, to 1e-9 pixels.
    """
    return bright_object.find_centroids(bright_object.find_light(videos))


def motions(videos: np.ndarray) -> np.ndarray:
    """Returns the motion that each video begins with, read from its first two frames.

    Args:
        videos: see `track`, with one garment, or two that begin with one velocity.

    Returns:
        Motion nearest to the first displacement, an int64 index of `MOTIONS`, `(count,)`; -1 where
        a frame is dark.
    """
    places = track(np.asarray(videos)[:, :2])
    steps = places[:, 1] - places[:, 0]
    distances = np.square(steps[:, np.newaxis] - VELOCITIES).sum(axis=-1)
    return np.where(np.isnan(steps[:, 0]), -1, distances.argmin(axis=1))
