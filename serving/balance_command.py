"""`keras-gan sample --balance`: samples that make the classes of a folder equally large."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from serving import kinds, uploads
from serving.balance_options import TRIES
from serving.checks import check_batch_size
from serving.class_folders import find_pictures, folder_name, link
from serving.errors import NotFiniteWarning, UsageError
from serving.labels import class_id
from serving.lists import parse_labels, parse_list
from serving.output_files import write_file
from serving.picture_forms import read_file
from serving.progress import ProgressLine
from serving.provenance import provenance
from serving.recognition import Classifier, check_range

_FORMAT = "png"
_CHECKED = 20  # real pictures of a class that the classifier is tried on
_UNSURE = 0.5  # share of them below which a warning is printed


class Filled(NamedTuple):
    """A class after its samples are written.

    Args:
        name: of the class.
        real: number of its real pictures.
        wanted: number of samples that were missing.
        made: number of samples that were written.
        tried: number of samples that were generated for them.
    """

    name: str
    real: int
    wanted: int
    made: int
    tried: int


class BalanceCommand:
    """A checked command; nothing is generated before everything is known to fit.

    Args:
        bundle: the opened bundle, or a model on a server.
        options: parsed by `serving.cli`.

    Raises:
        UsageError: a bundle without classes or of other samples than pictures, a folder of other
            classes, or options that do not fit.
    """

    def __init__(self, bundle: Any, options: Any):
        self._bundle, self._options = bundle, options
        self._port = bundle.outputs[0]
        self._kind = kinds.get(self._port.kind)
        port = bundle.inputs.classes
        if port is None or bundle.inputs.given or _FORMAT not in self._kind.written:
            raise UsageError(
                "--balance needs a generator of pictures of classes. Received: bundle "
                f"{bundle.name!r} with the inputs {', '.join(bundle.inputs.by_name)}"
            )
        self._num_classes = port.num_classes
        names = bundle.class_names or [str(number) for number in range(port.num_classes)]
        self._names = [folder_name(name) for name in names]
        self._batch_size = check_batch_size(options.batch_size)
        bundle.inputs.check_truncation(options.truncation)
        labels = parse_labels(options.labels, bundle.class_names) if options.labels else []
        chosen = [class_id(x, port.num_classes, bundle.class_names) for x in labels]
        self._source = Path(os.path.expanduser(options.balance))
        self._out = self._check_out()
        self._real = find_pictures(self._source, self._names, sorted(set(chosen)))
        self._target = self._choose_target()
        self._classifier = None if options.classifier is None else self._open_classifier()

    def run(self) -> int:
        """Writes the samples and prints a report by class.

        Returns:
            0, or 1 if the classifier recognized too few samples of a class.
        """
        if self._classifier is not None:
            self._try_on_real(self._classifier)
        progress = ProgressLine("classes")
        filled = []
        try:
            for at, number in enumerate(self._real):
                progress.update(at, len(self._real), at)
                filled.append(self._fill(number))
        except OSError as error:
            raise UsageError(f"The output must be writable. Received: {error}") from error
        finally:
            progress.clear()
        self._report(filled)
        missing = [each for each in filled if each.made < each.wanted]
        for each in missing:
            print(
                f"keras-gan: error: {each.name}: {each.made} of {each.wanted} samples were "
                f"recognized in {each.tried} tries; lower --keep-if-recognized or raise --tries",
                file=sys.stderr,
            )
        return 1 if missing else 0

    # ----------------------------------------------------------------------------- checks

    def _check_out(self) -> Path:
        text = self._options.out
        if text is None or "://" in text:
            raise UsageError(
                f"--balance needs a folder for its samples. Received: --out {text or 'missing'}"
            )
        out, source = Path(text), os.path.realpath(self._source)
        place = os.path.realpath(out)
        if os.path.commonpath([place, source]) in (place, source):
            raise UsageError(
                "--out must be apart from the folder of --balance, where samples would count as "
                f"real pictures. Received: --out {out}"
            )
        if out.exists() and not out.is_dir():
            raise UsageError(f"--out must name a folder. Received: --out {out}, a file")
        if out.is_dir() and any(out.iterdir()) and not self._options.overwrite:
            raise UsageError(
                f"The folder of --out must be empty, or pass --overwrite. Received: --out {out}"
            )
        return out

    def _choose_target(self) -> int:
        """Returns the number of pictures that every class is to have."""
        largest, count = max(map(len, self._real.values())), self._options.count
        if count is not None and count < largest:
            raise UsageError(
                f"--count must be at least {largest}, the number of pictures of the largest class. "
                f"Received: --count {count}"
            )
        return count or largest

    def _open_classifier(self) -> Classifier:
        options = self._options
        order = parse_list(options.classifier_classes) if options.classifier_classes else ()
        return Classifier(
            Path(os.path.expanduser(options.classifier)),
            self._port,
            self._names,
            check_range(options.classifier_range),
            [folder_name(name) for name in order],
        )

    def _try_on_real(self, classifier: Classifier) -> None:
        """Prints the classifier's accuracy on some real pictures, which shows a wrong range."""
        right = total = 0
        for number, files in self._real.items():
            step = max(1, len(files) // _CHECKED)
            pictures = np.stack([self._read(path) for path in files[::step][:_CHECKED]])
            found = classifier.probabilities(pictures).argmax(axis=1)
            right, total = right + int((found == number).sum()), total + len(found)
        print(f"The classifier is right for {right} of {total} real pictures.")
        if right < _UNSURE * total:
            print(
                "keras-gan: warning: The classifier is wrong for most real pictures: check "
                "--classifier-range and --classifier-classes",
                file=sys.stderr,
            )

    def _read(self, path: Path) -> np.ndarray:
        """Reads a real picture in the shape and range of the samples."""
        from PIL import Image

        height, width, channels = (n or 1 for n in self._port.sizes)
        pixels = read_file(path).pixels
        image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
        array = np.asarray(image)
        if channels == 4:
            array = np.concatenate([array, np.full_like(array[..., :1], 255)], axis=-1)
        if channels == 1:
            array = uploads.mean_of_channels(array)
        return self._kind.from_stored(array, self._port.meta)

    # ----------------------------------------------------------------------------- samples

    def _fill(self, number: int) -> Filled:
        """Writes the samples that a class lacks."""
        folder, files = self._out / self._names[number], self._real[number]
        folder.mkdir(parents=True, exist_ok=True)  # also an empty one, which keeps the class ids
        if self._options.with_real:
            for path in files:
                link(path, folder / path.relative_to(self._source / self._names[number]))
        wanted = self._target - len(files)
        most = wanted if self._classifier is None else wanted * (self._options.tries or TRIES)
        # Seeds of a class are those whose remainder is its id, as of samples without labels.
        first = self._options.seed or 0
        first += (number - first) % self._num_classes
        made = tried = 0
        while made < wanted and tried < most:
            size = min(self._batch_size, most - tried)
            seeds = [first + (tried + i) * self._num_classes for i in range(size)]
            samples = self._draw(np.array(seeds, np.uint64).astype(np.int64), number)
            kept = self._keep(samples, number)
            for at in kept[: wanted - made]:
                self._write(folder, samples[at], seeds[at], number)
            # Samples behind the last one that was needed do not count.
            tried += size if len(kept) < wanted - made else int(kept[wanted - made - 1]) + 1
            made += min(len(kept), wanted - made)
        return Filled(self._names[number], len(files), wanted, made, tried)

    def _draw(self, seeds: np.ndarray, number: int) -> np.ndarray:
        options = self._options
        labels = [number] * len(seeds)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotFiniteWarning)  # a PNG refuses the values
            return self._bundle.generate(seeds, labels, options.truncation, self._batch_size)

    def _keep(self, samples: np.ndarray, number: int) -> np.ndarray:
        """Returns the positions of the samples that are kept, in order."""
        if self._classifier is None:
            return np.arange(len(samples))
        sure = self._classifier.probabilities(samples)[:, number]
        return np.flatnonzero(sure >= self._options.keep_if_recognized)

    def _write(self, folder: Path, sample: np.ndarray, seed: int, number: int) -> None:
        texts, options = None, self._options
        if not options.no_metadata:
            facts: dict[str, object] = {"seed": seed, "label": number}
            if options.truncation != 1:
                facts["truncation"] = options.truncation
            texts = provenance(self._bundle.name, self._bundle.sha256, **facts)
        content = self._kind.encode(sample, _FORMAT, self._port.meta, texts)
        write_file(folder / f"seed{seed:06d}.{_FORMAT}", content)

    def _report(self, filled: list[Filled]) -> None:
        width = max(5, *(len(each.name) for each in filled))
        head = f"{'class':<{width}} {'real':>7} {'generated':>10}"
        print(head + f" {'tried':>7} {'kept':>6}" * (self._classifier is not None))
        for each in filled:
            line = f"{each.name:<{width}} {each.real:>7} {each.made:>10}"
            if self._classifier is not None:
                kept = f"{each.made / each.tried:.0%}" if each.tried else "-"
                line += f" {each.tried:>7} {kept:>6}"
            print(line)
        total = sum(each.made for each in filled)
        print(f"Wrote {self._out}: {total} samples of {self._bundle.name}")
