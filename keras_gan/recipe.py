"""The recipe: all that a training is made of, in one YAML file.

Every key is checked before anything else happens. The options of a data set, a player, a loss, a
penalty or an optimizer are the arguments of the function or class that takes them: adding an
argument there adds it to the recipe.
"""

from __future__ import annotations

import copy
import importlib.resources
import inspect
import math
import os
import pathlib
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

import keras
import pydantic
import yaml
from pydantic import ConfigDict, Field

from keras_gan import architectures, augment, datasets, losses, penalties
from keras_gan.errors import UsageError
from keras_gan.registry import classes, nearest


def _no_truth_value(value: Any) -> Any:
    """Refuses true and false, which Python counts as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


_Model = TypeVar("_Model", bound=pydantic.BaseModel)
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Natural = Annotated[int, pydantic.BeforeValidator(_no_truth_value), Field(ge=1)]


# How arguments of functions and classes are checked.
_ARGUMENTS = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())


class _Section(pydantic.BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True)


class _Open(pydantic.BaseModel):
    """A section whose further keys are the arguments of what it names."""

    model_config = ConfigDict(extra="allow", validate_default=True)

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class Data(_Open):
    """`source` is what `datasets.open` takes; further keys are its options."""

    source: str


class Player(_Open):
    """`architecture` names the family; further keys are the options of its player."""

    architecture: str


class Game(_Section):
    loss: str | dict[str, Any] = "non_saturating"
    penalties: list[str | dict[str, Any]] = []
    augment: str | dict[str, Any] | None = None
    conditional: bool = False
    discriminator_steps: Natural = 1
    ema_half_life: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10_000
    ema_rampup: Positive = 0.05


class Optimizer(_Open):
    """`name` is a Keras optimizer's; further keys are its arguments."""

    name: str = "adam"
    learning_rate: Positive = 2e-4
    schedule: Literal["constant", "cosine"] = "constant"


class Optimizers(_Section):
    generator: Optimizer = Optimizer()
    discriminator: Optimizer = Optimizer()


class Training(_Section):
    images: Natural
    minutes: Positive | None = None
    batch_size: Natural = 64
    precision: Literal["auto", "float32", "bfloat16", "mixed_float16", "mixed_bfloat16"] = "float32"
    jit_compile: bool | Literal["auto"] = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    tick_images: Natural = 2_000


class Evaluation(_Section):
    """`every_images` 0 means: at the end alone."""

    metric: Literal["sliced_wasserstein"] = "sliced_wasserstein"
    every_images: Annotated[int, Field(ge=0)] = 0
    count: Annotated[int, Field(ge=2)] = 1_000


class Samples(_Section):
    count: Annotated[Natural, Field(le=10_000)] = 64
    seed: Annotated[int, Field(ge=0, lt=2**62)] = 0
    every_seconds: Positive = 30.0


class Recipe(_Section):
    """A resolved recipe.

    Raises:
        UsageError: from `load` and `parse`, at the first key that is unknown, of a wrong type or
            impossible, naming its path.
    """

    data: Data
    generator: Player
    discriminator: Player
    game: Game = Game()
    optimizers: Optimizers = Optimizers()
    training: Training
    evaluation: Evaluation = Evaluation()
    samples: Samples = Samples()

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True)

    def diff(self, other: Recipe) -> list[str]:
        """Every key that differs, as `path: mine -> other's`."""
        mine, others = _flat(self.model_dump()), _flat(other.model_dump())
        return [
            f"{path}: {mine.get(path, 'unset')} -> {others.get(path, 'unset')}"
            for path in sorted(mine.keys() | others.keys())
            if mine.get(path, "unset") != others.get(path, "unset")
        ]


def names() -> dict[str, str]:
    """Every preset's name with the first line of its header."""
    found = {}
    for entry in importlib.resources.files("keras_gan").joinpath("recipes").iterdir():
        if entry.name.endswith(".yaml"):
            found[entry.name.removesuffix(".yaml")] = entry.read_text("utf-8").split("\n")[0][2:]
    return dict(sorted(found.items()))


