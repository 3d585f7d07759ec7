"""Golden samples of a bundle: inputs and outputs that every runtime must reproduce."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np

from serving.bundle import Bundle
from serving.errors import UsageError

FILE_NAME = "golden.npz"
_MAX_BYTES = 64 * 2**20
_COUNT = 4  # samples that are compared
_TOLERANCE = 1e-2  # share of the value range: rounding of another machine, not another model


class Golden:
    """The first golden samples of a bundle.

    Args:
        sizes: named sizes of its inputs.
        arguments: arguments of `Bundle.sample` that generate the samples again.
        expected: the first output.
    """

    def __init__(self, sizes: dict[str, int], arguments: dict[str, Any], expected: np.ndarray):
        self.sizes = sizes
        self._arguments = arguments
        self._expected = expected

    def compare(self, bundle: Bundle, batch_size: int) -> None:
        """Generates the samples and compares them.

        Raises:
            UsageError: the model does not reproduce them.
        """
        expected = self._expected.astype(np.float64)
        samples = bundle.generate(**self._arguments, batch_size=batch_size)
        low, high = bundle.value_range or (float(expected.min()), float(expected.max()))
        worst = float("inf")
        if samples.shape == expected.shape:
            worst = float(np.abs(samples - expected).max())
        if not worst <= _TOLERANCE * max(high - low, 1e-6):
            raise UsageError(
                "A model must reproduce the golden samples of its bundle. "
                f"Received: {str(bundle.path)!r} with a difference of {worst:.3g}"
            )


def read_golden(bundle: Bundle) -> Golden | None:
    """Reads the first golden samples; returns `None` if the bundle has none.

    Raises:
        UsageError: the file is damaged.
    """
    facts = bundle.manifest["files"].get(FILE_NAME)
    path = bundle.path / FILE_NAME
    if facts is None or not path.is_file() or path.stat().st_size > _MAX_BYTES:
        return None
    content = path.read_bytes()
    if not isinstance(facts, dict) or hashlib.sha256(content).hexdigest() != facts.get("sha256"):
        raise UsageError(
            f"{FILE_NAME} must have the SHA-256 that manifest.json names; the bundle is damaged or "
            f"was changed. Received: {str(path)!r}"
        )
    first, inputs = bundle.outputs[0], bundle.inputs
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            names = [x.name for x in inputs.given] + [first.name]
            names += [inputs.classes.name] if inputs.classes else []
            names += ["seeds"] if inputs.drawn else []
            arrays = {name: archive[name][:_COUNT] for name in names}
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise UsageError(
            f"{FILE_NAME} must hold seeds, given inputs and {first.name}. "
            f"Received: {str(path)!r} ({error!r:.80})"
        ) from error
    expected = arrays.pop(first.name)
    sizes = (None, *first.sizes)
    fits = (
        expected.ndim == len(sizes)
        and len(expected)
        and set(map(len, arrays.values())) <= {len(expected)}
    )
    if not fits or any(n not in (None, m) for n, m in zip(sizes, expected.shape, strict=True)):
        raise UsageError(
            f"{FILE_NAME} must hold samples of the shape in the manifest. "
            f"Received: {str(path)!r} with {expected.shape}"
        )
    if inputs.seeded:
        arrays.setdefault("seeds", np.arange(len(expected)))
    return Golden(inputs.named_sizes(arrays), arrays, expected)
