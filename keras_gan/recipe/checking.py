"""Checks of a recipe as a whole: every section against what it names, and sections together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from keras_gan import architectures, datasets
from keras_gan.datasets import labeled
from keras_gan.errors import UsageError
from keras_gan.recipe.games import SUPPLIED, game_classes, network_names, player_names
from keras_gan.recipe.optimizers import check_optimizer
from keras_gan.recipe.scheduling import schedules_in
from keras_gan.recipe.sections import (
    DataSection,
    GameSection,
    NetworkSection,
    OptimizerSection,
    Recipe,
)
from keras_gan.recipe.signatures import check_options, unknown_key, validate
from keras_gan.registry import nearest, parameters_of


def parse(tree: Mapping[str, Any]) -> Recipe:
    """Checks a recipe given as nested dictionaries, and fills in defaults.

    Raises:
        UsageError: the first key that is unknown, of a wrong type or out of range, by its path.
    """
    _check_network_and_player_names(tree)
    recipe = validate(Recipe, dict(tree), "")
    game = _game(recipe.game.name)
    recipe = recipe.model_copy(
        update={
            "networks": _check_networks(recipe.networks, game),
            "game": _check_game(recipe.game, game),
            "optimizers": _check_optimizers(recipe.optimizers, game),
        }
    )
    data = check_data(recipe.data.source, recipe.data.options)
    recipe = recipe.model_copy(update={"data": DataSection(source=recipe.data.source, **data)})
    _check_lengths(recipe)
    check_batches(recipe)
    return recipe


def check_data(source: str, options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options of a data source, checked against the signature of its `open`."""
    module, found = datasets.find(source)
    own, few = datasets.divide_options(options)
    what = f"data set {datasets.name_of(module)!r}"
    keys = (*DataSection.model_fields, *datasets.LABEL_OPTIONS)
    checked = check_options(module.open, own, what, "data", skip=tuple(found), keys=keys)
    checked |= check_options(labeled.keep, few, what, "data", skip=("source",))
    return {name: checked[name] for name in options}


def _game(name: str) -> Any:
    known = game_classes()
    if name not in known:
        raise UsageError(f"game.name must name a game. Received: {name!r}. {nearest(name, known)}")
    return known[name]


def _check_network_and_player_names(tree: Mapping[str, Any]) -> None:
    """Refuses networks and players that the game does not have.

    It comes before the check of their sections: what such a section lacks is not the mistake.
    """
    section = tree.get("game") or {}
    name = section.get("name", GameSection().name) if isinstance(section, Mapping) else None
    if not isinstance(name, str):
        return  # refused with the other sections
    game = _game(name)
    for path, names in (("networks", network_names(game)), ("optimizers", player_names(game))):
        given = tree.get(path)
        for name in given if isinstance(given, Mapping) else ():
            if name not in names:
                raise UsageError(unknown_key(f"{path}.{name}", names))


def _check_networks(given: dict[str, NetworkSection], game: type) -> dict[str, NetworkSection]:
    """Returns the networks in the order of the game's constructor, in which they are built."""
    names = network_names(game)
    for name in names:
        if name not in given:
            raise UsageError(f"networks.{name} is missing from the recipe")
    return {name: _check_network(name, given[name], game) for name in names}


def _check_network(name: str, section: NetworkSection, game: Any) -> NetworkSection:
    path, known = f"networks.{name}", architectures.families()
    if section.architecture not in known:
        raise UsageError(
            f"{path}.architecture must be one of {', '.join(known)}. "
            f"Received: {section.architecture!r}. {nearest(section.architecture, known)}"
        )
    role = game.network_role(name)
    function = getattr(architectures.module(section.architecture), role, None)
    if function is None:
        raise UsageError(
            f"{path}.architecture must have a function {role!r}. "
            f"Received: {section.architecture!r}, which has none"
        )
    what, keys = f"{role} {section.architecture!r}", NetworkSection.model_fields
    found = check_options(function, section.options, what, path, architectures.SUPPLIED, keys)
    if section.fields and "conditions" not in parameters_of(function):
        raise UsageError(
            f"{path}.condition: the architecture {section.architecture!r} takes labels only; mlp "
            f"takes any field of the data. Received: condition={section.condition}"
        )
    repeated = [name for name in section.condition if section.condition.count(name) > 1]
    if repeated or "samples" in section.condition:
        raise UsageError(
            f"{path}.condition must name fields besides the samples, each once. "
            f"Received: condition={section.condition}"
        )
    options = {option: found[option] for option in section.options}
    return NetworkSection(architecture=section.architecture, condition=section.condition, **options)


def _check_game(section: GameSection, game: type) -> GameSection:
    skip = (*SUPPLIED, *network_names(game))
    what, keys = f"game {section.name!r}", GameSection.model_fields
    arguments = check_options(game, section.options, what, "game", skip, keys)
    return GameSection(name=section.name, **arguments)


def _check_optimizers(given: dict[str, OptimizerSection], game: type) -> dict[str, Any]:
    found = {name: given.get(name, OptimizerSection()) for name in player_names(game)}
    for name, section in found.items():
        check_optimizer(section, f"optimizers.{name}")
    return found


def _check_lengths(recipe: Recipe) -> None:
    """Refuses schedules that do not fit into the training."""
    for path, schedule in schedules_in(recipe.model_dump(include={"game", "optimizers"})):
        try:
            schedule.with_duration(recipe.training.examples)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None


def check_batches(recipe: Recipe, replicas: int = 1) -> None:
    """Checks that a batch divides into the parts that the replicas and the game take of it.

    Args:
        recipe: a recipe.
        replicas: devices that share a batch.

    Raises:
        UsageError: a batch that does not divide.
    """
    game = game_classes()[recipe.game.name]
    factors = {"the number of devices": replicas}
    factors |= {f"game.{n}": of for n, of in game.batch_factors(recipe.game.options).items()}
    batch_size = recipe.training.batch_size
    if min(factors.values()) < 1:
        return  # the game refuses it when it is built
    if batch_size % math.prod(factors.values()):
        parts = [f"{name}={factor}" for name, factor in factors.items() if factor > 1]
        raise UsageError(
            f"training.batch_size must be a multiple of {' times '.join(parts)}: each device and "
            f"step takes a part of the batch. Received: training.batch_size={batch_size}"
        )
