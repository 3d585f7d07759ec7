"""Files of videos that are written frame by frame, in constant memory.

A writer returns the bytes of the file in their order: `head`, `part` for each chunk of frames, and
`tail`. All formats except WebP, whose header holds the file size, can be streamed.
"""

from __future__ import annotations

import importlib
import io
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import GifImagePlugin, Image

from serving import animations, pictures, png
from serving.errors import UsageError
from serving.provenance import XMP_KEY

Texts = Mapping[str, str]
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class Clip(NamedTuple):
    """Facts about a video that is written.

    Args:
        frames: number of frames.
        size: height, width and channels.
        rate: frames/s, above 0.
        value_range: range of the frames.
        texts: texts to keep in the file, as `serving.provenance` returns them.
    """

    frames: int
    size: tuple[int, ...]
    rate: float
    value_range: tuple[float, float]
    texts: Texts


class Writer:
    """Bytes of a file, part by part.

    Attributes:
        media_type: Content-Type of the file.
        needs_seek: the file is only complete after `sizes` are written into it.

    Args:
        clip: the video.
    """

    media_type = ""
    needs_seek = False

    def __init__(self, clip: Clip):
        self.clip = clip
        self._count = 0

    def head(self) -> bytes:
        """Returns the beginning of the file."""
        return b""

    def part(self, frames: np.ndarray) -> bytes:
        """Returns the bytes of frames, float32 `(frames, height, width, channels)`."""
        pixels = pictures.to_uint8(frames, self.clip.value_range)
        found = [self.frame(x, self._count + i) for i, x in enumerate(pixels)]
        self._count += len(frames)
        return b"".join(found)

    def frame(self, pixels: np.ndarray, number: int) -> bytes:
        """Returns the bytes of a frame, uint8 `(height, width, channels)`."""
        raise NotImplementedError

    def tail(self) -> bytes:
        """Returns the end of the file."""
        return b""

    def sizes(self, total: int) -> tuple[int, bytes]:
        """Returns a place in a file of so many bytes, and the bytes to write there."""
        return 0, b""

    def milliseconds(self, number: int, unit: int = 1) -> int:
        """Returns the duration of a frame, a multiple of `unit` of at least 1.

        Durations are rounded so that their sum stays right.
        """
        ends = [round(n * 1000.0 / self.clip.rate / unit) for n in (number, number + 1)]
        return max(1, ends[1] - ends[0]) * unit


class Npy(Writer):
    """An array of float32, `(frames, height, width, channels)`."""

    media_type = "application/x-npy"

    def head(self) -> bytes:
        buffer = io.BytesIO()
        facts = {"descr": "<f4", "fortran_order": False}
        shape = (self.clip.frames, *self.clip.size)
        np.lib.format.write_array_header_1_0(buffer, {**facts, "shape": shape})
        return buffer.getvalue()

    def part(self, frames: np.ndarray) -> bytes:
        return frames.astype("<f4").tobytes()


class Raw(Writer):
    """Pixels of the frames as bytes, row by row, without any header."""

    media_type = "application/octet-stream"

    def frame(self, pixels: np.ndarray, number: int) -> bytes:
        return pixels.tobytes()


