"""File formats that TensorFlow writes inside a SavedModel, by the name of the format.

The first format of a kind decides: where it is listed in `ENCODERS`, a SavedModel has the signature
`generate_NAME`, such as `generate_png`, with the output `NAME_bytes`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from export.png_chunks import add_chunks
from serving import kinds
from serving.inputs import Port
from serving.kinds.audio import rate_of


@dataclasses.dataclass(frozen=True)
class Origin:
    """Origin of the samples in a file.

    Args:
        chunks: content that all files of a model share, empty for none.
        numbers: int64 `(batch,)` by keyword, such as `Seed`.
    """

    chunks: bytes = b""
    numbers: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A file format in TensorFlow.

    Args:
        name: name of the format.
        encode: function from samples `(batch, ...)`, their port and their origin to strings
            `(batch,)`.
        matches: returns whether decoded files, as `export/without_keras.py` decodes them, are
            those of samples, up to rounding.
        tasks: name of the task for model hubs, by the role of the network.
    """

    name: str
    encode: Callable[[tf.Tensor, Port, Origin], tf.Tensor]
    matches: Callable[[np.ndarray, np.ndarray, Port], bool]
    tasks: Mapping[str, str]

    @property
    def signature(self) -> str:
        """Name of the signature."""
        return f"generate_{self.name}"

    @property
    def output(self) -> str:
        """Name of its output; TF Serving's REST API sends outputs that end in _bytes as base64."""
        return f"{self.name}_bytes"


def encoder_of(port: Port) -> Encoder | None:
    """Returns the encoder of the first format of a port's kind, `None` if TensorFlow has none."""
    first = next(iter(kinds.get(port.kind).all_formats()))
    return ENCODERS.get(first)


def _unit(samples: Any, port: Port) -> Any:
    """Maps the range of the values to [0, 1]."""
    low, high = kinds.get(port.kind).range_of(port.meta)
    return (samples - low) / (high - low)


def _encode_png(samples: tf.Tensor, port: Port, origin: Origin) -> tf.Tensor:
    pixels = tf.round(_unit(samples, port) * 255.0)
    pixels = tf.cast(tf.clip_by_value(pixels, 0.0, 255.0), tf.uint8)
    png = tf.map_fn(tf.io.encode_png, pixels, fn_output_signature=tf.TensorSpec((), tf.string))
    return add_chunks(png, origin.chunks, dict(origin.numbers)) if origin.chunks else png


def _is_png(images: np.ndarray, samples: np.ndarray, port: Port) -> bool:
    expected = np.clip(np.rint(_unit(samples, port) * 255.0), 0, 255)
    # The smallest difference can move a value across a rounding boundary, by one step.
    return images.shape == expected.shape and bool(np.abs(images - expected).max() <= 1)


def _encode_wav(samples: tf.Tensor, port: Port, origin: Origin) -> tf.Tensor:
    waves = tf.clip_by_value(_unit(samples, port) * 2.0 - 1.0, -1.0, 1.0)
    rate = rate_of(port.meta)
    return tf.map_fn(
        lambda wave: tf.audio.encode_wav(wave, rate),
        waves,
        fn_output_signature=tf.TensorSpec((), tf.string),
    )


def _is_wav(waves: np.ndarray, samples: np.ndarray, port: Port) -> bool:
    expected = np.clip(_unit(samples, port) * 2.0 - 1.0, -1.0, 1.0)
    # One step of 16 bits by rounding, and one because 1 is not a value of 16 bits.
    return waves.shape == expected.shape and bool(np.abs(waves - expected).max() <= 2.1 / 2**15)


ENCODERS = {
    "png": Encoder(
        "png",
        _encode_png,
        _is_png,
        {
            "generator": "unconditional-image-generation",
            "translator": "image-to-image",
            "restoration": "image-to-image",
        },
    ),
    "wav": Encoder("wav", _encode_wav, _is_wav, {"translator": "audio-to-audio"}),
}
