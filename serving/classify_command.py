"""`keras-gan classify`: the classes of pictures, by a bundle that is a classifier."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from serving import picture_commands, uploads
from serving.bundle import Bundle
from serving.classification import Classification, Classifier
from serving.errors import UsageError
from serving.picture_forms import find_pictures

ABOUT = (
    "Classify pictures of any size, which are cropped around their center and resized to the "
    "network's size. Prints the most probable classes of each picture, and its novelty: the lower, "
    "the less the picture looks like the training data. A picture that cannot be read is reported, "
    "the others are classified, and the exit status is 1."
)
EXAMPLES = (
    "examples: keras-gan classify runs/fm/bundle-discriminator shoe.jpg; "
    "keras-gan classify runs/fm/bundle-discriminator photos/ --top 3 --json"
)
_BATCH = 64  # pictures that are read and run together


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    picture_commands.add_pictures(parser, "classify", "folder of a bundle of role classifier")
    add = parser.add_argument
    add("--top", type=int, default=1, metavar="K", help="classes of each picture (default: 1)")
    add("--json", action="store_true", help="print one JSON object per line")
    picture_commands.add_limits(parser)


class ClassifyCommand:
    """A checked command.

    Args:
        options: parsed with the options of `add_options`.

    Raises:
        UsageError: a bundle that is not a classifier of pictures, no pictures, or an option out of
            range.
    """

    def __init__(self, options: argparse.Namespace):
        picture_commands.check_bundle("classify", "classifies", options.bundle)
        picture_commands.check_positive(options, "top", "max_pixels")
        self._options = options
        self._files, self._skipped, _ = find_pictures(options.pictures)
        self._bundle = Bundle(options.bundle, precision=options.precision)
        self._classifier: Classifier = self._bundle.require_classifier()
        if not self._classifier.takes_pictures:
            source = self._classifier.source
            raise UsageError(
                "classify needs a classifier of pictures with 1 or 3 channels. Received: "
                f"{self._bundle.name!r}, whose input {source.name!r} is of kind {source.kind!r} "
                f"and shape {source.shape}"
            )

    def run(self) -> int:
        """Classifies all pictures, reports those that cannot be, and returns the exit status.

        Returns:
            0, or 1 if a picture could not be classified.
        """
        status = 0
        picture_commands.say(*self._skipped)
        for start in range(0, len(self._files), _BATCH):
            readable: dict[Path, uploads.Picture] = {}
            for path in self._files[start : start + _BATCH]:
                try:
                    readable[path] = self._read(path)
                except UsageError as error:
                    status = 1
                    picture_commands.say(f"error: {path}: {error}")
            for path, found in self._classify(readable):
                self._print(path, found)
        return status

    def _read(self, path: Path) -> uploads.Picture:
        return picture_commands.read(path, self._options.max_pixels, self._classifier.limits)

    def _classify(
        self, pictures: dict[Path, uploads.Picture]
    ) -> Iterator[tuple[Path, Classification]]:
        found = self._bundle.classify(list(pictures.values()), batch_size=_BATCH)
        return zip(pictures, found, strict=True)

    def _print(self, path: Path, found: Classification) -> None:
        top = found.top(self._options.top)
        if self._options.json:
            content = {
                "file": str(path),
                "classes": [each._asdict() for each in top],
                "novelty": found.novelty,
                "notes": found.notes,
            }
            print(json.dumps(content))
            return
        classes = ", ".join(f"{each.name} {each.probability:.3f}" for each in top)
        novelty = "" if found.novelty is None else f"  novelty {found.novelty:.3g}"
        print(f"{path}: {classes}{novelty}")
