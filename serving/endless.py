"""Endless video: frames of a seed, chunk by chunk, in constant memory.

The normal numbers of a seed are counted, so the noise of frame t is drawn without that of the
frames before it, and a longer video of a seed begins with the shorter one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from serving.checks import check_integer, check_truncation, count_not_finite
from serving.errors import NotFiniteError, UsageError, one_line
from serving.inputs import Input, Inputs, Port
from serving.kinds.video import rate_of
from serving.seeds import check_seeds, normals
from serving.video_rules import MAX_FRAMES, has_frames

FILE_NAME = "stream.onnx"
OUTPUTS = ("samples", "next_state")  # of the graph
_DRAWN = 32  # chunks whose noise is drawn together, as drawing little takes as long
# Runs `stream.onnx`: from its inputs by name to the samples and the next state.
Run = Callable[[dict[str, np.ndarray]], Sequence[np.ndarray]]


class VideoFacts(NamedTuple):
    """Facts about a generator whose videos have any number of frames.

    Args:
        latents: its input of latents.
        classes: its input of classes, `None` without one.
        target: its output.
        content_dim: latents of the content, the first ones.
        start_dim: latents of the first state, the next ones.
        motion_dim: latents of each frame, which follow.
        state: numbers of the state that is carried from chunk to chunk.
        chunk: frames of a run of `stream.onnx`.
    """

    latents: Input
    classes: Input | None
    target: Port
    content_dim: int
    start_dim: int
    motion_dim: int
    state: int
    chunk: int

    @property
    def first(self) -> int:
        """Number of the latents before those of the first frame."""
        return self.content_dim + self.start_dim

    @property
    def frames(self) -> int:
        """Frames of a clip of the whole network."""
        return int(self.target.shape[0])

    @property
    def size(self) -> tuple[int, ...]:
        """Height, width and channels of a frame."""
        return tuple(int(n) for n in self.target.shape[1:])

    @property
    def frame_rate(self) -> float:
        """Frames/s."""
        return rate_of(self.target.meta)

    def describe(self) -> dict[str, Any]:
        """Returns the entry of the model in `/v1/models`."""
        return {
            "frames": self.frames,
            "frame_rate": self.frame_rate,
            "max_frames": MAX_FRAMES,
            "chunk": self.chunk,
        }

    def film(self, seed: int, label: int | None = None, truncation: float = 1.0) -> Film:
        """Returns the video of a seed.

        Args:
            seed: a checked seed.
            label: id of the class; `None` for a generator without classes.
            truncation: factor on all latents.
        """
        row, stream = np.array([seed]), self.latents.stream

        def draw(first: int, size: int) -> np.ndarray:
            drawn = normals(row, size, stream, first)[0]
            return drawn * np.float32(truncation)

        return Film(self, draw, label)

    def film_of(self, latents: np.ndarray, label: Any = None) -> Film:
        """Returns the video of latents that are given, padded with zeros."""

        def draw(first: int, size: int) -> np.ndarray:
            drawn = latents[first : first + size]
            return np.pad(drawn, (0, size - len(drawn)))

        return Film(self, draw, label)


def find_video(
    video: Mapping[str, Any] | None, inputs: Inputs, outputs: Sequence[Port]
) -> VideoFacts:
    """Returns the facts about a generator of endless video.

    Args:
        video: `video` of the manifest, whose rules `serving.video_rules` has checked.
        inputs: inputs of the network.
        outputs: its outputs.
    """
    return VideoFacts(inputs.ports[0], inputs.classes, outputs[0], **(video or {}))


class Film:
    """A video that `stream.onnx` generates chunk by chunk.

    Args:
        facts: the generator.
        draw: returns so many latents from a number on, float32 `(size,)`.
        label: id of the class, `None` for a generator without classes.
    """

    def __init__(
        self, facts: VideoFacts, draw: Callable[[int, int], np.ndarray], label: Any = None
    ):
        self._facts, self._draw = facts, draw
        self._fixed = {"content": draw(0, facts.first)[np.newaxis]}
        if facts.classes is not None:
            self._fixed[facts.classes.name] = np.array([label], facts.classes.dtype)

    def chunks(self, frames: int, run: Run) -> Iterator[np.ndarray]:
        """Yields the frames in parts, float32 `(at most chunk, height, width, channels)`.

        Args:
            frames: number of frames, at least 1.
            run: runs `stream.onnx`.

        Raises:
            NotFiniteError: frames with NaN or infinity.
        """
        facts = self._facts
        state, size = np.zeros((1, facts.state), np.float32), facts.chunk * facts.motion_dim
        drawn = np.empty(0, np.float32)
        for number, start in enumerate(range(0, frames, facts.chunk)):
            row = number % _DRAWN
            if not row:
                first = facts.first + number * size
                drawn = self._draw(first, _DRAWN * size)
                drawn = drawn.reshape(_DRAWN, 1, facts.chunk, facts.motion_dim)
            samples, state = run({**self._fixed, "noise": drawn[row], "state": state})
            part = samples[0, : frames - start]
            if counts := count_not_finite({facts.target.name: part}):
                raise NotFiniteError(
                    f"`{facts.target.name}` must be finite numbers in a video. "
                    f"Received: NaN or infinity from frame {start} on ({counts})"
                )
            yield part


class VideoStream:
    """The graph of the next frames, opened in onnxruntime; threads may share it.

    Args:
        bundle: an opened bundle with `video`.
        threads: threads for one operation; by default onnxruntime chooses.

    Raises:
        UsageError: `stream.onnx` is missing, was changed, or does not load.
    """

    def __init__(self, bundle: Any, threads: int | None = None):
        self.facts: VideoFacts = bundle.video
        self._path = bundle.path
        self._session = bundle.open_other(FILE_NAME, threads, bundle.device)

    def run(self, feeds: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the frames of a chunk, and the next state.

        Raises:
            UsageError: the graph does not run, or returns other shapes.
        """
        facts = self.facts
        try:
            samples, state = self._session.run(list(OUTPUTS), feeds)
        except Exception as error:  # onnxruntime has a class for each failure
            raise UsageError(
                f"{FILE_NAME} must run in onnxruntime. "
                f"Received: {str(self._path)!r} ({one_line(error)})"
            ) from error
        wanted = (1, facts.chunk, *facts.size), (1, facts.state)
        if (samples.shape, state.shape) != wanted:
            raise UsageError(
                f"{FILE_NAME} must return the shapes in the manifest, {wanted}. "
                f"Received: {samples.shape}, {state.shape}"
            )
        return samples, state


