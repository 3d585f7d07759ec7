"""Data sets, opened by name or by path.

Every module of this package with a function `open` is a data set. Its name is the module's name
(`fashion_mnist` or `fashion-mnist`), and the first line of its docstring describes it. A module may
also have a function `parse` for other strings, such as paths: it returns the options of `open`
that the string stands for, or `None`, and `FORM` says in words which strings these are.
`PARSED_LAST` is for a module that takes what no other one does. `SHAPE` states the shape of all of
its samples, if there is one, and `KIND` their kind. A new data set is one new file.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import OwnSplitsError, Split
from keras_gan.errors import UsageError
from keras_gan.registry import check_names
from keras_gan.spec import Spec
from serving import kinds
from serving.nearest_names import find_nearest


def _discover() -> dict[str, ModuleType]:
    modules = {
        info.name: importlib.import_module(f"{__name__}.{info.name}")
        for info in pkgutil.iter_modules(__path__)
    }
    return {
        name.replace("_", "-"): module
        for name, module in sorted(modules.items())
        if hasattr(module, "open")
    }


_REGISTRY = _discover()

from keras_gan.datasets import images, labeled  # noqa: E402
from keras_gan.datasets.array_fields import UnknownKindError, UnknownRangeError  # noqa: E402
from keras_gan.datasets.arrays import from_arrays  # noqa: E402
from keras_gan.datasets.generated import with_generated  # noqa: E402
from keras_gan.datasets.prepare import prepare  # noqa: E402

__all__ = [
    "OwnSplitsError",
    "Source",
    "Split",
    "UnknownKindError",
    "UnknownRangeError",
    "exists",
    "find",
    "from_arrays",
    "kind_of",
    "known_shape",
    "name_of",
    "names",
    "open",
    "place_of",
    "prepare",
    "spec",
    "takes_folder",
    "with_folder",
    "with_generated",
]


def names() -> dict[str, str]:
    """Returns the name and the one-line description of every data set."""
    return {
        name: (module.__doc__ or "").strip().split("\n")[0] for name, module in _REGISTRY.items()
    }


def open(source: str | os.PathLike[str], **options: Any) -> Source:
    """Opens a data set.

    Args:
        source: a name from `names()`; `tfds:NAME[/config][:version]`; the path of a .npz,
            .npy or .csv file; or the path of a folder of images or of sounds. A name takes
            precedence over a path: write `./gaussians` for a folder of the name of a data set.
        **options: options of the data set, see the function `open` of its module; and of data
            with labels `labeled`, `labeled_seed` and `labeled_share`, see `labeled.keep`.

    Returns:
        The data set. `source.dataset(split, batch_size, seed)` returns batches and
        `source.arrays(split)` the stored samples and labels.

    Raises:
        UsageError: an unknown data set or option, or data that are damaged or invalid.
    """
    module, found = find(source)
    given = {**found, **options}
    own, few = divide_options(given)
    check_names(module.open, own, f"data set {name_of(module)!r}", keys=LABEL_OPTIONS)
    opened = _open(module, own, few)
    if opened.earlier_options:
        again = {**own, **opened.earlier_options}
        opened.earlier = functools.partial(_open, module, again, few)
    return opened


# Options of every data set with labels.
LABEL_OPTIONS = tuple(inspect.signature(labeled.keep).parameters)[1:]


def divide_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the options of a data set's own `open`, and those of `labeled.keep`."""
    own = {name: value for name, value in options.items() if name not in LABEL_OPTIONS}
    return own, {name: value for name, value in options.items() if name in LABEL_OPTIONS}


def _open(module: ModuleType, options: Mapping[str, Any], few: Mapping[str, Any]) -> Source:
    """Opens a data set by its module, and keeps few labels if options of those are given."""
    opened = module.open(**options)
    return labeled.keep(opened, **few) if few else opened


def spec(source: str | os.PathLike[str], **options: Any) -> Spec:
    """Opens a data set and returns the spec of its fields."""
    return open(source, **options).spec


def known_shape(source: str, options: Mapping[str, Any]) -> tuple[int | None, ...] | None:
    """Returns the shape of a data set's samples without opening it, as far as it is known.

    Args:
        source: as `open` takes it; it need not be on this machine.
        options: options of the data set, of which `size` and `channels` fix a shape of images.

    Returns:
        `(height, width, channels)` with `None` for what is not known, or the shape of other
        samples; `None` if nothing is known.
    """
    found = _find(source)
    shape = getattr(found[0], "SHAPE", None) if found else None
    size, channels = options.get("size"), options.get("channels")
    if size is None and channels is None:
        return shape
    kind = kind_of(source)
    if kind is not None and not kinds.get(kind).has_pixels:
        return shape
    height, width = (None, None) if size is None else images.check_size(size)
    return height, width, channels


