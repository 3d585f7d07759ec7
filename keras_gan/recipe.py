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

from keras_gan import architectures, augment, constraints, datasets, losses, schedules, terms
from keras_gan.errors import UsageError
from keras_gan.registry import choices, classes, nearest


def _no_truth_value(value: Any) -> Any:
    """Refuses true and false, which Python counts as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _number_or_schedule(value: Any) -> Any:
    if isinstance(value, dict):
        return value  # checked by `_check_scheduled`, with the schedules' own rules
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("must be a number, or a schedule {name: ...}")
    try:
        return float(value)
    except ValueError:
        raise ValueError("must be a number, or a schedule {name: ...}") from None


def _chosen_from(key: str) -> pydantic.AfterValidator:
    """Accepts the names that are registered for a key, see `registry.provide_choices`."""

    def check(value: str) -> str:
        if value not in (valid := choices(key)):
            raise ValueError(f"must be one of {', '.join(valid)}")
        return value

    return pydantic.AfterValidator(check)


_Model = TypeVar("_Model", bound=pydantic.BaseModel)
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Scheduled = Annotated[Any, pydantic.BeforeValidator(_number_or_schedule)]
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
    terms: list[str | dict[str, Any]] = []
    augment: str | dict[str, Any] | None = None
    constraint: str | dict[str, Any] | None = None
    conditional: bool = False
    discriminator_steps: Natural = 1
    pac: Natural = 1
    top_k: Scheduled = 1.0
    ema_half_life: Scheduled = 10_000.0
    ema_rampup: Positive = 0.05


class Optimizer(_Open):
    """`name` is a Keras optimizer's; further keys are its arguments.

    `lazy_interval` above 1 rescales them, see `keras_gan.terms.rescaled`.
    """

    name: str = "adam"
    learning_rate: Scheduled = 2e-4
    lazy_interval: Natural = 1


class Optimizers(_Section):
    generator: Optimizer = Optimizer()
    discriminator: Optimizer = Optimizer()


class CollapseGuard(_Section):
    """What happens when the game collapses: see `callbacks.CollapseGuard`."""

    # YAML takes a bare off for false.
    action: Annotated[
        Literal["stop", "roll_back", "off"],
        pydantic.BeforeValidator(lambda value: "off" if value is False else value),
    ] = "stop"
    factor: Annotated[float, Field(gt=0, le=1)] = 0.5
    retries: Annotated[int, pydantic.BeforeValidator(_no_truth_value), Field(ge=0)] = 3
    diversity: Annotated[float, Field(gt=0, lt=1)] = 0.25


class Equilibrium(_Section):
    """When the game has come to its end: see `callbacks.Equilibrium`."""

    every_examples: Annotated[int, Field(ge=0)] = 0
    tolerance: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    patience: Natural = 3
    noise_accuracy: Annotated[float, Field(ge=0.5, le=1)] = 0.75


class Training(_Section):
    examples: Natural
    minutes: Positive | None = None
    batch_size: Natural = 64
    precision: Literal["auto", "float32", "bfloat16", "mixed_float16", "mixed_bfloat16"] = "float32"
    jit_compile: bool | Literal["auto"] = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    tick_examples: Natural = 2_000
    checkpoint_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30.0
    keep_checkpoints: Natural = 2
    collapse_guard: CollapseGuard = CollapseGuard()
    equilibrium: Equilibrium | None = None


class Evaluation(_Section):
    """What `metrics.Comparison` takes, and when; `every_examples` 0 means: at the end alone."""

    # The default is made when this module is imported, before the metrics are.
    metric: Annotated[str, _chosen_from("evaluation.metric"), Field(validate_default=False)] = (
        "sliced_wasserstein"
    )
    others: list[Annotated[str, _chosen_from("evaluation.others")]] = []
    features: str | None = None
    every_examples: Annotated[int, Field(ge=0)] = 0
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

    def keys(self) -> set[str]:
        """Every key's path, and those of the sections."""
        paths = _flat(self.model_dump()).keys()
        return {path.rsplit(".", n)[0] for path in paths for n in range(path.count(".") + 1)}

    def open_ended(self) -> list[str]:
        """Paths of the schedules that last as long as the training, whatever that is."""
        tree = {"game": self.game.model_dump(), "optimizers": self.optimizers.model_dump()}
        return [path for path, schedule in _schedules(tree) if schedule.open_ended]

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
    for i, penalty in enumerate(recipe.game.terms):
        _check_named(terms.Term, penalty, f"game.terms.{i}", "penalty")
    _check_scheduled(recipe.game.ema_half_life, "game.ema_half_life", least=0)
    _check_scheduled(recipe.game.top_k, "game.top_k", least=0, above=True, most=1)
    if recipe.game.augment is not None:
        _check_named(augment.Augment, recipe.game.augment, "game.augment", "augmentation")
    constraint = recipe.game.constraint
    if constraint is not None:
        _check_named(constraints.Constraint, constraint, "game.constraint", "constraint")
    for role in ("generator", "discriminator"):
        _check_optimizer(getattr(recipe.optimizers, role), f"optimizers.{role}")
    _check_data(recipe.data.source, recipe.data.options)
    _check_lengths(recipe)
    _check_batches(recipe)
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
            if isinstance(node, list):
                node = node[int(key)]
            else:
                if node.get(key) is None:  # absent, or a section that is switched off
                    node[key] = {}
                node = node[key]
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


