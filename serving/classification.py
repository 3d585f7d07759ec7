"""Classification: pictures or arrays to the probabilities of classes, by a bundle's classifier."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from serving import kinds
from serving.checks import is_finite
from serving.errors import NotFiniteError, UsageError, short_repr
from serving.inputs import Input, Inputs, Port, check_array

ROLE = "classifier"
NOVELTY = "novelty"  # name of the output
Run = Callable[[np.ndarray], Mapping[str, np.ndarray]]  # from a batch of the input to all outputs


class ClassProbability(NamedTuple):
    """A class and its probability.

    Args:
        id: number of the class.
        name: its name; the number as text where the classes have no names.
        probability: from 0 to 1; those of all classes sum to 1.
    """

    id: int
    name: str
    probability: float


class Classification(NamedTuple):
    """The answer of a classifier to one picture.

    Args:
        probabilities: float32 `(classes,)`, in the order of the ids.
        novelty: the logit of the network's training against a generator: the lower it is, the less
            the picture looks like the training data. `None` for a network without it.
        names: name of each class; empty where they have none.
        notes: what reading changed in the picture, one sentence each.
        size: height and width of the picture as it was given; `None` for floats.
    """

    probabilities: np.ndarray
    novelty: float | None
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    size: tuple[int, int] | None = None

    @property
    def label(self) -> str:
        """Name of the most probable class."""
        return self.top(1)[0].name

    def top(self, count: int | None = None) -> list[ClassProbability]:
        """Returns the most probable classes, the most probable first.

        Args:
            count: number of classes, at least 1; by default all.
        """
        order = np.argsort(-self.probabilities, kind="stable")[:count].tolist()
        return [
            ClassProbability(
                number,
                self.names[number] if self.names else str(number),
                float(str(self.probabilities[number])),  # with the digits of float32
            )
            for number in order
        ]


class Sample(NamedTuple):
    """A picture as the network takes it.

    Args:
        array: input of the network, `(1, ...)`.
        notes: as in `Classification`.
        size: as in `Classification`.
    """

    array: np.ndarray
    notes: tuple[str, ...] = ()
    size: tuple[int, int] | None = None


class Classifier:
    """Facts about the classifier of a bundle, and the conversions around its network.

    Args:
        source: the input that is classified.
        classes: the output of probabilities.
        novelty: the output of that name, or `None`.
    """

    def __init__(self, source: Input, classes: Port, novelty: Port | None):
        self.source, self.classes, self.novelty = source, classes, novelty
        self.names: tuple[str, ...] = tuple(classes.meta.get("class_names") or ())
        self.count = int(classes.shape[0])
        is_image = kinds.get(source.kind).has_pixels
        self.takes_pictures = is_image and source.shape[-1] in (1, 3)

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Height and width of the network's pictures; `None` for any."""
        height, width = self.source.sizes[:2]
        return height, width

    @property
    def limits(self) -> Sequence[float] | None:
        """Stored values that are black and white in a picture of 16 bits; `None` for all bits."""
        from serving.kinds.image import STORED  # Pillow is only needed here

        return self.source.meta.get(STORED)

    def describe(self) -> dict[str, Any] | None:
        """Returns the entry in `/v1/models`; `None` for other inputs than pictures."""
        if not self.takes_pictures:
            return None
        height, width = self.size
        return {
            "input": self.source.name,
            "height": height,
            "width": width,
            "count": self.count,
            "names": self.names,
            "novelty": self.novelty is not None,
        }

    def from_picture(self, picture: Any) -> Sample:
        """Converts a picture of `serving.uploads` to the size, channels and range of the input."""
        from serving import pictures_to_size  # Pillow is only needed here

        pixels, notes = pictures_to_size.fit(picture, self.size, int(self.source.shape[-1]))
        array = kinds.get(self.source.kind).from_stored(pixels, self.source.meta)
        return Sample(array[np.newaxis], (*picture.notes, *notes), picture.pixels.shape[:2])

    def answer(
        self, sample: Sample, outputs: Mapping[str, np.ndarray], row: int = 0
    ) -> Classification:
        """Returns the classification of a sample.

        Args:
            sample: the sample.
            outputs: of a batch, by name.
            row: number of the sample in the batch.

        Raises:
            NotFiniteError: a probability or a novelty that is NaN or infinite.
        """
        probabilities = outputs[self.classes.name][row]
        novelty = None if self.novelty is None else outputs[self.novelty.name][row]
        if not is_finite(probabilities) or (novelty is not None and not is_finite(novelty)):
            raise NotFiniteError(
                "The outputs of a classifier must be finite numbers. Received: NaN or infinity"
            )
        score = None if novelty is None else float(str(np.reshape(novelty, ())))
        return Classification(probabilities, score, self.names, sample.notes, sample.size)


