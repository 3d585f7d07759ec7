"""Labels: class ids `()`, and the probabilities `(classes,)` that a classifier gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from serving.checks import check_different
from serving.errors import UsageError
from serving.kinds import _plots
from serving.kinds._formats import Format, Meta
from serving.kinds._kind import INTEGERS, Kind


def name_of(sample: np.ndarray, meta: Meta) -> str:
    """Returns the name of a class id, or of the most probable class."""
    label = int(np.argmax(sample)) if np.ndim(sample) else int(sample)
    names = meta.get("class_names") or ()
    return names[label] if 0 <= label < len(names) else str(label)


def _to_text(sample: np.ndarray, meta: Meta, texts: Mapping[str, str]) -> bytes:
    return f"{name_of(sample, meta)}\n".encode()


class Label(Kind):
    """Class ids or probabilities of classes."""

    meta = ("num_classes", "class_names", "frequencies")
    plural = "labels"
    dtypes = INTEGERS
    for_samples = False
    holds_classes = True
    formats = (Format("txt", "text/plain", _to_text),)

    def check(self, shape: Sequence[int | None], meta: Meta | None = None) -> None:
        if len(shape):
            super().check(shape, meta)
        names, count = (meta or {}).get("class_names"), (meta or {}).get("num_classes", 0)
        if names and len(names) != count:
            raise UsageError(
                f"`class_names` must have one name for each of the {count} classes. "
                f"Received: {len(names)} names"
            )
        check_different("class_names", names or ())

    def check_given(self, array: np.ndarray, meta: Meta, name: str) -> None:
        count = meta.get("num_classes")
        if array.ndim != 1 or array.dtype.kind not in "iu" or not count:
            return
        least, most = int(array.min()), int(array.max())
        if least < 0 or most >= count:
            raise UsageError(
                f"The input {name!r} must be class ids from 0 to {count - 1}. "
                f"Received: {least if least < 0 else most}"
            )

    def sheet(
        self, samples: np.ndarray, meta: Meta | None = None, columns: int | None = None
    ) -> np.ndarray:
        return _plots.text([name_of(sample, meta or {}) for sample in samples])


KIND = Label()
