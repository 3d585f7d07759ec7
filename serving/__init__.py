"""Sampling and serving of bundles with numpy and onnxruntime, without TensorFlow and Keras."""

from __future__ import annotations

from serving import programs

programs.leave_current_folder()  # before it is searched for any other module

import importlib  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from serving.errors import NotFiniteError, NotFiniteWarning, UsageError  # noqa: E402

if TYPE_CHECKING:
    from serving.bundle import Bundle
    from serving.client import AsyncClient, Client, ServerError

__all__ = [
    "AsyncClient",
    "Bundle",
    "Client",
    "NotFiniteError",
    "NotFiniteWarning",
    "ServerError",
    "UsageError",
]

_MODULES = {
    "Bundle": "bundle",
    "AsyncClient": "client",
    "Client": "client",
    "ServerError": "client",
}


def __getattr__(name: str) -> Any:
    # Imported on first use, so that --help need not wait for numpy and onnxruntime.
    if name in _MODULES:
        return getattr(importlib.import_module(f"serving.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
