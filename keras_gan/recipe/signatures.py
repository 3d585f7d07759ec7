"""Checks of options against the signature of the function or class that takes them."""

from __future__ import annotations

import contextlib
import copy
import difflib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pydantic
from pydantic import ConfigDict

from keras_gan import schedules
from keras_gan.errors import UsageError
from keras_gan.recipe.scheduling import resolve
from keras_gan.registry import check_names, classes, nearest, parameters_of, snake_case
from serving.lists import parse_list

_Model = TypeVar("_Model", bound=pydantic.BaseModel)
_CONFIG = ConfigDict(
    arbitrary_types_allowed=True,
    protected_namespaces=(),
    validate_default=True,
)
_NOUNS = {"augment": "augmentation"}  # where the class's own name does not read well


def check_options(
    function: Callable,
    options: Mapping[str, Any],
    what: str,
    path: str,
    skip: Iterable[str] = (),
    keys: Iterable[str] = (),
) -> dict[str, Any]:
    """Checks options by `registry.check_names` and by the annotations of the parameters.

    An annotation `str | dict | Base` stands for a registered subclass of `Base`, given by its name
    or by a dictionary of its name and arguments; `Schedule` in an annotation for a dictionary of
    the same form. Both are checked by the constructor that they name.

    Args:
        function: the function or class.
        options: plain values by the parameters' names.
        what: what takes them, for errors, such as `loss 'hinge'`.
        path: path of the section in the recipe, for errors.
        skip: parameters that are not options.
        keys: the section's keys that are not options.

    Returns:
        All options as plain values, with defaults where none is given.

    Raises:
        UsageError: the first option that is unknown, missing or of a wrong type, by its path.
    """
    check_names(function, options, what, path=path, skip=skip, keys=keys)
    taken = parameters_of(function)
    options = {name: as_list(value, taken[name][0]) for name, value in options.items()}
    fields: dict[str, Any] = {}
    for name, (hint, default) in taken.items():
        if name in skip:
            continue
        given, where = options.get(name), f"{path}.{name}"
        takes_schedule = schedules.Schedule in typing.get_args(hint)
        if isinstance(given, bool) and (takes_schedule or hint in (int, float, int | None)):
            raise UsageError(f"{where} must be a number. Received: {given}")
        if isinstance(given, dict) and takes_schedule:
            check_named(schedules.Schedule, given, where)
            fields[name] = (dict[str, Any], default)
            continue
        base, several = _named_base(hint)
        if base is not None and name in options:
            _check_all_named(base, given, where, several, type(None) in typing.get_args(hint))
        fields[name] = (Any if base else hint, default)
    model = pydantic.create_model("Options", __config__=_CONFIG, **fields)
    found = validate(model, dict(options), path)
    return {name: _plain(getattr(found, name)) for name in fields}


def as_list(value: Any, hint: Any) -> Any:
    """Returns the list that a text or a number stands for, where only a list is expected.

    `--set data.class_names=no,yes`, `--set networks.generator.condition=labels` and
    `--set networks.generator.widths=64` mean lists.

    Args:
        value: the value of an option.
        hint: annotation of the option.
    """
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    members = typing.get_args(hint) if union else (hint,)
    lists = [m for m in members if typing.get_origin(m) in (list, tuple, Sequence, Iterable)]
    others = set(members) - {*lists, type(None)}
    if not lists or str in others or isinstance(value, bool):
        return value
    are_numbers = bool({part for m in lists for part in typing.get_args(m)} & {int, float})
    if isinstance(value, str):
        found = [_number(x) for x in value.split(",")] if are_numbers else parse_list(value)
        is_one = value.strip() and not others and not are_numbers
        return found if "," in value or is_one else value
    return [value] if are_numbers and not others and isinstance(value, int | float) else value


def _number(text: str) -> int | float | str:
    for read in (int, float):
        with contextlib.suppress(ValueError):
            return read(text)
    return text


