"""Parts of the games of policies: distributions, cloning steps, scores in the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan.control import cloning, distributions, scores
from keras_gan.control.spaces import Spaces, make, spaces_of
from keras_gan.errors import UsageError
from keras_gan.networks import Network
from keras_gan.spec import Spec
from serving import environments
from serving.environments import POLICY, REWARD

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops

NORMALIZED, MEAN = "normalized_return", "mean_return"  # names of scores
_BASE_EPISODES = 50  # of random actions and of the scripted expert


def check_policy(network: Network, outputs: Mapping[str, Any], spaces: Spaces) -> Any:
    """Returns the class of the distributions that a policy describes.

    Raises:
        UsageError: a policy with other inputs or outputs than the environment needs.
    """
    kind = distributions.class_of(outputs)
    wanted = distributions.Categorical if spaces.choices else distributions.Gaussian
    if kind is not wanted:
        raise UsageError(
            f"The policy must return {' and '.join(wanted.needed)} for the actions of "
            f"{spaces.environment}. Received: outputs {', '.join(outputs)}"
        )
    shapes = {name: tuple(outputs[name].shape[1:]) for name in (*wanted.needed, "samples")}
    if set(shapes.values()) != {(spaces.action,)} or network.fields != ("observation",):
        raise UsageError(
            f"The policy must map `observation` to {spaces.action} values for the actions of "
            f"{spaces.environment}. Received: inputs {', '.join(network.fields)}, outputs {shapes}"
        )
    observed = tuple(network.field_specs()["observation"].shape[1:])
    if observed != (spaces.observation,):
        raise UsageError(
            f"The policy must take observations of {spaces.environment}, of shape "
            f"({spaces.observation},). Received: {observed}"
        )
    return kind


def clone(game: Any, observations: Any, actions: Any) -> None:
    """Trains a game's policy by one step on the logarithm of the probability of actions."""
    with tf.GradientTape() as tape:
        distribution = game.distribution(observations, training=True)
        loss = -ops.mean(distribution.log_prob(actions))
    game.minimize("policy", loss, tape)
    game.track(cloning_loss=loss)


def log_likelihood(outputs: Mapping[str, Any], actions: Any) -> Any:
    """Returns the logarithm of the probability of actions by a policy's outputs, `(batch,)`."""
    kind: Any = distributions.class_of(outputs)
    return kind(outputs).log_prob(actions)


class Acting:
    """Methods of games whose generator is a policy, the network `policy`.

    A game's class defines `environment`, `evaluation_episodes` and `expert_return`, and calls
    `check_policy` when its networks are checked.
    """

    sampled = "policy"
    averaged: tuple[str, ...] = ("policy",)
    first_input = "observation"
    sample_kind = "action"

    @property
    def score(self) -> str:
        """Name of the score that chooses the best checkpoint."""
        return MEAN if self._expert_return() is None else NORMALIZED

    @classmethod
    def network_role(cls, name: str) -> str:
        """Returns the function of an architecture that builds a network: that of its name."""
        return name

    @classmethod
    def network_spec(cls, name: str, spec: Spec, options: Mapping[str, Any]) -> Spec:
        """Returns the spec of the data, which is of the game's environment.

        Raises:
            UsageError: data of another environment.
        """
        wanted = options.get("environment")
        known = spec.samples.meta.get("environment", wanted)
        if wanted is not None and known != wanted:
            raise UsageError(
                f"The trajectories must be of the game's environment {wanted}. "
                f"Received: data of {known}"
            )
        return spec

    def export_role(self, name: str) -> str | None:
        """Returns the role of a network in a bundle: the policy's, or the discriminator's."""
        return {"policy": POLICY, "discriminator": REWARD}.get(name)

    def describe_environment(self) -> dict[str, Any]:
        """Returns the spaces of the environment, in the form of `serving.environments`."""
        game: Any = self
        found = make(game.environment)
        try:
            spaces = found.observation_space, found.action_space
            return environments.describe(game.environment, *spaces)
        finally:
            found.close()

    @property
    def spaces(self) -> Spaces:
        """Observations and actions of the environment."""
        game: Any = self
        return spaces_of(game.environment)

    def distribution(self, observations: Any, training: bool = False) -> Any:
        """Returns the live policy's distribution of the actions for observations."""
        game: Any = self
        outputs = game.networks["policy"]({"observation": observations}, training=training)
        return distributions.class_of(outputs)(outputs)  # pyright: ignore[reportOptionalCall]

    def scores(self) -> dict[str, float]:
        """Returns the mean return of the averaged policy, and on the scale of random and expert."""
        game: Any = self
        policy, episodes = game.average("policy"), game.evaluation_episodes
        return self._scores(float(scores.returns_of(policy, self.spaces, episodes).mean()))

    def _scores(self, mean: float) -> dict[str, float]:
        game: Any = self
        expert = self._expert_return()
        if expert is None:
            return {MEAN: mean}
        random = scores.random_return(game.environment, _BASE_EPISODES)
        return {NORMALIZED: scores.normalized_return(mean, random, expert), MEAN: mean}

    def _expert_return(self) -> float | None:
        game: Any = self
        if game.expert_return is not None:
            return float(game.expert_return)
        return scores.scripted_return(game.environment, _BASE_EPISODES)

    def baselines(self, fields: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
        """Returns the scores of the expert, of random actions, and of a cloned policy.

        The cloned policy has the present weights of the policy before it learns; it is called
        before the first step of a training.

        Args:
            fields: arrays of the training data by name.
        """
        game: Any = self
        random = scores.random_return(game.environment, _BASE_EPISODES)
        expert = self._expert_return()
        found = {} if expert is None else {"expert": self._scores(expert)}
        found["random"] = self._scores(random)
        copied = cloning.cloned(game.networks["policy"], fields, game.seed)
        mean = float(scores.returns_of(copied, self.spaces, game.evaluation_episodes).mean())
        found["cloning"] = self._scores(mean)
        return found
