"""Modules of a user's own that a command imports, such as a game: `--import my_game.py`.

Importing a module defines its classes, so that recipes find them by name. Nothing is imported from
the current folder unless it is named: a module that is given by its name is loaded from its file
there, before one that is installed. Its folder is then searched after all other places, for modules
that it imports itself. A run folder records the modules of its training, and they are imported
again when the run is opened, from any folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import os
import pathlib
import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from keras_gan.errors import UsageError, one_line
from keras_gan.registry import nearest


@dataclasses.dataclass(frozen=True)
class UserModule:
    """An imported module.

    Args:
        name: name of the module.
        path: absolute path of its file; empty for a module without one.
        by_path: True if it is found by its path, False if by its name.
        sha256: digest of its file.
        folder: folder in which it is found by its name; empty for an installed module.
    """

    name: str
    path: str
    by_path: bool
    sha256: str
    folder: str = ""


_LOADED: dict[str, UserModule] = {}


def load(names: Iterable[str]) -> None:
    """Imports modules, each given as the path of a `.py` file or as the name of a module.

    Raises:
        UsageError: a module that does not exist, or that fails when it is imported.
    """
    for name in names:
        if name.endswith(".py") or os.sep in name:
            _load_file(os.path.abspath(os.path.expanduser(name)))
        else:
            _load_name(name, os.getcwd())


def describe() -> list[dict[str, Any]]:
    """Returns the modules that have been loaded, as a run folder records them."""
    return [dataclasses.asdict(module) for module in _LOADED.values()]


def reload(recorded: Iterable[Mapping[str, Any]], owner: str) -> None:
    """Imports the modules that a run folder records, if they are unchanged.

    A module of the same name that has been loaded before takes the place of the recorded one.

    Args:
        recorded: what `describe` returned.
        owner: the run folder, for errors.

    Raises:
        UsageError: a module that is missing or has changed since.
    """
    for entry in recorded:
        module = UserModule(**entry)
        if module.name in _LOADED:
            continue
        hint = f"restore it, or give --import {pathlib.Path(module.path).name} with its new place"
        is_file = module.by_path or module.folder
        if is_file and not os.path.isfile(module.path):
            raise UsageError(
                f"{owner} was trained with --import {module.path}, which does not exist: {hint}"
            )
        if is_file and _digest(module.path) != module.sha256:
            raise UsageError(
                f"{owner} was trained with --import {module.path}, which has changed since "
                "(its sha256 differs): restore it, or give --import to use it as it is now"
            )
        if module.by_path:
            _load_file(module.path)
        else:
            _load_name(module.name, module.folder)
        if _LOADED[module.name].sha256 != module.sha256:
            raise UsageError(
                f"{owner} was trained with --import {module.name}, which has changed since "
                "(its sha256 differs): restore it, or give --import to use it as it is now"
            )


def _load_file(path: str) -> None:
    file = pathlib.Path(path)
    name = file.parent.name if file.name == "__init__.py" else file.stem
    module = _import_file(name, path)
    _LOADED[name] = UserModule(name, _file_of(module), True, _digest(_file_of(module)))


def _load_name(name: str, folder: str) -> None:
    """Imports a module from a folder, or else an installed one."""
    top = name.partition(".")[0]
    candidates = [os.path.join(folder, top, "__init__.py"), os.path.join(folder, f"{top}.py")]
    file = next((path for path in candidates if folder and os.path.isfile(path)), None)
    inside = os.path.join(folder, *name.split(".")) + ".py"  # in a folder without __init__.py
    if file is not None:
        module = _import_file(top, file)
    elif "." in name and folder and os.path.isfile(inside):
        _search_last(folder)
    else:
        folder = ""
    if file is None or name != top:
        module = _import_name(name)
    path = _file_of(module)
    _LOADED[name] = UserModule(name, path, False, _digest(path) if path else "", folder)


def _file_of(module: ModuleType) -> str:
    return os.path.abspath(module.__file__) if module.__file__ else ""


def _search_last(folder: str) -> None:
    """Appends a folder to the module path, where it cannot replace an installed module."""
    if folder not in sys.path:
        sys.path.append(folder)


def _import_file(name: str, path: str) -> ModuleType:
    if not os.path.isfile(path):
        near = [entry.name for entry in pathlib.Path(path).parent.glob("*.py")]
        hint = f". {nearest(pathlib.Path(path).name, near)}" if near else ""
        raise UsageError(f"--import must name a file. Received: {path}, which does not exist{hint}")
    present = sys.modules.get(name)
    if present is not None:
        if os.path.abspath(getattr(present, "__file__", None) or "") == path:
            return present
        raise UsageError(
            "--import needs a file whose name no other module has. "
            f"Received: {path}, but a module {name!r} is imported"
        )
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"--import must name a Python file. Received: {path}")
    is_package = os.path.basename(path) == "__init__.py"
    _search_last(str(pathlib.Path(path).parents[1 if is_package else 0]))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        del sys.modules[name]
        raise _failed(path, error) from error
    return module


def _import_name(name: str) -> ModuleType:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in (name, name.partition(".")[0]):
            raise _failed(name, error) from error
        raise UsageError(
            "--import must name a .py file, a module of the current folder or an installed one. "
            f"Received: {name!r}, which is neither installed nor in {os.getcwd()}"
        ) from None
    except Exception as error:  # the user's code may raise anything
        raise _failed(name, error) from error
    if hasattr(module, "__path__") and module.__file__ is None:  # any folder can be imported
        raise UsageError(
            "--import must name a .py file, a module of the current folder or an installed one. "
            f"Received: {name!r}, a folder without __init__.py"
        )
    return module


def _failed(place: str, error: Exception) -> UsageError:
    traceback, line = error.__traceback__, getattr(error, "lineno", None)
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == place:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    where = f" in line {line}" if line else ""
    reason = one_line(error)
    return UsageError(
        f"--import must name a module that can be imported. Received: {place}, which fails{where}: "
        f"{type(error).__name__}: {reason}"
    )


def _digest(path: str) -> str:
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
