"""Runs bundles with numpy and onnxruntime alone: no TensorFlow, no Keras."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from serving.errors import UsageError

if TYPE_CHECKING:
    from serving.bundle import Bundle
    from serving.client import AsyncClient, Client, ServerError

__all__ = ["AsyncClient", "Bundle", "Client", "ServerError", "UsageError"]

_PLACES = {"Bundle": "bundle", "AsyncClient": "client", "Client": "client", "ServerError": "client"}


def __getattr__(name: str) -> Any:
    # The command line's --help starts here and should not wait for numpy and onnxruntime.
    if name in _PLACES:
        return getattr(importlib.import_module(f"serving.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
