"""`keras-gan sample --frames`: a video of any number of frames, written while it is made."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from serving import film_files, pictures, png, text_options
from serving.endless import VideoStream, open_film
from serving.errors import UsageError
from serving.lists import parse_labels
from serving.output_files import check_writable
from serving.progress import ProgressLine

# Options of other commands.
_UNUSED = ("count", "each", "workers", "shard_size", "engine", "balance", "classifier")
_UNUSED += text_options.OPTIONS


class FramesCommand:
    """A checked command; nothing is generated before everything is known to fit.

    Args:
        bundle: the opened bundle.
        options: parsed by `serving.cli`.

    Raises:
        UsageError: options that do not fit the bundle or each other.
    """

    def __init__(self, bundle: Any, options: Any):
        self._bundle, self._options = bundle, options
        for name in _UNUSED:
            if getattr(options, name) not in (None, False):
                raise UsageError(
                    f"--frames makes one video: leave --{name.replace('_', '-')} out. "
                    f"Received: {getattr(options, name)!r}"
                )
        if options.precision != "float32":
            raise UsageError(
                "--frames runs in float32: leave --precision out. "
                f"Received: --precision {options.precision}"
            )
        if options.input:
            raise UsageError(f"--frames takes no --input. Received: --input {options.input[0]}")
        if not hasattr(bundle, "label_ids"):
            raise UsageError(
                "--frames needs a bundle on this machine; a server sends videos of any number of "
                f"frames from /v1/generate?frames=N. Received: {options.bundle}"
            )
        self._seed = options.seed or 0
        label = self._read_label()
        self._film = open_film(bundle, self._seed, options.frames, label, options.truncation)
        self._facts = bundle.video
        self._out, self._form = self._place()

    def run(self) -> str:
        """Writes the video; returns a line that says so."""
        start, frames = time.perf_counter(), self._options.frames
        stream = VideoStream(self._bundle)
        progress, made = ProgressLine("frames"), 0

        def counted() -> Iterator[np.ndarray]:
            nonlocal made
            for part in self._film.chunks(frames, stream.run):
                yield part
                made += len(part)
                progress.update(made, frames, made)

        write = _write_pictures if self._form == "png" else self._write_file
        try:
            size = write(self._out, self._clip(), counted())
        except OSError as error:
            raise UsageError(f"The output must be writable. Received: {error}") from error
        finally:
            progress.clear()
        took, rate = time.perf_counter() - start, self._facts.frame_rate
        height, width, _ = self._facts.size
        return (
            f"Wrote {self._options.out}: {frames} frames of {width} x {height}, "
            f"{frames / rate:.4g} s, {size / 1e6:.3g} MB, of seed {self._seed} of "
            f"{self._bundle.name} in {took:.2f} s, {frames / took:.0f} frames/s on "
            f"{self._bundle.device}"
        )

    def _read_label(self) -> Any:
        if self._options.labels is None:
            return None
        labels = parse_labels(self._options.labels, self._bundle.class_names)
        if len(labels) != 1:
            raise UsageError(
                f"A video of --frames has one label. Received: --labels {self._options.labels:.80}"
            )
        return labels[0]

    def _place(self) -> tuple[Path, str]:
        """Returns the file or folder of --out, and its format."""
        out = self._options.out or "video.webp"
        self._options.out = out
        if out.endswith(("/", os.sep)):
            if self._options.format not in (None, "png"):
                raise UsageError(
                    "A folder holds the frames as PNG files: leave --format out, or name a file. "
                    f"Received: --out {out} --format {self._options.format}"
                )
            folder = Path(out)
            is_used = folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
            if is_used and not self._options.overwrite:
                raise UsageError(
                    f"The folder of --out must be empty, or pass --overwrite. Received: {out}"
                )
            return folder, "png"
        form = self._options.format or Path(out).suffix.lower().removeprefix(".")
        if form not in film_files.WRITERS:
            raise UsageError(
                "The ending of --out must be one of "
                f"{', '.join('.' + name for name in film_files.WRITERS)}, or a slash for a folder "
                f"of PNG files. Received: --out {out}"
            )
        film_files.writer(form, self._clip())  # the package of a format may not be installed
        check_writable(Path(out))
        return Path(out), form

    def _clip(self) -> film_files.Clip:
        low, high = self._bundle.value_range or (-1.0, 1.0)
        frames, size = self._options.frames, self._facts.size
        rate, texts = self._facts.frame_rate, self._texts()
        return film_files.Clip(frames, size, rate, (low, high), texts)

    def _texts(self) -> dict[str, str]:
        if self._options.no_metadata:
            return {}
        from serving.provenance import provenance

        facts: dict[str, object] = {"seed": self._seed, "frames": self._options.frames}
        facts |= {} if self._options.labels is None else {"labels": self._options.labels}
        if self._options.truncation != 1:
            facts["truncation"] = f"{self._options.truncation:g}"
        return provenance(self._bundle.name, self._bundle.sha256, **facts)

    def _write_file(self, path: Path, clip: film_files.Clip, parts: Iterator[np.ndarray]) -> int:
        """Writes one file; it is complete or remains what it was. Returns its bytes."""
        made = film_files.writer(self._form, clip)
        path = Path(os.path.realpath(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        is_device = path.exists() and not path.is_file()  # written to, not replaced
        temporary = path if is_device else path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                total = file.write(made.head())
                for part in parts:
                    total += file.write(made.part(part))
                total += file.write(made.tail())
                at, sizes = made.sizes(total)
                if sizes:
                    file.seek(at)
                    file.write(sizes)
            if not is_device:
                temporary.replace(path)
        finally:
            if not is_device:
                temporary.unlink(missing_ok=True)
        return total


def _write_pictures(folder: Path, clip: film_files.Clip, parts: Iterator[np.ndarray]) -> int:
    """Writes a PNG file of each frame; returns the bytes of all."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("frame" + "[0-9]" * 7 + ".png"):  # of a longer video, with --overwrite
        old.unlink()
    total = number = 0
    for part in parts:
        for pixels in pictures.to_uint8(part, clip.value_range):
            texts = {**clip.texts, "Frame": str(number)} if clip.texts else None
            content = png.encode(pixels, texts)
            (folder / f"frame{number:07d}.png").write_bytes(content)
            total, number = total + len(content), number + 1
    return total
