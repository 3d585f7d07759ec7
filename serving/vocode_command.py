"""`keras-gan vocode`: sounds and spectrograms of any length through a vocoder."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np

from serving import picture_commands
from serving.bundle import Bundle
from serving.errors import UsageError
from serving.output_files import Task, check_apart, check_tasks, check_writable, write_file
from serving.progress import ProgressLine
from serving.provenance import voiced
from serving.sound_forms import read_file
from serving.vocoding import MAX_FRAMES
from serving.wav import to_pcm16, write_wav

ABOUT = (
    "Turn sounds, or log-mel spectrograms as .npy, into the sound that a vocoder makes of them: of "
    "the same length, without a delay. A sound of another sampling rate is resampled. A file that "
    "cannot be read is reported, the others are written, and the exit status is 1."
)
EXAMPLES = (
    "examples: keras-gan vocode runs/vocoder speech.wav again.wav; "
    "keras-gan vocode runs/vocoder recordings/ again/; "
    "keras-gan vocode runs/vocoder spectrogram.npy speech.wav"
)
_ENDINGS = (".wav", ".wave", ".npy")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="folder of a bundle or of an exported run")
    add("sound", metavar="SOUND", help="WAV file, spectrogram as .npy, or folder of such files")
    add("out", metavar="OUT", help="WAV file to write; for a folder, the folder of the answers")
    picture_commands.add_precision(parser)
    add(
        "--no-metadata",
        action="store_true",
        help="omit from the files that a model made them, and which one",
    )


class VocodeCommand:
    """A checked command; nothing is computed before everything is known to fit.

    Args:
        options: parsed with the options of `add_options`.

    Raises:
        UsageError: a bundle that is not a vocoder, no sounds, or places that do not fit.
    """

    def __init__(self, options: argparse.Namespace):
        picture_commands.check_bundle("vocode", "vocodes", options.bundle)
        self._options = options
        sound, out = (Path(os.path.expanduser(x)) for x in (options.sound, options.out))
        self._tasks = _plan(sound, out)
        if not sound.is_dir():
            check_writable(out)
        self._bundle = Bundle(options.bundle, precision=options.precision)
        self._vocoder = self._bundle.require_vocoder()

    def run(self) -> int:
        """Vocodes all files, reports those that cannot be, and returns the exit status.

        Returns:
            0, or 1 if a file could not be read.
        """
        start, failed, seconds = time.perf_counter(), 0, 0.0
        progress = ProgressLine("sounds")
        for number, task in enumerate(self._tasks):
            progress.update(number, len(self._tasks), number)
            try:
                length, notes = self._vocode(task)
                seconds += length
            except (UsageError, MemoryError) as error:
                failed += 1
                notes = (f"error: {error or 'The sound must fit in memory.'}",)
            for note in notes:
                progress.clear()
                picture_commands.say(f"{task.source}: {note}")
        progress.clear()
        took, count = time.perf_counter() - start, len(self._tasks) - failed
        place = self._options.out if count else "nothing"
        plural = "sound" if count == 1 else "sounds"
        failures = f", {failed} could not be read" if failed else ""
        print(
            f"Wrote {place}: {count} {plural} of {seconds:.4g} s in all by {self._bundle.name} in "
            f"{took:.2f} s on {self._bundle.device}{failures}"
        )
        return 1 if failed else 0

    def _vocode(self, task: Task) -> tuple[float, tuple[str, ...]]:
        """Vocodes one file; returns its seconds and the notes about it."""
        clip, notes = read_file(task.source, self._vocoder)
        parts = [to_pcm16(part) for part in self._bundle.vocode_clip(clip, MAX_FRAMES)]
        pcm = np.concatenate([part for part, _ in parts])
        if clipped := sum(count for _, count in parts):
            notes += (f"{clipped} of {len(pcm)} samples were beyond [-1, 1] and were clipped.",)
        texts = None
        if not self._options.no_metadata:
            texts = voiced(self._bundle.name, self._bundle.sha256)
        rate = self._vocoder.sample_rate
        try:
            write_file(task.target, write_wav(pcm[:, np.newaxis], rate, texts))
        except OSError as error:
            raise UsageError(f"The output must be writable. Received: {error}") from error
        return len(pcm) / rate, notes


def _plan(sound: Path, out: Path) -> list[Task]:
    """Returns the files to read, and the file of each answer.

    Raises:
        UsageError: no sounds, an answer in the place of one or in their folder, or two of one name.
    """
    if not sound.exists():
        raise UsageError(f"A sound must exist. Received: {str(sound)!r}")
    if not sound.is_dir():
        if out.is_dir() or out.suffix.lower() not in (".wav", ".wave"):
            raise UsageError(
                f"OUT must be a file that ends in .wav, for one sound. Received: {str(out)!r}"
            )
        tasks = [Task(sound, out)]
    else:
        files = sorted(x for x in sound.iterdir() if x.is_file() and x.name[0] != ".")
        sources = [x for x in files if x.suffix.lower() in _ENDINGS]
        if not sources:
            raise UsageError(
                f"A folder must have files that end in {', '.join(_ENDINGS)}. "
                f"Received: {str(sound)!r} with {len(files)} other files"
            )
        if out.exists() and not out.is_dir():
            raise UsageError(f"OUT must be a folder for several sounds. Received: {str(out)!r}")
        tasks = [Task(x, out / f"{x.stem}.wav") for x in sources]
    check_tasks(tasks, "sound", "OUT")
    check_apart([sound], out, "sound", "OUT")
    return tasks