def stream_video(
    bundle: Any,
    seed: int,
    frames: int,
    label: Any = None,
    truncation: float = 1.0,
    threads: int | None = None,
) -> Iterator[np.ndarray]:
    """Returns an iterator of the frames of a seed's video, made as they are asked for.

    The memory does not depend on the number of frames, and a longer video begins with the shorter
    one: its first frames are those of `Bundle.generate`.

    Args:
        bundle: an opened `serving.Bundle`.
        seed: from 0 to 2**63 - 1.
        frames: number of frames, from 1 to 1,000,000.
        label: id or name of the class; by default that of the seed.
        truncation: factor on all latents, 0 or more.
        threads: threads for one operation; by default onnxruntime chooses.

    Returns:
        Iterator of float32 arrays `(height, width, channels)` in the range of the output.

    Raises:
        UsageError: a bundle of another network, or an argument that is not allowed.
    """
    film = open_film(bundle, seed, frames, label, truncation)
    stream = VideoStream(bundle, threads)
    return (frame for part in film.chunks(frames, stream.run) for frame in part)


def open_film(
    bundle: Any, seed: Any, frames: Any, label: Any = None, truncation: Any = 1.0
) -> Film:
    """Returns the video of a seed, whose arguments are those of `stream_video`, checked."""
    check_frames(frames, bundle)
    check_truncation(truncation)
    seeds = check_seeds(seed)
    if len(seeds) != 1:
        raise UsageError(f"A video of `frames` has one seed. Received: {len(seeds)} seeds")
    ids = bundle.label_ids(seeds, label)
    return bundle.video.film(int(seeds[0]), None if ids is None else int(ids[0]), truncation)


def check_frames(frames: Any, bundle: Any) -> int:
    """Returns a number of frames that a model can make.

    Args:
        frames: as a user gives it.
        bundle: the opened bundle of the model.

    Raises:
        UsageError: a number out of range, or a model that has no other numbers than its own.
    """
    count = check_integer("frames", frames, 1, MAX_FRAMES)
    if bundle.video is None:
        is_video = has_frames(bundle.kind)
        what = f"makes {bundle.shape[0]} frames" if is_video else "makes no videos"
        raise UsageError(
            "`frames` needs a generator of video with content and motion apart (architecture "
            f"video). Received: frames={count}, model {bundle.name!r}, which {what}"
        )
    return count
