"""Protocols of other servers: the Open Inference Protocol V2, and TensorFlow Serving's REST API.

Every module of this package is a protocol. It defines `ROUTES`, the arguments of a
`serving.routes.Route` for each of its paths. A new protocol is one new file.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def modules() -> list[ModuleType]:
    """Returns the modules of all protocols, in alphabetical order."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    return [importlib.import_module(f"{__name__}.{name}") for name in names]
