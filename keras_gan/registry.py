"""Registry of classes by name, and the check of options against the signature that takes them.

Defining a class registers it, so that adding a loss or a term is one class in one file. A user's
own classes are found as well, once their module is imported.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from keras_gan.errors import UsageError
from serving import nearest_names
from serving.errors import short_repr

T = TypeVar("T")


def snake_case(name: str) -> str:
    """Returns a name in snake case: `RelativisticAverage` -> `relativistic_average`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def classes(base: type[T]) -> dict[str, type[T]]:
    """Returns every public concrete subclass of `base` by its name in snake case."""
    found: dict[str, type[T]] = {}
    for cls in base.__subclasses__():
        found.update(classes(cls))
        if not cls.__name__.startswith("_") and not inspect.isabstract(cls):
            found[snake_case(cls.__name__)] = cls
    return found


def registered(base: type) -> dict[str, str]:
    """Returns every name with the first line of its class's docstring, in alphabetical order."""
    first = {
        name: (inspect.getdoc(cls) or "").split("\n")[0] for name, cls in classes(base).items()
    }
    return dict(sorted(first.items()))


def nearest(name: str, valid: Iterable[str]) -> str:
    """Returns a closing hint for an error: the nearest valid name, or all of them.

    For the order in which names are nearest see `serving.nearest_names`.

    Args:
        name: the name that was received.
        valid: the valid names, or a mapping from them to classes or modules. Such a class or
            module may list other names of what it implements as `also_called`, in lower case and
            without separators.
    """
    names = sorted(valid)
    others: dict[str, str] = {}
    for n, each in valid.items() if isinstance(valid, Mapping) else ():
        others |= dict.fromkeys(getattr(each, "__dict__", {}).get("also_called", ()), n)
    return nearest_names.nearest(str(name), names, others)


def parameters_of(function: Callable) -> dict[str, tuple[Any, Any]]:
    """Returns the named parameters of a function or class as `(annotation, default)` by name.

    The annotation is `Any` and the default is `...` where there is none. A constructor with
    `**kwargs` passes them on to its base class, whose parameters count too, unless Keras defines
    that class.
    """
    if not inspect.isclass(function):
        return _named_parameters(function)[0]
    found: dict[str, tuple[Any, Any]] = {}
    for cls in inspect.getmro(function):
        if "__init__" not in vars(cls):
            continue
        if found and cls.__module__.partition(".")[0] in ("keras", "builtins"):
            break
        own, passes_on = _named_parameters(cls.__init__)
        found |= {name: each for name, each in own.items() if name not in found}
        if not passes_on:
            break
    return found


def _named_parameters(target: Callable) -> tuple[dict[str, tuple[Any, Any]], bool]:
    """Returns the named parameters of a function, and True if it has `**kwargs`."""
    try:
        hints = typing.get_type_hints(target)
    except NameError:  # names that are imported for type checkers only
        hints = {}
    parameters = inspect.signature(target).parameters
    named = {
        name: (hints.get(name, Any), ... if p.default is p.empty else p.default)
        for name, p in parameters.items()
        if name != "self" and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    return named, any(p.kind == p.VAR_KEYWORD for p in parameters.values())


def check_names(
    function: Callable,
    options: Mapping[str, Any],
    what: str,
    *,
    path: str = "",
    skip: Iterable[str] = (),
    keys: Iterable[str] = (),
) -> None:
    """Checks the names of options against the parameters of the function or class that takes them.

    Options are named parameters only, see `parameters_of`: a constructor that collects others in
    `**kwargs` has to name those that it uses.

    Args:
        function: the function or class.
        options: values by the parameters' names.
        what: what takes them, for errors, such as `loss 'hinge'`.
        path: path of the options in a recipe, for errors.
        skip: parameters that are not options.
        keys: further names that are valid beside the options, for the hint of an error.

    Raises:
        UsageError: the first option that is unknown, with the nearest valid one, or a required one
            that is missing.
    """
    taken = {n: default for n, (_, default) in parameters_of(function).items() if n not in skip}
    for name, value in options.items():
        if name not in taken:
            where, rule = _labels(name, path)
            raise UsageError(
                f"{rule} is not an option of the {what}. Received: {where}={short_repr(value)}. "
                f"{nearest(name, {*taken, *keys})}"
            )
    for name, default in taken.items():
        if default is ... and name not in options:
            raise UsageError(
                f"{_labels(name, path)[1]} is missing: the {what} needs it. "
                f"Received: {short_repr(dict(options)) if options else 'no options'}"
            )


def _labels(name: str, path: str) -> tuple[str, str]:
    """Returns an option's name in `Received:` and in a rule: its path, or itself in backticks."""
    where = f"{path}.{name}" if path else name
    return where, where if path else f"`{name}`"


def find(base: type[T], identifier: Any, what: str) -> T:
    """Returns an instance of a subclass of `base`, of a name, a dictionary or an instance.

    Args:
        base: class whose subclasses are searched.
        identifier: an instance; a name in snake case; or a dictionary of `name` and the
            arguments of the constructor.
        what: its name in error messages.

    Raises:
        UsageError: unknown name, or arguments that the class does not take.
    """
    if isinstance(identifier, base):
        return identifier
    if isinstance(identifier, str):
        identifier = {"name": identifier}
    if not isinstance(identifier, dict) or "name" not in identifier:
        raise UsageError(
            f"A {what} must be given as a name, a dictionary with its name and arguments, or an "
            f"instance of {base.__name__}. Received: {identifier!r}"
        )
    arguments = dict(identifier)
    name = arguments.pop("name")
    known = classes(base)
    if name not in known:
        raise UsageError(f"No {what} has that name. Received: {name!r}. {nearest(name, known)}")
    check_names(known[name], arguments, f"{what} {name!r}")
    return known[name](**arguments)


_CHOICES: dict[str, Callable[[], Iterable[str]]] = {}


def provide_choices(key: str, names: Callable[[], Iterable[str]]) -> None:
    """Registers the valid values of a recipe's key.

    The recipe looks them up by key, because it may not import every package whose classes it
    names.

    Args:
        key: path of the key in the recipe.
        names: function that returns the valid names; called at each check, so that classes
            defined later are found too.
    """
    _CHOICES[key] = names


def choices(key: str) -> tuple[str, ...]:
    """Returns the valid values of a recipe's key, see `provide_choices`."""
    return tuple(_CHOICES[key]())
