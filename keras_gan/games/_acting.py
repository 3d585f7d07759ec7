"""What the games of policies share: distributions, cloning steps, and scores in the environment."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import random_numbers
from keras_gan.control import distributions, experts, recording
from keras_gan.control.spaces import Spaces, make, spaces_of
from keras_gan.control.vector import play
from keras_gan.errors import UsageError
from keras_gan.layers import update_statistics
from keras_gan.networks import Network
from serving import environments
from serving.environments import POLICY, REWARD

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops

_SEED = 20_000  # of the episodes by which policies are scored, apart from those of recordings


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


# ------------------------------------------------------------------------ scores


def returns_of(policy: Network, spaces: Spaces, episodes: int) -> np.ndarray:
    """Returns the returns of episodes of a policy without randomness."""

    @tf.function(
        input_signature=[tf.TensorSpec((None, spaces.observation), tf.float32)], autograph=False
    )
    def act(observations):
        return policy({"observation": observations}, training=False)["samples"]

    return play(spaces, lambda seen: act(tf.constant(seen)).numpy(), episodes, _SEED)


@functools.lru_cache(maxsize=16)
def random_return(environment: str, episodes: int) -> float:
    """Returns the mean return of uniformly random actions."""
    spaces, rng = spaces_of(environment), np.random.default_rng(_SEED)

    def act(observations: np.ndarray) -> np.ndarray:
        count = len(observations)
        if spaces.choices:
            return spaces.encode(rng.integers(0, spaces.choices, count))
        return rng.uniform(spaces.low, spaces.high, (count, spaces.action)).astype(np.float32)

    return float(play(spaces, act, episodes, _SEED).mean())


@functools.lru_cache(maxsize=16)
def scripted_return(environment: str, episodes: int) -> float | None:
    """Returns the mean return of the scripted expert; `None` for an environment without one."""
    if environment not in experts.EXPERTS:
        return None
    expert = experts.scripted(environment)
    return float(recording.record(environment, expert, episodes, _SEED).returns.mean())


def normalized_return(mean: float, random: float, expert: float) -> float:
    """Returns a mean return on the scale on which random actions have 0 and the expert has 1."""
    return (mean - random) / (expert - random) if expert != random else float(mean >= expert)


class Acting:
    """Methods of games whose generator is a policy, the network `policy`.

    A game's class defines `environment`, `evaluation_episodes` and `expert_return`, and calls
    `check_policy` when its networks are checked.
    """

    sampled = "policy"
    averaged: tuple[str, ...] = ("policy",)
    first_input = "observation"
    sample_kind = "action"
    score = "normalized_return"

    @classmethod
    def network_role(cls, name: str) -> str:
        """Returns the function of an architecture that builds a network: that of its name."""
        return name

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
        episodes = game.evaluation_episodes
        return self._scores(float(returns_of(game.average("policy"), self.spaces, episodes).mean()))

    def _scores(self, mean: float) -> dict[str, float]:
        game: Any = self
        episodes, expert = game.evaluation_episodes, self._expert_return()
        random = random_return(game.environment, episodes)
        scaled = {} if expert is None else {self.score: normalized_return(mean, random, expert)}
        return {**scaled, "mean_return": mean}

    def _expert_return(self) -> float | None:
        game: Any = self
        if game.expert_return is not None:
            return float(game.expert_return)
        return scripted_return(game.environment, game.evaluation_episodes)

    def baselines(self, fields: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
        """Returns the scores of the expert, of random actions, and of a cloned policy.

        The cloned policy has the present weights of the policy before it learns; it is called
        before the first step of a training.

        Args:
            fields: arrays of the training data by name.
        """
        game: Any = self
        random = random_return(game.environment, game.evaluation_episodes)
        expert = self._expert_return()
        found = {} if expert is None else {"expert": self._scores(expert)}
        found["random"] = self._scores(random)
        copied = cloned(game.networks["policy"], fields, game.seed)
        mean = float(returns_of(copied, self.spaces, game.evaluation_episodes).mean())
        found["cloning"] = self._scores(mean)
        return found


def cloned(
    policy: Network, fields: Mapping[str, np.ndarray], seed: int, steps: int = 2_000
) -> Network:
    """Returns a copy of a policy that is trained by behavior cloning, full batches up to 256.

    Args:
        policy: the policy, which stays as it is.
        fields: actions, `samples`, and `observation`, `(count, ...)`.
        seed: seed of the order of the examples.
        steps: number of steps of Adam with a learning rate of 1e-3.
    """
    model = keras.models.clone_model(policy.model)
    model.set_weights(policy.model.get_weights())
    copied = policy.with_model(model)
    observations, actions = (tf.constant(fields[n]) for n in ("observation", "samples"))
    update_statistics(model, observations)
    optimizer, weights = keras.optimizers.Adam(1e-3), model.trainable_variables
    optimizer.build(weights)
    size = min(256, int(observations.shape[0]))

    @tf.function(autograph=False)
    def train():
        def step(i):
            rows = random_numbers.integers((size,), [seed, i], int(observations.shape[0]))
            with tf.GradientTape() as tape:
                seen = tf.gather(observations, rows)
                outputs = copied({"observation": seen}, training=True)
                distribution: Any = distributions.class_of(outputs)
                found = distribution(outputs).log_prob(tf.gather(actions, rows))
                loss = -ops.mean(found)
            optimizer.apply(tape.gradient(loss, weights), weights)
            return (i + 1,)

        tf.while_loop(lambda i: i < steps, step, (tf.constant(0),), parallel_iterations=1)

    train()
    return copied
