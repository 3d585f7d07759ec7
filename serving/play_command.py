"""`keras-gan play`: a policy in its environment, scored and drawn."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from serving import animations, picture_commands, playing
from serving.acting import require_policy
from serving.bundle import Bundle
from serving.checks import MAX_SEED
from serving.errors import UsageError
from serving.output_files import check_writable, write_file
from serving.playing import Episode
from serving.progress import ProgressLine
from serving.walk_command import MAX_FRAMES, MAX_PIXELS

ABOUT = (
    "Play episodes of an environment of gymnasium with the policy of a bundle, in onnxruntime. "
    "Prints their returns and the time of an action. --out draws the first episode."
)
EXAMPLES = (
    "examples: keras-gan play runs/cartpole; "
    "keras-gan play runs/cartpole --episodes 10 --seed 0 --out play.webp"
)
_SLOWEST = 30.0  # frames/s where the environment names none
_WIDEST = 320  # pixels of a frame, whose larger ones are reduced


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="folder of a bundle of role policy, or of an exported run")
    add("--env", metavar="ID", help="environment of gymnasium (default: that of the bundle)")
    add("--episodes", type=int, default=10, help="number of episodes (default: 10)")
    add("--seed", type=int, default=0, help="seed of the first episode; the next ones count up")
    add(
        "--max-steps",
        type=int,
        default=playing.MAX_STEPS,
        help="steps after which an episode is cut, where the environment does not end it "
        f"(default: {playing.MAX_STEPS})",
    )
    add("--out", metavar="FILE", help="animation of the first episode: .webp, .gif, .apng or .mp4")
    add("--frames", type=int, default=500, help="most frames of the animation (default: 500)")
    add("--frame-rate", type=float, help="frames/s, 1 to 50 (default: that of the environment)")
    add("--no-metadata", action="store_true", help="omit from the file which model acted")


class PlayCommand:
    """A checked command; nothing is played before everything is known to fit.

    Args:
        options: parsed with the options of `add_options`.

    Raises:
        UsageError: a bundle that is not a policy, an environment that does not fit it, or an
            option out of range.
    """

    def __init__(self, options: argparse.Namespace):
        if "://" in options.bundle:
            raise UsageError(
                "play takes a bundle on this machine. A server acts at /v1/act. "
                f"Received: {options.bundle!r:.200}"
            )
        picture_commands.check_positive(options, "episodes", "max_steps", "frames")
        if not 0 <= options.seed <= MAX_SEED - options.episodes:
            raise UsageError(
                "All seeds must be at least 0 and below 2**63. "
                f"Received: --seed {options.seed} --episodes {options.episodes}"
            )
        self._options = options
        self._place()
        self._bundle = Bundle(os.path.expanduser(options.bundle), device="cpu")
        policy = require_policy(self._bundle)
        self._name = options.env or policy.environment.id
        if self._name is None:
            raise UsageError(
                "--env must name the environment, as the bundle names none. "
                f"Received: {options.bundle!r}"
            )
        self._environment = playing.open_environment(
            self._name, policy, has_frames=self._out is not None
        )
        self._frames: list[np.ndarray] = []

    def run(self) -> int:
        """Plays the episodes, prints their returns, and writes the animation; returns 0."""
        try:
            episodes = self._play()
        finally:
            self._environment.close()
        print(self._describe(episodes))
        if self._out is not None:
            print(self._write(self._out, episodes[0]))
        return 0

    def _place(self) -> None:
        """Sets the file of --out and its format, and the frame rate, where there is an --out."""
        options = self._options
        self._out: Path | None = None
        rate = options.frame_rate
        if rate is not None and not 1 <= rate <= animations.MAX_RATE:
            raise UsageError(
                f"--frame-rate must be from 1 to {animations.MAX_RATE:g} frames/s. "
                f"Received: --frame-rate {rate}"
            )
        if options.frames > MAX_FRAMES:
            raise UsageError(
                f"--frames must be at most {MAX_FRAMES}. Received: --frames {options.frames}"
            )
        if options.out is None:
            return
        out = Path(os.path.expanduser(options.out))
        self._format = out.suffix.lower().removeprefix(".")
        if self._format not in animations.FORMATS:
            endings = ", ".join(f".{name}" for name in animations.FORMATS)
            raise UsageError(f"The ending of --out must be one of {endings}. Received: --out {out}")
        animations.find(self._format)
        check_writable(out)
        self._out = out

    def _play(self) -> list[Episode]:
        options, progress = self._options, ProgressLine("episodes")
        found: list[Episode] = []
        try:
            for number in range(options.episodes):
                progress.update(number, options.episodes, number)
                draw = self._draw if self._out is not None and not number else None
                seed = options.seed + number
                found.append(
                    playing.play(
                        self._environment, self._bundle.actor, seed, options.max_steps, draw
                    )
                )
        finally:
            progress.clear()
        return found

    def _draw(self, frame: np.ndarray) -> None:
        """Keeps a frame of the first episode, while there is room for it."""
        frame = _reduced(frame)
        pixels = frame.shape[0] * frame.shape[1]
        if pixels > MAX_PIXELS:
            raise UsageError(
                f"A frame must have at most {MAX_PIXELS} pixels at a width of {_WIDEST}. "
                f"Received: {frame.shape[1]} x {frame.shape[0]} of {self._name!r}"
            )
        if len(self._frames) < min(self._options.frames, MAX_PIXELS // pixels):
            self._frames.append(frame)

    def _describe(self, episodes: list[Episode]) -> str:
        """Returns the line of the returns and of the time."""
        returns = np.array([each.total for each in episodes])
        # Drawing takes the processor's caches from the steps between, so it is left out if it can.
        timed = episodes[1:] if self._out is not None and len(episodes) > 1 else episodes
        acting, stepping = sum(x.acting for x in timed), sum(x.stepping for x in timed)
        steps = sum(each.steps for each in timed)
        cut = sum(not each.is_complete for each in episodes)
        note = f", {cut} cut after {self._options.max_steps} steps" if cut else ""
        plural = "episode" if len(episodes) == 1 else "episodes"
        return (
            f"{self._bundle.name} in {self._name}: {len(episodes)} {plural}{note}, return "
            f"{returns.mean():g} on average, from {returns.min():g} to {returns.max():g}; "
            f"{sum(x.steps for x in episodes)} steps, {steps / (acting + stepping):.0f} steps/s, "
            f"{1e6 * acting / steps:.1f} microseconds for an action"
        )

    def _write(self, out: Path, episode: Episode) -> str:
        """Writes the animation; returns a line that says so."""
        film = np.stack(self._frames)
        rate = self._options.frame_rate or self._own_rate()
        content = animations.encode(film, self._format, rate, self._texts())
        try:
            write_file(out, content)
        except OSError as error:
            raise UsageError(f"The output must be writable. Received: {error}") from error
        height, width = film.shape[1:3]
        part = "" if len(film) > episode.steps else f" of {episode.steps + 1}"
        return (
            f"Wrote {out}: {len(film)} frames{part} of {width} x {height}, "
            f"{len(film) / rate:.3g} s, {len(content) / 1e6:.3g} MB"
        )

    def _own_rate(self) -> float:
        rate: Any = self._environment.metadata.get("render_fps") or _SLOWEST
        return float(min(max(rate, 1.0), animations.MAX_RATE))

    def _texts(self) -> dict[str, str] | None:
        if self._options.no_metadata:
            return None
        from serving.provenance import provenance

        facts: dict[str, object] = {"environment": self._name, "seed": self._options.seed}
        return provenance(self._bundle.name, self._bundle.sha256, **facts)


def _reduced(frame: np.ndarray) -> np.ndarray:
    """Returns a frame of at most `_WIDEST` pixels in width, in its shape."""
    height, width = frame.shape[:2]
    if width <= _WIDEST:
        return frame
    size = (_WIDEST, max(1, round(height * _WIDEST / width)))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX))
