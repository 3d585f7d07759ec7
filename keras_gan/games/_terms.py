"""The terms of a game: names, states, metrics, and their sum in a player's loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_gan import schedules, terms
from keras_gan.errors import UsageError
from keras_gan.games import _states
from keras_gan.registry import parameters_of

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


def named(given: Any) -> dict[str, terms.Term]:
    """Returns terms by the names of their metrics; a second `le_cam` is called `le_cam_2`.

    Terms of one class may differ in what they compute, such as the layer or the augmentation.

    Raises:
        UsageError: two terms that compute the same for a player.
    """
    if not isinstance(given, (list, tuple)):
        raise UsageError(f"`terms` must be a list. Received: terms={given!r}")
    found: dict[str, terms.Term] = {}
    for term in map(terms.get, given):
        base = name = terms.name_of(term)
        count = 1
        while name in found:
            count += 1
            name = f"{base}_{count}"
        found[name] = term
    for term, other in itertools.combinations(found.values(), 2):
        shared = [player for player in term.players if player in other.players]
        if shared and _are_same(term, other):
            raise UsageError(
                "`terms` must have each term once for a player; give one the sum of the weights. "
                f"Received: {terms.name_of(term)!r} twice for the {shared[0]}"
            )
    return found


def _are_same(term: terms.Term, other: terms.Term) -> bool:
    """Returns whether two terms have the same arguments besides weights, interval and players."""
    if type(term) is not type(other):
        return False
    config, others = term.get_config(), other.get_config()
    if not parameters_of(type(term)).keys() <= config.keys():
        return False  # a user's class that does not list its arguments
    names = [n for n in config if n not in ("interval", "player") and not n.endswith("weight")]
    return all(config[name] == others[name] for name in names)


def metric(name: str, player: str) -> str:
    """Returns the name of a term's metric, which names the player unless it is a discriminator."""
    return name if player == "discriminator" else f"{player}_{name}"


def metric_names(found: Mapping[str, terms.Term]) -> list[str]:
    """Returns the names of the metrics of all terms."""
    return [metric(name, player) for name, term in found.items() for player in term.players]


class Objectives:
    """Terms of a game with their states and metrics.

    Args:
        found: terms by name.
        states: variables of the states, for each term.
        trackers: metrics by name.
    """

    def __init__(self, found: Mapping[str, terms.Term], states: Mapping, trackers: Mapping):
        self.terms, self.states, self.trackers = found, states, trackers

    def total(
        self, context: terms.StepContext, examples_seen: Any, without: Collection[str] = ()
    ) -> Any:
        """Returns the sum of the terms of the player whose step it is, each times its weight.

        Args:
            context: what the terms see of the step.
            examples_seen: number of examples, by which schedules of weights go.
            without: names of networks; terms that read one of them are left out.
        """
        total = 0.0
        for name, term in self.terms.items():
            reads = term.networks_read(context.player)
            if context.player not in term.players or set(without) & set(reads):
                continue
            variables = self.states[name]
            value, state, due = _mean(term, context, _states.values(variables))
            _states.assign(variables, state)
            weight = schedules.now(term.weight_on(context.player), examples_seen)
            total += weight * term.interval * value
            self.trackers[metric(name, context.player)].update_state(value, sample_weight=due)
        return total


class Mean(keras.metrics.Mean):
    """A mean that is NaN as long as there are no values, as those of a lazy term may be."""

    def result(self):
        return ops.where(ops.equal(self.count, 0), math.nan, super().result())


def _mean(term: terms.Term, context: terms.StepContext, state: dict) -> tuple[Any, dict, Any]:
    """Returns the mean of a term, its new state, and 1.0 if it is due in this step, else 0.0."""
    if term.interval == 1:
        values, state = term(context, state)
        return ops.mean(values), state, 1.0
    due = tf.equal(context.step % term.interval, 0)

    def compute():
        # Forward passes of its own inside the branch: nothing is computed when it is not due.
        values, new = term(context.with_own_passes(), state)
        return ops.mean(values), {name: tf.cast(new[name], state[name].dtype) for name in state}

    value, state = tf.cond(due, compute, lambda: (tf.zeros(()), state))
    return value, state, tf.cast(due, "float32")