class Apng(Writer):
    """Animated PNG, which keeps every pixel; browsers play it while it arrives."""

    media_type = "image/apng"
    _first = True

    def frame(self, pixels: np.ndarray, number: int) -> bytes:
        chunks = _chunks(png.encode(pixels, self.clip.texts if number == 0 else None))
        data = b"".join(content for name, content in chunks if name == b"IDAT")
        height, width = pixels.shape[:2]
        sequence = max(0, 2 * number - 1)
        delay = (self.milliseconds(number), 1000)
        control = struct.pack(">IIIIIHHBB", sequence, width, height, 0, 0, *delay, 0, 0)
        made = png.chunk(b"fcTL", control)
        if number:
            return made + png.chunk(b"fdAT", struct.pack(">I", sequence + 1) + data)
        first = [png.chunk(*each) for each in chunks if each[0] not in (b"IDAT", b"IEND")]
        first.insert(1, png.chunk(b"acTL", struct.pack(">II", self.clip.frames, 0)))
        return b"".join([b"\x89PNG\r\n\x1a\n", *first, made, png.chunk(b"IDAT", data)])

    def tail(self) -> bytes:
        return png.chunk(b"IEND", b"")


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Returns the names and contents of the chunks of a PNG file."""
    found, at = [], 8
    while at < len(content):
        (size,) = struct.unpack_from(">I", content, at)
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


class Gif(Writer):
    """GIF: at most 256 colors in a frame; browsers play it while it arrives."""

    media_type = "image/gif"

    def head(self) -> bytes:
        height, width, channels = self.clip.size
        gray = np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes()
        screen = struct.pack("<HHBBB", width, height, 0xF7 if channels == 1 else 0x70, 0, 0)
        parts = [b"GIF89a", screen, gray if channels == 1 else b""]
        parts.append(b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")
        if self.clip.texts:
            comment = animations.comment(self.clip.texts).encode("utf-8")
            blocks = [comment[i : i + 255] for i in range(0, len(comment), 255)]
            parts += [b"!\xfe", *(bytes([len(x)]) + x for x in blocks), b"\0"]
        return b"".join(parts)

    def frame(self, pixels: np.ndarray, number: int) -> bytes:
        image, has_colors = _image(pixels), pixels.shape[-1] > 1
        if has_colors:
            image = image.convert("RGBA" if pixels.shape[-1] == 4 else "RGB")
            image = image.quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        options = {"duration": self.milliseconds(number, 10), "include_color_table": has_colors}
        return b"".join(GifImagePlugin.getdata(image, (0, 0), **options))

    def tail(self) -> bytes:
        return b";"


class Webp(Writer):
    """Animated WebP, which keeps every pixel."""

    media_type = "image/webp"
    needs_seek = True

    def head(self) -> bytes:
        height, width, channels = self.clip.size
        flags = 0x02 | (0x10 if channels == 4 else 0) | (0x04 if self._xmp else 0)
        size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
        header = _riff(b"VP8X", bytes([flags, 0, 0, 0]) + size)
        return b"RIFF\0\0\0\0WEBP" + header + _riff(b"ANIM", bytes(6))

    @property
    def _xmp(self) -> bytes:
        return self.clip.texts.get(XMP_KEY, "").encode("utf-8")

    def frame(self, pixels: np.ndarray, number: int) -> bytes:
        buffer = io.BytesIO()
        _image(pixels).save(buffer, "WEBP", lossless=True, method=0, exact=True)
        content, at, data = buffer.getvalue(), 12, b""
        while at < len(content):  # the picture alone, without the header of a still file
            (size,) = struct.unpack_from("<I", content, at + 4)
            end = at + 8 + size + size % 2
            data += content[at:end] if content[at : at + 4] == b"VP8L" else b""
            at = end
        height, width = pixels.shape[:2]
        sizes = (0, 0, width - 1, height - 1, self.milliseconds(number))
        facts = b"".join(struct.pack("<I", n)[:3] for n in sizes)
        return _riff(b"ANMF", facts + b"\x02" + data)  # not blended with the frame before

    def tail(self) -> bytes:
        return _riff(b"XMP ", self._xmp) if self._xmp else b""

    def sizes(self, total: int) -> tuple[int, bytes]:
        if total - 8 >= 2**32:
            raise UsageError(
                f"A WebP file has at most 4 GiB; choose another format. Received: {total} bytes"
            )
        return 4, struct.pack("<I", total - 8)


def _riff(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


class Mp4(Writer):
    """H.264 in fragments, which players play while it arrives; half the resolution of color."""

    media_type = "video/mp4"

    def __init__(self, clip: Clip):
        super().__init__(clip)
        av: Any = importlib.import_module("av")
        self._pipe = _Pipe()
        flags = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
        self._container = av.open(self._pipe, "w", format="mp4", options=flags)
        if clip.texts:
            self._container.metadata["comment"] = animations.comment(clip.texts)
        height, width, _ = clip.size
        options = {"g": str(max(1, round(clip.rate))), "tune": "zerolatency"}
        self._stream = animations.add_h264(self._container, (height, width), clip.rate, options)

    def frame(self, pixels: np.ndarray, number: int) -> bytes:
        self._container.mux(self._stream.encode(animations.to_av_frame(pixels)))
        return self._pipe.take()

    def tail(self) -> bytes:
        self._container.mux(self._stream.encode())
        self._container.close()
        return self._pipe.take()


class _Pipe(io.RawIOBase):
    """A file that can only be written to, from which what was written is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._parts.append(bytes(content))
        return len(content)

    def take(self) -> bytes:
        content, self._parts = b"".join(self._parts), []
        return content


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


WRITERS: dict[str, type[Writer]] = {
    "webp": Webp,
    "gif": Gif,
    "apng": Apng,
    "mp4": Mp4,
    "npy": Npy,
    "raw": Raw,
}


def available(streamed: bool = False) -> list[str]:
    """Returns the names of the formats that can be written here.

    Args:
        streamed: only those that can be sent while they are made.
    """
    names = [n for n in WRITERS if n not in animations.FORMATS or n in animations.available()]
    return [n for n in names if not (streamed and WRITERS[n].needs_seek)]


def writer(form: str, clip: Clip) -> Writer:
    """Returns the writer of a format, which is one of `available`.

    Raises:
        UsageError: an unknown format, or one whose package is not installed.
    """
    if form not in WRITERS:
        raise UsageError(
            f"The format of a video must be one of {', '.join(WRITERS)}. Received: format={form!r}"
        )
    if form in animations.FORMATS:
        animations.find(form)
    return WRITERS[form](clip)


def encode(form: str, clip: Clip, parts: Sequence[np.ndarray]) -> bytes:
    """Returns a whole file of frames in parts."""
    made = writer(form, clip)
    content = b"".join([made.head(), *map(made.part, parts), made.tail()])
    at, sizes = made.sizes(len(content))
    return content[:at] + sizes + content[at + len(sizes) :]
