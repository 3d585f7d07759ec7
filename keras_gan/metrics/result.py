"""Result of an evaluation."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np

from keras_gan import run as runs
from keras_gan.errors import UsageError


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """Values of the metrics, with the protocol needed to reproduce them.

    Args:
        values: the values by name; see docs/metrics.md for their meaning.
        protocol: extractor and hash, resize filter, counts, splits, seeds, labels, weights, the
            settings of each metric, versions.
        details: results that are not single numbers, such as the accuracy of each class.
        controls: values of the controls by their names, such as `"identity"` and `"bicubic"`.
    """

    values: dict[str, float]
    protocol: dict[str, Any]
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    controls: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a JSON file, atomically; values that are not finite become null."""
        content = dataclasses.asdict(self)
        content["values"] = _finite(self.values)
        content["controls"] = {name: _finite(values) for name, values in self.controls.items()}
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        runs.write_atomically(pathlib.Path(os.path.expanduser(path)), text.encode())


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def check_target(path: str | os.PathLike[str]) -> None:
    """Checks that a file can be written, before any work is done.

    Raises:
        UsageError: the folder does not exist, or the path is that of a folder.
    """
    file = pathlib.Path(os.path.expanduser(path))
    if file.is_dir() or not file.parent.is_dir():
        raise UsageError(
            "A file is written to a folder that exists, under a name that no folder has. "
            f"Received: {str(file)!r}"
        )
