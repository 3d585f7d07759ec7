"""`keras-gan walk`: a looped animation from seed to seed."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from serving import animations, interpolation, kinds
from serving.checks import MAX_SEED, check_batch_size, check_samples
from serving.errors import NotFiniteWarning, UsageError
from serving.given_files import GivenInputs, find_files
from serving.inputs import draw, resolve
from serving.kinds import Kind
from serving.labels import TextLabel
from serving.lists import parse_labels, parse_list
from serving.output_files import check_writable, write_file
from serving.progress import ProgressLine

MAX_FRAMES = 10_000
MAX_PIXELS = 2**27  # of all frames together, whose memory is at most 4 times as many bytes


class WalkCommand:
    """A checked command; nothing is generated before everything is known to fit.

    Args:
        bundle: the opened bundle, or a model on a server.
        options: parsed by `serving.cli`.

    Raises:
        UsageError: options that do not fit the bundle or each other.
    """

    def __init__(self, bundle: Any, options: Any):
        self._bundle, self._options = bundle, options
        self._port = bundle.outputs[0]
        self._kind: Kind = kinds.get(self._port.kind)
        if not bundle.inputs.normal:
            raise UsageError(
                f"A walk needs a model with normal inputs. Received: {bundle.name!r} with the "
                f"inputs {', '.join(bundle.inputs.by_name)}"
            )
        if not self._kind.is_animated:
            raise UsageError(
                f"A walk shows samples of kind {' or '.join(kinds.animated())}. "
                f"Received: {bundle.name!r} of kind {self._kind.name!r}"
            )
        self._out, self._format = self._place()
        if options.count < 1:
            raise UsageError(f"--count must be at least 1. Received: --count {options.count}")
        self._seeds = self._read_seeds()
        self._path = interpolation.Path(
            len(self._seeds), self._count_frames(), loop=True, easing=options.easing
        )
        self._labels = self._read_labels()
        self._given = self._read_inputs()
        if all(port.name in self._given for port in bundle.inputs.normal):
            names = ", ".join(port.name for port in bundle.inputs.normal)
            raise UsageError(
                f"A walk needs a normal input that is not given. Received: --input of {names}"
            )
        self._truncation = bundle.inputs.check_truncation(options.truncation, self._given)
        self._is_factor = "truncation" not in bundle.inputs.by_name
        self._sizes = bundle.inputs.check_sizes(self._given)
        self._check_size()
        self._step = max(1, check_batch_size(options.batch_size) // options.count)

    def run(self) -> str:
        """Generates the frames and writes the file; returns a line that says so."""
        frames, bundle, rate = self._path.count, self._bundle, self._options.frame_rate
        start = time.perf_counter()
        progress = ProgressLine("frames")
        try:
            film = self._kind.film(self._draw(progress), self._port.meta)
            drawn = time.perf_counter()
            content = animations.encode(film, self._format, rate, self._texts())
        finally:
            progress.clear()
        end = time.perf_counter()
        try:
            write_file(self._out, content)
        except OSError as error:
            raise UsageError(f"The output must be writable. Received: {error}") from error
        height, width = film.shape[1:3]
        return (
            f"Wrote {self._out}: {frames} frames of {width} x {height}, {frames / rate:.3g} s, "
            f"{len(content) / 1e6:.3g} MB, through {len(self._seeds)} seeds of {bundle.name} in "
            f"{end - start:.2f} s on {bundle.device}, of which encoding {end - drawn:.2f} s"
        )

    # ----------------------------------------------------------------------------- checks

    def _place(self) -> tuple[Path, str]:
        """Returns the file of --out, and its format."""
        out = Path(self._options.out)
        form = out.suffix.lower().removeprefix(".")
        if form not in animations.FORMATS:
            endings = ", ".join(f".{name}" for name in animations.FORMATS)
            raise UsageError(f"The ending of --out must be one of {endings}. Received: --out {out}")
        animations.find(form)
        check_writable(out)
        return out, form

    def _read_seeds(self) -> tuple[int, ...]:
        text = self._options.seeds
        words = parse_list(text)
        is_list = all(word.isascii() and word.isdecimal() and len(word) < 20 for word in words)
        if not is_list or len(words) < 2:
            raise UsageError(
                "--seeds must be 2 or more integers of at least 0, separated by commas. "
                f"Received: --seeds {text:.80}"
            )
        seeds = tuple(map(int, words))
        if max(seeds) + self._options.count - 1 > MAX_SEED:
            count = f" --count {self._options.count}" if self._options.count > 1 else ""
            raise UsageError(f"All seeds must be below 2**63. Received: --seeds {text:.80}{count}")
        return seeds

    def _count_frames(self) -> int:
        """Returns the number of frames: equally many from each seed to the next."""
        seconds, rate = self._options.seconds, self._options.frame_rate
        if not 1 <= rate <= animations.MAX_RATE:
            raise UsageError(
                f"--frame-rate must be from 1 to {animations.MAX_RATE:g} frames/s. "
                f"Received: --frame-rate {rate}"
            )
        if not 0 < seconds < math.inf:
            raise UsageError(f"--seconds must be above 0. Received: --seconds {seconds}")
        if seconds * rate > MAX_FRAMES:
            raise UsageError(
                f"A walk has at most {MAX_FRAMES} frames. "
                f"Received: --seconds {seconds} at {rate:g} frames/s"
            )
        legs = len(self._seeds)
        if seconds * rate < legs:
            raise UsageError(
                f"--seconds must give each seed a frame, here at least {legs / rate:.3g}. "
                f"Received: --seconds {seconds} for {legs} seeds at {rate:g} frames/s"
            )
        return legs * round(seconds * rate / legs)

    def _read_labels(self) -> list[TextLabel] | None:
        """Returns one label for each seed, `None` for the classes of the first."""
        text, legs = self._options.labels, len(self._seeds)
        if text is None:
            return None
        labels = parse_labels(text, self._bundle.class_names)
        if len(labels) not in (1, legs):
            raise UsageError(
                f"--labels must be one for all or one for each of {legs} seeds. "
                f"Received: --labels {text:.80}"
            )
        return labels * legs if len(labels) == 1 else labels

    def _read_inputs(self) -> dict[str, np.ndarray]:
        """Returns the arrays `(1, ...)` of the given inputs, which all frames share."""
        given = GivenInputs(find_files(self._options.input), self._bundle.inputs)
        for source in given.sources:
            if source.is_folder:
                raise UsageError(
                    "--input of a walk must name one file, for all frames. "
                    f"Received: --input {source.name}={source.path}, a folder"
                )
        ((_, arrays),) = given.batches(range(1), 1)
        return arrays

    def _check_size(self) -> None:
        shape = [self._sizes.get(n, 1) if isinstance(n, str) else n for n in self._port.shape]
        self._kind.check_sheet(self._options.count, shape)
        height, width = self._kind.sheet_size(self._options.count, shape)
        if self._path.count * height * width > MAX_PIXELS:
            raise UsageError(
                f"The frames of a walk have at most {MAX_PIXELS} pixels together. "
                f"Received: {self._path.count} frames of {width} x {height}"
            )

    # ----------------------------------------------------------------------------- frames

    def _draw(self, progress: ProgressLine) -> Iterator[np.ndarray]:
        """Yields the samples `(count, ...)` of each frame.

        Walk i of several starts at the first seed plus i. Labels and random inputs that are not
        normal are those of its start.
        """
        count, frames = self._options.count, self._path.count
        latents = self._station_latents()
        starts = self._seeds[0] + np.arange(count, dtype=np.int64)
        for first in range(0, frames, self._step):
            numbers = range(first, min(first + self._step, frames))
            feeds = dict(self._given)
            for name, (stations, shape, dtype) in latents.items():
                points = np.stack([self._path.point(n, stations) for n in numbers])
                with np.errstate(over="ignore"):  # `sample` refuses infinite inputs
                    feeds[name] = points.reshape(-1, *shape).astype(dtype)
            labels = self._labels and [
                self._labels[self._path.nearest(n)] for n in numbers for _ in range(count)
            ]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotFiniteWarning)  # an error here
                drawn = self._bundle.sample(
                    np.tile(starts, len(numbers)),
                    labels,
                    1.0 if self._is_factor else self._truncation,
                    self._options.batch_size,
                    **feeds,
                )
            samples = drawn[self._port.name]
            check_samples(
                {self._port.name: samples},
                self._format,
                "try a smaller --truncation",
                lambda row, first=first: f"frame {first + row // count}",
            )
            yield from samples.reshape(len(numbers), count, *samples.shape[1:])
            progress.update(numbers.stop, frames, numbers.stop)

    def _station_latents(self) -> dict[str, tuple[np.ndarray, tuple[int, ...], str]]:
        """Returns the latents `(stations, count, size)` of the seeds by input, shape and dtype."""
        inputs, count = self._bundle.inputs, self._options.count
        found = {}
        for port in inputs.normal:
            if port.name in self._given:
                continue
            shape = resolve(port, self._sizes)
            walks = np.array(self._seeds, np.int64)[:, np.newaxis] + np.arange(count)
            drawn = draw(port, walks.reshape(-1), shape).astype(np.float64)
            drawn *= self._truncation if self._is_factor else 1.0
            found[port.name] = drawn.reshape(*walks.shape, -1), shape, port.dtype
        return found

    def _texts(self) -> dict[str, str] | None:
        """Returns the texts that make the file reproducible; `None` with --no-metadata."""
        options = self._options
        if options.no_metadata:
            return None
        from serving.provenance import provenance

        facts: dict[str, object] = {"between_seeds": ", ".join(map(str, self._seeds))}
        facts |= {} if options.labels is None else {"labels": options.labels}
        facts |= {} if options.truncation == 1 else {"truncation": f"{options.truncation:g}"}
        facts |= {} if options.count == 1 else {"count": options.count}
        facts |= {"frames": self._path.count, "easing": options.easing}
        return provenance(self._bundle.name, self._bundle.sha256, **facts)
