"""Video: `(frames, height, width, channels)`, values in [-1, 1], with `frame_rate` in Hz.

`bouncing_objects` states that the frames show so many bright objects on a dark background, each of
which moves at a constant velocity and bounces off the edges.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image as Pillow
from PIL import ImageSequence

from serving import animations, pictures
from serving.errors import UsageError
from serving.kinds import image
from serving.kinds._formats import Format, Meta
from serving.kinds._kind import Kind

FRAME_RATE = 8.0  # Hz, where the field names none
_SHOWN = 8  # frames of a video in a preview
_LOOPS, _COLUMNS = 16, 4  # videos of the animation of `loop`, and how many there are in a row


def rate_of(meta: Meta) -> float:
    """Returns the frame rate of a field in Hz; 8 where it names none."""
    return float(meta.get("frame_rate") or FRAME_RATE)


def _writer(form: str):
    def encode(sample: np.ndarray, meta: Meta, texts: Mapping[str, str]) -> bytes:
        frames = pictures.to_uint8(sample, KIND.range_of(meta))
        return animations.encode(frames, form, rate_of(meta), texts)

    return encode


def _reader(form: str):
    def decode(content: bytes, shape: Sequence[int | None], meta: Meta) -> np.ndarray:
        channels = shape[-1] if len(shape) == 4 and shape[-1] in image.MODES else 3
        mode = image.MODES[channels or 3]
        try:
            with Pillow.open(io.BytesIO(content), formats=[form]) as film:
                count = getattr(film, "n_frames", 1)
                if count * film.width * film.height > image.MAX_PIXELS:
                    raise UsageError(
                        f"A video must have at most {image.MAX_PIXELS} pixels. "
                        f"Received: {count} frames of {film.width} x {film.height}"
                    )
                frames = [np.asarray(x.convert(mode)) for x in ImageSequence.Iterator(film)]
        except UsageError:
            raise
        except Exception as error:  # Pillow's readers raise many
            line = image.describe_damage(error, content)
            raise UsageError(
                f"A video must be a readable animated {form} file. Received: {line}"
            ) from None
        array = np.stack(frames)
        return image.from_pixels(array[..., np.newaxis] if array.ndim == 3 else array, meta)

    return decode


class Video(Kind):
    """Videos of a fixed number of frames."""

    axes = ("frames", "height", "width", "channels")
    value_range = (-1.0, 1.0)
    meta = ("frame_rate", "bouncing_objects")
    assumed = {"frame_rate": FRAME_RATE}
    plural = "videos"
    stored = {"uint8": (0.0, 255.0)}
    # Without named features videos are compared by what needs no network.
    metrics = ("feature_sliced_wasserstein", "nearest", "velocity_error", "bounce_accuracy")
    training_metrics = ("sliced_wasserstein", "velocity_error")
    formats = (
        Format("webp", "image/webp", _writer("webp"), _reader("WEBP")),
        Format("gif", "image/gif", _writer("gif"), _reader("GIF")),
        Format("apng", "image/apng", _writer("apng"), _reader("PNG"), ("png",)),
        # It is not read: an upload should not reach the decoders of a large library of codecs.
        Format("mp4", "video/mp4", _writer("mp4"), module="av", extra="video"),
    )

    def check(self, shape: Sequence[int | None], meta: Meta | None = None) -> None:
        super().check(shape, meta)
        if shape[-1] not in image.MODES:
            raise UsageError(
                "Videos must have 1 (gray), 3 (RGB) or 4 (RGBA) channels. "
                f"Received: shape={tuple(shape)}"
            )
        rate = (meta or {}).get("frame_rate")
        if rate is not None and not (type(rate) in (int, float) and 0 < rate <= 1000):
            raise UsageError(
                f"`frame_rate` must be in Hz, above 0 and at most 1000. Received: frame_rate={rate}"
            )
        objects = (meta or {}).get("bouncing_objects")
        if objects is not None and not (type(objects) is int and objects > 0):
            raise UsageError(
                "`bouncing_objects` must be an integer above 0. "
                f"Received: bouncing_objects={objects!r}"
            )

    def from_stored(self, array: np.ndarray, meta: Meta) -> np.ndarray:
        return image.from_pixels(array, meta)

    def sheet(
        self, samples: np.ndarray, meta: Meta | None = None, columns: int | None = None
    ) -> np.ndarray:
        """Draws one video per row, eight of its frames from left to right."""
        frames = samples.shape[1]
        picked = np.linspace(0, frames - 1, min(frames, columns or _SHOWN)).round().astype(int)
        rows = pictures.to_uint8(samples[:, picked], self.range_of(meta))
        return pictures.grid(rows.reshape(-1, *rows.shape[2:]), len(picked))

    def loop(self, samples: np.ndarray, meta: Meta | None = None) -> bytes | None:
        """Encodes up to 16 videos, in rows of 4, as one animated WebP picture."""
        pixels = pictures.to_uint8(samples[:_LOOPS], self.range_of(meta))
        frames = [pictures.grid(frame, _COLUMNS) for frame in np.moveaxis(pixels, 1, 0)]
        return animations.encode(np.stack(frames), "webp", rate_of(meta or {}))


KIND = Video()
