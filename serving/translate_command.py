"""`keras-gan translate`: pictures of any size through a bundle that translates pictures."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np

from serving import picture_commands, uploads
from serving.bundle import Bundle
from serving.errors import UsageError
from serving.kinds.image import STORED
from serving.output_files import Task, check_apart, check_tasks, check_writable, write_file
from serving.picture_forms import find_pictures
from serving.progress import ProgressLine
from serving.provenance import edited
from serving.translation import AUTO, Translation

_WRITTEN = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}  # format by ending
_TOO_LARGE = "The picture and its answer must fit in memory; --tile N takes less."
_NAMES = {"png": "png", "jpeg": "jpg", "webp": "webp"}  # ending by format


ABOUT = (
    "Translate pictures of any size. An answer has exactly the height and width of its picture, "
    "times the network's scale. A picture that cannot be read is reported, the others are "
    "translated, and the exit status is 1."
)
EXAMPLES = (
    "examples: keras-gan translate runs/super-resolution photo.jpg --out large.png; "
    "keras-gan translate runs/pix2pix drawings/ --out answers/ --format webp"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    bundle = "folder of a bundle or of an exported run"
    picture_commands.add_pictures(parser, "translate", bundle)
    add = parser.add_argument
    add(
        "--out",
        required=True,
        help="file to write, for one picture; otherwise the folder of the answers, which have the "
        "names of the pictures",
    )
    add(
        "--tile",
        metavar="N",
        help="height and width of tiles in pixels, for less memory; 0 for none "
        "(default: 512 for pictures of more than 2^20 pixels)",
    )
    add(
        "--format",
        metavar="png|jpeg|webp",
        help="format of the answers (default: by the ending of --out, else png)",
    )
    add(
        "--seed",
        type=int,
        metavar="N",
        help="seed of the answers of a network with random inputs, the same for all pictures "
        "(default: 0)",
    )
    picture_commands.add_limits(parser)
    add(
        "--no-metadata",
        action="store_true",
        help="omit from PNG files that a model made them, and which one",
    )


class TranslateCommand:
    """A checked command; nothing is translated before everything is known to fit.

    Args:
        options: parsed with the options of `add_options`.

    Raises:
        UsageError: a bundle that does not translate pictures, no pictures, or options that do not
            fit each other.
    """

    def __init__(self, options: argparse.Namespace):
        picture_commands.check_bundle("translate", "translates", options.bundle)
        picture_commands.check_positive(options, "max_pixels")
        self._options = options
        self._tile = _parse_tile(options.tile)
        sources, self._skipped, is_folder = find_pictures(options.pictures)
        self._format, out, is_folder = _place(options.out, options.format, is_folder)
        self._tasks = _plan(sources, out, is_folder, self._format)
        check_apart(options.pictures, out, "picture", "--out")
        if not is_folder:
            check_writable(out)
        self._out = out
        self._bundle = Bundle(options.bundle, precision=options.precision)
        self._facts, self._source, self._target = self._bundle.translation
        self._seed = self._bundle.inputs.check_seed(options.seed)
        if isinstance(self._tile, int) and not self._facts["tileable"]:
            raise UsageError(
                "--tile needs a network that can be tiled; every pixel of this one's answer "
                f"depends on the whole picture. Received: --tile {self._tile} for "
                f"{self._bundle.name!r}"
            )

    def run(self) -> int:
        """Translates all pictures, reports those that cannot be, and returns the exit status.

        Returns:
            0, or 1 if a picture could not be translated.
        """
        start, failed = time.perf_counter(), 0
        picture_commands.say(*self._skipped)
        several = len(self._tasks) > 1
        progress = ProgressLine("pictures" if several else "tiles")
        for number, task in enumerate(self._tasks):
            if several:
                progress.update(number, len(self._tasks), number)
            try:
                notes = self._translate(task, None if several else progress)
            except (UsageError, MemoryError) as error:
                failed += 1
                progress.clear()
                line = _TOO_LARGE if isinstance(error, MemoryError) else error
                picture_commands.say(f"error: {task.source}: {line}")
                continue
            for note in notes:
                progress.clear()
                picture_commands.say(f"{task.source}: {note}")
        progress.clear()
        seconds, count = time.perf_counter() - start, len(self._tasks) - failed
        place = self._out if count else "nothing"
        plural = "picture" if count == 1 else "pictures"
        failures = f", {failed} could not be translated" if failed else ""
        print(
            f"Wrote {place}: {count} {plural} by {self._bundle.name} in {seconds:.2f} s on "
            f"{self._bundle.device}{failures}"
        )
        return 1 if failed else 0

    def _translate(self, task: Task, progress: ProgressLine | None) -> tuple[str, ...]:
        """Translates one picture and returns the notes about it."""
        limits = self._source.meta.get(STORED)
        picture = picture_commands.read(task.source, self._options.max_pixels, limits)
        scale = self._facts["scale"]
        height, width = (size * scale for size in picture.pixels.shape[:2])
        uploads.check_extent(height, width, self._format)
        translation = Translation(self._facts, self._source, self._target, picture, self._tile)
        count = len(translation.plan.tiles)

        def run(numbered: tuple[int, np.ndarray]) -> np.ndarray:
            if progress is not None:
                progress.update(numbered[0], count, numbered[0])
            return self._bundle.translate_tile(numbered[1], self._seed)

        answer = translation.answer(map(run, enumerate(translation.inputs())))
        texts = None
        if not self._options.no_metadata:
            seed = self._seed if self._bundle.inputs.seeded else None
            texts = edited(self._bundle.name, self._bundle.sha256, seed)
        content = uploads.write(answer.pixels, answer.alpha, answer.gray, self._format, texts)
        try:
            write_file(task.target, content)
        except OSError as error:
            raise UsageError(f"The output must be writable. Received: {error}") from error
        return answer.notes


def _parse_tile(text: str | None) -> int | str | None:
    """Returns the tile as `choose_tile` takes it."""
    if text is None:
        return AUTO
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise UsageError(f"--tile must be an integer of at least 0. Received: --tile {text:.80}")
    return int(text) or None


def _place(out: str, form: str | None, is_folder: bool) -> tuple[str, Path, bool]:
    """Returns the format, the file or folder of --out, and whether it is a folder."""
    if form is not None and form not in _WRITTEN:
        raise UsageError(f"--format must be png, jpeg or webp. Received: --format {form:.80}")
    path = Path(os.path.expanduser(out))
    ending = path.suffix.lower().removeprefix(".")
    is_folder = is_folder or path.is_dir() or out.endswith(("/", os.sep))
    if is_folder:
        is_file = path.exists() or (ending in _WRITTEN and not out.endswith(("/", os.sep)))
        if is_file and not path.is_dir():
            raise UsageError(f"--out must be a folder for several pictures. Received: --out {out}")
        return _WRITTEN[form or "png"], path, True
    own = _WRITTEN.get(ending)
    if own is None and form is None:
        raise UsageError(
            f"--out must be a folder/, or end in .png, .jpg, .jpeg or .webp. Received: --out {out}"
        )
    if own is not None and form is not None and own != _WRITTEN[form]:
        raise UsageError(
            f"The ending of --out must be that of --format. Received: --format {form} --out {out}"
        )
    return own or _WRITTEN[str(form)], path, False


def _plan(sources: list[Path], out: Path, is_folder: bool, form: str) -> list[Task]:
    """Returns the file of each answer; none of them is a picture to read.

    Raises:
        UsageError: an answer that would replace a picture, or two pictures of one name.
    """
    if not is_folder:
        tasks = [Task(sources[0], out)]
    else:
        stems = {path.stem for path in sources}
        names = [x.stem if len(stems) == len(sources) else x.name for x in sources]
        tasks = [
            Task(path, out / f"{name}.{_NAMES[form]}")
            for path, name in zip(sources, names, strict=True)
        ]
    check_tasks(tasks, "picture", "--out")
    return tasks
