"""Files of video: animated GIF, WebP and PNG by Pillow, other formats by the package av."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_gan.datasets import images
from keras_gan.datasets.folder_files import Wanted
from keras_gan.errors import UsageError, one_line

ANIMATIONS = (".gif", ".webp", ".png", ".apng")
# Formats of FFmpeg.
CONTAINERS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv")
CONTAINERS += (".ogv", ".3gp", ".ts", ".mts")
SUFFIXES = ANIMATIONS + CONTAINERS
_COMPLETE = 0.9  # share of the frames that a header promises, below which a file is truncated
_GIF_PADDING = 4096  # last bytes of a GIF, all but one of which may be zeros
_MODES = {1: "gray", 3: "rgb24", 4: "rgba"}  # pixel formats by channels


class CorruptVideo(images.CorruptImage):
    """Error for a file that is not a whole video, with the reason as its message."""


class MissingReader(UsageError):
    """A format that only the extra `video` reads, which is not installed."""


@dataclasses.dataclass(frozen=True)
class Header:
    """Properties of a video that are read without decoding it.

    Args:
        height: rows of pixels, after a stored rotation is applied.
        width: columns of pixels, likewise.
        frames: number of frames.
        rate: frames per second; `None` if the file states none.
        gray: whether the file stores gray values.
        alpha: whether it has transparent pixels.
    """

    height: int
    width: int
    frames: int
    rate: float | None
    gray: bool = False
    alpha: bool = False


def read_header(file: Path) -> Header:
    """Reads size, color, frame rate and number of frames.

    Raises:
        CorruptVideo: a damaged file, one without frames, or one of far too large frames.
        MissingReader: a format that needs the package av, which is not installed.
    """
    with _errors(file):
        found = _header_of_container(file) if _is_container(file) else _header_of_images(file)
    if not found.frames:
        raise CorruptVideo("it holds no frames")
    if found.height * found.width > images.MAX_PIXELS:
        raise CorruptVideo(f"{found.width}x{found.height} pixels, more than {images.MAX_PIXELS:,}")
    return found


def read(file: Path, stride: int, count: int, size: tuple[int, int], channels: int) -> np.ndarray:
    """Decodes frames 0, `stride`, 2 `stride`, ... of a video.

    Args:
        file: its path.
        stride: distance of the frames that are kept.
        count: number of frames to keep.
        size: height and width. Frames are cropped around their center to this aspect ratio and
            resized with an antialiasing filter.
        channels: 1, 3 or 4. Transparent pixels are composited onto white if it is 1 or 3.

    Returns:
        uint8 array `(count, *size, channels)`.

    Raises:
        CorruptVideo: a damaged file, or one with fewer frames than its header says.
    """
    frames = np.empty((count, *size, channels), np.uint8)
    number = kept = 0
    with _errors(file):
        pictures = _of_container if _is_container(file) else _of_images
        for picture in pictures(file, channels):
            if number % stride == 0:
                frames[kept] = np.asarray(images.resize(picture(), size)).reshape(frames.shape[1:])
                kept += 1
            number += 1
            if kept == count:
                return frames
    raise CorruptVideo(f"it ends after {number} frames")


def is_animated(file: Path) -> bool | None:
    """Returns whether an image has several frames; `None` if Pillow cannot open it."""
    try:
        with images.opened(file) as image:
            return bool(getattr(image, "is_animated", False))
    except images.CorruptImage:
        return None


def _is_video(file: Path) -> bool:
    """Returns whether a file without a known suffix is a video, by its first bytes."""
    try:
        with file.open("rb") as stream:
            head = stream.read(12)
    except OSError:
        return False
    is_avi = head[:4] == b"RIFF" and head[8:12] == b"AVI "
    return is_avi or head[4:8] == b"ftyp" or head.startswith(b"\x1a\x45\xdf\xa3")


WANTED = Wanted("videos", lambda: SUFFIXES, _is_video, "files such as .gif, .webp or .mp4")


def _is_container(file: Path) -> bool:
    return file.suffix.lower() not in ANIMATIONS


@contextlib.contextmanager
def _errors(file: Path) -> Iterator[None]:
    """Turns any error of a reader within the block into a `CorruptVideo`."""
    try:
        if not file.is_file():
            raise CorruptVideo("not a regular file")  # reading a pipe would block
        if os.path.getsize(file) == 0:
            raise CorruptVideo("the file is empty")
        yield
    except (CorruptVideo, MemoryError, UsageError):
        raise
    except Exception as error:  # the readers raise many types on damaged files
        raise CorruptVideo(one_line(error)) from error


# ------------------------------------------------------------------------ animations


def _header_of_images(file: Path) -> Header:
    _check_gif_end(file)
    with images.opened(file) as image:
        count = int(getattr(image, "n_frames", 1))
        gray, alpha = images.is_gray(image), image.has_transparency_data
        image.load()  # WebP states the durations of its frames when they are decoded
        duration = image.info.get("duration") or 0
        rate = 1000 / duration if duration > 0 else None
        return Header(image.height, image.width, count, rate, gray, alpha)


def _check_gif_end(file: Path) -> None:
    """Refuses a GIF without its last byte, since Pillow ignores frames that are cut off."""
    with file.open("rb") as stream:
        if stream.read(4) != b"GIF8":
            return
        stream.seek(max(0, os.path.getsize(file) - _GIF_PADDING))
        if not stream.read().rstrip(b"\0").endswith(b";"):
            raise CorruptVideo("it ends before the end of the GIF")


def _of_images(file: Path, channels: int) -> Iterator[Any]:
    """Yields a function to each frame of an animation."""
    with images.opened(file) as image:
        for number in range(int(getattr(image, "n_frames", 1))):
            image.seek(number)
            yield lambda: images.to_channels(image, channels)


# ------------------------------------------------------------------------ containers


def _header_of_container(file: Path) -> Header:
    with _container(file) as (container, stream):
        context = stream.codec_context
        if context is None:
            raise CorruptVideo("it is truncated, or its codec is not known")
        promised = stream.frames
        rate = float(stream.average_rate) if stream.average_rate else None
        if not promised and rate and container.duration:
            promised = round(container.duration / 1e6 * rate)
        # Packets are counted without decoding: containers of streams do not state a number.
        count = sum(packet.size > 0 for packet in container.demux(stream))
        if count < _COMPLETE * promised - 1:
            raise CorruptVideo(f"it ends after {count} of {promised} frames")
        form = context.format
        names = [part.is_alpha for part in form.components] if form is not None else []
        gray = form is not None and form.name.startswith("gray")
        height, width = context.height, context.width
        if _quarter_turns(stream, file) % 2:
            height, width = width, height
        return Header(height, width, count, rate, gray, any(names))


def _of_container(file: Path, channels: int) -> Iterator[Any]:
    """Yields a function to each frame of a container."""
    with _container(file) as (container, stream):
        for frame in container.decode(stream):
            yield lambda frame=frame: _to_picture(frame, channels)


def _to_picture(frame: Any, channels: int) -> Image.Image:
    has_alpha = any(part.is_alpha for part in frame.format.components)
    pixels = frame.to_ndarray(format=_MODES[4 if has_alpha else channels])
    turned = np.rot90(pixels, round(getattr(frame, "rotation", 0) / 90) % 4)
    return images.to_channels(Image.fromarray(np.ascontiguousarray(turned)), channels)


def _quarter_turns(stream: Any, file: Path) -> int:
    """Returns the number of quarter turns by which the frames of a file are stored rotated."""
    with _container(file) as (container, _):
        frame = next(container.decode(video=0), None)
        return round(getattr(frame, "rotation", 0) / 90) if frame is not None else 0


@contextlib.contextmanager
def _container(file: Path) -> Iterator[tuple[Any, Any]]:
    """Opens a container, and yields it with its first stream of video."""
    av = _av()
    if av is None:
        raise MissingReader(
            "Video of other formats than GIF, WebP and PNG is read by the package av: pip install "
            f"'keras-gan[video]'. Received: {file}"
        )
    with av.open(str(file)) as container:
        if not container.streams.video:
            raise CorruptVideo("it holds no video")
        stream = container.streams.video[0]
        stream.thread_type = "NONE"  # files are read in threads of their own
        yield container, stream


def _av() -> Any:
    """Returns the package av, or `None` if it is not installed."""
    try:
        import av
    except ImportError:
        return None
    return av
