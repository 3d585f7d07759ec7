"""Vocoders: a sound or a log-mel spectrogram of any length to sound, whole or chunk by chunk.

A chunk of frames is computed from these and `context` more on each end, clipped to the clip, so
that chunks together equal the whole. Nothing is padded where the clip ends: there the network pads
a chunk as it pads the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from serving import kinds
from serving.checks import is_finite
from serving.errors import NotFiniteError, UsageError, short_repr
from serving.inputs import Input, Inputs, Port
from serving.mel import Mel

ROLE = "vocoder"
MAX_FRAMES = 1024  # of one run, of a network with a finite context
CHUNK_SECONDS = 0.2  # of a chunk of a stream, by default


class Vocoder(NamedTuple):
    """Facts about a network that turns log-mel spectrograms into sound.

    Args:
        source: its input.
        target: its output.
        mel: definition of the spectrograms.
        context: frames before and after a chunk on which its samples depend; `None` for a network
            whose every sample depends on the whole spectrogram.
    """

    source: Input
    target: Port
    mel: Mel
    context: int | None

    @property
    def sample_rate(self) -> int:
        """Sampling rate of the sound in Hz."""
        return self.mel.sample_rate

    @property
    def chunk(self) -> int:
        """Frames of a chunk of a stream by default."""
        return max(1, round(CHUNK_SECONDS * self.sample_rate / self.mel.hop))

    def seconds(self, frames: int) -> float:
        """Returns the length of a number of frames."""
        return frames * self.mel.hop / self.sample_rate

    def describe(self) -> dict[str, Any]:
        """Returns the entry of the model in `/v1/models`."""
        return {
            "input": self.source.name,
            "output": self.target.name,
            "sample_rate": self.sample_rate,
            "mel": self.mel.to_meta(),
            "context": self.context,
            "chunk": self.chunk,
        }


def find_vocoder(
    role: str, inputs: Inputs, outputs: Sequence[Port], audio: Mapping[str, Any]
) -> Vocoder | None:
    """Returns the facts about a vocoder, `None` for another network.

    Args:
        role: role of the network.
        inputs: its inputs.
        outputs: its outputs.
        audio: `audio` of the manifest, whose rules `serving.port_rules` has checked.
    """
    if role != ROLE or len(inputs.ports) != 1:
        return None
    source = inputs.ports[0]
    return Vocoder(source, outputs[0], Mel.from_meta(source.meta["mel"]), audio["context"])


def describe_missing(bundle: Any) -> UsageError:
    """Returns the error for a bundle that is not a vocoder."""
    return UsageError(
        "A vocoder has the role 'vocoder', and a spectrogram of any length as its only input. "
        f"Received: bundle {bundle.name!r} of role {bundle.role!r}, with the inputs "
        f"{', '.join(bundle.inputs.by_name)}"
    )


class Chunk(NamedTuple):
    """One run of the network.

    Args:
        window: frames of its input.
        crop: samples of its output that belong to the answer.
        place: samples of the answer that they fill.
    """

    window: slice
    crop: slice
    place: slice


def chunks_of(
    count: int, step: int, context: int, hop: int, length: int | None = None
) -> Iterator[Chunk]:
    """Yields the chunks of a spectrogram in their order.

    Args:
        count: frames of the spectrogram.
        step: frames of a chunk without its context, at least 1.
        context: frames before and after a chunk on which its samples depend.
        hop: samples of a frame.
        length: samples of the answer; by default those of all frames.
    """
    length = count * hop if length is None else length
    for first in range(0, count, step):
        last, start = min(first + step, count), max(0, first - context)
        window = slice(start, min(count, last + context))
        place = slice(first * hop, min(last * hop, length))
        yield Chunk(window, slice((first - start) * hop, place.stop - start * hop), place)


class Clip:
    """A sound on its way through a vocoder: inputs of the runs, then their part of the answer.

    Args:
        vocoder: the network.
        samples: float `(time,)` at the vocoder's sampling rate, at least one; or
        mel: spectrogram `(frames, mels)` in its place, at least one frame.

    Attributes:
        frames: number of frames.
        length: number of samples of the answer: those of the sound, or all of the frames'.
    """

    def __init__(
        self,
        vocoder: Vocoder,
        samples: np.ndarray | None = None,
        mel: np.ndarray | None = None,
    ):
        self.vocoder = vocoder
        self._samples, self._mel = samples, mel
        hop = vocoder.mel.hop
        if mel is not None:
            self.frames, self.length = len(mel), len(mel) * hop
        elif samples is not None:
            self.frames, self.length = vocoder.mel.frames(len(samples)), len(samples)
        else:
            raise ValueError("a clip has samples or a spectrogram")

    def chunks(self, frames: int | None = MAX_FRAMES) -> Iterator[Chunk]:
        """Returns the runs in their order.

        Args:
            frames: frames of each without its context, at least 1; `None` for one run. A network
                without a finite context has one.
        """
        context, hop = self.vocoder.context, self.vocoder.mel.hop
        step = self.frames if frames is None or context is None else frames
        return chunks_of(self.frames, step, context or 0, hop, self.length)

    def input_of(self, chunk: Chunk) -> np.ndarray:
        """Returns the input of a run, float32 `(1, frames, mels)`."""
        mel = self._spectrogram(chunk.window) if self._mel is None else self._mel[chunk.window]
        return np.ascontiguousarray(mel[np.newaxis], np.float32)

    def _spectrogram(self, window: slice) -> np.ndarray:
        """Returns frames of the spectrogram of the whole sound, from the samples around them."""
        if self._samples is None:
            raise ValueError("a clip has samples or a spectrogram")
        return self.vocoder.mel.part(self._samples, window.start, window.stop)

    def part_of(self, chunk: Chunk, output: np.ndarray) -> np.ndarray:
        """Returns the part of a run's output that belongs to the answer, `(time,)` in [-1, 1].

        Args:
            chunk: the run.
            output: the output, `(1, time, 1)`.

        Raises:
            UsageError: an output that is not `hop` times as long as its input.
            NotFiniteError: an output with NaN or infinity.
        """
        target = self.vocoder.target
        wanted = (1, (chunk.window.stop - chunk.window.start) * self.vocoder.mel.hop, 1)
        if output.shape != wanted:
            raise UsageError(
                f"The network must return {self.vocoder.mel.hop} samples for each frame of its "
                f"input, {wanted}. Received: shape={output.shape}"
            )
        low, high = kinds.get(target.kind).range_of(target.meta)
        part = output[0, chunk.crop, 0]
        if (low, high) != (-1.0, 1.0):
            part = (part - low) / (high - low) * 2.0 - 1.0
        if not is_finite(part):
            count = int(np.count_nonzero(~np.isfinite(part)))
            raise NotFiniteError(
                f"`{target.name}` must be finite numbers in a sound. "
                f"Received: {count} NaN or infinite values of {part.size}"
            )
        return part


def check_chunk(vocoder: Vocoder, chunk: Any) -> int:
    """Returns the frames of a chunk of a stream.

    Args:
        vocoder: the network.
        chunk: an integer from 1 to 1024, or `None` for 0.2 s.

    Raises:
        UsageError: another value, or a network that depends on the whole spectrogram.
    """
    if vocoder.context is None:
        raise UsageError(
            "This network cannot be streamed, because every sample of its answer depends on the "
            f"whole spectrogram. Received: chunk={short_repr(chunk)}"
        )
    if chunk is None:
        return vocoder.chunk
    if type(chunk) is not int or not 0 < chunk <= MAX_FRAMES:
        raise UsageError(
            f"`chunk` must be an integer from 1 to {MAX_FRAMES} frames. "
            f"Received: chunk={short_repr(chunk)}"
        )
    return chunk
