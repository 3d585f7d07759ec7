"""Base class of the kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from serving import extras
from serving.checks import count_not_finite
from serving.errors import NotFiniteError, UsageError, short_repr
from serving.kinds._formats import COMMON, Format, Meta

FLOATS = ("float32", "float16", "bfloat16", "float64")
INTEGERS = ("int32", "int64")


class Kind:
    """Axes, checks, file formats and preview of one modality.

    Attributes:
        axes: names of the dimensions of one sample; empty if it may have any.
        formats: file formats, the preferred one first. npy, npz and JSON follow by themselves.
        value_range: range of the values where the data names no other; `None` for none.
        assumed: values of properties for data that does not state them; said in a warning.
        meta: names of the properties that a field of this kind may have besides `value_range`.
        plural: noun for several samples.
        dtypes: dtypes that a field of this kind may have in a batch, the default first.
        stored: range of the integer dtypes that data sets store and map to `value_range`.
        for_samples: whether a data set's samples may be of this kind. Labels only go with samples.
        holds_classes: whether a sample is a class, or has a number for each class.
        is_distribution: whether a sample has weights along its last axis that sum to 1.
        metrics: metrics of an evaluation where neither metrics nor features are named, and the
            features are the samples' own values; empty for all that apply.
        training_metrics: metrics during training where a recipe names none. The first one that
            applies, and of which lower is better, chooses the best checkpoint.
        pair_metrics: metrics of samples that answer a field of paired data, where none are named.
            Those of them that apply are computed; the first one in a comparison during training
            for which lower is better chooses the best checkpoint.
        controls: names of the samples that `evaluate` computes beside the generated ones.
        features: default feature extractor of the metrics; `None` leaves the choice to them.
        shown_as: default format of a response for a kind without file formats of its own: a format
            that every kind has, or `"grid"` for the picture of `sheet`.
        needed: names of `meta` without which the samples of a data set cannot be of this kind.
        previews: file formats in which a training preview has its samples beside the picture.
        is_animated: `film` shows samples that change over time; the kind defines `sheet_size`.
    """

    axes: tuple[str, ...] = ()
    formats: tuple[Format, ...] = ()
    value_range: tuple[float, float] | None = None
    meta: tuple[str, ...] = ()
    assumed: Mapping[str, Any] = {}
    plural: str = "samples"
    dtypes: tuple[str, ...] = FLOATS
    stored: Mapping[str, tuple[float, float]] = {}
    for_samples: bool = True
    holds_classes: bool = False
    is_distribution: bool = False
    metrics: tuple[str, ...] = ()
    training_metrics: tuple[str, ...] = ("sliced_wasserstein",)
    pair_metrics: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    features: str | None = None
    shown_as: str = "npy"
    needed: tuple[str, ...] = ()
    previews: tuple[str, ...] = ()
    is_animated: bool = False

    @property
    def name(self) -> str:
        """Name of the kind: that of its module."""
        return type(self).__module__.rsplit(".", 1)[-1]

    @property
    def has_pixels(self) -> bool:
        """True if a sample is one picture: height, width and channels."""
        return self.axes == ("height", "width", "channels")

    @property
    def has_tokens(self) -> bool:
        """True if a sample is a sequence of tokens: time and vocabulary."""
        return self.axes == ("time", "vocabulary")

    def as_image(
        self, shape: Sequence[int | None], meta: Meta | None = None
    ) -> tuple[tuple[int | None, ...], tuple[float, float]] | None:
        """Returns how networks for images treat samples of a shape; `None` if they cannot.

        Args:
            shape: shape of one sample, without the batch.
            meta: properties of the field.

        Returns:
            Height, width and channels of the images, and the values of the samples that become -1
            and 1 in them.
        """
        return (tuple(shape), (-1.0, 1.0)) if self.has_pixels else None

    def as_sound(
        self, shape: Sequence[int | None], meta: Meta | None = None
    ) -> tuple[int | None, int | None, float] | None:
        """Returns time, channels and rate in Hz of samples that are heard; `None` of others.

        Args:
            shape: shape of one sample, without the batch.
            meta: properties of the field.
        """
        return None

    def to_sound(self, samples: np.ndarray, meta: Meta | None = None) -> np.ndarray:
        """Returns samples of a kind with `as_sound` as waves `(batch, time, channels)`.

        Args:
            samples: array `(batch, ...)`.
            meta: properties of the field.
        """
        raise NotImplementedError

    def answers(self, name: str, kind: Kind) -> bool:
        """Returns whether samples of this kind answer a field: pictures the picture `condition`.

        Args:
            name: name of the field.
            kind: its kind.
        """
        return self.has_pixels and kind.has_pixels and name == "condition"

    def is_ids(self, shape: Sequence[int | None]) -> bool:
        """Returns whether values of a shape are ids along the kind's last axis, which they lack."""
        return len(shape) < len(self.axes)

    def to_ids(self, samples: np.ndarray) -> np.ndarray:
        """Returns weights of ids as the most probable ids; any other samples as they are.

        Args:
            samples: array `(batch, ...)`.
        """
        is_weights = self.is_distribution and samples.dtype.kind == "f"
        return samples.argmax(axis=-1) if is_weights else samples

    def dtypes_of(self, shape: Sequence[int | None]) -> tuple[str, ...]:
        """Returns the dtypes that values of a shape may have in a batch, the default first."""
        return INTEGERS if self.is_ids(shape) else self.dtypes

    def range_for(self, shape: Sequence[int | None]) -> tuple[float, float] | None:
        """Returns the range of values of a shape; `None` for ids and where there is none."""
        return None if self.is_ids(shape) else self.value_range

    def all_formats(self) -> dict[str, Format]:
        """Returns every format by its name, the preferred one first."""
        return {f.name: f for f in (*self.formats, *COMMON)}

    @property
    def written(self) -> tuple[str, ...]:
        """Names of the formats of its own whose files can be written here, the default first."""
        return tuple(f.name for f in self.formats if f.is_written)

    def check(self, shape: Sequence[int | None], meta: Meta | None = None) -> None:
        """Checks the shape of one sample, without the batch, and the properties beside it.

        Raises:
            UsageError: a rank, size or property that the kind does not have.
        """
        positive = all(n is None or (type(n) is int and n > 0) for n in shape)
        rank = len(self.axes) or max(1, len(shape))
        if len(shape) != rank or not positive:
            wanted = f"{len(self.axes)} " if self.axes else ""
            raise UsageError(
                f"A sample of kind {self.name!r} must have {wanted}positive dimensions "
                f"({', '.join(self.axes) or 'at least one'}). Received: shape={tuple(shape)}"
            )
        for name in meta or {}:
            if name != "value_range" and name not in self.meta:
                valid = ", ".join(("value_range", *self.meta))
                raise UsageError(
                    f"A field of kind {self.name!r} may have {valid}. Received: {name}"
                )

    def range_of(self, meta: Meta | None) -> tuple[float, float]:
        """Returns the smallest and largest value, by default -1 and 1."""
        low, high = (meta or {}).get("value_range") or self.value_range or (-1.0, 1.0)
        return float(low), float(high)

    def from_stored(self, array: np.ndarray, meta: Meta) -> np.ndarray:
        """Returns values of a dtype of `stored` in the range of the field, as a file gives them."""
        return array

    def check_given(self, array: np.ndarray, meta: Meta, name: str) -> None:
        """Checks finite values that somebody gives as an input, beyond shape, dtype and range.

        Args:
            array: the values, `(batch, ...)`.
            meta: properties of the input.
            name: name of the input, for the error.

        Raises:
            UsageError: values that the kind does not have.
        """

    def examples(
        self, rng: np.random.Generator, shape: tuple[int, ...], meta: Meta
    ) -> np.ndarray | None:
        """Returns example values by which runtimes are compared, such as those of real data.

        Args:
            rng: source of the values.
            shape: their shape, with the batch.
            meta: properties of the field.

        Returns:
            The values; `None` where normal or uniform ones in the field's range will do.
        """
        return None

    def encode(
        self,
        sample: np.ndarray,
        form: str,
        meta: Meta | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> bytes:
        """Encodes one sample as a file.

        Args:
            sample: array of the sample's shape, without the batch.
            form: name of a format.
            meta: properties of the field, such as `value_range` or `sample_rate`.
            texts: texts to keep in the file where the format has a place for them.

        Raises:
            UsageError: a format that the kind does not have or does not write, one whose package
                is not installed, or values that are not finite and that the format does not have.
        """
        found = self.all_formats().get(form)
        if found is None or found.encode is None:
            valid = ", ".join(n for n, f in self.all_formats().items() if f.encode)
            raise UsageError(
                f"`format` of a sample of kind {self.name!r} must be one of {valid}. "
                f"Received: format={short_repr(form)}"
            )
        extras.check(form, found.module, found.extra)
        sample = np.asarray(sample)
        bad = {} if found.any_value else count_not_finite({form: sample})
        if bad:
            raise NotFiniteError(
                f"A sample must be finite numbers in a {form} file. "
                f"Received: {bad[form]} NaN or infinite values of {sample.size}"
            )
        return found.encode(sample, meta or {}, texts or {})

    def headers(self, sample: np.ndarray, meta: Meta) -> Mapping[str, str]:
        """Returns HTTP headers about the file of one sample, values by name.

        Args:
            sample: array of the sample's shape, without the batch, of finite values.
            meta: properties of the field.
        """
        return {}

    def decode(
        self, content: bytes, form: str, shape: Sequence[int | None], meta: Meta | None = None
    ) -> np.ndarray:
        """Decodes one sample that somebody sends as a file.

        Args:
            content: the file.
            form: name of a format.
            shape: wanted shape without the batch, `None` where any size goes.
            meta: properties of the field.

        Returns:
            Array of the wanted shape, in the range of the field.

        Raises:
            UsageError: not a file of this format, or a sample of another shape.
        """
        found = self.all_formats().get(form)
        if found is None or found.decode is None:
            valid = ", ".join(n for n, f in self.all_formats().items() if f.decode)
            raise UsageError(
                f"A file of kind {self.name!r} must be one of {valid}. Received: {short_repr(form)}"
            )
        sample = found.decode(content, shape, meta or {})
        return check_shape(sample, shape, self.name)

    def format_of(self, media_type: str) -> Format | None:
        """Returns the readable format of a Content-Type, or `None`."""
        plain = media_type.partition(";")[0].strip().lower()
        found = (f for f in self.all_formats().values() if f.media_type == plain and f.decode)
        return next(found, None)

    def format_of_file(self, name: str) -> Format | None:
        """Returns the format of a file by its ending, or `None`."""
        ending = name.rsplit(".", 1)[-1].lower()
        found = (f for f in self.all_formats().values() if ending in (f.name, *f.endings))
        return next(found, None)

    def check_sheet(self, count: int, shape: Sequence[int], columns: int | None = None) -> None:
        """Checks the size of the picture of `sheet` before its samples are generated.

        Args:
            count: number of samples.
            shape: shape of each.
            columns: samples per row; by default such that the picture is nearly square.

        Raises:
            UsageError: a picture that is too wide or too high.
        """

    def lines(self, samples: np.ndarray, meta: Meta | None = None) -> list[str] | None:
        """Returns samples that are read as one line of text each; `None` of all other kinds.

        Args:
            samples: array `(batch, ...)`.
            meta: properties of the field.
        """
        return None

    def sheet(
        self, samples: np.ndarray, meta: Meta | None = None, columns: int | None = None
    ) -> np.ndarray:
        """Draws samples in one picture, for previews.

        Args:
            samples: array `(batch, ...)`.
            meta: properties of the field.
            columns: samples per row; by default such that the picture is nearly square.

        Returns:
            uint8 array `(height, width, 1, 3 or 4)`.
        """
        raise NotImplementedError

    def loop(self, samples: np.ndarray, meta: Meta | None = None) -> bytes | None:
        """Encodes the first samples, which move by themselves, as one animated WebP picture.

        Args:
            samples: array `(batch, ...)`.
            meta: properties of the field.

        Returns:
            The file, of up to 16 samples; `None` for kinds whose samples do not move.
        """
        return None

    def sheet_size(
        self, count: int, shape: Sequence[int], columns: int | None = None
    ) -> tuple[int, int]:
        """Returns the height and width of the picture of `sheet` in pixels.

        Takes the arguments of `check_sheet`.
        """
        raise NotImplementedError

    def film(self, steps: Iterable[np.ndarray], meta: Meta | None = None) -> np.ndarray:
        """Draws samples that change over time, all of them in one picture for each step.

        Args:
            steps: array `(batch, ...)` of the samples at each step.
            meta: properties of the field.

        Returns:
            uint8 array `(steps, height, width, 1, 3 or 4)`.
        """
        return np.stack([self.sheet(samples, meta) for samples in steps])


def check_shape(sample: np.ndarray, shape: Sequence[int | None], kind: str) -> np.ndarray:
    """Returns a sample if it has the wanted shape.

    Raises:
        UsageError: another rank or size.
    """
    fits = sample.ndim == len(shape)
    if not fits or any(n is not None and n != m for n, m in zip(shape, sample.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise UsageError(
            f"A sample of kind {kind!r} must have the shape ({wanted}) here. "
            f"Received: shape={tuple(sample.shape)}"
        )
    return sample
