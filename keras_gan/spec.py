"""What one sample of a data set looks like: all that an architecture needs to know of the data."""

from __future__ import annotations

import dataclasses
from typing import Literal

from keras_gan.errors import UsageError

Kind = Literal["image", "points", "audio", "sequence", "video", "array"]

# The dimensions of one sample of each kind; an array has any.
AXES: dict[str, tuple[str, ...]] = {
    "image": ("height", "width", "channels"),
    "points": ("features",),
    "audio": ("time", "channels"),
    "sequence": ("time", "features"),
    "video": ("frames", "height", "width", "channels"),
    "array": (),
}


@dataclasses.dataclass(frozen=True)
class Spec:
    """Describes the samples of a data set, without the batch dimension.

    Args:
        kind: `"image"`, `"points"`, `"audio"`, `"sequence"`, `"video"`, or `"array"` for samples
            of any other form.
        shape: shape of one sample: `(height, width, channels)` for images, with 1, 3 or 4
            channels; `(features,)` for points; `(time, channels)` for audio, `(time, features)`
            for sequences, `(frames, height, width, channels)` for video.
        value_range: smallest and largest value a sample may hold; `(-1.0, 1.0)` for images,
            `None` where values are unbounded.
        num_classes: number of classes, class ids being `0..num_classes-1`; 0 for data without
            labels.
        class_names: name of each class, in the order of the ids; empty if they have none.

    Raises:
        UsageError: a shape that does not fit the kind, or names that do not fit the classes.
    """

    kind: Kind
    shape: tuple[int, ...]
    value_range: tuple[float, float] | None = None
    num_classes: int = 0
    class_names: tuple[str, ...] = ()

    def packed(self, count: int) -> Spec:
        """What a discriminator gets that judges `count` samples at once (`pac` of `GAN`)."""
        shape = (*self.shape[:-1], count * self.shape[-1])
        return self if count == 1 else _Packed(**{**vars(self), "shape": shape})

    def __post_init__(self) -> None:
        if self.kind not in AXES:
            raise UsageError(f"kind must be one of {tuple(AXES)}. Received: kind={self.kind!r}")
        axes = AXES[self.kind]
        rank = len(axes) or max(1, len(self.shape))
        if len(self.shape) != rank or not all(int(n) == n and n > 0 for n in self.shape):
            raise UsageError(
                f"A sample of kind {self.kind!r} must have {len(axes) or 'any number of'} positive "
                f"dimensions ({', '.join(axes) or 'at least one'}). "
                f"Received: shape={tuple(self.shape)}"
            )
        if self.kind == "image" and self.shape[-1] not in (1, 3, 4):
            raise UsageError(
                "Images must have 1 (gray), 3 (RGB) or 4 (RGBA) channels. "
                f"Received: shape={tuple(self.shape)}"
            )
        if self.class_names and len(self.class_names) != self.num_classes:
            raise UsageError(
                f"class_names must have one name for each of the {self.num_classes} classes. "
                f"Received: {len(self.class_names)} names"
            )


@dataclasses.dataclass(frozen=True)
class _Packed(Spec):
    """A pack of samples, made of a checked one: its channels are those of all its pictures."""

    def __post_init__(self) -> None:
        pass
