"""Files of pictures that follow each other: animated WebP, GIF and PNG, and MP4."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin

from serving import extras
from serving.errors import UsageError
from serving.provenance import XMP_KEY

Texts = Mapping[str, str]
MAX_RATE = 50.0  # frames/s: browsers play a GIF of shorter delays than 20 ms at 10 frames/s


class AnimationFormat(NamedTuple):
    """File format of an animation.

    Args:
        media_type: Content-Type of a file.
        encode: function from frames, frame rate and texts, as of `encode`, to bytes.
        module: module that `encode` needs beside Pillow.
        extra: extra of this package that installs it.
    """

    media_type: str
    encode: Callable[[np.ndarray, float, Texts], bytes]
    module: str = ""
    extra: str = ""

    @property
    def is_installed(self) -> bool:
        """True if files can be written here."""
        return extras.is_installed(self.module)


def available() -> list[str]:
    """Returns the names of the formats that can be written here, the default first."""
    return [name for name, form in FORMATS.items() if form.is_installed]


def find(form: Any) -> AnimationFormat:
    """Returns a format by its name, which is the ending of its files.

    Raises:
        UsageError: an unknown format, or one whose package is not installed.
    """
    found = FORMATS.get(form) if isinstance(form, str) else None
    if found is None:
        raise UsageError(
            f"The format of an animation must be one of {', '.join(FORMATS)}. "
            f"Received: format={form!r:.80}"
        )
    extras.check(form, found.module, found.extra)
    return found


def encode(frames: np.ndarray, form: str, rate: float, texts: Texts | None = None) -> bytes:
    """Encodes frames as a file that repeats them without end; MP4 leaves that to the player.

    WebP and APNG keep every pixel. GIF has at most 256 colors in a frame. MP4 is H.264 with
    half the resolution of color, and has no transparency.

    Args:
        frames: uint8 array `(frames, height, width, channels)` with 1, 3 or 4 channels.
        form: name of a format.
        rate: frames/s, above 0. Durations are whole milliseconds, of GIF whole hundredths of a
            second; they are rounded so that their sum stays right.
        texts: texts to keep in the file, as `serving.provenance` returns them.

    Raises:
        UsageError: as of `find`.
    """
    return find(form).encode(frames, rate, texts or {})


def _durations(count: int, rate: float, unit: int) -> list[int]:
    """Returns the duration of each frame in ms, a multiple of `unit` of at least 1."""
    ends = np.rint(np.arange(count + 1) * 1000.0 / rate / unit).astype(int)
    return [max(1, int(n)) * unit for n in np.diff(ends)]


def _save(images: list[Image.Image], form: str, rate: float, unit: int = 1, **options) -> bytes:
    buffer = io.BytesIO()
    durations = _durations(len(images), rate, unit)
    # Pillow takes the single duration of a single frame only as a number.
    duration = durations if len(images) > 1 else durations[0]
    images[0].save(
        buffer, form, save_all=True, append_images=images[1:], duration=duration, loop=0, **options
    )
    return buffer.getvalue()


def _images(frames: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x) for x in frames]


def comment(texts: Texts) -> str:
    """Returns the texts as one line, without the XMP packet."""
    return "; ".join(f"{key}={text}" for key, text in texts.items() if key != XMP_KEY)


def _to_webp(frames: np.ndarray, rate: float, texts: Texts) -> bytes:
    xmp: dict[str, Any] = {"xmp": texts[XMP_KEY].encode("utf-8")} if XMP_KEY in texts else {}
    # Methods above 0 take 2 to 30 times as long for files that are a tenth smaller.
    return _save(_images(frames), "WEBP", rate, lossless=True, method=0, exact=True, **xmp)


def _to_gif(frames: np.ndarray, rate: float, texts: Texts) -> bytes:
    images = _images(frames)
    if frames.shape[-1] > 1:
        # Pillow's own choice, the median cut, takes 15 times as long and gains less than 1 dB.
        images = [
            x.quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE) for x in images
        ]
    about: dict[str, Any] = {"comment": comment(texts).encode("utf-8")} if texts else {}
    return _save(images, "GIF", rate, unit=10, **about)


def _to_apng(frames: np.ndarray, rate: float, texts: Texts) -> bytes:
    chunks = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        (chunks.add_itxt if key == XMP_KEY else chunks.add_text)(key, text)
    return _save(_images(frames), "PNG", rate, compress_level=3, pnginfo=chunks)


def _to_mp4(frames: np.ndarray, rate: float, texts: Texts) -> bytes:
    av: Any = importlib.import_module("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        if texts:
            container.metadata["comment"] = comment(texts)
        stream = add_h264(container, frames.shape[1:3], rate)
        for frame in frames:
            container.mux(stream.encode(to_av_frame(frame)))
        container.mux(stream.encode())
    return buffer.getvalue()


def add_h264(
    container: Any, size: tuple[int, ...], rate: float, options: Mapping[str, str] | None = None
) -> Any:
    """Adds a stream of H.264 to a container of the package av.

    Args:
        container: open for writing.
        size: height and width of the frames.
        rate: frames/s.
        options: more options of the encoder.
    """
    fraction, more = Fraction(rate).limit_denominator(1000), {"crf": "18", **(options or {})}
    stream = container.add_stream("libx264", rate=fraction, options=more)
    # 4:2:0 needs an even height and width: the last row and column are repeated.
    stream.height, stream.width = (length + length % 2 for length in size)
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1  # several have written other bytes once
    return stream


def to_av_frame(pixels: np.ndarray) -> Any:
    """Returns a frame of such a stream, of uint8 `(height, width, channels)`."""
    av: Any = importlib.import_module("av")
    height, width, channels = pixels.shape
    padded = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    rgb = np.repeat(padded, 3, axis=-1) if channels == 1 else padded[..., :3]
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")


# The default first.
FORMATS: dict[str, AnimationFormat] = {
    "webp": AnimationFormat("image/webp", _to_webp),
    "gif": AnimationFormat("image/gif", _to_gif),
    "apng": AnimationFormat("image/apng", _to_apng),
    "mp4": AnimationFormat("video/mp4", _to_mp4, module="av", extra="video"),
}