def load(name: str, settings: Iterable[str] = (), data: str | None = None) -> Recipe:
    """Reads a preset or a file, applies overrides, and checks every key.

    Args:
        name: name of a preset, or path of a YAML file.
        settings: overrides, each `dotted.path=value` with the value in YAML.
        data: another data source, in place of the recipe's `data` section.

    Raises:
        UsageError: no such recipe, not YAML, or a key that `Recipe` refuses.
    """
    tree = _read(name)
    if data is not None:
        if not data:
            raise UsageError("--data must name the data. Received: ''")
        path = os.path.expanduser(data)
        known = data.replace("_", "-") in datasets.names()
        # Absolute, so that the run can be resumed and told of from anywhere.
        found = os.path.exists(path) and not known
        tree["data"] = {"source": os.path.abspath(path) if found else data}
    for setting in settings:
        _set(tree, setting)
    return parse(tree)


def parse(tree: Mapping[str, Any]) -> Recipe:
    """Checks a recipe given as nested dictionaries.

    Raises:
        UsageError: the first key that is wrong, by its path.
    """
    recipe = _validated(Recipe, dict(tree), "")
    for role in ("generator", "discriminator"):
        _check_player(recipe, role)
    _check_named(losses.Loss, recipe.game.loss, "game.loss", "loss")
    for i, penalty in enumerate(recipe.game.penalties):
        _check_named(penalties.Penalty, penalty, f"game.penalties.{i}", "penalty")
    if recipe.game.augment is not None:
        _check_named(augment.Augment, recipe.game.augment, "game.augment", "augmentation")
    for role in ("generator", "discriminator"):
        _check_optimizer(getattr(recipe.optimizers, role), f"optimizers.{role}")
    _check_data(recipe.data.source, recipe.data.options)
    if recipe.training.batch_size % recipe.game.discriminator_steps:
        raise UsageError(
            "training.batch_size must divide by game.discriminator_steps="
            f"{recipe.game.discriminator_steps}, as each step sees its own part. "
            f"Received: training.batch_size={recipe.training.batch_size}"
        )
    return recipe


def parse_data(source: str, settings: Iterable[str] = ()) -> dict[str, Any]:
    """Options of a data source from overrides `data.option=value`, checked like a recipe's.

    Raises:
        UsageError: no such source, an option it does not have, or another section's key.
    """
    tree: dict[str, Any] = {"data": {}}
    for setting in settings:
        if not setting.startswith("data."):
            raise UsageError(f"Here --set takes data.option=value. Received: {setting!r}")
        _set(tree, setting)
    _check_data(source, tree["data"])
    return tree["data"]


# ------------------------------------------------------------------------ reading


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as in YAML 1.2, and a key may stand but once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if len(keys) != len({str(key) for key in keys}):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} stands twice")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _read(name: str) -> dict[str, Any]:
    path = pathlib.Path(os.path.expanduser(name))
    preset = name.replace("_", "-")
    if preset in names() and not path.is_file():
        text = importlib.resources.files("keras_gan").joinpath(f"recipes/{preset}.yaml").read_text()
    else:
        text = _read_file(path, name)
    try:
        tree = yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        line = " ".join(str(error).split())
        raise UsageError(f"A recipe must be a YAML file. Received: {name!r}: {line}") from None
    if not isinstance(tree, dict):
        raise UsageError(
            f"A recipe must hold sections ({', '.join(Recipe.model_fields)}). "
            f"Received: {name!r} with {type(tree).__name__}"
        )
    return tree


def _read_file(path: pathlib.Path, name: str) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"A recipe is a preset or a YAML file. Received: {name!r}, which is neither. "
            f"{nearest(name, names())}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"A recipe must be a readable YAML file. Received: {name!r}: {error}"
        ) from None


def _set(tree: dict[str, Any], setting: str) -> None:
    """Applies one `dotted.path=value`; numbers step into lists."""
    path, equals, value = setting.partition("=")
    if not equals or not path:
        raise UsageError(f"--set takes dotted.path=value. Received: {setting!r}")
    node: Any = tree
    *parents, last = path.strip().split(".")
    try:
        for key in parents:
            node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
        parsed = yaml.load(value, _Loader)
        if isinstance(node, list):
            node[int(last)] = parsed
        else:
            node[last] = parsed
    except (ValueError, IndexError, TypeError, AttributeError):
        raise UsageError(f"--set must name a key of the recipe. Received: {setting!r}") from None
    except (yaml.YAMLError, RecursionError):
        raise UsageError(f"--set takes a value in YAML. Received: {setting!r}") from None


# ------------------------------------------------------------------------ checking


def _check_player(recipe: Recipe, role: str) -> None:
    player: Player = getattr(recipe, role)
    known = architectures.names()
    if player.architecture not in known:
        raise UsageError(
            f"{role}.architecture must be one of {', '.join(known)}. "
            f"Received: {player.architecture!r}. {nearest(player.architecture, known)}"
        )
    function = getattr(architectures.module(player.architecture), role)
    _check_options(function, player.options, role, skip=("spec", "conditional"))


