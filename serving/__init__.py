"""Runs bundles with numpy and onnxruntime alone: no TensorFlow, no Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serving.errors import UsageError

if TYPE_CHECKING:
    from serving.bundle import Bundle

__all__ = ["Bundle", "UsageError"]


def __getattr__(name: str) -> Any:
    # The command line's --help starts here and should not wait for numpy and onnxruntime.
    if name == "Bundle":
        from serving.bundle import Bundle

        return Bundle
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
