"""Methods of a bundle that makes sounds of spectrograms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from serving.vocoding import Clip, Vocoder


class SoundInterface:
    """Base class of `Bundle`, which defines `run`.

    Attributes:
        vocoder: facts about a network that `vocode` can use, `None` for another one.
    """

    vocoder: Vocoder | None = None

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the model on all of its inputs, and returns all outputs by name."""
        raise NotImplementedError

    def vocode(self, sound: Any, sample_rate: int | None = None) -> np.ndarray:
        """Returns the sound that a vocoder makes of a spectrogram, or of that of a sound.

        Args:
            sound: the path of a WAV file, or of a spectrogram as .npy; floats `(time,)` or `(time,
                channels)` in [-1, 1], whose channels are mixed to one; or a spectrogram `(frames,
                mels)` of natural logarithms as `vocoder.mel` defines it.
            sample_rate: sampling rate of an array of samples in Hz, by default the network's.
                Another one is resampled, as that of a file is.

        Returns:
            float32 `(time,)` in [-1, 1] at the sampling rate of the network, with no delay: as long
            as the sound, or `hop` samples for each frame.

        Raises:
            UsageError: a bundle that is not a vocoder, or a sound that cannot be read or has
                another form.
        """
        from serving.sound_forms import open_clip
        from serving.vocoding import MAX_FRAMES

        clip = open_clip(sound, sample_rate, self.require_vocoder())
        answer = np.empty(clip.length, np.float32)
        at = 0
        for part in self.vocode_clip(clip, MAX_FRAMES):
            answer[at : at + len(part)] = part
            at += len(part)
        return answer

    def vocode_chunks(
        self, sound: Any, chunk: int | None = None, sample_rate: int | None = None
    ) -> Iterator[np.ndarray]:
        """Returns an iterator of the parts of `vocode`'s answer, each computed as it is asked for.

        The parts together equal the whole, because a chunk is computed with the frames around it on
        which it depends.

        Args:
            sound: as for `vocode`; so is `sample_rate`.
            chunk: frames of a part, from 1 to 1024; by default 0.2 s.
            sample_rate: as for `vocode`.

        Raises:
            UsageError: as for `vocode`; a `chunk` that is not allowed, or a network whose samples
                depend on the whole spectrogram.
        """
        from serving.sound_forms import open_clip
        from serving.vocoding import check_chunk

        found = self.require_vocoder()
        frames = check_chunk(found, chunk)
        return self.vocode_clip(open_clip(sound, sample_rate, found), frames)

    def vocode_clip(self, clip: Clip, frames: int) -> Iterator[np.ndarray]:
        """Yields the sound of a clip in parts of so many frames, float32 `(time,)`."""
        found = self.require_vocoder()
        for chunk in clip.chunks(frames):
            outputs = self.run({found.source.name: clip.input_of(chunk)})
            yield clip.part_of(chunk, outputs[found.target.name])

    def require_vocoder(self) -> Vocoder:
        """Returns `vocoder`.

        Raises:
            UsageError: a bundle that is not a vocoder.
        """
        if self.vocoder is None:
            from serving.vocoding import describe_missing

            raise describe_missing(self)
        return self.vocoder