def _check_data(source: str, options: dict[str, Any]) -> None:
    module, found = datasets.find(source)
    _check_options(module.open, options, "data", skip=tuple(found))


def _check_named(base: type, given: str | dict[str, Any], path: str, what: str) -> None:
    options = {"name": given} if isinstance(given, str) else dict(given)
    name = options.pop("name", None)
    known = classes(base)
    if not isinstance(name, str) or name not in known:
        article = "an" if what[0] in "aeiou" else "a"
        raise UsageError(
            f"{path} must name {article} {what}. Received: {name!r}. {nearest(str(name), known)}"
        )
    _check_options(known[name], options, path)
    try:
        known[name](**options)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _check_optimizer(optimizer: Optimizer, path: str) -> None:
    known = {
        name.lower(): cls
        for name, cls in vars(keras.optimizers).items()
        if inspect.isclass(cls) and issubclass(cls, keras.optimizers.Optimizer)
    }
    for wrapper in ("optimizer", "lossscaleoptimizer"):  # no algorithms of their own
        known.pop(wrapper, None)
    cls = known.get(optimizer.name.lower())
    if cls is None:
        raise UsageError(
            f"{path}.name must be a Keras optimizer. Received: {optimizer.name!r}. "
            f"{nearest(optimizer.name.lower(), known)}"
        )
    _check_options(cls, optimizer.options, path, skip=("learning_rate", "name", "kwargs"))
    # Keras's arguments are not annotated; a number by default is a number.
    for name, parameter in inspect.signature(cls).parameters.items():
        value = optimizer.options.get(name, 0.0)
        number = isinstance(value, (int, float)) and math.isfinite(value)
        optional = parameter.default is None and (value is None or isinstance(value, str))
        if not number and not optional and not isinstance(parameter.default, str):
            raise UsageError(f"{path}.{name} must be a finite number. Received: {value!r}")
    try:
        make_optimizer(optimizer, steps=1)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} is refused by Keras: {' '.join(str(error).split())}") from None


def make_optimizer(optimizer: Optimizer, steps: int) -> keras.optimizers.Optimizer:
    """The Keras optimizer of a section, its schedule laid out over `steps` steps."""
    rate: Any = optimizer.learning_rate
    if optimizer.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, decay_steps=steps)
    config = {"learning_rate": rate, **optimizer.options}
    return keras.optimizers.get({"class_name": optimizer.name, "config": config})


def _check_options(function: Callable, options: dict, path: str, skip: tuple = ()) -> None:
    """Checks options against the names and annotations of what will take them."""
    target = function.__init__ if inspect.isclass(function) else function
    try:
        hints = typing.get_type_hints(target)
    except NameError:
        hints = {}
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(target).parameters.items():
        variadic = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if name in ("self", *skip) or variadic:
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints.get(name, Any), default)
        if isinstance(options.get(name), bool) and hints.get(name) in (int, float, int | None):
            raise UsageError(f"{path}.{name} must be a number. Received: {options[name]}")
    model = pydantic.create_model(
        "Options",
        __config__=_ARGUMENTS,
        **fields,
    )
    _validated(model, options, path)


def _validated(model: type[_Model], tree: dict[str, Any], path: str) -> _Model:
    """The model of a tree, or one line for the first key that it refuses."""
    try:
        return model.model_validate(copy.deepcopy(tree))
    except pydantic.ValidationError as error:
        # A misspelt key shows up as missing as well; the unknown one is the cause.
        problems = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise UsageError(_one_line(model, problems[0], path)) from None


def _one_line(model: type[pydantic.BaseModel], problem: Any, path: str) -> str:
    # Without the tags of pydantic's unions, which are no keys.
    tags = ("function-", "dict[", "list[", "literal[", "str", "bool", "int", "float")
    location = [str(part) for part in problem["loc"] if not str(part).startswith(tags)]
    where = ".".join(filter(None, [path, *location]))
    if problem["type"] == "extra_forbidden":
        valid = _keys_at(model, location[:-1])
        return f"{where} is not a key of the recipe. {nearest(location[-1], valid)}"
    if problem["type"] == "missing":
        return f"{where} is missing from the recipe"
    rule = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{where}: {rule}. Received: {problem['input']!r}"


def _keys_at(model: Any, location: list[str]) -> list[str]:
    for part in location:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {path: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{path}.{key}" if path else key))
    return flat