def find_classifier(role: str, inputs: Inputs, outputs: Sequence[Port]) -> Classifier | None:
    """Returns the classifier of a bundle; `None` for other networks.

    It has the role `classifier`, one input that must be given, and an output of kind `label` with a
    probability for each class.
    """
    if role != ROLE or len(inputs.given) != 1:
        return None
    classes = (x for x in outputs if kinds.get(x.kind).holds_classes and x.dtype == "float32")
    fixed = [x for x in classes if len(x.shape) == 1 and isinstance(x.shape[0], int)]
    if not fixed:
        return None
    single = (x for x in outputs if x.name == NOVELTY and x.shape in ((), (1,)))
    return Classifier(inputs.given[0], fixed[0], next(single, None))


def describe_missing(bundle: Any) -> UsageError:
    """Returns the error for a bundle that is not a classifier."""
    outputs = ", ".join(f"{port.name} of kind {port.kind}" for port in bundle.outputs)
    return UsageError(
        "A classifier has the role 'classifier', one given input, and an output of kind 'label' "
        f"with the probabilities of its classes. Received: bundle {bundle.name!r} of role "
        f"{bundle.role!r}, with {outputs}"
    )


def classify(found: Classifier, run: Run, given: Any, batch_size: int) -> Any:
    """Classifies a picture, or several.

    Args:
        found: the classifier.
        run: the network.
        given: as for `serving.Bundle.classify`.
        batch_size: pictures per run, at least 1.

    Returns:
        A `Classification`, or a list of them for several pictures.

    Raises:
        UsageError: a picture that cannot be read or has another form, or an array of another shape
            or range than the input.
    """
    if not _is_list(given) and not _is_batch(found, given):
        return next(_classified(found, run, [given], 1))
    return list(_classified(found, run, given, batch_size))


def _classified(
    found: Classifier, run: Run, given: Sequence[Any], batch_size: int
) -> Iterator[Classification]:
    """Yields the classification of each picture, which are read a batch at a time."""
    for start in range(0, len(given), batch_size):
        samples = [_read(found, x) for x in given[start : start + batch_size]]
        if len({sample.array.shape for sample in samples}) == 1:
            outputs = run(np.concatenate([sample.array for sample in samples]))
            yield from (found.answer(sample, outputs, row) for row, sample in enumerate(samples))
        else:  # of a network for pictures of any size
            yield from (found.answer(sample, run(sample.array)) for sample in samples)


def _is_list(given: Any) -> bool:
    """Checks for a list of pictures; a picture that has been read is a tuple with names."""
    return isinstance(given, list) or type(given) is tuple


def _is_batch(found: Classifier, given: Any) -> bool:
    """Checks whether an array has several pictures, by its number of axes."""
    rank = len(found.source.shape)
    if not isinstance(given, np.ndarray):
        return False
    if given.ndim == rank + 1:
        return True
    if not found.takes_pictures or given.ndim != rank:
        return False
    # (n, height, width) of a network of gray pictures, or one picture with channels.
    channels = given.shape[-1] in (1, 3, 4)
    return found.source.shape[-1] == 1 and not channels


def _read(found: Classifier, given: Any) -> Sample:
    """Converts what a caller has given for one picture."""
    if isinstance(given, np.ndarray) and given.dtype.kind == "f":
        gray = found.takes_pictures and found.source.shape[-1] == 1 and given.ndim == 2
        values = given[..., np.newaxis] if gray else given
        return Sample(check_array(found.source, values[np.newaxis]))
    if not found.takes_pictures:
        raise UsageError(
            f"This classifier takes arrays of floats for its input {found.source.name!r}, of kind "
            f"{found.source.kind!r} and shape {found.source.shape}. Received: {short_repr(given)}"
        )
    from serving import picture_forms, uploads  # Pillow is only needed here

    if isinstance(given, str | os.PathLike):
        return found.from_picture(picture_forms.read_file(Path(given), limits=found.limits))
    if isinstance(given, np.ndarray) and given.dtype == np.uint8 and given.size:
        return found.from_picture(uploads.from_image(picture_forms.image_of(given)))
    if isinstance(given, uploads.Picture):
        return found.from_picture(given)
    if picture_forms.is_image(given):
        image: Any = given
        return found.from_picture(uploads.from_image(image, found.limits))
    is_array = isinstance(given, np.ndarray)
    received = f"{given.dtype} of shape {given.shape}" if is_array else repr(given)[:80]
    raise UsageError(
        "A picture must be a path, an image of Pillow, or an array of uint8 or of floats. "
        f"Received: {type(given).__name__} {received}"
    )