def kind_of(source: str) -> str | None:
    """Returns the kind of a data set's samples without opening it; `None` if it is not known."""
    module = _REGISTRY.get(source.replace("_", "-"))
    shape = getattr(module, "SHAPE", None)
    return getattr(module, "KIND", None) or (kinds.of_shape(shape) if shape else None)


def find(source: str | os.PathLike[str]) -> tuple[ModuleType, dict[str, Any]]:
    """Returns the module that opens a source, and the options that the source stands for."""
    found = _find(source)
    if found is not None:
        return found
    text = os.fspath(source)
    if not text.strip():
        raise UsageError(f"The data must be named. Received: {text!r}")
    name = text.replace("_", "-")
    forms = [module.FORM for module in _REGISTRY.values() if hasattr(module, "parse")]
    path = "is a file of another format" if os.path.exists(text) else "does not exist"
    near = find_nearest(name, _REGISTRY)
    raise UsageError(
        f"A data set must be one of {', '.join(_REGISTRY)}, or {', or '.join(forms)}"
        + (f" (did you mean {near!r}?)" if near else "")
        + f". Received: {text!r}, which as a path {path}"
    )


def name_of(module: ModuleType) -> str:
    """Returns the name of the data set that a module opens."""
    return next(name for name, each in _REGISTRY.items() if each is module)


def exists(source: str | os.PathLike[str]) -> bool:
    """Returns True for the name of a data set, and for the path of data that a module opens."""
    return _find(source) is not None


def takes_folder(source: str) -> bool:
    """Returns whether a name is that of a data set that reads a folder, its option `path`.

    Such as `pairs`: the name says how the folder is read, so that another folder takes the place of
    the path. The data sets that open a path by itself, such as `folder`, are not among them, but
    for those whose module says that they read any folder by `READS_FOLDERS`.
    """
    module = _REGISTRY.get(source.replace("_", "-"))
    by_path = not hasattr(module, "parse") or hasattr(module, "READS_FOLDERS")
    return module is not None and by_path and _has_path(module)


def _has_path(module: ModuleType) -> bool:
    return "path" in inspect.signature(module.open).parameters


def place_of(section: Mapping[str, Any]) -> tuple[str, str]:
    """Returns where a recipe's data are: the key of its section `data`, and the place.

    Args:
        section: the section: `source`, and the options of the data set.
    """
    source = section["source"]
    path = section.get("path")
    return ("path", os.fspath(path)) if takes_folder(source) and path else ("source", source)


def with_folder(section: Any, data: str) -> dict[str, Any]:
    """Returns a recipe's section `data` for other data.

    A folder becomes the `path` of a data set that reads folders, whose options stay. In place of a
    data set that makes pairs, such as `edges2fashion`, it is read as such pairs, and in place of
    sounds or texts, such as `asterisk-sounds` and `verses`, as sounds or texts with the same
    options; so is a file of sound or text. Anything else replaces the section.

    Args:
        section: the section as it was read.
        data: a name or a path.
    """
    source = section.get("source") if isinstance(section, Mapping) else None
    is_name = data.replace("_", "-") in _REGISTRY
    path = os.path.expanduser(data)
    if not isinstance(source, str) or not isinstance(section, Mapping) or is_name:
        return {"source": data}
    place = {"path": os.path.abspath(path)}
    if takes_folder(source) and _is_read_by(source, path):
        return {**section, **place}
    made = _REGISTRY.get(source.replace("_", "-"))
    if made is not None and hasattr(made, "folder_source"):
        reader = made.folder_source(section)
        if _is_read_by(reader, path):
            names = getattr(made, "FOLDER_OPTIONS", ())
            kept = {name: section[name] for name in names if name in section}
            return {"source": reader, **kept, **place}
    return {"source": data}


def _is_read_by(source: str, path: str) -> bool:
    """Returns whether a path is that of a folder, or of a file that a data set reads."""
    module = _REGISTRY[source.replace("_", "-")]
    return os.path.isdir(path) or (hasattr(module, "parse") and module.parse(path) is not None)


def _find(source: str | os.PathLike[str]) -> tuple[ModuleType, dict[str, Any]] | None:
    text = os.fspath(source)
    name = text.replace("_", "-")
    if isinstance(source, str) and name in _REGISTRY:
        return _REGISTRY[name], {}
    by_content = sorted(_REGISTRY.values(), key=lambda each: hasattr(each, "PARSED_LAST"))
    for module in by_content if text.strip() else ():
        found = module.parse(text) if hasattr(module, "parse") else None
        if found is not None:
            return module, found
    return None