def _named_base(hint: Any) -> tuple[type | None, bool]:
    """Returns the base class in an annotation `str | dict | Base`, and True for a list of such."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (Iterable, Sequence, list) and arguments:
        return _named_base(arguments[0])[0], True
    origins = [typing.get_origin(argument) or argument for argument in arguments]
    plain = (str, dict, type(None), Callable)
    if not isinstance(hint, types.UnionType) or not {str, dict} <= set(origins):
        return None, False
    bases = [o for o in origins if inspect.isclass(o) and o not in plain]
    return (bases[0], False) if bases else (None, False)


def _check_all_named(base: type, given: Any, path: str, several: bool, optional: bool) -> None:
    if several:
        if not isinstance(given, list):
            raise UsageError(f"{path} must be a list. Received: {given!r}")
        for i, entry in enumerate(given):
            check_named(base, entry, f"{path}.{i}")
    elif not (optional and given is None):
        check_named(base, given, path)


def check_named(base: type, given: Any, path: str) -> None:
    """Checks a name, or a dictionary of a name and arguments, of a registered subclass.

    Args:
        base: class whose subclasses may be named.
        given: the value in the recipe.
        path: its path, for errors.

    Raises:
        UsageError: an unknown name, or arguments that the class refuses.
    """
    options = dict(given) if isinstance(given, dict) else {"name": given}
    name = options.pop("name", None)
    known = classes(base)
    noun = snake_case(base.__name__)
    noun = _NOUNS.get(noun, noun)
    if not isinstance(name, str) or name not in known:
        article = "an" if noun[0] in "aeiou" else "a"
        raise UsageError(
            f"{path} must name {article} {noun}. Received: {name!r}. {nearest(str(name), known)}"
        )
    check_options(known[name], options, f"{noun} {name!r}", path, keys=["name"])
    try:
        known[name](**{key: resolve(value) for key, value in options.items()})
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _plain(value: Any) -> Any:
    """Returns tuples as lists, as YAML reads them."""
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


# ------------------------------------------------------------------------ pydantic's errors


def validate(model: type[_Model], tree: dict[str, Any], path: str) -> _Model:
    """Returns the model of a tree.

    Raises:
        UsageError: the first key that the model refuses, by its path, in one line.
    """
    try:
        return model.model_validate(copy.deepcopy(tree))
    except pydantic.ValidationError as error:
        # A misspelled key shows up as a missing one as well. The unknown key is the cause.
        problems = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise UsageError(_one_line(model, problems[0], path)) from None


# Rules in place of those of pydantic, by the type of the problem.
_RULES = {
    "string_type": "must be a string; put numbers, true and false in quotes",
    "list_type": "must be a list, such as [A, B]",
    "tuple_type": "must be a list, such as [A, B]",
    "sequence_str": "must be a list, such as [A, B]",
    "model_type": "must be a section of keys, such as {key: value}",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "int_parsing": "must be an integer",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
}


def _one_line(model: type[pydantic.BaseModel], problem: Any, path: str) -> str:
    # The tags of pydantic's unions are not keys.
    tag = re.compile(
        r"(function-|json-or-python|dict\[|list\[|literal\[|is-instance\[).*|str|bool|int|float"
    )
    location = [str(part) for part in problem["loc"] if not tag.fullmatch(str(part))]
    where = ".".join(filter(None, [path, *location]))
    if problem["type"] == "extra_forbidden":
        return unknown_key(where, _keys_at(model, location[:-1]))
    if problem["type"] == "missing":
        # A section that takes options as well has no unknown keys for pydantic.
        near = difflib.get_close_matches(location[-1], map(str, problem["input"]), 1, 0.6)
        if near:
            return unknown_key(where.rpartition(".")[0] + f".{near[0]}", location[-1:])
        return f"{where} is missing from the recipe"
    message = problem["msg"].removeprefix("Value error, ")
    rule = _RULES.get(problem["type"], message[0].lower() + message[1:])
    if problem["type"] == "is_instance_of" and problem["ctx"]["class"] in ("Sequence", "Iterable"):
        rule = _RULES["list_type"]
    return f"{where}: {rule}. Received: {problem['input']!r}"


def unknown_key(path: str, valid: Iterable[str]) -> str:
    """Returns the error text for a key that a section does not have."""
    return f"{path} is not a key of the recipe. {nearest(path.rpartition('.')[2], valid)}"


def _keys_at(model: Any, location: list[str]) -> list[str]:
    for part in location:
        model = model.model_fields[part].annotation
        # The annotation of a section that may be null is a union.
        model = next((t for t in typing.get_args(model) if t is not type(None)), model)
    return list(model.model_fields)
