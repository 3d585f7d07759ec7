"""Policies and rewards: networks of observations and actions of an environment."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export.declare import Declarations
from keras_gan import Game, UsageError, rewards
from serving import environments
from serving.environments import ACTION, LARGEST, OBSERVATION, POLICY, REWARD, Environment

ROLES = (POLICY, REWARD)
LOGITS, MEAN, LOG_STD = "logits", "mean", "log_std"  # names of outputs

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops
Facts = Mapping[str, Any]


def choose(model: Any, role: str | None, network: str | None) -> tuple[str | None, str | None]:
    """Returns the role of an export, and the name of the network of a game.

    Args:
        model: a game or a Keras model.
        role: role that the caller names; of a game it chooses the network of that role.
        network: network of a game that the caller names.

    Raises:
        UsageError: a game without a network of that role, or a network of another role.
    """
    if not isinstance(model, Game):
        return role, network
    roles = {name: model.export_role(name) for name in model.networks}
    if network is None and role in ROLES:
        network = next((name for name, each in roles.items() if each == role), None)
        if network is None:
            raise UsageError(
                "A policy or a reward is exported from a game that acts in an environment, such as "
                f"imitation. Received: role={role!r} of {type(model).__name__}, with the networks "
                f"{', '.join(roles)}"
            )
    own = roles.get(network or model.exports)
    if own not in ROLES:
        return role, network
    if role not in (None, own):
        raise UsageError(
            f"The network {network or model.exports!r} has the role {own!r}. "
            f"Received: role={role!r}"
        )
    return own, network


def environment_of(declared: Facts | None, model: Any, role: str | None) -> Facts | None:
    """Returns `environment` of the manifest of a policy or a reward, `None` for other networks.

    Args:
        declared: what the caller declares.
        model: a game, which may have an environment, or a Keras model.
        role: role of the network.

    Raises:
        UsageError: an environment of a network of another role, one of another form, or none.
    """
    if role not in ROLES:
        if declared is not None:
            raise UsageError(
                f"`environment` is for the roles {' and '.join(ROLES)}. Received: role={role!r}"
            )
        return None
    if declared is None and isinstance(model, Game):
        declared = model.describe_environment()
    if declared is None:
        raise UsageError(
            f"A network of role {role!r} needs `environment`, the spaces of its observations and "
            "actions, such as {'id': 'CartPole-v1', 'observation': {'low': None, 'high': None}, "
            "'action': {'n': 2}}. Received: environment=None"
        )
    return environments.check_facts(declared)


def of_game(game: Game, name: str | None, model: keras.Model) -> keras.Model:
    """Returns a network of a game; a discriminator that is a reward with its rewards as output.

    Args:
        game: the game.
        name: name of the network; by default the one that the game exports.
        model: the network.
    """
    if game.export_role(name or game.exports) != REWARD:
        return model
    found = model(model.input)
    logits = found["logits"] if isinstance(found, dict) else found
    values = RewardOfLogits(game.reward, dtype="float32", name=REWARD)(logits)
    return keras.Model(model.input, values, name=model.name)


@keras.saving.register_keras_serializable("keras_gan")
class RewardOfLogits(keras.layers.Layer):
    """Layer that returns the rewards of a discriminator's logits, `(batch,)`.

    Args:
        reward: name, configuration or instance of a reward, see `keras_gan.rewards`.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(self, reward: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.reward = rewards.get(reward)

    def call(self, inputs):
        return self.reward(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[:1]

    def get_config(self) -> dict:
        return {**super().get_config(), "reward": self.reward}

    @classmethod
    def from_config(cls, config: dict) -> RewardOfLogits:
        return cls(**{**config, "reward": keras.saving.deserialize_keras_object(config["reward"])})


def with_ports(
    model: keras.Model, declared: Declarations, facts: Facts | None
) -> tuple[keras.Model, Declarations]:
    """Returns a policy or a reward with the ports of its role, and declarations of these.

    Args:
        model: a built Keras model; that of another role is returned as it is.
        declared: what the caller declares; it takes precedence.
        facts: `environment` of the manifest.

    Raises:
        UsageError: a model that does not fit the environment.
    """
    if facts is None:
        return model, declared
    shape = _observation_shape(model)
    for key, bounds in facts["observation"].items():
        if isinstance(bounds, list) and len(bounds) != math.prod(shape):
            raise UsageError(
                f"`environment.observation.{key}` must be one number for each of an observation. "
                f"Received: {len(bounds)} numbers, model {model.name!r} with observations of shape "
                f"{shape}"
            )
    space = environments.read(facts, shape)
    found = of_policy(model, space) if declared.role == POLICY else of_reward(model, space)
    seen = _range(space.low, space.high)
    action = _action_facts(space)
    ports = {OBSERVATION: {"fill": "given", "kind": "array", "meta": seen}}
    if declared.role == REWARD:
        ports[ACTION] = {"fill": "given", **action}
        outputs = {REWARD: {"kind": "array"}}
    else:
        outputs = {name: {"kind": "array"} for name in found.output} | {ACTION: action}
    return found, dataclasses.replace(
        declared,
        inputs={n: {**own, **declared.inputs.get(n, {})} for n, own in ports.items()},
        outputs={n: {**own, **declared.outputs.get(n, {})} for n, own in outputs.items()},
    )


def _range(low: np.ndarray, high: np.ndarray) -> dict[str, Any]:
    """Returns the range that holds all bounds; nothing if one is missing."""
    if max(np.abs(low).max(), np.abs(high).max()) >= LARGEST or not low.min() < high.max():
        return {}
    return {"value_range": (float(low.min()), float(high.max()))}


def _action_facts(space: Environment) -> dict[str, Any]:
    if space.least is None or space.most is None:
        return {"kind": "label", "meta": {"num_classes": space.count}}
    return {"kind": "array", "meta": _range(space.least, space.most)}


def of_policy(model: keras.Model, space: Environment) -> keras.Model:
    """Returns a model from `observation` to `action`, and to what the action is chosen by.

    A discrete action is the number of the largest of `logits`, the first of equal ones. A
    continuous one is `mean` within the bounds of the environment; `log_std` is returned where the
    model has it.

    Args:
        model: a policy: one input, and the outputs `logits`, or `mean` and maybe `log_std`; other
            outputs are left out. A single output may have any name.
        space: spaces of its environment.

    Raises:
        UsageError: a model of other inputs or outputs.
    """
    if len(model.inputs) != 1:
        raise UsageError(
            "A policy must have one input, the observation. "
            f"Received: model {model.name!r} with the inputs {_listed(model.inputs)}"
        )
    observation, found = _call(model)
    name = LOGITS if space.least is None else MEAN
    size = (space.count,) if space.least is None else space.least.shape
    chosen = found.get(name) if len(found) > 1 else next(iter(found.values()))
    if chosen is None or tuple(chosen.shape[1:]) != size:
        outputs = ", ".join(f"{key} {tuple(x.shape[1:])}" for key, x in found.items())
        raise UsageError(
            f"A policy for {space.describes_actions} must have the output {name!r} of shape "
            f"{size}. Received: model {model.name!r} with the outputs {outputs}"
        )
    chosen = _named(chosen, name)
    outputs = {ACTION: _action(chosen, space), name: chosen}
    if name == MEAN and LOG_STD in found:
        outputs[LOG_STD] = _named(found[LOG_STD], LOG_STD)
    return keras.Model(observation, outputs, name=model.name)


@keras.saving.register_keras_serializable("keras_gan")
class LargestLogit(keras.layers.Layer):
    """Layer that returns the number of the largest logit, int64, the first of equal ones.

    Keras's own `argmax` distinguishes -0.0 from 0.0, which takes a dozen operations more.
    """

    def call(self, inputs):
        return tf.argmax(inputs, axis=-1, output_type=tf.int64)


def _action(chosen: Any, space: Environment) -> Any:
    if space.least is None or space.most is None:
        return LargestLogit(name=ACTION)(chosen)
    return ops.minimum(ops.maximum(chosen, space.least), space.most)


def of_reward(model: keras.Model, space: Environment) -> keras.Model:
    """Returns a model from `observation` and `action` to `reward`, of shape `(batch,)`.

    Args:
        model: a network with two inputs, `observation` and one of actions: as `action` of the
            exported network has them, or one-hot; and one number for each pair as its output.
        space: spaces of the environment.

    Raises:
        UsageError: a model of other inputs or outputs.
    """
    inputs = {tensor.name: tensor for tensor in model.inputs}
    others = [name for name in inputs if name != OBSERVATION]
    if OBSERVATION not in inputs or len(others) != 1:
        raise UsageError(
            "A reward must have two inputs, `observation` and one of actions. "
            f"Received: model {model.name!r} with the inputs {_listed(model.inputs)}"
        )
    is_discrete = space.least is None
    taken = tuple(inputs[others[0]].shape[1:])
    size = () if space.least is None else space.least.shape
    if taken != size and not (is_discrete and taken == (space.count,)):
        shapes = f"{size} or one-hot {(space.count,)}" if is_discrete else f"{size}"
        raise UsageError(
            f"A reward for {space.describes_actions} must take actions of shape {shapes}. "
            f"Received: model {model.name!r} with the input {others[0]!r} of shape {taken}"
        )
    seen = keras.Input(inputs[OBSERVATION].shape[1:], name=OBSERVATION)
    action = keras.Input(size, dtype="int64" if is_discrete else "float32", name=ACTION)
    given = ops.one_hot(action, space.count) if taken != size else action
    values = {OBSERVATION: seen, others[0]: given}
    nested = keras.tree.map_structure(lambda tensor: values[tensor.name], _structure(model))
    found = keras.tree.flatten(model(nested))
    if len(found) != 1 or any(n != 1 for n in found[0].shape[1:]):
        raise UsageError(
            "A reward must have one number for each observation and action as its output. "
            f"Received: model {model.name!r} with the outputs {_listed(found)}"
        )
    reward = ops.reshape(ops.cast(found[0], "float32"), (-1,))
    return keras.Model([seen, action], {REWARD: reward}, name=model.name)


def _observation_shape(model: keras.Model) -> tuple[int, ...]:
    """Returns the shape of the observations that a model takes.

    Raises:
        UsageError: a model without inputs of Keras, or observations of any size.
    """
    inputs = list(getattr(model, "inputs", None) or ())
    named = [tensor for tensor in inputs if tensor.name == OBSERVATION] or inputs[:1]
    shape = tuple(named[0].shape[1:]) if named else ()
    if not shape or None in shape or "float" not in str(named[0].dtype):
        raise UsageError(
            "A policy or reward must be a functional model whose observations are floats of fixed "
            f"shape. Received: model {model.name!r} with the inputs {_listed(inputs)}"
        )
    return tuple(int(n) for n in shape)


def _call(model: keras.Model) -> tuple[Any, dict[str, Any]]:
    """Returns a new input of a model and its outputs by name."""
    given = model.inputs[0]
    observation = keras.Input(given.shape[1:], dtype=given.dtype, name=OBSERVATION)
    found = model(keras.tree.map_structure(lambda _: observation, _structure(model)))
    if isinstance(found, dict):
        return observation, dict(found)
    outputs = keras.tree.flatten(found)
    names = model.output_names if len(outputs) > 1 else [MEAN]  # the only one has any name
    return observation, dict(zip(names, outputs, strict=True))


def _structure(model: keras.Model) -> Any:
    """Returns the inputs of a model in the structure that it takes."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _named(tensor: Any, name: str) -> Any:
    return keras.layers.Identity(dtype="float32", name=name)(tensor)


def _listed(tensors: Any) -> str:
    return ", ".join(f"{x.name} {tuple(x.shape[1:])}" for x in tensors) or "of a subclassed model"