def _check_batches(recipe: Recipe) -> None:
    """Each step of the discriminator sees its own part of a batch, in packs without labels."""
    game, batch_size = recipe.game, recipe.training.batch_size
    if game.pac > 1 and game.conditional:
        raise UsageError(
            "A pack of samples has no class of its own: a game with game.conditional must have "
            f"game.pac=1. Received: game.pac={game.pac}"
        )
    if batch_size % (game.discriminator_steps * game.pac):
        packs = f" times game.pac={game.pac}" if game.pac > 1 else ""
        raise UsageError(
            "training.batch_size must divide by game.discriminator_steps="
            f"{game.discriminator_steps}{packs}, as each step sees its own part. "
            f"Received: training.batch_size={batch_size}"
        )


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
        known[name](**{key: resolve(value) for key, value in options.items()})
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _check_scheduled(
    value: Any, path: str, least: float, above: bool = False, most: float = math.inf
) -> None:
    """Checks what is a number or a schedule of one, each value between which it moves."""
    if isinstance(value, dict):
        _check_named(schedules.Schedule, value, path, "schedule")
    for number in schedules.bounds(resolve(value)):
        fits = number > least if above else number >= least
        if not fits or not math.isfinite(number) or number > most:
            rule = f"greater than {'' if above else 'or equal to '}{least}"
            rule += f" and at most {most:g}" if most < math.inf else ""
            raise UsageError(f"{path}: input should be {rule}. Received: {number!r}")


def _check_lengths(recipe: Recipe) -> None:
    """Refuses schedules that do not fit into the training."""
    tree = {"game": recipe.game.model_dump(), "optimizers": recipe.optimizers.model_dump()}
    for path, schedule in _schedules(tree):
        try:
            schedule.with_duration(recipe.training.examples)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None


def resolve(value: Any, examples: float | None = None) -> Any:
    """What a recipe gives for an argument, with the schedules in it as objects.

    Args:
        value: a number, name, list or dictionary of the recipe.
        examples: length of the training, for the schedules that last as long; by default they are
            left open-ended.
    """
    if isinstance(value, list):
        return [resolve(v, examples) for v in value]
    if not isinstance(value, dict):
        return value
    if not _is_schedule(value):
        return {key: resolve(v, examples) for key, v in value.items()}
    schedule = schedules.get(value)
    return schedule if examples is None else schedule.with_duration(examples)


def _is_schedule(value: Any) -> bool:
    return isinstance(value, dict) and value.get("name") in classes(schedules.Schedule)


def _schedules(tree: Any, path: str = "") -> list[tuple[str, schedules.Schedule]]:
    """Every schedule of a checked recipe with its path; one within another is a part of it."""
    if _is_schedule(tree):
        return [(path, schedules.get(tree))]
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for key, value in entries:
        if isinstance(value, (dict, list)):
            found += _schedules(value, f"{path}.{key}" if path else str(key))
    return found


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
    rate = optimizer.learning_rate
    _check_scheduled(rate, f"{path}.learning_rate", least=0, above=not isinstance(rate, dict))
    if optimizer.lazy_interval > 1 and not {"beta_1", "beta_2"} <= _defaults(cls).keys():
        raise UsageError(
            f"{path}.lazy_interval rescales beta_1 and beta_2, which the optimizer must have. "
            f"Received: {path}.name={optimizer.name!r}"
        )
    # Keras's arguments are not annotated; a number by default is a number.
    for name, parameter in inspect.signature(cls).parameters.items():
        value = optimizer.options.get(name, 0.0)
        may_change = isinstance(parameter.default, float) or name == "weight_decay"
        if isinstance(value, dict) and may_change:
            _check_named(schedules.Schedule, value, f"{path}.{name}", "schedule")
            continue
        number = isinstance(value, (int, float)) and math.isfinite(value)
        optional = parameter.default is None and (value is None or isinstance(value, str))
        if not number and not optional and not isinstance(parameter.default, str):
            raise UsageError(f"{path}.{name} must be a finite number. Received: {value!r}")
    try:
        make_optimizer(optimizer)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} is refused by Keras: {' '.join(str(error).split())}") from None


def make_optimizer(optimizer: Optimizer, examples: float | None = None) -> Any:
    """The Keras optimizer of a section, for a training of so many images."""
    arguments = {"learning_rate": optimizer.learning_rate, **optimizer.options}
    config = resolve(arguments, examples)
    if optimizer.lazy_interval > 1:
        cls = type(keras.optimizers.get(optimizer.name))
        betas = {name: _defaults(cls)[name] for name in ("beta_1", "beta_2")}
        config = terms.rescaled({**betas, **config}, optimizer.lazy_interval)
    return keras.optimizers.get({"class_name": optimizer.name, "config": config})


def _defaults(function: Callable) -> dict[str, Any]:
    """The arguments that a function or class takes, with their defaults."""
    return {n: p.default for n, p in inspect.signature(function).parameters.items()}


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
        hint, given = hints.get(name, Any), options.get(name)
        fields[name] = (hint, default)
        may_change = schedules.Schedule in typing.get_args(hint)
        if isinstance(given, bool) and (may_change or hint in (int, float, int | None)):
            raise UsageError(f"{path}.{name} must be a number. Received: {given}")
        if isinstance(given, dict) and may_change:
            _check_named(schedules.Schedule, given, f"{path}.{name}", "schedule")
            fields[name] = (dict[str, Any], default)
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
    tag = re.compile(r"(function-|dict\[|list\[|literal\[|is-instance\[).*|str|bool|int|float")
    location = [str(part) for part in problem["loc"] if not tag.fullmatch(str(part))]
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
        # Of a section that may be null, the section.
        model = next((t for t in typing.get_args(model) if t is not type(None)), model)
    return list(model.model_fields)


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {path: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{path}.{key}" if path else key))
    return flat
